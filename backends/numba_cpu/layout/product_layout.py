"""Weights laid out for products of all inputs; see :mod:`snnc.backends.numba_cpu.codegen.micro_products`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu.codegen import micro, micro_products, micro_tiles
from snnc.backends.numba_cpu.kernels.product_currents import multiplying, product_fields
from snnc.backends.numba_cpu.kernels.tile_currents import tile_fields
from snnc.backends.numba_cpu.layout.terms import Packed, Synapse, common_fields, largest_sums
from snnc.backends.numba_cpu.machine import tiles
from snnc.backends.numba_cpu.machine.memory import aligned

Array = NDArray[Any]

LAYOUTS: dict[str, tuple[Any, int]] = {
    "tiles": (np.int8, 4),
    "step_tiles": (np.int8, 4),
    "bytes": (np.int8, 4),
    "words": (np.int16, 2),
    "floats": (np.float32, 1),
}
"""Type of the weights, and inputs of a group, whose spikes take four bytes."""

TILE_KINDS = ("tiles", "step_tiles")

LEAST_WIDTH = 2
"""Pixels of a row from which tiles pay."""


@dataclass(frozen=True, slots=True)
class Products:
    """Every input is multiplied, whether it spiked or not.

    Attributes:
        kind: of the products: ``tiles`` or ``step_tiles`` (of bytes), ``bytes``, ``words`` or ``floats``.
        run_length: inputs of a run, a multiple of four bytes.
        runs: runs of one section, after which 16-bit sums are emptied.
    """

    kind: str
    run_length: int
    runs: int

    def __str__(self) -> str:
        return f"{self.kind}, {self.runs} x {self.run_length} inputs"


def product_choice(synapse: Synapse) -> Products | None:
    """Return how to run a synapse densely, or ``None`` if its integers are too wide."""
    source = synapse.source
    if source.kind == np.float32:
        length = _run_length(synapse)
        return Products("floats", length, len(input_runs(synapse, length)))
    if source.kind == np.int8 and synapse.weight.dtype == np.int8:
        if tiles.usable() and synapse.width >= LEAST_WIDTH:
            return _tile_choice(synapse)
        most = micro_products.largest_byte(int(synapse.weight.min(initial=0)))
        if source.high - min(source.low, 0) <= most:
            return _byte_choice(synapse)
    if source.kind.itemsize > 2 or synapse.weight.dtype.itemsize > 2:
        return None
    length = _run_length(synapse)
    return Products("words", length, len(input_runs(synapse, length)))


def _tile_choice(synapse: Synapse) -> Products:
    """Return runs that are cut into as few pieces as fit a row of a tile, all of one length.

    Short rows fill a tile with several steps, which takes whole pieces of a pixel.
    """
    whole = _run_length(synapse)
    simple = synapse.groups == 1 and synapse.window.dilations[1] == 1 and synapse.window.strides[1] == 1
    if (
        simple
        and synapse.width <= micro_tiles.ROWS // 2
        and synapse.source.padded % micro_tiles.ROW_BYTES == 0
    ):
        return Products(
            "step_tiles", micro_tiles.ROW_BYTES, whole // micro_tiles.ROW_BYTES * synapse.window.kernel[0]
        )
    pieces = -(-whole // micro_tiles.ROW_BYTES)
    length = -(-whole // (4 * pieces)) * 4
    return Products("tiles", length, len(input_runs(synapse, length)))


def _byte_choice(synapse: Synapse) -> Products:
    """Return the longest sections whose sums fit 16 bits; runs are cut only where they must be."""
    length = _run_length(synapse)
    if micro_products.BYTE_LANES == 1:
        return Products("bytes", length, len(input_runs(synapse, length)))
    fours = _sums_of_four(synapse)
    while True:
        sums = _joined(fours, length // 4).reshape(len(fours), -1)
        count = sums.shape[1]
        if sums.max(initial=0) <= micro.LARGEST_SUM:
            # No section can hold less than its share of the largest total.
            fewest = -(-int(sums.sum(axis=1).max(initial=0)) // micro.LARGEST_SUM)
            for taken in dict.fromkeys(-(-count // n) for n in range(max(fewest, 1), count + 1)):
                if _joined(sums, taken).max() <= micro.LARGEST_SUM:
                    return Products("bytes", length, taken)
        length = -(-length // 8) * 4


def _sums_of_four(synapse: Synapse) -> Array:
    """Return how far from zero each group of four inputs can take each 16-bit sum, above it and below it.

    The shape is (sums, natural runs, groups of four).
    """
    wide = _flat_weight(synapse)
    lanes = wide.reshape(*wide.shape[:-1], -1, micro_products.BYTE_LANES, 2)
    both = np.stack(largest_sums(lanes, (5,), synapse.source))
    return np.moveaxis(both, 5, 3).reshape(-1, *both.shape[3:5])


def _joined(sums: Array, taken: int) -> Array:
    """Return the sums of so many neighbours at a time along the last axis; the last may be fewer."""
    running = np.cumsum(sums, axis=-1)[..., taken - 1 :: taken]
    if sums.shape[-1] % taken:
        running = np.concatenate([running, sums.sum(axis=-1, keepdims=True)], axis=-1)
    return np.diff(running, axis=-1, prepend=0)


def _run_length(synapse: Synapse) -> int:
    """Return how many inputs, of integers rounded up to a group of four, lie side by side in a window."""
    if synapse.groups == 1 and synapse.window.dilations[1] == 1:
        length = synapse.window.kernel[1] * synapse.source.padded
    else:
        length = synapse.inputs
    # What is read behind the last input is multiplied by zero, which only integers always survive.
    return length if synapse.source.kind == np.float32 else -(-length // 4) * 4


def _flat_weight(synapse: Synapse) -> Array:
    """Return (groups, outputs, natural runs, inputs of a run), padded with zeros."""
    outputs, inputs, height, width = synapse.weight.shape
    grouped = synapse.weight.reshape(synapse.groups, synapse.outputs, inputs, height, width)
    by_tap = grouped.transpose(0, 1, 3, 4, 2)
    length = _run_length(synapse)
    if synapse.groups == 1 and synapse.window.dilations[1] == 1:
        full = np.zeros((*by_tap.shape[:-1], synapse.source.padded), synapse.weight.dtype)
        full[..., :inputs] = by_tap
        rows = full.reshape(1, outputs, height, -1)
    else:
        rows = by_tap.reshape(synapse.groups, synapse.outputs, height * width, inputs)
    wide = np.zeros((*rows.shape[:-1], length), synapse.weight.dtype)
    wide[..., : rows.shape[-1]] = rows
    return wide


def input_runs(synapse: Synapse, length: int) -> list[tuple[int, int]]:
    """Return (natural run, first input) of every run of ``length`` inputs."""
    whole = _run_length(synapse)
    joined = synapse.groups == 1 and synapse.window.dilations[1] == 1
    natural = synapse.window.kernel[0] * (1 if joined else synapse.window.kernel[1])
    return [(run, first) for run in range(natural) for first in range(0, whole, length)]


def _sectioned(synapse: Synapse, length: int, runs: int) -> Array:
    """Return (groups, outputs, sections, runs, inputs of a run), padded with zeros."""
    wide = _flat_weight(synapse)
    pieces = -(-wide.shape[-1] // length)
    cut = np.zeros((*wide.shape[:-1], pieces * length), wide.dtype)
    cut[..., : wide.shape[-1]] = wide
    cut = cut.reshape(*wide.shape[:2], -1, length)
    sections = -(-cut.shape[2] // runs)
    full = np.zeros((*cut.shape[:2], sections * runs, length), wide.dtype)
    full[:, :, : cut.shape[2]] = cut
    return full.reshape(*cut.shape[:2], sections, runs, length)


def _tile_rows(width: int) -> list[int]:
    """Return how many rows of a tile some pixels of a short row take, for each number of steps."""
    steps = range(1, 1 + micro_tiles.STEPS)
    return [n * -(-width // -(-width * n // micro_tiles.ROWS)) for n in steps]


def pack_products(synapse: Synapse, choice: Products) -> Packed:
    """Lay a weight out for products."""
    window, source = synapse.window, synapse.source
    weight = _sectioned(synapse, choice.run_length, choice.runs)
    groups, outputs, sections, runs, length = weight.shape
    in_tiles, in_steps = choice.kind in TILE_KINDS, choice.kind == "step_tiles"
    wide = micro_products.OUTPUTS if in_tiles else micro_products.outputs_together(outputs)
    tiles = -(-outputs // wide)
    kind, together = LAYOUTS[choice.kind]
    full = np.zeros((groups, tiles * wide, sections, runs, length), kind)
    full[:, :outputs] = weight
    # -> (groups, tiles, sections, runs, input groups, outputs, inputs)
    grouped = full.reshape(groups, tiles, wide, sections, runs, length // together, together)
    grouped = grouped.transpose(0, 1, 3, 4, 5, 2, 6)
    laid = aligned(np.ascontiguousarray(grouped))
    offset, lanes = (max(0, -source.low), micro_products.BYTE_LANES) if choice.kind == "bytes" else (0, 1)
    sums = grouped.astype(np.int64).reshape(*grouped.shape[:-1], lanes, -1).sum(axis=(3, 4, 7))
    starts = aligned((-offset * sums).astype(np.int16 if lanes == 2 else np.int32))
    size = 4 // together
    places = aligned(
        np.array(
            [
                (group * synapse.inputs * size, (group * outputs + tile * wide) * 4)
                for group in range(groups)
                for tile in range(tiles)
            ],
            np.int64,
        )
    )
    pixels = (micro_tiles if in_tiles else micro_products).pixels_together(synapse.width)
    # Blocks of some steps of a short row reach one pixel beyond it.
    rounded = synapse.width + 1 if in_steps else -(-synapse.width // pixels) * pixels
    padded_width = max(
        source.width + window.pads[1] + window.pads[3],
        (rounded - 1) * window.strides[1] + (window.kernel[1] - 1) * window.dilations[1] + 1,
    )
    pixel = source.padded * size
    row = padded_width * pixel
    joined = groups == 1 and window.dilations[1] == 1
    offsets = []
    for steps in range(1, 1 + (micro_tiles.STEPS if in_steps else 1)):  # that lie side by side in a pixel
        for run, first in input_runs(synapse, choice.run_length):
            ky, kx = (run, 0) if joined else divmod(run, window.kernel[1])
            place = ky * window.dilations[0] * row + kx * window.dilations[1] * pixel
            whole, part = divmod(first * size, pixel) if in_steps else (0, first * size)
            offsets.append((place + whole * pixel) * steps + part)
    offsets += [0] * (sections * runs - len(offsets))
    addresses = aligned(np.array(offsets, np.int64))
    zeros = aligned(np.zeros(wide, np.int32))
    sizes = aligned(np.zeros(0, np.uint8))
    if in_tiles:
        rows = _tile_rows(synapse.width) if in_steps else [pixels]
        sizes = aligned(np.stack([micro_tiles.configuration(each, length) for each in rows]))
        routines = tile_fields(choice.kind) | {"tile_sizes": sizes.ctypes.data}
    else:
        multiply = multiplying(choice.kind, pixels, wide)
        routines = product_fields(channels=False) | {"multiply": multiply.address}
    return Packed(
        common_fields(synapse, choice.kind)
        | {
            "weight": laid.ctypes.data,
            "tiles": groups * tiles,
            "tile_places": places.ctypes.data,
            "sections": sections,
            "section_bytes": laid.strides[2],
            "pixels": pixels,
            "outputs": wide,
            **routines,
            "runs": addresses.ctypes.data,
            "run_count": runs,
            "input_groups": length // together,
            "starts": starts.ctypes.data,
            "offset": offset,
            "padded_row": row,
            "padded_pixel": pixel,
            "complete": int(groups == 1 and tiles * wide == synapse.padded),
            "zeros": zeros.ctypes.data,
        },
        kept=[laid, starts, places, addresses, zeros, sizes],
        halo=(0, rounded - synapse.width),
    )
