"""Compensate each layer's error on the spiking prefix that will feed it, with the neuron that will run.

Layer by layer, first to last, the network is quantised and simulated as far as it is done. On the spike
counts that really arrive, three corrections are tried in turn:

* *weights*: ridge regression of the analogue pre-activation ``z`` on the counts of all convolutional
  and linear synapses of the layer together, main branch and shortcut alike: ``T z = sum_i w_i N_i + T b``;
* *bias*: per channel, ``b += E[a] - E[u N / T]``, so that the mean output is that of the source network;
* *scale*: per channel, the unit that the readers assume becomes the least-squares one,
  ``u' = E[a r] / E[r^2]`` with ``r = u N / T`` in units of ``u``.

A correction is kept for a layer only where it lowers the squared error of the layer's output on rows that
it was not fitted on. At the end the whole compensated network must beat the plain one there, in the
Kullback-Leibler divergence from the source network's answers, or the plain one is returned.

Sources: Liu et al., "Efficient ANN-SNN Conversion with Error Compensation Learning", ICML 2025; Li et
al., "A Free Lunch From ANN: Towards Efficient, Accurate Spiking Neural Networks Calibration", ICML 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from snnc.diagnostics import FALLBACK, Diagnostic
from snnc.errors import UsageError
from snnc.ir.ann import Relu
from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.snn import Convolution, IntegrateFire, Linear, SnnGraph, Weighted, constant_nodes
from snnc.pipeline import Context
from snnc.prefix import SpikingPrefix, rates
from snnc.quantisation import Group, correct_readers, groups, quantise_all, quantise_group
from snnc.reference import windows
from snnc.regression import normal_equations, ridge

HELD_BACK = 5
"""One row in this many is kept from the fits and decides about them."""

FEWEST_ROWS = 50
"""Rows below which means are too noisy to correct anything."""

POSITIONS = 60_000
"""Positions used in a regression, beside those that its number of features asks for."""


@dataclass(frozen=True, slots=True)
class Compensate:
    """Correct weights, biases and scales against real spikes, and quantise on the way.

    Attributes:
        weights: whether weights are fitted.
        bias: whether the mean output of every channel is corrected.
        scale: whether the unit that readers assume is fitted.
        ridge: strength of the pull towards the given weights, relative to the inputs' power.
        gated: whether a correction must earn its place on rows held back.
    """

    name: ClassVar[str] = "compensate"
    weights: bool = True
    bias: bool = True
    scale: bool = False
    ridge: float = 0.01
    gated: bool = True

    def __post_init__(self) -> None:
        """Refuse a ridge that does not hold."""
        if self.ridge <= 0:
            raise UsageError(f"ridge must be positive, not {self.ridge}")

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return the compensated integer network."""
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
        for group in context.progress.track(work.groups, len(work.groups), "compensating"):
            work.advance(group)
        return work.result()


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One way to do a group.

    Attributes:
        label: the corrections in it, joined by ``+``.
        graph: the network with the group in integers.
        rates: (rows, *shape) per population of the group, or the logits of the read-out.
        error: on the rows held back.
    """

    label: str
    graph: SnnGraph
    rates: dict[str, FloatArray]
    error: float


class _Compensation:
    """The state of one run of the pass: the network as far as it is done, and its spikes."""

    def __init__(self, options: Compensate, graph: SnnGraph, context: Context) -> None:
        self.options = options
        self.context = context
        self.given = graph
        self.graph = graph
        self.groups = groups(graph)
        self.source = context.ann()
        self.prefix = SpikingPrefix(graph, context.calibration.rows, context.simulator)
        self.held = np.arange(len(context.calibration)) % HELD_BACK == HELD_BACK - 1
        self.layers: list[dict[str, Any]] = []
        self.divergence = float("inf")

    def advance(self, group: Group) -> None:
        """Do one group: try the corrections, keep the best, go on from there."""
        self.context.progress.message(f"compensating {group.sinks[0]}")
        targets = self.targets(group)
        plain = best = self.simulated("none", quantise_group(self.graph, group), group, targets)
        tried = {plain.label: plain.error}
        for attempt in self.attempts(plain, group, targets):
            tried[attempt.label] = attempt.error
            if attempt.error < best.error or not self.options.gated:
                best = attempt
        if self.options.scale and group.sinks[0] != self.graph.output:
            attempt = self.rescaled(best, group, targets)
            tried[attempt.label] = attempt.error
            if attempt.error < best.error or not self.options.gated:
                best = attempt
        self.layers.append(
            {
                "layer": group.sinks[0],
                "kept": best.label,
                "errors": {k: round(e, 5) for k, e in tried.items()},
            }
        )
        self.graph = best.graph
        self.divergence = best.error
        if group.sinks[0] != self.graph.output:
            trace = self.prefix.simulate(self.graph, group.sinks)
            self.prefix.keep(self.graph, trace, group.sinks)

    def attempts(
        self, plain: _Candidate, group: Group, targets: dict[str, FloatArray]
    ) -> Iterator[_Candidate]:
        """Yield the group with bias correction, with fitted weights, and with both."""
        bias = self.options.bias and group.sinks[0] != self.graph.output
        if bias:
            yield self.rebiased(plain, "bias", group, targets)
        fitted = self.refitted(group, targets) if self.options.weights else None
        if fitted is not None:
            attempt = self.simulated("weights", quantise_group(fitted, group), group, targets)
            yield attempt
            if bias:
                yield self.rebiased(attempt, "weights+bias", group, targets)

    def result(self) -> SnnGraph:
        """Return the compensated network, or the plain one where that is nearer to the source."""
        plain = quantise_all(self.given)
        last = self.groups[-1]
        logits = SpikingPrefix(plain, self.context.calibration.rows[self.held], self.context.simulator)
        outputs = logits.simulate(plain, [plain.output]).logits
        targets = self.targets(last)[plain.output][self.held]
        before = _divergence(targets, self.logits(plain, outputs))
        kept = self.divergence < before or not self.options.gated
        self.context.findings.update(
            {
                "layers": self.layers,
                "divergence": {"plain": round(before, 5), "compensated": round(self.divergence, 5)},
                "kept": kept,
            }
        )
        return self.graph if kept else plain

    def targets(self, group: Group) -> dict[str, FloatArray]:
        """Return what the source network computes where the group's sinks stand, (rows, *shape) each.

        For a population that is its pre-activation; for the read-out the answers before a softmax.
        """
        calibration = self.context.calibration
        first = group.sinks[0]
        if first == self.graph.output:
            return {first: calibration.logits(self.source)}
        order = [node.name for node in self.source.of_type(Relu)]
        name = self.population(first)
        ahead = [self.source[other].inputs[0] for other in order[order.index(name) + 1 :]]
        z = calibration.values(self.source, self.source[name].inputs[0], ahead)
        return dict.fromkeys(group.sinks, z)

    def population(self, name: str) -> str:
        """Return the name of the source network's rectifier that a population stands for."""
        return name if name in self.source else name.rpartition(".")[0]

    def activations(self, name: str, z: FloatArray) -> FloatArray:
        """Return what the source network's rectifier makes of the pre-activation ``z``."""
        relu = self.source[self.population(name)]
        if not isinstance(relu, Relu):
            raise UsageError(f"{name!r} stands for no rectifier of the source network")
        shape = (1, -1, *(1,) * (z.ndim - 2))
        a = np.maximum(z if relu.shift is None else z + relu.shift.reshape(shape), np.float32(0))
        return a if relu.ceiling is None else np.minimum(a, relu.ceiling.reshape(shape))

    def simulated(
        self, label: str, graph: SnnGraph, group: Group, targets: dict[str, FloatArray]
    ) -> _Candidate:
        """Simulate the group, and measure its error on the rows held back."""
        trace = self.prefix.simulate(graph, group.sinks)
        if trace.outputs is not None:
            logits = self.logits(graph, trace.outputs)
            error = _divergence(targets[graph.output][self.held], logits[self.held])
            return _Candidate(label, graph, {graph.output: logits}, error)
        found = {}
        for name in group.sinks:
            node = graph[name]
            if isinstance(node, IntegrateFire):
                found[name] = rates(node, trace.trains[name].sum(axis=0, dtype=np.int32), graph.timesteps)
        return _Candidate(label, graph, found, self.error(found, targets))

    def error(self, found: dict[str, FloatArray], targets: dict[str, FloatArray]) -> float:
        """Return the squared error of rates on the rows held back, relative to the activations' power."""
        total = 0.0
        for name, rate in found.items():
            a = self.activations(name, targets[name][self.held])
            power = float(np.mean(np.square(a), dtype=np.float64))
            total += float(np.mean(np.square(a - rate[self.held]), dtype=np.float64)) / max(power, 1e-12)
        return total

    def logits(self, graph: SnnGraph, outputs: Any) -> FloatArray:
        """Return the accumulated read-out in units of the source network."""
        scale: float = getattr(graph[graph.output], "scale", 1.0)
        return (outputs * np.float32(scale / graph.timesteps)).astype(np.float32)

    def rebiased(
        self, start: _Candidate, label: str, group: Group, targets: dict[str, FloatArray]
    ) -> _Candidate:
        """Move each channel's bias until the mean output is that of the source network."""
        candidate = start
        for _ in range(BIAS_ROUNDS):
            graph = candidate.graph
            for name in group.sinks:
                node = graph[name]
                if not isinstance(node, IntegrateFire):
                    continue
                a = self.activations(name, targets[name][~self.held])
                axes = (0, *range(2, a.ndim))
                missing = a.mean(axes, dtype=np.float64) - candidate.rates[name][~self.held].mean(
                    axes, dtype=np.float64
                )
                step = np.rint(missing * node.threshold / node.unit).astype(np.int32)
                # More than one level at once would only drive a saturated channel further.
                step = np.clip(step, -node.threshold, node.threshold)
                graph = graph.replacing({name: node.with_(bias=(node.bias + step).astype(np.int32))})
            candidate = self.simulated(label, graph, group, targets)
        return candidate

    def rescaled(self, start: _Candidate, group: Group, targets: dict[str, FloatArray]) -> _Candidate:
        """Let the readers of each channel assume its least-squares unit."""
        graph = start.graph
        found = {}
        for name in group.sinks:
            node = graph[name]
            if not isinstance(node, IntegrateFire):
                continue
            r = start.rates[name]
            a = self.activations(name, targets[name])
            axes = (0, *range(2, a.ndim))
            fit = ~self.held
            energy = np.sum(np.square(r[fit]), axes, dtype=np.float64)
            ratio = np.sum(a[fit] * r[fit], axes, dtype=np.float64) / np.maximum(energy, 1e-12)
            ratio = np.where(energy > 0, np.clip(ratio, *SCALE_RANGE), 1).astype(np.float32)
            graph = graph.replacing({name: node.with_(unit=node.unit * ratio)})
            graph = correct_readers(graph, name, ratio)
            found[name] = r * ratio.reshape(-1, *(1,) * (r.ndim - 2))
        return _Candidate(f"{start.label}+scale", graph, found, self.error(found, targets))

    def refitted(self, group: Group, targets: dict[str, FloatArray]) -> SnnGraph | None:
        """Return the network with the group's float32 weights fitted, or ``None`` where they cannot be."""
        graph, timesteps = self.graph, self.graph.timesteps
        synapses = [graph[name] for name in group.synapses]
        constant = constant_nodes(graph)
        direct = {name for sink in group.sinks for name in graph[sink].inputs}
        fittable = [
            s
            for s in synapses
            if (isinstance(s, Linear) or (isinstance(s, Convolution) and s.groups == 1))
            and s.name not in constant
            and s.name in direct
        ]
        fixed = [s for s in synapses if s not in fittable]
        if not fittable or any(s.name not in direct for s in fixed):
            return None
        shape = graph[group.sinks[0]].shape
        z = targets[group.sinks[0]].reshape(len(self.held), shape[0], -1)
        features = sum(int(np.prod(s.weight.shape[1:])) for s in fittable) + 1
        places = self.positions(z.shape[2], POSITIONS + POSITIONS_PER_FEATURE * features)
        if places.size < 2 * features:
            self.fall_back(group, f"{places.size} positions are too few to fit {features} weights")
            return None
        rows = np.flatnonzero(~self.held)[:, None]
        y = timesteps * z.transpose(0, 2, 1)[rows, places].reshape(-1, shape[0])
        for synapse in fixed:
            y = y - self.current(synapse)[rows, places].reshape(y.shape)
        columns = [self.columns(s, rows, places) for s in fittable]
        start = [_flat(s.weight) for s in fittable]
        bias = [graph[name].bias for name in group.sinks]
        initial = np.concatenate([*start, timesteps * bias[0][None, :]]).astype(np.float64)
        try:
            weights = ridge(normal_equations(columns, y), initial, self.options.ridge)
        except np.linalg.LinAlgError as error:
            self.fall_back(group, f"the least-squares system has no unique solution ({error})")
            return None
        return _with_weights(graph, group, fittable, weights, (weights[-1] / timesteps).astype(np.float32))

    def fall_back(self, group: Group, reason: str) -> None:
        """Tell the user that a layer keeps its weights."""
        origin = self.graph[group.sinks[0]].origin
        self.context.diagnostics.append(
            Diagnostic(
                FALLBACK, f"{reason}; its weights stay as they are", origin, "give more calibration rows"
            )
        )

    def positions(self, size: int, wanted: int) -> IntArray:
        """Choose output positions per fitted row, (rows, positions)."""
        rows = int((~self.held).sum())
        count = min(size, max(1, -(-wanted // rows)))
        random = np.random.default_rng(self.context.seed)
        return np.stack([np.sort(random.permutation(size)[:count]) for _ in range(rows)])

    def columns(self, synapse: Weighted, rows: IntArray, places: IntArray) -> IntArray:
        """Return the counts that each chosen output position reads, (positions, features)."""
        counts = self.prefix.counts(self.graph, synapse.inputs[0])
        if not isinstance(synapse, Convolution):
            return np.repeat(counts[rows[:, 0]], places.shape[1], axis=0)
        views = windows(counts, synapse.window, 0)
        down, right = np.unravel_index(places, synapse.shape[1:])
        return views[rows, :, down, right].reshape(places.size, -1)

    def current(self, synapse: Weighted) -> FloatArray:
        """Return the summed current of a synapse that is not fitted, (rows, positions, channels)."""
        trains = self.prefix.simulate(self.graph, [synapse.name]).trains[synapse.name]
        total = trains.sum(axis=0, dtype=np.float32)
        return total.reshape(*total.shape[:2], -1).transpose(0, 2, 1)


BIAS_ROUNDS = 2
"""How often the bias is corrected: the second round mends what saturation left of the first."""

SCALE_RANGE = (0.8, 1.25)
"""Limits of one correction of the unit; beyond them the cause is another one."""

POSITIONS_PER_FEATURE = 40
"""Further positions in a regression for each of its features."""


def _flat(weight: Any) -> FloatArray:
    """Return a weight as (features, outputs)."""
    return np.asarray(weight, np.float32).reshape(len(weight), -1).T


def _with_weights(
    graph: SnnGraph, group: Group, fitted: list[Any], weights: Any, bias: FloatArray
) -> SnnGraph:
    """Put fitted weights, (features, outputs) in the order of ``fitted``, and a bias into the graph."""
    changed: dict[str, Any] = {}
    start = 0
    for synapse in fitted:
        features = int(np.prod(synapse.weight.shape[1:]))
        part = weights[start : start + features].T.reshape(synapse.weight.shape)
        changed[synapse.name] = synapse.with_(weight=part.astype(np.float32))
        start += features
    for name in group.sinks:
        node = graph[name]
        changed[name] = replace(node, bias=bias)  # type: ignore[call-arg]
    return graph.replacing(changed)


def _divergence(targets: FloatArray, logits: FloatArray) -> float:
    """Return the mean Kullback-Leibler divergence of softmaxes, in nats."""
    p, q = (_log_softmax(values.astype(np.float64)) for values in (targets, logits))
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def _log_softmax(values: Any) -> Any:
    shifted = values - values.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
