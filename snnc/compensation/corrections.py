"""Candidates for one layer on the spikes that it receives: unchanged or refitted weights, with corrections.

:mod:`snnc.passes.compensate` decides which candidates are tried, and which is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.compensation.snapshots import ReaderRatio
from snnc.errors import InternalError
from snnc.ir.ann import Pointwise
from snnc.ir.channels import per_channel
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.numerics.divergence import AnswerError
from snnc.numerics.means import ChannelMean, Mean
from snnc.numerics.quantisation import THRESHOLD_LIMIT, Group, Rounding, correct_readers, quantise_group
from snnc.numerics.spill import RowArray, row_array
from snnc.simulation.arrays import windows
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


Chosen = NDArray[np.bool_] | None
"""Which rows of a chunk are wanted; all by default."""

Target = Callable[[slice, Chosen], FloatArray]
"""What the source network has at a population or the read-out, (rows, *shape), on some rows of a chunk."""


def chosen(values: RowArray, chunk: slice, wanted: Chosen) -> NDArray[Any]:
    """Return some rows of a chunk, so that nothing is computed of others."""
    part = values[chunk]
    return part if wanted is None else part[wanted]


@dataclass(frozen=True, slots=True)
class Values:
    """The rates of a population, decoded from its counts when they are looked at.

    Attributes:
        node: the population as it was simulated.
        counts: (rows, *shape), in memory or on disk.
        timesteps: T.
        rescaled: corrections of the unit that came later: floor and ratio, each to be spread over the shape.
    """

    node: IntegrateFire
    counts: RowArray
    timesteps: int
    rescaled: tuple[tuple[FloatArray, FloatArray], ...] = ()

    def rates(self, chunk: slice, wanted: Chosen = None) -> FloatArray:
        """Return the rates on some rows of a chunk, float32."""
        value = self.node.decoded(chosen(self.counts, chunk, wanted), self.timesteps)
        for floor, ratio in self.rescaled:
            value = floor + (value - floor) * ratio
        return value


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
    values: Mapping[str, Values | FloatArray]
    error: float
    ratios: tuple[ReaderRatio, ...]


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
        """
        self.group = group
        self.pools = pools or {}
        # What is asked for again and again is kept where it is one chunk.
        single = len(prefix.chunks) == 1
        seen = {name: self.seen_at(name, at) for name, at in targets.items()}
        self.targets = {
            name: partial(chosen, at(prefix.chunks[0], None)) if single else at for name, at in seen.items()
        }
        self.prefix = prefix
        self.held = held
        self.answer_error = answer_error
        self.gated = gated
        self.rounding = rounding
        self.errors: dict[str, float] = {}

    def seen(self, name: str, values: FloatArray) -> FloatArray:
        """Return what others see of a population's values, (rows, *shape): their maxima, or all of them."""
        window = self.pools.get(name)
        return values if window is None else windows(values, window, -np.inf).max(axis=(4, 5))

    def seen_at(self, name: str, target: Target) -> Target:
        """Return a target as others see it."""
        if name not in self.pools:
            return target
        return lambda chunk, wanted: self.seen(name, target(chunk, wanted))

    def better(self, best: Candidate, attempt: Candidate) -> Candidate:
        """Return the candidate of less error; without the gate that is the attempt."""
        return attempt if attempt.error < best.error or not self.gated else best

    def populations(self, graph: SnnGraph) -> list[IntegrateFire]:
        """Return the group's populations in their present form."""
        nodes = (graph[name] for name in self.group.sinks)
        return [node for node in nodes if isinstance(node, IntegrateFire)]

    def quantised(self, label: str, graph: SnnGraph) -> Candidate:
        """Quantise the group and simulate it."""
        done = quantise_group(graph, self.group, self.rounding)
        before = self.populations(graph)
        ratios = tuple((node.name, _unit(done, node.name) / node.spike_scale) for node in before)
        return self.simulated(label, done, ratios)

    def simulated(self, label: str, graph: SnnGraph, ratios: tuple[ReaderRatio, ...]) -> Candidate:
        """Simulate the group on all rows."""
        rows, T = len(self.held), graph.timesteps
        values = {
            node.name: Values(node, row_array((rows, *node.shape), _narrowest(node, T)), T)
            for node in self.populations(graph)
        }
        outputs = []
        for chunk, trace in self.prefix.parts(graph, self.group.sinks, trains=False):
            if trace.outputs:
                outputs.append(trace.outputs)
                continue
            for name, value in values.items():
                value.counts[chunk] = trace.counts[name]
        if outputs:
            answers: dict[str, Values | FloatArray] = {}
            for name in outputs[0]:
                node = graph.readouts[name]
                answers[node.name] = node.decoded(np.concatenate([found[name] for found in outputs]), T)
            return self.candidate(label, graph, answers, ratios)
        return self.candidate(label, graph, values, ratios)

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
            if name in graph.outputs:
                everything = slice(0, len(self.held))
                a = self.targets[name](everything, self.held)
                error += self.answer_error.of(a, _carried(value, everything, self.held))
                continue
            powers, squares, missing = Mean(), Mean(), ChannelMean()
            for a, r in self.pairs(name, value, self.held):
                powers.add(np.square(a))
                squares.add(np.square(a - r))
                missing.add(a - r)
            coherent = COHERENT * float(np.mean(np.square(missing.value)))
            error += (squares.value + coherent) / max(powers.value, 1e-12)
        self.errors[label] = round(error, 5)
        return Candidate(label, graph, values, error, ratios)

    def pairs(
        self, name: str, value: Values | FloatArray, rows: NDArray[np.bool_]
    ) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield what the source network has and what the spikes carry on some of the rows, chunk by chunk."""
        for chunk in self.prefix.chunks:
            wanted = rows[chunk]
            if wanted.any():
                r = np.ascontiguousarray(self.seen(name, _carried(value, chunk, wanted)))
                yield np.ascontiguousarray(self.targets[name](chunk, wanted)), r

    def means(
        self, function: Callable[[FloatArray, FloatArray], FloatArray], start: Candidate, name: str
    ) -> FloatArray:
        """Return the mean of ``function(a, r)`` per channel over the fitting rows, float64."""
        mean = ChannelMean()
        for a, r in self.pairs(name, start.values[name], ~self.held):
            mean.add(function(a, r))
        return mean.value

    def rebiased(self, start: Candidate, slopes: Mapping[str, Slope] | None = None) -> Candidate:
        """Move each channel's bias until the mean output is that of the source network.

        Args:
            start: the attempt to mend.
            slopes: of the populations that are step functions.
        """
        attempt = start
        for _ in range(BIAS_ROUNDS):
            graph = attempt.graph
            for node in self.populations(graph):
                missing = self.means(np.subtract, attempt, node.name)
                slope = (slopes or {}).get(node.name)
                if slope is not None and node.potential_unit is not None:
                    wanted = slope.argument(missing) / (node.potential_unit * graph.timesteps)
                    step = np.clip(np.rint(wanted), -THRESHOLD_LIMIT, THRESHOLD_LIMIT).astype(np.int32)
                else:
                    step = np.rint(missing * node.threshold / node.spike_scale).astype(np.int32)
                    # More than one level at once would only drive a saturated channel further.
                    step = np.clip(step, -node.threshold, node.threshold)
                graph = graph.replacing({node.name: node.with_(bias=(node.bias + step).astype(np.int32))})
            attempt = self.simulated(_joined(start.label, "bias"), graph, start.ratios)
        return attempt

    def restarted(self, start: Candidate) -> Candidate:
        """Choose each channel's initial potential from a grid of shares of its threshold."""
        populations = [node for node in self.populations(start.graph) if node.breakpoints is None]
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
        values: dict[str, Values | FloatArray] = {}
        for node in self.populations(graph):
            value = start.values[node.name]
            if node.breakpoints is not None and isinstance(value, Values):  # which keeps its unit
                values[node.name] = value
                continue
            if not isinstance(value, Values):
                raise InternalError(f"{node.name!r} has no rates")
            floor = per_channel(node.lowest, len(node.shape))
            ratio = self.slope(start, node.name, floor)
            graph = graph.replacing({node.name: node.with_(spike_scale=node.spike_scale * ratio)})
            graph = correct_readers(graph, node.name, ratio)
            ratios += ((node.name, ratio),)
            later = (*value.rescaled, (floor, ratio.reshape(floor.shape)))
            values[node.name] = replace(value, rescaled=later)
        return self.candidate(_joined(start.label, "scale"), graph, values, ratios)


def _carried(value: Values | FloatArray, chunk: slice, wanted: Chosen) -> FloatArray:
    """Return what spikes carry on some rows of a chunk."""
    return value.rates(chunk, wanted) if isinstance(value, Values) else chosen(value, chunk, wanted)


def _narrowest(node: IntegrateFire, timesteps: int) -> type[np.signedinteger[Any]]:
    """Return an integer type that holds every count."""
    return np.int16 if node.neuron.capacity(timesteps) <= np.iinfo(np.int16).max else np.int32


def _unit(graph: SnnGraph, name: str) -> FloatArray:
    node = graph[name]
    if not isinstance(node, IntegrateFire):
        raise InternalError(f"{name!r} is no population")
    return node.spike_scale


def _joined(label: str, correction: str) -> str:
    return correction if label == "none" else f"{label}+{correction}"
