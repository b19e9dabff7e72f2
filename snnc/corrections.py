"""Attempts at one layer on the spikes that arrive: as it is, with fitted weights, and what mends either.

What is tried, and when it is kept, is decided in :mod:`snnc.passes.compensate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snnc.divergence import AnswerError, real_logits
from snnc.errors import InternalError
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.prefix import SpikingPrefix
from snnc.quantisation import Group, correct_readers, quantise_group
from snnc.reference import windows
from snnc.snapshots import ReaderRatio

BIAS_ROUNDS = 2
"""How often the bias is corrected: the second round mends what saturation left of the first."""

STARTS = tuple(k / 10 for k in range(10))
"""Shares of the threshold that are tried as initial potential."""

COHERENT = 3.0
"""How often the squared error of a channel's mean counts beside that of single values.

Of 0, 1, 3 and 9 it leaves the least divergence at T = 1 on 4,000 training rows that were not calibrated on
(ResNet-20, CIFAR-10: 1.66, 1.42, 1.37 and 1.43 nats).
"""

SCALE_RANGE = (0.8, 1.25)
"""Limits of one correction of the unit; beyond them the cause is another one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to do a group.

    Attributes:
        label: the corrections in it, joined by ``+``.
        graph: the network with the group in integers.
        values: (rows, *shape), the rates of each population, or the logits of the read-out.
        error: on the rows held back.
        ratios: by which the readers of the populations were corrected, in order.
    """

    label: str
    graph: SnnGraph
    values: dict[str, FloatArray]
    error: float
    ratios: tuple[ReaderRatio, ...]


class Layer:
    """The attempts at one group."""

    def __init__(
        self,
        group: Group,
        targets: dict[str, FloatArray],
        prefix: SpikingPrefix,
        held: NDArray[np.bool_],
        answer_error: AnswerError,
        *,
        gated: bool,
        pools: Mapping[str, Window] | None = None,
    ) -> None:
        """Begin with no attempt.

        Args:
            group: the populations and what drives them, or the read-out.
            targets: what the source network has there, (rows, *shape) by population or read-out.
            prefix: the spikes that arrive.
            held: (rows,), those that decide and are not fitted to.
            answer_error: of the read-out.
            gated: whether an attempt must lower the error on them to be kept.
            pools: of populations of which only a maximum is read, by name: they are measured behind it. The
                maximum of values with an error is too large, whatever the error's mean.
        """
        self.group = group
        self.pools = pools or {}
        self.targets = {name: self.seen(name, values) for name, values in targets.items()}
        self.prefix = prefix
        self.held = held
        self.answer_error = answer_error
        self.gated = gated
        self.errors: dict[str, float] = {}

    def seen(self, name: str, values: FloatArray) -> FloatArray:
        """Return what others see of a population's values, (rows, *shape): their maxima, or all of them."""
        window = self.pools.get(name)
        return values if window is None else windows(values, window, -np.inf).max(axis=(4, 5))

    def better(self, best: Candidate, attempt: Candidate) -> Candidate:
        """Return the candidate of less error; without the gate that is the attempt."""
        return attempt if attempt.error < best.error or not self.gated else best

    def populations(self, graph: SnnGraph) -> list[IntegrateFire]:
        """Return the group's populations in their present form."""
        nodes = (graph[name] for name in self.group.sinks)
        return [node for node in nodes if isinstance(node, IntegrateFire)]

    def quantised(self, label: str, graph: SnnGraph) -> Candidate:
        """Quantise the group and simulate it."""
        done = quantise_group(graph, self.group)
        before = self.populations(graph)
        ratios = tuple((node.name, _unit(done, node.name) / node.unit) for node in before)
        return self.simulated(label, done, ratios)

    def simulated(self, label: str, graph: SnnGraph, ratios: tuple[ReaderRatio, ...]) -> Candidate:
        """Simulate the group on all rows."""
        trace = self.prefix.simulate(graph, self.group.sinks, trains=False)
        if trace.outputs is not None:
            values = {graph.output: real_logits(graph, trace.outputs)}
            return self.candidate(label, graph, values, ratios)
        values = {
            node.name: self.seen(node.name, node.decoded(trace.counts[node.name], graph.timesteps))
            for node in self.populations(graph)
        }
        return self.candidate(label, graph, values, ratios)

    def candidate(
        self,
        label: str,
        graph: SnnGraph,
        values: dict[str, FloatArray],
        ratios: tuple[ReaderRatio, ...],
    ) -> Candidate:
        """Measure values on the rows held back.

        For populations that is ``E[(a - r)^2] + COHERENT E_c[(E[a] - E[r])^2]`` relative to ``E[a^2]``, for
        the read-out the error of the answers, see :class:`snnc.divergence.AnswerError`.
        """
        held = self.held
        error = 0.0
        for name, value in values.items():
            a = self.targets[name][held]
            if name == graph.output:
                error += self.answer_error.of(a, value[held])
                continue
            missing = a - value[held]
            power = max(float(np.mean(np.square(a), dtype=np.float64)), 1e-12)
            means = missing.mean(axis=(0, *range(2, a.ndim)), dtype=np.float64)
            squared = float(np.mean(np.square(missing), dtype=np.float64))
            error += (squared + COHERENT * float(np.mean(np.square(means)))) / power
        self.errors[label] = round(error, 5)
        return Candidate(label, graph, values, error, ratios)

    def means(
        self, function: Callable[[FloatArray, FloatArray], FloatArray], start: Candidate, name: str
    ) -> FloatArray:
        """Return the mean of ``function(a, r)`` per channel over the fitting rows, float64."""
        fit = ~self.held
        product = function(self.targets[name][fit], start.values[name][fit])
        return product.mean(axis=(0, *range(2, product.ndim)), dtype=np.float64)

    def rebiased(self, start: Candidate) -> Candidate:
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
            attempt = self.simulated(_joined(start.label, "bias"), graph, start.ratios)
        return attempt

    def restarted(self, start: Candidate) -> Candidate:
        """Choose each channel's initial potential from a grid of shares of its threshold."""
        populations = self.populations(start.graph)
        least = {node.name: np.full(node.channels, np.inf) for node in populations}
        best = {node.name: node.v_init for node in populations}
        for share in STARTS:
            v_init = {n.name: np.floor(share * n.threshold).astype(np.int32) for n in populations}
            graph = start.graph.replacing({n.name: n.with_(v_init=v_init[n.name]) for n in populations})
            attempt = self.simulated("grid of starts", graph, start.ratios)
            for name, tried in v_init.items():
                error = self.means(lambda a, r: np.square(a - r), attempt, name)
                best[name] = np.where(error < least[name], tried, best[name])
                least[name] = np.minimum(error, least[name])
        del self.errors["grid of starts"]
        graph = start.graph.replacing({n.name: n.with_(v_init=best[n.name]) for n in populations})
        return self.simulated(_joined(start.label, "start"), graph, start.ratios)

    def slope(self, start: Candidate, name: str, floor: FloatArray) -> FloatArray:
        """Return per channel the factor that takes ``r`` above the floor nearest to ``a``, within limits."""
        energy = self.means(lambda _, r: np.square(r - floor), start, name)
        product = self.means(lambda a, r: (a - floor) * (r - floor), start, name)
        ratio = np.clip(product / np.maximum(energy, 1e-12), *SCALE_RANGE)
        return np.where(energy > 0, ratio, 1).astype(np.float32)

    def rescaled(self, start: Candidate) -> Candidate:
        """Let the readers of each channel assume its least-squares unit."""
        graph, ratios = start.graph, start.ratios
        values: dict[str, FloatArray] = {}
        for node in self.populations(graph):
            value = start.values[node.name]
            floor = node.lowest.reshape(-1, *(1,) * (value.ndim - 2))
            ratio = self.slope(start, node.name, floor)
            graph = graph.replacing({node.name: node.with_(unit=node.unit * ratio)})
            graph = correct_readers(graph, node.name, ratio)
            ratios += ((node.name, ratio),)
            values[node.name] = floor + (value - floor) * ratio.reshape(floor.shape)
        return self.candidate(_joined(start.label, "scale"), graph, values, ratios)


def _unit(graph: SnnGraph, name: str) -> FloatArray:
    node = graph[name]
    if not isinstance(node, IntegrateFire):
        raise InternalError(f"{name!r} is no population")
    return node.unit


def _joined(label: str, correction: str) -> str:
    return correction if label == "none" else f"{label}+{correction}"
