"""What only moves values: copies between the orders in memory."""

from __future__ import annotations

import numpy as np

from snnc.backends.c99.blocks import find_blocks
from snnc.backends.c99.lowering.builder import TIMES, CodeBuilder
from snnc.backends.c99.memory import Buffer
from snnc.backends.c99.program import At, Extent, Parameter, Place, channels_last
from snnc.backends.c99.widths import Width
from snnc.ir.geometry import ABSENT
from snnc.ir.graph import IntArray
from snnc.ir.snn import Concat, Encode, Gather, Pad, Reshape, Slice


def encode(code: CodeBuilder, node: Encode) -> None:
    """Take an input in."""
    extent = Extent.of(node.shape)
    q = Parameter(code.ports[node.name].argument, Width.I16, extent.size)
    if node.varies:
        _present(code, node, q, extent)
        return
    wanted_later = any(reader.name not in code.constant for reader in code.readers(node))
    if extent.ordered and not wanted_later:
        code.values[node.name] = q
        return
    out = Buffer(Width.holding(node.limit), extent.size)
    code.values[node.name] = out
    code.move(node, q, extent, extent.channels_first, out, extent.strides)


def _present(code: CodeBuilder, node: Encode, q: Parameter, extent: Extent) -> None:
    """Take the frame of a step in, which is silent in settle steps."""
    frame: Place = q
    width = Width.holding(node.limit)
    if code.graph.settle_steps:
        frame = Buffer(width, extent.size)
        code.call(node, "present", (q.width, width), q, TIMES, extent.size, frame)
    if not extent.ordered:
        out = Buffer(width, extent.size)
        code.move(node, frame, extent, extent.channels_first, out, extent.strides)
        frame = out
    code.values[node.name] = frame


def rearrange(code: CodeBuilder, node: Concat | Pad | Slice) -> None:
    """Write the copies of a concatenation, a padding or a slice."""
    sources = [code.read(node, index) for index in range(len(node.inputs))]
    extents = [Extent.of(code.graph[name].shape) for name in node.inputs]
    out, wrote = code.allocate(node), Extent.of(node.shape)
    match node:
        case Concat():
            start = 0
            for source, read in zip(sources, extents, strict=True):
                code.move(node, source, read, read.strides, At(out, start), wrote.strides)
                start += read.channels
        case Pad():
            channel, row, column = (*node.before, 0, 0)[:3]
            offset = row * wrote.strides[0] + column * wrote.strides[1] + channel
            code.call(node, "zero", (out.width,), out, out.size)
            code.move(node, sources[0], extents[0], extents[0].strides, At(out, offset), wrote.strides)
        case Slice():
            channel, row, column = (*node.start, 0, 0)[:3]
            by_channel, by_row, by_column = (*node.step, 1, 1)[:3]
            down, right, one = extents[0].strides
            offset = row * down + column * right + channel
            apart = (by_row * down, by_column * right, by_channel * one)
            code.move(node, At(sources[0], offset), wrote, apart, out, wrote.strides)


def route(code: CodeBuilder, node: Gather) -> None:
    """Copy the blocks that an index map consists of, or look every value up where they are too many."""
    source, out = code.read(node), code.allocate(node)
    read, wrote = Extent.of(code.graph[node.inputs[0]].shape), Extent.of(node.shape)
    index = _in_c(node.index, read).reshape(wrote.rows, wrote.columns, wrote.channels)
    blocks = find_blocks(index)
    if blocks is None:
        places = code.table(node, "i", index, "index")
        types = (source.width, places.width, out.width)
        code.call(node, "gather", types, source, places, out.size, out)
        return
    if sum(block.size for block in blocks) < out.size:
        code.call(node, "zero", (out.width,), out, out.size)
    for block in blocks:
        extent = Extent(*block.sizes)
        down, right, along = (far * n for far, n in zip(wrote.strides, block.every, strict=True))
        first = sum(far * n for far, n in zip(wrote.strides, block.start, strict=True))
        code.move(node, At(source, block.first), extent, block.apart, At(out, first), (down, right, along))


def reshape(code: CodeBuilder, node: Reshape) -> None:
    """Go through the network's own order, channels first, unless it is the same in C."""
    source = code.read(node)
    read, wrote = Extent.of(code.graph[node.inputs[0]].shape), Extent.of(node.shape)
    if read == wrote or (read.ordered and wrote.ordered):
        code.values[node.name] = source
        return
    middle = source
    if not read.ordered:
        middle = Buffer(source.width, read.size)
        code.move(node, source, read, read.strides, middle, read.channels_first)
    if not wrote.ordered:
        out = Buffer(source.width, read.size)
        code.move(node, middle, wrote, wrote.channels_first, out, wrote.strides)
        middle = out
    code.values[node.name] = middle


def _in_c(index: IntArray, read: Extent) -> IntArray:
    """Return an index map, channels last, whose positions are those in C."""
    channel, pixel = np.divmod(channels_last(index), read.pixels)
    return np.where(channels_last(index) == ABSENT, ABSENT, pixel * read.channels + channel)
