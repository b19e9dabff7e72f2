"""Levels of activations that are no rectifiers: signed values, functions, and what counts are made of.

Some share one unit, because a function of their counts adds or compares them; what was measured alike gets
equal levels once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np

from snnc.compensation.reader_weights import is_answer, squared_weights
from snnc.diagnostics import COARSE_SOFTMAX, UNSEEN_RANGE, Diagnostic
from snnc.errors import InternalError
from snnc.ir.ann import AnnGraph, AnnNode, InnerSoftmax, Levelled, Pointwise, Product
from snnc.ir.count_paths import COUNT_FUNCTIONS, sharing_one_unit, softmax_of
from snnc.ir.graph import FloatArray
from snnc.ir.problems import MOST_BREAKPOINTS
from snnc.numerics.channel_steps import steps_of_product
from snnc.numerics.softmax_levels import (
    TOLERATED,
    argument_levels,
    is_argument,
    masks_within_reach,
    may_mask,
    rows_enough,
    with_argument_levels,
    with_softmax_levels,
)
from snnc.numerics.step_functions import Measured, carried, with_levels_of
from snnc.numerics.thresholds import Method
from snnc.source.calibration import ActivationSample, Calibration

Fitted = dict[tuple[object, ...], list[Levelled]]
"""Activations with levels, by the span and what was measured of them."""

FINER = 4
"""By how many times the levels of functions of counts are finer than those of neurons: they have no
thresholds, so that finer levels cost nothing but the payload of their spikes."""

FINEST = 1023
"""Most levels of functions of counts, where those of neurons are fewer."""


@dataclass(slots=True)
class LevelFitter:
    """Gives activations of one network levels.

    Attributes:
        graph: the network.
        samples: values of its activations, by name.
        levels: M, of one spike.
        timesteps: T.
        calibration: rows, which some are measured on again.
        diagnostics: of the conversion; what is to be said of activations is added.
        method: how their reach is found.
        per_layer: whether all channels share one distance of levels.
        percentile: for that method.
    """

    graph: AnnGraph
    samples: Mapping[str, ActivationSample]
    levels: int
    timesteps: int
    calibration: Calibration
    diagnostics: list[Diagnostic]
    method: Method
    per_layer: bool
    percentile: float
    _fitted: Fitted = field(default_factory=dict, init=False)
    _shared: Mapping[str, Set[str]] = field(init=False)

    def __post_init__(self) -> None:
        """Find who shares a unit with whom."""
        self._shared = {name: group for group in sharing_one_unit(self.graph) for name in group}

    @property
    def _span(self) -> int:
        return self.levels * self.timesteps

    def levelled(self, node: Levelled, clipped: Mapping[str, AnnNode]) -> Mapping[str, AnnNode]:
        """Return an activation, and those that share its unit, with levels, by name.

        Args:
            node: the activation.
            clipped: those in front of it.
        """
        together = sorted(self._shared.get(node.name, {node.name}))
        if found := self._of_softmax(together):
            return found
        if isinstance(node, Product) and node.name not in self._shared:
            return {node.name: self._product(node, steps_of_product(self.graph, clipped, node))}
        return self._together(together, common=node.name in self._shared or self.per_layer)

    def _of_softmax(self, names: Sequence[str]) -> dict[str, AnnNode]:
        """Return what a softmax alone reads, or is, with levels of its own; nothing where others share them.

        What masks arguments is brought within the reach of integers, too.
        """
        graph = self.graph
        nodes = [graph[name] for name in names]
        (first, *others) = nodes
        if isinstance(first, InnerSoftmax) and not others:
            made = with_softmax_levels(first, self._span)
            return {first.name: made.with_(levels=-(-made.highest // self.timesteps))}
        softmax = softmax_of(graph, names)
        arguments = [node for node in nodes if is_argument(node)]
        if softmax is None or len(arguments) < len(nodes):
            return {}
        span = min(self._span, MOST_BREAKPOINTS)
        rows = self.calibration.subset(slice(rows_enough(softmax.shape)))
        levels = argument_levels(rows.values(graph, softmax.inputs[0]), softmax.axis + 1, span)
        if levels.error > TOLERATED:
            self.diagnostics.append(_coarse(softmax, levels.error, span))
        clipped: dict[str, AnnNode] = {}
        for node in arguments:
            sample = self.samples[node.name]
            made = with_argument_levels(node, levels, span, sample.minimum, sample.maximum)
            clipped[node.name] = made.with_(levels=-(-span // self.timesteps))
            if may_mask(graph, node):
                clipped |= masks_within_reach(graph, node, levels, rows.values(graph, node.inputs[0]))
        return clipped

    def _product(self, node: Product, unit: FloatArray) -> Levelled:
        """Return a product with steps that are in proportion to those of its factors, channel by channel.

        Args:
            node: the product.
            unit: (channels,), what a product of two counts of 1 stands for.
        """
        sample = self.samples[node.name]
        whole = replace(
            sample,
            values=sample.values / unit[:, None],
            maximum=sample.maximum / unit,
            minimum=sample.minimum / unit,
        )
        measured = [Measured(node, whole.values, whole.minimum, whole.maximum, whole.rows)]
        (found,) = carried(measured, self._finer, common=True, method=self.method, percentile=self.percentile)
        if found.step is None:
            raise InternalError(f"{node.name!r} got no levels")
        step = (found.step * unit).astype(np.float32)
        return found.with_(step=step, levels=max(self.levels, self._most(found)))

    @property
    def _finer(self) -> int:
        """The largest count of a function of counts."""
        return max(self._span, min(FINER * self._span, FINEST))

    def _most(self, node: Levelled) -> int:
        """Return the levels of a spike with which the run reaches the largest count."""
        return -(-max(node.highest, -node.lowest) // self.timesteps)

    def _together(self, names: Sequence[str], *, common: bool) -> dict[str, Levelled]:
        """Return activations that share one unit with levels, by name; ``common`` if all channels do, too."""
        graph = self.graph
        nodes = [node for node in (graph[name] for name in names) if isinstance(node, Levelled)]
        measured = []
        for node in nodes:
            sample = self.samples[node.name]
            values = sample.values
            if isinstance(node, Pointwise):
                values = node.function(values)
                self.calibration.require_finite(graph, node, values)
                if values.min() == values.max():
                    self.diagnostics.append(_unseen(node, float(values.flat[0])))
            if (read := graph.seen_as(node.name)) != node.name:
                values = self.samples[read].values
            measured.append(
                Measured(
                    node,
                    values,
                    sample.minimum,
                    sample.maximum,
                    sample.rows,
                    squared_weights(graph, node.name),
                    is_answer(graph, node.name),
                )
            )
        reach = self._finer if all(isinstance(node, COUNT_FUNCTIONS) for node in nodes) else self._span
        if not self.calibration.is_real:
            reach = 1
        key = (reach, common, *(each.key for each in measured))
        if key not in self._fitted:
            self._fitted[key] = carried(
                measured, reach, common=common, method=self.method, percentile=self.percentile
            )
        found = [with_levels_of(node, other) for node, other in zip(nodes, self._fitted[key], strict=True)]
        levels = max(self.levels, self._most(found[0]))
        return {node.name: node.with_(levels=levels) for node in found}


def _coarse(node: InnerSoftmax, error: float, span: int) -> Diagnostic:
    """Say that a softmax is far from the source's, because its arguments need more levels."""
    return Diagnostic(
        COARSE_SOFTMAX,
        f"with {span} levels of its arguments the softmax errs by {error:.0%} of its power on the "
        "calibration rows",
        node.origin or node.name,
        "give it more levels (`clip-activations.levels`), more steps, or leave it to the host",
    )


def _unseen(node: Levelled, value: float) -> Diagnostic:
    """Say that nothing is known of an activation's range."""
    return Diagnostic(
        UNSEEN_RANGE,
        f"it is {value:g} on all calibration rows, so that its levels are guessed",
        node.origin or node.name,
        "give calibration rows of all kinds that the network will receive",
    )
