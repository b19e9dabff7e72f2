"""The computation of a consumer, in NumPy and float32, spike for spike."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from snnc.backends.nir.profiles import Rule
from snnc.backends.nir.program import EXACT, INPUT, Conv, Dense, Fire, Flatten, Layer, Program, Step, Sum
from snnc.errors import InternalError
from snnc.ir.channels import per_channel
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.simulation.arrays import convolve, windows


@dataclass(slots=True)
class Emulation:
    """What came of a run.

    Attributes:
        y: (rows, classes) float32, summed over the steps.
        trains: (T, rows, *shape) uint8 or int32 per population, by the name of its step; if wanted.
        spikes: sum of all spikes per population.
        largest: largest magnitude of a current or a potential; at 2^24 float32 ceases to be exact.
    """

    y: FloatArray
    trains: dict[str, IntArray] = field(default_factory=dict)
    spikes: dict[str, int] = field(default_factory=dict)
    largest: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether every number was one that float32 holds exactly."""
        return self.largest < EXACT


def emulate(program: Program, rule: Rule, q: NumberArray, *, keep: bool = False) -> Emulation:
    """Run a program as its consumer does, for T steps from rest.

    Args:
        program: the layers.
        rule: what neurons do.
        q: (rows, *shape), the quantised input, presented in every step.
        keep: whether to keep the spike trains.
    """
    found = Emulation(np.zeros(0, np.float32))
    readers: dict[str, int] = {}
    for step in program.steps:
        for name in step.inputs:
            readers[name] = readers.get(name, 0) + 1
    # The first axis is time, of length 1 where a value never changes.
    values: dict[str, FloatArray] = {INPUT: q.astype(np.float32)[None]}
    last = np.zeros(0, np.float32)
    for step in program.steps:
        current = values[step.inputs[0]]
        for name in step.inputs[1:]:
            current = current + values[name]
        for name in step.inputs:
            readers[name] -= 1
            if readers[name] == 0:
                del values[name]
        if isinstance(step.layer, Fire):
            train, highest = fire(step.layer, rule, current, program.timesteps)
            found.largest = max(found.largest, highest)
            found.spikes[step.name] = int(train.sum(dtype=np.float64))
            if keep:
                found.trains[step.name] = train.astype(np.int32)
            last = train
        else:
            last = apply(step, current)
        values[step.name] = last
    total = last.sum(axis=0) if len(last) > 1 else last[0] * np.float32(program.timesteps)
    found.largest = max(found.largest, float(np.abs(total).max(initial=0)))
    found.y = total.reshape(len(q), -1)
    return found


def bytes_per_row(program: Program) -> int:
    """Return the memory that one row takes: the windows of the largest convolution, in every step."""
    most = max(prod(step.shape) * _reads(step.layer) for step in program.steps)
    return 4 * program.timesteps * most


def _reads(layer: Layer) -> int:
    """Return about how many values of a window stand in memory for one of the output."""
    if not isinstance(layer, Conv):
        return 1
    outputs, *window = layer.weight.shape
    return max(1, prod(window) // outputs)


def fire(layer: Fire, rule: Rule, current: FloatArray, timesteps: int) -> tuple[FloatArray, float]:
    """Return the spikes, (T, rows, *shape) float32, and the largest magnitude of a potential."""
    theta = per_channel(layer.threshold, current.ndim - 2)
    v = np.zeros(current.shape[1:], np.float32)
    spikes = np.empty((timesteps, *v.shape), np.float32)
    largest = 0.0
    for t in range(timesteps):
        v = v + current[min(t, len(current) - 1)]
        largest = max(largest, float(np.abs(v).max(initial=0)))
        match rule:
            case Rule.ZERO | Rule.ZERO_ABOVE:
                fired = v >= theta if rule is Rule.ZERO else v > theta
                v[fired] = 0
                spikes[t] = fired
            case Rule.SUBTRACT:
                s = np.where(v > 0, np.trunc(v / theta), np.float32(0))
                v = np.maximum(v - s * theta, -theta)
                spikes[t] = s
    return spikes, largest


def apply(step: Step, values: FloatArray) -> FloatArray:
    """Apply a layer without state to each step of time."""
    steps, rows = values.shape[:2]
    flat = values.reshape(steps * rows, *values.shape[2:])
    return _computed(step.layer, flat).reshape(steps, rows, *step.shape)


def _computed(layer: Layer, x: FloatArray) -> FloatArray:
    match layer:
        case Conv():
            down, across = layer.padding
            window = Window(
                (layer.weight.shape[2], layer.weight.shape[3]),
                layer.strides,
                (down, across, down, across),
                layer.dilations,
            )
            return convolve(x, layer.weight, window, 1) + per_channel(layer.bias, x.ndim - 1)
        case Dense():
            return x @ layer.weight.T + layer.bias
        case Sum():
            return windows(x, Window(layer.kernel, layer.strides), 0).sum(axis=(4, 5))
        case Flatten():
            return x
        case Fire():
            raise InternalError("neurons have a state")
