"""What a NIR file does not say: its step, how equations become steps, what a spike does to potentials.

NIR (Pedersen et al., "Neuromorphic intermediate representation", Nature Communications 2024) holds neurons as
differential equations. Each simulator that writes such files has its own step and rules, read here from the
sources of the versions named; a file does not tell which one wrote it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum

from snnc.errors import UsageError


class Discretisation(Enum):
    """How ``tau dv/dt = v_leak - v + r I`` becomes a step of length dt.

    ``EULER``: ``v + dt / tau (v_leak - v + r I)``. ``EXACT``: the solution for an input that is constant over
    the step, with the decay ``exp(-dt / tau)`` and the factor ``r (1 - exp(-dt / tau))``.
    """

    EULER = "euler"
    EXACT = "exact"


class Reset(Enum):
    """What a spike does: ``VALUE`` sets the potential to ``v_reset``, ``SUBTRACT`` takes the threshold."""

    VALUE = "value"
    SUBTRACT = "subtract"


@dataclass(frozen=True, slots=True)
class Convention:
    """How the neurons of a file run.

    Attributes:
        dt: length of a step, in the unit of the file's time constants.
        discretisation: how equations become steps.
        reset: what a spike does; ``None`` where neither the file nor the exporter tells.
        delayed: whether the reset acts in the step after the spike, before what arrives there.
        strict: whether a neuron fires above its threshold alone, not at it.
        several: whether a step may bring several spikes.
        plain_input: whether the input enters by the factor r alone, without dt, as some exporters write it.
        shortened: whether the file's time constants are dt times what they mean.
        filtered: whether neurons with a synaptic filter read what arrives in the same step; those of others
            read that of the step before, which no population here does.
    """

    dt: float
    discretisation: Discretisation
    reset: Reset | None = Reset.VALUE
    delayed: bool = False
    strict: bool = True
    several: bool = False
    plain_input: bool = False
    shortened: bool = False
    filtered: bool = True

    def __post_init__(self) -> None:
        """Refuse a step of no length.

        Raises:
            UsageError: it is not positive.
        """
        if not 0 < self.dt < math.inf:
            raise UsageError(f"--dt {self.dt}: give the length of a step, a positive number")

    @classmethod
    def chosen(
        cls,
        exporter: str | None,
        dt: float | None = None,
        discretisation: str | None = None,
        reset: str | None = None,
    ) -> Convention:
        """Return the convention of an exporter, or that of NIR itself, with what is given in its place.

        Raises:
            UsageError: there is no such exporter, or without one something is left open.
        """
        if exporter is None:
            missing = [
                name
                for name, value in (("--dt", dt), ("--discretisation euler|exact", discretisation))
                if value is None
            ]
            if dt is None or discretisation is None:
                raise UsageError(
                    f"a NIR file does not say how it is run: name what wrote it by --exporter "
                    f"{'|'.join(PROFILES)}, or give {' and '.join(missing)}"
                )
            found = cls(dt, Discretisation(discretisation))
        elif exporter in PROFILES:
            found = PROFILES[exporter]
        else:
            raise UsageError(f"--exporter {exporter}: known are {', '.join(PROFILES)}")
        if dt is not None:
            found = replace(found, dt=dt)
        if discretisation is not None:
            found = replace(found, discretisation=Discretisation(discretisation))
        return found if reset is None else replace(found, reset=Reset(reset))


PROFILES = {
    "snntorch": Convention(1e-4, Discretisation.EULER, None, delayed=True),
    "spikingjelly": Convention(1e-4, Discretisation.EULER, strict=False),
    "norse": Convention(1e-3, Discretisation.EULER, plain_input=True, shortened=True, filtered=False),
    "sinabs": Convention(
        1.0, Discretisation.EXACT, Reset.SUBTRACT, strict=False, several=True, plain_input=True
    ),
}
"""By exporter: snnTorch 1.0.0, SpikingJelly 2.0.0, Norse 1.1.0, sinabs 3.1.3, with their defaults.

snnTorch writes ``v_reset = 0`` whichever reset its neurons have, so that it has to be given. Norse writes
time constants as dt / tau_inverse, dt times what NIR means; a ``v_reset`` other than zero it does not write.
sinabs counts time constants in steps; a lower bound of its potentials (``min_v_mem``) is not in the file, and
is taken for none, its default.
"""
