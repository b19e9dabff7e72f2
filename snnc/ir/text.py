"""The text form of both dialects: one line per operation, for reading and for comparing.

::

    spiking network 'tiny': T = 4, K = 0, synchronous, proved up to T = 4096
    x: Encode -> (1, 8, 8) {scale=0.0015}
    c: Convolution(x) -> (4, 8, 8) {weight=i8(4, 1, 3, 3) [-127, 118], window=3x3 pads=1,1,1,1}  # /conv/Conv
    r: IntegrateFire(c) -> (4, 8, 8) {threshold=i32(4) [310, 922], neuron=signed M=1 per-step=2 unary}

Arrays appear as type, shape and range, never value by value; numbers have four digits, so that the last
bits of a float do not show. Fields with their default value are omitted, except for the neuron. After ``#``
stands the ONNX node that the operation came from.

The exact form, :func:`print_exact`, keeps every bit: it contains small arrays in full, others as their hash,
``f32(2)<0.5 1.25>`` and ``i8(4, 1, 3, 3)@1f0c52a1b7e94d30``. :mod:`snnc.ir.parser` reads it back.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from enum import Enum
from functools import singledispatch
from typing import Any

import numpy as np

from snnc.ir.geometry import Window
from snnc.ir.graph import Graph, Node, NumberArray
from snnc.ir.neuron import Neuron
from snnc.ir.operations import check_known
from snnc.ir.snn import SnnGraph

_COMMON = frozenset(field.name for field in dataclasses.fields(Node))
WHOLE = 12
"""Arrays of so many values or fewer stand in the exact form whole."""

_PLAIN = re.compile(r"[\w./:+-]+")


def print_graph(graph: Graph[Any]) -> str:
    """Return the text form of a graph of either dialect, without a newline at its end."""
    check_known(graph)
    return "\n".join([_heading(graph), *map(print_node, graph), _last(graph)])


def print_node(node: Node) -> str:
    """Return the one line that describes an operation."""
    return _line(node, _text)


def _line(node: Node, text: Callable[[Any], str]) -> str:
    inputs = f"({', '.join(map(_name, node.inputs))})" if node.inputs else ""
    line = f"{_name(node.name)}: {type(node).__name__}{inputs} -> {node.shape}"
    fields = ", ".join(f"{key}={text(value)}" for key, value in _told(node))
    if fields:
        line += f" {{{fields}}}"
    return f"{line}  # {_name(node.origin)}" if node.origin else line


def print_exact(graph: Graph[Any]) -> str:
    """Return the text form from which the very same graph is read back, given :func:`arrays_of` it."""
    lines = [_heading(graph)]
    check_known(graph)
    if isinstance(graph, SnnGraph) and graph.density:
        shares = (f"{_name(name)}={float(share)!r}" for name, share in graph.density.items())
        lines.append(f"density: {', '.join(shares)}")
    return "\n".join([*lines, *(_line(node, _exact) for node in graph), _last(graph)])


def arrays_of(graph: Graph[Any]) -> dict[str, NumberArray]:
    """Return the arrays that the exact text form of a graph names by their hash."""
    values = (value for node in graph for _, value in _told(node) if isinstance(value, np.ndarray))
    return {_hash(value): value for value in values if value.size > WHOLE}


def _hash(values: NumberArray) -> str:
    return hashlib.sha256(f"{values.dtype.str}{values.shape}".encode() + values.tobytes()).hexdigest()[:16]


def _exact(value: Any) -> str:
    if isinstance(value, np.ndarray):
        kind = f"{value.dtype.kind}{8 * value.dtype.itemsize}{_shape(value.shape)}"
        whole = " ".join(str(item) for item in value.ravel())
        return f"{kind}<{whole}>" if value.size <= WHOLE else f"{kind}@{_hash(value)}"
    return repr(value) if isinstance(value, float) else _text(value)


def _heading(graph: Graph[Any]) -> str:
    if not isinstance(graph, SnnGraph):
        return f"network {_name(graph.name)}"
    proved = f"proved up to T = {graph.max_timesteps}" if graph.max_timesteps else "bounds not proved"
    return (
        f"spiking network {_name(graph.name)}: T = {graph.timesteps}, K = {graph.settle_steps}, "
        f"{graph.schedule.value}, {proved}"
    )


def _last(graph: Graph[Any]) -> str:
    """Return the line that names the outputs, and what the source calls them where that differs."""
    told = (
        _name(node) if name == node else f"{_name(node)} as {_name(name)}"
        for node, name in zip(graph.outputs, graph.output_names, strict=True)
    )
    return f"return {', '.join(told)}"


def _told(node: Node) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a node's own that say something."""
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        at_default = not isinstance(value, np.ndarray) and value == field.default
        if field.name not in _COMMON and not at_default:
            yield field.name, value


def _name(name: str) -> str:
    """Return a name as it is, or quoted where it holds anything unusual."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)


@singledispatch
def _text(value: object) -> str:
    return str(value)


@_text.register
def _(value: bool) -> str:
    return str(value).lower()


@_text.register
def _(value: float) -> str:
    return f"{value:.4g}"


@_text.register
def _(value: str) -> str:
    return _name(value)


@_text.register
def _(value: Enum) -> str:
    return str(value.value)


@_text.register
def _(value: np.ndarray) -> str:
    low, high = _text(value.min().item()), _text(value.max().item())
    kind = f"{value.dtype.kind}{8 * value.dtype.itemsize}{_shape(value.shape)}"
    return f"{kind} {low}" if low == high else f"{kind} [{low}, {high}]"


@_text.register
def _(window: Window) -> str:
    parts = ["x".join(map(str, window.kernel))]
    if window.strides != (1, 1):
        parts.append(f"strides={','.join(map(str, window.strides))}")
    if any(window.pads):
        parts.append(f"pads={','.join(map(str, window.pads))}")
    if window.dilations != (1, 1):
        parts.append(f"dilations={','.join(map(str, window.dilations))}")
    return " ".join(parts)


@_text.register
def _(neuron: Neuron) -> str:
    return neuron.text


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
