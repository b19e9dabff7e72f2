"""Functions of several activations: products, normalisation, softmax within the network, maxima."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snnc.ir.ann.activations import Levelled
from snnc.ir.ann.node import AnnNode
from snnc.ir.geometry import Window
from snnc.ir.graph import TWO, Shape
from snnc.ir.problems import (
    axes_problem,
    matrix_problem,
    max_pool_problem,
    same_shape_problem,
    spread_problem,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Product(Levelled):
    """``y = a b``, element by element; an axis of size 1 is repeated: gates, squeeze and excitation."""

    arity = TWO

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check that the shapes of the factors spread to the product's."""
        return spread_problem(input_shapes, self.shape) or self.levels_problem()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatrixProduct(Levelled):
    """``y[.., i, j] = sum_k a[.., i, k] b[.., k, j]``: both factors depend on the input, as in attention.

    Attributes:
        transposed: whether the second factor is given as ``b[.., j, k]``.
    """

    arity = TWO

    transposed: bool = False

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the sizes of both matrices."""
        return (
            matrix_problem(input_shapes[0], input_shapes[1], self.shape, self.transposed)
            or self.levels_problem()
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Normalisation(Levelled):
    """``y = (x - mean) / sqrt(variance + epsilon)`` over some axes, of each row by its own statistics.

    Layer, instance and group normalisation are this; scale and shift follow it. Without ``centred`` the mean
    counts as zero, as in RMSNorm, of which the L2 norm is a multiple.

    Attributes:
        axes: of the shape, ascending.
        epsilon: added to the variance.
        centred: whether the mean is subtracted.
    """

    axes: Shape
    epsilon: float
    centred: bool = True

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check axes, epsilon and shape."""
        if problem := axes_problem(self.axes, self.shape):
            return problem
        if not 0 <= self.epsilon < float("inf"):
            return f"epsilon must not be negative, and finite: {self.epsilon}"
        return same_shape_problem(input_shapes, self.shape) or self.levels_problem()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InnerSoftmax(Levelled):
    """Softmax along one axis within the network, ``y_i = exp(x_i) / sum_j exp(x_j)``.

    A softmax that ends the network is :class:`Softmax`, which the spiking network leaves out.

    Attributes:
        axis: of the shape.
    """

    axis: int

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check axis and shape."""
        return (
            axes_problem((self.axis,), self.shape)
            or same_shape_problem(input_shapes, self.shape)
            or self.levels_problem()
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Maximum(Levelled):
    """The largest value along some axes, which have size 1 afterwards.

    Attributes:
        axes: of the shape, ascending.
    """

    axes: Shape

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the axes."""
        reduced = tuple(1 if axis in self.axes else size for axis, size in enumerate(input_shapes[0]))
        if self.shape != reduced:
            return f"the maximum of {input_shapes[0]} over the axes {self.axes} is not {self.shape}"
        return axes_problem(self.axes, input_shapes[0]) or self.levels_problem()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaxPool(AnnNode):
    """Maximum over a window; padding never wins.

    Attributes:
        window: geometry.
    """

    window: Window

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the window."""
        return max_pool_problem(input_shapes, self.shape, self.window)
