"""Functions of spike counts, step by step, as their definition says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.backends.numba_cpu.execution.shapes import Array, Value, channels_first, channels_last
from snnc.backends.numba_cpu.planning.request import Request
from snnc.ir import snn
from snnc.ir.graph import Shape
from snnc.simulation.count_functions import count_function


def apply(node: snn.Function, read: Sequence[Value], out: Value, images: int, request: Request) -> None:
    """Send the change of a function of the counts that it reads.

    Args:
        node: the function.
        read: its inputs.
        out: where to put the result.
        images: number of images.
        request: what is run.
    """
    shapes = [request.graph[name].shape for name in node.inputs]
    trains = [_in_order(value, images, shape) for value, shape in zip(read, shapes, strict=True)]
    counts = [np.zeros(train.shape[1:], np.int64) for train in trains]
    before: Array = np.zeros(1, np.int64)
    for t in range(request.steps):
        for count, train, value in zip(counts, trains, read, strict=True):
            if not value.constant:
                count += train[t].astype(np.int64, copy=False)
            elif t < request.timesteps:
                count += train[0].astype(np.int64, copy=False)
        made = count_function(node, counts)
        out.fill_step(t, channels_last((made - before)[np.newaxis])[0])
        before = made


def _in_order(value: Value, images: int, shape: Shape) -> Array:
    """Return values, (steps, images, *shape)."""
    values = channels_first(value.channels(images), 2)
    return values.reshape(*values.shape[:2], *shape)
