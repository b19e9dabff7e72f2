"""Delays: the spikes of the steps before, the oldest first."""

from __future__ import annotations

from snnc.backends.c99.lowering.builder import CodeBuilder
from snnc.backends.c99.program import Extent
from snnc.ir.snn import Delay


def held(code: CodeBuilder, node: Delay) -> None:
    """Keep what a delay holds; its value in a step is the oldest, which lies first."""
    width, size = code.widths.values[node.name], Extent.of(node.shape).size
    kept = code.keep(node, "d", width, node.steps * size, "spikes of the steps before")
    code.once(node, "zero", (width,), kept, kept.size)
    code.values[node.name] = kept


def hold(code: CodeBuilder, node: Delay) -> None:
    """Put the spikes of the step at hand behind what is held, at the end of the step."""
    kept, newest = code.values[node.name], code.values[node.source]
    size = Extent.of(node.shape).size
    code.call(node, "hold", (newest.width, kept.width), newest, size, node.steps, kept)
