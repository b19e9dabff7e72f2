"""Why shapes do not fit an operation: what the nodes of both dialects check themselves by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray, NumberArray, Shape

MOST_BREAKPOINTS = 255
"""Most breakpoints of a step function: 256 values, those of a byte."""


def channel_problem(values: FloatArray, shape: Shape, what: str) -> str | None:
    """Say why a vector does not hold one value per channel of ``shape``."""
    return None if values.shape == shape[:1] else f"{what} {values.shape} does not fit {shape[0]} channels"


def same_shape_problem(inputs: Sequence[Shape], output: Shape) -> str | None:
    """Say why the inputs do not have the shape of the output."""
    return (
        None if all(s == output for s in inputs) else f"inputs {list(inputs)} differ from the output {output}"
    )


def reshape_problem(inputs: Sequence[Shape], output: Shape) -> str | None:
    """Say why one input cannot be reshaped to the output."""
    sizes = [1, 1]
    for index, shape in enumerate((inputs[0], output)):
        for size in shape:
            sizes[index] *= size
    return None if sizes[0] == sizes[1] else f"{inputs[0]} has not as many elements as {output}"


def pool_problem(inputs: Sequence[Shape], output: Shape, window: Window) -> str | None:
    """Say why a pooling window cannot map the one input to the output."""
    if inputs[0][0] != output[0]:
        return f"pooling keeps the channels of one input: {list(inputs)} -> {output}"
    return window.problem(inputs[0], output)


def max_pool_problem(inputs: Sequence[Shape], output: Shape, window: Window) -> str | None:
    """Say why the maximum over a window cannot map the one input to the output."""
    problem = pool_problem(inputs, output, window)
    if problem is None and window.sees_only_padding(*inputs[0][1:]):
        return f"a window lies wholly in the padding, where there is no maximum: {window}"
    return problem


def convolution_problem(
    shape: Shape, output: Shape, weight: tuple[int, ...], window: Window, groups: int
) -> str | None:
    """Say why a convolution with this weight shape cannot map ``shape`` to ``output``."""
    problem = window.problem(shape, output)
    if problem:
        return problem
    if groups < 1 or shape[0] % groups or output[0] % groups:
        return f"{groups} groups do not divide {shape[0]} input and {output[0]} output channels"
    expected = (output[0], shape[0] // groups, *window.kernel)
    return None if weight == expected else f"weight {weight} should be {expected}"


def axes_problem(axes: Shape, shape: Shape) -> str | None:
    """Say why these are no axes of a shape, in ascending order."""
    if not axes or list(axes) != sorted(set(axes)) or axes[0] < 0 or axes[-1] >= len(shape):
        return f"{axes} are no axes of {shape}"
    return None


def spread_problem(inputs: Sequence[Shape], output: Shape) -> str | None:
    """Say why shapes do not spread to the output: each axis has its size, or 1."""
    if all(len(shape) == len(output) for shape in inputs):
        most = tuple(max(sizes) for sizes in zip(*inputs, strict=True))
        if most == output and all(
            size in (1, whole) for shape in inputs for size, whole in zip(shape, output, strict=True)
        ):
            return None
    return f"{list(inputs)} do not spread to {output}"


def matrix_problem(first: Shape, second: Shape, output: Shape, transposed: bool) -> str | None:
    """Say why two stacks of matrices do not multiply to the output."""
    if len(first) >= 2 and len(first) == len(second):
        inner, columns = second[-2:][::-1] if transposed else second[-2:]
        if first[:-2] == second[:-2] and first[-1] == inner and output == (*first[:-1], columns):
            return None
    how = ", the second transposed," if transposed else ""
    return f"{first} times {second}{how} is not {output}"


def steps_problem(points: NumberArray | None, values: NumberArray | None, channels: int) -> str | None:
    """Say why breakpoints and the values between them make no step function of any channel."""
    if points is None or values is None:
        return None if points is values else "breakpoints and step values come together"
    if points.ndim != 2 or points.shape[0] not in (1, channels):
        return f"breakpoints {points.shape} are not (channels, n) for {channels} channels, or (1, n)"
    if not 1 <= points.shape[1] <= MOST_BREAKPOINTS or values.shape != (points.shape[1] + 1,):
        return f"{points.shape[1]} breakpoints and {values.shape} values make no step function"
    if values.dtype != np.int32 or points.dtype not in (np.int32, np.float32):
        return "the counts of a step function are integers of 32 bits, and its breakpoints have as many"
    if (points[:, 1:] < points[:, :-1]).any():
        return "breakpoints must ascend"
    return None
