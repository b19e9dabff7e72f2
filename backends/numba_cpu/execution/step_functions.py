"""Populations whose count follows a step function: how the function is looked up, step by step.

Steps that are evenly apart are computed (:mod:`snnc.backends.numba_cpu.execution.even_steps`). Of others the
range of the breakpoints of a channel is cut into as many buckets of equal width as it takes for no bucket to
hold two breakpoints. A bucket then knows all about its potentials: its breakpoint, and the counts below it
and from it on. Where there are few breakpoints and one step, all of them are compared instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from snnc.backends.numba_cpu.execution.even_steps import EvenSteps
from snnc.backends.numba_cpu.execution.shapes import Array, Value
from snnc.backends.numba_cpu.kernels import counting as kernels
from snnc.backends.numba_cpu.machine.memory import aligned
from snnc.backends.numba_cpu.planning.request import Request
from snnc.errors import InternalError
from snnc.ir import snn
from snnc.ir.operations import largest_spike

INT32 = 2**31
LANES = 16

MOST_COMPARED = 32
"""Breakpoints that are all compared with every potential: vector code does it faster than a look-up."""

FEWEST_SCALED = 8
"""Breakpoints above which even steps are computed; fewer are treated as any others."""

MOST_BUCKETS = 4096
"""For a channel; breakpoints that lie too close for that are searched."""


MOST_SHIFT = 16
"""Where in a bucket its breakpoint lies has so many bits."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Step functions, cut into buckets.

    Attributes:
        table: (padded channels, buckets) int32: the count below the breakpoint in the lowest byte, the count
            from there on in the next, and above them how far within the bucket the breakpoint lies.
        fields: (5, padded channels) int32: where the first bucket begins; the last potential that is told
            apart; what is added so that a shift finds the bucket among those of sixteen channels; the shift
            (a bucket is ``2^shift`` wide); the largest rest.
        base: the count that a byte of zero stands for.
    """

    table: Array
    fields: Array
    base: int

    @classmethod
    def of(cls, points: Array, values: Array, reach: int, padded: int) -> Buckets | None:
        """Cut the step functions of a population into buckets.

        Args:
            points: (rows, n) int32, the breakpoints, one row per channel or one for all.
            values: (n + 1,) int32, the counts between them.
            reach: largest magnitude of a potential. What lies beyond parts nothing.
            padded: channels in memory.

        Returns:
            ``None`` where two breakpoints lie too close, or counts or breakpoints too far apart.
        """
        base = int(values.min())
        if values.max() - base > np.iinfo(np.uint8).max:
            return None
        wide = points.astype(np.int64)
        inside = (wide > -reach) & (wide <= reach)
        low = np.where(inside, wide, reach).min(axis=1) - 1
        span = np.maximum(np.where(inside, wide, -reach).max(axis=1) - low, 0) + 1
        buckets = 16
        while buckets <= MOST_BUCKETS:
            shift = np.array([max(0, int(-(-n // buckets) - 1).bit_length()) for n in span], np.int64)
            last = low + (buckets << shift) - 1
            fits = shift.max() <= MOST_SHIFT and (last - low).max() < INT32 // LANES
            table = _cut(wide, values - base, low, shift, buckets) if fits else None
            if table is not None:
                rows = np.arange(padded) % len(points)
                before = (np.arange(padded) % LANES * buckets) << shift[rows]
                last = np.minimum(last, INT32 - 1)[rows]
                fields = [low[rows], last, before - low[rows], shift[rows], (1 << shift[rows]) - 1]
                return cls(aligned(table[rows]), aligned(np.stack(fields).astype(np.int32)), base)
            buckets *= 2
        return None


def _cut(points: Array, values: Array, low: Array, shift: Array, buckets: int) -> Array | None:
    """Return so many buckets of each row of breakpoints; ``None`` where one would hold two of them."""
    table = np.empty((len(points), buckets), np.int64)
    for row, own in enumerate(points):
        starts = low[row] + (np.arange(buckets) << shift[row])
        ends = starts + (1 << shift[row]) - 1
        before, after = (np.searchsorted(own, place, side="right") for place in (starts, ends))
        # Of equal breakpoints only the count behind the last one is ever reached.
        inside = own[np.minimum(before, len(own) - 1)]
        if (own[np.maximum(after, 1) - 1] != inside)[after > before].any():
            return None
        within = np.where(after > before, inside - starts, 0)
        table[row] = values[before] | values[after].astype(np.int64) << 8 | within << 16
    return table.astype(np.uint32).view(np.int32)


class _Step(NamedTuple):
    """A step of a population, as the kernels are given it.

    Attributes:
        t: its number.
        current: what arrives, where that lies in one piece; ``None`` where it must be made.
        start: what is added to it, (padded channels,) int32.
        target: where the spikes go, (pixels, padded channels).
        rest: limit, whether it remembers, potentials, counts and target.
    """

    t: int
    current: Array | None
    start: Array
    target: Array
    rest: tuple[Any, ...]


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
        self.limit = largest_spike(node, request.timesteps, request.graph.settle_steps)
        n = node.breakpoints.shape[1]
        once = request.steps == 1 and not request.record.states
        # Whatever is not sent at once must be remembered.
        self.remembers = not once or bool(np.abs(self.values).max() > self.limit)
        self.compared = node.integer and once and n <= MOST_COMPARED
        self.bound: dict[int, list[_Step]] = {}
        self.even: EvenSteps | None = None
        self.buckets: Buckets | None = None
        if not node.integer:
            return
        self.starts = self._starts()
        if n > FEWEST_SCALED:
            self.even = EvenSteps.of(node.breakpoints, node.step_values, out.place.padded)
        if self.even is not None:
            self.compared = False
        elif self.compared:
            self.columns = aligned(np.full((n, out.place.padded), np.iinfo(np.int32).max, np.int32))
            self.columns[:, : node.channels] = node.breakpoints.T
            self.rises = aligned(np.diff(node.step_values).astype(np.int32))
        else:
            padded = out.place.padded
            self.buckets = Buckets.of(node.breakpoints, node.step_values, self._reach(), padded)

    def run(self, images: int) -> None:
        """Run all steps."""
        if not self.node.integer:
            self._fire_floats(images)
            return
        if self.compared:
            self._compare(images)
            return
        if self.even is None and self.buckets is None:
            self._search(images)
            return
        if self.remembers:
            self.states[:, :images] = 0
        for step in self._steps(images):
            current = self._current(step.t, images) if step.current is None else step.current
            rows = current.reshape(step.target.shape)
            if self.even is not None:
                even = self.even
                kernels.fire_even(rows, step.start, even.fields, even.last, even.base, *step.rest)
            elif self.buckets is not None:
                buckets = self.buckets
                kernels.fire_buckets(
                    rows, step.start, buckets.fields, buckets.table, buckets.base, *step.rest
                )
            self._silence_spare(step.target)

    def _steps(self, images: int) -> list[_Step]:
        """Return what the kernels are given in each step, for so many images."""
        found = self.bound.get(images)
        if found is None:
            padded = self.out.place.padded
            potential, taken = self.states[:, :images].reshape(2, -1, padded)
            rest = self.limit, self.remembers, potential, taken
            found = []
            for t in range(self.request.steps):
                target = self._target(t, images)
                found.append(_Step(t, self._only_current(t, images), self._start(t), target, (*rest, target)))
            self.bound[images] = found
        return found

    def _only_current(self, t: int, images: int) -> Array | None:
        """View what arrives in a step where it lies in one piece; ``None`` where it must be made."""
        if len(self.read) != 1 or self.read[0].constant or self.request.barrier:
            return None
        found: Array = self.read[0].values[t, :images]
        return found

    def _starts(self) -> Array:
        """Return what is added to the currents of the first step, of others with a bias, and of the rest."""
        node = self.node
        starts = np.zeros((3, self.out.place.padded), np.int32)
        bias = node.bias.astype(np.int64)
        starts[0, : node.channels] = bias * self._times(0) + node.v_init
        starts[1, : node.channels] = bias
        return aligned(starts)

    def _start(self, t: int) -> Array:
        """Return what is added to the currents of a step, (padded channels,)."""
        found: Array = self.starts[0 if t == 0 else 1 if self._times(t) else 2]
        return found

    def _target(self, t: int, images: int) -> Array:
        """Return where the spikes of a step go, (pixels, padded channels)."""
        target: Array = self.out.values[t, :images].reshape(-1, self.out.place.padded)
        return target

    def _silence_spare(self, target: Array) -> None:
        """Let channels that only fill vectors send nothing."""
        if target.shape[1] > self.node.channels:
            target[:, self.node.channels :] = 0

    def _reach(self) -> int:
        """Return the largest magnitude of a potential in any step."""
        node, steps = self.node, max(self.request.steps, self.request.timesteps)
        current = sum(value.place.magnitude for value in self.read) + int(np.abs(node.bias).max())
        return min(steps * current + int(np.abs(node.v_init).max()), INT32 - 1)

    def _compare(self, images: int) -> None:
        """Compare the potentials of the only step with all breakpoints."""
        current = self._current(0, images).reshape(-1, self.out.place.padded)
        base, blocks, target = int(self.values[0]), -(-self.node.channels // 16), self._target(0, images)
        kernels.fire_once(current, self._start(0), self.columns, self.rises, base, self.limit, blocks, target)
        self._silence_spare(target)

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
