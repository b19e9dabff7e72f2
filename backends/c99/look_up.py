"""The look-up from raw pixels of 8 bits to ``q``: all that a sensor's bytes need before the network.

A table holds what preprocessing and quantising make of each of the 256 values, so C needs no float and gives
what Python gives, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from snnc.artefact import Artefact
from snnc.backends.c99.ports import Port
from snnc.backends.c99.source import HEADER, array, comment, sides
from snnc.backends.c99.widths import Width
from snnc.data.preprocessing import Preprocessing, for_inputs
from snnc.data.readings import FIRST
from snnc.errors import InputError
from snnc.ir.graph import IntArray, Shape
from snnc.ir.snn import Encode
from snnc.simulation.reference import encode

LOOK_UP_HEADER, LOOK_UP_SOURCE = "snnc_quantise.h", "snnc_quantise.c"
VALUES = 256
AT_A_TIME = 16
INDENT = " " * 4


@dataclass(frozen=True, slots=True, eq=False)
class LookUp:
    """How raw pixels of 8 bits become an input.

    Attributes:
        port: the input.
        shape: of one raw row, as Python takes it.
        strides: for each axis of the input how far neighbours lie apart in the raw row, in pixels.
        table: (channels, 256) int32, ``q`` of each value; (1, 256) where it is the same for all channels.
    """

    port: Port
    shape: Shape
    strides: tuple[int, ...]
    table: IntArray


def look_ups(artefact: Artefact) -> list[LookUp]:
    """Return the look-up of every input that has one.

    There is one where a preprocessing says how raw rows become the input, and treats all pixels of a channel
    alike; not where rows are sounds or tables, or ready for the network.
    """
    if artefact.host is not None:
        return []
    prepares = for_inputs(artefact.preprocessing, artefact.takes)
    inputs, _ = sides(artefact.graph)
    found = (_look_up(artefact, port, prepares[port.name]) for port in inputs)
    return [each for each in found if each is not None]


def _look_up(artefact: Artefact, port: Port, preprocessing: Preprocessing | None) -> LookUp | None:
    if preprocessing is None or not isinstance(port.node, Encode):
        return None
    files = preprocessing.files
    if (files.sample_rate, files.samples, files.labels) != (None, None, None):
        return None
    placed = _placed(artefact, port, preprocessing)
    if placed is None:
        return None
    shape, strides = placed
    try:
        table = _table(artefact, port.node, preprocessing, shape)
    except InputError:  # Python refuses such pixels, too
        return None
    return None if table is None else LookUp(port, shape, strides, table)


def _placed(
    artefact: Artefact, port: Port, preprocessing: Preprocessing
) -> tuple[Shape, tuple[int, ...]] | None:
    """Return the shape of raw rows, and for each axis of the input its stride there.

    Channels lie side by side, as cameras give them, unless the preprocessing says otherwise.
    """
    takes, layout = artefact.takes[port.name], artefact.layouts[port.name]
    channels, *rest = port.node.shape
    if preprocessing.transpose_hw:
        rest = [*rest[:-2], *rest[-2:][::-1]]
    last, first = (*rest, channels), (channels, *rest)
    candidates = [first, last] if preprocessing.rows_layout in FIRST else [last, first]
    for shape in (*candidates, layout.source_shape):
        try:
            made = preprocessing.arrangement((1, *shape), takes)
        except InputError:  # rows of this shape are refused, or could be read in several ways
            continue
        row = np.arange(port.size, dtype=np.int64)[None]
        places = layout.to_canonical(made.arranged(made.axes_of(row)))[0]
        ends = np.eye(places.ndim, dtype=np.int64)
        strides = [int(places[tuple(end)]) if n > 1 else 0 for end, n in zip(ends, places.shape, strict=True)]
        regular = sum(
            (stride * axis for stride, axis in zip(strides, np.indices(places.shape), strict=True)),
            np.zeros_like(places),
        )
        if np.array_equal(places, regular):
            return shape, tuple(strides)
    return None


def _table(artefact: Artefact, node: Encode, preprocessing: Preprocessing, shape: Shape) -> IntArray | None:
    """Return ``q`` of every value, (channels or 1, 256); ``None`` where pixels of a channel differ."""
    columns = []
    for start in range(0, VALUES, AT_A_TIME):
        values = np.arange(start, start + AT_A_TIME, dtype=np.uint8)
        rows = np.broadcast_to(values.reshape(-1, *(1,) * len(shape)), (AT_A_TIME, *shape))
        x = preprocessing.apply(rows, artefact.takes[node.name])
        q = encode(node, artefact.encodable(node.name, x)).reshape(AT_A_TIME, node.shape[0], -1)
        if (q != q[:, :, :1]).any():
            return None
        columns.append(q[:, :, 0].T)
    table: IntArray = np.concatenate(columns, axis=1)
    if (table == table[:1]).all():
        return table[:1]
    return table if len(node.shape) > 1 else None


def look_up_texts(found: list[LookUp]) -> dict[str, str]:
    """Return the files of look-ups by their names; none for none."""
    if not found:
        return {}
    declared = "\n".join(f"\n{_note(each)}\n{_prototype(each)};" for each in found)
    header = _HEADER.replace("$declared", declared)
    return {
        LOOK_UP_HEADER: header,
        LOOK_UP_SOURCE: "\n".join([_SOURCE, *(_definition(each) for each in found)]),
    }


def look_up_bytes(found: list[LookUp]) -> int:
    """Return the memory of the tables."""
    return sum(2 * each.table.size for each in found)


def look_up_guide(found: list[LookUp]) -> str:
    """Return what an integrator has to know; nothing for nothing."""
    if not found:
        return ""
    calls = "\n".join(
        f"snnc_quantise_u8{each.port.suffix}(pixels, {each.port.argument}); /* pixels: uint8_t, "
        f"{' x '.join(map(str, each.shape))} */"
        for each in found
    )
    return f"""
