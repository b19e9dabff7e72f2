"""The spiking dialect: what the converted network computes, step by step.

Two precisions share the node types. Before quantisation the arrays are float32, in units of the
model; afterwards they are integers (weights int8, identity weights int16, biases, thresholds and
potentials int32) and every simulator gives the same spikes, bit for bit. The unit ``u`` of a
population's spikes, per channel, is folded into the weights that read them, so that a current is
``sum w s`` with the plain integer ``s``.

A value is one of two kinds. *Spikes*: small integers that change from step to step. *Currents*:
sums of weighted spikes, which only populations and the read-out consume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from snnc.errors import InternalError
from snnc.ir.channels import per_channel
from snnc.ir.counts import CountFunction as CountFunction
from snnc.ir.counts import CountMatrixProduct as CountMatrixProduct
from snnc.ir.counts import CountMaximum as CountMaximum
from snnc.ir.counts import CountMaxPool as CountMaxPool
from snnc.ir.counts import CountNormalisation as CountNormalisation
from snnc.ir.counts import CountProduct as CountProduct
from snnc.ir.counts import CountSoftmax as CountSoftmax
from snnc.ir.counts import Function as Function
from snnc.ir.geometry import Window, concat_problem, gather_problem, pad_problem, slice_problem
from snnc.ir.graph import MANY, NONE, FloatArray, Graph, IntArray, NumberArray, Shape
from snnc.ir.kinds import SnnNode as SnnNode
from snnc.ir.kinds import ValueKind, kind_problem
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.problems import MOST_BREAKPOINTS as MOST_BREAKPOINTS
from snnc.ir.problems import (
    channel_problem,
    convolution_problem,
    max_pool_problem,
    pool_problem,
    reshape_problem,
    same_shape_problem,
    steps_problem,
)

INPUT_LIMIT = 2047
"""Largest magnitude of a quantised input: 12 bits with sign."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SnnGraph(Graph[SnnNode]):
    """A spiking network and how long it runs: an :class:`Encode` per input, a :class:`Readout` per output.

    Attributes:
        timesteps: T, the steps it was calibrated for and runs by default.
        settle_steps: K, further steps without input current and bias.
        schedule: when populations fire.
        max_timesteps: largest T for which the integer bounds were proved; 0 before quantisation.
        density: share of the neurons of a population that fire in a step, by its name, as far as measured.
            A simulator plans by it; what is computed does not depend on it.
    """

    timesteps: int
    settle_steps: int = 0
    schedule: Schedule = Schedule.SYNCHRONOUS
    max_timesteps: int = 0
    density: Mapping[str, float] = field(default_factory=dict)

    @property
    def integer(self) -> bool:
        """Whether the whole network computes in integers."""
        return all(getattr(node, "integer", True) for node in self.nodes)

    @cached_property
    def only_timesteps(self) -> bool:
        """Whether it runs for its own T alone: step functions and functions of counts were made for it."""
        stepped = any(node.breakpoints is not None for node in self.of_type(IntegrateFire))
        return stepped or any(isinstance(node, CountFunction) and node.only_timesteps for node in self.nodes)

    @cached_property
    def encoders(self) -> tuple[Encode, ...]:
        """The nodes that quantise the inputs, in the source's order."""
        return self.of_type(Encode)

    @property
    def encoder(self) -> Encode:
        """The node that quantises the one input.

        Raises:
            UsageError: there are several.
        """
        node = self.input
        if not isinstance(node, Encode):
            raise InternalError(f"{self.name} begins with {node.name!r}, which quantises nothing")
        return node

    @cached_property
    def readouts(self) -> dict[str, Readout]:
        """The node that gives each output, by the output's name, in the source's order."""
        nodes = (self[name] for name in self.outputs)
        return {
            name: node
            for name, node in zip(self.output_names, nodes, strict=True)
            if isinstance(node, Readout)
        }

    @property
    def readout(self) -> Readout:
        """The node that gives the one output.

        Raises:
            UsageError: there are several.
        """
        node = self[self.output]
        if not isinstance(node, Readout):
            raise InternalError(f"{self.name} ends with {node.name!r}, which is no read-out")
        return node

    def problem(self) -> str | None:
        """Check the settings of the whole network."""
        if self.timesteps < 1 or self.settle_steps < 0:
            return f"T = {self.timesteps} and K = {self.settle_steps} make no run"
        if self.schedule is Schedule.LAYERWISE and self.settle_steps:
            return "the layerwise schedule has no settle steps: nothing arrives late"
        if not all(isinstance(self[name], Readout) for name in self.outputs):
            return "the output of a spiking network is its read-out"
        if len(set(self.outputs)) < len(self.outputs):
            return "each output of a spiking network has a read-out of its own"
        alive = self.ancestors(self.outputs)
        for node in self.of_type(IntegrateFire):
            if node.name not in alive:
                return f"the population {node.name!r} has no part in the output"
            if node.span() > (most := node.neuron.capacity(self.timesteps)):
                return f"{node.name!r} has {node.span()} steps, more than T M = {most}"
        for readout in self.of_type(Readout):
            if readout.name not in self.outputs:
                return f"the read-out {readout.name!r} is no output"
        return kind_problem(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encode(SnnNode):
    """Quantise the analogue input once: ``q = clip(rint((x gain + offset) / scale), low, high)``.

    Half to even; multiply, add, divide, round and clip are separate float32 operations. ``q`` is
    presented in each of the T steps, so the currents of the first layer are constant in time.

    Attributes:
        gain, offset: (channels,) float32, an affine normalisation found at the head of the source
            network; ``None`` where there is none.
        scale: real value of one unit of ``q``.
        limit: largest magnitude of ``q``.
        low, high: the least and the largest ``q`` of an input that the source network quantises itself;
            ``None`` for ``-limit`` and ``limit``.
    """

    arity = NONE
    is_input = True
    gives = ValueKind.SPIKES

    scale: float
    limit: int = INPUT_LIMIT
    low: int | None = None
    high: int | None = None
    gain: FloatArray | None = None
    offset: FloatArray | None = None

    @property
    def range(self) -> tuple[int, int]:
        """The least and the largest ``q``."""
        return (
            -self.limit if self.low is None else self.low,
            self.limit if self.high is None else self.high,
        )

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check scale and limits."""
        if not 0 < self.scale < float("inf") or not 0 < self.limit <= INPUT_LIMIT:
            return f"scale {self.scale} and limit {self.limit} are out of range"
        low, high = self.range
        if not -self.limit <= low <= 0 <= high <= self.limit:
            return f"the range {low} to {high} does not hold zero, or leaves the limit {self.limit}"
        if (self.gain is None) != (self.offset is None):
            return "gain and offset come together"
        for values in (self.gain, self.offset):
            if values is not None and (problem := channel_problem(values, self.shape, "normalisation")):
                return problem
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weighted(SnnNode):
    """A synapse: spikes in, current out.

    Attributes:
        weight: float32 with the units of the spikes folded in, or int8 / int16.
    """

    reads = ValueKind.SPIKES
    gives = ValueKind.CURRENT

    weight: NumberArray

    @property
    def integer(self) -> bool:
        """Whether the weight is quantised."""
        return self.weight.dtype.kind == "i"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Convolution(Weighted):
    """``I[o] = sum_{i,k} weight[o,i,k] s[i, .+k]``.

    Attributes:
        window: geometry; its kernel equals the last two sizes of ``weight``.
        groups: number of channel groups.
    """

    window: Window
    groups: int = 1

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check weight and window against the input."""
        return convolution_problem(input_shapes[0], self.shape, self.weight.shape, self.window, self.groups)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear(Weighted):
    """``I = weight s`` with a weight of (outputs, inputs)."""

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the weight against the input."""
        if len(self.shape) != 1:
            return f"maps one vector to a vector, not {list(input_shapes)} to {self.shape}"
        if self.weight.shape != (*self.shape, *input_shapes[0]):
            return f"weight {self.weight.shape} does not map {input_shapes[0]} to {self.shape}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelWeight(Weighted):
    """``I[c] = weight[c] s[c]``: the identity branch of a residual sum, one weight per channel."""

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the weight against the channels."""
        if self.weight.shape != self.shape[:1]:
            return f"weight {self.weight.shape} does not fit {self.shape[0]} channels"
        return same_shape_problem(input_shapes, self.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConstantCurrent(SnnNode):
    """A constant current for each neuron, in each of the T steps: a bias that depends on the position.

    It is needed where a source network pads a value whose zero is not represented by silence, so that the
    border receives another bias than the interior.

    Attributes:
        values: (*shape), float32 or int32.
    """

    arity = NONE
    gives = ValueKind.CURRENT

    values: NumberArray

    @property
    def integer(self) -> bool:
        """Whether the values are quantised."""
        return self.values.dtype.kind == "i"

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check that there is one value per neuron."""
        return None if self.values.shape == self.shape else f"values {self.values.shape} are not {self.shape}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SumPool(SnnNode):
    """Sum over a window. The mean's ``1 / area`` is folded into the weights on its path.

    It reads spikes and gives spikes of more levels, or reads a current and gives a current.

    Attributes:
        window: geometry.
    """

    window: Window

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the window."""
        return pool_problem(input_shapes, self.shape, self.window)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurrentMaxPool(SnnNode):
    """Maximum of a current over a window; padding never wins.

    Exact where the current is constant in time, that is, in the analogue first layer: there
    rectifying the maximum is the same as taking the maximum of the rectified.

    Attributes:
        window: geometry.
    """

    reads = ValueKind.CURRENT
    gives = ValueKind.CURRENT
    reads_constant = True

    window: Window

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the window."""
        return max_pool_problem(input_shapes, self.shape, self.window)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Concat(SnnNode):
    """Join spikes along channels."""

    arity = MANY
    reads = ValueKind.SPIKES
    gives = ValueKind.SPIKES
    moves = True

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the channels."""
        return concat_problem(list(input_shapes), self.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reshape(SnnNode):
    """The same values, row by row, in another shape; a current keeps its channels."""

    moves = True

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the number of elements."""
        return reshape_problem(input_shapes, self.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pad(SnnNode):
    """Add silent neurons around each axis, channels included.

    Attributes:
        before, after: number added on each axis.
    """

    reads = ValueKind.SPIKES
    gives = ValueKind.SPIKES
    moves = True

    before: Shape
    after: Shape

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the pads."""
        return pad_problem(input_shapes[0], self.shape, self.before, self.after)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice(SnnNode):
    """Take every ``step``-th neuron from ``start`` to ``stop`` on each axis.

    Attributes:
        start, stop, step: per axis, not negative.
    """

    reads = ValueKind.SPIKES
    gives = ValueKind.SPIKES
    moves = True

    start: Shape
    stop: Shape
    step: Shape

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the slice."""
        return slice_problem(input_shapes[0], self.shape, self.start, self.stop, self.step)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gather(SnnNode):
    """``y_i = x[index_i]`` in every step, or nothing where the index is -1: routing alone.

    A spike arrives wherever the map names its neuron. A current is moved likewise.

    Attributes:
        index: (*shape) int32, flat positions in what is read, row by row.
    """

    moves = True

    index: IntArray

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check the index map."""
        return gather_problem(input_shapes[0], self.shape, self.index)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegrateFire(SnnNode):
    r"""One population of spiking neurons; its inputs are currents, which it sums.

    In step ``t`` of ``T`` (and ``K`` settle steps), for each neuron of channel ``c``, with the
    summed current ``I_t``, bias ``B_c``, threshold ``Theta_c``, levels ``M``::

        v(0) = v_init_c,  N(0) = 0,  C = T M
        m  = v + I_t + B_c            (no B_c, and no current of the first layer, once t >= T)
        s  = clip(floor(m / Theta_c), lo, hi)
        lo = -min(N, Mmax) with memory, else 0
        hi = min(C - N, Mmax) with memory, else Mmax
        v  = m - s Theta_c
        N  = N + s

    ``floor`` rounds toward minus infinity. ``Mmax = M * spikes_per_step``, unlimited if graded.
    Where ``negative_threshold`` is given (``Mmax = 1``, memory), ``s = -1`` only if
    ``m < -negative_threshold`` and ``N > 0``; the default 0 is what the floor does by itself.

    Layerwise schedule: ``v = v_init + T B + sum_t I_t``, then T steps of firing without input, with
    ``lo = 0`` and the same ``hi``, so that ``N = clip(floor(v / Theta), 0, C)``.

    With ``breakpoints`` ``b_1 <= .. <= b_n`` the count follows a step function of all that arrived, and the
    threshold means nothing. Nothing is taken from the potential::

        v = v + I_t + B_c
        K = step_values_j,  j = number of b_i <= v
        s = clip(K - N, -Mmax, Mmax)

    in both schedules, for any sign of ``N``. What has arrived after ``T`` steps depends on ``T``, so such a
    network runs for its own ``T`` alone.

    The activation that the spikes stand for is ``floor_c + u_c N / T``.

    Sources: dual threshold and memory from Liu et al., "Efficient ANN-SNN Conversion with Error
    Compensation Learning", ICML 2025, and Wang et al., "Signed Neuron with Memory", IJCAI 2022;
    several thresholds from Huang et al., "Towards High-performance Spiking Transformers from ANN
    to SNN Conversion", ACM MM 2024.

    Attributes:
        threshold: (channels,) Theta; float32 or int32 >= 1.
        bias: (channels,) B per step; float32 or int32.
        v_init: (channels,) initial potential; float32 or int32.
        spike_scale: (channels,) float32, u: the real value of one level at rate one.
        floor: (channels,) float32, the real value that silence stands for; its contribution is part of the
            readers' biases. ``None`` for 0.
        neuron: the settings.
        negative_threshold: (channels,) or ``None`` for 0.
        stands_for: name of the rectifier of the source network, as it was lowered, whose activation the
            spikes carry; empty where none is known.
        fine: whether it carries an activation a second time, with more levels than a coarse population.
        breakpoints: (channels, n) or (1, n) float32 or int32, ascending, n <= 255: of a step function in
            place of the threshold; ``None`` where there is none.
        step_values: (n + 1,) int32, the count between two breakpoints, in any order; ``None`` with the
            breakpoints. ``T M`` is at least what they and zero span.
        potential_unit, potential_zero: (channels,) float32, what the potential of a neuron with a step
            function stands for, ``potential_unit v + potential_zero``: the pre-activation of the source
            network. They change no spike; ``None`` where it is not known.
    """

    arity = MANY
    reads = ValueKind.CURRENT
    gives = ValueKind.SPIKES
    remembers = True

    threshold: NumberArray
    bias: NumberArray
    v_init: NumberArray
    spike_scale: FloatArray
    floor: FloatArray | None = None
    neuron: Neuron = field(default_factory=Neuron)
    negative_threshold: NumberArray | None = None
    stands_for: str = ""
    fine: bool = False
    breakpoints: NumberArray | None = None
    step_values: NumberArray | None = None
    potential_unit: FloatArray | None = None
    potential_zero: FloatArray | None = None

    @property
    def integer(self) -> bool:
        """Whether thresholds and potentials are integers."""
        return self.threshold.dtype.kind == "i"

    @property
    def lowest(self) -> FloatArray:
        """The real value that silence stands for, (channels,) float32."""
        return np.zeros(self.channels, np.float32) if self.floor is None else self.floor

    def ramp(self, timesteps: int) -> FloatArray:
        """Return the bias per step, (channels,): half the threshold minus the initial potential, by T.

        A step function rounds by itself.
        """
        if self.breakpoints is not None:
            return np.zeros(self.channels, np.float32)
        return ((self.threshold / 2 - self.v_init) / timesteps).astype(np.float32)

    def decoded(self, counts: NumberArray, timesteps: int) -> FloatArray:
        """Return the activations that counts stand for, ``floor + u N / T``, (batch, *shape) float32."""
        values = counts.astype(np.float32)
        values *= per_channel(self.spike_scale, len(self.shape)) / np.float32(timesteps)
        if self.floor is not None:
            values += per_channel(self.floor, len(self.shape))
        return values

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check vectors and settings."""
        if any(shape != self.shape for shape in input_shapes):
            return f"currents {list(input_shapes)} do not have the population's shape {self.shape}"
        for values in (self.threshold, self.bias, self.v_init, self.spike_scale, self.lowest):
            if values.shape != self.shape[:1]:
                return f"a parameter of shape {values.shape} does not fit {self.shape[0]} channels"
        if self.threshold.min() <= 0:
            return "thresholds must be positive"
        if self.negative_threshold is not None:
            if self.neuron.limit != 1 or not self.neuron.count_memory:
                return "a negative threshold needs one signed spike a step with memory"
            if self.negative_threshold.shape != self.shape[:1] or self.negative_threshold.min() < 0:
                return "the negative threshold must be one value per channel, not below zero"
        return self._steps_problem() or self.neuron.problem()

    def span(self) -> int:
        """Return how far the counts of a step function and zero lie apart; 0 where there is none."""
        if self.step_values is None:
            return 0
        return max(int(self.step_values.max()), 0) - min(int(self.step_values.min()), 0)

    def _steps_problem(self) -> str | None:
        """Say why the breakpoints make no step function."""
        if (problem := steps_problem(self.breakpoints, self.step_values, self.channels)) is not None:
            return problem
        real = [each for each in (self.potential_unit, self.potential_zero) if each is not None]
        if self.breakpoints is None:
            return "only the potential of a step function has a unit of its own" if real else None
        if len(real) == 1 or any(each.shape != self.shape[:1] for each in real):
            return (
                f"the unit and the zero of the potential are not one number each for {self.channels} channels"
            )
        if self.potential_unit is not None and not self.potential_unit.min() > 0:
            return "the unit of the potential must be positive"
        if not self.neuron.count_memory or self.negative_threshold is not None:
            return "a step function needs count memory, and has no negative threshold"
        if self.integer != (self.breakpoints.dtype.kind == "i"):
            return "breakpoints are integers where potentials are, and floats where these are"
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Readout(SnnNode):
    """Accumulate currents over all steps: ``y = sum_t I_t + T bias``.

    Of class scores the arg max is the class; the lowest index wins a tie. The values of the source network
    are about ``y * scale * gain / T``.

    Attributes:
        bias: (channels,) per step; float32 or int32.
        scale: real value of one unit of the accumulated current; 1 before quantisation.
        gain: (channels,) float32, by how much a channel's unit is larger than that; ``None`` where all share
            one, as class scores must.
    """

    arity = MANY
    reads = ValueKind.CURRENT
    gives = ValueKind.CURRENT
    remembers = True

    bias: NumberArray
    scale: float = 1.0
    gain: FloatArray | None = None

    def decoded(self, outputs: NumberArray, timesteps: int) -> FloatArray:
        """Return the values of the source network that accumulated currents, (batch, *shape), stand for."""
        unit = np.float32(self.scale / timesteps)
        if self.gain is None:
            return (outputs * unit).astype(np.float32)
        return (outputs * per_channel(self.gain * unit, len(self.shape))).astype(np.float32)

    def real(self, outputs: NumberArray, timesteps: int) -> FloatArray:
        """Return the same in float64, in which no integer becomes the equal of another."""
        unit = np.asarray(self.scale / timesteps)
        if self.gain is not None:
            unit = per_channel(self.gain.astype(np.float64) * unit, len(self.shape))
        found: FloatArray = outputs.astype(np.float64) * unit
        return found

    @property
    def integer(self) -> bool:
        """Whether the bias is quantised."""
        return self.bias.dtype.kind == "i"

    def verify(self, input_shapes: Sequence[Shape]) -> str | None:
        """Check shapes."""
        if any(shape != self.shape for shape in input_shapes):
            return f"currents {list(input_shapes)} do not have the read-out's shape {self.shape}"
        if self.bias.shape != self.shape[:1]:
            return f"bias {self.bias.shape} does not fit {self.shape[0]} channels"
        if self.gain is not None and (self.gain.shape != self.shape[:1] or not self.gain.min() > 0):
            return f"the gain must be one positive number for each of {self.shape[0]} channels"
        return None if self.scale > 0 else "the scale must be positive"
