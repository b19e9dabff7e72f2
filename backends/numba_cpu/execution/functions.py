"""Functions of spike counts: which loops run them, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from snnc.backends.numba_cpu.codegen import micro_products
from snnc.backends.numba_cpu.execution.shapes import Array, Value
from snnc.backends.numba_cpu.kernels import functions as kernels
from snnc.backends.numba_cpu.kernels.product_currents import multiplying
from snnc.backends.numba_cpu.layout.terms import Values
from snnc.backends.numba_cpu.machine.memory import aligned
from snnc.backends.numba_cpu.planning.ranges import Interval, narrowest
from snnc.backends.numba_cpu.planning.request import Request
from snnc.errors import InputError
from snnc.ir import snn
from snnc.ir.bounds import INT32, INT64
from snnc.ir.counts import ROOT_BITS, Requantised
from snnc.ir.graph import Shape
from snnc.simulation.count_functions import count_function

Compute = Callable[[Sequence[Array], Array], None]
"""Writes a function of rows of counts."""

LOOPS = 4
"""Loops of a kernel: axes that lie one in the other are gone through by one of them."""

WORD = np.iinfo(np.int16).max


@dataclass(frozen=True, slots=True)
class Layout:
    """How values lie in the row of an image.

    Attributes:
        shape: of one image.
        apart: how far neighbours along each axis lie apart.
        size: elements of the row, padding included.
    """

    shape: Shape
    apart: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, shape: Shape, place: Values) -> Layout:
        """Return how a value of this shape lies in its place."""
        if place.in_order:
            apart = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
            return cls(shape, apart, prod(shape))
        behind = (place.padded * prod(shape[axis + 1 :]) for axis in range(1, len(shape)))
        return cls(shape, (1, *behind), place.padded * prod(shape[1:]))

    def rows(self, values: Array, images: int) -> Array:
        """View the values of some images as rows."""
        return values[:images].reshape(images, self.size)

    def in_order(self, rows: Array) -> Array:
        """View rows as (images, *shape)."""
        strides = (rows.strides[0], *(far * rows.itemsize for far in self.apart))
        shape = (len(rows), *self.shape)
        return np.lib.stride_tricks.as_strided(rows, shape, strides)


class FunctionRun:
    """A function of counts, ready to be run for any number of images."""

    def __init__(
        self,
        node: snn.Function,
        read: Sequence[Value],
        counts: Sequence[Interval],
        out: Value,
        request: Request,
    ) -> None:
        """Choose the loops.

        Args:
            node: the function.
            read: its inputs.
            counts: where the counts of each of them stay.
            out: where to put the result.
            request: what is run.
        """
        self.node, self.read, self.out, self.request = node, read, out, request
        shapes = [request.graph[name].shape for name in node.inputs]
        self.layouts = [Layout.of(shape, value.place) for shape, value in zip(shapes, read, strict=True)]
        self.result = Layout.of(node.shape, out.place)
        # A train of one step is the counts; what is given may be beyond what the network's own neurons send.
        self.at_once = request.steps == 1 and request.integer
        # Fewer types are fewer kernels to compile.
        self.kinds = [narrowest(max(interval.magnitude, WORD)) for interval in counts]
        bounds = [interval.magnitude for interval in counts]
        if (reach := node.reach(bounds, shapes)) >= INT64:
            raise InputError(f"{node.name!r} could reach {reach:.3g}, beyond 64 bits; give smaller inputs")
        self._largest = bounds
        self._compute = self._kernel()

    def run(self, images: int) -> None:
        """Send the change of the function in every step."""
        if self.at_once:
            rows = [
                layout.rows(value.values[0], images)
                for layout, value in zip(self.layouts, self.read, strict=True)
            ]
            self._made(rows, self.result.rows(self.out.values[0], images))
            return
        request, shape = self.request, (images, self.result.size)
        counts = [
            np.zeros((images, layout.size), kind)
            for layout, kind in zip(self.layouts, self.kinds, strict=True)
        ]
        before = np.zeros(shape, np.int32)
        now = np.zeros(shape, np.int32)
        for t in range(request.steps):
            for count, layout, value in zip(counts, self.layouts, self.read, strict=True):
                if not value.constant or t < request.timesteps:
                    sent = layout.rows(value.values[0 if value.constant else t], images)
                    np.add(count, sent, out=count, casting="unsafe")
            self._made(counts, now)
            target = self.result.rows(self.out.values[t], images)
            np.subtract(now, before, out=target, casting="unsafe")
            before, now = now, before

    def _made(self, rows: Sequence[Array], out: Array) -> None:
        """Write the function of counts."""
        place = self.out.place
        if place.padded > place.channels:
            out.reshape(len(out), -1, place.padded)[..., place.channels :] = 0
        self._compute(rows, out)

    def _kernel(self) -> Compute:
        """Return what computes the function of rows of counts."""
        found: Compute | None
        match self.node:
            case snn.CountProduct():
                found = self._product(self.node)
            case snn.CountMatrixProduct():
                found = self._matrices(self.node)
            case snn.CountSoftmax():
                found = self._softmax(self.node)
            case snn.CountNormalisation():
                found = self._norm(self.node)
            case _:
                found = self._maximum(self.node)
        return found or self._plainly

    def _plainly(self, rows: Sequence[Array], out: Array) -> None:
        """Compute what no loop was written for, as the definition says."""
        counts = [
            layout.in_order(row).astype(np.int64) for layout, row in zip(self.layouts, rows, strict=True)
        ]
        self.result.in_order(out)[...] = count_function(self.node, counts)

    def _product(self, node: snn.CountProduct) -> Compute | None:
        apart = [
            tuple(0 if size == 1 else far for size, far in zip(layout.shape, layout.apart, strict=True))
            for layout in self.layouts
        ]
        loops = _joined(node.shape, range(len(node.shape)), (*apart, self.result.apart))
        if len(loops) > LOOPS:
            return None
        table, settings = _filled(loops, LOOPS), _requantiser(node)
        return lambda rows, out: kernels.multiply_counts(rows[0], rows[1], table, settings, out)

    def _softmax(self, node: snn.CountSoftmax) -> Compute | None:
        both = (self.layouts[0].apart, self.result.apart)
        kept = _joined(node.shape, [axis for axis in range(len(node.shape)) if axis != node.axis], both)
        if len(kept) > LOOPS - 1 or node.reach(self._largest, [node.shape]) >= kernels.EXACT:
            return None
        size = node.shape[node.axis]
        inside = np.array([(size, *(far[node.axis] for far in both))], np.int64)
        loops = np.concatenate([_filled(kept, LOOPS - 1, 3), inside])
        index = np.uint8 if len(node.table) <= 256 else np.uint32
        row, terms, shares = np.zeros(size, index), np.zeros(size, np.int32), np.zeros(size, np.int32)
        return lambda rows, out: kernels.softmax_counts(
            rows[0], loops, node.table, node.levels, row, terms, shares, out
        )

    def _norm(self, node: snn.CountNormalisation) -> Compute | None:
        loops = self._grouped(node.shape, node.axes)
        elements = node.elements(node.shape) * self._largest[0]
        largest = max(2 * elements * node.factor + INT32, elements * self._largest[0])
        if loops is None or largest >= kernels.EXACT:
            return None
        norm = np.array([node.epsilon, 4**ROOT_BITS, node.factor, node.lowest, node.highest], np.int64)
        lanes = np.zeros((3, int(loops[1, 0])), np.float64)
        return lambda rows, out: kernels.normalise_counts(rows[0], loops, node.centred, norm, lanes, out)

    def _maximum(self, node: snn.CountMaximum) -> Compute | None:
        loops = self._grouped(self.layouts[0].shape, node.axes)
        if loops is None:
            return None
        return lambda rows, out: kernels.maximum_counts(rows[0], loops, out)

    def _grouped(self, shape: Shape, axes: Sequence[int]) -> Array | None:
        """Return two loops through groups and two within; ``None`` where there are more."""
        both = (self.layouts[0].apart, self.result.apart)
        kept = _joined(shape, [axis for axis in range(len(shape)) if axis not in axes], both)
        inside = _joined(shape, axes, both)
        if max(len(kept), len(inside)) > LOOPS // 2:
            return None
        return np.concatenate([_filled(kept, LOOPS // 2, 3), _filled(inside, LOOPS // 2, 3)])

    def _matrices(self, node: snn.CountMatrixProduct) -> Compute | None:
        first, second = self.layouts
        inner = first.shape[-1]
        # Operands of 16 bits, whose products are summed in 32.
        if max(self._largest) > WORD or inner * prod(self._largest) >= INT32 or not self._fit(node):
            return None
        outer = range(len(node.shape) - 2)
        every = (first.apart, second.apart, self.result.apart)
        stack = _joined(node.shape, outer, every)
        if len(stack) > LOOPS // 2:
            return None
        count, columns = node.shape[-2:]
        down = second.apart[-2:][::-1] if node.transposed else second.apart[-2:]
        together = micro_products.pixels_together(count)
        sizes = (count, inner, columns, *first.apart[-2:], *down, *self.result.apart[-2:], together)
        multiply = multiplying("words", together, micro_products.OUTPUTS).address
        padded, pairs = -(-count // together) * together, -(-inner // 2)
        tiles = -(-columns // micro_products.OUTPUTS)
        scratch = (
            _aligned((padded, 2 * pairs), np.int16),
            _aligned((tiles, pairs, micro_products.OUTPUTS, 2), np.int16),
            _aligned((padded, tiles * micro_products.OUTPUTS), np.int32),
            _aligned((64,), np.int64),
        )
        loops, settings = _filled(stack, LOOPS // 2, 4), _requantiser(node)
        table = np.array((*sizes, multiply), np.int64)
        return lambda rows, out: kernels.multiply_matrices(
            rows[0], rows[1], loops, table, settings, *scratch, out
        )

    def _fit(self, node: snn.CountMatrixProduct) -> bool:
        """Whether the counts of both factors are at hand as integers of up to 16 bits."""
        kinds = [value.values.dtype for value in self.read] if self.at_once else self.kinds
        return all(kind.itemsize <= 2 for kind in kinds)


def _joined(shape: Shape, axes: Iterable[int], apart: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return loops through some axes: of each its size and distances, those of the last ones least apart."""
    loops: list[tuple[int, ...]] = []
    for axis in sorted(axes, key=lambda axis: -apart[-1][axis]):
        size, fars = shape[axis], tuple(far[axis] for far in apart)
        if loops and all(before == size * far for before, far in zip(loops[-1][1:], fars, strict=True)):
            loops[-1] = (loops[-1][0] * size, *fars)
        elif size > 1:
            loops.append((size, *fars))
    return loops


def _filled(loops: list[tuple[int, ...]], count: int, width: int = 4) -> Array:
    """Return so many loops, the first ones empty."""
    return np.array([(1, *[0] * (width - 1))] * (count - len(loops)) + loops, np.int64).reshape(count, width)


def _requantiser(node: Requantised) -> Array:
    return np.array([node.multiplier, node.shift, node.half, node.lowest, node.highest], np.int64)


def _aligned(shape: tuple[int, ...], kind: type[np.integer[Any]]) -> Array:
    return aligned(np.zeros(shape, kind))
