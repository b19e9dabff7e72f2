"""Whether a pipeline can lower a network, from its structure alone: no row is needed.

The passes up to the first spiking network run on made-up activations. What lowering refuses depends on them
only where it needs the same unit in several channels; so every channel gets a range of its own, and what is
lowered here is lowered with any rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from snnc.analysis import costs
from snnc.errors import InternalError, UsageError
from snnc.ir.ann import Activation, AnnGraph, AnnNode, Relu
from snnc.ir.batch import joined
from snnc.ir.bounds import provable_timesteps, unproved
from snnc.ir.graph import FloatArray, Graph
from snnc.ir.snn import Encode, IntegrateFire, Readout, SnnGraph
from snnc.numerics.quantisation import quantise_all
from snnc.numerics.thresholds import Method
from snnc.pipeline import AnyPass, Context, Pipeline, run_pipeline
from snnc.simulation.reference import ReferenceSimulator
from snnc.source.calibration import ActivationSample, Calibration

VALUES = np.linspace(-0.5, 1, 4, dtype=np.float32)
"""Activations of every channel, before they are scaled: of both signs, so that signed values are raised."""


CLIPPING = "clip-activations"
"""The pass that finds thresholds."""

FITTING = ("learn-thresholds", "compensate", "quantise-weights")
"""Passes that fit and round numbers, and leave the neurons as they are."""


class MadeUp(Calibration):
    """One row of ones, and activations that are made up instead of computed."""

    is_real = False

    def samples(
        self, graph: AnnGraph, names: Sequence[str], *, per_channel: int, seed: int
    ) -> dict[str, ActivationSample]:
        """Return another range for every channel, below all ceilings; the arguments are as for real rows."""
        found = {}
        for name in names:
            node = graph[name]
            scale = 1 + np.arange(node.channels, dtype=np.float32) / node.channels
            rectified = isinstance(node, Relu) and node.shift is None
            if isinstance(node, Relu) and node.ceiling is not None and node.ceiling.any():
                scale *= node.ceiling[node.ceiling > 0].min() / 4
            values = (np.abs(VALUES) if rectified else VALUES) * scale[:, None]
            found[name] = ActivationSample(values, values.max(axis=1), values.min(axis=1))
        return found

    def require_finite(self, graph: AnnGraph, node: AnnNode, values: FloatArray) -> None:
        """Accept everything: made-up arguments may be none that a function is defined for."""


def lowering(pipeline: Pipeline) -> Pipeline:
    """Return the passes that :func:`require_lowering` runs."""
    return pipeline[: pipeline.names.index("lower") + 1] if "lower" in pipeline.names else pipeline


def require_lowering(graph: AnnGraph, passes: Sequence[AnyPass], timesteps: int) -> None:
    """Refuse a network that a pipeline cannot lower.

    Args:
        graph: the network as it was read.
        passes: the pipeline; those behind the one that lowers do not run.
        timesteps: T.

    Raises:
        UnsupportedModelError: something has no spiking form in this pipeline.
        UsageError: the pipeline lacks what lowering needs.
    """
    context = Context(_made_up(graph), timesteps, ReferenceSimulator())
    current: Graph[Any] = graph
    for item in _unfitted(passes):
        current, _ = run_pipeline((item,), current, context)
        if isinstance(current, SnnGraph):
            return


def payload(graph: AnnGraph, passes: Sequence[AnyPass], timesteps: int) -> str:
    """Return what one event of the converted network will carry, as :func:`snnc.analysis.costs.payload`.

    Args:
        graph: the network as it was read, which can be lowered.
        passes: the pipeline; those that fit and round numbers change no neuron, and do not run.
        timesteps: T.
    """
    return costs.payload(_neurons(graph, passes, timesteps), timesteps)


def require_bounds(graph: AnnGraph, passes: Sequence[AnyPass], timesteps: int) -> None:
    """Refuse a network whose integers overflow whatever the rows.

    That is certain only where all integers follow from the weights: without populations, whose thresholds
    the rows decide, and without a bias or a second input, whose ranges beside the input's they decide, too.

    Args:
        graph: the network as it was read, which can be lowered.
        passes: the pipeline.
        timesteps: T.

    Raises:
        UsageError: with the largest T that is proved.
    """
    if any(isinstance(node, Activation) for node in graph) or not any(
        item.name == FITTING[-1] for item in passes
    ):
        return
    found = _neurons(graph, passes, timesteps)
    decided = found.of_type(IntegrateFire) or any(node.bias.any() for node in found.of_type(Readout))
    if decided or len(found.of_type(Encode)) > 1:
        return
    quantised = quantise_all(found)
    proved = provable_timesteps(quantised)
    if proved < timesteps:
        raise UsageError(unproved(quantised, proved))


def _neurons(graph: AnnGraph, passes: Sequence[AnyPass], timesteps: int) -> SnnGraph:
    """Return the spiking network with all its neurons, before anything is fitted or rounded."""
    context = Context(_made_up(graph), timesteps, ReferenceSimulator())
    kept = _unfitted([item for item in passes if item.name not in FITTING])
    found, _ = run_pipeline(kept, graph, context)
    if not isinstance(found, SnnGraph):
        raise InternalError("a pipeline that lowers left no spiking network")
    return found


def _unfitted(passes: Sequence[AnyPass]) -> list[AnyPass]:
    """Return the passes with thresholds at the maxima: to fit made-up values takes long and says nothing."""
    return [
        replace(cast(Any, item), method=Method.MAXIMUM) if item.name == CLIPPING else item for item in passes
    ]


def _made_up(graph: AnnGraph) -> MadeUp:
    ones = {node.name: np.ones((1, *node.shape), np.float32) for node in graph.inputs}
    return MadeUp(joined(ones), threads=1)
