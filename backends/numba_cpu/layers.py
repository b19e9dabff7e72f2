"""Every integer node of the spiking dialect as a function from channel-last arrays to one.

A *train* is what a node gives over time for some images: ``(steps, images, *positions, channels)``
in the narrowest type that holds it. What depends on the input alone is the same in each of the T
driven steps and absent from settle steps: it is held once, as a train of one step that is *constant*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from snnc.backends.numba_cpu import kernels
from snnc.backends.numba_cpu.kernels import Array
from snnc.backends.numba_cpu.ranges import narrowest
from snnc.ir import snn
from snnc.ir.geometry import Window
from snnc.ir.graph import Shape


@dataclass(frozen=True, slots=True)
class Train:
    """A node's values.

    Attributes:
        values: (steps, images, *positions, channels) integers; one step if constant.
        constant: whether the one step stands for each of the T driven steps.
    """

    values: Array
    constant: bool = False

    def spread(self, timesteps: int, steps: int) -> Array:
        """Return the values of every step."""
        if not self.constant:
            return self.values
        full = np.zeros((steps, *self.values.shape[1:]), self.values.dtype)
        full[:timesteps] = self.values
        return full


def channels_last(shape: Shape) -> Shape:
    """Return the shape of a sample with its channels last."""
    return (*shape[1:], shape[0])


def to_channels_last(values: Array) -> Array:
    """Move the channels of (steps, images, channels, *positions) to the end, as contiguous memory."""
    return np.ascontiguousarray(np.moveaxis(values, 2, -1))


def to_channels_first(values: Array) -> Array:
    """Return a view of channel-last values with the channels in front of the positions."""
    return np.moveaxis(values, -1, 2)


class Synapse:
    """A weighted node whose weight is laid out for the kernels."""

    def __init__(self, node: snn.Weighted) -> None:
        """Lay the weight of ``node`` out."""
        self.node = node
        self.groups = 1
        match node:
            case snn.Convolution(window=window, groups=groups):
                self.depthwise = groups == node.weight.shape[0] and node.weight.shape[1] == 1
                self.groups = groups
                self.geometry = geometry(window)
                outputs = node.weight.shape[0] // groups
                by_group = node.weight.reshape(groups, outputs, node.weight.shape[1], window.area)
                # (groups, outputs, inputs, area) -> (groups, area, inputs, outputs)
                self.weight = np.ascontiguousarray(by_group.transpose(0, 3, 2, 1)).reshape(
                    groups, -1, outputs
                )
                if self.depthwise:
                    self.weight = np.ascontiguousarray(node.weight.reshape(groups, window.area).T)
            case snn.Linear():
                self.depthwise = False
                self.geometry = geometry(Window((1, 1)))
                self.weight = np.ascontiguousarray(node.weight.T)[np.newaxis]
            case _:
                self.weight = node.weight

    def add_to(self, current: Array, spikes: Array, largest: int) -> None:
        """Add the current that ``spikes`` cause.

        Args:
            current: (steps, images, *positions, channels) int32.
            spikes: (steps, images, *positions, channels) integers.
            largest: bound of their magnitude.
        """
        if isinstance(self.node, snn.ChannelWeight):
            channels = spikes.shape[-1]
            kernels.scale_channels(spikes.reshape(-1, channels), self.weight, current.reshape(-1, channels))
            return
        x, y = _frames(spikes), _frames(current)
        if self.depthwise:
            kernels.convolve_depthwise(x, self.weight, self.geometry, y)
            return
        index = np.empty(x.shape, np.int32)
        value = np.empty(x.shape, np.int32)
        count = np.empty((*x.shape[:3], self.groups), np.int32)
        channels = x.shape[-1]
        kernels.list_events(
            x.reshape(-1, channels),
            self.groups,
            index.reshape(-1, channels),
            value.reshape(-1, channels),
            count.reshape(-1, self.groups),
        )
        kernels.convolve(index, value, count, largest == 1, self.weight, self.geometry, y)


def geometry(window: Window) -> Array:
    """Return a window as the kernels read it."""
    top, left = window.pads[:2]
    return np.array([*window.kernel, *window.strides, top, left, *window.dilations], np.int64)


def _frames(values: Array) -> Array:
    """View (steps, images, height, width, channels), or (steps, images, features), as frames."""
    frames = values.shape[0] * values.shape[1]
    return values.reshape(frames, *((1, 1, values.shape[-1]) if values.ndim == 3 else values.shape[2:]))


def pool(
    values: Array, window: Window, maximum: bool, shape: Shape, kind: np.dtype[np.signedinteger]
) -> Array:
    """Pool every frame into an array of type ``kind`` with sample shape ``shape``, channels first."""
    out = np.empty((*values.shape[:2], *channels_last(shape)), kind)
    kernels.pool(_frames(values), geometry(window), maximum, _frames(out))
    return out


def apply(node: snn.SnnNode, trains: Sequence[Train], largest: int, timesteps: int, steps: int) -> Train:
    """Compute a node that has neither weight nor state of its own.

    Args:
        node: the node.
        trains: its inputs.
        largest: bound of its values' magnitude.
        timesteps: T.
        steps: T + K.
    """
    kind = narrowest(largest)
    first = trains[0]
    match node:
        case snn.SumPool():
            return Train(pool(first.values, node.window, False, node.shape, kind), first.constant)
        case snn.CurrentMaxPool():
            return Train(pool(first.values, node.window, True, node.shape, kind), first.constant)
        case snn.CountMaxPool():
            counts = np.cumsum(first.spread(timesteps, steps), axis=0, dtype=np.int32)
            highest = pool(counts, node.window, True, node.shape, np.dtype(np.int32))
            highest[1:] -= highest[:-1].copy()
            return Train(highest.astype(kind))
        case snn.Concat():
            constant = all(train.constant for train in trains)
            parts = [train.values if constant else train.spread(timesteps, steps) for train in trains]
            return Train(np.concatenate(parts, axis=-1, dtype=kind), constant)
        case snn.Reshape():
            rows = to_channels_first(first.values).reshape(*first.values.shape[:2], *node.shape)
            return Train(to_channels_last(rows), first.constant)
        case snn.Pad():
            sides = list(zip(node.before, node.after, strict=True))
            return Train(np.pad(first.values, ((0, 0), (0, 0), *sides[1:], sides[0])), first.constant)
        case snn.Slice():
            taken = [slice(*ends) for ends in zip(node.start, node.stop, node.step, strict=True)]
            return Train(np.ascontiguousarray(first.values[:, :, *taken[1:], taken[0]]), first.constant)
        case _:
            raise TypeError(f"{type(node).__name__} has weights or state")


def fire(
    node: snn.IntegrateFire,
    current: Array | None,
    constant: Array | None,
    timesteps: int,
    barrier: bool,
    spikes: Array,
    v: Array,
    count: Array,
) -> None:
    """Run one population.

    Args:
        node: the population.
        current: (steps, images, *positions, channels) int32, the part that changes from step to step.
        constant: (images, *positions, channels) int32, the part that is the same in each driven step.
        timesteps: T.
        barrier: whether all input comes before the first spike.
        spikes: (steps, images, *positions, channels) integers, out.
        v: (images, *positions, channels) int32, out: final potentials.
        count: (images, *positions, channels) int32, out: final spike counts.
    """
    steps, images, channels = spikes.shape[0], spikes.shape[1], spikes.shape[-1]
    pixels = prod(spikes.shape[2:-1])
    empty = np.empty(0, np.int32)
    one = (images, pixels, channels)
    negative = np.zeros_like(node.threshold) if node.negative_threshold is None else node.negative_threshold
    parameters = np.stack([node.threshold, node.bias, node.v_init, negative]).astype(np.int32)
    moving = (
        empty.reshape(0, images, pixels, channels)
        if current is None
        else current.reshape(steps, images, pixels, channels)
    )
    fixed = empty.reshape(0, pixels, channels) if constant is None else constant.reshape(one)
    capacity = node.neuron.capacity(timesteps) if node.neuron.memory else 0
    outs = (spikes.reshape(steps, images, pixels, channels), v.reshape(one), count.reshape(one))
    limit = node.neuron.largest(timesteps)
    kernels.fire(moving, fixed, timesteps, parameters, capacity, limit, barrier, *outs)
