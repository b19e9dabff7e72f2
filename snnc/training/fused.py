"""The neuron of training in one pass over memory, forward and backward, on a CPU.

:class:`snnc.training.straight_through.Levels` says what is computed. As a dozen operations of torch, each of
which reads and writes all values, it takes longer than the convolutions between narrow layers. Values of
which the channels come last are read as they lie: as rows of whole channels, (rows, columns), where each
column belongs to one channel.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnc.ir.graph import FloatArray, NumberArray

PARTS = 16
"""Into how many parts rows are cut: sums over them are the same on any number of threads."""

COLUMNS = 512
"""About how many columns a row has where channels come last: enough for vectors, and still in the cache."""


class Sums(NamedTuple):
    """Sums over all values of a channel, each (channels,), by which gradients of its parameters are made.

    Attributes:
        passed: of the gradient by the count, times the slope of the count.
        passed_input: of the same times ``u``.
        counts: of the gradient by the value, times the count.
        values: of the gradient by the value.
    """

    passed: Tensor
    passed_input: Tensor
    counts: Tensor
    values: Tensor


def usable(x: Tensor) -> bool:
    """Say whether values lie as the kernels read them."""
    known = x.dtype in {torch.float32, torch.bfloat16} and x.device.type == "cpu"
    if not known or not x.numel() or x.ndim < 2:
        return False
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))


def forward(
    x: Tensor, parameters: Sequence[Tensor], start: float, *, counted: bool
) -> tuple[Tensor, Tensor | None]:
    """Return values and counts.

    Args:
        x: (batch, channels, ...), for which :func:`usable` holds.
        parameters: offset, step, worth, lowest and levels of
            :class:`snnc.training.straight_through.Levels`, each (channels,).
        start: initial potential, in steps.
        counted: whether counts are wanted.
    """
    y = torch.empty_like(x)
    k = torch.empty_like(x) if counted else None
    columns = _spread(x, parameters)
    given, made = _rows(x), _rows(y)
    counts = made if k is None else _rows(k)
    kernel, _ = _kernels(x.dtype is torch.bfloat16)

    def part(number: int, rows: slice) -> None:
        kernel(given[rows], made[rows], counts[rows], columns, np.float32(start), counted)

    all_parts(part, len(given))
    return y, k


def backward(
    x: Tensor, by_value: Tensor | None, by_count: Tensor | None, parameters: Sequence[Tensor], start: float
) -> tuple[Tensor, Sums]:
    """Return the gradient by ``x``, and sums.

    Args:
        x: as above.
        by_value: gradient by the values; ``None`` for zeros.
        by_count: gradient by the counts; likewise.
        parameters: as above.
        start: as above.
    """
    given, found = _rows(x), torch.empty_like(x)
    made = _rows(found)
    nothing = torch.zeros_like(x) if by_value is None else _like(by_value, x)
    values = _rows(nothing)
    counts = values if by_count is None else _rows(_like(by_count, x))
    columns = _spread(x, parameters)
    sums = np.zeros((PARTS, 4, given.shape[1]), np.float32)
    _, kernel = _kernels(x.dtype is torch.bfloat16)

    def part(number: int, rows: slice) -> None:
        kernel(
            given[rows],
            values[rows],
            counts[rows],
            made[rows],
            columns,
            np.float32(start),
            by_count is not None,
            sums[number],
        )

    all_parts(part, len(given))
    total = sums.sum(axis=0, dtype=np.float64)
    channels = x.shape[1]
    by_channel = (
        total.reshape(4, -1, channels).sum(axis=1) if _last(x) else total.reshape(4, channels, -1).sum(axis=2)
    )
    return found, Sums(*torch.from_numpy(by_channel.astype(np.float32)))


def _last(x: Tensor) -> bool:
    """Whether the channels of maps come last."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _like(gradient: Tensor, x: Tensor) -> Tensor:
    layout = torch.channels_last if _last(x) else torch.contiguous_format
    return gradient.to(x.dtype).contiguous(memory_format=layout)


def columns_of(x: Tensor) -> int:
    """Return how many pixels make a row, where channels come last: a divisor of their number."""
    pixels = x.numel() // x.shape[1]
    wanted = max(1, COLUMNS // x.shape[1])
    return next(width for width in range(min(wanted, pixels), 0, -1) if pixels % width == 0)


def as_numbers(x: Tensor) -> NumberArray:
    """View values as an array; bfloat16 as the integers that it is."""
    x = x.detach()
    found: NumberArray = (
        x.view(torch.int16).numpy().view(np.uint16) if x.dtype is torch.bfloat16 else x.numpy()
    )
    return found


def _rows(x: Tensor) -> NumberArray:
    """Return values as they lie, (rows, columns); bfloat16 as the integers that it is.

    A view: what is written there is written into the values.
    """
    if _last(x):
        return as_numbers(x.permute(0, 2, 3, 1).view(-1, columns_of(x) * x.shape[1]))
    return as_numbers(x.view(len(x), -1))


def _spread(x: Tensor, parameters: Sequence[Tensor]) -> FloatArray:
    """Return parameters by column, (parameters, columns)."""
    given = np.stack([each.detach().numpy() for each in parameters]).astype(np.float32)
    if _last(x):
        return np.tile(given, (1, columns_of(x)))
    return np.repeat(given, x[0, 0].numel(), axis=1)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "snnc-training")


