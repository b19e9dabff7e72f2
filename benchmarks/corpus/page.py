"""The page that shows what benchmarks/corpus/measure.py measured."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from snnc import __version__

Row = dict[str, Any]
Column = tuple[str, int]
"""A preset and T; T = 0 is the source network alone."""

ALONE: Column = ("", 0)
Found = dict[str, dict[Column, Row]]
"""Measurements by network and column."""


def report(rows: list[Row], order: list[str], columns: Sequence[Column], command: str) -> str:
    """Return the page: every network, whatever became of it.

    Args:
        rows: measurements.
        order: names of the networks.
        columns: of the tables.
        command: that made the page.
    """
    by: Found = {name: {} for name in order}
    for row in rows:
        by.setdefault(row["network"], {})[row["preset"], row["timesteps"]] = row
    heads = [f"`{preset}`, T = {T}" for preset, T in columns]
    lines = [
        "# The corpus",
        "",
        "Trained networks by others, from many exporters, converted and judged beside their sources on the",
        "same rows. Printed by",
        "",
        f"    {command}",
        "",
        *_conditions(rows),
        "",
        "## Accuracy",
        "",
        "Top-1 in % with its 95 % interval, of the ANN in onnxruntime and of the SNN of a preset at T steps.",
        "",
        *_table(["network", "data", "n", "ANN", *heads], _accuracy(by, columns)),
        "",
        "## What the conversion costs",
        "",
        "Points of top-1 below the ANN, paired on the same rows, with the 95 % interval.",
        "",
        *_table(["network", *heads], _drops(by, columns)),
        "",
        "## Spikes and time",
        "",
        "Payload, spikes per neuron per step, and in brackets the seconds to convert and to evaluate.",
        "",
        *_table(["network", *heads], _spikes(by, columns)),
        "",
        "## Without labelled rows",
        "",
        "Converted and compared on smooth random inputs, other ones for each; the relative error is that",
        "of all outputs before a final softmax, in the 2-norm. It says that the conversion is numerically",
        "sound, not how well the network would do on its task.",
        "",
        *_table(["network", "setting", "relative error", "same answer", "compared with"], _errors(by)),
        "",
        "## Out of scope",
        "",
        *_table(["network", "ANN top-1", "diagnostic"], _refused(by)),
        "",
    ]
    return "\n".join(lines)


def _conditions(rows: list[Row]) -> list[str]:
    codes = sorted({row["code"] for row in rows})
    pipelines = dict(sorted((row["preset"], row["pipeline"]) for row in rows if row.get("pipeline")))
    notes = sorted({f"`{row['network']}`: {row['note']}" for row in rows if row.get("note")})
    most = max((row.get("calibration_rows", 0) for row in rows), default=0)
    limits = sorted({row["limit"] for row in rows})
    shown = ", ".join(str(limit) if limit else "all" for limit in limits)
    found = [
        f"snnc {__version__} (sources {', '.join(codes)}), Python {platform.python_version()}, NumPy",
        f"{np.__version__}, {platform.machine()}; int8; rows evaluated: {shown} of `*_test_dev`.",
        f"Calibration: at most {most:,} training rows, the first, without labels.",
        "",
        *(f"- `{preset}`: `{pipeline}`" for preset, pipeline in pipelines.items()),
    ]
    return [*found, *(f"- {note}." for note in notes)]


def _table(columns: list[str], rows: Iterator[list[str]]) -> list[str]:
    body = ["| " + " | ".join(row) + " |" for row in rows]
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return head + body if body else ["None."]


def _percent(scores: Row) -> str:
    low, high = scores["top1_ci95"]
    return f"{100 * scores['top1']:.2f} [{100 * low:.1f}, {100 * high:.1f}]"


def _measured(by: Found) -> Iterator[tuple[str, dict[Column, Row]]]:
    for name, found in by.items():
        if any(column != ALONE and ("top1" in row or row.get("failed")) for column, row in found.items()):
            yield name, found


def _cell(row: Row, text: str) -> str:
    return f"failed: {row['failed']}" if row.get("failed") else text


def _accuracy(by: Found, columns: Sequence[Column]) -> Iterator[list[str]]:
    for name, found in _measured(by):
        done = [row for column, row in found.items() if column != ALONE and "top1" in row]
        rows = [found.get(column, {}) for column in columns]
        cells = [_cell(row, _percent(row) if "top1" in row else "") for row in rows]
        ann = _percent(done[0]["ann"]) if done else ""
        yield [name, done[0]["data"] if done else "", str(done[0]["n"]) if done else "", ann, *cells]


def _drops(by: Found, columns: Sequence[Column]) -> Iterator[list[str]]:
    for name, found in _measured(by):
        cells = []
        for column in columns:
            row = found.get(column, {})
            if "drop" in row:
                low, high = row["drop_ci95"]
                cells.append(f"{100 * row['drop']:.2f} [{100 * low:.2f}, {100 * high:.2f}]")
            else:
                cells.append("")
        yield [name, *cells]


def _spikes(by: Found, columns: Sequence[Column]) -> Iterator[list[str]]:
    text = "{payload}, {spikes_per_neuron_per_step:.3f} ({convert_seconds:.0f}, {evaluate_seconds:.0f})"
    for name, found in _measured(by):
        rows = [found.get(column, {}) for column in columns]
        yield [name, *(_cell(row, text.format(**row) if "payload" in row else "") for row in rows)]


def _errors(by: Found) -> Iterator[list[str]]:
    for name, found in by.items():
        for (preset, T), row in found.items():
            if "relative_error" in row:
                alike = f"{row['alike']} of {row['n']}" if row["outputs"] <= 100 else "no classes"
                yield [name, f"`{preset}`, T = {T}", f"{row['relative_error']:.3f}", alike, row["judge"]]


def _refused(by: Found) -> Iterator[list[str]]:
    for name, found in by.items():
        row = found.get(ALONE, {})
        if row.get("unsupported"):
            ann = _percent(row["ann"]) if row.get("ann") else "-"
            yield [name, ann, row["unsupported"].replace("|", "\\|")]