## Raw pixels

```c
#include "{LOOK_UP_HEADER}"

{calls}
```

gives `q` of raw pixels by a look-up: what preprocessing and quantising give in Python for a raw row of this
shape, for every value of every channel. It is a source of its own, `{LOOK_UP_SOURCE}`, with
{look_up_bytes(found):,} bytes of tables, and may be left out where it is not called.
"""


def _note(each: LookUp) -> str:
    which = f" of the input {comment(each.port.name)}" if each.port.suffix else ""
    return (
        f"/* Quantise a raw row{which}: q is what preprocessing and quantising make of every pixel.\n"
        f"   pixels: {' x '.join(map(str, each.shape))}, row by row, the last axis side by side. */"
    )


def _prototype(each: LookUp) -> str:
    size = f"SNNC_INPUTS{each.port.suffix}"
    return f"void snnc_quantise_u8{each.port.suffix}(const uint8_t pixels[{size}], int16_t q[{size}])"


def _definition(each: LookUp) -> str:
    name = f"quantised{each.port.suffix}"
    body = "\n".join(_loops(each, name))
    table = array(name, Width.I16, each.table, section="SNNC_WEIGHTS_SECTION ")
    return f"{table}\n{_prototype(each)}\n{{\n    int32_t at = 0;\n{body}\n}}\n"


def _loops(each: LookUp, table: str) -> Iterator[str]:
    """Yield the loops over the axes of the input."""
    axes = [
        (f"i{axis}", n, stride)
        for axis, (n, stride) in enumerate(zip(each.port.node.shape, each.strides, strict=True))
        if n > 1
    ]
    for depth, (counter, n, _) in enumerate(axes, 1):
        yield f"{INDENT * depth}for (int32_t {counter} = 0; {counter} < {n}; {counter}++) {{"
    terms = [counter if stride == 1 else f"{counter} * {stride}" for counter, _, stride in axes]
    place = " + ".join(terms) or "0"
    which = f"i0 * {VALUES} + " if len(each.table) > 1 else ""
    yield f"{INDENT * (len(axes) + 1)}q[at++] = {table}[{which}pixels[{place}]];"
    for depth in range(len(axes), 0, -1):
        yield f"{INDENT * depth}}}"


_HEADER = f"""\
/* Raw pixels of 8 bits as inputs of the network, by a look-up. */
#ifndef SNNC_QUANTISE_H
#define SNNC_QUANTISE_H

#include "{HEADER}"

#ifdef __cplusplus
extern "C" {{
#endif
$declared

#ifdef __cplusplus
}}
#endif

#endif
"""

_SOURCE = f"""\
/* Tables of 256 values: what preprocessing and quantising make of each. */
#include "{LOOK_UP_HEADER}"
"""
