"""What the spikes of one group carry, beside what the source network has there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.numerics.means import ChannelMean, ChannelSums, Mean
from snnc.numerics.spill import IN_MEMORY, RowArray, row_array
from snnc.simulation.arrays import windows
from snnc.simulation.partial import PartialSimulation

BLOCK_VALUES = 1 << 18
"""Values that are compared at once: so few that they stay in a cache."""

Chosen = NDArray[np.bool_] | None
"""Which rows of a chunk are wanted; all by default."""

Target = Callable[[slice, Chosen], FloatArray]
"""What the source network has at a population or the read-out, (rows, *shape), on some rows of a chunk."""

Pair = tuple[FloatArray, FloatArray]
"""What the source network has, and what spikes carry, (rows, *shape) each."""


def chosen(values: RowArray, chunk: slice, wanted: Chosen) -> NDArray[Any]:
    """Return some rows of a chunk, so that nothing is computed of others."""
    part = values[chunk]
    return part if wanted is None else part[wanted]


class GroupCounts:
    """The spike counts of a group's populations: simulated when they are asked for, and then kept."""

    def __init__(
        self, prefix: PartialSimulation, graph: SnnGraph, sinks: Sequence[str], held: NDArray[np.bool_]
    ) -> None:
        """Begin without any.

        Args:
            prefix: the spikes that arrive.
            graph: the network with the group in integers.
            sinks: the group's populations.
            held: (rows,), those that decide and are not fitted to.
        """
        self._prefix, self._graph, self._sinks, self._held = prefix, graph, sinks, held
        self._found: dict[bool, dict[str, RowArray]] = {}

    def of(self, name: str, *, held: bool) -> RowArray:
        """Return counts, (rows, ..., channels), of the rows held back or of all others, in order."""
        if held not in self._found:
            self._found[held] = self._simulated(self._held == held)
        return self._found[held][name]

    def _simulated(self, rows: NDArray[np.bool_]) -> dict[str, RowArray]:
        T, total = self._graph.timesteps, int(np.count_nonzero(rows))
        found: dict[str, RowArray] = {}
        for node in map(self._graph.__getitem__, self._sinks):
            if isinstance(node, IntegrateFire):
                found[node.name] = row_array((total, *node.shape[1:], node.channels), _narrowest(node, T))
        start = 0
        for _, trace in self._prefix.parts(self._graph, self._sinks, trains=False, rows=rows):
            for name, counts in found.items():
                counts[start : start + trace.samples] = np.moveaxis(trace.counts[name], 1, -1)
            start += trace.samples
        return found


@dataclass(frozen=True, slots=True)
class Values:
    """The rates of a population, decoded from its counts when they are looked at.

    Attributes:
        node: the population as it is simulated.
        counts: of its group.
        timesteps: T.
        rescaled: corrections of the unit that came later: floor and ratio, each to be spread over the shape.
    """

    node: IntegrateFire
    counts: GroupCounts
    timesteps: int
    rescaled: tuple[tuple[FloatArray, FloatArray], ...] = ()

    def rates(self, counts: NDArray[Any]) -> FloatArray:
        """Return what counts, (rows, ..., channels), stand for, (rows, *shape) float32."""
        value = self.node.decoded(np.moveaxis(counts, -1, 1), self.timesteps)
        for floor, ratio in self.rescaled:
            value = floor + (value - floor) * ratio
        return value