def all_parts(part: Callable[[int, slice], None], rows: int) -> None:
    """Do each part, on as many threads as torch may use."""
    bounds = [rows * number // PARTS for number in range(PARTS + 1)]
    slices = [slice(*pair) for pair in pairwise(bounds)]
    threads = torch.get_num_threads()
    if threads == 1:
        for number, each in enumerate(slices):
            part(number, each)
    else:
        list(_pool(threads).map(part, range(PARTS), slices))


def _single(row: Any, values: Any, bits: Any) -> None:
    """Read a row of float32."""
    for f in range(len(row)):
        values[f] = row[f]


def _single_back(row: Any, values: Any, bits: Any) -> None:
    """Write a row of float32."""
    for f in range(len(row)):
        row[f] = values[f]


def _half(row: Any, values: Any, bits: Any) -> None:
    """Read a row of bfloat16, which is the upper half of a float32."""
    for f in range(len(row)):
        bits[f] = np.uint32(row[f]) << np.uint32(16)


def _half_back(row: Any, values: Any, bits: Any) -> None:
    """Write a row of bfloat16, rounded to the nearest, ties to even."""
    for f in range(len(row)):
        odd = (bits[f] >> np.uint32(16)) & np.uint32(1)
        row[f] = (bits[f] + np.uint32(0x7FFF) + odd) >> np.uint32(16)


@cache
def reader(half: bool) -> Any:
    """Return what reads a row, given its floats and their bits, from bfloat16 or float32."""
    from numba import njit

    return njit(nogil=True, error_model="numpy")(_half if half else _single)


@cache
def _kernels(half: bool) -> tuple[Any, Any]:
    """Return the compiled passes, forward and backward, for bfloat16 or float32.

    Each loop touches few arrays, so that the compiler can tell them apart and makes vectors of it. What is
    computed is float32 in either case.
    """
    from numba import njit

    compiled = njit(nogil=True, error_model="numpy")
    read = reader(half)
    write = compiled(_half_back if half else _single_back)

    @compiled
    def forwards(x: Any, y: Any, k: Any, p: Any, start: Any, counted: bool) -> None:
        offset, step, worth, lowest, levels = p[0], p[1], p[2], p[3], p[4]
        u = np.empty_like(offset)
        bits = u.view(np.uint32)
        for i in range(len(x)):
            read(x[i], u, bits)
            for f in range(len(u)):
                n = np.floor((u[f] + offset[f]) / step[f] + start)
                n = np.float32(0) if n < 0 else n
                u[f] = min(n, levels[f])
            if counted:
                write(k[i], u, bits)
            for f in range(len(u)):
                u[f] = u[f] * worth[f] + lowest[f]
            write(y[i], u, bits)

    @compiled
    def backwards(
        x: Any, by_value: Any, by_count: Any, by_x: Any, p: Any, start: Any, counted: bool, sums: Any
    ) -> None:
        offset, step, worth, levels = p[0], p[1], p[2], p[4]
        zero, one = np.float32(0), np.float32(1)
        u, g, value = np.empty_like(offset), np.empty_like(offset), np.empty_like(offset)
        u_bits, g_bits, value_bits = u.view(np.uint32), g.view(np.uint32), value.view(np.uint32)
        for i in range(len(x)):
            read(x[i], u, u_bits)
            for f in range(len(u)):
                u[f] = (u[f] + offset[f]) / step[f]
            for f in range(len(u)):
                n = np.floor(u[f] + start)
                n = np.float32(0) if n < 0 else n
                g[f] = min(n, levels[f])
            read(by_value[i], value, value_bits)
            total = sums[2]
            for f in range(len(u)):
                total[f] += value[f] * g[f]
            total = sums[3]
            for f in range(len(u)):
                total[f] += value[f]
            if counted:
                read(by_count[i], g, g_bits)
                for f in range(len(u)):
                    g[f] += value[f] * worth[f]
            else:
                for f in range(len(u)):
                    g[f] = value[f] * worth[f]
            for f in range(len(u)):
                z = u[f] + start
                h = min(one, max(zero, min(z, levels[f] + one - z)))
                g[f] = g[f] * h if levels[f] > zero else zero
            total = sums[0]
            for f in range(len(u)):
                total[f] += g[f]
            total = sums[1]
            for f in range(len(u)):
                total[f] += g[f] * u[f]
            for f in range(len(u)):
                g[f] /= step[f]
            write(by_x[i], g, g_bits)

    return forwards, backwards
