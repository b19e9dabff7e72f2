"""Pooling, and functions of spike counts."""

from __future__ import annotations

from snnc.backends.c99.functions import function_call
from snnc.backends.c99.lowering.builder import CodeBuilder
from snnc.backends.c99.memory import Buffer
from snnc.backends.c99.program import Extent, Place, slide
from snnc.backends.c99.widths import Width
from snnc.ir.snn import CountMaxPool, CountSoftmax, CurrentMaxPool, Function, IntegrateFire, SnnNode, SumPool


def pool(code: CodeBuilder, node: SumPool | CountMaxPool | CurrentMaxPool) -> str:
    """Write the window of a pool down, and return its name."""
    read, wrote = Extent.of(code.graph[node.inputs[0]].shape), Extent.of(node.shape)
    return code.program.structure("window", slide(node.window, read, wrote))


def count_max_pool(code: CodeBuilder, node: CountMaxPool) -> None:
    """Write the calls of a maximum of counts."""
    source, window = code.read(node), pool(code, node)
    if code.barrier:
        out = Buffer(source.width, Extent.of(node.shape).size)
        code.values[node.name] = out
        code.call(node, "max_pool", (source.width,), source, window, out)
        return
    counts = _counts(code, node, 0)
    out = code.allocate(node)
    before = code.keep(node, "high", counts.width, out.size, "highest counts")
    now = Buffer(counts.width, out.size)
    code.once(node, "zero", (counts.width,), before, before.size)
    code.call(node, "max_pool", (counts.width,), counts, window, now)
    code.call(node, "difference", (counts.width, out.width), now, out.size, before, out)


def count_function(code: CodeBuilder, node: Function) -> None:
    """Compute a function of counts, and send by how much it differs from its last value."""
    shapes = [code.graph[name].shape for name in node.inputs]
    made = function_call(node, shapes, [code.widths.sums[name] for name in node.inputs])
    places = range(len(node.inputs))
    read = [code.read(node, index) if code.barrier else _counts(code, node, index) for index in places]
    tables = []
    if isinstance(node, CountSoftmax):
        tables = [code.table(node, "e", node.table, "exponentials")]
    size, width = Extent.of(node.shape).size, code.widths.counts[node.name]
    now = Buffer(width, size)
    types = (*(place.width for place in (*read, *tables)), width)
    structure = code.program.structure(made.structure, made.members)
    code.call(node, made.kernel, types, *read, *tables, structure, *made.numbers, now)
    if code.barrier:
        code.values[node.name] = now
        return
    out = code.allocate(node)
    before = code.keep(node, "g", width, size, "last values")
    code.once(node, "zero", (width,), before, size)
    code.call(node, "difference", (width, out.width), now, size, before, out)


def _counts(code: CodeBuilder, node: SnnNode, index: int) -> Place:
    """Return the counts of what a node reads, up to and with the step at hand."""
    producer, source = code.graph[node.inputs[index]], code.read(node, index)
    if isinstance(producer, IntegrateFire | Function):
        role = "n" if isinstance(producer, IntegrateFire) else "g"
        return next(f for f in code.program.fields if f.name == f"{role}_{code.number[producer.name]}")
    role = "n" if index == 0 else "m"
    counts = code.keep(node, role, Width.I32, source.size, "counts of the input")
    code.once(node, "zero", (Width.I32,), counts, counts.size)
    code.call(node, "add", (source.width, Width.I32), source, 1, source.size, counts)
    return counts
