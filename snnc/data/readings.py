"""The ways in which the axes of rows can be read for what a network takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError
from snnc.ir.channels import per_channel
from snnc.ir.graph import Shape
from snnc.ir.layout import InputLayout

FIRST, LAST = ("NCHW", "NCL"), ("NHWC", "NLC")

LAYOUTS = (*FIRST, *LAST)
"""Names of layouts: of images (n, channels, height, width), and of signals (n, channels, length)."""

OpenShape = tuple[int | None, ...]
"""Sizes of one row; ``None`` where the network takes any."""


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """What a network takes.

    Attributes:
        shape: of one row.
        grid: the same values, row by row, in the shape whose axes have a meaning.
        channels: the axis of ``grid`` that holds the channels; several where that is not known, none where
            the network takes features.
    """

    shape: OpenShape
    grid: OpenShape
    channels: tuple[int, ...]

    @classmethod
    def of(cls, layout: InputLayout) -> Self:
        """Return the input of a network that was read."""
        if len(layout.axes) == 1:
            return cls.of_shape(layout.source_shape)
        shape, grid, channel = layout.source_shape, layout.grid, layout.axes[0]
        if real_sizes(shape) == real_sizes(grid) and grid[channel] != 1:
            # The source's own axes, without those that an image of a signal has more.
            nth = len(real_sizes(grid[:channel]))
            axes = [axis for axis, n in enumerate(shape) if n != 1]
            return cls(shape, shape, (axes[nth],))
        return cls(shape, grid, (channel,))

    @classmethod
    def of_shape(cls, shape: OpenShape) -> Self:
        """Return the input of a network of which only the shape is known.

        An end of size 1 is taken for the axis of the channels.
        """
        ends = (0, len(shape) - 1)
        single = tuple(axis for axis in ends if shape and shape[axis] == 1)
        return cls(shape, shape, () if len(shape) < 3 else single[:1] or ends)

    def __str__(self) -> str:
        """Return the shape with its batch, for messages."""
        return f"({', '.join('any' if n is None else str(n) for n in ('batch', *self.shape))})"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user says about layouts.

    Attributes:
        rows: layout of the rows; ``None`` to find it.
        network: layout of the network, which counts where it is not known otherwise.
        swapped: whether height and width are exchanged.
        values: how many values per channel are given; 1 where one serves all.
        legacy: whether rows that fit several readings are channels last, as they always were in artefacts
            that do not speak of the layout of rows.
    """

    rows: str | None = None
    network: str | None = None
    swapped: bool = False
    values: int = 1
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How rows of one shape become the network's.

    Attributes:
        split: sizes of the axes of a row, those of size 1 as the network has them.
        order: the axis of ``split`` that each axis of the network is.
        shape: of one row, as the network takes it.
        channel: the axis of ``split`` that holds the channels; ``None`` where there is none.
    """

    split: Shape
    order: tuple[int, ...]
    shape: Shape
    channel: int | None

    def per_channel(self, values: tuple[float, ...]) -> NDArray[np.float32]:
        """Return values, one or one per channel, in a form that fits :meth:`axes_of`."""
        array = np.array(values).astype(np.float32)
        if len(values) == 1 or self.channel is None:
            return array
        return per_channel(array, len(self.split) - self.channel)

    def axes_of(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return rows, (n, ...), with the axes of ``split``."""
        return x.reshape(len(x), *self.split)

    def arranged(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return rows with the axes of ``split`` as the network takes them, (n, *shape)."""
        return x.transpose(0, *(axis + 1 for axis in self.order)).reshape(len(x), *self.shape)

    def advice(self, rows: int, shape: Shape) -> str:
        """Name the NumPy call that does the same to rows of a shape."""
        axes = [i for i, n in enumerate(shape) if n != 1]
        split = [i for i, n in enumerate(self.split) if n != 1]
        moved = [split.index(axis) for axis in self.order if axis in split]
        sizes = f"({rows}, {', '.join(map(str, self.shape))})"
        if moved == sorted(moved):
            return f"give them the shape by x.reshape{sizes}, which moves no value"
        if len(axes) != len(split):  # flat rows have to get their axes first
            first = f"x.reshape({rows}, {', '.join(map(str, self.split))})"
            return f"transpose them by {first}.transpose(0, {', '.join(str(a + 1) for a in self.order)})"
        placed = iter(axes[at] for at in moved)
        ones = [i for i, n in enumerate(shape) if n == 1]
        if len(shape) == len(self.order):
            order = [next(placed) if n != 1 else ones.pop(0) for n in self.shape]
            return f"transpose them by x.transpose(0, {', '.join(str(axis + 1) for axis in order)})"
        order = [*ones, *placed]
        call = f"x.transpose(0, {', '.join(str(axis + 1) for axis in order)})"
        return f"transpose them by {call}.reshape{sizes}"


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a row.

    Attributes:
        axes: the axis of the network's grid that each axis of the row is.
        channel: the axis of the grid that holds the channels; ``None`` if there is none.
        name: of the layout.
        own: whether it is the order of the network's axes.
    """

    axes: tuple[int, ...]
    channel: int | None
    name: str
    own: bool


def with_channels(network: NetworkInput, wanted: Wanted, name: str) -> NetworkInput:
    """Return the input with its channels as the user says, where two axes may be a signal's.

    Raises:
        InputError: the rows are a signal's by their layout, and of the network it is not known.
    """
    signal = ("NCL", "NLC")
    if (
        network.channels
        or len(network.grid) != 2
        or None in network.grid
        or len(real_sizes(network.grid)) < 2
    ):
        return network
    if wanted.network in signal:
        return replace(network, channels=(signal.index(wanted.network),))
    if wanted.rows in signal:
        raise InputError(
            f"{name}: rows_layout is {wanted.rows}, and which axis of {network} holds the channels is "
            "unknown: give layout, that of the network, in the preprocessing, too"
        )
    return network


def layouts_differ(wanted: Wanted) -> bool:
    """Whether the rows and the network are said to order their channels otherwise."""
    return None not in (wanted.rows, wanted.network) and (wanted.rows in FIRST) != (wanted.network in FIRST)


def possible_readings(network: NetworkInput, wanted: Wanted) -> list[Reading]:
    """Return all ways to read a row, whatever its sizes."""
    every = tuple(range(len(network.grid)))
    channels = network.channels
    if len(channels) > 1 and wanted.network is not None:
        channels = channels[:1] if wanted.network in FIRST else channels[1:]
    if not channels:
        turned = (*every[:-2], *every[-2:][::-1]) if wanted.swapped else every
        return [Reading(turned, None, "as they are", own=True)]
    found = []
    for channel in channels:
        places = other_axes(len(every), channel, wanted.swapped)
        rest = iter(places)
        own = tuple(channel if axis == channel else next(rest) for axis in every)
        ways = (((channel, *places), FIRST), ((*places, channel), LAST), (own, ()))
        for axes, names in ways:
            if wanted.rows in names if wanted.rows is not None else names or channel not in (0, every[-1]):
                name = names[len(places) == 1] if names else "as the network has them"
                found.append(Reading(axes, channel, name, own=axes == own))
    return found


def other_axes(axes: int, channel: int, swapped: bool) -> list[int]:
    """Return the axes of a row that are not its channels, height and width exchanged if so wanted."""
    places = [axis for axis in range(axes) if axis != channel]
    return places[::-1] if swapped and len(places) == 2 else places


def distinct_readings(row: Shape, network: NetworkInput, wanted: Wanted) -> list[tuple[Reading, Shape]]:
    """Return the readings that fit, with the sizes of the grid; of those that mean the same only one."""
    found: dict[tuple[int, ...], tuple[Reading, Shape]] = {}
    as_taken = wanted.rows is None and real_sizes(row) == real_sizes(network.shape) != real_sizes(
        network.grid
    )
    for reading in possible_readings(network, wanted):
        grid = _closed(row, network.grid, reading)
        if grid is None:
            continue
        sizes = tuple(grid[axis] for axis in reading.axes)
        flat = len(real_sizes(row)) < 2 and math.prod(row) == math.prod(grid)
        if not (reading.own if as_taken else flat or real_sizes(sizes) == real_sizes(row)):
            continue
        if len(network.channels) > 1 and wanted.values > 1 and grid[reading.channel or 0] != wanted.values:
            continue
        moves = tuple(axis for axis in reading.axes if grid[axis] != 1)
        meaning = (*moves, reading.channel or 0) if wanted.values > 1 else moves
        found.setdefault(meaning, (reading, grid))
    return list(found.values())


def _closed(row: Shape, grid: OpenShape, reading: Reading) -> Shape | None:
    """Return the sizes of the grid, those that are open as the row has them; ``None`` if it does not fit."""
    if None not in grid:
        return tuple(n for n in grid if n is not None)
    axes = reading.axes
    if len(row) == len(grid) - 1 and reading.channel is not None and grid[reading.channel] in (1, None):
        axes, row = (reading.channel, *(axis for axis in axes if axis != reading.channel)), (1, *row)
    if len(row) != len(grid):
        return None
    sizes = dict(zip(axes, row, strict=True))
    if any(n not in (None, sizes[axis]) for axis, n in enumerate(grid)):
        return None
    return tuple(sizes[axis] for axis in range(len(grid)))


def arranged(reading: Reading, grid: Shape, network: NetworkInput, wanted: Wanted, name: str) -> Arrangement:
    """Return how rows that are read so become what the network takes.

    Raises:
        InputError: the preprocessing has another number of values than there are channels.
    """
    channel = None if reading.channel is None else reading.axes.index(reading.channel)
    if wanted.values > 1:
        channels = None if reading.channel is None else grid[reading.channel]
        if channels != wanted.values:
            has = "has no channels" if channels is None else f"has {channels} channels"
            raise InputError(
                f"{name}: the preprocessing has {wanted.values} values of mean or std, but the network, "
                f"which takes {network}, {has}: give one value, or one per channel"
            )
    shape = grid if None in network.shape else tuple(n for n in network.shape if n is not None)
    order = tuple(reading.axes.index(axis) for axis in range(len(grid)))
    return Arrangement(tuple(grid[axis] for axis in reading.axes), order, shape, channel)


def real_sizes(shape: Shape | OpenShape) -> Shape:
    """Return the sizes other than 1, along which alone values can change places."""
    return tuple(n for n in shape if n is not None and n != 1)
