"""From the spiking network to the calls of C kernels.

Synchronous networks run step by step. A layerwise network is one pass over the counts of the whole run, which
equal the sums of its T steps of firing, so one call of ``snnc_step`` runs it completely. Values that are
constant in time are computed once; ``times`` is their factor in the current step: 1, or 0 in settle steps,
or T in the layerwise schedule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from snnc.backends.c99.blocks import find_blocks
from snnc.backends.c99.functions import function_call
from snnc.backends.c99.kernels import Types
from snnc.backends.c99.memory import Buffer
from snnc.backends.c99.program import (
    At,
    Call,
    Extent,
    Field,
    Parameter,
    Place,
    Program,
    Table,
    channels_last,
    slide,
    uses,
)
from snnc.backends.c99.synapses import always_fits, sum_width
from snnc.backends.c99.widths import Width, Widths
from snnc.errors import InternalError
from snnc.ir.geometry import ABSENT, Window
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.kinds import constant_nodes
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Firing, firing
from snnc.ir.snn import (
    ChannelWeight,
    Concat,
    ConstantCurrent,
    Convolution,
    CountMatrixProduct,
    CountMaximum,
    CountMaxPool,
    CountNormalisation,
    CountProduct,
    CountSoftmax,
    CurrentMaxPool,
    Encode,
    Function,
    Gather,
    IntegrateFire,
    Linear,
    Pad,
    Readout,
    Reshape,
    Slice,
    SnnGraph,
    SnnNode,
    SumPool,
    Weighted,
)

NULL = "0"
TIMES, STEPS = "times", "state->timesteps"
POINT = Window((1, 1))
ROW = 64
"""Neurons that fire in one loop, if the channels of a pixel are fewer: thresholds are stored as often."""


def lower(graph: SnnGraph, widths: Widths) -> Program:
    """Return the program of a network."""
    return _Lowering(graph, widths).run()


def c_index(graph: SnnGraph) -> dict[str, int]:
    """Return the number by which C calls each node."""
    return {node.name: index for index, node in enumerate(graph)}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the network, as C calls it.

    Attributes:
        node: the encoder or the read-out.
        name: what the source calls it.
        argument: of C functions: ``q`` and ``y``, with a number where there are several.
        suffix: of its macros, likewise.
    """

    node: Encode | Readout
    name: str
    argument: str
    suffix: str

    @property
    def size(self) -> int:
        """Number of values."""
        return Extent.of(self.node.shape).size


def ports(graph: SnnGraph) -> dict[str, Port]:
    """Return the inputs and outputs of a network by the names of their nodes, in order."""
    found: dict[str, Port] = {}
    inputs: dict[str, Encode] = {node.name: node for node in graph.encoders}
    sides: tuple[tuple[str, Mapping[str, Encode | Readout]], ...] = (("q", inputs), ("y", graph.readouts))
    for letter, nodes in sides:
        for number, (name, node) in enumerate(nodes.items()):
            told = "" if len(nodes) == 1 else str(number)
            found[node.name] = Port(node, name, letter + told, told and f"_{told}")
    return found


