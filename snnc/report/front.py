"""The picture of a search for a conversion to a budget: what every attempt costs and loses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from snnc.report.drawing import INK, SERIES, Chart, figure_of, finished


class Cost(Protocol):
    """What one conversion costs and loses; see :class:`snnc.front.Point`."""

    @property
    def label(self) -> str:
        """What it is called."""
        ...

    @property
    def latency(self) -> int:
        """Steps from input to answer."""
        ...

    @property
    def payload(self) -> str:
        """What an event carries."""
        ...

    @property
    def synops(self) -> float:
        """Operations relative to the source's multiply-accumulates."""
        ...

    @property
    def drop(self) -> float:
        """Points lost."""
        ...


MARKERS = "osD^v"


def front_chart(points: Sequence[Cost], front: Sequence[Cost], chosen: Cost | None) -> Chart:
    """Draw points lost against operations; the front is filled, the rest is hollow."""
    kinds = sorted({point.payload.partition(":")[0] for point in points})
    with figure_of(6.4, 4.0) as figure:
        ax = figure.add_subplot()
        for number, kind in enumerate(kinds):
            colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
            own = [point for point in points if point.payload.partition(":")[0] == kind]
            for filled in (False, True):
                some = [point for point in own if (point in front) is filled]
                ax.plot(
                    [point.synops for point in some],
                    [point.drop for point in some],
                    marker,
                    color=colour,
                    markerfacecolor=colour if filled else "none",
                    label=kind if filled else None,
                )
        if chosen is not None:
            ax.plot([chosen.synops], [chosen.drop], "o", markersize=14, color=INK, markerfacecolor="none")
        ax.set_xscale("log")
        ax.set_xlabel("synaptic operations / multiply-accumulates of the source")
        ax.set_ylabel("points lost")
        ax.legend(title="payload; filled: on the front")
        rows = [
            (p.label, str(p.latency), p.payload, f"{p.synops:.2f}", f"{p.drop:.2f}")
            for p in sorted(points, key=lambda p: p.synops)
        ]
        return finished(
            figure,
            "front",
            "What conversions cost and lose",
            f"{len(points)} conversions; none is better in everything than the {len(front)} on the front.",
            ("conversion", "latency", "payload", "operations / MACs", "points lost"),
            rows,
        )
