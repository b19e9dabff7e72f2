"""Shares of rows with their 95 % intervals: one network alone, and two on the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z95 = 1.959963984540054
"""The normal quantile of 0.975."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many of ``n`` rows have a property.

    Attributes:
        hits: how many.
        n: of how many.
    """

    hits: int
    n: int

    @property
    def value(self) -> float:
        """The observed share, in [0, 1]."""
        return self.hits / self.n

    def __str__(self) -> str:
        """Return value, 95 % interval and number of rows in words."""
        low, high = self.interval
        return f"{self.value:.1%} [{low:.1%}, {high:.1%}], n = {self.n}"

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % score interval.

        Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927.
        """
        return wilson(self.value, self.n)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share of ``n`` rows; see :attr:`Share.interval`."""
    centre = share + Z95**2 / (2 * n)
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    # At the ends the exact bound is 0 or 1; rounding must not step over the observed share.
    low, high = (centre - half) / (1 + Z95**2 / n), (centre + half) / (1 + Z95**2 / n)
    return min(max(low, 0.0), share), max(min(high, 1.0), share)


@dataclass(frozen=True, slots=True)
class Paired:
    """Two networks on the same rows.

    Attributes:
        both: rows that both answer rightly.
        only_ann: rows that only the source network answers rightly.
        only_snn: rows that only the spiking network answers rightly.
        neither: rows that both miss.
    """

    both: int
    only_ann: int
    only_snn: int
    neither: int

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.both + self.only_ann + self.only_snn + self.neither

    @property
    def drop(self) -> float:
        """Share of rows that the conversion loses, ``top1(ANN) - top1(SNN)``."""
        return (self.only_ann - self.only_snn) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of ``drop``.

        With half a row added to each of the four cells, so that it is honest where few rows differ.

        Source: Agresti and Min, "Simple improved confidence intervals for comparing matched proportions",
        Statistics in Medicine 24 (2005).
        """
        lost, won, n = self.only_ann + 0.5, self.only_snn + 0.5, self.n + 2
        centre = (lost - won) / n
        half = Z95 * math.sqrt(lost + won - (lost - won) ** 2 / n) / n
        return centre - half, centre + half
