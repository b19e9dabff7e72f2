"""Write the table of docs/sparsity.md and its picture from the measurements of sparse conversions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.accuracy.choices import Setting
from benchmarks.accuracy.measure import NETWORKS
from benchmarks.accuracy.pictures import COLOURS, MARKERS
from benchmarks.common.tables import percent, read, table, write_between
from benchmarks.learning.tuned import latest
from snnc.report.energy import MODELS

Row = dict[str, Any]

PICTURE = "pictures/sparsity-front.svg"
COMMAND = "python -m benchmarks.accuracy.front"

TUNED = "tuned:"
"""What the names of measurements of tuned artefacts begin with."""

LEARNED = "tuned"
"""How networks that were tuned are drawn and called."""

LEAST_PEER = 0.7
"""Accuracy below which other converters are left out of the picture: it would be squeezed."""


@dataclass(frozen=True, slots=True)
class FrontSetting(Setting):
    """One way to convert, and how it is drawn.

    Attributes:
        kind: what has one colour.
        point: what tells it apart from others of its kind.
    """

    kind: str
    point: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A point of the front.

    Attributes:
        kind: what has one colour.
        point: what tells it apart from others of its kind.
        row: the measurement.
        macs: multiply-accumulates of the source.
    """

    kind: str
    point: str
    row: Row
    macs: int

    @property
    def operations(self) -> float:
        """By weights that are not zero, relative to the source's multiply-accumulates."""
        return float(self.row["effective_synops"] / self.macs)

    @property
    def kilobytes(self) -> float | None:
        """Of the weights; ``None`` where that was not measured."""
        size = self.row.get("weight_bytes")
        return None if size is None else size / 1000

    @property
    def line(self) -> tuple[str, ...]:
        """Return its line of the table."""
        size = self.kilobytes
        return (
            f"{self.kind}, {self.point}",
            percent(self.row),
            f"{self.operations:.3f}",
            f"{self.row['weight_sparsity']:.2f}",
            str(self.row["latency_steps"]),
            f"{nanojoules(self.row):.0f}",
            "-" if size is None else f"{size:.1f}",
            self.row["sources"],
        )


HEAD = (
    *("no.", "conversion", "top-1 in % [95 %]", "operations / MACs", "zero weights", "latency in steps"),
    *("nJ an image (45 nm)", "kB of weights", "sources"),
)

RULES = (
    "An operation is an event at a synapse whose weight is not zero. Energy is that of the cost model "
    "`45nm` of `snnc report`; weights of B bits are fetched and multiplied for B / 8 of what int8 takes, and "
    "so are, for simplicity, those of the classifier and of identity branches, less than a hundredth of all. "
    "Size is that of each layer's weights at their bits, or, where that is less, of those that are not "
    "zero and a bit a weight that says which these are. Rivals have weights of as many bits as their "
    "activations, but int8 in the first layer and the classifier, and the fine skips of the others with "
    "as many levels. "
)


def nanojoules(row: Row) -> float:
    """Return the energy of an image in the cost model ``45nm``, zero weights neither fetched nor added."""
    model = MODELS["45nm"]
    first = row["first_layer_macs"]
    unary = row["acs"] > row["macs"] - first
    share = (row.get("weight_bits") or 8) / 8
    product = share * (model.mac - model.int_add) + model.int_add
    price = (model.ac if unary else product) + share * model.weight_fetch
    spikes = row["effective_synops"] * price
    potentials = 2 * row["neurons"] * row["timesteps"] * model.membrane_access
    return float(spikes + first * (model.mac + model.weight_fetch) + potentials) / 1000


def points(rows: Mapping[str, Row], settings: Sequence[FrontSetting], tuned: Sequence[Row]) -> list[Measured]:
    """Return what was measured, from few operations to many.

    Args:
        rows: of the front, by their settings.
        settings: those that are converted.
        tuned: measurements of tuned networks, all of them.
    """
    macs = next(iter(rows.values()))["ann_macs"]
    found = [Measured(each.kind, each.point, rows[each.name], macs) for each in settings if each.name in rows]
    for name, row in rows.items():
        if name.startswith(TUNED):
            found.append(Measured(LEARNED, f"{name.removeprefix(TUNED)}, {_effort(row)}", row, macs))
    for (network, options, timesteps), row in latest(tuned).items():
        if network == NETWORKS[0]:
            said = f"T={timesteps}" + ("" if options == "-" else f", {options}")
            found.append(Measured(LEARNED, f"{said}, {_effort(row)}", row, macs))
    return sorted(found, key=lambda each: each.operations)


