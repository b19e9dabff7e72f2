"""The ANN dialect: what a trained feed-forward network computes, in 32-bit floats.

Feature maps are ``(channels, height, width)``, whatever layout the exporter wrote; vectors are
``(features,)``. Padding is zero. All arrays are float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from snnc.ir.function import Function, function_problem
from snnc.ir.geometry import (
    ABSENT,
    Window,
    concat_problem,
    gather_problem,
    pad_problem,
    slice_problem,
    sole_channels,
)
from snnc.ir.graph import MANY, NONE, SEVERAL, TWO, FloatArray, Graph, IntArray, Node, Shape
from snnc.ir.problems import (
    axes_problem,
    channel_problem,
    convolution_problem,
    matrix_problem,
    max_pool_problem,
    pool_problem,
    reshape_problem,
    same_shape_problem,
    spread_problem,
    steps_problem,
)

ROUNDINGS = ("half-even", "half-up", "floor")
"""How a source network may round to its levels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnnNode(Node):
    """An operation of the ANN dialect."""


class AnnGraph(Graph[AnnNode]):
    """A feed-forward network of analogue activations."""

    def without_thresholds(self) -> AnnGraph:
        """Return what the source network computes: no clip of the conversion's own."""
        return self.map(
            Relu,
            lambda node: node if node.threshold is None else node.with_(threshold=None, floor=None),
        ).map(Levelled, lambda node: node.without_levels())

    @property
    def logits(self) -> str:
        """Name of the node that gives the answers before a final softmax."""
        return self.before_softmax(self.output)

    @property
    def answers(self) -> dict[str, str]:
        """For each output, by its name, the node that gives its values before a final softmax."""
        return {
            name: self.before_softmax(node)
            for name, node in zip(self.output_names, self.outputs, strict=True)
        }

    def before_softmax(self, name: str) -> str:
        """Return the name of the node that a softmax reads, or of the node itself where it is none."""
        node = self[name]
        return node.inputs[0] if isinstance(node, Softmax) else node.name

    def seen_as(self, name: str) -> str:
        """Return what holds all that others see of a value: the max-pool that alone reads it, or itself.

        Args:
            name: of the node that gives the value.
        """
        reader = self.consumers[name][0] if self.read_once(name) else None
        return reader.name if isinstance(reader, MaxPool) else name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Input(AnnNode):
    """One of the network's inputs."""

    arity = NONE
    is_input = True

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Any shape will do."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constant(AnnNode):
    """Values that do not depend on the input, of which a sum is one term: a bias that depends on the place.

    Attributes:
        values: (*shape).
    """

    arity = NONE

    values: FloatArray

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check that there is one value per position."""
        return None if self.values.shape == self.shape else f"values {self.values.shape} are not {self.shape}"


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
class Relu(AnnNode):
    """``y = min(max(x + shift, floor), ceiling, threshold) - shift``: what becomes a spiking population.

    Where the source network quantises the value, this is what it gives, and ``shift`` and ``ceiling`` say the
    same of its range::

        y = scale clip(round(x / scale), lowest, highest)

    Attributes:
        ceiling: (channels,) upper limit in the source network, as in ReLU6; ``None`` for a ReLU.
        threshold: (channels,) clip chosen by the conversion, positive or zero; ``None`` before.
            It is an approximation: what the source network computes is this node without it.
        floor: (channels,) lower clip chosen with the threshold, from zero up; ``None`` for zero.
        levels: M, the levels that one spike of the population will carry.
        shift: (channels,) for a signed value without rectifier in the source: it is raised above
            zero by its range and lowered again; ``None`` for a true rectifier.
        scale: (channels,) distance of the levels to which the source network rounds, in one float32 division;
            ``None`` where it rounds nothing.
        lowest, highest: the range of ``y / scale``, both included: what is left of the source's integers
            when their zero point is subtracted.
        zero: the integer that stands for zero in the source's own type; it decides how a sum of two integers
            rounds at ties.
        rounding: ``half-even``, ``half-up`` (``floor(x / scale + 1/2)``) or ``floor``.
        gain: (channels,) with which the source multiplies an integer sum, in float32 and in place of the
            division, as QLinearConv does; ``None`` where it computes in floats.
        points: (channels, highest - lowest) or (1, ...) the smallest float32 of each level, found by
            evaluating the source's own operations; ``None`` where the formula above gives them.
    """

    ceiling: FloatArray | None = None
    threshold: FloatArray | None = None
    floor: FloatArray | None = None
    levels: int = 1
    shift: FloatArray | None = None
    scale: FloatArray | None = None
    lowest: int = 0
    highest: int = 0
    zero: int = 0
    rounding: str = "half-even"
    gain: FloatArray | None = None
    points: FloatArray | None = None

    @property
    def steps(self) -> int:
        """The number of levels above the lowest; 0 where the source network rounds nothing."""
        return self.highest - self.lowest

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check that the limits fit the channels."""
        for values in (self.ceiling, self.threshold, self.floor, self.shift, self.scale, self.gain):
            if values is not None and (problem := channel_problem(values, self.shape, "limits")):
                return problem
        for limit in (self.ceiling, self.threshold):
            if limit is not None and limit.min() < 0:
                return "an upper limit must not be negative"
        if self.floor is not None and (self.threshold is None or (self.floor > self.threshold).any()):
            return "a floor must lie below a threshold"
        return self._levels_problem() or same_shape_problem(input_shapes, self.shape)

    def _levels_problem(self) -> str | None:
        """Say why the levels to which the source network rounds are none."""
        if self.scale is None:
            return None
        if self.scale.min() <= 0 or not self.lowest <= 0 < self.highest:
            return f"levels from {self.lowest} to {self.highest} of positive scale must hold zero"
        if self.rounding not in ROUNDINGS:
            return f"rounds {self.rounding!r}, which is none of {', '.join(ROUNDINGS)}"
        if self.points is not None and (
            self.points.ndim != 2
            or self.points.shape[0] not in (1, self.channels)
            or self.points.shape[1] != self.steps
        ):
            return f"points {self.points.shape} do not part {self.steps + 1} levels"
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levelled(AnnNode):
    """An activation that spikes will carry, and the levels that the conversion chooses for it.

    The count of its spikes is ``N = clip(round(y / step), lowest, highest)``, so that silence stands for
    zero. The levels are the conversion's approximation: what the source network computes is this node
    without them.

    Attributes:
        step: (channels,) float32, distance of the levels; ``None`` before they are chosen.
        lowest, highest: the range of the counts, which holds zero; ``T M`` is at least its width.
        levels: M, the levels that one spike will carry.
    """

    step: FloatArray | None = None
    lowest: int = 0
    highest: int = 0
    levels: int = 1

    def without_levels(self) -> Levelled:
        """Return what the source network computes."""
        return self if self.step is None else self.with_(step=None, lowest=0, highest=0)

    def levels_problem(self) -> str | None:
        """Say why the chosen levels are none."""
        if self.step is None:
            return None
        if not self.lowest <= 0 <= self.highest or self.lowest == self.highest:
            return f"levels from {self.lowest} to {self.highest} must hold zero"
        if problem := channel_problem(self.step, self.shape, "distance of levels"):
            return problem
        return None if self.step.min() > 0 else "the distance of levels must be positive"


