"""How a spiking network gives an output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snnc.ir.channels import per_channel
from snnc.ir.graph import MANY, FloatArray, NumberArray, Shape
from snnc.ir.kinds import SnnNode, ValueKind
from snnc.ir.leak import decay_problem, fraction_problem


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Readout(SnnNode):
    """Accumulate currents over all steps: ``y = sum_t I_t + T bias``.

    Of class scores the arg max is the class; the lowest index wins a tie. The values of the source network
    are about ``y * scale * gain / T``.

    A leaky read-out has a potential in units of ``2^-F`` of a current, which no spike resets::

        i = leak(i, synapse_decay) + 2^F I_t               (without it, i = 2^F I_t)
        y = leak(y, decay) + i + bias

    with ``y(0) = i(0) = 0`` and ``leak`` as in :mod:`snnc.ir.leak`; its output is ``y(T)``, and stands for
    ``y * scale * gain``.

    Attributes:
        bias: (channels,) per step; float32 or int32.
        scale: real value of one unit of the accumulated current; 1 before quantisation.
        gain: (channels,) float32, by how much a channel's unit is larger than that; ``None`` where all share
            one, as class scores must.
        decay, synapse_decay: (channels,) float32, or int32 in units of ``2^-15``; ``None`` for no leak, and
            for no filter.
        fraction_bits: F, by how many bits an integer potential is finer than currents.
    """

    arity = MANY
    reads = ValueKind.CURRENT
    gives = ValueKind.CURRENT
    remembers = True

    bias: NumberArray
    scale: float = 1.0
    gain: FloatArray | None = None
    decay: NumberArray | None = None
    synapse_decay: NumberArray | None = None
    fraction_bits: int = 0

    @property
    def leaky(self) -> bool:
        """Whether it is a potential that leaks or filters its current, in place of a sum."""
        return self.decay is not None or self.synapse_decay is not None or bool(self.fraction_bits)

    def _divisor(self, timesteps: int) -> int:
        """Return by what an output is divided to stand for a value: a sum has T terms, a potential is one."""
        return 1 if self.leaky else timesteps

    def decoded(self, outputs: NumberArray, timesteps: int) -> FloatArray:
        """Return the values of the source network that accumulated currents, (batch, *shape), stand for."""
        unit = np.float32(self.scale / self._divisor(timesteps))
        if self.gain is None:
            return (outputs * unit).astype(np.float32)
        return (outputs * per_channel(self.gain * unit, len(self.shape))).astype(np.float32)

    def real(self, outputs: NumberArray, timesteps: int) -> FloatArray:
        """Return the same in float64, in which no integer becomes the equal of another."""
        unit = np.asarray(self.scale / self._divisor(timesteps))
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
        if not self.scale > 0:
            return "the scale must be positive"
        return (
            decay_problem(self.decay, self.channels, self.integer, "decay")
            or decay_problem(self.synapse_decay, self.channels, self.integer, "decay of the synapse")
            or fraction_problem(self.fraction_bits, self.integer)
        )
