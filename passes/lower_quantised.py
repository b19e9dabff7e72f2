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
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from snnc.diagnostics import APPROXIMATED_LEVELS, UNSUPPORTED_STRUCTURE, Diagnostic
from snnc.errors import UnsupportedModelError
from snnc.ir import ann, snn
from snnc.ir.batch import rows_of
from snnc.ir.channels import per_channel
from snnc.ir.geometry import ABSENT
from snnc.ir.graph import IntArray, Shape
from snnc.ir.neuron import Neuron
from snnc.ir.operations import check_known
from snnc.ir.rewriter import Names
from snnc.metrics.task import Task
from snnc.numerics.input_grid import InputGrid, input_grid
from snnc.numerics.integer_sums import WIDE, Counts, IntegerSum, Sum, Term, scaled
from snnc.numerics.levels import LARGEST_WEIGHT, MOST_MULTIPLE, Real, as_multiples, level_of
from snnc.pipeline import Context, require
from snnc.simulation.reference import convolve, windows

Value = Counts | Sum


@dataclass(frozen=True, slots=True)
class LowerQuantised:
    """Lower a network of which every rectifier rounds to levels.

    Attributes:
        weight_bits: of weights that are no small multiples of a scale and must be rounded, 8 to 16: with
            fewer, more counts differ from the source's levels, and the network takes half the memory.
    """

    name: ClassVar[str] = "lower-quantised"
    weight_bits: int = 16

    def __post_init__(self) -> None:
        """Refuse weights that nothing computes with."""
        require("weight-bits", self.weight_bits, 8, 16)

    def run(self, graph: ann.AnnGraph, context: Context, /) -> snn.SnnGraph:
        """Return the integer spiking network.

        Raises:
            UnsupportedModelError: naming a rectifier that does not round, or what cannot be lowered so.
        """
        check_known(graph)
        _require_levels(graph)
        rows = context.calibration.rows
        grids = {
            node.name: input_grid(graph, node, np.asarray(rows_of(rows, node.name), np.float32))
            for node in graph.inputs
        }
        lowering = _Lowering(graph, grids, context, 2 ** (self.weight_bits - 1) - 1)
        result = lowering.result()
        context.findings["levels"] = lowering.levels
        context.findings["ties"] = lowering.ties
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
        node = plain[0] if plain else graph[graph.outputs[0]]
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


