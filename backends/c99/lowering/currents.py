"""Synapses, and the sums of currents that populations and read-outs receive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from snnc.backends.c99.fan_out import fan_out
from snnc.backends.c99.kernels import Types
from snnc.backends.c99.lowering.builder import CodeBuilder
from snnc.backends.c99.memory import Buffer
from snnc.backends.c99.program import At, Call, Extent, Place, Table, slide
from snnc.backends.c99.synapses import always_fits, sum_width
from snnc.backends.c99.widths import Width
from snnc.errors import InternalError
from snnc.ir.geometry import Window
from snnc.ir.graph import NumberArray
from snnc.ir.snn import ChannelWeight, Convolution, IntegrateFire, Linear, Readout, SnnNode, Weighted

POINT = Window((1, 1))


def direct(code: CodeBuilder, node: SnnNode) -> bool:
    """Whether the one reader of a synapse sums currents, so that it can add to that sum."""
    readers = code.graph.consumers[node.name]
    return code.reads[node.name] == 1 and isinstance(readers[0], IntegrateFire | Readout)


def charged_anew(code: CodeBuilder, node: IntegrateFire) -> Convolution | None:
    """Return the convolution whose constant current is computed anew in each step, rather than kept, if any.

    That saves memory: the potentials of the population that it drives follow from the current and the counts.
    """
    source = code.graph[node.inputs[0]]
    if not code.widths.small or code.barrier or len(node.inputs) > 1:
        return None
    if node.leaky or node.breakpoints is not None:
        return None
    if not isinstance(source, Convolution) or source.name not in code.constant or not direct(code, source):
        return None
    return source


@dataclass(frozen=True, slots=True)
class Kernel:
    """The loop of a convolution, and what it reads beside the spikes.

    Attributes:
        name: of the loop.
        types: of spikes, weight and sums.
        weight: as it lies in C.
        window: that slides over the spikes.
        groups: of channels.
    """

    name: str
    types: Types
    weight: Table
    window: Window
    groups: int


def synapse(code: CodeBuilder, node: Weighted, out: Place, constant: bool) -> None:
    """Add the current of a synapse to ``out``."""
    calls = code.program.once if constant else code.program.step
    source = code.read(node)
    read, wrote = Extent.of(code.graph[node.inputs[0]].shape), Extent.of(node.shape)
    note = f"{node.name} (ONNX: {node.origin})"
    if isinstance(node, ChannelWeight):
        weight = code.table(node, "w", node.weight, "weight")
        arguments = (source, weight, wrote.pixels, wrote.channels, out)
        calls.append(Call("scale", (source.width, weight.width, out.width), arguments, note))
        return
    if _listed(code, node, out, calls, note):
        return
    kernel = _kernel(code, node, source.width)
    shape = code.program.structure("window", slide(kernel.window, read, wrote, kernel.groups))
    calls.append(Call(kernel.name, (*kernel.types, out.width), (source, kernel.weight, shape, out), note))


def _listed(code: CodeBuilder, node: Weighted, out: Place, calls: list[Call], note: str) -> bool:
    """Add the current of a synapse most of whose weights are zero to ``out``; say whether it is one."""
    source = code.read(node)
    read, wrote = Extent.of(code.graph[node.inputs[0]].shape), Extent.of(node.shape)
    window, groups, weight = _windowed(node)
    found = None if groups == read.channels == wrote.channels else fan_out(weight, groups)
    if found is None:
        return False
    if not found.weight.size:
        return True  # no synapse, and no current
    tables = [
        code.table(node, role, values, what)
        for role, values, what in (
            ("w", found.weight, "weight, without zeros,"),
            ("first", found.first, "where the weights of each channel begin,"),
            ("target", found.target, "what the weights reach,"),
        )
    ]
    shape = code.program.structure("window", slide(window, read, wrote, groups))
    types = (source.width, *(table.width for table in tables), out.width)
    calls.append(Call("fan_out", types, (source, *tables, shape, out), note))
    return True


def synapse_by_rows(code: CodeBuilder, node: Convolution, out: Place) -> Iterator[int]:
    """Yield the rows of a constant current in turn, each once the call that adds it to ``out`` is written."""
    source = code.values[node.inputs[0]]
    read, wrote = Extent.of(code.graph[node.inputs[0]].shape), Extent.of(node.shape)
    kernel, note = _kernel(code, node, source.width), f"{node.name} (ONNX: {node.origin})"
    row, window = Extent(1, wrote.columns, wrote.channels), kernel.window
    for y in range(wrote.rows):
        code.program.step.append(Call("zero", (out.width,), (out, row.size), note))
        first = y * window.strides[0] - window.pads[0]
        last = first + (window.kernel[0] - 1) * window.dilations[0] + 1
        low, high = max(first, 0), min(last, read.rows)
        if low < high:
            part = replace(window, pads=(low - first, *window.pads[1:]))
            above = Extent(high - low, read.columns, read.channels)
            shape = code.program.structure("window", slide(part, above, row, kernel.groups))
            here = At(source, low * read.columns * read.channels)
            arguments = (here, kernel.weight, shape, out)
            code.program.step.append(Call(kernel.name, (*kernel.types, out.width), arguments, note))
        yield y


def _kernel(code: CodeBuilder, node: Weighted, spikes: Width) -> Kernel:
    """Choose the loop of a synapse, and write its weight down."""
    read, wrote = Extent.of(code.graph[node.inputs[0]].shape), Extent.of(node.shape)
    window, groups, kernel = _windowed(node)
    depthwise = isinstance(node, Convolution) and groups == read.channels == wrote.channels
    along = groups == 1 and window.strides[1] == window.dilations[1] == 1
    name = "depthwise" if depthwise else "convolve_along" if along else "convolve"
    rows = np.moveaxis(kernel[:, 0], 0, -1) if depthwise else _rows(kernel, groups)
    weight = code.table(node, "w", rows, "weight")
    types: Types = (spikes, weight.width)
    if not depthwise:
        types = (*types, sum_width(*types))
        fits = always_fits(types[-1], read.channels // groups, code.widths.bounds[node.inputs[0]])
        name = name if fits else f"{name}_large"
    return Kernel(name, types, weight, window, groups)


def _windowed(node: Weighted) -> tuple[Window, int, NumberArray]:
    """Return window, groups and weight, (outputs, inputs per group, height, width)."""
    match node:
        case Convolution():
            return node.window, node.groups, node.weight
        case Linear():
            return POINT, 1, node.weight.reshape(*node.weight.shape, 1, 1)
        case _:
            raise InternalError(f"no C for the synapse {type(node).__name__}")


def gather(code: CodeBuilder, node: SnnNode, total: Place) -> Place | None:
    """Add the currents of the step that a node reads to ``total``, and sum those that are constant.

    Returns:
        The sum of the constant ones, if there are any.
    """
    accumulate(code, node, [name for name in node.inputs if name not in code.constant], total, False)
    names = [name for name in node.inputs if name in code.constant]
    if len(names) == 1 and names[0] in code.values:
        return code.values[names[0]]
    if not names:
        return None
    constant = Buffer(Width.I32, Extent.of(node.shape).size)
    note = f"{node.name}: sum of constant currents"
    code.program.once.append(Call("zero", (Width.I32,), (constant, constant.size), note))
    accumulate(code, node, names, constant, True)
    return constant


def accumulate(code: CodeBuilder, node: SnnNode, names: Sequence[str], total: Place, constant: bool) -> None:
    """Add currents to ``total``."""
    calls = code.program.once if constant else code.program.step
    for name in names:
        source = code.graph[name]
        if name in code.values:
            value, note = code.values[name], f"{node.name} (ONNX: {node.origin})"
            calls.append(Call("add", (value.width, total.width), (value, 1, value.size, total), note))
        elif isinstance(source, Weighted):
            synapse(code, source, total, constant)
        else:
            raise InternalError(f"{name!r} has no value in C")


def _rows(weight: NumberArray, groups: int) -> NumberArray:
    """Return a weight (outputs, inputs per group, height, width) as C reads it.

    Returns:
        (groups, height, inputs per group, width backwards, outputs per group): what an input adds to
        neighbours in a row of the output lies together.
    """
    outputs, inputs, height, width = weight.shape
    shaped = weight.reshape(groups, outputs // groups, inputs, height, width)[..., ::-1]
    return np.ascontiguousarray(shaped.transpose(0, 3, 2, 4, 1))
