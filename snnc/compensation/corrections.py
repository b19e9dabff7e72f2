"""Candidates for one layer on the spikes that it receives: unchanged or refitted weights, with corrections.

:mod:`snnc.passes.compensate` decides which candidates are tried, and which is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from snnc.compensation.comparison import Comparison, GroupCounts, Target, Values
from snnc.compensation.snapshots import ReaderRatio
from snnc.errors import InternalError
from snnc.ir.ann import Pointwise
from snnc.ir.channels import per_channel
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.numerics.divergence import AnswerError
from snnc.numerics.quantisation import Group, Rounding, correct_readers, quantise_group
from snnc.numerics.scales import THRESHOLD_LIMIT
from snnc.numerics.weight_grid import WEIGHT_BITS
from snnc.simulation.partial import PartialSimulation
from snnc.source.source_map import activation

BIAS_ROUNDS = 2
"""How often the bias is corrected: the second round mends what saturation left of the first."""

STARTS = tuple(k / 10 for k in range(10))
"""Shares of the threshold that are tried as initial potential."""

COHERENT = 3.0
"""How often the squared error of a channel's mean counts beside that of single values.

Of 0, 1, 3 and 9 it leaves the least divergence at T = 1 on 4,000 training rows that were not calibrated on
(ResNet-20, CIFAR-10: 1.66, 1.42, 1.37 and 1.43 nats).
"""

FLAT = 0.02
"""Of the steepest channel's mean slope: of a flatter one the bias is left as it is."""

SCALE_RANGE = (0.8, 1.25)
"""Limits of one correction of the unit; beyond them the cause is another one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to do a group.

    Attributes:
        label: the corrections in it, joined by ``+``.
        graph: the network with the group in integers.
        values: the rates of each population; of the read-out the answers on the rows held back, (rows,
            *shape).
        error: on the rows held back.
        ratios: by which the readers of the populations were corrected, in order.
    """

    label: str
    graph: SnnGraph
    values: Mapping[str, Values | FloatArray]
    error: float
    ratios: tuple[ReaderRatio, ...]

    @property
    def rates(self) -> dict[str, Values]:
        """The rates of each population.

        Raises:
            InternalError: it is a read-out, which has none.
        """
        found = {name: value for name, value in self.values.items() if isinstance(value, Values)}
        if len(found) < len(self.values):
            raise InternalError(f"{next(iter(self.values))!r} has no rates")
        return found


@dataclass(frozen=True, slots=True)
class Slope:
    """How much a function's mean rises with its argument.

    Attributes:
        mean: (channels,) of the derivative.
        most: (channels,) by which an argument may be moved at once.
    """

    mean: FloatArray
    most: FloatArray

    def argument(self, missing: FloatArray) -> FloatArray:
        """Return by how much the argument must rise for the mean to rise by ``missing``, (channels,)."""
        steep = np.abs(self.mean) > FLAT * np.abs(self.mean).max(initial=0)
        wanted = np.where(steep, missing / np.where(steep, self.mean, 1), 0)
        return np.clip(wanted, -self.most, self.most)


def slope_of(node: Pointwise, z: FloatArray) -> Slope:
    """Return the mean slope of a function over its arguments, (rows, *shape), by finite differences."""
    axes = (0, *range(2, z.ndim))
    deviation = z.std(axis=axes, dtype=np.float64)
    reach = np.maximum(deviation, 1e-6) / 4
    apart = per_channel(reach, z.ndim - 1).astype(np.float32)
    rise = activation(node, z + apart) - activation(node, z - apart)
    return Slope(rise.mean(axis=axes, dtype=np.float64) / (2 * reach), deviation)