class _Lowering:
    """One walk over the network."""

    def __init__(
        self, graph: ann.AnnGraph, grids: Mapping[str, InputGrid], context: Context, most: int
    ) -> None:
        self.graph = graph
        self.grids = grids
        self.timesteps = context.timesteps
        self.most = most
        self.task_of = context.task_of
        # The nodes whose part the encoder takes over: what affine maps and rounding stand before it.
        self.encoded = {name for grid in grids.values() for name in grid.nodes}
        self.names = Names(node.name for node in graph)
        self.written: dict[str, snn.SnnNode] = {}
        self.values: dict[str, Value] = {}
        self.levels: dict[str, int] = {}
        self.approximated: dict[str, str] = {}
        self.ties: dict[str, int] = {}

    def result(self) -> snn.SnnGraph:
        for node in self.graph:
            self.values[node.name] = self.lower(node, [self.values[name] for name in node.inputs])
        given = zip(self.graph.output_names, self.graph.outputs, strict=True)
        outputs = tuple(self.readout(name, self.graph[node]) for name, node in given)
        made = snn.SnnGraph(
            name=self.graph.name,
            nodes=tuple(self.written.values()),
            outputs=outputs,
            output_names=self.graph.output_names,
            timesteps=self.timesteps,
        )
        needed = made.ancestors(outputs) | {node.name for node in self.graph.inputs}
        return made.with_nodes([node for node in made if node.name in needed])

    def lower(self, node: ann.AnnNode, inputs: list[Value]) -> Value:
        match node, inputs:
            case ann.Input(), _:
                return self.encode(node)
            case ann.Constant(), _:
                none = np.zeros(node.channels)
                return Sum((), none, node.values.astype(np.float64))
            case ann.Softmax(), [value]:
                return value
            case _, [value] if node.name in self.encoded:
                return value
            case ann.ChannelAffine(), [value]:
                return scaled(value, node.scale.astype(np.float64), node.shift.astype(np.float64))
            case ann.BatchNormalisation(), [value]:
                gain = node.scale.astype(np.float64) / np.sqrt(
                    node.variance.astype(np.float64) + node.epsilon
                )
                return scaled(value, gain, node.shift - node.mean.astype(np.float64) * gain)
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
                self.append(snn.CountMaxPool(window=node.window, **_place(node, counts.name)))
                return replace(counts, name=node.name)
            case ann.Reshape(), [Sum() as total] if len(node.shape) == 1:
                return self.flattened(node, total)
            case ((ann.Reshape() | ann.Pad() | ann.Slice() | ann.Gather() | ann.Concat()), _) if all(
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
        grid = self.grids[node.name]
        self.append(
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
        rounded = [self.graph[name] for name in grid.nodes]
        zero = next((each.zero for each in rounded if isinstance(each, ann.Relu)), 0)
        return Counts(node.name, unit, offset, grid.low, grid.high, self.timesteps, grid.exact, zero)

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
        shape = self.written[value.name].shape
        name = self.names.fresh(f"{value.name}.identity")
        synapse = snn.ChannelWeight(
            name=name, inputs=(value.name,), shape=shape, origin=node.origin, weight=np.zeros(0, np.int16)
        )
        return Sum((Term(value, synapse, value.unit.copy(), value.unit.copy()),), value.offset)

    def average(self, node: ann.AveragePool, value: Value) -> Value:
        area = node.window.area
        padded = any(node.window.pads)
        if isinstance(value, Counts) and not (padded and value.offset.any()):
            self.append(snn.SumPool(window=node.window, **_place(node, value.name)))
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
                self.append(snn.Concat(**place))
            case ann.Pad():
                if offset.any():
                    raise _unsupported(
                        node, "pads an input whose zero is not silent", "pad in the convolution"
                    )
                self.append(snn.Pad(before=node.before, after=node.after, **place))
                unit = np.pad(unit, (node.before[0], node.after[0]), mode="edge")
                offset = np.zeros(len(unit))
            case ann.Slice():
                self.append(snn.Slice(start=node.start, stop=node.stop, step=node.step, **place))
                chosen = slice(node.start[0], node.stop[0], node.step[0])
                unit, offset = unit[chosen], offset[chosen]
            case ann.Gather():
                if offset.any() and (node.index == ABSENT).any():
                    raise _unsupported(
                        node, "pads an input whose zero is not silent", "pad in the convolution"
                    )
                self.append(snn.Gather(index=node.index, **place))
                before = self.graph[node.inputs[0]].shape
                unit, offset = (_picked(values, before, node) for values in (unit, offset))
            case _:
                self.append(snn.Reshape(**place))
                before = self.graph[node.inputs[0]].shape
                unit, offset = (_reshaped(values, before, node) for values in (unit, offset))
        exact = all(value.exact for value in inputs)
        zeros = {value.zero for value in inputs}
        zero = zeros.pop() if len(zeros) == 1 else 0
        return Counts(node.name, unit, offset, low, high, first.times, exact, zero)

    def population(self, node: ann.Relu, value: Value) -> Counts:
        """Give a rounding rectifier its population."""
        scale = np.asarray(node.scale, np.float64)
        name = node.inputs[0]
        if isinstance(value, Counts) and self.same_levels(node, value):
            return value
        total = self.as_sum(value, self.graph[name])
        self.levels[node.name] = node.steps
        integers = IntegerSum(node, total, self.timesteps, most=self.most)
        inputs = self.write(integers)
        points = integers.points()
        if integers.ties:
            self.ties[node.name] = integers.ties
        if integers.reason:
            self.approximated[node.name] = integers.reason
        ones = np.ones(node.channels, np.int32)
        self.append(
            snn.IntegrateFire(
                name=node.name,
                inputs=inputs,
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
                potential_unit=integers.step.astype(np.float32),
                potential_zero=total.bias.astype(np.float32),
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

    def readout(self, name: str, node: ann.AnnNode) -> str:
        """Write the accumulated output down, and return the name of its node."""
        total = self.as_sum(self.values[node.name], node)
        scores = math.prod(node.shape) == node.channels and self.task_of(name) is not Task.REGRESSION
        integers = IntegerSum(node, total, self.timesteps, scores, self.most)
        inputs = self.write(integers)
        step = integers.step * self.timesteps
        scale = float(step.max())
        bias = np.rint(total.bias / step)
        alone = len(self.graph.outputs) == 1
        if integers.reason:
            self.approximated["read-out" if alone else name] = integers.reason
        readout = snn.Readout(
            name=self.names.fresh("readout" if alone else f"{name}.readout"),
            inputs=inputs,
            shape=node.shape,
            origin=node.origin,
            bias=np.clip(bias, -(2**30), 2**30).astype(np.int32),
            scale=scale,
            gain=None if scores else (step / scale).astype(np.float32),
        )
        return self.append(readout)

    def write(self, integers: IntegerSum) -> tuple[str, ...]:
        """Write the currents of a sum down, in as many nodes as their integers need."""
        names: list[str] = []
        for place, term in enumerate(integers.total.terms):
            whole = integers.weights(place)
            wide = term.added or np.abs(whole).max(initial=0) > MOST_MULTIPLE
            most, kind = (WIDE, np.int16) if wide else (LARGEST_WEIGHT, np.int8)
            while True:
                now = np.clip(whole, -most - 1, most)  # all that the type holds
                names.append(self.current(term, np.asarray(now, kind)))
                whole = whole - now
                if not whole.any():
                    break
        values = integers.constant()
        if values is not None:
            name = self.names.fresh(f"{integers.node.name}.border")
            constant = snn.ConstantCurrent(
                name=name, shape=values.shape, origin=integers.node.origin, values=values
            )
            names.append(self.append(constant))
        return tuple(names)

    def current(self, term: Term, weight: IntArray) -> str:
        """Write one synapse and what is behind it, each under a name of its own."""
        chain: list[snn.SnnNode] = []
        for each in (term.node.with_(weight=weight), *term.chain):
            node = each.with_(inputs=(chain[-1].name,)) if chain else each
            known = self.written.get(node.name)
            if known is None or not _equal(known, node):
                if known is not None:
                    node = node.with_(name=self.names.fresh(f"{node.name}.part"))
                self.append(node)
            chain.append(node)
        return chain[-1].name

    def append(self, node: snn.SnnNode) -> str:
        self.written[node.name] = node
        return node.name


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


def _picked(values: Real, before: Shape, node: ann.Gather) -> Real:
    """Carry one value per channel through an index map."""
    spread = np.broadcast_to(per_channel(values, len(before)), before).ravel()
    rows = spread[node.index].reshape(node.shape[0], -1)
    absent = (node.index == ABSENT).reshape(rows.shape)
    low = np.where(absent, np.inf, rows).min(axis=1)
    high = np.where(absent, -np.inf, rows).max(axis=1)
    nothing = absent.all(axis=1)
    if (low != high)[~nothing].any():
        raise _unsupported(
            node, "values of different scales share a channel", "use one scale for the activation"
        )
    return np.where(nothing, values[0], low)


def _place(node: ann.AnnNode, *inputs: str) -> dict[str, Any]:
    """Return name, inputs, shape and origin of the spiking node that stands for ``node``."""
    return {"name": node.name, "inputs": inputs, "shape": node.shape, "origin": node.origin}


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
        "quantise weights and input, too",
    )
