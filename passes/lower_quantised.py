"""Lower a quantised network to the spiking dialect with its own integers: counts are its levels.

Every rectifier of the source rounds to levels ``y = scale k``, and its population ends with the count ``N =
k``. Signed levels are signed counts, so that silence stands for zero and padding is silent. Weights that
are integer multiples of a scale stay these integers. What lies between two roundings is affine in one
integer sum ``P`` per neuron, ``z = step P + bias``; scales, bias, batch norm and the rounding itself become
the breakpoints of a step function of ``P`` (:mod:`snnc.numerics.levels`), found by evaluating the source's
own arithmetic. There is no threshold whose rounding could matter.

A sum of two activations of different scales gets the pair of integer weights for which, tried on all pairs
of levels, the step function gives the source's level for the most. Where weights are no small multiples of
anything they are rounded, and such a population is named: its counts are an approximation.

Graded neurons and the layerwise schedule then end at exactly these counts, for every T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from snnc.diagnostics import APPROXIMATED_LEVELS, UNSUPPORTED_STRUCTURE, Diagnostic
from snnc.errors import UnsupportedModelError
from snnc.ir import ann, snn
from snnc.ir.channels import per_channel
from snnc.ir.graph import IntArray, Shape
from snnc.ir.neuron import Neuron
from snnc.ir.operations import check_known
from snnc.ir.rewriter import Names
from snnc.numerics.input_grid import InputGrid, input_grid
from snnc.numerics.levels import (
    LARGEST_WEIGHT,
    WHOLE,
    Integers,
    Real,
    as_multiples,
    breakpoints,
    common_steps,
    integer_weights,
    level_of,
    sum_level,
)
from snnc.pipeline import Context
from snnc.simulation.reference import convolve, windows

WIDE = 2**15 - 1
"""Largest weight of a value that is added as it is."""

TRIED_PAIRS = 12
"""Pairs of weights that are tried for a sum of two scales."""

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


@dataclass(frozen=True, slots=True)
class LowerQuantised:
    """Lower a network of which every rectifier rounds to levels."""

    name: ClassVar[str] = "lower-quantised"

    def run(self, graph: ann.AnnGraph, context: Context, /) -> snn.SnnGraph:
        """Return the integer spiking network.

        Raises:
            UnsupportedModelError: naming a rectifier that does not round, or what cannot be lowered so.
        """
        check_known(graph)
        _require_levels(graph)
        lowering = _Lowering(graph, input_grid(graph, context.calibration.rows), context.timesteps)
        result = lowering.result()
        context.findings["levels"] = lowering.levels
        context.findings["approximated"] = lowering.approximated
        if lowering.approximated:
            context.diagnostics.append(_approximations(graph, lowering))
        return result


def problem(graph: ann.AnnGraph) -> Diagnostic | None:
    """Say why a network has no levels of its own to be lowered with; ``None`` if it has."""
    rectifiers = graph.of_type(ann.Relu)
    plain = [node for node in rectifiers if node.scale is None or node.threshold is not None]
    wide = [node for node in rectifiers if node.steps > snn.MOST_BREAKPOINTS]
    if not rectifiers or plain:
        what = (
            f"{len(plain)} of {len(rectifiers)} rectifiers do not round to levels"
            if rectifiers
            else ("no activation rounds to levels")
        )
        node = plain[0] if plain else graph[graph.output]
        cure = "quantise the network, or choose another preset"
        return Diagnostic(UNSUPPORTED_STRUCTURE, f"the source is not quantised: {what}", node.origin, cure)
    if wide:
        reason = f"rounds to {wide[0].steps + 1} levels; {snn.MOST_BREAKPOINTS + 1} are the most"
        return Diagnostic(
            UNSUPPORTED_STRUCTURE, reason, wide[0].origin, "quantise activations to 8 bits or fewer"
        )
    return None


def _require_levels(graph: ann.AnnGraph) -> None:
    found = problem(graph)
    if found is not None:
        raise UnsupportedModelError(f"the network cannot be converted: {found.reason}", (found,))


@dataclass(slots=True)
class _Lowering:
    """One walk over the network."""

    graph: ann.AnnGraph
    grid: InputGrid
    timesteps: int
    nodes: list[snn.SnnNode] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)
    approximated: dict[str, str] = field(default_factory=dict)

    def result(self) -> snn.SnnGraph:
        self.names = Names(node.name for node in self.graph)
        for node in self.graph:
            self.values[node.name] = self.lower(node, [self.values[name] for name in node.inputs])
        name = self.readout(self.graph[self.graph.output])
        made = snn.SnnGraph(
            name=self.graph.name, nodes=tuple(self.nodes), output=name, timesteps=self.timesteps
        )
        needed = made.ancestors([name])
        return made.with_nodes([node for node in self.nodes if node.name in needed])

    names: Names = field(init=False)

    def lower(self, node: ann.AnnNode, inputs: list[Value]) -> Value:
        match node, inputs:
            case ann.Input(), _:
                return self.encode(node)
            case ann.Constant(), _:
                none = np.zeros(node.channels)
                return Sum((), none, node.values.astype(np.float64))
            case ann.Softmax(), [value]:
                return value
            case ann.ChannelAffine(), [value] if self.grid.node and isinstance(
                self.graph[node.inputs[0]], ann.Input
            ):
                return value  # the encoder's own
            case ann.ChannelAffine(), [value]:
                return _scaled(value, node.scale.astype(np.float64), node.shift.astype(np.float64))
            case ann.BatchNormalisation(), [value]:
                gain = node.scale.astype(np.float64) / np.sqrt(
                    node.variance.astype(np.float64) + node.epsilon
                )
                return _scaled(value, gain, node.shift - node.mean.astype(np.float64) * gain)
            case ann.Convolution() | ann.Linear(), [Counts() as counts]:
                return self.weigh(node, counts)
            case ann.Relu(), [value]:
                return self.population(node, value)
            case ann.Add(), _:
                return self.added(node, inputs)
            case ann.AveragePool(), [value]:
                return self.average(node, value)
            case ann.MaxPool(), [Counts() as counts] if (counts.unit > 0).all() and (
                counts.unit == counts.unit[0]
            ).all():
                self.nodes.append(snn.CountMaxPool(window=node.window, **_place(node, counts.name)))
                return replace(counts, name=node.name)
            case ann.Reshape(), [Sum() as total] if len(node.shape) == 1:
                return self.flattened(node, total)
            case ((ann.Reshape() | ann.Pad() | ann.Slice() | ann.Concat()), _) if all(
                isinstance(value, Counts) for value in inputs
            ):
                return self.move(node, [value for value in inputs if isinstance(value, Counts)])
            case _:
                raise _unsupported(
                    node,
                    f"{type(node).__name__} reads a value that is not rounded to levels",
                    "quantise what it reads, or choose another preset",
                )

    def encode(self, node: ann.Input) -> Counts:
        """Give the input the levels that the source rounds it to, or those on which its rows lie."""
        grid = self.grid
        self.nodes.append(
            snn.Encode(
                name=node.name,
                shape=node.shape,
                origin=node.origin,
                scale=grid.scale,
                limit=max(grid.high, -grid.low),
                low=grid.low,
                high=grid.high,
                gain=grid.gain,
                offset=grid.offset,
            )
        )
        unit = np.broadcast_to(grid.unit, node.channels).astype(np.float64) / self.timesteps
        offset = np.broadcast_to(grid.silence, node.channels).astype(np.float64)
        if not grid.exact:
            self.approximated[node.name] = "the source takes any real number, and 12 bits of it are sent"
        return Counts(node.name, unit, offset, grid.low, grid.high, self.timesteps, grid.exact)

    def weigh(self, node: ann.Convolution | ann.Linear, counts: Counts) -> Sum:
        """Fold the units of what is read into the weights, and what silence stands for into the bias."""
        place = _place(node, counts.name)
        scale = None if node.weight_scale is None else node.weight_scale.astype(np.float64)
        weight = as_multiples(node.weight.astype(np.float64), scale)
        one = (counts.unit == counts.unit[0]).all()
        hint = None if scale is None or not one else scale * abs(counts.unit[0])
        if isinstance(node, ann.Linear):
            synapse: snn.Weighted = snn.Linear(weight=np.zeros(0, np.int8), **place)
            term = Term(counts, synapse, weight * counts.unit, hint)
            return Sum((term,), node.bias + weight @ counts.offset)
        groups = node.groups
        spread = np.repeat(counts.unit.reshape(groups, -1), node.channels // groups, axis=0)[:, :, None, None]
        synapse = snn.Convolution(weight=np.zeros(0, np.int8), window=node.window, groups=groups, **place)
        term = Term(counts, synapse, weight * spread, hint)
        bias = node.bias.astype(np.float64)
        if not counts.offset.any():
            return Sum((term,), bias)
        shape = self.graph[node.inputs[0]].shape
        silent = np.broadcast_to(counts.offset[:, None, None], shape)
        given = convolve(silent[None], weight, node.window, groups)[0]
        if not any(node.window.pads):
            return Sum((term,), bias + given[:, 0, 0])
        return Sum((term,), bias, given)

    def added(self, node: ann.Add, inputs: list[Value]) -> Sum:
        parts = [
            self.as_sum(value, self.graph[name]) for value, name in zip(inputs, node.inputs, strict=True)
        ]
        places = [part.place for part in parts if part.place is not None]
        return Sum(
            tuple(term for part in parts for term in part.terms),
            np.sum([part.bias for part in parts], axis=0),
            np.sum(places, axis=0) if places else None,
        )

    def as_sum(self, value: Value, node: ann.AnnNode) -> Sum:
        """Return a value as a sum: spikes pass through one weight per channel."""
        if isinstance(value, Sum):
            return value
        shape = next(each.shape for each in self.nodes if each.name == value.name)
        name = self.names.fresh(f"{value.name}.identity")
        synapse = snn.ChannelWeight(
            name=name, inputs=(value.name,), shape=shape, origin=node.origin, weight=np.zeros(0, np.int16)
        )
        return Sum((Term(value, synapse, value.unit.copy(), value.unit.copy()),), value.offset)

    def average(self, node: ann.AveragePool, value: Value) -> Value:
        area = node.window.area
        padded = any(node.window.pads)
        if isinstance(value, Counts) and not (padded and value.offset.any()):
            self.nodes.append(snn.SumPool(window=node.window, **_place(node, value.name)))
            low, high = min(value.low, 0) * area, max(value.high, 0) * area
            return replace(value, name=node.name, unit=value.unit / area, low=low, high=high)
        total = self.as_sum(value, node)
        if padded and total.bias.any():
            raise _unsupported(
                node, "a sum with a bias is pooled over padding", "quantise it before the pool"
            )
        place = total.place
        if place is not None:
            place = np.asarray(windows(place[None], node.window, 0).mean(axis=(4, 5))[0])
        terms = []
        for term in total.terms:
            pool = snn.SumPool(
                window=node.window,
                name=self.names.fresh(f"{node.name}.pooled"),
                shape=node.shape,
                origin=node.origin,
                inputs=((term.chain or (term.node,))[-1].name,),
            )
            hint = None if term.hint is None else term.hint / area
            terms.append(replace(term, weight=term.weight / area, hint=hint, chain=(*term.chain, pool)))
        return Sum(tuple(terms), total.bias, place)

    def flattened(self, node: ann.Reshape, total: Sum) -> Sum:
        """Return a sum as a vector, row by row."""
        before = self.graph[node.inputs[0]].shape
        repeated = math.prod(before) // before[0]
        terms = []
        for term in total.terms:
            flat = snn.Reshape(
                name=self.names.fresh(f"{node.name}.flat"),
                shape=node.shape,
                origin=node.origin,
                inputs=((term.chain or (term.node,))[-1].name,),
            )
            if repeated > 1:
                raise _unsupported(node, "flattens a sum that is not rounded", "quantise it before")
            terms.append(replace(term, chain=(*term.chain, flat)))
        place = None if total.place is None else total.place.reshape(node.shape)
        return Sum(tuple(terms), total.bias, place)

    def move(self, node: ann.AnnNode, inputs: list[Counts]) -> Counts:
        first, place = inputs[0], _place(node, *(value.name for value in inputs))
        unit = np.concatenate([value.unit for value in inputs])
        offset = np.concatenate([value.offset for value in inputs])
        low, high = min(value.low for value in inputs), max(value.high for value in inputs)
        if any(value.times != first.times for value in inputs) and self.timesteps > 1:
            raise _unsupported(node, "joins the input with spikes", "use T = 1")
        match node:
            case ann.Concat():
                self.nodes.append(snn.Concat(**place))
            case ann.Pad():
                if offset.any():
                    raise _unsupported(
                        node, "pads an input whose zero is not silent", "pad in the convolution"
                    )
                self.nodes.append(snn.Pad(before=node.before, after=node.after, **place))
                unit = np.pad(unit, (node.before[0], node.after[0]), mode="edge")
                offset = np.zeros(len(unit))
            case ann.Slice():
                self.nodes.append(snn.Slice(start=node.start, stop=node.stop, step=node.step, **place))
                chosen = slice(node.start[0], node.stop[0], node.step[0])
                unit, offset = unit[chosen], offset[chosen]
            case _:
                self.nodes.append(snn.Reshape(**place))
                before = self.graph[node.inputs[0]].shape
                unit, offset = (_reshaped(values, before, node) for values in (unit, offset))
        exact = all(value.exact for value in inputs)
        return Counts(node.name, unit, offset, low, high, first.times, exact)

    def population(self, node: ann.Relu, value: Value) -> Counts:
        """Give a rounding rectifier its population."""
        scale = np.asarray(node.scale, np.float64)
        name = node.inputs[0]
        if isinstance(self.graph[name], ann.Input | ann.ChannelAffine) and self.grid.node == node.name:
            return replace(value, exact=self.grid.exact) if isinstance(value, Counts) else _never(node)
        if isinstance(value, Counts) and self.same_levels(node, value):
            return value
        total = self.as_sum(value, self.graph[name])
        self.levels[node.name] = node.steps
        sink = _Sink(self, node, total)
        points = sink.points()
        reason = sink.reason
        if reason:
            self.approximated[node.name] = reason
        ones = np.ones(node.channels, np.int32)
        self.nodes.append(
            snn.IntegrateFire(
                name=node.name,
                inputs=sink.inputs,
                shape=node.shape,
                origin=node.origin,
                threshold=ones,
                bias=0 * ones,
                v_init=0 * ones,
                spike_scale=(scale * self.timesteps).astype(np.float32),
                neuron=Neuron(levels=max(1, -(-node.steps // self.timesteps)), spikes_per_step=None),
                stands_for=node.name,
                breakpoints=points,
                step_values=np.arange(node.lowest, node.highest + 1, dtype=np.int32),
            )
        )
        none = np.zeros(node.channels)
        return Counts(node.name, scale, none, node.lowest, node.highest, zero=node.zero)

    def same_levels(self, node: ann.Relu, value: Counts) -> bool:
        """Say whether rounding changes nothing: the value has these levels, and no others, already."""
        levels = np.arange(value.low, value.high + 1)
        if len(levels) > 2 * snn.MOST_BREAKPOINTS or value.offset.any() or value.times != 1:
            return False
        given = level_of(
            node, np.broadcast_to(levels, (node.channels, len(levels))), value.unit, value.offset
        )
        scale = np.asarray(node.scale, np.float64)
        return bool((given == levels).all() and np.allclose(value.unit, scale, rtol=1e-6))

    def readout(self, node: ann.AnnNode) -> str:
        """Write the accumulated output down."""
        total = self.as_sum(self.values[node.name], node)
        shape: Shape = (math.prod(node.shape),)
        if node.shape != shape:
            flat = ann.Reshape(name=f"{node.name}.flat", inputs=(node.name,), shape=shape, origin=node.origin)
            total = self.flattened(flat, total)
        sink = _Sink(self, node, total, one=True)
        inputs, scale, bias = sink.inputs, float(sink.step[0]), total.bias
        if total.place is not None:
            bias = bias + total.place
        whole = np.rint(bias / scale / self.timesteps)
        if sink.reason:
            self.approximated["read-out"] = sink.reason
        name = self.names.fresh("readout")
        self.nodes.append(
            snn.Readout(
                name=name,
                inputs=inputs,
                shape=shape,
                origin=node.origin,
                bias=np.clip(whole, -(2**30), 2**30).astype(np.int32),
                scale=scale * self.timesteps,
            )
        )
        return name


class _Sink:
    """The integers of what drives a population or the read-out.

    Attributes:
        step: (channels,) real value of one unit of the integer sum.
        reason: why its counts are an approximation; empty where they are the source's levels.
        inputs: the currents, written down.
    """

    def __init__(self, lowering: _Lowering, node: ann.AnnNode, total: Sum, *, one: bool = False) -> None:
        self.lowering, self.node, self.total = lowering, node, total
        self.times = max((term.counts.times for term in total.terms), default=1)
        self.reason = ""
        if len({term.counts.times for term in total.terms}) > 1:
            self.reason = "the input is added to spikes"
        self.pair: tuple[int, int] | None = None
        channels = len(total.bias)
        parts = [self.integers(term) for term in total.terms]
        self.step = self.common(total.terms, parts, channels, one)
        self.inputs = tuple(
            name for place, term in enumerate(total.terms) for name in self.write(place, term)
        )
        if total.place is not None and not one:
            self.inputs += (self.constant(total.place),)

    def integers(self, term: Term) -> Integers:
        return integer_weights(term.weight, term.hint)

    def common(self, terms: tuple[Term, ...], parts: list[Integers], channels: int, one: bool) -> Real:
        """Return one step per channel for all terms: that of the only one, or the best that holds all."""
        if not terms:
            return np.ones(channels)
        if len(terms) == 1 and not one:
            if not parts[0].exact.all():
                self.reason = _rounded_weights(parts[0])
            return parts[0].step
        if one:
            return np.full(channels, self.of_readout(terms, parts))
        if len(terms) == 2 and all(term.added for term in terms):
            return self.of_two_scales(terms)
        steps = np.zeros(channels)
        for term, part in zip(terms, parts, strict=True):
            rows = np.abs(term.weight).reshape(channels, -1).max(axis=1, initial=0)
            finest = rows / (WIDE if term.added else LARGEST_WEIGHT)
            steps = np.maximum(steps, np.where(part.exact & (not term.added), part.step, finest))
        steps = np.where(steps > 0, steps, 1.0)
        off = [_off(term.weight, steps) for term in terms]
        if max(off) > WHOLE:
            self.reason = "currents of different scales are added before they are rounded"
        return steps

    def of_readout(self, terms: tuple[Term, ...], parts: list[Integers]) -> float:
        """Return the one step of all outputs: the weights', or a part of it, by which biases are finer."""
        finest = max(
            float(np.abs(term.weight).max(initial=0)) / (WIDE if term.added else LARGEST_WEIGHT)
            for term in terms
        )
        used = [part.step[np.abs(part.values).reshape(len(part.step), -1).any(axis=1)] for part in parts]
        steps = np.concatenate(used)
        if not steps.size:
            return 1.0
        step = float(steps[0])
        if not np.allclose(steps, step, rtol=1e-5) or not all(part.exact.all() for part in parts):
            self.reason = "its channels have scales of their own, and the read-out has one"
            return finest
        biases = self.total.bias / step / self.lowering.timesteps
        if np.abs(biases - np.rint(biases)).max() <= WHOLE:
            return step
        return step / max(1, int(step / finest * (1 + 1e-9)))

    def of_two_scales(self, terms: tuple[Term, ...]) -> Real:
        """Choose integer weights for a sum of two activations by trying all pairs of their levels."""
        node, bias = self.node, self.total.bias
        first, second = terms
        uniform = all((term.weight == term.weight[0]).all() for term in terms)
        even = (bias == bias[0]).all() and self.total.place is None
        pairs = math.prod(term.counts.high - term.counts.low + 1 for term in terms)
        even = even and pairs <= MOST_PAIRS and {term.counts.times for term in terms} == {1}
        if (
            not isinstance(node, ann.Relu)
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
            raise _unsupported(node, "no integers stand for its two scales", "use one scale for both")
        wrong, self.pair, self.enumerated = best
        if wrong:
            self.reason = f"{wrong} of {wanted.size} pairs of levels are a tie that no integer weights keep"
        return np.full(len(bias), first.weight[0] / self.pair[0])

    def write(self, place: int, term: Term) -> tuple[str, ...]:
        """Write a current down, in as many nodes as its integers need."""
        weight = term.weight / per_channel(self.step, term.weight.ndim)
        whole = np.rint(weight).astype(np.int64)
        if self.pair is not None:
            whole = np.full_like(whole, self.pair[place])
        names = []
        most, kind = (WIDE, np.int16) if term.added else (LARGEST_WEIGHT, np.int8)
        while True:
            now = np.clip(whole, -most, most)
            names.append(self.written(term, now.astype(kind)))
            whole = whole - now
            if not whole.any():
                return tuple(names)

    def written(self, term: Term, weight: NDArray[Any]) -> str:
        """Write one synapse and what is behind it, each under a name of its own."""
        lowering = self.lowering
        present = {node.name: node for node in lowering.nodes}
        last = term.node.with_(weight=weight)
        chain: list[snn.SnnNode] = []
        for node in (last, *term.chain):
            if chain:
                node = node.with_(inputs=(chain[-1].name,))
            known = present.get(node.name)
            if known is not None and not (isinstance(known, snn.Weighted) and _equal(known, node)):
                node = node.with_(name=lowering.names.fresh(f"{node.name}.part"))
                known = None
            if known is None:
                lowering.nodes.append(node)
                present[node.name] = node
            chain.append(node)
        return chain[-1].name

    def constant(self, place: Real) -> str:
        """Write what differs from place to place, per step, in units of the sum."""
        steps = per_channel(self.step, place.ndim)
        each = place / steps / self.lowering.timesteps
        whole = np.rint(each)
        if np.abs(each - whole).max() > WHOLE:
            self.reason = self.reason or "a constant of places is no multiple of the weights' scale"
        name = self.lowering.names.fresh(f"{self.node.name}.border")
        values = np.clip(whole, -(2**30), 2**30).astype(np.int32)
        self.lowering.nodes.append(
            snn.ConstantCurrent(name=name, shape=place.shape, origin=self.node.origin, values=values)
        )
        return name

    def points(self) -> IntArray:
        """Return the breakpoints of the population, (channels or 1, steps) int32."""
        node = self.node
        if not isinstance(node, ann.Relu):
            raise TypeError(f"{node.name!r} is no rectifier")
        if self.pair is not None:
            return self.enumerated[None]
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
        same = (found == found[:1]).all() and len(found) > 1
        return np.ascontiguousarray(found[:1] if same else found)


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


def _scaled(value: Value, scale: Real, shift: Real) -> Value:
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


def _rounded_weights(part: Integers) -> str:
    count = int((~part.exact).sum())
    return f"the weights of {count} of {len(part.exact)} channels are rounded to 8 bits"


def _equal(one: snn.SnnNode, other: snn.SnnNode) -> bool:
    return (
        isinstance(one, snn.Weighted)
        and isinstance(other, snn.Weighted)
        and one.inputs == other.inputs
        and np.array_equal(one.weight, other.weight)
    )


def _reshaped(values: Real, before: Shape, node: ann.AnnNode) -> Real:
    """Carry one value per channel through a reshape."""
    spread = np.broadcast_to(per_channel(values, len(before)), before).reshape(node.shape[0], -1)
    if (spread != spread[:, :1]).any():
        raise _unsupported(
            node, "values of different scales fold back into a map", "use one scale for the activation"
        )
    return np.ascontiguousarray(spread[:, 0])


def _place(node: ann.AnnNode, *inputs: str) -> dict[str, Any]:
    """Return name, inputs, shape and origin of the spiking node that stands for ``node``."""
    return {"name": node.name, "inputs": inputs, "shape": node.shape, "origin": node.origin}


def _never(node: ann.AnnNode) -> Counts:
    raise _unsupported(node, "an input that is rounded is no input", "export the model again")


def _unsupported(node: ann.AnnNode, reason: str, cure: str) -> UnsupportedModelError:
    found = Diagnostic(
        UNSUPPORTED_STRUCTURE, f"{type(node).__name__}: {reason}", node.origin or node.name, cure
    )
    return UnsupportedModelError(f"the network cannot be converted: {found.reason}", (found,))


def _approximations(graph: ann.AnnGraph, lowering: _Lowering) -> Diagnostic:
    """Name what is not exactly the source's."""
    first, reason = next(iter(lowering.approximated.items()))
    others = len(lowering.approximated) - 1
    more = f"; and {others} more, see `passes` in the artefact" if others else ""
    return Diagnostic(
        APPROXIMATED_LEVELS,
        f"the counts are not exactly the source's levels: {reason}{more}",
        graph[first].origin or first if first in {node.name for node in graph} else first,
        "quantise weights and input, too; or convert with --precision float32",
    )
