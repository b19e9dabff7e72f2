"""The two pictures of docs/accuracy.md: accuracy against steps, and against operations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.accuracy import choices
from benchmarks.accuracy.choices import ABLATION_STEPS, LOW_LATENCY, MAIN

if TYPE_CHECKING:
    from benchmarks.accuracy.page import Found

FIRST = "chenyaofo_cifar10_resnet20"
# Okabe and Ito's palette, told apart by colour-blind readers; markers tell the lines apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^Dv<>P"
FAMILIES = (
    ("a{T}-ramp", "balanced: two signed spikes a step"),
    ("t{T}-two", "low-latency: two levels a step"),
    ("a{T}-fine", "balanced + fine skip"),
    ("a{T}-graded", "graded"),
    ("a{T}-if", "plain IF, compensated"),
    ("a{T}-p999", "99.9th percentile, nothing compensated"),
)
"""Names of settings by T, and what a line of them is called."""

PLACES = {
    "fine": ((-4, 4), "right"),
    "n4-fine": ((-5, -2), "right"),
    "two": ((-5, -3), "right"),
    "two-fine": ((-5, 0), "right"),
}
"""Where a name stands beside its point, by the last part of the setting's name; below right by default."""

LABELLED = (*MAIN, *LOW_LATENCY)
"""Settings with large points in the picture of operations."""

OPERATIONS = (0.08, 6.0)
"""Range of the picture: with fewer operations nothing is above chance."""

mpl.rcParams.update(
    {"svg.hashsalt": "snnc", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
)


def against_steps(found: Found, peers: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw top-1 against T for the families of the ablation and the peers, with the source network's line."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    known = choices.known()
    lines = []
    for name, label in FAMILIES:
        settings = [(T, known.get(name.format(T=T))) for T in ABLATION_STEPS]
        rows = [(T, found.get(FIRST, setting)) for T, setting in settings if setting is not None]
        lines.append((label, "-", [(T, row["top1"]) for T, row in rows if row is not None]))
    for tool, mode in dict.fromkeys((r["tool"], r["mode"]) for r in peers if r["network"] == FIRST):
        points = [
            (r["timesteps"], r["top1"])
            for r in peers
            if (r["network"], r["tool"], r["mode"]) == (FIRST, tool, mode)
        ]
        lines.append((f"{tool}, {mode}", "--", points))
    for index, (label, style, points) in enumerate(lines):
        if points:
            xs, ys = zip(*sorted(points), strict=True)
            axes.plot(
                xs,
                [100 * y for y in ys],
                style,
                marker=MARKERS[index % len(MARKERS)],
                color=COLOURS[index % len(COLOURS)],
                label=label,
            )
    _source_line(axes, found)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ABLATION_STEPS, [str(T) for T in ABLATION_STEPS])
    axes.set(xlabel="time steps T", ylabel="top-1 accuracy, %", title="CIFAR-10 ResNet-20")
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    _save(figure, path)


def against_operations(
    found: Found, peers: Sequence[dict[str, Any]], path: Path, searched: Sequence[dict[str, Any]] = ()
) -> None:
    """Draw top-1 against synaptic operations relative to the source network's, with the Pareto front.

    Args:
        found: the settings of the main table and of the ablation.
        peers: measurements of other tools.
        path: of the picture.
        searched: measurements with thresholds that a search has found.
    """
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    points = []
    for setting in (*LABELLED, *(s for T in ABLATION_STEPS for s in choices.ablation(T))):
        row = found.get(FIRST, setting)
        if row is not None:
            points.append(
                (row["synops"] / row["ann_macs"], 100 * row["top1"], setting.name, setting in LABELLED)
            )
    learned = [(row["synops"] / row["ann_macs"], 100 * row["top1"]) for row in searched]
    for main, marker, label in ((False, ".", "ablation"), (True, "o", "main settings")):
        chosen = [p for p in points if p[3] is main]
        if chosen:
            axes.plot(
                [p[0] for p in chosen],
                [p[1] for p in chosen],
                marker,
                color=COLOURS[0 if main else 5],
                label=label,
            )
    if learned:
        axes.plot(
            [x for x, _ in learned],
            [y for _, y in learned],
            linestyle="none",
            marker="*",
            markersize=8,
            color=COLOURS[2],
            label="thresholds learned",
        )
    front: list[tuple[float, float]] = []
    for x, y in sorted([*((x, y) for x, y, *_ in points), *learned]):
        if not front or y > front[-1][1]:
            front.append((x, y))
    for x, y, name, main in points:
        # All names would cover each other: those of the front, and the default preset's.
        if main and ((x, y) in front or "-" not in name):
            # "t4-fine" is short enough to stand beside its point.
            short = "T=" + name.removeprefix("t").replace("-", " ")
            place, side = PLACES.get(name.partition("-")[2], ((4, -9), "left"))
            axes.annotate(short, (x, y), textcoords="offset points", xytext=place, ha=side, fontsize=7)
    if front:
        axes.step(
            [x for x, _ in front], [y for _, y in front], where="post", color=COLOURS[0], lw=1, label="front"
        )
    for index, (tool, mode) in enumerate(
        dict.fromkeys((r["tool"], r["mode"]) for r in peers if r["network"] == FIRST)
    ):
        rows = [
            r
            for r in peers
            if (r["network"], r["tool"], r["mode"]) == (FIRST, tool, mode)
            and r.get("synops_ratio") is not None
        ]
        if rows:
            axes.plot(
                [r["synops_ratio"] for r in rows],
                [100 * r["top1"] for r in rows],
                linestyle="none",
                marker=MARKERS[1 + index],
                color=COLOURS[1 + index],
                label=f"{tool}, {mode}",
            )
    _source_line(axes, found)
    axes.set_xscale("log")
    axes.set_xlim(*OPERATIONS)
    axes.set(
        xlabel="synaptic operations / MACs of the source network",
        ylabel="top-1 accuracy, %",
        title="CIFAR-10 ResNet-20",
    )
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    _save(figure, path)


def _source_line(axes: Any, found: Found) -> None:
    row = next((found.get(FIRST, s) for s in MAIN if found.get(FIRST, s) is not None), None)
    if row is not None:
        top1 = 100 * row["ann"]["top1"]
        axes.axhline(top1, color="0.4", lw=1, ls=":")
        axes.annotate(
            f"source network {top1:.2f} %",
            (1, top1),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
        )


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
