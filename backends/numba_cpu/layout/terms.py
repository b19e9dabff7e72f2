"""What the terms of a current are made of, and what a term ready to be run is.

A *term* is one summand of a population's current. For most synapses several kernels would do: the
modules ``event_layout``, ``product_layout`` and ``channel_layout`` each say whether theirs can take a
synapse, lay the weight out, and fill in the record that the kernels read, ``TERM`` of
:mod:`snnc.backends.numba_cpu.kernels.records`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu.codegen import micro
from snnc.backends.numba_cpu.kernels.records import TERM_KINDS
from snnc.ir.geometry import Window

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
        in_order: whether they lie as in the network's own arrays: then all is one row of one channel.
    """

    height: int
    width: int
    channels: int
    padded: int
    kind: np.dtype[Any]
    low: int
    high: int
    in_order: bool = False

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
        weight: (outputs, inputs / groups, kernel height, kernel width) integers, or float32.
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

    @property
    def pointwise(self) -> bool:
        """Whether every pixel is read alone, all of its channels together."""
        return self.groups == 1 and self.window == Window((1, 1))


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
        variants: rows of :data:`~snnc.backends.numba_cpu.kernels.records.VARIANT`.
        kept: arrays whose addresses are in the record.
        halo: spare columns that it needs on the left and on the right.
        dense: the same synapse as products, where the term switches between them and events.
    """

    fields: dict[str, int]
    variants: list[tuple[int, ...]] = field(default_factory=list)
    kept: list[Array] = field(default_factory=list)
    halo: tuple[int, int] = (0, 0)
    dense: Packed | None = None


def largest_sums(weight: Array, axes: tuple[int, ...], source: Values) -> tuple[Array, Array]:
    """Return how far ``sum w s`` over ``axes`` can go above zero and below it, int64, whatever the spikes."""
    w = weight.astype(np.int64)
    up, down = np.maximum(w, 0), np.minimum(w, 0)
    high = (up * source.high + down * source.low).sum(axis=axes)
    low = (up * source.low + down * source.high).sum(axis=axes)
    return high, -low


def fits(weight: Array, axes: tuple[int, ...], source: Values) -> bool:
    """Say whether ``sum w s`` over ``axes`` always fits 16 bits."""
    return all(sums.max(initial=0) <= micro.LARGEST_SUM for sums in largest_sums(weight, axes, source))


def common_fields(synapse: Synapse, kind: str) -> dict[str, int]:
    """Return what the records of all kinds of terms say of the geometry."""
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
