"""Conversion of rows in any layout to the network's: by their axes, never by the number of values alone.

A network takes one layout of axes; rows come channels first, channels last, without an axis of size 1, or
flat. The shape of the rows is compared with every reading. If exactly one fits, it is used; if several fit
with different meanings, or none fits, the rows are refused.
"""

from __future__ import annotations

import math
from dataclasses import replace

from snnc.data.readings import (
    FIRST,
    LAST,
    Arrangement,
    NetworkInput,
    Reading,
    Wanted,
    arranged,
    distinct_readings,
    layouts_differ,
    other_axes,
    possible_readings,
    real_sizes,
    with_channels,
)
from snnc.errors import InputError
from snnc.ir.graph import Shape

ANYTHING = Wanted()


def arrangement(
    shape: Shape, network: NetworkInput, wanted: Wanted = ANYTHING, name: str = "the rows"
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
    network = with_channels(network, wanted, name)
    if _is_flat(network) and not network.channels and len(real_sizes(row)) < 2 and layouts_differ(wanted):
        raise InputError(
            f"{name}: rows_layout {wanted.rows} and layout {wanted.network} order values otherwise, and flat "
            f"rows of the shape {shape} cannot be put in order: give them with their axes"
        )
    found = distinct_readings(row, network, wanted)
    if not found and _is_flat(network):
        return _flattened(shape, network, wanted, name)
    if len(found) > 1 and wanted.legacy:
        found = _as_before(found, row, wanted)
    if len(found) > 1:
        several = " or ".join(f"{reading.name} {_sizes(reading, grid)}" for reading, grid in found)
        what = "flat rows of the shape" if len(real_sizes(row)) == 1 else "rows of the shape"
        raise InputError(
            f"{name}: {what} {shape} can be read as {several} for a network that takes {network}: "
            f"say which by rows_layout {_choice(found)} (--rows-layout, or in the preprocessing)"
        )
    if not found and wanted.values > 1 and distinct_readings(row, network, replace(wanted, values=1)):
        raise InputError(
            f"{name}: the preprocessing has {wanted.values} values of mean or std, and the channels of a "
            f"network that takes {network} cannot be so many: give one value, or one per channel"
        )
    if not found:
        raise InputError(f"{_mismatch(shape, network, name)}: {_cure(shape, network, wanted)}")
    ((reading, grid),) = found
    return arranged(reading, grid, network, wanted, name)


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


def _as_before(found: list[tuple[Reading, Shape]], row: Shape, wanted: Wanted) -> list[tuple[Reading, Shape]]:
    """Choose as artefacts that do not speak of the layout of rows were made to: images are channels last."""
    if len(real_sizes(row)) == 3 and wanted.network not in LAST:
        chosen = [item for item in found if item[0].name in LAST]
    else:
        turned = (
            wanted.swapped and len(real_sizes(row)) == 2
        )  # the axes of a signal were exchanged as an image's
        chosen = [item for item in found if item[0].own != turned]
    return chosen[:1] or found


def _is_flat(network: NetworkInput) -> bool:
    return None not in network.grid and len(real_sizes(network.grid)) < 2


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
    real = real_sizes(row)
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
            f"shape {shape} is unknown: give both layout (the network's order) and rows_layout "
            "(that of the rows) in the preprocessing, or flatten the rows as in training"
        )
    channel = 0 if rows in FIRST else len(row) - 1
    if wanted.values not in (1, row[channel]):
        raise InputError(
            f"{name}: the preprocessing has {wanted.values} values of mean or std, but rows of the shape "
            f"{shape}, {rows}, have {row[channel]} channels"
        )
    places = other_axes(len(row), channel, wanted.swapped)
    order = (channel, *places) if wanted.network in FIRST else (*places, channel)
    return Arrangement(row, order, taken, channel)


def _sizes(reading: Reading, grid: Shape) -> str:
    return f"({', '.join(str(grid[axis]) for axis in reading.axes)})"


def _choice(found: list[tuple[Reading, Shape]]) -> str:
    return " or ".join(dict.fromkeys(reading.name for reading, _ in found))


def _mismatch(shape: Shape, network: NetworkInput, name: str) -> str:
    return f"the network takes arrays of shape {network}, not {shape}, the shape of {name}"


def _cure(shape: Shape, network: NetworkInput, wanted: Wanted) -> str:
    """Say how rows that do not fit could."""
    free = Wanted(None, wanted.network, wanted.swapped)
    found = distinct_readings(shape[1:], network, free)
    if not found and _is_flat(network) and math.prod(shape[1:]) == math.prod(real_sizes(network.grid)):
        sizes = ", ".join(map(str, network.shape))
        return f"flatten them in the order of training; row by row that is x.reshape({shape[0]}, {sizes})"
    turned = replace(free, swapped=not wanted.swapped)
    if not found and len(distinct_readings(shape[1:], network, turned)) == 1:
        return "height and width are exchanged: say so by transpose_hw, true or false, in the preprocessing"
    if not found:
        ways = [(reading, network.grid) for reading in possible_readings(network, free)]
        forms = dict.fromkeys(
            f"(n, {', '.join('any' if g[a] is None else str(g[a]) for a in r.axes)})" for r, g in ways
        )
        none = f"no layout of {' or '.join(forms)} fits them"
        if distinct_readings(shape, network, free):
            return f"{none}; this is one row: give x[None], a batch of one"
        if len(shape) > 2 and distinct_readings(shape[:-1], network, free):
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
    made = arranged(reading, grid, network, free, "the rows")
    call = made.advice(shape[0], shape[1:])
    if call.startswith("give"):
        return f"{call}; raw rows need a preprocessing, with which layouts are recognised"
    return f"{call}, or say rows_layout {reading.name} (--rows-layout, or in a preprocessing)"
