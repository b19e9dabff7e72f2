"""Numbers on the command line, as they are read and as they are told."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from snnc.cores import available_cores

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any] | click.Command)


class FiniteRange(click.FloatRange):
    """A finite number in a range: a limit of NaN is never missed, since nothing compares with it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number

    def _describe_range(self) -> str:
        """Describe the range in the help; click has no words for one without bounds."""
        return "" if self.min is None and self.max is None else super()._describe_range()


class Threads(click.IntRange):
    """A number of threads: of more than there are cores some only wait, and millions stop the machine."""

    def __init__(self) -> None:
        """Allow any number from 1 on."""
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a number, and return it or the number of cores, whichever is smaller."""
        return min(super().convert(value, param, ctx), available_cores())


def positive(
    name: str, default: float | None, text: str, metavar: str = "X"
) -> Callable[[_Decorated], _Decorated]:
    """Return the decorator that adds an option for a number above 0."""
    return click.option(
        name,
        type=FiniteRange(min=0, min_open=True),
        default=default,
        show_default=default is not None,
        metavar=metavar,
        help=text,
    )


def points(share: float) -> float:
    """Return a difference of shares in points, without the last digits, which floats get wrong."""
    return round(100 * share, 9)


def lost(points: float) -> str:
    """Say how many points are lost, or gained where the number is negative."""
    return f"{abs(points):.2f} points {'gained' if round(points, 2) < 0 else 'lost'}"
