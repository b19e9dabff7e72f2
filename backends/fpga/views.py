"""How a value of spikes is made of the maps that populations send: its reader's tables say.

A value behind poolings, joins, pads and slices is a *view*: for each channel, row and column of a map the
positions where its spikes arrive. A sum over a window sends a row to several, a slice sends some to none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from snnc.ir.geometry import ABSENT, Window
from snnc.ir.graph import IntArray, Shape
from snnc.ir.snn import Concat, Gather, Pad, Reshape, Slice, SnnNode, SumPool

Positions = tuple[tuple[int, ...], ...]
"""For each row of what is read the rows where it arrives; likewise of columns."""

Volume = tuple[int, int, int]
"""Channels, rows and columns; a vector is one pixel."""


class Refused(Exception):  # noqa: N818 - it never leaves this target
    """What the core cannot hold: the reason and the cure."""

    def __init__(self, reason: str, cure: str = "use the target c99, which takes every network") -> None:
        """Keep both texts."""
        super().__init__(reason, cure)
        self.reason, self.cure = reason, cure


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What one map contributes.

    Attributes:
        source: name of the node that sends the spikes.
        channels: (channels of the source,), where each arrives; ``ABSENT`` for nowhere.
        rows: where each row of the source arrives.
        columns: where each column arrives.
    """

    source: str
    channels: IntArray
    rows: Positions
    columns: Positions


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Consecutive values of a view: a volume, flattened if the view is a vector.

    Attributes:
        offset: of its first value, where the view is a vector of several parts.
        volume: what its pieces' positions refer to.
        pieces: what it is made of; they add up where they meet.
    """

    offset: int
    volume: Volume
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A value of spikes."""

    shape: Shape
    parts: tuple[Part, ...]

    @property
    def sole(self) -> Part:
        """The one part of a view that is no vector of flattened volumes.

        Raises:
            Refused: it is.
        """
        first, *more = self.parts
        if more or first.volume != volume(self.shape):
            raise Refused(
                "reads flattened maps as something else than one vector", "flatten before dense layers only"
            )
        return first


def volume(shape: Shape) -> Volume:
    """Return channels, rows and columns of a shape.

    Raises:
        Refused: it has more axes.
    """
    if len(shape) > 3:
        raise Refused(
            f"a value of the shape {shape}, which has more than three axes",
            "reshape it in the source network",
        )
    channels, rows, columns = (*shape, 1, 1)[:3]
    return channels, rows, columns


def each(count: int) -> Positions:
    """Return the positions of what stays where it is."""
    return tuple((index,) for index in range(count))


def source_view(node: SnnNode) -> View:
    """Return the view of what a node itself sends."""
    channels, rows, columns = volume(node.shape)
    piece = Piece(node.name, np.arange(channels), each(rows), each(columns))
    return View(node.shape, (Part(0, (channels, rows, columns), (piece,)),))


def derived_view(node: SnnNode, read: Sequence[View]) -> View:
    """Return the view of a node that moves or sums spikes.

    Raises:
        Refused: its positions do not depend on channel, row and column each alone.
    """
    match node:
        case Concat():
            return _concat(node, read)
        case Reshape():
            return _reshape(node, read[0])
        case SumPool():
            window = node.window
            target = volume(node.shape)
            down = _windows(window, 0, volume(read[0].shape)[1], target[1])
            across = _windows(window, 1, volume(read[0].shape)[2], target[2])
            return _moved(node.shape, read[0], np.arange(target[0]), down, across)
        case Pad():
            shape = volume(read[0].shape)
            channel, row, column = (*node.before, 0, 0)[:3]
            down = tuple((index + row,) for index in range(shape[1]))
            across = tuple((index + column,) for index in range(shape[2]))
            return _moved(node.shape, read[0], np.arange(shape[0]) + channel, down, across)
        case Slice():
            axes = [
                _sliced(count, start, stop, step)
                for count, start, stop, step in zip(
                    volume(read[0].shape),
                    (*node.start, 0, 0)[:3],
                    (*node.stop, 1, 1)[:3],
                    (*node.step, 1, 1)[:3],
                    strict=True,
                )
            ]
            channels = np.array([found[0] if found else ABSENT for found in axes[0]])
            return _moved(node.shape, read[0], channels, axes[1], axes[2])
        case Gather():
            return _gathered(node, read[0])
        case _:
            raise Refused(f"the core knows no {type(node).__name__}")


def _sliced(count: int, start: int, stop: int, step: int) -> Positions:
    kept = range(count)[start:stop:step]
    return tuple((kept.index(index),) if index in kept else () for index in range(count))


