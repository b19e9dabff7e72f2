"""The picture of a search for a conversion to a budget: what every attempt costs and loses."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from snnc.report.drawing import INK, SERIES, Chart, figure_of, finished, plain
from snnc.report.energy import microjoules


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

    @property
    def picojoules(self) -> float | None:
        """Energy of an image in the cost model ``45nm``; ``None`` if unknown."""
        ...

    @property
    def footprint(self) -> int | None:
        """Bytes of parameters, states and input; ``None`` if unknown."""
        ...


MARKERS = "osD^v"
KEY = 90
"""Characters of a line of the key below the picture."""


NEAR = 0.03
"""Points nearer to each other than this share of both axes have one label."""


@dataclass(frozen=True, slots=True)
class Panel:
    """What points lost are drawn against.

    Attributes:
        label: of the axis.
        value: of a point; nothing where it is not known.
    """

    label: str
    value: Callable[[Cost], float | None]

    def pairs(self, points: Sequence[Cost]) -> list[tuple[float, float]]:
        """Return cost and points lost, where the cost is known; a logarithmic axis has no zero."""
        found = [(self.value(point), point.drop) for point in points]
        return [(cost, drop) for cost, drop in found if cost]


OPERATIONS = Panel("synaptic operations / multiply-accumulates of the source", lambda point: point.synops)
SMALL = (
    Panel("µJ an image, model 45nm", lambda point: _scaled(point.picojoules, 1e-6)),
    Panel("footprint, kB", lambda point: _scaled(point.footprint, 1e-3)),
)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def front_chart(points: Sequence[Cost], front: Sequence[Cost], chosen: Cost | None) -> Chart:
    """Draw points lost against operations; the front is filled and numbered, the rest is hollow.

    Smaller panels below show them against energy and footprint, where these are known.
    """
    known = [panel for panel in SMALL if panel.pairs(points)]
    with figure_of(6.4, 6.4 if known else 4.0) as figure:
        grid = figure.add_gridspec(
            2 if known else 1, 2, height_ratios=(5, 3)[: 2 if known else 1], hspace=0.3, wspace=0.3
        )
        ax = figure.add_subplot(grid[0, :])
        _draw(ax, OPERATIONS, points, front, chosen)
        ax.legend(title="payload; filled: on the front", bbox_to_anchor=(1.02, 1), loc="upper left")
        _number(ax, front)
        lowest = ax
        for place, panel in enumerate(known):
            small = figure.add_subplot(grid[1, place])
            _draw(small, panel, points, front, chosen)
            lowest = small if place == 0 else lowest
        _key(lowest, front)
        rows = [
            (
                *(p.label, str(p.latency), p.payload, f"{p.synops:.2f}"),
                "-" if p.picojoules is None else microjoules(p.picojoules),
                "-" if p.footprint is None else f"{p.footprint / 1000:.1f}",
                f"{p.drop:.2f}",
            )
            for p in sorted(points, key=lambda p: p.synops)
        ]
        return finished(
            figure,
            "front",
            "Cost and loss of conversions",
            f"{len(points)} conversions; none dominates the {len(front)} on the front in latency, payload, "
            "operations and points lost.",
            (
                *("conversion", "latency", "payload", "operations / MACs"),
                *("µJ an image (45nm)", "footprint, kB", "points lost"),
            ),
            rows,
        )


def _draw(ax: Axes, panel: Panel, points: Sequence[Cost], front: Sequence[Cost], chosen: Cost | None) -> None:
    """Draw points lost against one cost."""
    for number, kind in enumerate(sorted({point.payload.partition(":")[0] for point in points})):
        colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
        own = [point for point in points if point.payload.partition(":")[0] == kind]
        for filled in (False, True):
            some = panel.pairs([point for point in own if (point in front) is filled])
            ax.plot(
                [cost for cost, _ in some],
                [drop for _, drop in some],
                marker,
                color=colour,
                markerfacecolor=colour if filled else "none",
                label=kind if filled else None,
            )
    for cost, drop in panel.pairs([] if chosen is None else [chosen]):
        (ring,) = ax.plot([cost], [drop], "o", markersize=14, label="chosen", color=INK)
        ring.set_markerfacecolor("none")
        ring.set_linestyle("none")
    ax.set_xscale("log")
    ax.margins(0.08)
    _plain_ticks(ax)
    ax.set_xlabel(panel.label)
    ax.set_ylabel("points lost")


def _plain_ticks(ax: Axes) -> None:
    """Write the numbers of the logarithmic axis as people do; several are there, however short it is."""
    low, high = ax.get_xlim()
    steps = (1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,)
    ax.xaxis.set_major_locator(MaxNLocator(6) if high / low < 6 else LogLocator(subs=steps))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _number(ax: Axes, front: Sequence[Cost]) -> None:
    """Number the points of the front in its order; :func:`_key` says what each is."""
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


def _key(ax: Axes, front: Sequence[Cost]) -> None:
    """Say below the lowest axes what the numbers are."""
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