class Comparison:
    """Compares the populations of one group with the source network, on rows of two kinds.

    Some rows are held back, to decide; corrections are fitted to the others. Means have the same bits for
    every number of threads and every size of chunks and blocks.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        prefix: PartialSimulation,
        held: NDArray[np.bool_],
        pools: Mapping[str, Window],
        threads: int = 1,
    ) -> None:
        """Begin.

        Args:
            targets: what the source network has, by population or read-out.
            prefix: the spikes that arrive, in whose chunks rows are looked at.
            held: (rows,), those held back.
            pools: of populations of which only a maximum is read, by name: they are compared behind it.
            threads: how many blocks of rows are compared at once.
        """
        self.held = held
        self._targets = targets
        self._prefix = prefix
        self._pools = pools
        self._threads = threads
        self._kept: dict[tuple[str, bool, int], FloatArray] = {}
        self._powers: dict[str, float] = {}

    def answers(self, name: str) -> FloatArray:
        """Return the source network's answers on the rows held back, (rows, *shape)."""
        return self._targets[name](slice(0, len(self.held)), self.held)

    def errors(self, name: str, value: Values) -> tuple[float, FloatArray]:
        """Return ``E[(a - r)^2]`` and per channel ``E[a - r]``, float64, on the rows held back."""
        squares, missing = Mean(), ChannelMean()
        for blocks in self._blocks(name, value, held=True):
            for block in blocks:
                difference = np.subtract(*self._pair(name, value, block))
                missing.add(difference)
                squares.add(np.square(difference, out=difference))
        return squares.value, missing.value

    def power(self, name: str) -> float:
        """Return ``E[a^2]`` on the rows held back."""
        if name not in self._powers:
            power = Mean()
            for chunk, _ in self._chunks(held=True):
                power.add(np.square(self._target(name, chunk, held=True)))
            self._powers[name] = power.value
        return self._powers[name]

    def means(
        self, function: Callable[[FloatArray, FloatArray], FloatArray], name: str, value: Values
    ) -> FloatArray:
        """Return the mean of ``function(a, r)`` per channel over the rows that are fitted to, float64."""

        def sums(block: Pair) -> ChannelSums:
            return ChannelMean.sums(function(*self._pair(name, value, block)))

        mean = ChannelMean()
        with ThreadPoolExecutor(self._threads) as pool:
            for blocks in self._blocks(name, value, held=False):
                for found in pool.map(sums, blocks):
                    mean.put(found)
        return mean.value

    def _chunks(self, *, held: bool) -> Iterator[tuple[slice, slice]]:
        """Yield the chunks that hold rows of a kind, and the numbers of these among all of the kind."""
        start = 0
        for chunk in self._prefix.chunks:
            count = int(np.count_nonzero(self.held[chunk] == held))
            if count:
                yield chunk, slice(start, start + count)
            start += count

    def _target(self, name: str, chunk: slice, *, held: bool) -> FloatArray:
        """Return what the source network has on the rows of a kind in a chunk; kept if all rows are few."""
        key = name, held, chunk.start
        if key in self._kept:
            return self._kept[key]
        found = self._seen(name, self._targets[name](chunk, self.held[chunk] == held))
        found = np.ascontiguousarray(found)
        if len(self.held) * found[0].nbytes <= IN_MEMORY:
            self._kept[key] = found
        return found

    def _blocks(self, name: str, value: Values, *, held: bool) -> Iterator[list[Pair]]:
        """Yield of each chunk the blocks of targets and counts on the rows of a kind."""
        counts = value.counts.of(name, held=held)
        size = max(1, BLOCK_VALUES // math.prod(value.node.shape))
        for chunk, numbers in self._chunks(held=held):
            target, part = self._target(name, chunk, held=held), counts[numbers]
            rows = [slice(start, start + size) for start in range(0, len(target), size)]
            yield [(target[block], part[block]) for block in rows]

    def _pair(self, name: str, value: Values, block: Pair) -> Pair:
        """Return what the source network has and what spikes carry in a block of targets and counts."""
        return block[0], np.ascontiguousarray(self._seen(name, value.rates(block[1])))

    def _seen(self, name: str, values: FloatArray) -> FloatArray:
        """Return what others see of a population's values, (rows, *shape): their maxima, or all of them."""
        window = self._pools.get(name)
        return values if window is None else windows(values, window, -np.inf).max(axis=(4, 5))


def _narrowest(node: IntegrateFire, timesteps: int) -> type[np.signedinteger[Any]]:
    """Return an integer type that holds every count."""
    return np.int16 if node.neuron.capacity(timesteps) <= np.iinfo(np.int16).max else np.int32
