"""Compensate the error of each layer on the spikes that it really receives, with the neuron that will run.

Layers are processed from first to last; the finished layers are quantised and simulated. On the spikes that
the next layer really receives, four corrections are tried:

* *weights*: ridge regression of the source network's pre-activation on the spike counts, main branch and
  shortcut together (see :mod:`snnc.compensation.refit`);
* *bias*: per channel, ``b += E[a] - E[l + u N / T]``, ``l`` the floor, so that the mean output is that of
  the source network; of a step function of ``f`` it is divided by ``E[f']``;
* *start*: per channel, the initial potential as a share of the threshold, the best of a grid;
* *scale*: per channel, the spike scale that the readers assume becomes the least-squares one,
  ``u' = u E[a r] / E[r^2]`` with ``r = u N / T`` (both above the floor).

Before all of them, ``ramp`` adds the difference between half the threshold and the initial potential to the
bias, spread over the steps: ``b += (theta / 2 - v(0)) / T``. After T steps a neuron has received the same as
from ``v(0) = theta / 2``, so its count is still rounded, but it fires less before all input has arrived.

A correction is kept for a layer only if it lowers the error of the layer's output on held-back rows: the
squared error, in which the error of a channel's mean counts several times, because the sums of the next
layer average noise but accumulate offsets. At the end the error of the answers of the compensated network on
these rows (for class scores the Kullback-Leibler divergence from the source network's, for numbers the
relative squared error) must be lower than that of the plain one, or the plain one is returned.

Sources: Liu et al., "Efficient ANN-SNN Conversion with Error Compensation Learning", ICML 2025; Li et
al., "A Free Lunch From ANN: Towards Efficient, Accurate Spiking Neural Networks Calibration", ICML 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from snnc.compensation.comparison import Chosen, Target, chosen
from snnc.compensation.corrections import GroupFitter, Slope, slope_of
from snnc.compensation.refit import CannotFit, refit
from snnc.compensation.rounding import SpikeRounding
from snnc.compensation.snapshots import ReaderRatio, Snapshot, prefix_keys
from snnc.cores import available_cores
from snnc.diagnostics import FALLBACK, Diagnostic
from snnc.errors import UsageError
from snnc.ir.ann import Pointwise
from snnc.ir.batch import rows_of
from snnc.ir.graph import FloatArray
from snnc.ir.operations import check_known
from snnc.ir.snn import Convolution, IntegrateFire, Linear, SnnGraph, Weighted
from snnc.numerics.divergence import AnswerError, real_logits
from snnc.numerics.pruning import Sparsity
from snnc.numerics.quantisation import Group, groups, quantise_all, quantise_group
from snnc.numerics.spill import RowArray
from snnc.numerics.weight_grid import FEWEST_BITS, WEIGHT_BITS
from snnc.pipeline import Context, require
from snnc.simulation.partial import PartialSimulation
from snnc.source.source_map import (
    Rectifier,
    activation,
    maximum_of,
    pre_activation,
    rectifier,
    shift_of,
)

HELD_BACK = 5
"""One row in this many is kept from the fits and decides about them."""

FEWEST_ROWS = 50
"""Rows below which means are too noisy to correct anything."""

ROW_STEPS = 8000
"""Rows times steps that are simulated: more steps say more about a channel, so they need fewer rows."""

SLOPE_VALUES = 1 << 23
"""Values of the largest node that the slopes of functions are measured on."""


@dataclass(frozen=True, slots=True)
class Compensate:
    """Correct weights, biases, starts and scales against real spikes, and quantise on the way.

    Attributes:
        weights: whether weights are fitted.
        bias: whether the mean output of every channel is corrected.
        start: whether the initial potential of every channel is chosen.
        scale: whether the unit that readers assume is fitted.
        ramp: whether the difference between half the threshold and the initial potential is added to the
            bias, evenly over the steps.
        ridge: strength of the regularisation towards the given weights, relative to the power of the counts.
        variance_restoration: how much of the variance that least squares takes from a current is given back,
            from 0 to 1.
        densify: whether fitted weights may replace weights that are exactly zero; else pruned networks stay
            pruned.
        gated: whether a correction is kept only if it lowers the error on held-back rows.
        density: share of the weights that are fitted together, those of a layer and its shortcut, which
            stays, in (0, 1]; the others become exactly zero. The first layer, which reads no spikes, grouped
            convolutions and layers with too few rows stay dense.
        pattern: ``N:M`` in place of a density: of M weights that read neighbouring channels N stay.
        fit_rounding: whether each weight is rounded so that it makes up for the errors of those rounded
            before it, see :mod:`snnc.numerics.rounding`; else to the nearest integer. Weights of fewer than 8
            bits are always rounded so.
        bits: of the weights of convolutions and dense layers between populations, from 2 to 8; the first
            layer and what drives the read-out keep 8. See :mod:`snnc.numerics.weight_grid`.
    """

    name: ClassVar[str] = "compensate"
    weights: bool = True
    bias: bool = True
    start: bool = False
    scale: bool = False
    ramp: bool = False
    ridge: float = 0.01
    variance_restoration: float = 0.0
    densify: bool = False
    gated: bool = True
    density: float = 1.0
    pattern: str = ""
    fit_rounding: bool = False
    bits: int = WEIGHT_BITS

    def __post_init__(self) -> None:
        """Refuse a ridge that does not hold."""
        require("ridge", self.ridge, 0, 1e6, beyond=True)
        require("variance-restoration", self.variance_restoration, 0, 1)
        require("density", self.density, 0, 1, beyond=True)
        require("bits", self.bits, FEWEST_BITS, WEIGHT_BITS)
        if self.sparsity is not None and not self.weights:
            raise UsageError("a density or a pattern is kept by fitting weights: leave weights=false out")

    @property
    def sparsity(self) -> Sparsity | None:
        """How many weights of a layer stay; ``None`` for all of them."""
        return Sparsity.of(self.density, self.pattern)

    @property
    def rounds_in_turn(self) -> bool:
        """Whether weights are rounded one after the other; the fewer bits, the more it is worth."""
        return self.fit_rounding or self.bits < WEIGHT_BITS

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return the compensated integer network; an integer network is left as it is."""
        check_known(graph)
        if graph.integer and self.sparsity is not None:
            raise UsageError(
                "the network is quantised already, and compensate takes no weights out of it: convert a "
                "network in floats with this density, or leave density and pattern out"
            )
        if graph.integer:
            return graph
        if self.ramp:
            T = graph.timesteps
            graph = graph.map(IntegrateFire, lambda node: node.with_(bias=node.bias + node.ramp(T)))
        rows = len(context.calibration)
        if rows < FEWEST_ROWS and self.sparsity is not None:
            raise UsageError(
                f"{rows} calibration rows are too few to choose weights by; at least {FEWEST_ROWS} are "
                "needed: give 500 to 1,000 training rows, or leave density and pattern out"
            )
        if rows < FEWEST_ROWS:
            context.diagnostics.append(
                Diagnostic(
                    FALLBACK,
                    f"{rows} calibration rows are too few to compensate errors; at least {FEWEST_ROWS} are "
                    "needed, and the network was only quantised",
                    help="give 500 to 1,000 training rows",
                )
            )
            context.findings["fallback"] = "too few rows"
            return _rounded(graph, context, self.bits) if self.rounds_in_turn else quantise_all(graph)
        work = _Compensation(self, graph, context)
        order = groups(graph)
        common = (self, context.timesteps, context.seed, context.calibration.sha256)
        keys = prefix_keys(graph, order, common)
        done = work.resumed(keys)
        for index, group in enumerate(context.progress.track(order, len(order), "compensating")):
            if index < done:
                continue
            context.progress.message(f"compensating {group.sinks[0]}")
            work.advance(group, _populations(graph, order[index + 1 :]))
            work.snapshot(keys[index], order[: index + 1])
        return work.result()


