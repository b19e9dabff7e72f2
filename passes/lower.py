"""Turn the analogue network into a spiking one: spikes between layers, currents into populations.

Every rectifier becomes a population, all that is linear between populations becomes synapses, and the
last sum becomes an accumulated read-out. A clipped activation ``a`` in ``[0, theta]`` is carried by
counts, ``a = u N / T`` with ``N`` in ``[0, T M]`` and ``u = theta / M``; the unit ``u`` folds into the
weights that read it. The input is quantised once and presented in every step, so the first layer's
current is constant. The populations are plain integrate-and-fire neurons that start at zero; later
passes give them memory, signs and a better start.

A channel that never fired on the calibration rows is constant: nothing drives it, and its readers
give it no weight, however large the source's is. A weight there says nothing (behind a batch norm without
variance it is hundreds of times larger than all others), and would take the range of integers from those that
matter.

Source: Rueckauer et al., "Conversion of Continuous-Valued Deep Networks to Efficient Event-Driven
Networks for Image Classification", Frontiers in Neuroscience 11 (2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from snnc.diagnostics import DEAD_CHANNELS, UNSUPPORTED_STRUCTURE, Diagnostic
from snnc.errors import InternalError, UnsupportedModelError, UsageError
from snnc.ir import ann, snn
from snnc.ir.batch import rows_of
from snnc.ir.channels import per_channel
from snnc.ir.count_paths import sharing_one_unit
from snnc.ir.geometry import ABSENT, Window
from snnc.ir.graph import FloatArray, IntArray, Shape
from snnc.ir.neuron import Neuron
from snnc.ir.operations import channel_links, check_known, classified
from snnc.ir.rewriter import Names
from snnc.metrics.task import Task
from snnc.numerics.counting import Operand, counted
from snnc.numerics.input_range import InputUnits, encoded, input_affine, input_limit, input_units
from snnc.numerics.requantisation import UnboundedError
from snnc.numerics.splitting import split_weights
from snnc.pipeline import Context
from snnc.simulation.reference import convolve

RECTIFIED = "put `rectify-linear` before `lower`"


@dataclass(frozen=True, slots=True)
class Spikes:
    """A value carried by spikes: ``x = unit N / T + floor - shift``.

    Both shift and floor are zero points: silence stands for ``floor - shift``, and readers fold it into their
    biases. They differ at padding. Padding of a shifted value still means zero, so readers get a correction
    current where their window overlaps it. Padding of a value with a floor means the floor: this needs no
    current, and compensation recovers what it costs.

    Attributes:
        name: the node that gives the spikes.
        spike_scale: (channels,) float32.
        shift: (channels,) float32.
        floor: (channels,) float32.
        most: largest magnitude of the counts N.
    """

    name: str
    spike_scale: FloatArray
    shift: FloatArray
    floor: FloatArray
    most: int

    @property
    def silence(self) -> FloatArray:
        """What silence stands for, (channels,) float32."""
        return self.floor - self.shift


@dataclass(frozen=True, slots=True)
class Current:
    """A value that is a sum of currents, not yet written down.

    Attributes:
        terms: nodes that end in a current, each a chain in topological order.
        bias: (channels,) float32, per step.
    """

    terms: tuple[tuple[snn.SnnNode, ...], ...]
    bias: FloatArray


Value = Spikes | Current


@dataclass(frozen=True, slots=True)
class Lower:
    """Lower a clipped ANN graph to the spiking dialect, still in float32.

    Attributes:
        input_limit: largest magnitude of a quantised input. A smaller one suits chips with short integers,
            and leaves weights in one piece: these chips read no source several times.
        signed: whether there may be neurons that take spikes back, as those of step functions do; other
            passes let all others do so.
    """

    name: ClassVar[str] = "lower"
    input_limit: int = snn.INPUT_LIMIT
    signed: bool = True

    def __post_init__(self) -> None:
        """Refuse limits that the encoder does not know."""
        if not 1 <= self.input_limit <= snn.INPUT_LIMIT:
            raise UsageError(f"input-limit must lie in 1 to {snn.INPUT_LIMIT}, not {self.input_limit}")

    def run(self, graph: ann.AnnGraph, context: Context, /) -> snn.SnnGraph:
        """Return the spiking network."""
        check_known(graph)
        several = len(graph.inputs) > 1
        codes: dict[str, _InputCode] = {}
        for node in graph.inputs:
            rows = np.asarray(rows_of(context.calibration.rows, node.name), np.float32)
            units = input_units(graph, encoded(graph, rows, node), node)
            limit = input_limit(graph, context.timesteps, units.finer, units.largest, node)
            codes[node.name] = _InputCode(units, min(limit, self.input_limit), input_affine(graph, node))
            if not units.common:
                key = f"input-units of {node.name}" if several else "input-units"
                context.findings[key] = {
                    "finer": [int(value) for value in units.finer],
                    "middle": [float(value) for value in units.middle],
                }
        lowering = _Lowering(graph, codes, context, signed=self.signed)
        result = lowering.result()
        split: dict[str, int] = {}
        if self.input_limit == snn.INPUT_LIMIT:  # a chip that asks for less reads no source twice
            result, split = split_weights(result)
        if split:
            context.findings["split"] = split
        if lowering.dead:
            context.findings["dead-channels"] = lowering.dead
            context.diagnostics.append(_dead_channels(graph, lowering.dead))
        return result


@dataclass(frozen=True, slots=True)
class _InputCode:
    """How an input is encoded.

    Attributes:
        units: of its channels.
        limit: largest magnitude.
        affine: the normalisation that the encoder takes in.
    """

    units: InputUnits
    limit: int
    affine: ann.ChannelAffine | None


class _Lowering:
    """One walk over the ANN graph."""

    def __init__(
        self, graph: ann.AnnGraph, codes: Mapping[str, _InputCode], context: Context, *, signed: bool
    ) -> None:
        self.signed = signed
        self.shared = {name for group in sharing_one_unit(graph) if len(group) > 1 for name in group}
        self.graph = graph
        self.timesteps = context.timesteps
        self.codes = codes
        self.task_of = context.task_of
        self.written: dict[str, snn.SnnNode] = {}
        # What an operation becomes bears its name, so no other node may.
        self.names = Names(node.name for node in graph)
        self.values: dict[str, Value] = {}
        self.affines = [code.affine for code in codes.values() if code.affine is not None]
        self.dead: dict[str, int] = {}

    def result(self) -> snn.SnnGraph:
        for node in self.graph:
            self.values[node.name] = self.lower(node, [self.values[name] for name in node.inputs])
        given = zip(self.graph.output_names, self.graph.outputs, strict=True)
        outputs = tuple(self.readout(name, self.graph[node]) for name, node in given)
        return snn.SnnGraph(
            name=self.graph.name,
            nodes=tuple(self.written.values()),
            outputs=outputs,
            output_names=self.graph.output_names,
            timesteps=self.timesteps,
        )

    def readout(self, name: str, node: ann.AnnNode) -> str:
        """Write the read-out of an output down, and return the name of its node.

        Where values are no class scores, which are compared with each other, each channel gets a unit of its
        own.
        """
        current = self.as_current(self.values[node.name], node)
        scores = math.prod(node.shape) == node.channels and self.task_of(name) is not Task.REGRESSION
        alone = len(self.graph.outputs) == 1
        readout = snn.Readout(
            name=self.names.fresh("readout" if alone else f"{name}.readout"),
            inputs=self.emit(current, own=True),
            shape=node.shape,
            origin=node.origin,
            bias=current.bias,
            gain=None if scores else np.ones(node.channels, np.float32),
        )
        return self.append(readout)

    def lower(self, node: ann.AnnNode, inputs: Sequence[Value]) -> Value:
        match node, inputs:
            case ann.Input(), _:
                return self.encode(node)
            case ann.Constant(), _:
                constant = snn.ConstantCurrent(values=node.values, **_place(node))
                return Current(((constant,),), np.zeros(node.channels, np.float32))
            case ann.ChannelAffine(), _ if node in self.affines:
                return inputs[0]
            case ann.Softmax(), [value]:
                return value
            case ann.ChannelAffine(), [Spikes() as spikes]:
                # The same spikes, read in another unit.
                shift = node.scale * spikes.shift - node.shift
                return replace(
                    spikes,
                    spike_scale=spikes.spike_scale * node.scale,
                    shift=shift,
                    floor=spikes.floor * node.scale,
                )
            case ann.Convolution() | ann.Linear(), [Spikes() as spikes]:
                return self.weigh(node, spikes)
            case ann.Relu(), [value]:
                return self.population(node, self.as_current(value, node))
            case ann.Pointwise(), [value]:
                return self.stepped(node, self.as_current(value, node))
            case ann.Levelled(), _:
                return self.counted(node, inputs)
            case ann.Add(), _:
                currents = [
                    self.as_current(value, self.graph[name])
                    for value, name in zip(inputs, node.inputs, strict=True)
                ]
                terms = tuple(term for current in currents for term in current.terms)
                bias = np.stack([current.bias for current in currents]).sum(axis=0, dtype=np.float32)
                return Current(terms, np.asarray(bias))
            case ann.AveragePool(), [value]:
                return self.average(node, value)
            case ann.MaxPool(), [Spikes() as spikes]:
                if (spikes.spike_scale < 0).any():
                    raise _unsupported(
                        node,
                        "a maximum of values whose sign was turned is a minimum of spikes",
                        RECTIFIED,
                    )
                pool = snn.CountMaxPool(window=node.window, **_place(node, spikes.name))
                self.append(pool)
                return replace(spikes, name=node.name)
            case ann.MaxPool(), [Current(terms=(chain,)) as current]:
                pooled = snn.CurrentMaxPool(window=node.window, **_place(node, chain[-1].name))
                return Current(((*chain, pooled),), current.bias)
            case ann.Reshape() | ann.Gather(), [Spikes() as spikes] if not _fits(node, spikes, self.graph):
                before = self.graph[node.inputs[0]]
                return self.moved(node, before, self.as_current(spikes, before))
            case ann.Reshape() | ann.Gather(), [Current() as current]:
                return self.moved(node, self.graph[node.inputs[0]], current)
            case ann.Pad(), [Spikes() as spikes] if spikes.shift.any() and len(node.shape) not in (1, 3):
                before = self.graph[node.inputs[0]]
                return self.moved(_padding_map(node, before.shape), before, self.as_current(spikes, before))
            case ann.Pad(), [Spikes() as spikes] if spikes.shift.any():
                return self.weigh(_padding(node, self.graph[node.inputs[0]].shape), spikes)
            case ann.Reshape() | ann.Pad() | ann.Slice() | ann.Concat() | ann.Gather(), _ if all(
                isinstance(value, Spikes) for value in inputs
            ):
                return self.move(node, [value for value in inputs if isinstance(value, Spikes)])
            case _:
                needed = "fold-batchnorm" if isinstance(node, ann.BatchNormalisation) else "rectify-linear"
                raise _unsupported(
                    node,
                    f"{type(node).__name__} cannot read a sum of currents here",
                    f"put `{needed}` before `lower`",
                )

    def moved(self, node: ann.Reshape | ann.Gather, before: ann.AnnNode, current: Current) -> Current:
        """Return a current in other places; a bias that then differs within a channel is a current, too."""
        index = _index(node, before.shape)
        terms = []
        for number, chain in enumerate(current.terms):
            place = self.part(node, number, chain[-1].name)
            if isinstance(node, ann.Gather):
                terms.append((*chain, snn.Gather(index=node.index, **place)))
            else:
                terms.append((*chain, snn.Reshape(**place)))
        if len(before.shape) == 1 and node.shape == (before.channels, 1, 1):
            return Current(tuple(terms), current.bias)
        spread = np.broadcast_to(per_channel(current.bias, len(before.shape)), before.shape).ravel()
        values = np.where(index == ABSENT, np.float32(0), spread[index])
        bias = values.reshape(node.channels, -1)[:, 0].copy()
        rest = values - per_channel(bias, values.ndim)
        if rest.any():
            name = self.names.fresh(f"{node.name}.bias")
            terms.append((snn.ConstantCurrent(name=name, shape=node.shape, origin=node.origin, values=rest),))
        return Current(tuple(terms), bias)

    def encode(self, node: ann.Input) -> Spikes:
        code = self.codes[node.name]
        units, affine = code.units, code.affine
        scale = float(np.float32(units.largest / code.limit))
        gain = offset = None
        if affine is not None or not units.common:
            gain, offset = units.finer, -units.middle * units.finer
            if affine is not None:
                gain = affine.scale * units.finer
                offset = (affine.shift - units.middle) * units.finer
        self.append(
            snn.Encode(
                name=node.name,
                shape=node.shape,
                origin=node.origin,
                scale=scale,
                limit=code.limit,
                gain=gain,
                offset=offset,
            )
        )
        none = np.zeros(node.channels, np.float32)
        most = code.limit * self.timesteps
        return Spikes(node.name, np.float32(scale) / units.finer, none - units.middle, none, most)

    def weigh(self, node: ann.AnnNode, spikes: Spikes) -> Current:
        """Fold unit, shift and floor of the spikes into weight and bias."""
        place = _place(node, spikes.name)
        match node:
            case ann.Linear():
                weight = node.weight * spikes.spike_scale[None, :]
                synapse: snn.SnnNode = snn.Linear(weight=weight, **place)
                return Current(((synapse,),), node.bias + node.weight @ spikes.silence)
            case ann.Convolution():
                weight = node.weight * _spread(spikes.spike_scale, node)[:, :, None, None]
                synapse = snn.Convolution(weight=weight, window=node.window, groups=node.groups, **place)
                inside, border = self.shifted(node, spikes)
                raised = np.einsum("oikl,oi->o", node.weight, _spread(spikes.floor, node)).astype(np.float32)
                return Current(((synapse,), *border), node.bias - inside + raised)
            case _:
                raise InternalError(f"{node.name!r} has no weights")

    def shifted(
        self, node: ann.Convolution, spikes: Spikes
    ) -> tuple[FloatArray, tuple[tuple[snn.SnnNode, ...], ...]]:
        """Return what the weights make of the spikes' shift: inside, and the difference at the border.

        Padding is zero in model space, but silent neurons stand for ``-shift``: where a window overlaps
        the padding, it must lose less than inside.
        """
        shape = self.graph[node.inputs[0]].shape
        inside = np.einsum("oikl,oi->o", node.weight, _spread(spikes.shift, node)).astype(np.float32)
        if not spikes.shift.any() or not any(node.window.pads):
            return inside, ()
        return inside, (self.border(node, -spikes.shift, shape, node.weight, node.window, node.groups),)

    def border(
        self,
        node: ann.AnnNode,
        constant: FloatArray,
        shape: Shape,
        weight: FloatArray,
        window: Window,
        groups: int,
    ) -> tuple[snn.SnnNode, ...]:
        """Return what a constant value, (channels,), gives less than inside where the window is padded."""
        inside = np.einsum(
            "oikl,oi->o", weight, np.repeat(constant.reshape(groups, -1), len(weight) // groups, axis=0)
        )
        spread = np.broadcast_to(constant[:, None, None], shape).astype(np.float32)
        values = convolve(spread[None], weight, window, groups)[0] - inside[:, None, None]
        name = self.names.fresh(f"{node.name}.border")
        border = values.astype(np.float32)
        return (snn.ConstantCurrent(name=name, shape=node.shape, origin=node.origin, values=border),)

    def as_current(self, value: Value, node: ann.AnnNode) -> Current:
        """Return a current of this value: spikes pass through one weight per channel."""
        if isinstance(value, Current):
            return value
        name = self.names.fresh(f"{value.name}.identity")
        synapse = snn.ChannelWeight(
            name=name,
            inputs=(value.name,),
            shape=self.node(value.name).shape,
            origin=node.origin,
            weight=value.spike_scale,
        )
        return Current(((synapse,),), value.silence)

    def average(self, node: ann.AveragePool, value: Value) -> Value:
        area = np.float32(node.window.area)
        padded = any(node.window.pads)
        if isinstance(value, Spikes) and not (padded and value.shift.any()):
            self.append(snn.SumPool(window=node.window, **_place(node, value.name)))
            most = value.most * node.window.area
            return replace(value, name=node.name, spike_scale=value.spike_scale / area, most=most)
        value = self.as_current(value, node)  # where a shift is padded, the border loses less of it
        terms = []
        for index, chain in enumerate(value.terms):
            first = chain[0]
            if isinstance(first, snn.ConstantCurrent):
                scaled: snn.SnnNode = first.with_(values=first.values / area)
            elif isinstance(first, snn.Weighted):
                scaled = first.with_(weight=first.weight / area)
            else:
                raise _unsupported(node, "the pooled sum holds more than weighted spikes", RECTIFIED)
            pool = snn.SumPool(window=node.window, **self.part(node, index, chain[-1].name))
            terms.append((scaled, *chain[1:], pool))
        if padded and value.bias.any():
            shape = self.graph[node.inputs[0]].shape
            kernel = np.full((node.channels, 1, *node.window.kernel), 1 / area, np.float32)
            terms.append(self.border(node, value.bias, shape, kernel, node.window, node.channels))
        return Current(tuple(terms), value.bias)

    def move(self, node: ann.AnnNode, inputs: Sequence[Spikes]) -> Spikes:
        """Lower an operation that only moves values."""
        scales = ("spike_scale", "shift", "floor")
        vectors = {key: np.concatenate([getattr(value, key) for value in inputs]) for key in scales}
        place = _place(node, *(value.name for value in inputs))
        match node:
            case ann.Concat():
                self.append(snn.Concat(**place))
            case ann.Pad():
                self.append(snn.Pad(before=node.before, after=node.after, **place))
                more = (node.before[0], node.after[0])
                # Weights that read nothing must not make those coarse that share their scale.
                least = np.abs(inputs[0].spike_scale).min()
                zero = {"spike_scale": least, "shift": 0, "floor": 0}
                vectors = {k: np.pad(v, more, constant_values=zero[k]) for k, v in vectors.items()}
            case ann.Slice():
                self.append(snn.Slice(start=node.start, stop=node.stop, step=node.step, **place))
                chosen = slice(node.start[0], node.stop[0], node.step[0])
                vectors = {key: values[chosen] for key, values in vectors.items()}
            case ann.Reshape() | ann.Gather():
                if isinstance(node, ann.Gather):
                    self.append(snn.Gather(index=node.index, **place))
                else:
                    self.append(snn.Reshape(**place))
                before = self.graph[node.inputs[0]].shape
                least = np.abs(inputs[0].spike_scale).min()
                zero = {"spike_scale": least, "shift": 0, "floor": 0}
                vectors = {
                    key: _carried(values, before, node, zero[key])[0] for key, values in vectors.items()
                }
            case _:
                raise InternalError(f"{node.name!r} moves nothing")
        return Spikes(node.name, **vectors, most=max(value.most for value in inputs))

    def population(self, node: ann.Relu, current: Current) -> Spikes:
        threshold = node.threshold if node.threshold is not None else node.ceiling
        if threshold is None:
            raise UsageError(f"{node.name!r} has no threshold: put `clip-activations` before `lower`")
        none = np.zeros(node.channels, np.float32)
        shift = none if node.shift is None else node.shift
        floor = none if node.floor is None else node.floor
        threshold = threshold - floor
        dead = threshold <= 0
        if dead.any():
            self.dead[node.name] = int(dead.sum())
            current = self.silence(current, dead, floor - shift)
            # Any positive threshold will do; the layer's largest gives the tamest integers.
            threshold = np.where(dead, threshold.max() if threshold.max() > 0 else 1, threshold)
        unit = (threshold / np.float32(node.levels)).astype(np.float32)
        self.append(
            snn.IntegrateFire(
                name=node.name,
                inputs=self.emit(current),
                shape=node.shape,
                origin=node.origin,
                threshold=unit,
                bias=current.bias + shift - floor,
                v_init=np.zeros_like(unit),
                spike_scale=unit,
                floor=floor if floor.any() else None,
                neuron=Neuron(levels=node.levels, count_memory=False),
                stands_for=node.name,
            )
        )
        most = node.levels * self.timesteps
        return Spikes(node.name, np.where(dead, np.float32(0), unit), shift, floor, most)

    def counted(self, node: ann.Levelled, inputs: Sequence[Value]) -> Spikes:
        """Write a function of spike counts down."""
        if node.step is None and not isinstance(node, ann.Maximum):
            raise UsageError(f"{node.name!r} has no levels: put `clip-activations` before `lower`")
        operands = []
        for name, value in zip(node.inputs, inputs, strict=True):
            apart = not isinstance(node, ann.Product)
            if not isinstance(value, Spikes) or value.silence.any() or (apart and np.ptp(value.spike_scale)):
                what = (
                    f"it reads {name!r}, which is not carried by spikes of one unit that are silent at zero"
                )
                raise _unsupported(node, what, RECTIFIED)
            step = value.spike_scale.astype(np.float64) / self.timesteps
            if step.min() < 0 and isinstance(node, ann.InnerSoftmax | ann.Maximum):
                raise _unsupported(node, f"it reads {name!r}, whose sign was turned", RECTIFIED)
            operands.append(Operand(value.name, self.graph[name].shape, step, value.most))
        try:
            made = counted(node, operands, exact_step=node.name in self.shared)
        except UnboundedError as error:
            cure = "convert with fewer levels or steps, or leave it to the host"
            raise _unsupported(node, str(error), cure) from error
        self.append(made.node)
        none = np.zeros(node.channels, np.float32)
        unit = (made.step * self.timesteps).astype(np.float32)
        return Spikes(node.name, unit, none, none, made.most)

    def stepped(self, node: ann.Pointwise, current: Current) -> Spikes:
        """Write the population of a function down: a step function of all that arrives in T steps."""
        if node.step is None or node.breakpoints is None or node.step_values is None:
            raise UsageError(f"{node.name!r} has no levels: put `clip-activations` before `lower`")
        if not self.signed:
            raise _unsupported(
                node,
                "its count may fall while its input arrives, and these neurons take nothing back",
                "choose another preset, whose neurons send signed spikes",
            )
        T = self.timesteps
        unit = (node.step * np.float32(T)).astype(np.float32)
        none = np.zeros(node.channels, np.float32)
        self.append(
            snn.IntegrateFire(
                name=node.name,
                inputs=self.emit(current),
                shape=node.shape,
                origin=node.origin,
                threshold=np.ones_like(unit),
                bias=current.bias,
                v_init=none,
                spike_scale=unit,
                neuron=Neuron(levels=node.levels),
                stands_for=node.name,
                breakpoints=(node.breakpoints * np.float32(T)).astype(np.float32),
                step_values=node.step_values,
                potential_unit=np.full_like(unit, 1 / T),
                potential_zero=none,
            )
        )
        most = max(-node.lowest, node.highest)
        return Spikes(node.name, unit, none, none, most)

    def silence(self, current: Current, dead: np.ndarray, value: FloatArray) -> Current:
        """Fold channels that are never active to the constant that their silence stands for."""
        if any(chain[0].name in self.written for chain in current.terms):
            return current  # other populations read this current
        terms = []
        for chain in current.terms:
            first = chain[0]
            mute = ~_read_by(chain, ~dead)
            if isinstance(first, snn.ConstantCurrent):
                mask = per_channel(~mute, first.values.ndim)
                first = first.with_(values=np.where(mask, first.values, np.float32(0)))
            elif isinstance(first, snn.Weighted):
                mask = per_channel(~mute, first.weight.ndim)
                first = first.with_(weight=np.where(mask, first.weight, np.float32(0)))
            terms.append((first, *chain[1:]))
        return Current(tuple(terms), np.where(dead, value, current.bias))

    def emit(self, current: Current, *, own: bool = False) -> tuple[str, ...]:
        """Write the terms of a current down, and return the names of their last nodes.

        A node that stands there already is read once more; where it is not the same, as where a mean has
        changed its weights, or where the reader must have its ``own``, it gets another name.
        """
        names = []
        for chain in current.terms:
            before: str | None = None  # of the node that was renamed
            for node in chain:
                if before is None and self.written.get(node.name) is node and not own:
                    continue
                written = node if before is None else node.with_(inputs=(before,))
                if node.name in self.written:
                    written = written.with_(name=self.names.fresh(node.name))
                before = None if written.name == node.name else written.name
                self.append(written)
            names.append(before or chain[-1].name)
        return tuple(names)

    def append(self, node: snn.SnnNode) -> str:
        self.written[node.name] = node
        return node.name

    def node(self, name: str) -> snn.SnnNode:
        return self.written[name]

    def part(self, node: ann.AnnNode, index: int, read: str) -> dict[str, Any]:
        """Return name, input, shape and origin of one of the nodes that ``node`` becomes."""
        place = _place(node, read)
        return place if index == 0 else {**place, "name": self.names.fresh(f"{node.name}.{index}")}


def _index(node: ann.Reshape | ann.Gather, before: Shape) -> IntArray:
    """Return where each value of a node stands in what it reads."""
    return node.index if isinstance(node, ann.Gather) else np.arange(math.prod(before)).reshape(node.shape)


def _carried(
    values: FloatArray, before: Shape, node: ann.Reshape | ann.Gather, zero: float
) -> tuple[FloatArray, bool]:
    """Carry one number per channel through a move.

    Args:
        values: (channels,) of what is read.
        before: its shape.
        node: the move.
        zero: the number of a channel that holds nothing but zeros.

    Returns:
        The first number of each new channel, (channels,), and whether all its others are the same.
    """
    index = _index(node, before).reshape(node.channels, -1)
    spread = np.broadcast_to(per_channel(values, len(before)), before).ravel()
    rows = np.where(index == ABSENT, -np.inf, spread[index])
    first = rows.max(axis=1)
    same = bool(((rows == first[:, None]) | (rows == -np.inf)).all())
    return np.where(first == -np.inf, zero, first).astype(np.float32), same


def _fits(node: ann.Reshape | ann.Gather, spikes: Spikes, graph: ann.AnnGraph) -> bool:
    """Whether spikes can be moved as they are: every new channel has one unit, and its zeros are silent."""
    before = graph[node.inputs[0]].shape
    if isinstance(node, ann.Gather) and (node.index == ABSENT).any() and spikes.silence.any():
        return False
    return all(
        _carried(values, before, node, 0)[1] for values in (spikes.spike_scale, spikes.shift, spikes.floor)
    )


def _read_by(chain: tuple[snn.SnnNode, ...], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which channels of the first node of a chain reach channels that are wanted of its last."""
    for node, before in zip(reversed(chain[1:]), reversed(chain[:-1]), strict=True):
        links = channel_links(classified(node), before.shape)
        if links is not None:
            outputs, inputs = links
            reached = np.zeros(before.channels, np.bool_)
            reached[inputs[wanted[outputs]]] = True
            wanted = reached
    return wanted


