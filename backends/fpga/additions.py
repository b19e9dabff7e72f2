"""How the lanes add a synapse: which words are walked, where weights and tables of taps lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from snnc.backends.fpga import program as code
from snnc.backends.fpga.program import Words, digits, packed_bytes
from snnc.backends.fpga.units import Maximum, Synapse
from snnc.backends.fpga.views import Volume
from snnc.ir.graph import IntArray

PAIR = 2**32
"""Two numbers of a table are kept as one, high and low, until the bits of an address are known."""

SPARSE = 0.6
"""A weight is cut into parts if these hold at most this share of it: each part walks over its map again."""


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """One run of the adding lanes over a map.

    Attributes:
        registers: what is set for it, beside the two addresses.
        weights: address of its first word of weights.
        words: how many there are.
        source: address of what is read, from the beginning of the map.
        potential: address of the first block that is added to, from the beginning of the population.
        channels: of the map that are walked.
        taps: (rows, columns) of the map: additions of a word that a spike there causes.
        scanned: words that are looked at.
        rows: rows that are walked.
        vector: whether all lanes of a word are added at once.
        useful: share of a spike's additions that meet channels, not the filling of the last word.
    """

    registers: Mapping[str, int]
    weights: int
    words: int
    source: int
    potential: int
    channels: int
    taps: IntArray
    scanned: int
    rows: int
    vector: bool
    useful: float


class Tables:
    """The weights and tables of a network, as they are placed."""

    def __init__(self, lanes: int, most: int | None = None) -> None:
        """Begin with empty memories.

        Args:
            lanes: additions at a time.
            most: words of weights that one run may read; ``None`` for any number.
        """
        self.lanes, self.most = lanes, most
        self.weights, self.heads, self.rows, self.columns = Words(), Words(), Words(), Words()
        self.weight_bytes = 0

    def blocks(self, channels: int) -> int:
        """Return how many words hold the channels of a pixel."""
        return -(-channels // self.lanes)

    def walks(self, synapse: Synapse, shape: Volume, target: Volume, constant: bool) -> tuple[Walk, ...]:
        """Return what is run for a synapse.

        Args:
            synapse: the synapse.
            shape: of the map that it reads.
            target: of the population.
            constant: whether it reads the inputs, one a word, channels first.

        Raises:
            TooFew: the weights of one channel are more than a run may read.
        """
        found = []
        for shift, weight in digits(synapse.weight):
            kernel = weight.shape[2] * weight.shape[3]
            offset = None if constant else self._offset(weight)
            if offset is not None and (
                self.most is None or self.blocks(weight.shape[1]) * kernel <= self.most
            ):
                found.append(self._vector(synapse, weight, offset, shift, shape, target))
                continue
            parts = _chunks(weight, self.lanes)
            if self.most is not None:
                parts = [part for whole in parts for part in cut(whole, kernel, self.lanes, self.most)]
            found += [self._scalar(synapse, weight, part, shift, shape, target, constant) for part in parts]
        return tuple(found)

    def _offset(self, weight: IntArray) -> int | None:
        """Return by how many blocks words move whose lanes stay; ``None`` if lanes meet others."""
        outputs, inputs = np.nonzero(weight.any(axis=(2, 3)))
        if len(np.unique(outputs)) < len(outputs) or len(np.unique(inputs)) < len(inputs):
            return None
        if ((outputs - inputs) % self.lanes).any():
            return None
        offsets = np.unique(outputs // self.lanes - inputs // self.lanes)
        return int(offsets[0]) if len(offsets) == 1 else None

    def _vector(
        self, synapse: Synapse, weight: IntArray, offset: int, shift: int, shape: Volume, target: Volume
    ) -> Walk:
        """Lane by lane: each channel has a kernel of its own."""
        outputs, inputs = np.nonzero(weight.any(axis=(2, 3)))
        low, high = int(inputs.min()) // self.lanes, int(inputs.max()) // self.lanes
        kernel, blocks = weight.shape[2] * weight.shape[3], high - low + 1
        table = np.zeros((blocks, kernel, self.lanes), np.int64)
        for output, channel in zip(outputs, inputs, strict=True):
            table[channel // self.lanes - low, :, channel % self.lanes] = weight[output, channel].ravel()
        at = self._place(table)
        registers = {
            **self._map(shape, blocks),
            **self._taps(synapse, target, weight.shape[3], 1),
            "lanes": self.lanes - 1 << 8,
            "reading": code.VECTOR | shift << code.BYTES,
            "weights": at,
            "weight_lane": 0,
            "weight_block": kernel,
            "blocks_out": 1,
        }
        channels = min((high + 1) * self.lanes, shape[0]) - low * self.lanes
        useful = len(inputs) / (self.lanes * blocks)
        extent = at, blocks * kernel
        return self._walk(synapse, registers, extent, low, low + offset, channels, shape, 1, True, useful)

    def _scalar(
        self,
        synapse: Synapse,
        weight: IntArray,
        part: tuple[int, int, int, int],
        shift: int,
        shape: Volume,
        target: Volume,
        constant: bool,
    ) -> Walk:
        """Spike by spike: the weights from some channels to some blocks of outputs."""
        first, last, low, high = part
        weight = weight[low * self.lanes : (high + 1) * self.lanes, first : last + 1]
        outputs, inputs, height, width = weight.shape
        wide = high - low + 1
        full = np.zeros((wide * self.lanes, inputs, height, width), np.int64)
        full[:outputs] = weight
        base = self._place(full.transpose(1, 2, 3, 0))
        a_lane = height * width * wide
        registers = {
            **self._taps(synapse, target, width, wide),
            "blocks_out": wide,
            "reading": shift << code.BYTES,
        }
        if constant:
            pixels = shape[1] * shape[2]
            begin = first * pixels
            registers |= {
                **_walked(shape, (shape[2], 1, pixels), inputs),
                "reading": shift << code.BYTES | code.INPUT,
                "lanes": 0,
                "weights": base,
                "weight_lane": 0,
                "weight_block": a_lane,
            }
        else:
            begin = first // self.lanes
            registers |= {
                **self._map(shape, last // self.lanes - begin + 1),
                "lanes": first % self.lanes | last % self.lanes << 8,
                "weights": base - first % self.lanes * a_lane,
                "weight_lane": a_lane,
                "weight_block": self.lanes * a_lane,
            }
        useful = outputs / (self.lanes * wide)
        extent = base, inputs * a_lane
        return self._walk(synapse, registers, extent, begin, low, inputs, shape, wide, False, useful)

    def _walk(
        self,
        synapse: Synapse,
        registers: Mapping[str, int],
        extent: tuple[int, int],
        source: int,
        potential: int,
        channels: int,
        shape: Volume,
        wide: int,
        vector: bool,
        useful: float,
    ) -> Walk:
        rows = np.array([len(taps) for taps in synapse.rows])
        columns = np.array([len(taps) for taps in synapse.columns])
        scanned = int((rows > 0).sum()) * shape[2] * registers["blocks_in"]
        taps = rows[:, None] * columns * wide
        return Walk(registers, *extent, source, potential, channels, taps, scanned, shape[1], vector, useful)

    def _map(self, shape: Volume, blocks_in: int) -> dict[str, int]:
        """Return the registers for a map of spikes, channels last."""
        blocks = self.blocks(shape[0])
        return _walked(shape, (shape[2] * blocks, blocks, 1), blocks_in)

    def _place(self, table: IntArray) -> int:
        """Return the address of weights whose last axis is blocks times lanes."""
        before = len(self.weights.words)
        at = self.weights.place(packed_bytes(table.reshape(-1, self.lanes)))
        if len(self.weights.words) > before:
            self.weight_bytes += int(np.count_nonzero(table))
        return at

    def _taps(self, synapse: Synapse, target: Volume, width: int, wide: int) -> dict[str, int]:
        """Return where the taps of each row and column lie."""
        blocks = self.blocks(target[0])
        rows = [_list(self.rows, taps, target[2] * blocks, width * wide) for taps in synapse.rows]
        columns = [_list(self.columns, taps, blocks, wide) for taps in synapse.columns]
        return {"head_rows": self.heads.place(rows), "head_columns": self.heads.place(columns)}

    def windows(self, maximum: Maximum) -> dict[str, int]:
        """Return the registers for the maxima of windows, beside the two addresses."""
        blocks = self.blocks(maximum.target[0])
        stride = maximum.source[2] * blocks
        rows = [_list(self.rows, [(row, 0) for row in found], stride, 0) for found in maximum.rows]
        columns = [
            _list(self.columns, [(column, 0) for column in found], blocks, 0) for found in maximum.columns
        ]
        return {
            **_walked(maximum.target, (0, 0, 0), blocks),
            "source": 0,
            "lanes": 0,
            "head_rows": self.heads.place(rows),
            "head_columns": self.heads.place(columns),
            "reading": code.EVERY | code.VECTOR | code.MAXIMUM,
            "weights": 0,
            "weight_lane": 0,
            "weight_block": 0,
            "blocks_out": 1,
        }


def _walked(shape: Volume, strides: tuple[int, int, int], blocks: int) -> dict[str, int]:
    names = ("rows", "columns", "stride_y", "stride_x", "stride_c", "blocks_in")
    return dict(zip(names, (*shape[1:], *strides, blocks), strict=True))


def _list(words: Words, taps: Sequence[tuple[int, int]], potential: int, weight: int) -> int:
    """Place the taps of one row or column; return where they begin, and how many there are."""
    at = words.place([target * potential * PAIR + tap * weight for target, tap in taps]) if taps else 0
    return at * PAIR + len(taps)


def _chunks(weight: IntArray, lanes: int) -> list[tuple[int, int, int, int]]:
    """Cut a weight so that few zeros are added.

    Args:
        weight: (target channels, source channels, kernel rows, kernel columns).
        lanes: target channels of a block.

    Returns:
        First and last channel of the source, first and last block of the target, of each part.
    """
    used = np.asarray(weight.any(axis=(2, 3)))
    blocks = -(-len(used) // lanes)
    reached = [np.flatnonzero(used[b * lanes : (b + 1) * lanes].any(axis=0)) for b in range(blocks)]
    present = [(b, int(found[0]), int(found[-1])) for b, found in enumerate(reached) if len(found)]
    first, last = min(a for _, a, _ in present), max(z for _, _, z in present)
    low, high = present[0][0], present[-1][0]
    whole = (last - first + 1) * (high - low + 1)
    if sum(z - a + 1 for _, a, z in present) > SPARSE * whole:
        return [(first, last, low, high)]
    parts: list[tuple[int, int, int, int]] = []
    for block, a, z in present:
        if parts and parts[-1][:2] == (a, z) and parts[-1][3] == block - 1:
            parts[-1] = (a, z, parts[-1][2], block)
        else:
            parts.append((a, z, block, block))
    return parts


class TooFew(Exception):  # noqa: N818 - it never leaves this target
    """The memory of weights cannot hold what one run reads."""


def cut(
    part: tuple[int, int, int, int], kernel: int, lanes: int, most: int
) -> Iterator[tuple[int, int, int, int]]:
    """Cut a part, as :func:`_chunks` gives them, into those whose weights are at most so many words.

    Source channels are cut where words of spikes end, so that no word is walked twice.
    """
    first, last, low, high = part
    wide = min(high - low + 1, most // kernel)
    if wide == 0:
        raise TooFew
    channels = most // (kernel * wide)
    for block in range(low, high + 1, wide):
        begin = first
        while begin <= last:
            end = begin + channels
            if (whole := end // lanes * lanes) > begin:
                end = whole
            end = min(end, last + 1)
            yield begin, end - 1, block, min(block + wide - 1, high)
            begin = end
