"""Compensate each layer's error on the spiking prefix that will feed it, with the neuron that will run.

Layer by layer, first to last, the network is quantised and simulated as far as it is done. On the spikes
that really arrive, four corrections are tried:

* *weights*: ridge regression of the source network's pre-activation on the spike counts, main branch and
  shortcut together (see :mod:`snnc.refit`);
* *bias*: per channel, ``b += E[a] - E[l + u N / T]``, ``l`` the floor, so that the mean output is that of
  the source network;
* *start*: per channel, the share of the threshold from which the potential starts, the best of a grid;
* *scale*: per channel, the unit that the readers assume becomes the least-squares one,
  ``u' = u E[a r] / E[r^2]`` with ``r = u N / T`` (both above the floor).

Before all of them, ``ramp`` gives each bias what the start lacks of half the threshold, spread over the steps:
``b += (theta / 2 - v(0)) / T``. After T steps a neuron has received the same as from ``v(0) = theta / 2``, so its
count is rounded all the same, but it fires less before all that arrives has arrived.

A correction is kept for a layer only where it lowers the error of the layer's output on rows that it was not
fitted on: the squared error, in which the error of a channel's mean counts several times, for the sums of the
next layer average noise out and add offsets up. At the end the compensated network must beat the plain one
there, in the Kullback-Leibler divergence from the source network's answers, or the plain one is returned.

Sources: Liu et al., "Efficient ANN-SNN Conversion with Error Compensation Learning", ICML 2025; Li et
al., "A Free Lunch From ANN: Towards Efficient, Accurate Spiking Neural Networks Calibration", ICML 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.correspondence import activation, pre_activation, rectifier
from snnc.diagnostics import FALLBACK, Diagnostic
from snnc.divergence import divergence, real_logits
from snnc.errors import InternalError, UsageError
from snnc.ir.graph import FloatArray
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.pipeline import Context
from snnc.prefix import SpikingPrefix
from snnc.quantisation import Group, correct_readers, groups, quantise_all, quantise_group
from snnc.refit import CannotFit, refit
from snnc.snapshots import Correction, Snapshot, keys

HELD_BACK = 5
"""One row in this many is kept from the fits and decides about them."""

FEWEST_ROWS = 50
"""Rows below which means are too noisy to correct anything."""

BIAS_ROUNDS = 2
"""How often the bias is corrected: the second round mends what saturation left of the first."""

STARTS = tuple(k / 10 for k in range(10))
"""Shares of the threshold that are tried as initial potential."""

COHERENT = 3.0
"""How often the squared error of a channel's mean counts beside that of single values.