def _padding(node: ann.Pad, shape: Shape) -> ann.AnnNode:
    """Return a padding as weights that copy every value: where silence is not zero, spikes cannot pad it."""
    copied = np.pad(np.eye(shape[0], dtype=np.float32), ((node.before[0], node.after[0]), (0, 0)))
    bias = np.zeros(len(copied), np.float32)
    place = _place(node, *node.inputs)
    if len(shape) == 1:
        return ann.Linear(weight=copied, bias=bias, **place)
    pads = (node.before[1], node.before[2], node.after[1], node.after[2])
    if len(copied) == shape[0]:
        ones = np.ones((shape[0], 1, 1, 1), np.float32)
        return ann.Convolution(
            weight=ones, bias=bias, window=Window((1, 1), pads=pads), groups=shape[0], **place
        )
    return ann.Convolution(
        weight=copied[:, :, None, None], bias=bias, window=Window((1, 1), pads=pads), **place
    )


def _padding_map(node: ann.Pad, shape: Shape) -> ann.Gather:
    """Return a padding of what is neither a vector nor an image as an index map."""
    sides = tuple(zip(node.before, node.after, strict=True))
    index = np.pad(np.arange(math.prod(shape), dtype=np.int32).reshape(shape), sides, constant_values=ABSENT)
    return ann.Gather(index=index, **_place(node, *node.inputs))


