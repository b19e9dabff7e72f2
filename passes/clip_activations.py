"""Choose the threshold at which each rectifier is clipped, and with it the unit of its spikes.

A population of ``T M`` levels represents ``a = theta k / (T M)``, ``k = 0 .. T M``: activations above
``theta`` are lost (clipping), those between levels are rounded (quantisation). A small threshold
rounds finely and clips many activations, a large one rounds coarsely and clips few. The closed form of the
least squared error balances the two (see :func:`snnc.numerics.thresholds.mse_threshold`).

A channel that is seldom silent wastes levels on values that it does not take. With a floor ``l`` it
represents ``a = l + (theta - l) k / (T M)``: it is clipped on both sides, the floor is added to the bias of
its readers, and no spikes are needed for it (see :func:`snnc.numerics.thresholds.mse_range`).

An activation that is no rectifier (a sigmoid, a signed value) gets up to ``T M`` levels on either side of
zero, as its spikes carry a sign, and a step function that gives them: see
:mod:`snnc.numerics.step_functions`. What functions of spike counts read has one
distance of levels for all channels, others one for each.

With many levels a range reaches beyond the values seen, as far as rows that were left out tell: see
:mod:`snnc.numerics.reach`.

A value that only a maximum reads is measured after the maximum: values that are never the maximum need no
levels.

Not every rectifier needs many levels. With ``levels`` above 1 and a ``share`` below 1, the rectifiers whose
rounding alone changes the answers most, relative to the operations that read them, get spikes of ``levels``,
and the others spikes of one (see :mod:`snnc.compensation.sensitivity`). With ``operations`` below 1 each
rectifier gets its own number of levels, and of steps: see :mod:`snnc.compensation.level_choice`.

Source: the clip is that of Liu et al., "Efficient ANN-SNN Conversion with Error Compensation
Learning", ICML 2025; thresholds by least squares as in Li et al., "A Free Lunch From ANN: Towards
Efficient, Accurate Spiking Neural Networks Calibration", ICML 2021.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import ClassVar

from snnc.compensation.level_choice import Rung, choose_levels, rungs, spikes, stretched
from snnc.compensation.level_fitter import LevelFitter
from snnc.compensation.limits import Limiter
from snnc.compensation.sensitivity import most_sensitive, operations, sensitivities
from snnc.cores import available_cores
from snnc.errors import UsageError
from snnc.ir.ann import (
    Activation,
    AnnGraph,
    AnnNode,
    Levelled,
    Pointwise,
    Relu,
)
from snnc.ir.graph import FloatArray
from snnc.ir.operations import check_known
from snnc.numerics.thresholds import Method
from snnc.pipeline import MANY, Context, require
from snnc.source.calibration import ActivationSample

SAMPLES_PER_CHANNEL = 20_000
"""Positions looked at in each channel; more moves no threshold by more than its rounding."""

LAYER_SAMPLES = 2_000_000
"""Positions looked at in a whole layer, which bounds the memory of wide layers."""


class Granularity(Enum):
    """The elements that share one threshold."""

    LAYER = "layer"
    CHANNEL = "channel"


@dataclass(frozen=True, slots=True)
class ClipActivations:
    """Set the threshold of every rectifier.

    Attributes:
        method: closed-form least squares, a percentile, or the maximum; ``learn`` begins with the first,
            and a conversion adds the pass `learn-thresholds` where all that follows it can be measured.
        granularity: one threshold per channel or per layer.
        floor: whether the lowest level may lie above zero: the best one by least squares, the minimum, or
            the percentile that as many values lie below as lie above the threshold's.
        levels: M, the levels that one spike will carry; with T steps the grid has ``T M`` levels.
        share: of the source's operations that read rectifiers, those that spikes of ``levels`` may feed;
            the least sensitive rectifiers keep spikes of one level.
        operations: limit on the operations of spikes, relative to those of ``levels`` and T steps everywhere,
            to which rectifiers keep that have fewer levels, or steps, where that loses least.
        percentile: for that method, in (0, 100].
    """

    name: ClassVar[str] = "clip-activations"
    method: Method = Method.MSE
    granularity: Granularity = Granularity.CHANNEL
    floor: bool = False
    levels: int = 1
    share: float = 1.0
    operations: float = 1.0
    percentile: float = 99.9

    def __post_init__(self) -> None:
        """Refuse options that make no thresholds."""
        require("percentile", self.percentile, 0, 100, beyond=True)
        require("levels", self.levels, 1, MANY)
        require("share", self.share, 0, 1)
        if self.share < 1 and self.levels == 1:
            raise UsageError(
                f"share={self.share} needs levels above 1: it is the share of operations that get them"
            )
        require("operations", self.operations, 0, 1, beyond=True)
        if self.operations < 1 and self.share < 1:
            raise UsageError(
                f"operations={self.operations} and share={self.share} both choose levels: give one of them"
            )

    def run(self, graph: AnnGraph, context: Context, /) -> AnnGraph:
        """Return the graph with every activation clipped."""
        check_known(graph)
        activations = [node for node in graph if isinstance(node, Activation)]
        if not activations:
            return graph
        seen = {node.name: _measured(graph, node) for node in activations}
        names = [node.name for node in activations]
        maxima = {graph.seen_as(name) for name in names} - set(names)
        widest = max(node.channels for node in activations)
        measured = context.calibration.samples(
            graph,
            list(dict.fromkeys((*seen.values(), *sorted(maxima)))),
            per_channel=max(1, min(SAMPLES_PER_CHANNEL, LAYER_SAMPLES // widest) // context.thrift),
            seed=context.seed,
        )
        samples = {name: measured[seen[name]] for name in names} | {name: measured[name] for name in maxima}
        if self.operations < 1 and context.calibration.is_real:
            return self._chosen(graph, activations, samples, context)
        if self.share == 1:
            return self._clipped(graph, activations, samples, self.levels, context)
        plain = self._clipped(graph, activations, samples, 1, context)
        error = context.answer_error()
        gained = sensitivities(plain, context.calibration, dict.fromkeys(names, context.timesteps), error)
        chosen = most_sensitive(gained, operations(graph), self.share)
        context.findings["objective"] = error.value
        context.findings["levels"] = {
            name: {"divergence": round(gained[name], 5), "levels": self.levels if name in chosen else 1}
            for name in names
        }
        return self._clipped(
            plain, [node for node in activations if node.name in chosen], samples, self.levels, context
        )

    def _chosen(
        self,
        graph: AnnGraph,
        activations: Sequence[Activation],
        samples: Mapping[str, ActivationSample],
        context: Context,
    ) -> AnnGraph:
        """Return the graph with rectifiers clipped for as many levels as each is worth."""
        T, error, reading = context.timesteps, context.answer_error(), operations(graph)
        if self.levels * T == 1:
            raise UsageError(
                f"operations={self.operations} chooses between levels, and there is one: give levels above "
                "1, or more than one step"
            )
        most, *fewer = rungs(self.levels, T)
        clipped = {most.span: self._clipped(graph, activations, samples, self.levels, context)}
        relus = [node for node in graph.of_type(Relu) if reading[node.name]]
        # What is to be said of activations is said once.
        quiet = replace(context, diagnostics=[])
        clipped |= {rung.span: self._fewer(graph, relus, samples, rung, quiet) for rung in fewer}
        errors: dict[str, dict[int, float]] = {node.name: {} for node in relus}
        taken: dict[str, dict[int, float]] = {node.name: {} for node in relus}
        for rung in (most, *fewer):
            made = clipped[rung.span]
            names = [node.name for node in relus if rung.steps == T or _is_unlimited(node)]
            lost = sensitivities(made, context.calibration, dict.fromkeys(names, rung.levels * T), error)
            for node in (node for node in made.of_type(Relu) if node.name in names):
                errors[node.name][rung.span] = lost[node.name]
                taken[node.name][rung.span] = reading[node.name] * spikes(node, samples[node.name], T)
        found = choose_levels(errors, taken, self.operations)
        rung_of = {rung.span: rung for rung in (most, *fewer)}
        context.findings["objective"] = error.value
        context.findings["operations"] = found.as_dict()
        context.findings["levels"] = {
            name: {"divergence": round(errors[name][span], 5), **asdict(rung_of[span])}
            for name, span in found.levels.items()
        }
        chosen = {name: clipped[span][name] for name, span in found.levels.items()}
        return clipped[most.span].replacing(chosen)

    def _fewer(
        self,
        graph: AnnGraph,
        relus: Sequence[Relu],
        samples: Mapping[str, ActivationSample],
        rung: Rung,
        context: Context,
    ) -> AnnGraph:
        """Return the graph with rectifiers clipped for fewer levels, or as for a run of fewer steps."""
        shorter = replace(context, timesteps=rung.steps)
        made = self._clipped(graph, relus, samples, rung.levels, shorter)
        share = rung.steps / context.timesteps
        names = {node.name for node in relus}
        return made.replacing(
            {node.name: stretched(node, share) for node in made.of_type(Relu) if node.name in names}
        )

    def _clipped(
        self,
        graph: AnnGraph,
        activations: Sequence[Activation],
        samples: Mapping[str, ActivationSample],
        levels: int,
        context: Context,
    ) -> AnnGraph:
        """Return the graph with some activations clipped for spikes of ``levels``."""
        span = levels * context.timesteps
        relus = [node for node in activations if not isinstance(node, Levelled)]
        per_layer = self.granularity is Granularity.LAYER
        limiter = Limiter(self.method, per_layer, self.floor, self.percentile)
        with ThreadPoolExecutor(context.calibration.threads or available_cores()) as pool:
            limits = pool.map(lambda node: limiter.limits(graph, node, samples[node.name], span), relus)
            tracked = context.progress.track(activations, len(activations), "thresholds")
            return graph.replacing(self._all_clipped(graph, tracked, samples, levels, limits, context))

    def _all_clipped(
        self,
        graph: AnnGraph,
        activations: Iterable[Activation],
        samples: Mapping[str, ActivationSample],
        levels: int,
        limits: Iterator[dict[str, FloatArray]],
        context: Context,
    ) -> dict[str, AnnNode]:
        """Return some activations clipped, by name; of every rectifier there are its limits, in order."""
        clipped: dict[str, AnnNode] = {}
        per_layer = self.granularity is Granularity.LAYER
        fitter = LevelFitter(
            graph,
            samples,
            levels,
            context.timesteps,
            context.calibration,
            context.diagnostics,
            self.method,
            per_layer,
            self.percentile,
        )
        for node in activations:
            if not isinstance(node, Levelled):
                clipped[node.name] = node.with_(**{"floor": None, **next(limits)}, levels=levels)
            elif node.name not in clipped:
                clipped |= fitter.levelled(node, clipped)
        return clipped


def _measured(graph: AnnGraph, node: Activation) -> str:
    """Return the name of the value that is sampled for an activation.

    A rectifier that stands in the source network is clipped by what it gives itself, pooled or not; of a
    function the arguments say between which of them it must be known.
    """
    if isinstance(node, Pointwise):
        return node.inputs[0]
    return node.name if isinstance(node, Levelled) or node.shift is None else graph.seen_as(node.name)


def _is_unlimited(node: Relu) -> bool:
    """Return whether a rectifier has no limit in the source, which its clip would have to keep to."""
    return node.ceiling is None and node.scale is None
