"""Weights laid out so that every spike adds its rows; see ``codegen.micro_events``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu.codegen import micro_events
from snnc.backends.numba_cpu.kernels.event_currents import event_fields, listing, scattering
from snnc.backends.numba_cpu.kernels.records import VARIANT
from snnc.backends.numba_cpu.layout.terms import Packed, Synapse, common_fields, fits
from snnc.backends.numba_cpu.machine.memory import aligned
from snnc.ir.geometry import Window

CACHE_BYTES = 80 << 10
"""What the rows of one event list may take: few are read for a pixel, so the first two caches serve."""

KEPT_BYTES = 256 << 10
"""Weights up to this size are still in the second cache when a layer needs them again."""

SCATTERED_BLOCKS = tuple(n for n in (1, 2, 3, 4, 5, 6, 8, 12) if n <= micro_events.MOST_BLOCKS)
"""Blocks of 32 sums for which there is code that adds all of them to the currents after every column."""

SLIDING_BLOCKS = tuple(n for n in (3, 6, 12) if n <= micro_events.MOST_BLOCKS)
"""The same of sums that stay in registers."""

TILES = (128, 96, 64, 32)
"""Outputs whose currents may stay together, the best first; layers of up to 16 have a tile of 16."""

SLIDING_TAPS = 3
"""Kernel columns for which there is code that keeps the sums of neighbouring output columns in registers."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Events:
    """Every spike adds its rows of the weight.

    Attributes:
        tile: outputs whose currents stay together.
        joined_rows: kernel rows whose events make one list.
        slides: whether sums stay in registers from one input column to the next.
    """

    tile: int
    joined_rows: int
    slides: bool = False

    def __str__(self) -> str:
        sums = ", sliding" if self.slides else ""
        return f"events, {self.tile} outputs x {self.joined_rows} kernel rows{sums}"