def _effort(row: Row) -> str:
    """Return how long a network learned, as its recipe says."""
    recipe = row["recipe"]
    return f"{recipe['epochs']:g} passes" if recipe["minutes"] is None else f"{recipe['minutes']:g} min"


def write(rows: Mapping[str, Row], settings: Sequence[FrontSetting], measured: Path, page: Path) -> None:
    """Replace what stands between the two marks of the page, and draw its picture.

    Args:
        rows: of the front, by their settings.
        settings: those that are converted.
        measured: folder of the measurements of tuned networks and of other converters.
        page: to write.
    """
    found = points(rows, settings, read(measured / "tuned.jsonl"))
    peers = [row for row in read(measured / "peers_accuracy.jsonl") if row["network"] == NETWORKS[0]]
    n = sorted({each.row["n"] for each in found})
    lines = [(str(number), *each.line) for number, each in enumerate(found, 1)]
    made = (
        f"`{COMMAND}`, ResNet-20 on CIFAR-10, n = {', '.join(map(str, n))} test images:\n\n"
        f"{table(HEAD, lines)}\n{RULES}{_told_of_peers(peers)}\n\n"
        f"![Accuracy against operations, energy and size; numbers as in the table]({PICTURE})\n"
    )
    write_between(page, "measured", made)
    _draw(found, peers, page.parent / PICTURE)


def _told_of_peers(peers: Sequence[Row]) -> str:
    """Say which other converters are drawn, and on which rows."""
    if not peers:
        return "No operations of other converters were measured."
    names = " and ".join(sorted({row["tool"] for row in peers}))
    n = ", ".join(f"{n:,}" for n in sorted({row["n"] for row in peers}))
    best = max(peers, key=lambda row: row["top1"])
    return (
        f"{names} are drawn where they reach {100 * LEAST_PEER:.0f} %, on the first {n} of these images "
        f"([Accuracy](accuracy.md)); their best is {100 * best['top1']:.1f} % at {best['synops_ratio']:.2f}, "
        "zero weights counted. Their energy and size were not measured."
    )


def _draw(found: Sequence[Measured], peers: Sequence[Row], path: Path) -> None:
    """Draw top-1 against operations, numbered, and smaller against energy and, where known, size."""
    figure = Figure(figsize=(7.5, 8.4), layout="constrained")
    whole = figure.add_gridspec(2, 2, height_ratios=(1.7, 1))
    wide = figure.add_subplot(whole[0, :])
    sized = any(each.kilobytes is not None for each in found)
    energy = figure.add_subplot(whole[1, 0] if sized else whole[1, :])
    size = figure.add_subplot(whole[1, 1]) if sized else None
    for number, kind in enumerate(sorted({each.kind for each in found})):
        members = [each for each in found if each.kind == kind]
        marker, colour = MARKERS[number], COLOURS[number]
        for each in members:
            y = 100 * each.row["top1"]
            label = kind if each is members[0] else None
            wide.plot(each.operations, y, marker, color=colour, label=label)
            energy.plot(nanojoules(each.row) / 1000, y, marker, color=colour)
            if size is not None and each.kilobytes is not None:
                size.plot(each.kilobytes, y, marker, color=colour)
            _name(wide, str(found.index(each) + 1), (each.operations, y))
    good = [row for row in peers if row["top1"] >= LEAST_PEER]
    for tool, marker in zip(sorted({row["tool"] for row in good}), "xX+", strict=False):
        some = [row for row in good if row["tool"] == tool]
        x, y = [row["synops_ratio"] for row in some], [100 * row["top1"] for row in some]
        wide.plot(x, y, marker, color="#777777", label=f"{tool}, n = {some[0]['n']:,}")
        for row, at in zip(some, zip(x, y, strict=True), strict=True):
            _name(wide, f"T={row['timesteps']}", at)
    _axis(wide, "operations by weights other than zero / MACs of the source")
    _axis(energy, "µJ an image (45 nm)")
    if size is not None:
        _axis(size, "kB of weights")
    figure.legend(loc="outside upper center", frameon=False, ncols=3)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _axis(axes: Axes, label: str) -> None:
    """Name the axes; the logarithmic one has plain numbers."""
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel("top-1 in %")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.08)


def _name(axes: Axes, name: str, at: tuple[float, float]) -> None:
    axes.annotate(name, at, (5, -9), textcoords="offset points", fontsize=7)