def _windows(window: Window, axis: int, count: int, outputs: int) -> Positions:
    """Return for each row read the windows that hold it, as often as they do."""
    found: list[list[int]] = [[] for _ in range(count)]
    for target in range(outputs):
        for tap in range(window.kernel[axis]):
            row = target * window.strides[axis] - window.pads[axis] + tap * window.dilations[axis]
            if 0 <= row < count:
                found[row].append(target)
    return tuple(map(tuple, found))


def _moved(shape: Shape, view: View, channels: IntArray, down: Positions, across: Positions) -> View:
    """Return a view whose channels, rows and columns go on to others."""
    part = view.sole
    pieces = tuple(
        replace(
            piece,
            channels=np.where(piece.channels == ABSENT, ABSENT, channels[piece.channels]),
            rows=composed(piece.rows, down),
            columns=composed(piece.columns, across),
        )
        for piece in part.pieces
    )
    return View(shape, (Part(0, volume(shape), pieces),))


def composed(first: Positions, then: Positions) -> Positions:
    """Return where rows arrive that arrive in rows which go on."""
    return tuple(tuple(last for middle in row for last in then[middle]) for row in first)


def _concat(node: Concat, read: Sequence[View]) -> View:
    if len(node.shape) == 1:
        parts, offset = [], 0
        for view in read:
            parts += [replace(part, offset=offset + part.offset) for part in view.parts]
            offset += prod(view.shape)
        if all(part.volume[1:] == (1, 1) for part in parts):
            pieces = [_raised(piece, part.offset) for part in parts for piece in part.pieces]
            return View(node.shape, (Part(0, volume(node.shape), tuple(pieces)),))
        return View(node.shape, tuple(parts))
    pieces, offset = [], 0
    for view in read:
        pieces += [_raised(piece, offset) for piece in view.sole.pieces]
        offset += view.shape[0]
    return View(node.shape, (Part(0, volume(node.shape), tuple(pieces)),))


def _raised(piece: Piece, offset: int) -> Piece:
    return replace(piece, channels=np.where(piece.channels == ABSENT, ABSENT, piece.channels + offset))


def _reshape(node: Reshape, view: View) -> View:
    if volume(node.shape) == volume(view.shape):
        return View(node.shape, view.parts)
    if len(node.shape) == 1:
        return View(node.shape, view.parts)
    if len(view.parts) == 1 and view.parts[0].volume == volume(node.shape):
        return View(node.shape, view.parts)  # folded back into what was flattened
    raise Refused(f"reshapes {view.shape} into {node.shape}", "flatten before dense layers only")


def separated(node: Gather, source: Volume) -> tuple[IntArray, IntArray, IntArray]:
    """Return an index map as one map each of channels, rows and columns, ``ABSENT`` for what stays silent.

    Raises:
        Refused: it is none.
    """
    target = volume(node.shape)
    index = node.index.reshape(target)
    present = index != ABSENT
    places = np.unravel_index(np.where(present, index, 0), source)
    axes = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        lowest = np.where(present, places[axis], source[axis]).min(axis=others)
        axes.append(np.where(present.any(axis=others), lowest, ABSENT))
    channels, rows, columns = np.meshgrid(*axes, indexing="ij")
    whole = (channels != ABSENT) & (rows != ABSENT) & (columns != ABSENT)
    again = np.ravel_multi_index((np.abs(channels), np.abs(rows), np.abs(columns)), source, mode="clip")
    if not np.array_equal(np.where(whole, again, ABSENT), index):
        raise Refused("follows an index map that is no map of channels, rows and columns each")
    return axes[0], axes[1], axes[2]


def _gathered(node: Gather, view: View) -> View:
    """Return the view of an index map that is one map per axis."""
    source = volume(view.shape)
    channels, rows, columns = separated(node, source)
    down, across = arrivals(rows, source[1]), arrivals(columns, source[2])
    pieces: list[Piece] = []
    found = arrivals(channels, source[0])
    for turn in range(max(map(len, found), default=0)):
        nth = np.array([places[turn] if turn < len(places) else ABSENT for places in found])
        pieces += _moved(node.shape, view, nth, down, across).parts[0].pieces
    return View(node.shape, (Part(0, volume(node.shape), tuple(pieces)),))


def arrivals(index: IntArray, count: int) -> Positions:
    """Return for each position of a source where a map of one axis takes it."""
    return tuple(tuple(np.flatnonzero(index == place).tolist()) for place in range(count))
