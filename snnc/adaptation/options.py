"""The options of an adaptation."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any

from snnc.artefact.adaptations import Head
from snnc.errors import UsageError


@dataclass(frozen=True, slots=True)
class Options:
    """How to adapt.

    Attributes:
        cut: the layer behind which is learned; the classifier by default, or where it learned before.
        head: what is learned; linear by default, or what the artefact learned before.
        ridge: of a linear head, in units of the mean variance of a count.
        improve: whether classes that exist already may be learned further.
        route: whether each edit is a head of its own, chosen by similarity.
        names: of the new classes, in order.
        rows_layout: of the rows, such as ``NHWC``, where the artefact does not tell.
        gaps: whether new classes may leave numbers out, whose outputs then stay silent.
        replay_bytes: limit of the buffer that is made or kept; ``None`` for none.
        replay_window: steps of a spike train that the buffer ORs; 0 for counts.
        epochs, rate, seed: of gradients.

    Raises:
        UsageError: a number is out of range.
    """

    cut: str | None = None
    head: Head | None = None
    ridge: float | None = None
    improve: bool = False
    route: bool | None = None
    names: tuple[str, ...] = ()
    rows_layout: str | None = None
    gaps: bool = False
    replay_bytes: int | None = None
    replay_window: int = 0
    epochs: int = 30
    rate: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that give no head, or none that could be recorded."""
        given: tuple[tuple[str, Any], ...] = (("ridge", self.ridge), ("rate", self.rate))
        for name, value in given:
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            if value is not None and not (is_number and isfinite(value) and value > 0):
                raise UsageError(f"{name} is {value!r}: give a finite number above 0")
        if self.epochs < 1 or self.replay_window < 0:
            raise UsageError("epochs begin at 1, and replay_window at 0, which keeps counts")


def head_of(name: str | None) -> Head | None:
    """Return the head of a name; ``None`` for none.

    Raises:
        UsageError: there is no such head.
    """
    if name is None:
        return None
    known = [head.value for head in Head]
    if name not in known:
        raise UsageError(f"no head is called {name!r}: give one of {', '.join(known)}")
    return Head(name)
