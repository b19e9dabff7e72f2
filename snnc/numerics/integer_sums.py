"""Sums of integers in place of sums of real numbers: one integer unit per channel, and whether it is exact.

What drives a population or a read-out is a sum of weighted counts. Its weights become integers in one unit
per channel: those of the source where it is quantised, and the nearest ones, which is said, where it is not.
A sum of two activations of different scales gets the pair of integers that, tried on all pairs of their
levels, keeps the source's level for the most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from snnc.errors import InternalError
from snnc.ir import ann, snn
from snnc.ir.bounds import EXACT_FLOAT32
from snnc.ir.channels import per_channel
from snnc.ir.graph import IntArray
from snnc.numerics.levels import (
    LARGEST_WEIGHT,
    WHOLE,
    Integers,
    Real,
    breakpoints,
    common_steps,
    integer_weights,
    near_ties,
    sum_level,
)

WIDE = 2**15 - 1
"""Largest weight of a value that is added as it is."""

TRIED_PAIRS = 12
"""Pairs of weights that are tried for a sum of two scales."""

MOST_DIGITS = 4
"""Into so many digits at most the artefact splits what a sum of products reads, to compute it in float32."""

LARGEST_SUM = 2**29
"""Up to here sums of weights finer than 8 bits may grow: int32 holds four of them."""

MOST_PAIRS = 2**20
"""Pairs of levels of two activations that are gone through at most."""


@dataclass(frozen=True, slots=True)
class Counts:
    """A value carried by spikes: ``x = unit N + offset`` with the count ``N`` of the whole run.

    Attributes:
        name: the node that gives the spikes.
        unit: (channels,).
        offset: (channels,), what silence stands for: zero but for an input.
        low, high: the range of the level, of which the count is ``times`` as much.
        times: T for the input, which is presented in each step, else 1.
        exact: whether the levels are the source's, as far as this node is concerned.
        zero: the integer that stands for zero in the source.
    """

    name: str
    unit: Real
    offset: Real
    low: int
    high: int
    times: int = 1
    exact: bool = True
    zero: int = 0


@dataclass(frozen=True, slots=True)
class Term:
    """A current in the making: weights in real numbers, and how the current is shaped behind them.

    Attributes:
        counts: what it reads.
        node: the synapse, with a weight still to come; a ``ChannelWeight`` for a value that is added.
        weight: (outputs, ...) real, in units of the counts' level.
        hint: (outputs,) of which the weights are multiples; ``None`` if unknown.
        chain: nodes behind it.
    """

    counts: Counts
    node: snn.Weighted
    weight: Real
    hint: Real | None
    chain: tuple[snn.SnnNode, ...] = ()

    @property
    def added(self) -> bool:
        """Whether the value is added as it is, by one weight per channel that may be wide."""
        return isinstance(self.node, snn.ChannelWeight)


@dataclass(frozen=True, slots=True)
class Sum:
    """A value that is a sum of currents.

    Attributes:
        terms: the currents.
        bias: (channels,) real.
        place: (*shape) real, what differs from place to place; ``None`` where nothing does.
    """

    terms: tuple[Term, ...]
    bias: Real
    place: Real | None = None


Value = Counts | Sum


@dataclass(slots=True)
class IntegerSum:
    """The integers of what drives a population or a read-out.

    Attributes:
        node: the rectifier, or what is read out.
        total: the sum in real numbers.
        timesteps: T.
        scores: whether all channels must share one unit, as class scores do that are compared.
        most: the largest integer of weights that must be rounded.
        step: (channels,) real value of one unit of the integer sum.
        reason: why its counts are an approximation; empty where they are the source's levels.
        ties: breakpoints at which an integer sum lies so near to the middle between two levels that a runtime
            which computes in floats, in whatever order, may round it either way.
    """

    node: ann.AnnNode
    total: Sum
    timesteps: int
    scores: bool = False
    most: int = LARGEST_WEIGHT
    step: Real = field(init=False)
    reason: str = field(init=False, default="")
    ties: int = field(init=False, default=0)
    _pair: tuple[int, int] | None = field(init=False, default=None)
    _enumerated: IntArray | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Choose the integers."""
        terms = self.total.terms
        if len({term.counts.times for term in terms}) > 1:
            self.reason = "the input is added to spikes"
        parts = [self._integers(term) for term in terms]
        self.step = self._common(terms, parts, len(self.total.bias))

    @property
    def times(self) -> int:
        """What was received is so many times the sum of one presentation."""
        return max((term.counts.times for term in self.total.terms), default=1)

    def weights(self, place: int) -> IntArray:
        """Return the integers of one of the terms, (outputs, ...) int64."""
        term = self.total.terms[place]
        whole = np.rint(term.weight / per_channel(self.step, term.weight.ndim)).astype(np.int64)
        return whole if self._pair is None else np.full_like(whole, self._pair[place])

    def _integers(self, term: Term) -> Integers:
        """Return the integers of one term: rounded ones as fine as the sum of products may be."""
        part = integer_weights(term.weight, term.hint, self.most)
        if part.exact.all() or self.most == LARGEST_WEIGHT:
            return part
        rows = np.abs(term.weight).reshape(len(part.step), -1).sum(axis=1)
        most = max(term.counts.high, -term.counts.low) * term.counts.times
        digit = 2.0 ** -(-most.bit_length() // MOST_DIGITS)
        coarsest = np.maximum(rows * digit / EXACT_FLOAT32, rows * most / LARGEST_SUM)
        step = np.where(part.exact, part.step, np.maximum(part.step, coarsest))
        return Integers(
            np.rint(term.weight / per_channel(step, term.weight.ndim)).astype(np.int64), step, part.exact
        )

    def constant(self) -> IntArray | None:
        """Return what differs from place to place, per step, in units of the sum; ``None`` for nothing."""
        place = self.total.place
        if place is None:
            return None
        each = place / per_channel(self.step, place.ndim) / self.timesteps
        whole = np.rint(each)
        if np.abs(each - whole).max() > WHOLE:
            self.reason = self.reason or "a constant of places is no multiple of the weights' scale"
        return np.clip(whole, -(2**30), 2**30).astype(np.int32)

    def points(self) -> IntArray:
        """Return the breakpoints of the population, (channels or 1, steps) int32."""
        node = self.node
        if not isinstance(node, ann.Relu):
            raise TypeError(f"{node.name!r} is no rectifier")
        if self._enumerated is not None:
            return self._enumerated[None]
        single = len(self.total.terms) == 1 and not self.reason
        source = node if single else node.with_(gain=None)
        step = self.step * self.times
        if single and node.gain is None and node.points is None and node.rounding == "half-even":
            source = node.with_(gain=(step.astype(np.float32) / np.asarray(node.scale)).astype(np.float32))
        if source.gain is not None and source.scale is not None:
            whole = self.total.bias / step
            near = np.abs(whole - np.rint(whole)) <= WHOLE + 1e-6 * np.abs(whole)
            own = np.isclose(step, source.gain.astype(np.float64) * source.scale, rtol=1e-5)
            if not (near & own).all():
                source = node.with_(gain=None)  # the sum is not the one that the source multiplies
        found = breakpoints(source, step, self.total.bias, self.times)
        if node.gain is None:
            self.ties = near_ties(node, step, self.total.bias)
        same = (found == found[:1]).all() and len(found) > 1
        return np.ascontiguousarray(found[:1] if same else found)

    def _common(self, terms: tuple[Term, ...], parts: list[Integers], channels: int) -> Real:
        """Return one step per channel for all terms: that of the only one, or the best that holds all."""
        if not terms:
            return np.ones(channels)
        if len(terms) == 1 and not self.scores:
            if not parts[0].exact.all():
                self.reason = _rounded_weights(parts[0], self.most)
            return parts[0].step
        if self.scores:
            return np.full(channels, self._of_scores(terms, parts))
        if len(terms) == 2 and all(term.added for term in terms):
            return self._of_two_scales(terms)
        shared = self._shared(terms, parts)
        if shared is not None:
            return shared
        steps = np.zeros(channels)
        for term, part in zip(terms, parts, strict=True):
            rows = np.abs(term.weight).reshape(channels, -1).max(axis=1, initial=0)
            finest = rows / (WIDE if term.added else self.most)
            # Integers that are known may be taken several times, by which the others get finer.
            largest = np.abs(part.values).reshape(channels, -1).max(axis=1, initial=1)
            known = part.step / np.maximum(1, self.most // np.maximum(largest, 1))
            steps = np.maximum(steps, np.where(part.exact & (not term.added), known, finest))
        steps = np.where(steps > 0, steps, 1.0)
        off = [_off(term.weight, steps) for term in terms]
        if max(off) > WHOLE:
            self.reason = "currents of different scales are added before they are rounded"
        return steps

    def _shared(self, terms: tuple[Term, ...], parts: list[Integers]) -> Real | None:
        """Return the steps of a term of which all others are multiples already; ``None`` if there is none."""
        limits = [WIDE if term.added else self.most for term in terms]
        rows = [np.abs(term.weight).reshape(len(term.weight), -1).max(axis=1, initial=0) for term in terms]
        for part in parts:
            steps = np.where(part.step > 0, part.step, 1.0)
            widest = zip(rows, limits, strict=True)
            fits = all((row <= most * steps * (1 + WHOLE)).all() for row, most in widest)
            if part.exact.all() and fits and max(_off(term.weight, steps) for term in terms) <= WHOLE:
                return steps
        return None

    def _of_scores(self, terms: tuple[Term, ...], parts: list[Integers]) -> float:
        """Return the one step of all outputs: the weights', or a part of it, by which biases are finer."""
        finest = max(
            float(np.abs(term.weight).max(initial=0)) / (WIDE if term.added else self.most) for term in terms
        )
        used = [part.step[np.abs(part.values).reshape(len(part.step), -1).any(axis=1)] for part in parts]
        steps = np.concatenate(used)
        if not steps.size:
            return 1.0
        step = float(steps[0])
        if not np.allclose(steps, step, rtol=1e-5) or not all(part.exact.all() for part in parts):
            self.reason = "its channels have scales of their own, and the read-out has one"
            return finest
        biases = self.total.bias / step / self.timesteps
        if np.abs(biases - np.rint(biases)).max() <= WHOLE:
            return step
        return step / max(1, int(step / finest * (1 + 1e-9)))

    def _of_two_scales(self, terms: tuple[Term, ...]) -> Real:
        """Choose integer weights for a sum of two activations by trying all pairs of their levels."""
        node, bias = self.node, self.total.bias
        first, second = terms
        uniform = all((term.weight == term.weight[0]).all() for term in terms)
        even = (bias == bias[0]).all() and self.total.place is None
        pooled = any(isinstance(each, snn.SumPool) for term in terms for each in term.chain)
        pairs = math.prod(term.counts.high - term.counts.low + 1 for term in terms)
        even = even and pairs <= MOST_PAIRS and {term.counts.times for term in terms} == {1}
        if (
            not isinstance(node, ann.Relu)
            or not _one_rounding(node)
            or pooled  # sums over windows are no pairs of levels
            or not uniform
            or not even
            or min(first.weight[0], second.weight[0]) <= 0
        ):
            self.reason = "currents of different scales are added before they are rounded"
            largest = np.max([np.abs(term.weight) for term in terms], axis=0)
            return np.asarray(np.where(largest > 0, largest / WIDE, 1.0))
        a, b = (np.arange(term.counts.low, term.counts.high + 1, dtype=np.int64) for term in terms)
        wanted = sum_level(
            node, (float(first.weight[0]), first.counts.zero), (float(second.weight[0]), second.counts.zero),
            (a[:, None], b[None, :]), float(bias[0]),
        ).ravel()  # fmt: skip
        best: tuple[int, tuple[int, int], IntArray] | None = None
        for pair in common_steps(float(first.weight[0]), float(second.weight[0]), WIDE)[:TRIED_PAIRS]:
            sums = (a[:, None] * pair[0] + b[None, :] * pair[1]).ravel()
            points, wrong = _parted(sums, wanted, node.lowest, node.highest)
            if best is None or wrong < best[0]:
                best = (wrong, pair, points)
            if not wrong:
                break
        if best is None:
            raise InternalError(f"{node.name!r}: no pair of integers was tried")
        wrong, self._pair, self._enumerated = best
        if wrong:
            self.reason = f"{wrong} of {wanted.size} pairs of levels are a tie that no integer weights keep"
        return np.full(len(bias), first.weight[0] / self._pair[0])


def _one_rounding(node: ann.Relu) -> bool:
    """Say whether all channels round to the same levels at the same places."""
    return all(values is None or bool((values == values[:1]).all()) for values in (node.scale, node.points))


def _parted(sums: IntArray, wanted: IntArray, lowest: int, highest: int) -> tuple[IntArray, int]:
    """Return the breakpoints of integer sums that give the wanted levels, and for how many they do not."""
    order = np.argsort(sums, kind="stable")
    ordered, levels = sums[order], np.maximum.accumulate(wanted[order])
    points = np.full(highest - lowest, 2**30, np.int64)
    places = np.searchsorted(levels, np.arange(lowest + 1, highest + 1), side="left")
    inside = places < len(ordered)
    points[inside] = ordered[places[inside]]
    given = lowest + np.searchsorted(points, sums, side="right")
    return points.astype(np.int32), int((given != wanted).sum())


def scaled(value: Value, scale: Real, shift: Real) -> Value:
    """Return ``scale x + shift``, per channel."""
    if isinstance(value, Counts):
        return replace(value, unit=value.unit * scale, offset=value.offset * scale + shift)
    terms = tuple(
        replace(
            term,
            weight=term.weight * per_channel(scale, term.weight.ndim),
            hint=None if term.hint is None else np.abs(term.hint * scale),
        )
        for term in value.terms
    )
    place = None if value.place is None else value.place * per_channel(scale, value.place.ndim)
    return Sum(terms, value.bias * scale + shift, place)


def _off(weight: Real, step: Real) -> float:
    quotients = weight / per_channel(step, weight.ndim)
    return float(np.abs(quotients - np.rint(quotients)).max(initial=0))


def _rounded_weights(part: Integers, most: int) -> str:
    count, bits = int((~part.exact).sum()), most.bit_length() + 1
    return f"the weights of {count} of {len(part.exact)} channels are rounded to {bits} bits"
