"""Write the table of docs/sparsity.md and its picture from the measurements of sparse conversions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.accuracy.choices import Setting
from benchmarks.accuracy.pictures import COLOURS, MARKERS
from benchmarks.common.tables import percent, table, write_between
from snnc.report.energy import MODELS

Row = dict[str, Any]

PICTURE = "pictures/sparsity-front.svg"
COMMAND = "python -m benchmarks.accuracy.front"


def relative(row: Row) -> float:
    """Return the operations by weights that are not zero, relative to the source's multiply-accumulates."""
    return float(row["effective_synops"] / row["ann_macs"])


def nanojoules(row: Row) -> float:
    """Return the energy of an image in the cost model ``45nm``, zero weights neither fetched nor added."""
    model = MODELS["45nm"]
    first = row["first_layer_macs"]
    unary = row["acs"] > row["macs"] - first
    price = (model.ac if unary else model.mac) + model.weight_fetch
    spikes = row["effective_synops"] * price
    potentials = 2 * row["neurons"] * row["timesteps"] * model.membrane_access
    return float(spikes + first * (model.mac + model.weight_fetch) + potentials) / 1000


def write(rows: Mapping[str, Row], settings: Sequence[Setting], page: Path) -> None:
    """Replace what stands between the two marks of the page, and draw its picture."""
    found = [(setting, rows[setting.name]) for setting in settings if setting.name in rows]
    found.sort(key=lambda item: relative(item[1]))
    lines = [
        (
            setting.label,
            percent(row),
            f"{relative(row):.3f}",
            f"{row['weight_sparsity']:.2f}",
            str(row["latency_steps"]),
            f"{nanojoules(row):.0f}",
            row["sources"],
        )
        for setting, row in found
    ]
    head = (
        *("conversion", "top-1 in % [95 %]", "operations / MACs", "zero weights", "latency in steps"),
        *("nJ an image (45 nm)", "sources"),
    )
    n = sorted({row["n"] for _, row in found})
    made = (
        f"`{COMMAND}`, ResNet-20 on CIFAR-10, n = {', '.join(map(str, n))} test images:\n\n"
        f"{table(head, lines)}\n![Accuracy against operations]({PICTURE})\n"
    )
    write_between(page, "measured", made)
    _draw(found, page.parent / PICTURE)


def _kind(setting: Setting) -> str:
    """Return what a conversion is drawn with: its steps and levels."""
    return setting.label.partition(",")[0] + (
        setting.label.partition(",")[2].partition(",")[0] if "levels" in setting.label else ""
    )


def _draw(found: Sequence[tuple[Setting, Row]], path: Path) -> None:
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    kinds = list(dict.fromkeys(_kind(setting) for setting, _ in found))
    for number, kind in enumerate(kinds):
        members = [(s, row) for s, row in found if _kind(s) == kind]
        x = [relative(row) for _, row in members]
        y = [100 * row["top1"] for _, row in members]
        axes.plot(x, y, MARKERS[number], color=COLOURS[number], label=kind)
        for (setting, _), at in zip(members, zip(x, y, strict=True), strict=True):
            name = setting.label.rpartition(", ")[2]
            axes.annotate(name, at, (5, -9), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    axes.set_xlabel("operations by weights other than zero / MACs of the source")
    axes.set_ylabel("top-1 in %")
    axes.legend(loc="lower right", frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
