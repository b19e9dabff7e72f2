"""Nodes that only rearrange and pool values, on arrays whose channels lie last and are padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu.kernels import counting as kernels
from snnc.backends.numba_cpu.layout.terms import Synapse, Values
from snnc.backends.numba_cpu.planning.ranges import narrowest
from snnc.errors import InternalError
from snnc.ir import snn
from snnc.ir.geometry import ABSENT, Window
from snnc.ir.graph import Shape
from snnc.ir.operations import Operation, unmatched
from snnc.simulation.arrays import convolve

Array = NDArray[Any]


@dataclass(slots=True)
class Value:
    """A node's values for a chunk of images.

    Attributes:
        values: (steps, images, height, width, padded channels); one step if constant.
        place: what is in it.
        constant: whether the one step stands for each step with input.
    """

    values: Array
    place: Values
    constant: bool

    def channels(self, images: int) -> Array:
        """Return the values of some images without the padding."""
        return self.values[:, :images, ..., : self.place.channels]

    def spread(self, images: int, timesteps: int, steps: int) -> Array:
        """Return the values of every step, without the padding."""
        values = self.channels(images)
        if not self.constant:
            return values
        full = np.zeros((steps, *values.shape[1:]), values.dtype)
        full[:timesteps] = values
        return full

    def in_order(self, images: int, shape: Shape) -> Array:
        """Return the values as (steps, images, *shape)."""
        values = channels_first(self.channels(images), 2)
        return values.reshape(*values.shape[:2], *shape)

    def put(self, values: Array) -> None:
        """Set the values of the first images, (steps, images, *shape)."""
        self.fill(values if self.place.in_order else channels_last(values))

    def fill(self, values: Array) -> None:
        """Set the values of the first images; ``values`` has the channels last, without padding."""
        images, channels = values.shape[1], self.place.channels
        target = self.values[:, :images]
        target[..., :channels] = values.reshape(*target.shape[:-1], channels)
        target[..., channels:] = 0

    def fill_step(self, t: int, values: Array) -> None:
        """Set one step of the first images likewise."""
        target = self.values[t, : len(values)]
        target[..., : self.place.channels] = values.reshape(*target.shape[:-1], self.place.channels)
        target[..., self.place.channels :] = 0


def channels_last(train: Array) -> Array:
    """View (steps, images, channels, ...) with the channels last."""
    return train.transpose(0, 1, *range(3, train.ndim), 2)


def channels_first(values: Array, lead: int) -> Array:
    """View values whose channels lie last with the channels behind ``lead`` axes."""
    last = values.ndim - 1
    return values.transpose(*range(lead), last, *range(lead, last))


@cache
def geometry(window: Window) -> Array:
    """Return a window as the kernels read it."""
    top, left = window.pads[:2]
    return np.array([*window.kernel, *window.strides, top, left, *window.dilations], np.int64)


def _pool(window: Window, read: Value, maximum: bool, out: Value, images: int) -> None:
    """Pool every window of some images."""
    steps, held, *rest = read.values.shape
    sizes = np.array([steps, held, images, *rest, *out.values.shape[2:]], np.int64)
    kernels.pool(read.values.reshape(-1), sizes, geometry(window), maximum, out.values.reshape(-1))


def apply(
    node: Operation, read: Sequence[Value], out: Value, images: int, timesteps: int, steps: int
) -> None:
    """Compute a node that has neither weight nor state.

    Args:
        node: the node.
        read: its inputs.
        out: where to put the result.
        images: number of images.
        timesteps: T.
        steps: T + K.
    """
    match node:
        case snn.Encode():
            return  # the caller has put the input there
        case snn.ConstantCurrent():
            values = np.broadcast_to(node.values, (1, images, *node.shape))
            out.fill(channels_last(values))
        case snn.SumPool():
            _pool(node.window, read[0], False, out, images)
        case snn.CurrentMaxPool():
            _pool(node.window, read[0], True, out, images)
        case snn.CountMaxPool() if steps == 1:  # what is sent in the only step are the counts
            _pool(node.window, read[0], True, out, images)
        case snn.CountMaxPool():
            sent: Array = read[0].values
            if read[0].constant:
                sent = _padded_spread(read[0], images, timesteps, steps)
            largest = steps * max(read[0].place.magnitude, 1)
            kind = narrowest(max(largest, np.iinfo(np.int16).max))
            if sent.dtype == np.float32:
                kind = sent.dtype
            counts = np.empty(sent.shape[2:], kind)
            highest = np.empty(out.values.shape[2:], kind)
            best = np.empty(out.values.shape[-1], kind)
            kernels.pool_counts(sent, images, geometry(node.window), counts, highest, best, out.values)
        case snn.Concat():
            first = 0
            for value in read:
                last = first + value.place.channels
                same = value.constant == out.constant
                part = value.channels(images) if same else value.spread(images, timesteps, steps)
                out.values[:, :images, ..., first:last] = part
                first = last
            out.values[:, :images, ..., first:] = 0
        case snn.Reshape():
            out.put(read[0].in_order(images, node.shape))
        case snn.Pad():
            sides = list(zip(node.before, node.after, strict=True))
            out.fill(np.pad(_positions(node, read[0], images), ((0, 0), (0, 0), *sides[1:], sides[0])))
        case snn.Slice():
            taken = [slice(*ends) for ends in zip(node.start, node.stop, node.step, strict=True)]
            out.fill(_positions(node, read[0], images)[:, :, *taken[1:], taken[0]])
        case snn.Gather():
            raise InternalError(f"{node.name!r} is an index map, which `gather` computes")
        case (
            snn.CountProduct()
            | snn.CountMatrixProduct()
            | snn.CountSoftmax()
            | snn.CountNormalisation()
            | snn.CountMaximum()
        ):
            raise InternalError(f"{node.name!r} is a function of counts, which shapes do not compute")
        case (
            snn.Convolution()
            | snn.Linear()
            | snn.ChannelWeight()
            | snn.IntegrateFire()
            | snn.Readout()
            | snn.Delay()
        ):
            raise InternalError(f"{node.name!r} has weights or state")
        case _:
            raise unmatched(node)


def gather(index: Array, read: Value, out: Value, images: int) -> None:
    """Move values by an index map that :func:`places` gave."""
    for here, there in zip(read.values, out.values, strict=True):
        kernels.gather(here[:images].reshape(images, -1), index, there[:images].reshape(images, -1))


def places(node: snn.Gather, read: Values, out: Values) -> Array:
    """Return for each value of a padded result of an index map where in a padded row its source lies."""
    channel, position = np.divmod(node.index, read.height * read.width)
    found = np.where(node.index == ABSENT, ABSENT, position * read.padded + channel)
    padded = np.full((out.height * out.width, out.padded), ABSENT, np.int32)
    padded[:, : out.channels] = (found if out.in_order else np.moveaxis(found, 0, -1)).reshape(
        -1, out.channels
    )
    return padded.ravel()


def _padded_spread(value: Value, images: int, timesteps: int, steps: int) -> Array:
    values = value.values[:, :images]
    if not value.constant:
        return values
    full = np.zeros((steps, *values.shape[1:]), values.dtype)
    full[:timesteps] = values
    return full


def _positions(node: snn.Pad | snn.Slice, value: Value, images: int) -> Array:
    """Return values with as many axes as ``node`` speaks of, the channels last."""
    values = value.channels(images)
    # A value of two axes lies in one row, and one of one axis in one pixel.
    positions = values.shape[2:4][3 - len(node.shape) :]
    return values.reshape(*values.shape[:2], *positions, values.shape[-1])


def convolve_slowly(synapse: Synapse, source: Value, out: Value, images: int) -> None:
    """Compute a convolution whose integers no kernel can take."""
    values = channels_first(source.channels(images), 2)
    frames = values.reshape(-1, *values.shape[2:]).astype(np.int64)
    y = convolve(frames, synapse.weight.astype(np.int64), synapse.window, synapse.groups)
    out.fill(channels_last(y.reshape(*values.shape[:2], *y.shape[1:])))
