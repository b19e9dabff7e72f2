"""The consumers of the files: what each supports, at which version, and how its neurons work.

A NIR file defines little about a neuron: a threshold and a potential after the spike. The update in a time
step is the consumer's own rule, read from its source at the version named here, and confirmed by running
it (``benchmarks/consumers/verify_spikingjelly.py`` and the like of the others).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Cell(Enum):
    """The node that a population becomes.

    ``IF``: integrate and fire. ``LIF``: the same with a leak, whose time constant is so long that float32
    holds a decay of exactly 1.
    """

    IF = "IF"
    LIF = "LIF"


class Rule(Enum):
    """What a neuron does in a step, after its current was added to the potential ``v``.

    ``ZERO``: one spike and ``v = 0`` if ``v`` reaches the threshold. ``ZERO_ABOVE``: the same if ``v`` lies
    above it. ``SUBTRACT``: ``s = floor(v / threshold)`` spikes if ``v > 0``, ``v - s threshold`` remains, and
    what is below ``-threshold`` is raised to it.
    """

    ZERO = "zero"
    ZERO_ABOVE = "zero, strictly above"
    SUBTRACT = "subtract, several spikes"


@dataclass(frozen=True, slots=True)
class Profile:
    """One consumer.

    Attributes:
        name: of the profile, and of the Python package.
        version: that it was verified with.
        requirements: what else its environment needs, as pip takes it.
        reads: the version of NIR whose files it reads.
        cell: how a population is written.
        rule: what its neurons do.
        resistance: ``r`` of every neuron.
        one_threshold: whether all neurons of a population share one threshold.
        sums: whether a node may read several others, which are added.
        batch: whether it takes a batch of rows; else one row at a time.
        summary: one line.
    """

    name: str
    version: str
    requirements: tuple[str, ...]
    reads: str
    cell: Cell
    rule: Rule
    resistance: float
    one_threshold: bool
    sums: bool
    batch: bool
    summary: str


STEP = 1e-4
"""Length of a step in seconds, with which consumers scale resistances."""

LONG = 1e9
"""Time constant in seconds of a neuron without leak: ``1 - STEP / LONG`` is 1 in float32."""

_NEWEST = ("nir==1.0.8", "nirtorch==2.6")

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="spikingjelly",
            version="2.0.0",
            requirements=_NEWEST,
            reads="1.0.8",
            cell=Cell.IF,
            rule=Rule.ZERO,
            resistance=1 / STEP,
            one_threshold=True,
            sums=True,
            batch=True,
            summary="SpikingJelly 2.0: reset to zero, one spike a step",
        ),
        Profile(
            name="snntorch",
            version="1.0.0",
            requirements=_NEWEST,
            reads="1.0.8",
            cell=Cell.LIF,
            rule=Rule.ZERO_ABOVE,
            resistance=LONG / STEP,
            one_threshold=True,
            sums=True,
            batch=False,
            summary="snnTorch 1.0: reset to zero, one spike a step; neurons written as LIF without leak",
        ),
        Profile(
            name="norse",
            version="1.1.0",
            requirements=_NEWEST,
            reads="1.0.8",
            cell=Cell.IF,
            rule=Rule.ZERO_ABOVE,
            resistance=1.0,
            one_threshold=False,
            sums=False,
            batch=False,
            summary="Norse 1.1: reset to zero, one spike a step; sums as a chain",
        ),
        Profile(
            name="sinabs",
            version="3.1.3",
            requirements=("nir==1.0.4", "nirtorch==2.0.2"),
            reads="1.0.4",
            cell=Cell.IF,
            rule=Rule.SUBTRACT,
            resistance=1.0,
            one_threshold=False,
            sums=False,
            batch=True,
            summary="sinabs 3.1: reset by subtraction, several spikes a step; sums as a chain",
        ),
    )
}
"""Every profile, by name; the first is the default."""
