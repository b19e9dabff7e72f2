"""The integers of which a network's input is made: those that the source rounds to, or those of its rows.

A quantised network rounds its input itself, or takes integers. Where it does not, rows of 8-bit images lie
on a grid all the same, ``x = unit q + silence`` per channel after a normalisation; sent as these integers
the input is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.ir import ann
from snnc.ir.graph import FloatArray
from snnc.ir.snn import INPUT_LIMIT
from snnc.numerics.levels import Real

SEEN = 200_000
"""Values per channel that are looked at."""

BYTE = 255

ON_GRID = 0.02
"""How far a value may lie from the grid, in units of it."""


@dataclass(frozen=True, slots=True)
class InputGrid:
    """How the input becomes integers: ``q = clip(rint((x gain + offset) / scale), low, high)``.

    Attributes:
        scale: of the encoder.
        gain, offset: (channels,) of the encoder, both ``None`` for none.
        low, high: the range of ``q``.
        unit, silence: (channels,) or (1,): the real value of the node that the integers stand for is
            ``unit q + silence``.
        exact: whether every row of the kind that was seen is represented as it is.
        nodes: names of the operations behind the input that these levels are the result of.
    """

    scale: float
    gain: FloatArray | None
    offset: FloatArray | None
    low: int
    high: int
    unit: Real
    silence: Real
    exact: bool
    nodes: tuple[str, ...] = ()


def input_grid(graph: ann.AnnGraph, given: ann.AnnNode, rows: FloatArray) -> InputGrid:
    """Return the integers of one of a network's inputs.

    Args:
        graph: the network.
        given: the input.
        rows: (n, *input shape), calibration rows.
    """
    readers = graph.consumers[given.name]
    affine = readers[0] if len(readers) == 1 and isinstance(readers[0], ann.ChannelAffine) else None
    after = readers if affine is None else graph.consumers[affine.name]
    quantiser = after[0] if len(after) == 1 and isinstance(after[0], ann.Relu) else None
    if quantiser is not None and quantiser.scale is not None:
        found = _of_source(quantiser, affine)
        if found is not None:
            return found
    return _of_rows(rows)


def _of_source(node: ann.Relu, affine: ann.ChannelAffine | None) -> InputGrid | None:
    """Return the levels to which the source rounds its input; ``None`` where an encoder cannot."""
    scale = np.asarray(node.scale)
    if (scale != scale[0]).any() or max(node.highest, -node.lowest) > INPUT_LIMIT:
        return None
    if node.rounding != "half-even" or node.points is not None:
        return None
    gain = offset = None
    if affine is not None:
        gain, offset = affine.scale.astype(np.float32), affine.shift.astype(np.float32)
    return InputGrid(
        float(scale[0]),
        gain,
        offset,
        node.lowest,
        node.highest,
        scale[:1].astype(np.float64),
        np.zeros(1),
        True,
        (node.name,) if affine is None else (affine.name, node.name),
    )


def _of_rows(rows: FloatArray) -> InputGrid:
    """Return the grid on which all rows lie, or the finest that holds their range."""
    channels = np.moveaxis(rows, 1, 0).reshape(rows.shape[1], -1)
    if channels.shape[1] > SEEN:
        channels = channels[:, :: -(-channels.shape[1] // SEEN)]
    grids = (
        [_grid(np.unique(channel)) for channel in channels]
        if len(channels) <= 64
        else [_grid(np.unique(channels))]
    )
    if all(grid is not None for grid in grids):
        unit, least = (np.array([g[place] for g in grids if g is not None]) for place in (0, 1))
        most = max(int(g[2]) for g in grids if g is not None)
        if (unit == 1).all() and (least == np.rint(least)).all():
            return _whole(rows)
        # Wherever in its range a byte was seen, no other lies farther from the middle.
        far = BYTE if most <= BYTE else INPUT_LIMIT
        silence = least + unit * -(-most // 2)
        gain = np.broadcast_to(1 / unit, rows.shape[1]).astype(np.float32)
        offset = np.broadcast_to(-silence / unit, rows.shape[1]).astype(np.float32)
        return InputGrid(1.0, gain, offset, -far, far, unit, silence, True)
    if (rows == np.rint(rows)).all() and np.abs(rows).max() <= INPUT_LIMIT:
        return _whole(rows)
    scale = float(np.float32(max(float(np.abs(rows).max()), 1e-30) / INPUT_LIMIT))
    return InputGrid(scale, None, None, -INPUT_LIMIT, INPUT_LIMIT, np.full(1, scale), np.zeros(1), False)


def _whole(rows: FloatArray) -> InputGrid:
    """Return the grid of rows of integers, those of a byte or of 12 bits."""
    least, most = float(rows.min()), float(rows.max())
    low, high = -INPUT_LIMIT, INPUT_LIMIT
    signed, unsigned = least >= -BYTE // 2 and most <= BYTE // 2, least >= 0 and most <= BYTE
    if signed or unsigned:  # rows from 0 to 127 may be either, and are given room for both
        low, high = -(BYTE // 2) - 1 if signed else 0, BYTE if unsigned else BYTE // 2
    return InputGrid(1.0, None, None, low, high, np.ones(1), np.zeros(1), True)


def _grid(values: FloatArray) -> tuple[float, float, float] | None:
    """Return unit, least value and number of steps of a grid of at most 4,095 steps; ``None`` if none."""
    if len(values) < 3:
        return None
    wide = values.astype(np.float64)
    unit = float(np.diff(wide).min())
    count = np.rint((wide[-1] - wide[0]) / unit)
    if not 2 <= count <= 2 * INPUT_LIMIT:
        return None
    unit = float((wide[-1] - wide[0]) / count)
    steps = (wide - wide[0]) / unit
    return (unit, float(wide[0]), float(count)) if np.abs(steps - np.rint(steps)).max() < ON_GRID else None