class GroupFitter:
    """The attempts at one group."""

    def __init__(
        self,
        group: Group,
        targets: Mapping[str, Target],
        prefix: PartialSimulation,
        held: NDArray[np.bool_],
        answer_error: AnswerError,
        *,
        gated: bool,
        pools: Mapping[str, Window] | None = None,
        rounding: Rounding | None = None,
        bits: int = WEIGHT_BITS,
        threads: int = 1,
    ) -> None:
        """Begin with no attempt.

        Args:
            group: the populations and what drives them, or the read-out.
            targets: what the source network has there, by population or read-out.
            prefix: the spikes that arrive.
            held: (rows,), those that decide and are not fitted to.
            answer_error: of the read-out.
            gated: whether an attempt must lower the error on them to be kept.
            pools: of populations of which only a maximum is read, by name: they are measured behind it. The
                maximum of values with an error is too large, whatever the error's mean.
            rounding: of the weights; to the nearest integers by default.
            bits: of the weights.
            threads: how many blocks of rows are compared at once, without a difference.
        """
        self.group = group
        self.prefix = prefix
        self.held = held
        self.compared = Comparison(targets, prefix, held, pools or {}, threads)
        self.answer_error = answer_error
        self.gated = gated
        self.rounding = rounding
        self.bits = bits
        self.errors: dict[str, float] = {}

    def better(self, best: Candidate, attempt: Candidate) -> Candidate:
        """Return the candidate of less error; without the gate that is the attempt."""
        return attempt if attempt.error < best.error or not self.gated else best

    def populations(self, graph: SnnGraph) -> list[IntegrateFire]:
        """Return the group's populations in their present form."""
        nodes = (graph[name] for name in self.group.sinks)
        return [node for node in nodes if isinstance(node, IntegrateFire)]

    def quantised(self, label: str, graph: SnnGraph) -> Candidate:
        """Quantise the group and simulate it."""
        done = quantise_group(graph, self.group, self.rounding, self.bits)
        before = self.populations(graph)
        ratios = tuple((node.name, _unit(done, node.name) / node.spike_scale) for node in before)
        return self.simulated(label, done, ratios)

    def simulated(self, label: str, graph: SnnGraph, ratios: tuple[ReaderRatio, ...]) -> Candidate:
        """Simulate the group on the rows held back, and measure it."""
        if self.group.sinks[0] not in graph.outputs:
            return self.candidate(label, graph, self.values(graph), ratios)
        parts = self.prefix.parts(graph, self.group.sinks, trains=False, rows=self.held)
        outputs = [trace.outputs for _, trace in parts]
        answers: dict[str, Values | FloatArray] = {}
        for name in outputs[0]:
            node = graph.readouts[name]
            found = np.concatenate([output[name] for output in outputs])
            answers[node.name] = node.decoded(found, graph.timesteps)
        return self.candidate(label, graph, answers, ratios)

    def values(self, graph: SnnGraph) -> dict[str, Values]:
        """Return the rates of the group's populations in a network; nothing is simulated yet."""
        counts = GroupCounts(self.prefix, graph, self.group.sinks, self.held)
        return {node.name: Values(node, counts, graph.timesteps) for node in self.populations(graph)}

    def candidate(
        self,
        label: str,
        graph: SnnGraph,
        values: Mapping[str, Values | FloatArray],
        ratios: tuple[ReaderRatio, ...],
    ) -> Candidate:
        """Measure values on the rows held back.

        For populations that is ``E[(a - r)^2] + COHERENT E_c[(E[a] - E[r])^2]`` relative to ``E[a^2]``, for
        the read-out the error of the answers, see :class:`snnc.numerics.divergence.AnswerError`.
        """
        error = 0.0
        for name, value in values.items():
            if not isinstance(value, Values):
                error += self.answer_error.of(self.compared.answers(name), value)
                continue
            squares, missing = self.compared.errors(name, value)
            coherent = COHERENT * float(np.mean(np.square(missing)))
            error += (squares + coherent) / max(self.compared.power(name), 1e-12)
        self.errors[label] = round(error, 5)
        return Candidate(label, graph, values, error, ratios)

    def rebiased(self, start: Candidate, slopes: Mapping[str, Slope] | None = None) -> Candidate:
        """Move each channel's bias until the mean output is that of the source network.

        Args:
            start: the attempt to mend.
            slopes: of the populations that are step functions.
        """
        graph, values = start.graph, start.rates
        for _ in range(BIAS_ROUNDS):
            for node in self.populations(graph):
                missing = self.compared.means(np.subtract, node.name, values[node.name])
                slope = (slopes or {}).get(node.name)
                if slope is not None and node.potential_unit is not None:
                    wanted = slope.argument(missing) / (node.potential_unit * graph.timesteps)
                    step = np.clip(np.rint(wanted), -THRESHOLD_LIMIT, THRESHOLD_LIMIT).astype(np.int32)
                else:
                    step = np.rint(missing * node.threshold / node.spike_scale).astype(np.int32)
                    # More than one level at once would only drive a saturated channel further.
                    step = np.clip(step, -node.threshold, node.threshold)
                graph = graph.replacing({node.name: node.with_(bias=(node.bias + step).astype(np.int32))})
            values = self.values(graph)
        return self.candidate(_joined(start.label, "bias"), graph, values, start.ratios)

    def restarted(self, start: Candidate) -> Candidate:
        """Choose each channel's initial potential from a grid of shares of its threshold."""
        populations = [node for node in self.populations(start.graph) if node.breakpoints is None]
        least = {node.name: np.full(node.channels, np.inf) for node in populations}
        best = {node.name: node.v_init for node in populations}
        for share in STARTS:
            v_init = {n.name: np.floor(share * n.threshold).astype(np.int32) for n in populations}
            graph = start.graph.replacing({n.name: n.with_(v_init=v_init[n.name]) for n in populations})
            values = self.values(graph)
            for name, tried in v_init.items():
                error = self.compared.means(lambda a, r: np.square(a - r), name, values[name])
                best[name] = np.where(error < least[name], tried, best[name])
                least[name] = np.minimum(error, least[name])
        graph = start.graph.replacing({n.name: n.with_(v_init=best[n.name]) for n in populations})
        return self.simulated(_joined(start.label, "start"), graph, start.ratios)

    def slope(self, name: str, value: Values, floor: FloatArray) -> FloatArray:
        """Return per channel the factor that takes ``r`` above the floor nearest to ``a``, within limits."""
        energy = self.compared.means(lambda _, r: np.square(r - floor), name, value)
        product = self.compared.means(lambda a, r: (a - floor) * (r - floor), name, value)
        ratio = np.clip(product / np.maximum(energy, 1e-12), *SCALE_RANGE)
        return np.where(energy > 0, ratio, 1).astype(np.float32)

    def rescaled(self, start: Candidate) -> Candidate:
        """Let the readers of each channel assume its least-squares unit."""
        graph, ratios = start.graph, start.ratios
        values = dict(start.rates)
        for node in self.populations(graph):
            value = values[node.name]
            if node.breakpoints is not None:  # which keeps its unit
                continue
            floor = per_channel(node.lowest, len(node.shape))
            ratio = self.slope(node.name, value, floor)
            graph = graph.replacing({node.name: node.with_(spike_scale=node.spike_scale * ratio)})
            graph = correct_readers(graph, node.name, ratio)
            ratios += ((node.name, ratio),)
            later = (*value.rescaled, (floor, ratio.reshape(floor.shape)))
            values[node.name] = replace(value, rescaled=later)
        return self.candidate(_joined(start.label, "scale"), graph, values, ratios)


def _unit(graph: SnnGraph, name: str) -> FloatArray:
    node = graph[name]
    if not isinstance(node, IntegrateFire):
        raise InternalError(f"{name!r} is no population")
    return node.spike_scale


def _joined(label: str, correction: str) -> str:
    return correction if label == "none" else f"{label}+{correction}"
