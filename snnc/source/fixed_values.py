"""Inputs of a file that get a value for good: they become constants of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from snnc.errors import UsageError

Values = Mapping[str, tuple[int | float, ...]]
"""One number for all values of an input, or all of them in order, by its name."""


def parsed(texts: Sequence[str]) -> Values:
    """Read ``--fix NAME=16000`` and ``--fix NAME=0,1,0``.

    Raises:
        UsageError: a text is not of that form, or names an input twice.
    """
    found: dict[str, tuple[int | float, ...]] = {}
    for text in texts:
        name, equals, numbers = text.rpartition("=")
        try:
            values = tuple(_number(number) for number in numbers.split(","))
        except ValueError:
            values = ()
        if not equals or not name or not values or not all(map(math.isfinite, values)):
            raise UsageError(f"--fix {text}: write NAME=16000, or NAME=0,1,0 for all values of the input")
        if name in found:
            raise UsageError(f"--fix names the input {name!r} twice")
        found[name] = values
    return found


def fix(graph: onnx.GraphProto, values: Values, where: str) -> None:
    """Make constants of inputs.

    Args:
        graph: of the file, whose sizes are fixed already; changed.
        values: what they become.
        where: the file, for messages.

    Raises:
        UsageError: an input is unknown, or a value does not fit it.
    """
    stored = {tensor.name for tensor in graph.initializer}
    given = {value.name: value for value in graph.input if value.name not in stored}
    for name, numbers in values.items():
        if name not in given:
            listed = ", ".join(map(repr, given))
            raise UsageError(f"--fix: {where} has no input {name!r}; its inputs: {listed}")
        graph.initializer.append(_constant(given[name], numbers))
        graph.input.remove(given[name])
    if values and len(values) == len(given):
        raise UsageError(f"--fix: {where} has no input left")


def _constant(value: onnx.ValueInfoProto, numbers: tuple[int | float, ...]) -> onnx.TensorProto:
    tensor = value.type.tensor_type
    told = f"--fix {value.name}={','.join(map(str, numbers))}"
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in tensor.shape.dim]
    shown = ", ".join(str(d.dim_value) if d.dim_value > 0 else d.dim_param or "?" for d in tensor.shape.dim)
    if min(sizes, default=1) < 1:
        raise UsageError(f"{told}: the input has the shape ({shown}): fix its sizes by --shape, too")
    if len(numbers) not in (1, math.prod(sizes)):
        raise UsageError(f"{told}: the input has the shape ({shown}): give one number, or {math.prod(sizes)}")
    if not tensor.elem_type or tensor.elem_type == onnx.TensorProto.STRING:
        raise UsageError(f"{told}: the input takes no numbers")
    kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    exact = np.array(numbers)
    if kind.kind in "iub":
        limits = (0, 1) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)
        if any(number != int(number) or not limits[0] <= number <= limits[1] for number in numbers):
            raise UsageError(f"{told}: the input takes {kind.name}: give whole numbers that fit")
        exact = np.array([int(number) for number in numbers], object)
    with np.errstate(over="ignore"):  # what does not fit is told
        array = exact.astype(kind)
    if not np.isfinite(array.astype(np.float64)).all():
        raise UsageError(f"{told}: the input takes {kind.name}, which does not hold that")
    array = np.full(sizes, array[0]) if len(numbers) == 1 else array.reshape(sizes)
    return numpy_helper.from_array(array, value.name)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
