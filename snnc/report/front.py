"""The picture of a search for a conversion to a budget: what every attempt costs and loses."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from snnc.report.drawing import INK, SERIES, Chart, figure_of, finished, plain


class Cost(Protocol):
    """What one conversion costs and loses; see :class:`snnc.analysis.front.Point`."""

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
KEY = 90
"""Characters of a line of the key below the picture."""


NEAR = 0.03
"""Points nearer to each other than this share of both axes have one label."""


def front_chart(points: Sequence[Cost], front: Sequence[Cost], chosen: Cost | None) -> Chart:
    """Draw points lost against operations; the front is filled and numbered, the rest is hollow."""
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
            (ring,) = ax.plot([chosen.synops], [chosen.drop], "o", markersize=14, label="chosen", color=INK)
            ring.set_markerfacecolor("none")
            ring.set_linestyle("none")
        ax.set_xscale("log")
        ax.margins(0.08)
        _plain_ticks(ax)
        ax.set_xlabel("synaptic operations / multiply-accumulates of the source")
        ax.set_ylabel("points lost")
        ax.legend(title="payload; filled: on the front", bbox_to_anchor=(1.02, 1), loc="upper left")
        _number(ax, front)
        rows = [
            (p.label, str(p.latency), p.payload, f"{p.synops:.2f}", f"{p.drop:.2f}")
            for p in sorted(points, key=lambda p: p.synops)
        ]
        return finished(
            figure,
            "front",
            "Cost and loss of conversions",
            f"{len(points)} conversions; none dominates the {len(front)} on the front.",
            ("conversion", "latency", "payload", "operations / MACs", "points lost"),
            rows,
        )


def _plain_ticks(ax: Axes) -> None:
    """Write the numbers of the logarithmic axis as people do; several are there, however short it is."""
    low, high = ax.get_xlim()
    steps = (1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,)
    ax.xaxis.set_major_locator(MaxNLocator(6) if high / low < 6 else LogLocator(subs=steps))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _number(ax: Axes, front: Sequence[Cost]) -> None:
    """Number the points of the front in its order, and say beside the picture what each is."""
    groups: list[tuple[np.ndarray, list[str]]] = []
    for number, point in enumerate(front, 1):
        at = ax.transLimits.transform(ax.transScale.transform((point.synops, point.drop)))
        near = next((names for place, names in groups if np.abs(place - at).max() < NEAR), None)
        if near is None:
            groups.append((at, [str(number)]))
        else:
            near.append(str(number))
    for place, names in groups:
        ax.annotate(
            ", ".join(names),
            (float(place[0]), float(place[1])),
            xycoords="axes fraction",
            xytext=(6, 6),
            textcoords="offset points",
            fontsize=8,
        )
    lines = [
        line if index == 0 else f"    {line}"
        for number, point in enumerate(front, 1)
        for index, line in enumerate(textwrap.wrap(f"{number}  {plain(point.label)}", KEY))
    ]
    ax.annotate(
        "\n".join(["on the front:", *lines]),
        (0, 0),
        xycoords="axes fraction",
        xytext=(0, -44),
        textcoords="offset points",
        verticalalignment="top",
        fontsize=8,
    )
