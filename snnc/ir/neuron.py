"""The settings of spiking neurons: when they fire, how much a spike carries, what they remember."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Schedule(Enum):
    """When a population fires.

    ``SYNCHRONOUS``: every population fires in every step, without delay. ``LAYERWISE``: a population
    first integrates all spikes of its inputs, then fires for T steps; its counts equal the
    activations of the network quantised to as many levels, at a latency of depth x T.
    """

    SYNCHRONOUS = "synchronous"
    LAYERWISE = "layerwise"

    @classmethod
    def _missing_(cls, value: object) -> Schedule | None:
        """Read ``barrier``, as artefacts and pipelines called the layerwise schedule before."""
        return cls.LAYERWISE if value == "barrier" else None


class Code(Enum):
    """How a spike of several levels leaves the neuron.

    ``UNARY``: as that many unit events. ``BINARY``: as the bits of its magnitude, with one sign.
    It changes what is counted and sent, not what is computed.
    """

    UNARY = "unary"
    BINARY = "binary"


TEXT = r"(signed|unsigned) M=(\d+) per-step=(any|\d+) (unary|binary)"
"""The text form of a neuron's settings."""


@dataclass(frozen=True, slots=True)
class Neuron:
    """Settings of a population: one definition for the whole family of integrate-and-fire neurons.

    Attributes:
        levels: M, the levels that one spike may carry.
        spikes_per_step: spikes that may leave in one step; ``None`` for as many as needed (graded).
        count_memory: whether spikes already sent are remembered, may be taken back by negative ones and
            never exceed the capacity ``T M``. Without it this is the plain integrate-and-fire neuron.
        code: how several levels are sent.
    """

    levels: int = 1
    spikes_per_step: int | None = 1
    count_memory: bool = True
    code: Code = Code.UNARY

    @property
    def limit(self) -> int | None:
        """Largest magnitude of one step's output, ``Mmax``; ``None`` where it is not limited."""
        return None if self.spikes_per_step is None else self.levels * self.spikes_per_step

    def capacity(self, timesteps: int) -> int:
        """Largest spike count of a neuron with memory, ``C = T M``."""
        return timesteps * self.levels

    def largest(self, timesteps: int) -> int:
        """Largest magnitude of one step's output in a run of ``timesteps``."""
        return self.capacity(timesteps) if self.limit is None else self.limit

    @property
    def payload(self) -> str:
        """What one event carries: ``binary``, ``signed`` or ``levels:M``."""
        if self.spikes_per_step is None:
            return "levels:T" if self.levels == 1 else f"levels:{self.levels}T"
        if self.levels > 1:
            return f"levels:{self.levels}"
        return "signed" if self.count_memory else "binary"

    @property
    def text(self) -> str:
        """The text form, of :data:`TEXT`."""
        sign = "signed" if self.count_memory else "unsigned"
        per_step = "any" if self.spikes_per_step is None else self.spikes_per_step
        return f"{sign} M={self.levels} per-step={per_step} {self.code.value}"

    @classmethod
    def from_text(cls, text: str) -> Neuron:
        """Read the text form.

        Raises:
            ValueError: it is of another form.
        """
        found = re.fullmatch(TEXT, text)
        if found is None:
            raise ValueError(f"{text!r} describes no neuron")
        sign, levels, spikes, code = found.groups()
        return cls(int(levels), None if spikes == "any" else int(spikes), sign == "signed", Code(code))

    def problem(self) -> str | None:
        """Say why these settings make no neuron."""
        if self.levels < 1 or (self.spikes_per_step is not None and self.spikes_per_step < 1):
            return "levels and spikes per step must be positive"
        if self.spikes_per_step is None and not self.count_memory:
            return "a graded neuron needs memory: without it nothing limits its spikes"
        if self.code is Code.BINARY and self.levels & (self.levels + 1):
            return f"binary-weighted thresholds need 2^n - 1 levels, not {self.levels}"
        return None