def _spread(values: FloatArray, node: ann.Convolution) -> FloatArray:
    """Spread one value per input channel over the weights of a convolution, (outputs, channels a group)."""
    return np.repeat(values.reshape(node.groups, -1), node.channels // node.groups, axis=0)


def _place(node: ann.AnnNode, *inputs: str) -> dict[str, Any]:
    """Return name, inputs, shape and origin of the spiking node that stands for ``node``."""
    return {"name": node.name, "inputs": inputs, "shape": node.shape, "origin": node.origin}


def _dead_channels(graph: ann.AnnGraph, dead: dict[str, int]) -> Diagnostic:
    """Name the layers with channels that never fired."""
    worst = max(dead, key=lambda name: dead[name] / graph[name].channels)
    node = graph[worst]
    others = f" (and {sum(dead.values()) - dead[worst]} in other layers)" if len(dead) > 1 else ""
    return Diagnostic(
        DEAD_CHANNELS,
        f"{dead[worst]} of {node.channels} channels never fired on the calibration rows{others}; they are "
        "constant in the spiking network",
        node.origin or node.name,
        "give calibration rows of all kinds that the network will receive; channels that fire on none can be "
        "pruned",
    )


def _unsupported(node: ann.AnnNode, reason: str, cure: str) -> UnsupportedModelError:
    found = Diagnostic(
        UNSUPPORTED_STRUCTURE, f"{type(node).__name__}: {reason}", node.origin or node.name, cure
    )
    return UnsupportedModelError(f"the network cannot be converted: {found.reason}", (found,))