class _Lowering:
    def __init__(self, graph: SnnGraph, widths: Widths) -> None:
        self.graph = graph
        self.widths = widths
        self.program = Program()
        self.number = c_index(graph)
        self.barrier = graph.schedule is Schedule.LAYERWISE
        self.constant = constant_nodes(graph)
        self.reads = uses([node.inputs for node in graph])
        self.values: dict[str, Place] = {}
        self.presented: dict[str, Place] = {}
        self.ports = ports(graph)

    def run(self) -> Program:
        for node in self.graph:
            self.lower(node)
        return self.program

    def lower(self, node: SnnNode) -> None:
        match node:
            case Encode():
                self.encode(node)
            case ConstantCurrent():
                note = "constant current"
                self.values[node.name] = self.table(node, "c", channels_last(node.values), note, Width.I32)
            case Weighted() if self.direct(node):
                pass  # added where its only reader sums
            case Weighted():
                out = self.allocate(node)
                self.call(node, "zero", (Width.I32,), out, out.size)
                self.synapse(node, out, node.name in self.constant)
            case IntegrateFire():
                self.integrate_fire(node)
            case Readout():
                self.readout(node)
            case SumPool():
                source, out = self.read(node), self.allocate(node)
                self.call(node, "sum_pool", (source.width, out.width), source, self.pool(node), out)
            case CurrentMaxPool():
                source, out = self.read(node), self.allocate(node)
                self.call(node, "max_pool", (source.width,), source, self.pool(node), out)
            case CountMaxPool():
                self.count_max_pool(node)
            case (
                CountProduct() | CountMatrixProduct() | CountSoftmax() | CountNormalisation() | CountMaximum()
            ):
                self.count_function(node)
            case Concat() | Pad() | Slice():
                self.rearrange(node)
            case Gather():
                self.route(node)
            case Reshape():
                self.reshape(node)
            case _:
                raise InternalError(f"no C for {type(node).__name__} {node.name!r}")

    # Values and constants

    def table(
        self, node: SnnNode, role: str, values: NumberArray, note: str, width: Width | None = None
    ) -> Table:
        return self.program.table(f"{role}_{self.number[node.name]}", values, f"{note} of {node.name}", width)

    def keep(self, node: SnnNode, role: str, width: Width, size: int, note: str) -> Field:
        return self.program.keep(
            f"{role}_{self.number[node.name]}", width, size, f"{note} of {node.name} (ONNX: {node.origin})"
        )

    def allocate(self, node: SnnNode) -> Buffer:
        """Make the buffer of a node's value."""
        buffer = Buffer(self.widths.values[node.name], Extent.of(node.shape).size)
        self.values[node.name] = buffer
        return buffer

    def read(self, node: SnnNode, index: int = 0) -> Place:
        """Return the value of an input as ``node`` sees it in the step at hand."""
        name = node.inputs[index]
        value = self.values[name]
        if name not in self.constant or node.name in self.constant:
            return value
        if name not in self.presented:
            width = Width.I32 if self.barrier else self.widths.values[name]
            out = Buffer(width, value.size)
            self.call(node, "present", (value.width, width), value, TIMES, value.size, out)
            self.presented[name] = out
        return self.presented[name]

    def call(
        self, node: SnnNode, kernel: str, types: Sequence[Width], *arguments: Place | At | str | int
    ) -> None:
        calls = self.program.once if node.name in self.constant else self.program.step
        calls.append(Call(kernel, tuple(types), arguments, f"{node.name} (ONNX: {node.origin})"))

    def once(self, node: SnnNode, kernel: str, types: Sequence[Width], *arguments: Place | str | int) -> None:
        """Add a call at the beginning of a run, whatever the node."""
        self.program.once.append(Call(kernel, tuple(types), arguments, f"{node.name} (ONNX: {node.origin})"))

    # Synapses

    def direct(self, node: SnnNode) -> bool:
        """Whether the one reader of a synapse sums currents, so that it can add to that sum."""
        readers = self.graph.consumers[node.name]
        return self.reads[node.name] == 1 and isinstance(readers[0], IntegrateFire | Readout)

    def synapse(self, node: Weighted, out: Place, constant: bool) -> None:
        """Add the current of a synapse to ``out``."""
        calls = self.program.once if constant else self.program.step
        source = self.read(node)
        read, wrote = Extent.of(self.graph[node.inputs[0]].shape), Extent.of(node.shape)
        note = f"{node.name} (ONNX: {node.origin})"
        match node:
            case ChannelWeight():
                weight = self.table(node, "w", node.weight, "weight")
                arguments = (source, weight, wrote.pixels, wrote.channels, out)
                calls.append(Call("scale", (source.width, weight.width), arguments, note))
                return
            case Convolution():
                depthwise = node.groups == read.channels == wrote.channels
                window, groups, kernel = node.window, node.groups, node.weight
            case Linear():
                depthwise = False
                window, groups, kernel = POINT, 1, node.weight.reshape(*node.weight.shape, 1, 1)
            case _:
                raise InternalError(f"no C for the synapse {type(node).__name__}")
        along = groups == 1 and window.strides[1] == window.dilations[1] == 1
        name = "depthwise" if depthwise else "convolve_along" if along else "convolve"
        rows = np.moveaxis(kernel[:, 0], 0, -1) if depthwise else _rows(kernel, groups)
        weight = self.table(node, "w", rows, "weight")
        shape = self.program.structure("window", slide(window, read, wrote, groups))
        types: Types = (source.width, weight.width)
        if not depthwise:
            types = (*types, sum_width(*types))
            fits = always_fits(types[-1], read.channels // groups, self.widths.bounds[node.inputs[0]])
            name = name if fits else f"{name}_large"
        calls.append(Call(name, types, (source, weight, shape, out), note))

    def gather(self, node: SnnNode, total: Place) -> Place | None:
        """Add the currents of the step that a node reads to ``total``, and sum those that are constant.

        Returns:
            The sum of the constant ones, if there are any.
        """
        self.accumulate(node, [name for name in node.inputs if name not in self.constant], total, False)
        names = [name for name in node.inputs if name in self.constant]
        if len(names) == 1 and names[0] in self.values:
            return self.values[names[0]]
        if not names:
            return None
        constant = Buffer(Width.I32, Extent.of(node.shape).size)
        note = f"{node.name}: sum of constant currents"
        self.program.once.append(Call("zero", (Width.I32,), (constant, constant.size), note))
        self.accumulate(node, names, constant, True)
        return constant

    def accumulate(self, node: SnnNode, names: Sequence[str], total: Place, constant: bool) -> None:
        """Add currents to ``total``."""
        calls = self.program.once if constant else self.program.step
        for name in names:
            source = self.graph[name]
            if name in self.values:
                value, note = self.values[name], f"{node.name} (ONNX: {node.origin})"
                calls.append(Call("add", (value.width,), (value, 1, value.size, total), note))
            elif isinstance(source, Weighted):
                self.synapse(source, total, constant)
            else:
                raise InternalError(f"{name!r} has no value in C")

    # Nodes

    def encode(self, node: Encode) -> None:
        extent = Extent.of(node.shape)
        q = Parameter(self.ports[node.name].argument, Width.I16, extent.size)
        wanted_later = any(reader.name not in self.constant for reader in self.readers(node))
        if extent.ordered and not wanted_later:
            self.values[node.name] = q
            return
        out = Buffer(Width.holding(node.limit), extent.size)
        self.values[node.name] = out
        self.move(node, q, extent, extent.channels_first, out, extent.strides)

    def readers(self, node: SnnNode) -> Iterator[SnnNode]:
        """Go through what reads a value, in other shapes, too: those may be the same place in memory."""
        for reader in self.graph.consumers[node.name]:
            yield reader
            if isinstance(reader, Reshape):
                yield from self.readers(reader)

    def move(
        self,
        node: SnnNode,
        source: Place | At,
        extent: Extent,
        apart: tuple[int, int, int],
        target: Place | At,
        wanted: tuple[int, int, int],
    ) -> None:
        """Copy a block of values between two orders."""
        sizes = (extent.rows, extent.columns, extent.channels)
        places = [item.place if isinstance(item, At) else item for item in (source, target)]
        block = self.program.structure("block", (*sizes, *apart, *wanted))
        self.call(node, "move", [item.width for item in places], source, block, target)

    def integrate_fire(self, node: IntegrateFire) -> None:
        extent = Extent.of(node.shape)
        counts = self.widths.counts[node.name]
        v = self.keep(node, "v", Width.I32, extent.size, "potentials")
        sent = self.keep(node, "n", counts, extent.size, "counts")
        start = self.table(node, "v0", node.v_init, "initial potential", Width.I32)
        self.once(node, "rest", (), start, 1, extent.pixels, extent.channels, v)
        self.once(node, "zero", (counts,), sent, sent.size)
        constant = self.gather(node, v)
        if node.breakpoints is not None and node.step_values is not None:
            self.follow_steps(node, node.breakpoints, node.step_values, constant, v, sent)
            return
        neuron = node.neuron
        limit = neuron.limit or 0
        whole_run = limit if self.barrier and not firing(node).remembers else neuron.levels
        together = _pixels_together(extent)
        bias, low = NULL, NULL
        threshold = self.table(node, "theta", np.tile(node.threshold, together), "threshold", Width.I32).name
        if node.bias.any():
            bias = self.table(node, "b", np.tile(node.bias, together), "bias", Width.I32).name
        if node.negative_threshold is not None and not self.barrier:
            negative = np.tile(node.negative_threshold, together)
            low = self.table(node, "low", negative, "negative threshold", Width.I32).name
        numbers = (extent.pixels // together, extent.channels * together, whole_run, limit)
        settings = self.program.structure("population", (threshold, bias, low, *numbers))
        rest = (settings, constant or NULL, TIMES, STEPS, v, sent)
        if self.barrier:
            self.values[node.name] = sent
            self.call(node, "fire_after_all", (counts, counts), *rest)
            return
        out = self.allocate(node)
        self.call(node, _rule(node), (out.width, counts), *rest, out)

    def follow_steps(
        self,
        node: IntegrateFire,
        points: NumberArray,
        values: NumberArray,
        constant: Place | None,
        v: Place,
        sent: Place,
    ) -> None:
        """Write the call of a population whose count follows a step function."""
        extent, counts = Extent.of(node.shape), self.widths.counts[node.name]
        bias = NULL
        if node.bias.any():
            bias = self.table(node, "b", node.bias, "bias", Width.I32).name
        limit = min(node.neuron.largest(self.graph.timesteps), 2**30)
        rows, n = points.shape
        settings = self.program.structure(
            "step_population",
            (
                self.table(node, "points", points, "breakpoints", Width.I32).name,
                bias,
                self.table(node, "steps", values, "counts between the breakpoints", Width.I32).name,
                *(extent.pixels, extent.channels, limit, n, n if rows > 1 else 0),
            ),
        )
        rest = (constant or NULL, TIMES, STEPS, v, sent)
        if self.barrier:
            self.values[node.name] = sent
            self.call(node, "fire_steps_after_all", (counts, counts), settings, *rest)
            return
        out = self.allocate(node)
        self.call(node, "fire_steps", (out.width, counts), settings, *rest, out)

    def readout(self, node: Readout) -> None:
        extent = Extent.of(node.shape)
        y = self.program.keep(self.ports[node.name].argument, Width.I32, extent.size, f"read-out {node.name}")
        bias = self.table(node, "b", node.bias, "bias", Width.I32)
        self.once(node, "rest", (), bias, STEPS, extent.pixels, extent.channels, y)
        constant = self.gather(node, y)
        if constant is not None:
            self.call(node, "add", (constant.width,), constant, TIMES, extent.size, y)

    def pool(self, node: SumPool | CountMaxPool | CurrentMaxPool) -> str:
        read, wrote = Extent.of(self.graph[node.inputs[0]].shape), Extent.of(node.shape)
        return self.program.structure("window", slide(node.window, read, wrote))

    def count_max_pool(self, node: CountMaxPool) -> None:
        source, window = self.read(node), self.pool(node)
        if self.barrier:
            out = Buffer(source.width, Extent.of(node.shape).size)
            self.values[node.name] = out
            self.call(node, "max_pool", (source.width,), source, window, out)
            return
        counts = self.counts(node, 0)
        out = self.allocate(node)
        before = self.keep(node, "high", counts.width, out.size, "highest counts")
        now = Buffer(counts.width, out.size)
        self.once(node, "zero", (counts.width,), before, before.size)
        self.call(node, "max_pool", (counts.width,), counts, window, now)
        self.call(node, "difference", (counts.width, out.width), now, out.size, before, out)

    def counts(self, node: SnnNode, index: int) -> Place:
        """Return the counts of what a node reads, up to and with the step at hand."""
        producer, source = self.graph[node.inputs[index]], self.read(node, index)
        if isinstance(producer, IntegrateFire | Function):
            role = "n" if isinstance(producer, IntegrateFire) else "g"
            return next(f for f in self.program.fields if f.name == f"{role}_{self.number[producer.name]}")
        role = "n" if index == 0 else "m"
        counts = self.keep(node, role, Width.I32, source.size, "counts of the input")
        self.once(node, "zero", (Width.I32,), counts, counts.size)
        self.call(node, "add", (source.width,), source, 1, source.size, counts)
        return counts

    def count_function(self, node: Function) -> None:
        """Compute a function of counts, and send by how much it differs from its last value."""
        shapes = [self.graph[name].shape for name in node.inputs]
        made = function_call(node, shapes, [self.widths.sums[name] for name in node.inputs])
        places = range(len(node.inputs))
        read = [self.read(node, index) if self.barrier else self.counts(node, index) for index in places]
        tables = []
        if isinstance(node, CountSoftmax):
            tables = [self.table(node, "e", node.table, "exponentials")]
        size, width = Extent.of(node.shape).size, self.widths.counts[node.name]
        now = Buffer(width, size)
        types = (*(place.width for place in (*read, *tables)), width)
        structure = self.program.structure(made.structure, made.members)
        self.call(node, made.kernel, types, *read, *tables, structure, *made.numbers, now)
        if self.barrier:
            self.values[node.name] = now
            return
        out = self.allocate(node)
        before = self.keep(node, "g", width, size, "last values")
        self.once(node, "zero", (width,), before, size)
        self.call(node, "difference", (width, out.width), now, size, before, out)

    def rearrange(self, node: Concat | Pad | Slice) -> None:
        sources = [self.read(node, index) for index in range(len(node.inputs))]
        extents = [Extent.of(self.graph[name].shape) for name in node.inputs]
        out, wrote = self.allocate(node), Extent.of(node.shape)
        match node:
            case Concat():
                start = 0
                for source, read in zip(sources, extents, strict=True):
                    self.move(node, source, read, read.strides, At(out, start), wrote.strides)
                    start += read.channels
            case Pad():
                channel, row, column = (*node.before, 0, 0)[:3]
                offset = row * wrote.strides[0] + column * wrote.strides[1] + channel
                self.call(node, "zero", (out.width,), out, out.size)
                self.move(node, sources[0], extents[0], extents[0].strides, At(out, offset), wrote.strides)
            case Slice():
                channel, row, column = (*node.start, 0, 0)[:3]
                by_channel, by_row, by_column = (*node.step, 1, 1)[:3]
                down, right, one = extents[0].strides
                offset = row * down + column * right + channel
                apart = (by_row * down, by_column * right, by_channel * one)
                self.move(node, At(sources[0], offset), wrote, apart, out, wrote.strides)

    def route(self, node: Gather) -> None:
        """Copy the blocks that an index map consists of, or look every value up where they are too many."""
        source, out = self.read(node), self.allocate(node)
        read, wrote = Extent.of(self.graph[node.inputs[0]].shape), Extent.of(node.shape)
        index = _in_c(node.index, read).reshape(wrote.rows, wrote.columns, wrote.channels)
        blocks = find_blocks(index)
        if blocks is None:
            places = self.table(node, "i", index, "index")
            types = (source.width, places.width, out.width)
            self.call(node, "gather", types, source, places, out.size, out)
            return
        if sum(block.size for block in blocks) < out.size:
            self.call(node, "zero", (out.width,), out, out.size)
        for block in blocks:
            extent = Extent(*block.sizes)
            down, right, along = (far * n for far, n in zip(wrote.strides, block.every, strict=True))
            first = sum(far * n for far, n in zip(wrote.strides, block.start, strict=True))
            self.move(
                node, At(source, block.first), extent, block.apart, At(out, first), (down, right, along)
            )

    def reshape(self, node: Reshape) -> None:
        """Go through the network's own order, channels first, unless it is the same in C."""
        source = self.read(node)
        read, wrote = Extent.of(self.graph[node.inputs[0]].shape), Extent.of(node.shape)
        if read == wrote or (read.ordered and wrote.ordered):
            self.values[node.name] = source
            return
        middle = source
        if not read.ordered:
            middle = Buffer(source.width, read.size)
            self.move(node, source, read, read.strides, middle, read.channels_first)
        if not wrote.ordered:
            out = Buffer(source.width, read.size)
            self.move(node, middle, wrote, wrote.channels_first, out, wrote.strides)
            middle = out
        self.values[node.name] = middle


def _in_c(index: IntArray, read: Extent) -> IntArray:
    """Return an index map, channels last, whose positions are those in C."""
    channel, pixel = np.divmod(channels_last(index), read.pixels)
    return np.where(channels_last(index) == ABSENT, ABSENT, pixel * read.channels + channel)


def _pixels_together(extent: Extent) -> int:
    """Return how many pixels fire as if they were one, so that a short row of channels fills the vectors."""
    most = max(1, ROW // extent.channels)
    return max(n for n in range(1, most + 1) if extent.pixels % n == 0)


KERNELS = {
    Firing.PLAIN: "fire_plain",
    Firing.GRADED: "fire_graded",
    Firing.HESITANT: "fire_negative",
}
"""Kernels of the rules that have one, whatever the limit."""


def _rule(node: IntegrateFire) -> str:
    """Return the kernel of a population in the synchronous schedule."""
    rule = firing(node)
    if rule is Firing.LIMITED:
        return {1: "fire_once", 2: "fire_twice"}.get(node.neuron.limit or 0, "fire_several")
    if rule not in KERNELS:
        raise InternalError(f"no C for a neuron that fires by {rule.value!r}: `check` refuses it")
    return KERNELS[rule]


def _rows(weight: NumberArray, groups: int) -> NumberArray:
    """Return a weight (outputs, inputs per group, height, width) as C reads it.

    Returns:
        (groups, height, inputs per group, width backwards, outputs per group): what an input adds to
        neighbours in a row of the output lies together.
    """
    outputs, inputs, height, width = weight.shape
    shaped = weight.reshape(groups, outputs // groups, inputs, height, width)[..., ::-1]
    return np.ascontiguousarray(shaped.transpose(0, 3, 2, 4, 1))