Activation = Relu | Levelled
"""What spikes carry."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pointwise(Levelled):
    """``y = f(x)``, any function of one number per channel: Sigmoid, GELU, a linear value that is to be sent.

    Attributes:
        program: of :class:`snnc.ir.function.Function`.
        constants: of it, (n, channels) or (n, 1).
        breakpoints: (channels, n) or (1, n) float32, ascending: the least argument from which each count
            holds, chosen with the levels.
        step_values: (n + 1,) int32, the count between two breakpoints; ``None`` with the breakpoints.
    """

    program: str
    constants: FloatArray
    breakpoints: FloatArray | None = None
    step_values: IntArray | None = None

    @property
    def function(self) -> Function:
        """What it computes."""
        return Function(self.program, self.constants)

    def without_levels(self) -> Pointwise:
        """Return what the source network computes."""
        if self.step is None:
            return self
        return self.with_(step=None, lowest=0, highest=0, breakpoints=None, step_values=None)

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check program, constants and levels."""
        if self.constants.ndim != 2 or self.constants.shape[1] not in (1, self.channels):
            return f"constants {self.constants.shape} do not fit {self.channels} channels"
        return (
            function_problem(self.program, len(self.constants))
            or steps_problem(self.breakpoints, self.step_values, self.channels)
            or self.levels_problem()
            or same_shape_problem(input_shapes, self.shape)
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
class AveragePool(AnnNode):
    """Mean over a window; padding counts as zeros in the mean.

    Attributes:
        window: geometry without dilation.
    """

    window: Window

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the window."""
        return pool_problem(input_shapes, self.shape, self.window)


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Add(AnnNode):
    """Sum of two or more tensors of one shape: a residual connection."""

    arity = SEVERAL

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check that all shapes are equal."""
        return same_shape_problem(input_shapes, self.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Concat(AnnNode):
    """Join along channels."""

    arity = MANY

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the channels."""
        return concat_problem(list(input_shapes), self.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reshape(AnnNode):
    """The same values, row by row, in another shape; flattening is one case."""

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the number of elements."""
        return reshape_problem(input_shapes, self.shape)

    def keeps_channels(self, shape: Shape) -> bool:
        """Say whether every channel of the result holds values of one channel of ``shape`` alone."""
        return math.prod(shape[1:]) % math.prod(self.shape[1:]) == 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pad(AnnNode):
    """Add zeros around each axis, channels included.

    Attributes:
        before, after: number of zeros added on each axis.
    """

    before: Shape
    after: Shape

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the pads."""
        return pad_problem(input_shapes[0], self.shape, self.before, self.after)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice(AnnNode):
    """Take every ``step``-th element from ``start`` to ``stop`` on each axis.

    Attributes:
        start, stop, step: per axis, not negative.
    """

    start: Shape
    stop: Shape
    step: Shape

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the slice."""
        return slice_problem(input_shapes[0], self.shape, self.start, self.stop, self.step)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gather(AnnNode):
    """``y_i = x[index_i]``, or zero where the index is -1: values moved, repeated or left out.

    What reorders axes, repeats, mirrors, turns around or spreads values is one of these: pixel shuffle,
    tiling, padding that mirrors, enlarging by repetition.

    Attributes:
        index: (*shape) int32, flat positions in what is read, row by row.
    """

    index: IntArray

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the index map."""
        return gather_problem(input_shapes[0], self.shape, self.index)

    def keeps_channels(self, shape: Shape) -> bool:
        """Say whether each channel of the result holds values of one channel of ``shape``, and no zeros."""
        return bool((self.index != ABSENT).all()) and sole_channels(self.index, shape) is not None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Softmax(AnnNode):
    """Softmax over channels, or its logarithm: only as the last operation.

    It keeps the order of the classes, so the spiking network leaves it out.

    Attributes:
        logarithm: whether the logarithm of the softmax is returned.
    """

    logarithm: bool = field(default=False)

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the shape."""
        return same_shape_problem(input_shapes, self.shape)