def event_choice(synapse: Synapse) -> Events | None:
    """Return the best way to run a synapse by events, or ``None`` if there is none."""
    window, source = synapse.window, synapse.source
    if synapse.groups != 1 or source.kind != np.int8 or synapse.weight.dtype != np.int8:
        return None
    if source.padded % micro_events.CHUNK or source.magnitude > 3 or synapse.weight.min(initial=0) < -127:
        return None
    if window.dilations[1] != 1 and (window.strides[1] != 1 or synapse.padded == 16):
        return None
    taps = {len(_taps(window, residue)) for residue in range(window.strides[1])} - {0}
    can_slide = taps == {SLIDING_TAPS} and window.strides[1] == window.dilations[1] == 1
    tiles = (16,) if synapse.padded == 16 else tuple(t for t in TILES if synapse.padded % t == 0)
    for slides in (True, False):
        known = SLIDING_BLOCKS if slides else SCATTERED_BLOCKS
        for tile in tiles:
            blocks = {-(-n * tile // micro_events.BLOCK) for n in taps}
            if (slides and (not can_slide or tile == 16)) or not blocks <= set(known):
                continue
            choice = _joined(synapse, tile, max(blocks), slides)
            if choice is not None:
                return choice
    return None


def _joined(synapse: Synapse, tile: int, blocks: int, slides: bool) -> Events | None:
    """Return the choice with the longest lists whose rows stay in the cache and whose sums fit."""
    window, source = synapse.window, synapse.source
    for joined in range(window.kernel[0], 0, -1):
        small = joined == 1 or joined * source.padded * blocks * micro_events.BLOCK <= CACHE_BYTES
        if joined > 1 and window.dilations[0] != 1:
            continue  # the rows of one list follow each other
        axes = (1, 2, 3) if slides else (1, 2)
        if small and (2 * joined - 1) * source.padded < 2**16 and _event_sums_fit(synapse, joined, axes):
            return Events(tile, joined, slides)
    return None


def _taps(window: Window, residue: int) -> list[int]:
    """Return the kernel columns that an input column reaches, by the output columns in ascending order."""
    taps = range(window.kernel[1])
    if window.strides[1] == 1:
        return list(taps)[::-1]
    return [kx for kx in taps if kx % window.strides[1] == residue][::-1]


def _event_sums_fit(synapse: Synapse, joined: int, axes: tuple[int, ...]) -> bool:
    rows = synapse.window.kernel[0]
    return all(
        fits(synapse.weight[:, :, first : first + joined], axes, synapse.source)
        for first in range(0, rows, joined)
    )


def pack_events(synapse: Synapse, choice: Events) -> Packed:
    """Lay a weight out for :func:`snnc.backends.numba_cpu.codegen.micro_events.scatter_row`."""
    window, source = synapse.window, synapse.source
    outputs, inputs, height, _ = synapse.weight.shape
    parts = -(-height // choice.joined_rows)
    tiles = -(-outputs // choice.tile)
    full = np.zeros(
        (tiles * choice.tile, source.padded, parts * choice.joined_rows, window.kernel[1]), np.int16
    )
    full[:outputs, :inputs, :height] = synapse.weight
    distance = window.dilations[1] if window.strides[1] == 1 else 1
    pixel = synapse.padded * 4
    table = aligned(micro_events.positions_by_mask())
    signs = 2 if source.low < 0 else 1
    packed = Packed(
        common_fields(synapse, "events")
        | {
            "levels": source.magnitude,
            "signs": signs,
            "list_column": listing(signs).address,
            **event_fields(),
            "joined_rows": choice.joined_rows,
            "tiles": tiles,
            "tile_bytes": choice.tile * 4,
            "table": table.ctypes.data,
        },
        kept=[table],
    )
    left = right = weight_bytes = 0
    for residue in range(window.strides[1]):
        taps = _taps(window, residue)
        if not taps:
            packed.variants.append((0,) * len(VARIANT.names or ()))
            continue
        # (tiles, tile, inputs, parts, rows, taps) -> (parts, tiles, rows, inputs, taps, tile)
        rows = full[..., taps].reshape(
            tiles, choice.tile, source.padded, parts, choice.joined_rows, len(taps)
        )
        rows = rows.transpose(3, 0, 4, 2, 5, 1)
        spare = len(taps) * choice.tile % micro_events.BLOCK // choice.tile
        if spare:
            rows = np.concatenate([rows, np.zeros_like(rows[..., :1, :])], axis=-2)
        # Rows of any phase can begin a list, so all but the last kernel row stand there twice.
        rows = np.concatenate([rows, rows[:, :, :-1]], axis=2)
        rows = rows.reshape(parts, tiles, rows.shape[2] * source.padded, -1)
        weight = aligned(_interleave(rows))
        blocks = weight.shape[-1] // micro_events.BLOCK
        columns = [micro_events.BLOCK * k // choice.tile for k in range(blocks)]
        offsets = aligned(
            np.array(
                [
                    (column - (len(taps) - 1)) * distance * pixel + micro_events.BLOCK * k % choice.tile * 4
                    for k, column in enumerate(columns)
                ],
                np.int64,
            )
        )
        packed.kept += [weight, offsets]
        scatter = scattering(blocks, len(taps) if choice.slides else 1)
        lines = weight.strides[1] // 64
        places = (offsets.ctypes.data, weight.ctypes.data, *weight.strides[:2])
        packed.variants.append((blocks, scatter.address, lines, *places))
        weight_bytes += weight.nbytes
        left = max(left, (len(taps) - 1) * distance)
        last = (source.width - 1 + window.pads[1]) // window.strides[1]
        right = max(right, last + spare - (synapse.width - 1))
    packed.halo = (left, right)
    packed.fields["kept"] = int(weight_bytes <= KEPT_BYTES)
    return packed


def _interleave(rows: Array) -> Array:
    """Order the bytes of every block of 32 outputs: 0, 16, 1, 17, ..., with 128 added to the even ones."""
    blocks = rows.reshape(*rows.shape[:-1], -1, 2, micro_events.BLOCK // 2)
    pairs = np.stack([blocks[..., 0, :] + 128, blocks[..., 1, :]], axis=-1)
    return np.ascontiguousarray(pairs.reshape(rows.shape)).astype(np.uint8)
