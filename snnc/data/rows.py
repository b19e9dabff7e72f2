"""How rows in any layout become what a network takes: by their axes, never by the number of values alone.

A network takes one layout of axes; rows come channels first, channels last, without an axis of size 1, or
flat. The shape of the rows is compared with every reading. One that fits alone is certain and is used; where
several fit and would put the values in different places, or none does, the rows are refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError
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
        if _real(shape) == _real(grid) and grid[channel] != 1:
            # The source's own axes, without those that an image of a signal has more.
            nth = len(_real(grid[:channel]))
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
        return array.reshape(-1, *(1,) * (len(self.split) - self.channel - 1))

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
class _Reading:
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


def arrangement(
    shape: Shape, network: NetworkInput, wanted: Wanted = Wanted(), name: str = "the rows"
) -> Arrangement:
    """Find how rows become what a network takes.

    Args:
        shape: of the rows, (n, ...).
        network: what takes them.
        wanted: what the user says about layouts.
        name: what the rows are called in messages.

    Raises:
        InputError: no reading fits, or several do and mean different things.
    """
    row = shape[1:]
    network = _told(network, wanted, name)
    if _is_flat(network) and not network.channels and len(_real(row)) < 2 and _differ(wanted):
        raise InputError(
            f"{name}: rows_layout {wanted.rows} and layout {wanted.network} order values otherwise, and flat "
            f"rows of the shape {shape} cannot be put in order: give them with their axes"
        )
    found = _distinct(row, network, wanted)
    if not found and _is_flat(network):
        return _flattened(shape, network, wanted, name)
    if len(found) > 1 and wanted.legacy:
        found = _as_before(found, row, wanted)
    if len(found) > 1:
        several = " or ".join(f"{reading.name} {_sizes(reading, grid)}" for reading, grid in found)
        what = "flat rows of the shape" if len(_real(row)) == 1 else "rows of the shape"
        raise InputError(
            f"{name}: {what} {shape} can be read as {several} for a network that takes {network}: "
            f"say which by rows_layout {_choice(found)} (--rows-layout, or in the preprocessing)"
        )
    if not found and wanted.values > 1 and _distinct(row, network, replace(wanted, values=1)):
        raise InputError(
            f"{name}: the preprocessing has {wanted.values} values of mean or std, and the channels of a "
            f"network that takes {network} cannot be so many: give one value, or one per channel"
        )
    if not found:
        raise InputError(f"{_mismatch(shape, network, name)}: {_cure(shape, network, wanted)}")
    ((reading, grid),) = found
    return _arranged(reading, grid, network, wanted, name)


def exact(shape: Shape, network: NetworkInput, name: str = "the rows") -> Arrangement:
    """Return what takes rows as they are.

    Raises:
        InputError: they have another shape than the network takes; named is how to arrange them.
    """
    row = shape[1:]
    if len(row) == len(network.shape) and all(
        n in (None, size) for n, size in zip(network.shape, row, strict=True)
    ):
        return Arrangement(row, tuple(range(len(row))), row, None)
    raise InputError(f"{_mismatch(shape, network, name)}: {_cure(shape, network, Wanted())}")


def _told(network: NetworkInput, wanted: Wanted, name: str) -> NetworkInput:
    """Return the input with its channels as the user says, where two axes may be a signal's.

    Raises:
        InputError: the rows are a signal's by their layout, and of the network it is not known.
    """
    signal = ("NCL", "NLC")
    if network.channels or len(network.grid) != 2 or None in network.grid or len(_real(network.grid)) < 2:
        return network
    if wanted.network in signal:
        return replace(network, channels=(signal.index(wanted.network),))
    if wanted.rows in signal:
        raise InputError(
            f"{name}: rows_layout is {wanted.rows}, and which axis of {network} holds the channels is not "
            "to be seen: give layout, that of the network, in the preprocessing, too"
        )
    return network


def _differ(wanted: Wanted) -> bool:
    return None not in (wanted.rows, wanted.network) and (wanted.rows in FIRST) != (wanted.network in FIRST)


def _readings(network: NetworkInput, wanted: Wanted) -> list[_Reading]:
    """Return all ways to read a row, whatever its sizes."""
    every = tuple(range(len(network.grid)))
    channels = network.channels
    if len(channels) > 1 and wanted.network is not None:
        channels = channels[:1] if wanted.network in FIRST else channels[1:]
    if not channels:
        turned = (*every[:-2], *every[-2:][::-1]) if wanted.swapped else every
        return [_Reading(turned, None, "as they are", own=True)]
    found = []
    for channel in channels:
        places = _places(len(every), channel, wanted.swapped)
        rest = iter(places)
        own = tuple(channel if axis == channel else next(rest) for axis in every)
        ways = (((channel, *places), FIRST), ((*places, channel), LAST), (own, ()))
        for axes, names in ways:
            if wanted.rows in names if wanted.rows is not None else names or channel not in (0, every[-1]):
                name = names[len(places) == 1] if names else "as the network has them"
                found.append(_Reading(axes, channel, name, own=axes == own))
    return found


def _places(axes: int, channel: int, swapped: bool) -> list[int]:
    """Return the axes of a row that are not its channels, height and width exchanged if so wanted."""
    places = [axis for axis in range(axes) if axis != channel]
    return places[::-1] if swapped and len(places) == 2 else places


def _distinct(row: Shape, network: NetworkInput, wanted: Wanted) -> list[tuple[_Reading, Shape]]:
    """Return the readings that fit, with the sizes of the grid; of those that mean the same only one."""
    found: dict[tuple[int, ...], tuple[_Reading, Shape]] = {}
    as_taken = wanted.rows is None and _real(row) == _real(network.shape) != _real(network.grid)
    for reading in _readings(network, wanted):
        grid = _closed(row, network.grid, reading)
        if grid is None:
            continue
        sizes = tuple(grid[axis] for axis in reading.axes)
        flat = len(_real(row)) < 2 and math.prod(row) == math.prod(grid)
        if not (reading.own if as_taken else flat or _real(sizes) == _real(row)):
            continue
        if len(network.channels) > 1 and wanted.values > 1 and grid[reading.channel or 0] != wanted.values:
            continue
        moves = tuple(axis for axis in reading.axes if grid[axis] != 1)
        meaning = (*moves, reading.channel or 0) if wanted.values > 1 else moves
        found.setdefault(meaning, (reading, grid))
    return list(found.values())


def _closed(row: Shape, grid: OpenShape, reading: _Reading) -> Shape | None:
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


def _arranged(
    reading: _Reading, grid: Shape, network: NetworkInput, wanted: Wanted, name: str
) -> Arrangement:
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


def _as_before(
    found: list[tuple[_Reading, Shape]], row: Shape, wanted: Wanted
) -> list[tuple[_Reading, Shape]]:
    """Choose as artefacts that do not speak of the layout of rows were made to: images are channels last."""
    if len(_real(row)) == 3 and wanted.network not in LAST:
        chosen = [item for item in found if item[0].name in LAST]
    else:
        turned = wanted.swapped and len(_real(row)) == 2  # the axes of a signal were exchanged as an image's
        chosen = [item for item in found if item[0].own != turned]
    return chosen[:1] or found


def _is_flat(network: NetworkInput) -> bool:
    return None not in network.grid and len(_real(network.grid)) < 2


def _flattened(shape: Shape, network: NetworkInput, wanted: Wanted, name: str) -> Arrangement:
    """Arrange rows with axes for a network that takes them flat, row by row.

    The order of channels in a flat row is not to be seen: both layouts have to be given.

    Raises:
        InputError: the rows have another number of values, or channels whose order is not known.
    """
    row = shape[1:]
    taken = tuple(n for n in network.shape if n is not None)
    if math.prod(row) != math.prod(taken):
        raise InputError(f"{_mismatch(shape, network, name)}: {_cure(shape, network, wanted)}")
    real = _real(row)
    rows = wanted.rows
    if rows is None and wanted.legacy and len(row) == 3:
        rows = "NHWC"
    if rows is None and wanted.values > 1:
        ends = [axis for axis in (0, -1) if row[axis] == wanted.values]
        rows = (FIRST if ends == [0] else LAST)[0] if len(ends) == 1 else None
    known = rows is not None and wanted.network is not None
    imagelike = len(real) == 2 and (len(row) > 2 or rows not in ("NCL", "NLC"))
    if imagelike or (len(real) == 2 and not known):
        if wanted.values > 1:
            raise InputError(
                f"{name}: the preprocessing has {wanted.values} values of mean or std, but rows of the "
                f"shape {shape} have no channels: give one value"
            )
        return Arrangement(real, (1, 0) if wanted.swapped else (0, 1), taken, None)
    if not known:
        raise InputError(
            f"{name}: the network takes flat rows, {network}, and how it orders the channels of rows of the "
            f"shape {shape} is not to be seen: give both layout (the network's order) and rows_layout "
            "(that of the rows) in the preprocessing, or flatten the rows as in training"
        )
    channel = 0 if rows in FIRST else len(row) - 1
    if wanted.values not in (1, row[channel]):
        raise InputError(
            f"{name}: the preprocessing has {wanted.values} values of mean or std, but rows of the shape "
            f"{shape}, {rows}, have {row[channel]} channels"
        )
    places = _places(len(row), channel, wanted.swapped)
    order = (channel, *places) if wanted.network in FIRST else (*places, channel)
    return Arrangement(row, order, taken, channel)


def _real(shape: Shape | OpenShape) -> Shape:
    """Return the sizes other than 1, along which alone values can change places."""
    return tuple(n for n in shape if n is not None and n != 1)


def _sizes(reading: _Reading, grid: Shape) -> str:
    return f"({', '.join(str(grid[axis]) for axis in reading.axes)})"


def _choice(found: list[tuple[_Reading, Shape]]) -> str:
    return " or ".join(dict.fromkeys(reading.name for reading, _ in found))


def _mismatch(shape: Shape, network: NetworkInput, name: str) -> str:
    return f"the network takes arrays of shape {network}, not {shape}, the shape of {name}"


def _cure(shape: Shape, network: NetworkInput, wanted: Wanted) -> str:
    """Say how rows that do not fit could."""
    free = Wanted(None, wanted.network, wanted.swapped)
    found = _distinct(shape[1:], network, free)
    if not found and _is_flat(network) and math.prod(shape[1:]) == math.prod(_real(network.grid)):
        sizes = ", ".join(map(str, network.shape))
        return f"flatten them in the order of training; row by row that is x.reshape({shape[0]}, {sizes})"
    turned = replace(free, swapped=not wanted.swapped)
    if not found and len(_distinct(shape[1:], network, turned)) == 1:
        return "height and width are exchanged: say so by transpose_hw, true or false, in the preprocessing"
    if not found:
        ways = [(reading, network.grid) for reading in _readings(network, free)]
        forms = dict.fromkeys(
            f"(n, {', '.join('any' if g[a] is None else str(g[a]) for a in r.axes)})" for r, g in ways
        )
        none = f"no layout of {' or '.join(forms)} fits them"
        if _distinct(shape, network, free):
            return f"{none}; this is one row: give x[None], a batch of one"
        if len(shape) > 2 and _distinct(shape[:-1], network, free):
            return f"{none}; the rows come first: numpy.moveaxis(x, -1, 0)"
        return f"{none}; give other rows, or another network"
    if len(found) > 1:
        return (
            f"their values can be in more than one order: say which by rows_layout {_choice(found)} "
            "(--rows-layout, or in the preprocessing)"
        )
    ((reading, grid),) = found
    if wanted.rows is not None:
        return f"they are {reading.name}, not {wanted.rows} as rows_layout says: leave it out, or correct it"
    made = _arranged(reading, grid, network, free, "the rows")
    call = made.advice(shape[0], shape[1:])
    if call.startswith("give"):
        return f"{call}; raw rows need a preprocessing, with which layouts are recognised"
    return f"{call}, or say rows_layout {reading.name} (--rows-layout, or in a preprocessing)"