class _Compensation:
    """The state of one run of the pass: the network as far as it is done, and its spikes."""

    def __init__(self, options: Compensate, graph: SnnGraph, context: Context) -> None:
        self.options = options
        self.context = context
        self.given = graph
        self.graph = graph
        self.source = context.ann()
        self.offsets = {node.name: self.offset(node) for node in graph.of_type(IntegrateFire)}
        rows = max(FEWEST_ROWS, ROW_STEPS // graph.timesteps)
        self.calibration = context.calibration.subset(slice(0, rows))
        self.prefix = PartialSimulation(graph, self.calibration.rows, context.simulator)
        self.threads = self.calibration.threads or available_cores()
        self.held = np.arange(len(self.calibration)) % HELD_BACK == HELD_BACK - 1
        self.layers: list[dict[str, Any]] = []
        self.ratios: tuple[ReaderRatio, ...] = ()
        self.errors: list[float] = []
        fitting = np.flatnonzero(~self.held)
        rounding = SpikeRounding(self.prefix, fitting, context.seed)
        self.rounding = rounding if options.rounds_in_turn else None

    def offset(self, node: IntegrateFire) -> FloatArray:
        """Return what a population's bias holds beside the source's, (channels,): shift, floor and ramp."""
        shift = shift_of(rectifier(self.source, node))
        ramp = node.ramp(self.graph.timesteps) if self.options.ramp else 0
        return ramp - node.lowest + (0 if shift is None else shift)

    def resumed(self, keys: list[str]) -> int:
        """Go on behind the last group of which there is a snapshot; return how many groups are done."""
        for index in reversed(range(len(keys))):
            found = self.context.snapshots.get(keys[index])
            if found is not None:
                self.graph = found.applied(self.graph)
                self.prefix.restore(found.trains)
                self.layers, self.ratios = list(found.layers), found.ratios
                return index + 1
        return 0

    def snapshot(self, key: str, done: tuple[Group, ...]) -> None:
        """Keep what was made of the first groups; nothing could go on behind the last."""
        if done[-1].sinks[0] in self.graph.outputs or not self.context.snapshots.limit:
            return
        names = [name for group in done for name in (*group.synapses, *group.sinks)]
        nodes = {name: self.graph[name] for name in names}
        kept = Snapshot(nodes, self.ratios, dict(self.prefix.trains), tuple(self.layers))
        self.context.snapshots.put(key, kept)

    def advance(self, group: Group, ahead: tuple[str, ...]) -> None:
        """Do one group: try the corrections, keep the best, go on from there."""
        last = group.sinks[0] in self.graph.outputs
        error: AnswerError = AnswerError.SQUARED
        if last:
            output = self.graph.output_names[self.graph.outputs.index(group.sinks[0])]
            z: RowArray = np.asarray(rows_of(self.calibration.logits(self.source), output))
            targets: dict[str, Target] = {group.sinks[0]: partial(chosen, z)}
            error = self.context.answer_error().single(output)
        else:
            first, *others = (self.graph[name] for name in (group.sinks[0], *ahead))
            z = pre_activation(self.calibration, self.source, first, others)
            targets = {
                name: partial(_active, rectifier(self.source, self.graph[name]), z) for name in group.sinks
            }
        found = {} if last else {n: maximum_of(self.graph, self.source, self.graph[n]) for n in group.sinks}
        pools = {name: window for name, window in found.items() if window is not None}
        layer = GroupFitter(
            group,
            targets,
            self.prefix,
            self.held,
            error,
            gated=self.options.gated,
            pools=pools,
            rounding=self.rounding,
            bits=self.options.bits,
            threads=self.threads,
        )
        slopes = {} if last else self.slopes(group, z)
        bias = self.options.bias and not last
        fitted = self.refitted(group, z) if self.options.weights else None
        starts = []
        if fitted is None or self.options.sparsity is None:  # with all its weights it is another network
            starts.append(layer.quantised("none", self.graph))
        if fitted is not None:
            starts.append(layer.quantised("weights", fitted))
        best = starts[0]
        for start in starts[1:]:
            best = layer.better(best, start)
        for start in starts if bias else ():
            best = layer.better(best, layer.rebiased(start, slopes))
        if self.options.start and not last:
            best = layer.better(best, layer.restarted(best))
        if self.options.scale and not last:
            best = layer.better(best, layer.rescaled(best))
        self.layers.append({"layer": group.sinks[0], "kept": best.label, "errors": layer.errors})
        self.graph = best.graph
        if last:
            self.errors.append(best.error)
        self.ratios += best.ratios
        if not last:
            self.prefix.extend(self.graph, group.sinks)

    def slopes(self, group: Group, z: RowArray) -> dict[str, Slope]:
        """Return how the functions of a group answer to a bias, by population."""
        largest = max(math.prod(node.shape) for node in self.graph)
        rows = np.asarray(z[: max(1, SLOPE_VALUES // largest)])
        found = {name: rectifier(self.source, self.graph[name]) for name in group.sinks}
        return {name: slope_of(node, rows) for name, node in found.items() if isinstance(node, Pointwise)}

    def refitted(self, group: Group, z: RowArray) -> SnnGraph | None:
        """Return the network with fitted weights in a group, or ``None`` where they stay as they are."""
        rows, options = np.flatnonzero(~self.held), self.options
        fitted = refit(
            self.graph,
            group,
            self.prefix,
            z,
            self.offsets,
            rows,
            options.ridge,
            options.variance_restoration,
            self.context.seed,
            densify=options.densify,
            sparsity=options.sparsity,
            thrift=self.context.thrift,
            workers=self.calibration.workers,
            threads=self.threads,
        )
        if isinstance(fitted, CannotFit):
            origin = self.graph[group.sinks[0]].origin
            kept = "all weights stay as they are" if options.sparsity else "the weights are unchanged"
            message = f"{fitted.reason}; {kept}, and only the bias is corrected"
            self.context.diagnostics.append(Diagnostic(FALLBACK, message, origin, self.cure(fitted.needed)))
            return None
        if fitted is not None and options.sparsity is not None:
            self.check_left(group, fitted)
        return fitted

    def check_left(self, group: Group, fitted: SnnGraph) -> None:
        """Refuse a sparsity that leaves a layer without weights.

        Raises:
            UsageError: naming the layer.
        """
        for name in group.synapses:
            before, after = self.graph[name], fitted[name]
            if not isinstance(before, Weighted) or not isinstance(after, Weighted):
                continue
            if before.weight.any() and not after.weight.any():
                raise UsageError(
                    f"compensate: density={self.options.density:g} leaves none of the {before.weight.size:,} "
                    f"weights of {before.origin!r}: use a larger density"
                )

    def cure(self, needed: int | None) -> str:
        """Return what helps where so many fitting rows are needed."""
        most = max(FEWEST_ROWS, ROW_STEPS // self.graph.timesteps)
        if needed is None:
            return "give other calibration rows"
        enough = -(-HELD_BACK * needed // (HELD_BACK - 1))
        if enough > most:
            return (
                f"nothing: {enough} rows would be needed, and at T = {self.graph.timesteps} {most} are used"
            )
        return (
            f"give {enough} calibration rows, of which {needed} are fitted to; 500 to 1,000 do for the rest"
        )

    def result(self) -> SnnGraph:
        """Return the compensated network, or the plain one where that is nearer to the source."""
        plain = quantise_all(self.given, self.options.bits)
        calibration = self.calibration
        prefix = PartialSimulation(plain, calibration.rows[self.held], self.context.simulator)
        answers = real_logits(plain, prefix.simulate(plain, plain.outputs).outputs)
        error = self.context.answer_error()
        before = error.of(calibration.logits(self.source)[self.held], answers)
        after = float(np.mean(self.errors))
        sparse = self.options.sparsity is not None
        kept = after < before or not self.options.gated or sparse
        self.context.findings.update(
            {
                "layers": self.layers,
                "objective": error.value,
                "divergence": {"plain": round(before, 5), "compensated": round(after, 5)},
                "kept": kept,
            }
        )
        if sparse:
            self.context.findings["density"] = _densities(self.graph)
        return self.graph if kept else plain


def _densities(graph: SnnGraph) -> dict[str, float]:
    """Return the share of the weights of each convolution and dense layer that are not zero."""
    layers = (node for node in graph.of_type(Weighted) if isinstance(node, Convolution | Linear))
    return {node.name: round(np.count_nonzero(node.weight) / node.weight.size, 4) for node in layers}


def _rounded(graph: SnnGraph, context: Context, bits: int) -> SnnGraph:
    """Return the network in integers, its weights rounded on the spikes of all rows."""
    prefix = PartialSimulation(graph, context.calibration.rows, context.simulator)
    rounding = SpikeRounding(prefix, np.arange(len(context.calibration)), context.seed)
    for group in groups(graph):
        graph = quantise_group(graph, group, rounding, bits)
        if group.sinks[0] not in graph.outputs:
            prefix.extend(graph, group.sinks)
    return graph


def _populations(graph: SnnGraph, groups_: Sequence[Group]) -> tuple[str, ...]:
    """Return the first population of each group that has one."""
    return tuple(group.sinks[0] for group in groups_ if group.sinks[0] not in graph.outputs)


def _active(relu: Rectifier, z: RowArray, chunk: slice, wanted: Chosen) -> FloatArray:
    """Return what a population should carry on some rows of a chunk."""
    return activation(relu, chosen(z, chunk, wanted))
