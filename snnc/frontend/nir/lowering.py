"""A NIR graph as a spiking network in float32, in which each neuron does what its exporter's does.

Currents are linear in spikes: factors of neurons (``dt / tau``, a resistance, ``w_in``) and of pooling are
folded into the weights before them, biases into the populations that they reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.errors import UnsupportedModelError
from snnc.frontend.nir.conventions import Convention
from snnc.frontend.nir.file import NirGraph, NirNode
from snnc.frontend.nir.neurons import SEVERAL, Cell, cell_of, per_channel_of
from snnc.ir.geometry import Window
from snnc.ir.graph import Shape
from snnc.ir.neuron import Neuron
from snnc.ir.snn import (
    MOST_DELAY,
    ChannelWeight,
    Convolution,
    Delay,
    Encode,
    IntegrateFire,
    Linear,
    Presented,
    Readout,
    Reshape,
    SnnGraph,
    SnnNode,
    SumPool,
)

Numbers = NDArray[np.float64]

WHOLE_STEPS = 1e-3
"""How far a delay may lie from a whole number of steps: files hold it in float32."""


@dataclass(frozen=True, slots=True)
class Term:
    """What one source contributes to a value: its spikes, through moves and at most one weight.

    Attributes:
        source: the node whose spikes they are.
        steps: in their order: a window that sums, a shape, or a weight.
        factor: (channels,) of the value, what it is multiplied by.
        shape: of the value.
        delay: how many steps ago they were sent.
    """

    source: str
    steps: tuple[Window | Shape | _Weight, ...]
    factor: Numbers
    shape: Shape
    delay: int = 0

    @property
    def weighted(self) -> bool:
        """Whether it is a current."""
        return any(isinstance(step, _Weight) for step in self.steps)


@dataclass(frozen=True, slots=True)
class _Weight:
    """A weight: (outputs, inputs), or (outputs, inputs / groups, height, width) with its window."""

    values: Numbers
    window: Window | None = None
    groups: int = 1


@dataclass(frozen=True, slots=True)
class _Value:
    """A sum of terms and a bias for each channel."""

    terms: tuple[Term, ...]
    bias: Numbers
    shape: Shape


def lowered(graph: NirGraph, convention: Convention, timesteps: int, scale: float = 1.0) -> SnnGraph:
    """Return a network that takes one frame a step.

    Args:
        graph: as read.
        convention: how its neurons run.
        timesteps: T, for how many steps it is run by default.
        scale: real value of one unit of the quantised input; 1 keeps integers as they are.

    Returns:
        A network in float32: its output is the sum of the last spikes over all steps, or the last potential
        where it ends with a leaky integrator.

    Raises:
        UnsupportedModelError: it has another form than the spiking dialect can say, naming node and reason.
        UsageError: what a spike does to the potential is left open.
    """
    late: Mapping[str, _Value] = {}
    if graph.late:  # what is sent does not depend on what is read late, so a walk without it tells
        walk = _Lowering(graph, convention, timesteps, scale, late)
        walk.read()
        late = walk.values
    return _Lowering(graph, convention, timesteps, scale, late).run()


class _Lowering:
    def __init__(
        self,
        graph: NirGraph,
        convention: Convention,
        timesteps: int,
        scale: float,
        late: Mapping[str, _Value],
    ) -> None:
        self._graph, self._convention = graph, convention
        self._timesteps, self._scale = timesteps, scale
        self._late = late
        self._nodes: list[SnnNode] = []
        self.values: dict[str, _Value] = {}

    def run(self) -> SnnGraph:
        end = self.read()
        made = SnnGraph(
            name=self._graph.path.stem,
            timesteps=self._timesteps,
            outputs=(end,),
            output_names=(end,),
            nodes=tuple(self._nodes),
        )
        made.verify()
        return made

    def read(self) -> str:
        """Read all nodes; return the name of the output."""
        graph = self._graph
        outer = {name: node for name, node in graph.nodes.items() if not graph.inputs[name]}
        if [node.kind for node in outer.values()] != ["Input"]:
            raise UnsupportedModelError(
                f"{graph.path}: {', '.join(map(repr, outer))} read nothing; a network with one input is read"
            )
        read = {name for names in (*graph.inputs.values(), *graph.late.values()) for name in names}
        ends = [name for name in graph.nodes if name not in read]
        if len(ends) != 1 or graph.nodes[ends[0]].kind != "Output":
            raise UnsupportedModelError(
                f"{graph.path}: nothing reads {', '.join(map(repr, ends))}; a network with one output is read"
            )
        for name, node in graph.nodes.items():
            self.values[name] = self._input(node) if name in outer else self._read(node, name == ends[0])
        return ends[0]

    def _input(self, node: NirNode) -> _Value:
        shape: Shape = tuple(np.atleast_1d(node.values["shape"]).astype(int).tolist())
        if len(shape) not in (1, 2, 3) or min(shape) < 1:
            raise self._unlike(node, f"its shape is {shape}; give (features,) to (channels, height, width)")
        self._nodes.append(
            Encode(name=node.name, shape=shape, scale=self._scale, presented=Presented.SEQUENCE)
        )
        term = Term(node.name, (), np.full(shape[0], self._scale), shape)
        return _laid_out(_Value((term,), np.zeros(shape[0]), shape))

    def _read(self, node: NirNode, is_last: bool) -> _Value:
        parts = [self.values[name] for name in self._graph.inputs[node.name]]
        late = self._graph.late.get(node.name, ())
        parts += [_late(self._late[name]) for name in late if name in self._late]
        if len({part.shape for part in parts}) > 1:
            raise self._unlike(node, f"it adds values of {', '.join(str(part.shape) for part in parts)}")
        terms = tuple(term for part in parts for term in part.terms)
        value = _Value(terms, sum((part.bias for part in parts), np.zeros(parts[0].shape[0])), parts[0].shape)
        match node.kind:
            case "Output":
                if is_last and not self._ended(value):
                    self._readout(node.name, value, None)
                return value
            case "Input":
                return value
            case "Affine" | "Linear":
                return self._dense(node, value)
            case "Conv1d" | "Conv2d":
                return self._convolved(node, value)
            case "SumPool2d" | "AvgPool2d":
                return self._pooled(node, value)
            case "Flatten":
                return self._flat(node, value)
            case "Scale":
                factor = self._per_channel(node, "scale", value.shape)
                terms = tuple(replace(term, factor=term.factor * factor) for term in value.terms)
                return replace(value, terms=terms, bias=value.bias * factor)
            case "Delay":
                return self._delayed(node, value)
            case _:
                return self._neurons(node, value)

    def _delayed(self, node: NirNode, value: _Value) -> _Value:
        """Delay spikes: what weights them does not change in time."""
        delays = node.array("delay") / self._convention.dt
        steps = int(np.rint(delays.flat[0]))
        if np.any(np.abs(delays - steps) > WHOLE_STEPS) or not 0 <= steps <= MOST_DELAY:
            raise self._unlike(
                node,
                f"its delays are {delays.min():g} to {delays.max():g} steps of {self._convention.dt:g}; one "
                f"whole number for all of it, up to {MOST_DELAY}, is read",
            )
        if steps and value.bias.any():
            raise self._unlike(node, "it delays a bias: put it in front of the layer with the bias")
        return replace(value, terms=tuple(replace(t, delay=t.delay + steps) for t in value.terms))

    def _neurons(self, node: NirNode, value: _Value) -> _Value:
        recurrent = node.name in self._graph.late
        cell = cell_of(node, self._convention, value.shape, self._graph.path, recurrent=recurrent)
        terms = tuple(replace(term, factor=term.factor * cell.gain) for term in value.terms)
        value = replace(value, terms=terms, bias=value.bias * cell.gain + cell.bias)
        if cell.threshold is None:
            graph = self._graph
            both = (*graph.inputs.items(), *graph.late.items())
            readers = [name for name, inputs in both if node.name in inputs]
            if [self._graph.nodes[name].kind for name in readers] != ["Output"]:
                raise self._unlike(node, "a leaky integrator is read only in front of the output")
            self._readout(readers[0], value, cell)
            return value
        if cell.synapse_decay is not None and value.bias.any() and np.any(value.bias != cell.bias):
            raise self._unlike(node, "a bias before a synaptic filter is not read: leave it out")
        inputs = self._currents(node.name, value)
        channels = value.shape[0]
        self._nodes.append(
            IntegrateFire(
                name=node.name,
                inputs=inputs,
                shape=value.shape,
                threshold=cell.threshold,
                bias=value.bias.astype(np.float32),
                v_init=np.zeros(channels, np.float32),
                spike_scale=np.ones(channels, np.float32),
                neuron=Neuron(spikes_per_step=SEVERAL if self._convention.several else 1, count_memory=False),
                decay=cell.decay,
                synapse_decay=cell.synapse_decay,
                reset_to=cell.reset_to,
                reset_by=cell.reset_by,
                refractory=cell.refractory,
                origin=f"{node.kind} {node.name}",
            )
        )
        term = Term(node.name, (), np.ones(channels), value.shape)
        return _Value((term,), np.zeros(channels), value.shape)

    def _ended(self, value: _Value) -> bool:
        """Whether a leaky integrator has given the output already."""
        return bool(self._nodes) and isinstance(self._nodes[-1], Readout)

    def _readout(self, name: str, value: _Value, cell: Cell | None) -> None:
        inputs = self._currents(name, value)
        leak: dict[str, Any] = {} if cell is None else {"decay": cell.decay}
        self._nodes.append(
            Readout(name=name, inputs=inputs, shape=value.shape, bias=value.bias.astype(np.float32), **leak)
        )

    def _currents(self, reader: str, value: _Value) -> tuple[str, ...]:
        """Emit what the terms of a value say, and return the names of the currents."""
        found = []
        for number, term in enumerate(value.terms):
            found.append(self._current(f"{reader}.{number}", term))
        return tuple(found)

    def _current(self, name: str, term: Term) -> str:
        steps, factor = list(term.steps), term.factor
        at = next((k for k, step in enumerate(steps) if isinstance(step, _Weight)), None)
        if at is None:
            steps.append(_Weight(factor))
        else:
            weight = steps[at]
            if not isinstance(weight, _Weight):  # which the search above excludes
                raise TypeError(weight)
            outputs = len(weight.values)
            if len(factor) != outputs:  # what was reshaped behind the weight has other channels
                spread = factor.reshape(outputs, -1)
                if np.any(spread != spread[:, :1]):
                    raise UnsupportedModelError(
                        f"{self._graph.path}: what {name!r} reads is multiplied by other factors within a "
                        "channel: give one for each channel"
                    )
                factor = spread[:, 0]
            scaled = weight.values * factor.reshape(-1, *(1,) * (weight.values.ndim - 1))
            steps[at] = replace(weight, values=scaled)
        last, shape = term.source, self._sent(term.source)
        if term.delay:
            last = f"{term.source}.{term.delay}.before"
            if last not in {node.name for node in self._nodes}:
                self._nodes.append(Delay(name=last, shape=shape, source=term.source, steps=term.delay))
        for number, step in enumerate(steps):
            called = f"{name}.{number}"
            made = _emitted(called, step, last, shape)
            self._nodes.append(made)
            last, shape = called, made.shape
        return last

    def _sent(self, source: str) -> Shape:
        """Return the shape of what a node sends."""
        known = next((node.shape for node in self._nodes if node.name == source), None)
        return self._late[source].shape if known is None else known

    def _dense(self, node: NirNode, value: _Value) -> _Value:
        weight = node.array("weight")
        if weight.ndim != 2 or value.shape != weight.shape[1:]:
            raise self._unlike(node, f"its weight {weight.shape} does not fit what it reads, {value.shape}")
        bias = node.array("bias") if node.kind == "Affine" else np.zeros(len(weight))
        return self._weighted(node, value, _Weight(weight), bias, (len(weight),))

    def _convolved(self, node: NirNode, value: _Value) -> _Value:
        weight, flat = node.array("weight"), node.kind == "Conv1d"
        if flat and weight.ndim == 3:
            weight = weight[:, :, None, :]
        groups = int(node.values["groups"])
        shape = value.shape
        if weight.ndim != 4 or len(shape) != 3 or shape[0] != weight.shape[1] * groups:
            raise self._unlike(node, f"its weight {weight.shape} does not fit what it reads, {shape}")
        kernel = (weight.shape[2], weight.shape[3])
        strides, dilations = ((1, n[1]) if flat else n for n in (node.pair("stride"), node.pair("dilation")))
        window = Window(kernel, strides, _pads(node, kernel, dilations, flat=flat), dilations)
        size = window.output_size(*shape[1:])
        bias = np.broadcast_to(node.array("bias"), len(weight)).astype(np.float64)
        return self._weighted(node, value, _Weight(weight, window, groups), bias, (len(weight), *size))

    def _weighted(self, node: NirNode, value: _Value, weight: _Weight, bias: Numbers, shape: Shape) -> _Value:
        """Apply a weight to spikes; factors of its inputs become part of it."""
        if any(term.weighted for term in value.terms) or value.bias.any():
            raise self._unlike(
                node, "it reads a current: join two layers without neurons between them to one"
            )
        terms = []
        for term in value.terms:
            factor = term.factor
            if weight.groups > 1:
                per_group = factor.reshape(weight.groups, -1).repeat(len(weight.values) // weight.groups, 0)
                values = weight.values * per_group[:, :, None, None]
            else:
                values = weight.values * factor.reshape(1, -1, *(1,) * (weight.values.ndim - 2))
            steps = (*term.steps, replace(weight, values=values))
            terms.append(replace(term, steps=steps, factor=np.ones(shape[0]), shape=shape))
        return _Value(tuple(terms), bias, shape)

    def _pooled(self, node: NirNode, value: _Value) -> _Value:
        if len(value.shape) != 3:
            raise self._unlike(node, f"it pools {value.shape}, which is no (channels, height, width)")
        kernel, pad = node.pair("kernel_size"), node.pair("padding")
        if any(pad) and value.bias.any():
            raise self._unlike(node, "it pads a current with a bias: pool behind the neurons")
        window = Window(kernel, node.pair("stride"), (*pad, *pad))
        shape = (value.shape[0], *window.output_size(*value.shape[1:]))
        share = 1 / window.area if node.kind == "AvgPool2d" else 1.0
        terms = tuple(
            replace(term, steps=(*term.steps, window), factor=term.factor * share, shape=shape)
            for term in value.terms
        )
        return _Value(terms, value.bias * window.area * share, shape)

    def _flat(self, node: NirNode, value: _Value) -> _Value:
        start, end = int(node.values["start_dim"]), int(node.values["end_dim"])
        axes = len(value.shape)
        if start != 0 or end not in (-1, axes - 1):
            raise self._unlike(node, f"it joins axes {start} to {end}; all of them from 0 on are read")
        each = int(np.prod(value.shape[1:]))
        shape = (value.shape[0] * each,)
        terms = tuple(
            replace(term, steps=(*term.steps, shape), factor=term.factor.repeat(each), shape=shape)
            for term in value.terms
        )
        return _Value(terms, value.bias.repeat(each), shape)

    def _per_channel(self, node: NirNode, name: str, shape: Shape) -> Numbers:
        return per_channel_of(node, name, shape, self._graph.path)

    def _unlike(self, node: NirNode, reason: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"{self._graph.path}: the {node.kind} {node.name!r}: {reason}")


def _late(value: _Value) -> _Value:
    """Return what comes of a recurrent connection: the step before, unless a delay on it says which."""
    return replace(value, terms=tuple(replace(term, delay=term.delay or 1) for term in value.terms))


def _laid_out(value: _Value) -> _Value:
    """Return a signal, (channels, length), as an image of height 1."""
    if len(value.shape) != 2:
        return value
    shape = (value.shape[0], 1, value.shape[1])
    terms = tuple(replace(term, steps=(*term.steps, shape), shape=shape) for term in value.terms)
    return replace(value, terms=terms, shape=shape)


def _emitted(name: str, step: Window | Shape | _Weight, source: str, shape: Shape) -> SnnNode:
    if isinstance(step, Window):
        size = (shape[0], *step.output_size(*shape[1:]))
        return SumPool(name=name, inputs=(source,), shape=size, window=step)
    if not isinstance(step, _Weight):
        return Reshape(name=name, inputs=(source,), shape=step)
    weight = step.values.astype(np.float32)
    if weight.ndim == 1:
        return ChannelWeight(name=name, inputs=(source,), shape=shape, weight=weight)
    if step.window is None:
        return Linear(name=name, inputs=(source,), shape=(len(weight),), weight=weight)
    size = (len(weight), *step.window.output_size(*shape[1:]))
    return Convolution(
        name=name, inputs=(source,), shape=size, weight=weight, window=step.window, groups=step.groups
    )


def _pads(
    node: NirNode, kernel: tuple[int, int], dilations: tuple[int, int], *, flat: bool
) -> tuple[int, int, int, int]:
    """Return zeros at the top, left, bottom and right, as PyTorch adds them."""
    said = node.values["padding"]
    if isinstance(said, str):
        if said == "valid":
            return (0, 0, 0, 0)
        both = [gap * (size - 1) for gap, size in zip(dilations, kernel, strict=True)]
        top, left = both[0] // 2, both[1] // 2
        return (top, left, both[0] - top, both[1] - left)
    high, wide = node.pair("padding")
    return (0, wide, 0, wide) if flat else (high, wide, high, wide)
