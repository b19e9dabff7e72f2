"""Index maps as a few strided blocks: a pixel shuffle is one block for each pixel of its square."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from snnc.ir.geometry import ABSENT
from snnc.ir.graph import IntArray

MOST_BLOCKS = 32
"""Most blocks that are copied one by one: each is a call in C."""

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Block:
    """Values that lie evenly spaced, here and there.

    Attributes:
        start: the first row, column and channel of what is written.
        every: how far apart the rows, columns and channels are that are written.
        sizes: how many there are.
        first: position of the first value that is read.
        apart: how far apart the values are that are read, down, right and along the channels.
    """

    start: Triple
    every: Triple
    sizes: Triple
    first: int
    apart: Triple

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.sizes)


def find_blocks(index: IntArray) -> tuple[Block, ...] | None:
    """Return the blocks of an index map, (rows, columns, channels); ``None`` where there are too many.

    Places that are ``ABSENT`` belong to no block.
    """
    every = tuple(_period(index, axis) for axis in range(3))
    if prod(every) > MOST_BLOCKS:
        return None
    found = []
    for start in itertools.product(*map(range, every)):
        part = index[tuple(itertools.starmap(slice, _ends(start, every)))]
        if (part == ABSENT).all():
            continue
        apart = tuple(_step(part, axis) for axis in range(3))
        grids = np.ogrid[tuple(slice(n) for n in part.shape)]
        even = part.flat[0] + sum(grid * step for grid, step in zip(grids, apart, strict=True))
        if part.min() < 0 or not np.array_equal(part, np.broadcast_to(even, part.shape)):
            return None
        found.append(
            Block(_triple(start), _triple(every), _triple(part.shape), int(part.flat[0]), _triple(apart))
        )
    return tuple(found)


def _ends(start: tuple[int, ...], every: tuple[int, ...]) -> Iterator[tuple[int, None, int]]:
    return ((first, None, step) for first, step in zip(start, every, strict=True))


def _triple(values: tuple[int, ...]) -> Triple:
    first, second, third = values
    return first, second, third


def _step(part: IntArray, axis: int) -> int:
    return int(np.diff(part, axis=axis).flat[0]) if part.shape[axis] > 1 else 0


def _period(index: IntArray, axis: int) -> int:
    """Return how many values along an axis one has to go on until the steps between them repeat."""
    n = index.shape[axis]
    lines = np.moveaxis(index, axis, 0).reshape(n, -1)
    for period in range(1, min(n, MOST_BLOCKS) + 1):
        steps = lines[period:] - lines[:-period]
        same = [(steps[start::period] == steps[start]).all() for start in range(min(period, len(steps)))]
        if all(same):
            return period
    return MOST_BLOCKS + 1
