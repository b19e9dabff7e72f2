"""Populations of spiking neurons: what a neuron computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from snnc.ir.channels import per_channel
from snnc.ir.graph import MANY, FloatArray, NumberArray, Shape
from snnc.ir.kinds import SnnNode, ValueKind
from snnc.ir.leak import MOST_REFRACTORY, decay_problem, fraction_problem
from snnc.ir.neuron import Neuron
from snnc.ir.problems import steps_problem


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

    A population that leaks, is reset otherwise than by its threshold, or rests after a spike, has the
    potential ``v`` in units of ``2^-F`` of a current, ``F`` its ``fraction_bits``, and no count memory::

        i = leak(i, synapse_decay_c) + 2^F I_t             (without it, i = 2^F I_t)
        m = leak(v, decay_c) + i + B_c
        s = clip(floor(m / Theta_c), 0, Mmax)
        v = m - s reset_by_c,  or where s > 0 and there is one, reset_to_c

    with ``i(0) = 0`` and ``leak`` as in :mod:`snnc.ir.leak`. In each of the ``refractory`` steps after a
    spike the potential stays as it is and ``s = 0``; the filter goes on. A factor of the input, such as
    ``dt / tau``, a resistance, or the input decay of DA-LIF, is linear and part of the weights and the bias.

    The activation that the spikes stand for is ``floor_c + u_c N / T``.

    Sources: dual threshold and memory from Liu et al., "Efficient ANN-SNN Conversion with Error
    Compensation Learning", ICML 2025, and Wang et al., "Signed Neuron with Memory", IJCAI 2022;
    several thresholds from Huang et al., "Towards High-performance Spiking Transformers from ANN
    to SNN Conversion", ACM MM 2024; leaky neurons with a synaptic filter as in Gerstner et al., "Neuronal
    Dynamics", 2014, section 1.3, discretised; two learned decays as in DA-LIF, 2025.

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
            breakpoints. ``T M`` is at least the largest magnitude.
        potential_unit, potential_zero: (channels,) float32, what the potential of a neuron with a step
            function stands for, ``potential_unit v + potential_zero``: the pre-activation of the source
            network. They change no spike; ``None`` where it is not known.
        decay: (channels,) what remains of the potential after a step: float32, or int32 in units of
            ``2^-15``; ``None`` where all does.
        synapse_decay: (channels,) likewise of the filtered current; ``None`` where nothing filters.
        reset_to: (channels,) the potential after a spike; ``None`` for reset by subtraction.
        reset_by: (channels,) what each spike takes from the potential; ``None`` for the threshold.
        refractory: steps after a spike in which nothing reaches the potential.
        fraction_bits: F, by how many bits integer potentials are finer than currents.
    """

    arity = MANY
    reads = ValueKind.CURRENT
    gives = ValueKind.SPIKES
    remembers = True

    known: ClassVar[frozenset[str]] = frozenset(
        {
            *("name", "inputs", "shape", "origin", "stands_for", "fine"),
            *("threshold", "bias", "v_init", "spike_scale", "floor", "neuron", "negative_threshold"),
            *("breakpoints", "step_values", "potential_unit", "potential_zero"),
            *("decay", "synapse_decay", "reset_to", "reset_by", "refractory", "fraction_bits"),
        }
    )
    """As :attr:`snnc.ir.neuron.Neuron.known`."""

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
    decay: NumberArray | None = None
    synapse_decay: NumberArray | None = None
    reset_to: NumberArray | None = None
    reset_by: NumberArray | None = None
    refractory: int = 0
    fraction_bits: int = 0

    @property
    def leaky(self) -> bool:
        """Whether it leaks, filters its current, rests, or is reset otherwise than by its threshold."""
        settings = (self.decay, self.synapse_decay, self.reset_to, self.reset_by)
        return any(each is not None for each in settings) or bool(self.refractory or self.fraction_bits)

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
        return self._steps_problem() or self._leak_problem() or self.neuron.problem()

    def _leak_problem(self) -> str | None:
        """Say why leak, reset and rest make no neuron."""
        if not self.leaky:
            return None
        if self.neuron.count_memory or self.neuron.levels > 1 or self.breakpoints is not None:
            return "a leaky neuron has neither count memory nor levels nor a step function"
        if self.floor is not None:
            return "silence of a leaky neuron stands for nothing"
        for reset in (self.reset_to, self.reset_by):
            if reset is not None and (reset.shape != self.shape[:1] or reset.dtype != self.threshold.dtype):
                return (
                    f"a reset {reset.dtype}{reset.shape} is not one number each for {self.channels} channels"
                )
        if self.reset_to is not None and (self.neuron.limit != 1 or self.reset_by is not None):
            return "a neuron that is reset to a value sends one spike a step, and nothing is subtracted"
        if self.reset_by is not None and self.reset_by.min() < 0:
            return "a spike must take nothing below zero from the potential"
        if not 0 <= self.refractory <= MOST_REFRACTORY:
            return f"{self.refractory} refractory steps are not 0 to {MOST_REFRACTORY}"
        return (
            decay_problem(self.decay, self.channels, self.integer, "decay")
            or decay_problem(self.synapse_decay, self.channels, self.integer, "decay of the synapse")
            or fraction_problem(self.fraction_bits, self.integer)
        )

    def span(self) -> int:
        """Return how far the counts of a step function and zero lie apart; 0 where there is none."""
        if self.step_values is None:
            return 0
        return max(int(self.step_values.max()), 0) - min(int(self.step_values.min()), 0)

    def furthest(self) -> int:
        """Return the largest magnitude of a count of a step function; 0 where there is none."""
        return 0 if self.step_values is None else int(np.abs(self.step_values.astype(np.int64)).max())

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
