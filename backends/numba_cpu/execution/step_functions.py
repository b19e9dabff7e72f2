"""Populations whose count follows a step function: how the function is looked up, step by step.

The range of the breakpoints of a channel is cut into as many buckets of equal width as it takes for no bucket
to hold two breakpoints. A bucket then knows all about its potentials: its breakpoint, and the counts below it
and from it on. Where there are few breakpoints and one step, all of them are compared instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snnc.backends.numba_cpu.execution.shapes import Array, Value
from snnc.backends.numba_cpu.kernels import counting as kernels
from snnc.backends.numba_cpu.machine.memory import aligned
from snnc.backends.numba_cpu.planning.request import Request
from snnc.errors import InternalError
from snnc.ir import snn

MOST_COMPARED = 32
"""Breakpoints that are all compared with every potential: vector code does it faster than a look-up."""

MOST_BUCKETS = 4096
"""For a channel; breakpoints that lie too close for that are searched."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Step functions, cut into buckets.

    Attributes:
        table: (channels, buckets, 2) int32, the breakpoint, and the count below it with that from it on in
            the upper half.
        low: (channels,) int64, where the first bucket begins.
        shift: (channels,) int64, a bucket is ``2^shift`` wide.
    """

    table: Array
    low: Array
    shift: Array

    @classmethod
    def of(cls, points: Array, values: Array, channels: int) -> Buckets | None:
        """Cut the step functions of a population into buckets; ``None`` where two breakpoints lie too close.

        Args:
            points: (rows, n) int32, the breakpoints, one row per channel or one for all.
            values: (n + 1,) int32, the counts between them.
            channels: how many there are.
        """
        if np.abs(values).max() > np.iinfo(np.int16).max:
            return None
        wide = points.astype(np.int64)
        low = wide[:, 0] - 1
        span = wide[:, -1] - low + 1
        buckets = 16
        while buckets <= MOST_BUCKETS:
            shift = np.array([max(0, int(-(-n // buckets) - 1).bit_length()) for n in span], np.int64)
            table = _cut(wide, values, low, shift, buckets)
            if table is not None:
                rows = np.arange(channels) % len(points)
                return cls(np.ascontiguousarray(table[rows]), low[rows], shift[rows])
            buckets *= 2
        return None


def _cut(points: Array, values: Array, low: Array, shift: Array, buckets: int) -> Array | None:
    """Return so many buckets of each row of breakpoints; ``None`` where one would hold two of them."""
    table = np.empty((len(points), buckets, 2), np.int64)
    for row, own in enumerate(points):
        starts = low[row] + (np.arange(buckets) << shift[row])
        ends = starts + (1 << shift[row]) - 1
        before, after = (np.searchsorted(own, place, side="right") for place in (starts, ends))
        # Of equal breakpoints only the count behind the last one is ever reached.
        inside = own[np.minimum(before, len(own) - 1)]
        if (own[np.maximum(after, 1) - 1] != inside)[after > before].any():
            return None
        table[row, :, 0] = np.where(after > before, inside, np.iinfo(np.int32).max)
        table[row, :, 1] = (values[before] & 0xFFFF) | (values[after].astype(np.int64) << 16)
    return table.astype(np.int32)


class StepRun:
    """A population with a step function, ready to be run for any number of images."""

    def __init__(
        self, node: snn.IntegrateFire, read: Sequence[Value], out: Value, states: Array, request: Request
    ) -> None:
        """Prepare the look-up.

        Args:
            node: the population.
            read: its currents.
            out: where to put the spikes.
            states: (2, images, height, width, padded channels) int32, or float32 of a network in floats:
                where the final potentials and minus the counts go.
            request: what is run.
        """
        if node.breakpoints is None or node.step_values is None:
            raise InternalError(f"{node.name!r} has no step function")
        self.node, self.read, self.out, self.states, self.request = node, read, out, states, request
        self.points, self.values = node.breakpoints, node.step_values
        self.limit = node.neuron.largest(request.timesteps)
        n = node.breakpoints.shape[1]
        once = request.steps == 1 and not request.record.states
        self.compared = node.integer and once and n <= MOST_COMPARED
        self.buckets = None
        if not node.integer:
            return
        if self.compared:
            self.columns = aligned(np.full((n, out.place.padded), np.iinfo(np.int32).max, np.int32))
            self.columns[:, : node.channels] = node.breakpoints.T
            self.rises = aligned(np.diff(node.step_values).astype(np.int32))
        else:
            self.buckets = Buckets.of(node.breakpoints, node.step_values, node.channels)

    def run(self, images: int) -> None:
        """Run all steps."""
        if not self.node.integer:
            self._fire_floats(images)
            return
        if self.compared:
            self._compare(images)
            return
        if self.buckets is None:
            self._search(images)
            return
        request, node, padded = self.request, self.node, self.out.place.padded
        potential, taken = self.states[:, :images].reshape(2, -1, padded)
        for t in range(request.steps):
            times = self._times(t)
            start = node.bias.astype(np.int64) * times + (node.v_init if t == 0 else 0)
            target = self.out.values[t, :images].reshape(-1, padded)
            kernels.fire_buckets(
                self._current(t, images).reshape(-1, padded),
                start,
                self.buckets.table,
                self.buckets.low,
                self.buckets.shift,
                self.limit,
                t == 0,
                request.steps > 1 or request.record.states,
                potential,
                taken,
                target,
            )
            if padded > node.channels:
                target[:, node.channels :] = 0

    def _compare(self, images: int) -> None:
        """Compare the potentials of the only step with all breakpoints."""
        node, padded = self.node, self.out.place.padded
        start = np.zeros(padded, np.int32)
        start[: node.channels] = node.bias.astype(np.int64) * self._times(0) + node.v_init
        target = self.out.values[0, :images].reshape(-1, padded)
        current = self._current(0, images).reshape(-1, padded)
        base, blocks = int(self.values[0]), -(-node.channels // 16)
        kernels.fire_once(current, start, self.columns, self.rises, base, self.limit, blocks, target)
        target[:, node.channels :] = 0

    def _times(self, t: int) -> int:
        """Return how often the bias and constant currents count in a step."""
        if self.request.barrier:
            return self.request.timesteps if t == 0 else 0
        return int(t < self.request.timesteps)

    def _current(self, t: int, images: int) -> Array:
        """Return what arrives in a step; behind a barrier all arrives in the first one."""
        times = self._times(t)
        parts = []
        for value in self.read:
            values = value.values[:, :images]
            if value.constant and times:
                parts.append(values[0] if times == 1 else values[0] * np.int32(times))
            elif not value.constant and not self.request.barrier:
                parts.append(values[t])
            elif not value.constant and t == 0:
                parts.append(values.sum(axis=0, dtype=np.int32))
        if not parts:
            return np.zeros(self.states[0, :images].shape, np.int32)
        total: Array = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def _fire_floats(self, images: int) -> None:
        """Run all steps of a network that is not quantised, of which speed does not matter."""
        request, node, channels = self.request, self.node, self.node.channels
        total = np.zeros((request.steps, images, *self.out.values.shape[2:4], channels), np.float32)
        for value in self.read:
            total[: request.timesteps if value.constant else request.steps] += value.channels(images)
        total[: request.timesteps] += node.bias
        total[0] += node.v_init
        if request.barrier:
            total[0], total[1:] = total.sum(axis=0), 0
        potential, sent = np.zeros_like(total[0]), np.zeros(total[0].shape, np.int64)
        for t in range(request.steps):
            potential += total[t]
            for row, points in enumerate(self.points):
                here = slice(None) if len(self.points) == 1 else row
                wanted = self.values[np.searchsorted(points, potential[..., here], side="right")]
                spikes = np.clip(wanted - sent[..., here], -self.limit, self.limit)
                sent[..., here] += spikes
                self.out.values[t, :images, ..., :channels][..., here] = spikes
        self.states[0, :images, ..., :channels], self.states[1, :images, ..., :channels] = potential, -sent

    def _search(self, images: int) -> None:
        """Search among the breakpoints, one potential after the other."""
        request, out, node = self.request, self.out, self.node
        total = np.zeros((request.steps, images, *out.values.shape[2:4], node.channels), np.int32)
        for value in self.read:
            steps = request.timesteps if value.constant else request.steps
            total[:steps] += value.channels(images)
        kernels.fire_steps(
            total,
            images,
            request.timesteps,
            request.barrier,
            np.stack([node.bias, node.v_init]).astype(np.int32),
            self.points,
            self.values,
            self.limit,
            out.values,
            *self.states,
        )
        out.values[..., node.channels :] = 0
