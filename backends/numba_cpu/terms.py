"""Weights laid out for the kernels, and what each way of adding a current needs.

A *term* is one summand of a population's current. For most synapses several kernels would do; each
class below says whether it can take a synapse, lays the weight out, and fills in the record that the
kernels read, :data:`snnc.backends.numba_cpu.records.TERM`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu import micro
from snnc.backends.numba_cpu.memory import aligned
from snnc.backends.numba_cpu.records import EVENTS, TERM_KINDS, VARIANT
from snnc.ir.geometry import Window

CACHE_BYTES = 80 << 10
"""What the rows of one event list may take: few are read for a pixel, so the first two caches serve."""

MOST_BLOCKS = 6
"""Blocks of 32 sums that fit the registers."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Values:
    """What a term reads, or a stage writes: its place in memory and how large it can be.

    Attributes:
        height: rows.
        width: columns.
        channels: channels of a pixel.
        padded: channels that a pixel has room for.
        kind: type of an element.
        low: smallest value.
        high: largest value.
    """

    height: int
    width: int
    channels: int
    padded: int
    kind: np.dtype[np.signedinteger]
    low: int
    high: int

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel."""
        return self.padded * self.kind.itemsize

    @property
    def magnitude(self) -> int:
        """Largest magnitude."""
        return max(self.high, -self.low)


@dataclass(frozen=True, slots=True)
class Synapse:
    """A weight and its window, with what it reads and the channels that it writes.

    Attributes:
        weight: (outputs, inputs / groups, kernel height, kernel width) integers.
        window: geometry.
        groups: channel groups.
        source: what is read.
        width: columns of the output.
        padded: channels that an output pixel has room for.
    """

    weight: Array
    window: Window
    groups: int
    source: Values
    width: int
    padded: int

    @property
    def inputs(self) -> int:
        """Inputs of one group."""
        return int(self.weight.shape[1])

    @property
    def outputs(self) -> int:
        """Outputs of one group."""
        return int(self.weight.shape[0]) // self.groups


@dataclass(slots=True)
class Band:
    """How much of the output is worked on together.

    Attributes:
        rows: rows of one image.
        steps: steps.
    """

    rows: int
    steps: int


@dataclass(slots=True)
class Packed:
    """A term ready to be run.

    Attributes:
        fields: values of its record, addresses of scratch memory excepted.
        variants: rows of :data:`~snnc.backends.numba_cpu.records.VARIANT`.
        scratch: bytes of each scratch array, by field.
        kept: arrays whose addresses are in the record.
        halo: spare columns that it needs on the left and on the right.
    """

    fields: dict[str, int]
    variants: list[tuple[int, ...]] = field(default_factory=list)
    kept: list[Array] = field(default_factory=list)
    halo: tuple[int, int] = (0, 0)


def fits(weight: Array, axes: tuple[int, ...], source: Values) -> bool:
    """Say whether ``sum w s`` over ``axes`` always fits 16 bits."""
    w = weight.astype(np.int64)
    up, down = np.maximum(w, 0), np.minimum(w, 0)
    high = (up * source.high + down * source.low).sum(axis=axes)
    low = (up * source.low + down * source.high).sum(axis=axes)
    return bool(max(high.max(initial=0), -low.min(initial=0)) <= micro.LARGEST_SUM)


def _common(synapse: Synapse, kind: str) -> dict[str, int]:
    window, source = synapse.window, synapse.source
    return {
        "kind": TERM_KINDS.index(kind),
        "source_pixel": source.pixel_bytes,
        "height": source.height,
        "width": source.width,
        "channels": source.padded,
        "kernel_height": window.kernel[0],
        "kernel_width": window.kernel[1],
        "stride_down": window.strides[0],
        "stride_right": window.strides[1],
        "pad_top": window.pads[0],
        "pad_left": window.pads[1],
        "dilation_down": window.dilations[0],
        "dilation_right": window.dilations[1],
    }


# --- events -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Events:
    """Every spike adds its rows of the weight.

    Attributes:
        tile: outputs whose currents stay together.
        joined_rows: kernel rows whose events make one list.
    """

    tile: int
    joined_rows: int

    def __str__(self) -> str:
        return f"events, {self.tile} outputs x {self.joined_rows} kernel rows"


def event_choice(synapse: Synapse) -> Events | None:
    """Return the best way to run a synapse by events, or ``None`` if there is none."""
    window, source = synapse.window, synapse.source
    if synapse.groups != 1 or source.kind != np.int8 or synapse.weight.dtype != np.int8:
        return None
    if source.padded % micro.CHUNK or source.magnitude > 3 or synapse.weight.min(initial=0) < -127:
        return None
    if window.dilations[1] != 1 and (window.strides[1] != 1 or synapse.padded == 16):
        return None
    columns = max(len(_taps(window, residue)) for residue in range(window.strides[1]))
    if synapse.padded == 16:
        tile = 16
        blocks = -(-columns // 2)
    else:
        sizes = (n for n in (4, 3, 2, 1) if synapse.padded % (32 * n) == 0 and n * columns <= MOST_BLOCKS)
        tile = 32 * next(sizes, 0)
        blocks = columns * tile // 32
    if not 1 <= blocks <= MOST_BLOCKS:
        return None
    for joined in range(window.kernel[0], 0, -1):
        small = joined == 1 or joined * source.padded * blocks * micro.BLOCK <= CACHE_BYTES
        if joined > 1 and window.dilations[0] != 1:
            continue  # the rows of one list follow each other
        if small and (2 * joined - 1) * source.padded < 2**16 and _event_sums_fit(synapse, joined):
            return Events(tile, joined)
    return None


def _taps(window: Window, residue: int) -> list[int]:
    """Return the kernel columns that an input column reaches, by the output columns in ascending order."""
    taps = range(window.kernel[1])
    if window.strides[1] == 1:
        return list(taps)[::-1]
    return [kx for kx in taps if kx % window.strides[1] == residue][::-1]


def _event_sums_fit(synapse: Synapse, joined: int) -> bool:
    rows = synapse.window.kernel[0]
    return all(
        fits(synapse.weight[:, :, first : first + joined], (1, 2), synapse.source)
        for first in range(0, rows, joined)
    )


def pack_events(synapse: Synapse, choice: Events) -> Packed:
    """Lay a weight out for :func:`snnc.backends.numba_cpu.micro.scatter_row`."""
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
    table = aligned(micro.positions_by_mask())
    packed = Packed(
        _common(synapse, "events")
        | {
            "levels": source.magnitude,
            "signs": 2 if source.low < 0 else 1,
            "joined_rows": choice.joined_rows,
            "tiles": tiles,
            "tile_bytes": choice.tile * 4,
            "table": table.ctypes.data,
        },
        kept=[table],
    )
    left = right = 0
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
        spare = len(taps) * choice.tile % micro.BLOCK // choice.tile
        if spare:
            rows = np.concatenate([rows, np.zeros_like(rows[..., :1, :])], axis=-2)
        # Rows of any phase can begin a list, so all but the last kernel row stand there twice.
        rows = np.concatenate([rows, rows[:, :, :-1]], axis=2)
        rows = rows.reshape(parts, tiles, rows.shape[2] * source.padded, -1)
        weight = aligned(_interleave(rows))
        blocks = weight.shape[-1] // micro.BLOCK
        columns = [micro.BLOCK * k // choice.tile for k in range(blocks)]
        offsets = aligned(
            np.array(
                [
                    (column - (len(taps) - 1)) * distance * pixel + micro.BLOCK * k % choice.tile * 4
                    for k, column in enumerate(columns)
                ],
                np.int64,
            )
        )
        packed.kept += [weight, offsets]
        packed.fields["ahead"] = max(packed.fields.get("ahead", 0), weight.strides[1] // 64)
        packed.variants.append((blocks, offsets.ctypes.data, weight.ctypes.data, *weight.strides[:2]))
        left = max(left, (len(taps) - 1) * distance)
        last = (source.width - 1 + window.pads[1]) // window.strides[1]
        right = max(right, last + spare - (synapse.width - 1))
    packed.halo = (left, right)
    return packed


def _interleave(rows: Array) -> Array:
    """Order the bytes of every block of 32 outputs: 0, 16, 1, 17, ..., with 128 added to the even ones."""
    blocks = rows.reshape(*rows.shape[:-1], -1, 2, micro.BLOCK // 2)
    pairs = np.stack([blocks[..., 0, :] + 128, blocks[..., 1, :]], axis=-1)
    return np.ascontiguousarray(pairs.reshape(rows.shape)).astype(np.uint8)


# --- products ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Products:
    """Every input is multiplied, whether it spiked or not.

    Attributes:
        words: int16 in place of bytes.
        run_length: inputs of a run, a multiple of four bytes.
        runs: runs of one section, after which 16-bit sums are emptied.
    """

    words: bool
    run_length: int
    runs: int

    def __str__(self) -> str:
        return f"{'words' if self.words else 'bytes'}, {self.runs} x {self.run_length} inputs"


def product_choice(synapse: Synapse) -> Products | None:
    """Return how to run a synapse densely, or ``None`` if its integers are too wide."""
    source = synapse.source
    if source.kind == np.int8 and synapse.weight.dtype == np.int8:
        # -128 is not among the weights that quantisation gives, and its products need more room.
        most = micro.LARGEST_BYTE if synapse.weight.min(initial=0) >= -127 else 127
        if source.high - min(source.low, 0) <= most:
            return _byte_choice(synapse)
    if source.kind.itemsize > 2 or synapse.weight.dtype.itemsize > 2:
        return None
    length = _run_length(synapse)
    return Products(True, length, len(input_runs(synapse, length)))


def _byte_choice(synapse: Synapse) -> Products:
    """Return the longest sections whose sums fit 16 bits; runs are cut only where they must be."""
    length = _run_length(synapse)
    while True:
        count = len(input_runs(synapse, length))
        for sections in range(1, count + 1):
            taken = -(-count // sections)
            if _product_sums_fit(synapse, length, taken):
                return Products(False, length, taken)
        length = -(-length // 8) * 4


def _run_length(synapse: Synapse) -> int:
    """Return how many inputs, rounded up to a group of four, lie side by side in a window."""
    if synapse.groups == 1 and synapse.window.dilations[1] == 1:
        length = synapse.window.kernel[1] * synapse.source.padded
    else:
        length = synapse.inputs
    return -(-length // 4) * 4


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


def _product_sums_fit(synapse: Synapse, length: int, runs: int) -> bool:
    if micro.BYTE_LANES == 1:
        return True
    weight = _sectioned(synapse, length, runs)
    lanes = weight.reshape(*weight.shape[:-1], length // 4, micro.BYTE_LANES, 2)
    return fits(lanes, (3, 4, 6), synapse.source)


def pack_products(synapse: Synapse, choice: Products) -> Packed:
    """Lay a weight out for :func:`~snnc.backends.numba_cpu.micro.multiply_bytes` or ``multiply_words``."""
    window, source = synapse.window, synapse.source
    weight = _sectioned(synapse, choice.run_length, choice.runs)
    groups, outputs, sections, runs, length = weight.shape
    tiles = -(-outputs // micro.OUTPUTS)
    kind, together = (np.int16, 2) if choice.words else (np.int8, 4)
    full = np.zeros((groups, tiles * micro.OUTPUTS, sections, runs, length), kind)
    full[:, :outputs] = weight
    # -> (groups, tiles, sections, runs, input groups, outputs, inputs)
    grouped = full.reshape(groups, tiles, micro.OUTPUTS, sections, runs, length // together, together)
    grouped = grouped.transpose(0, 1, 3, 4, 5, 2, 6)
    laid = aligned(np.ascontiguousarray(grouped))
    offset = 0 if choice.words else max(0, -source.low)
    lanes = 1 if choice.words else micro.BYTE_LANES
    sums = grouped.astype(np.int64).reshape(*grouped.shape[:-1], lanes, -1).sum(axis=(3, 4, 7))
    starts = aligned((-offset * sums).astype(np.int16 if lanes == 2 else np.int32))
    size = 2 if choice.words else 1
    places = aligned(
        np.array(
            [
                (group * synapse.inputs * size, (group * outputs + tile * micro.OUTPUTS) * 4)
                for group in range(groups)
                for tile in range(tiles)
            ],
            np.int64,
        )
    )
    rounded = -(-synapse.width // micro.PIXELS) * micro.PIXELS
    padded_width = max(
        source.width + window.pads[1] + window.pads[3],
        (rounded - 1) * window.strides[1] + (window.kernel[1] - 1) * window.dilations[1] + 1,
    )
    pixel = source.padded * size
    row = padded_width * pixel
    joined = groups == 1 and window.dilations[1] == 1
    offsets = []
    for run, first in input_runs(synapse, choice.run_length):
        ky, kx = (run, 0) if joined else divmod(run, window.kernel[1])
        place = ky * window.dilations[0] * row + kx * window.dilations[1] * pixel
        offsets.append(place + first * size)
    offsets += [0] * (sections * runs - len(offsets))
    addresses = aligned(np.array(offsets, np.int64))
    zeros = aligned(np.zeros(micro.OUTPUTS, np.int32))
    return Packed(
        _common(synapse, "words" if choice.words else "bytes")
        | {
            "weight": laid.ctypes.data,
            "tiles": groups * tiles,
            "tile_places": places.ctypes.data,
            "sections": sections,
            "section_bytes": laid.strides[2],
            "runs": addresses.ctypes.data,
            "run_count": runs,
            "input_groups": length // together,
            "starts": starts.ctypes.data,
            "offset": offset,
            "padded_row": row,
            "padded_pixel": pixel,
            "complete": int(groups == 1 and tiles * micro.OUTPUTS == synapse.padded),
            "zeros": zeros.ctypes.data,
        },
        kept=[laid, starts, places, addresses, zeros],
        halo=(0, rounded - synapse.width),
    )


# --- channels that read only themselves ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Channels:
    """Every channel reads only itself.

    Attributes:
        kind: name of the kernel.
    """

    kind: str

    def __str__(self) -> str:
        return self.kind.replace("_", " ")


def channel_choice(synapse: Synapse) -> Channels | None:
    """Return how to run a depthwise convolution or an identity, or ``None`` if it is neither."""
    source = synapse.source
    if synapse.groups != source.channels or synapse.inputs != 1 or synapse.outputs != 1:
        return None
    if source.padded != synapse.padded or source.padded % 16 or synapse.weight.dtype.itemsize > 2:
        return None
    if source.kind == np.int8:
        return Channels("channel_bytes" if fits(synapse.weight, (1, 2, 3), source) else "channel_words")
    return Channels("channel_wide") if source.kind == np.int16 else None


def pack_channels(synapse: Synapse, choice: Channels) -> Packed:
    """Lay a weight out for :func:`snnc.backends.numba_cpu.micro.multiply_channels`."""
    window, source = synapse.window, synapse.source
    weight = np.zeros((window.area, source.padded), np.int16)
    weight[:, : source.channels] = synapse.weight.reshape(source.channels, window.area).T
    laid = aligned(weight)
    width = source.width + window.pads[1] + window.pads[3]
    row = width * source.pixel_bytes
    taps = aligned(
        np.array(
            [
                ky * window.dilations[0] * row + kx * window.dilations[1] * source.pixel_bytes
                for ky in range(window.kernel[0])
                for kx in range(window.kernel[1])
            ],
            np.int64,
        )
    )
    return Packed(
        _common(synapse, choice.kind)
        | {
            "weight": laid.ctypes.data,
            "runs": taps.ctypes.data,
            "run_count": window.area,
            "padded_row": row,
            "padded_pixel": source.pixel_bytes,
        },
        kept=[laid, taps],
    )


Choice = Events | Products | Channels


def pack(synapse: Synapse, choice: Choice) -> Packed:
    """Lay a weight out as chosen."""
    match choice:
        case Events():
            return pack_events(synapse, choice)
        case Products():
            return pack_products(synapse, choice)
        case Channels():
            return pack_channels(synapse, choice)


def scratch_bytes(fields: dict[str, int], band: Band, over_steps: bool) -> dict[str, int]:
    """Return how many bytes each scratch array of a term needs for one band."""
    steps = band.steps
    height = input_rows(fields, band)
    if fields["kind"] == EVENTS:
        height = min(height, fields["height"])
        lists = steps * height * fields["width"]
        listed = fields["channels"] * fields["levels"] * 2
        index = steps * (height + 1) * fields["width"] * 8
        signed = fields["signs"] == 2
        return {
            "entries": lists * listed,
            "index": index,
            "taken_entries": lists * listed if signed else 0,
            "taken_index": index if signed else 0,
        }
    frames = -(-steps // micro.PIXELS) * micro.PIXELS if over_steps else steps
    return {"padded": frames * height * fields["padded_row"]}


def input_rows(fields: dict[str, int], band: Band) -> int:
    """Return how many rows of the input a band reads, borders included."""
    reach = (fields["kernel_height"] - 1) * fields["dilation_down"] + 1
    return (band.rows - 1) * fields["stride_down"] + reach