Of 0, 1, 3 and 9 it leaves the least divergence at T = 1 on 4,000 training rows that were not calibrated on
(ResNet-20, CIFAR-10: 1.66, 1.42, 1.37 and 1.43 nats).
"""

ROW_STEPS = 8000
"""Rows times steps that are simulated: more steps say more about a channel, so they need fewer rows."""

SCALE_RANGE = (0.8, 1.25)
"""Limits of one correction of the unit; beyond them the cause is another one."""


@dataclass(frozen=True, slots=True)
class Compensate:
    """Correct weights, biases, starts and scales against real spikes, and quantise on the way.

    Attributes:
        weights: whether weights are fitted.
        bias: whether the mean output of every channel is corrected.
        start: whether the initial potential of every channel is chosen.
        scale: whether the unit that readers assume is fitted.
        ramp: whether what a start lacks of half the threshold arrives with the bias, evenly over the steps.
        ridge: strength of the pull towards the given weights, relative to the power of the counts.
        spread: how much of the variation that the fit of the weights takes from a current is given back,
            from 0 to 1.
        gated: whether a correction must earn its place on rows held back.
    """

    name: ClassVar[str] = "compensate"
    weights: bool = True
    bias: bool = True
    start: bool = False
    scale: bool = False
    ramp: bool = False
    ridge: float = 0.01
    spread: float = 0.0
    gated: bool = True

    def __post_init__(self) -> None:
        """Refuse a ridge that does not hold."""
        if self.ridge <= 0:
            raise UsageError(f"ridge must be positive, not {self.ridge}")
        if not 0 <= self.spread <= 1:
            raise UsageError(f"spread must lie in 0 to 1, not {self.spread}")

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return the compensated integer network; an integer network is left as it is."""
        if graph.integer:
            return graph
        rows = len(context.calibration)
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
            return quantise_all(graph)
        work = _Compensation(self, graph, context)
        order = groups(graph)
        common = (self, context.timesteps, context.seed, context.calibration.sha256)
        places = keys(graph, order, common)
        done = work.resumed(places)
        for index, group in enumerate(context.progress.track(order, len(order), "compensating")):
            if index < done:
                continue
            context.progress.message(f"compensating {group.sinks[0]}")
            work.advance(group, tuple(later.sinks[0] for later in order[index + 1 : -1]))
            work.snapshot(places[index], order[: index + 1])
        return work.result()


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One way to do a group.

    Attributes:
        label: the corrections in it, joined by ``+``.
        graph: the network with the group in integers.
        values: (rows, *shape), the rates of each population, or the logits of the read-out.
        error: on the rows held back.
    """

    label: str
    graph: SnnGraph
    values: dict[str, FloatArray]
    error: float
    corrections: tuple[Correction, ...]


class _Compensation:
    """The state of one run of the pass: the network as far as it is done, and its spikes."""

    def __init__(self, options: Compensate, graph: SnnGraph, context: Context) -> None:
        self.options = options
        self.context = context
        self.given = graph
        self.source = context.ann()
        self.graph = graph.map(IntegrateFire, _ramped(graph.timesteps)) if options.ramp else graph
        self.offsets = {node.name: self.offset(node) for node in self.graph.of_type(IntegrateFire)}
        rows = max(FEWEST_ROWS, ROW_STEPS // graph.timesteps)
        self.calibration = context.calibration.subset(slice(0, rows))
        self.prefix = SpikingPrefix(graph, self.calibration.rows, context.simulator)
        self.held = np.arange(len(self.calibration)) % HELD_BACK == HELD_BACK - 1
        self.layers: list[dict[str, Any]] = []
        self.corrections: tuple[Correction, ...] = ()
        self.divergence = float("inf")

    def offset(self, node: IntegrateFire) -> FloatArray:
        """Return what a population's bias holds beside the source's, (channels,): shift, floor and ramp."""
        shift = rectifier(self.source, node.name).shift
        given = self.given[node.name]
        ramp = node.bias - given.bias if isinstance(given, IntegrateFire) else 0
        return ramp - node.lowest + (0 if shift is None else shift)

    def resumed(self, places: list[str]) -> int:
        """Go on behind the last group of which there is a snapshot; return how many groups are done."""
        for index in reversed(range(len(places))):
            found = self.context.snapshots.get(places[index])
            if found is not None:
                self.graph = found.applied(self.graph)
                self.prefix.restore(found.trains)
                self.layers, self.corrections = list(found.layers), found.corrections
                return index + 1
        return 0

    def snapshot(self, place: str, done: tuple[Group, ...]) -> None:
        """Keep what was made of the first groups."""
        if done[-1].sinks[0] == self.graph.output:
            return
        names = [name for group in done for name in (*group.synapses, *group.sinks)]
        nodes = {name: self.graph[name] for name in names}
        kept = Snapshot(nodes, self.corrections, dict(self.prefix.trains), tuple(self.layers))
        self.context.snapshots.put(place, kept)

    def advance(self, group: Group, ahead: tuple[str, ...]) -> None:
        """Do one group: try the corrections, keep the best, go on from there."""
        last = group.sinks[0] == self.graph.output
        if last:
            z = self.calibration.logits(self.source)
            targets = {self.graph.output: z}
        else:
            z = pre_activation(self.calibration, self.source, group.sinks[0], ahead)
            targets = {name: activation(rectifier(self.source, name), z) for name in group.sinks}
        layer = _Layer(self, group, targets)
        bias = self.options.bias and not last
        best = layer.quantised("none", self.graph)
        starts = [best]
        if self.options.weights and (fitted := self.refitted(group, z)) is not None:
            starts.append(layer.quantised("weights", fitted))
            best = layer.better(best, starts[-1])
        for start in starts if bias else ():
            best = layer.better(best, layer.rebiased(start))
        if self.options.start and not last:
            best = layer.better(best, layer.restarted(best))
        if self.options.scale and not last:
            best = layer.better(best, layer.rescaled(best))
        self.layers.append({"layer": group.sinks[0], "kept": best.label, "errors": layer.errors})
        self.graph, self.divergence = best.graph, best.error
        self.corrections += best.corrections
        if not last:
            self.prefix.keep(self.graph, self.prefix.simulate(self.graph, group.sinks), group.sinks)

    def refitted(self, group: Group, z: FloatArray) -> SnnGraph | None:
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
            options.spread,
            self.context.seed,
        )
        if isinstance(fitted, CannotFit):
            origin = self.graph[group.sinks[0]].origin
            message = f"{fitted.reason}; the weights stay as they are"
            self.context.diagnostics.append(
                Diagnostic(FALLBACK, message, origin, "give more calibration rows")
            )
            return None
        return fitted

    def result(self) -> SnnGraph:
        """Return the compensated network, or the plain one where that is nearer to the source."""
        plain = quantise_all(self.given)
        calibration = self.calibration
        prefix = SpikingPrefix(plain, calibration.rows[self.held], self.context.simulator)
        answers = real_logits(plain, prefix.simulate(plain, [plain.output]).logits)
        before = divergence(calibration.logits(self.source)[self.held], answers)
        kept = self.divergence < before or not self.options.gated
        self.context.findings.update(
            {
                "layers": self.layers,
                "divergence": {"plain": round(before, 5), "compensated": round(self.divergence, 5)},
                "kept": kept,
            }
        )
        return self.graph if kept else plain


class _Layer:
    """The attempts at one group."""

    def __init__(self, work: _Compensation, group: Group, targets: dict[str, FloatArray]) -> None:
        self.work = work
        self.group = group
        self.targets = targets
        self.errors: dict[str, float] = {}

    def better(self, best: _Candidate, attempt: _Candidate) -> _Candidate:
        """Return the candidate of less error; without the gate that is the attempt."""
        return attempt if attempt.error < best.error or not self.work.options.gated else best

    def populations(self, graph: SnnGraph) -> list[IntegrateFire]:
        """Return the group's populations in their present form."""
        nodes = (graph[name] for name in self.group.sinks)
        return [node for node in nodes if isinstance(node, IntegrateFire)]

    def quantised(self, label: str, graph: SnnGraph) -> _Candidate:
        """Quantise the group and simulate it."""
        done = quantise_group(graph, self.group)
        before = self.populations(graph)
        corrections = tuple((node.name, _unit(done, node.name) / node.unit) for node in before)
        return self.simulated(label, done, corrections)

    def simulated(self, label: str, graph: SnnGraph, corrections: tuple[Correction, ...]) -> _Candidate:
        """Simulate the group on all rows."""
        trace = self.work.prefix.simulate(graph, self.group.sinks, trains=False)
        if trace.outputs is not None:
            values = {graph.output: real_logits(graph, trace.outputs)}
            return self.candidate(label, graph, values, corrections)
        values = {
            node.name: node.decoded(trace.counts[node.name], graph.timesteps)
            for node in self.populations(graph)
        }
        return self.candidate(label, graph, values, corrections)

    def candidate(
        self,
        label: str,
        graph: SnnGraph,
        values: dict[str, FloatArray],
        corrections: tuple[Correction, ...],
    ) -> _Candidate:
        """Measure values on the rows held back.

        For populations that is ``E[(a - r)^2] + COHERENT E_c[(E[a] - E[r])^2]`` relative to ``E[a^2]``, for
        the read-out the divergence of the answers.
        """
        held = self.work.held
        error = 0.0
        for name, value in values.items():
            a = self.targets[name][held]
            if name == graph.output:
                error += divergence(a, value[held])
                continue
            missing = a - value[held]
            power = max(float(np.mean(np.square(a), dtype=np.float64)), 1e-12)
            means = missing.mean(axis=(0, *range(2, a.ndim)), dtype=np.float64)
            squared = float(np.mean(np.square(missing), dtype=np.float64))
            error += (squared + COHERENT * float(np.mean(np.square(means)))) / power
        self.errors[label] = round(error, 5)
        return _Candidate(label, graph, values, error, corrections)

    def means(
        self, function: Callable[[FloatArray, FloatArray], FloatArray], start: _Candidate, name: str
    ) -> FloatArray:
        """Return the mean of ``function(a, r)`` per channel over the fitting rows, float64."""
        fit = ~self.work.held
        product = function(self.targets[name][fit], start.values[name][fit])
        return product.mean(axis=(0, *range(2, product.ndim)), dtype=np.float64)

    def rebiased(self, start: _Candidate) -> _Candidate:
        """Move each channel's bias until the mean output is that of the source network."""
        attempt = start
        for _ in range(BIAS_ROUNDS):
            graph = attempt.graph
            for node in self.populations(graph):
                missing = self.means(np.subtract, attempt, node.name)
                step = np.rint(missing * node.threshold / node.unit).astype(np.int32)
                # More than one level at once would only drive a saturated channel further.
                step = np.clip(step, -node.threshold, node.threshold)
                graph = graph.replacing({node.name: node.with_(bias=(node.bias + step).astype(np.int32))})
            attempt = self.simulated(_joined(start.label, "bias"), graph, start.corrections)
        return attempt

    def restarted(self, start: _Candidate) -> _Candidate:
        """Choose each channel's initial potential from a grid of shares of its threshold."""
        populations = self.populations(start.graph)
        least = {node.name: np.full(node.channels, np.inf) for node in populations}
        best = {node.name: node.v_init for node in populations}
        for share in STARTS:
            v_init = {n.name: np.floor(share * n.threshold).astype(np.int32) for n in populations}
            graph = start.graph.replacing({n.name: n.with_(v_init=v_init[n.name]) for n in populations})
            attempt = self.simulated("grid of starts", graph, start.corrections)
            for name, tried in v_init.items():
                error = self.means(lambda a, r: np.square(a - r), attempt, name)
                best[name] = np.where(error < least[name], tried, best[name])
                least[name] = np.minimum(error, least[name])
        del self.errors["grid of starts"]
        graph = start.graph.replacing({n.name: n.with_(v_init=best[n.name]) for n in populations})
        return self.simulated(_joined(start.label, "start"), graph, start.corrections)

    def slope(self, start: _Candidate, name: str, floor: FloatArray) -> FloatArray:
        """Return per channel the factor that takes ``r`` above the floor nearest to ``a``, within limits."""
        energy = self.means(lambda _, r: np.square(r - floor), start, name)
        product = self.means(lambda a, r: (a - floor) * (r - floor), start, name)
        ratio = np.clip(product / np.maximum(energy, 1e-12), *SCALE_RANGE)
        return np.where(energy > 0, ratio, 1).astype(np.float32)

    def rescaled(self, start: _Candidate) -> _Candidate:
        """Let the readers of each channel assume its least-squares unit."""
        graph, corrections = start.graph, start.corrections
        values: dict[str, FloatArray] = {}
        for node in self.populations(graph):
            value = start.values[node.name]
            floor = node.lowest.reshape(-1, *(1,) * (value.ndim - 2))
            ratio = self.slope(start, node.name, floor)
            graph = graph.replacing({node.name: node.with_(unit=node.unit * ratio)})
            graph = correct_readers(graph, node.name, ratio)
            corrections += ((node.name, ratio),)
            values[node.name] = floor + (value - floor) * ratio.reshape(floor.shape)
        return self.candidate(_joined(start.label, "scale"), graph, values, corrections)


def _ramped(timesteps: int) -> Callable[[IntegrateFire], IntegrateFire]:
    """Return what adds to a bias what the start lacks of half the threshold, spread over the steps."""

    def ramped(node: IntegrateFire) -> IntegrateFire:
        missing = (node.threshold / 2 - node.v_init) / timesteps
        return node.with_(bias=(node.bias + missing).astype(np.float32))

    return ramped


def _unit(graph: SnnGraph, name: str) -> FloatArray:
    node = graph[name]
    if not isinstance(node, IntegrateFire):
        raise InternalError(f"{name!r} is no population")
    return node.unit


def _joined(label: str, correction: str) -> str:
    return correction if label == "none" else f"{label}+{correction}"
