"""Linear operations of the ANN dialect: weights, batch normalisation, sums and means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snnc.ir.ann.node import AnnNode
from snnc.ir.geometry import Window
from snnc.ir.graph import SEVERAL, FloatArray, Shape
from snnc.ir.problems import channel_problem, convolution_problem, pool_problem, same_shape_problem


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Convolution(AnnNode):
    """``y[o] = sum_{i,k} weight[o,i,k] x[i, .+k] + bias[o]``.

    Attributes:
        weight: (outputs, inputs / groups, kernel height, kernel width).
        bias: (outputs,).
        window: geometry; its kernel equals the last two sizes of ``weight``.
        groups: number of channel groups.
        weight_scale: (outputs,) of which the source says that the weights are integer multiples; a hint, to
            be checked by who uses it, and ``None`` where it says nothing.
    """

    weight: FloatArray
    bias: FloatArray
    window: Window
    groups: int = 1
    weight_scale: FloatArray | None = None

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check weight, bias and window against the input."""
        return convolution_problem(
            input_shapes[0], self.shape, self.weight.shape, self.window, self.groups
        ) or channel_problem(self.bias, self.shape, "bias")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear(AnnNode):
    """``y = weight x + bias``.

    Attributes:
        weight: (outputs, inputs).
        bias: (outputs,).
        weight_scale: as in :class:`Convolution`.
    """

    weight: FloatArray
    bias: FloatArray
    weight_scale: FloatArray | None = None

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check weight and bias against the input."""
        if self.weight.shape != (*self.shape, *input_shapes[0]) or len(self.shape) != 1:
            return f"weight {self.weight.shape} does not map {input_shapes[0]} to {self.shape}"
        return channel_problem(self.bias, self.shape, "bias")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchNormalisation(AnnNode):
    """``y = scale (x - mean) / sqrt(variance + epsilon) + shift``, per channel, at inference.

    Attributes:
        scale, shift, mean, variance: (channels,).
        epsilon: added to the variance.
    """

    scale: FloatArray
    shift: FloatArray
    mean: FloatArray
    variance: FloatArray
    epsilon: float

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check that the four vectors fit the channels."""
        for values in (self.scale, self.shift, self.mean, self.variance):
            problem = channel_problem(values, self.shape, "statistics")
            if problem:
                return problem
        return same_shape_problem(input_shapes, self.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelAffine(AnnNode):
    """``y = scale x + shift`` per channel.

    Attributes:
        scale, shift: (channels,).
    """

    scale: FloatArray
    shift: FloatArray

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check that both vectors fit the channels."""
        return (
            channel_problem(self.scale, self.shape, "scale")
            or channel_problem(self.shift, self.shape, "shift")
            or same_shape_problem(input_shapes, self.shape)
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Add(AnnNode):
    """Sum of two or more tensors of one shape: a residual connection."""

    arity = SEVERAL

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check that all shapes are equal."""
        return same_shape_problem(input_shapes, self.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AveragePool(AnnNode):
    """Mean over a window; padding counts as zeros in the mean.

    Attributes:
        window: geometry without dilation.
    """

    window: Window

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the window."""
        return pool_problem(input_shapes, self.shape, self.window)
