"""The settings of spiking neurons: when they fire, how much a spike carries, what they remember."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


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


class Firing(Enum):
    """How a population fires in the synchronous schedule; see :class:`snnc.ir.snn.IntegrateFire`.

    ``PLAIN``: no memory, ``0 .. Mmax`` spikes. ``LIMITED``: with memory, ``-Mmax .. Mmax``. ``HESITANT``:
    likewise, and a spike is taken back only below the negative threshold. ``GRADED``: memory and no limit.
    ``STEPS``: the change of a step function, limited to ``-Mmax .. Mmax`` where the neuron has a limit.
    ``LEAKY``: no memory, ``0 .. Mmax`` spikes of a potential that decays, is reset or rests; synchronous
    alone.

    In the layerwise schedule the first four end at ``clip(floor(v / Theta), 0, C)``, whose ``C`` is
    ``T Mmax`` for ``PLAIN`` and ``T M`` for the others.

    Attributes:
        remembers: whether what was sent is remembered, can be taken back, and never exceeds ``T M``.
        keeps_charge: whether what was received and not sent stays: ``sum I + T B = v(T) - v(0) + Theta N``.
    """

    PLAIN = "plain", False, True
    LIMITED = "limited", True, True
    HESITANT = "hesitant", True, True
    GRADED = "graded", True, True
    STEPS = "steps", True, False
    LEAKY = "leaky", False, False

    remembers: bool
    keeps_charge: bool

    def __new__(cls, text: str, remembers: bool, keeps_charge: bool) -> Firing:
        """Make a rule whose value is its text."""
        rule = object.__new__(cls)
        rule._value_ = text
        rule.remembers, rule.keeps_charge = remembers, keeps_charge
        return rule


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

    known: ClassVar[frozenset[str]] = frozenset({"levels", "spikes_per_step", "count_memory", "code"})
    """The settings that all who run or judge a neuron know; others are refused unless at their default."""

    levels: int = 1
    spikes_per_step: int | None = 1
    count_memory: bool = True
    code: Code = Code.UNARY

    @property
    def limit(self) -> int | None:
        """Largest magnitude of one step's output, ``Mmax``; ``None`` where it is not limited."""
        return None if self.spikes_per_step is None else self.levels * self.spikes_per_step

    def firing(self, *, negative_threshold: bool = False) -> Firing:
        """Return the rule of a population with a threshold.

        Args:
            negative_threshold: whether it has one for taking spikes back.
        """
        if not self.count_memory:
            return Firing.PLAIN
        if self.limit is None:
            return Firing.GRADED
        return Firing.HESITANT if negative_threshold else Firing.LIMITED

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
