"""Lower limits of metrics that a user sets."""

from __future__ import annotations

import math
from dataclasses import dataclass

from snnc.errors import UsageError
from snnc.metrics.catalogue import Measured, metric_named


@dataclass(frozen=True, slots=True)
class Floor:
    """The least that a metric must reach.

    Attributes:
        metric: its name.
        least: the limit.
        output: of which output; empty for all that the metric fits.
    """

    metric: str
    least: float
    output: str = ""

    def __str__(self) -> str:
        """Return it as the user writes it."""
        return f"{self.asked}={self.least:g}"

    @property
    def asked(self) -> str:
        """What is limited: ``METRIC`` or ``OUTPUT:METRIC``."""
        return f"{self.output}:{self.metric}" if self.output else self.metric

    def kept(self, found: Measured) -> bool:
        """Whether a measurement reaches it."""
        return found.value >= self.least


def floor(text: str) -> Floor:
    """Read ``METRIC=VALUE`` or ``OUTPUT:METRIC=VALUE``.

    Raises:
        UsageError: no metric, no finite number, one that nothing could miss or reach, or one to be kept low.
    """
    asked, equals, number = text.rpartition("=")
    if not equals:
        raise UsageError(f"--min-metric {text}: write NAME=VALUE, such as r2=0.99")
    output, _, name = asked.strip().rpartition(":")
    metric = metric_named(name)
    try:
        least = float(number)
    except ValueError:
        raise UsageError(f"--min-metric {text}: {number!r} is not a number") from None
    if not metric.higher_is_better:
        raise UsageError(f"--min-metric {text}: {name} improves towards lower values; use r2, sqnr or psnr")
    if not math.isfinite(least) or not metric.smallest <= least <= metric.largest:
        raise UsageError(
            f"--min-metric {text}: give a number from {metric.smallest:g} to {metric.largest:g} for {name}"
        )
    return Floor(name, least, output)
