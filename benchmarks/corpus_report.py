"""The page that shows what benchmarks/corpus.py measured."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import numpy as np

from snnc import __version__

Found = dict[str, dict[int, dict[str, Any]]]
"""Measurements by network and T; T = 0 is the source network alone."""


def report(rows: list[dict[str, Any]], order: list[str], command: str) -> str:
    """Return the page: every network, whatever became of it.

    Args:
        rows: measurements.
        order: names of the networks.
        command: that made the page.
    """
    by: Found = {name: {} for name in order}
    for row in rows:
        by.setdefault(row["network"], {})[row["timesteps"]] = row
    steps = sorted({T for found in by.values() for T in found if T})
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
        "Top-1 in % with its 95 % interval, of the ANN in onnxruntime and of the SNN at T steps.",
        "",
        *_table(["network", "data", "n", "ANN", *(f"T = {T}" for T in steps)], _accuracy(by, steps)),
        "",
        "## What the conversion costs",
        "",
        "Points of top-1 below the ANN, paired on the same rows, with the 95 % interval.",
        "",
        *_table(["network", *(f"T = {T}" for T in steps)], _drops(by, steps)),
        "",
        "## Spikes and time",
        "",
        "Spikes per neuron per step, and in brackets the seconds to convert and to evaluate.",
        "",
        *_table(["network", "payload", *(f"T = {T}" for T in steps)], _spikes(by, steps)),
        "",
        "## Without labelled rows",
        "",
        "Converted and compared on smooth random inputs, other ones for each; the relative error is that",
        "of all outputs before a final softmax, in the 2-norm. It says that the conversion is numerically",
        "sound, not how well the network would do on its task.",
        "",
        *_table(["network", "T", "relative error", "same answer", "compared with"], _errors(by)),
        "",
        "## Out of scope",
        "",
        *_table(["network", "ANN top-1", "diagnostic"], _refused(by)),
        "",
    ]
    return "\n".join(lines)


def _conditions(rows: list[dict[str, Any]]) -> list[str]:
    codes = sorted({row["code"] for row in rows})
    pipelines = sorted({row["pipeline"] for row in rows if row.get("pipeline")})
    notes = sorted({f"`{row['network']}`: {row['note']}" for row in rows if row.get("note")})
    most = max((row.get("calibration_rows", 0) for row in rows), default=0)
    presets = ", ".join(sorted({f"`{row['preset']}`" for row in rows}))
    limits = sorted({row["limit"] for row in rows})
    shown = ", ".join(str(limit) if limit else "all" for limit in limits)
    found = [
        f"snnc {__version__} (sources {', '.join(codes)}), Python {platform.python_version()}, NumPy",
        f"{np.__version__}, {platform.machine()}; int8; rows evaluated: {shown} of `*_test_dev`.",
        f"Calibration: at most {most:,} training rows, the first, without labels. Preset {presets}:",
        "",
        *(f"    {pipeline}" for pipeline in pipelines),
    ]
    return [*found, "", *(f"- {note}." for note in notes)] if notes else found


def _table(columns: list[str], rows: Iterator[list[str]]) -> list[str]:
    body = ["| " + " | ".join(row) + " |" for row in rows]
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return head + body if body else ["None."]


def _percent(scores: dict[str, Any]) -> str:
    low, high = scores["top1_ci95"]
    return f"{100 * scores['top1']:.2f} [{100 * low:.1f}, {100 * high:.1f}]"


def _measured(by: Found) -> Iterator[tuple[str, dict[int, dict[str, Any]]]]:
    for name, found in by.items():
        if any(T and ("top1" in row or row.get("failed")) for T, row in found.items()):
            yield name, found


def _cell(row: dict[str, Any] | None, text: str) -> str:
    if row is None:
        return ""
    return f"failed: {row['failed']}" if row.get("failed") else text.format(**row)


def _accuracy(by: Found, steps: list[int]) -> Iterator[list[str]]:
    for name, found in _measured(by):
        done = [row for T, row in found.items() if T and "top1" in row]
        cells = [_cell(found.get(T), _percent(found[T]) if "top1" in found.get(T, {}) else "") for T in steps]
        ann = _percent(done[0]["ann"]) if done else ""
        yield [name, done[0]["data"] if done else "", str(done[0]["n"]) if done else "", ann, *cells]


def _drops(by: Found, steps: list[int]) -> Iterator[list[str]]:
    for name, found in _measured(by):
        cells = []
        for T in steps:
            row = found.get(T, {})
            if "drop" in row:
                low, high = row["drop_ci95"]
                cells.append(f"{100 * row['drop']:.2f} [{100 * low:.2f}, {100 * high:.2f}]")
            else:
                cells.append("")
        yield [name, *cells]


def _spikes(by: Found, steps: list[int]) -> Iterator[list[str]]:
    text = "{spikes_per_neuron_per_step:.3f} ({convert_seconds:.0f}, {evaluate_seconds:.0f})"
    for name, found in _measured(by):
        payloads = dict.fromkeys(row["payload"] for row in found.values() if "payload" in row)
        cells = [_cell(found.get(T), text if "payload" in found.get(T, {}) else "") for T in steps]
        yield [name, ", ".join(payloads), *cells]


def _errors(by: Found) -> Iterator[list[str]]:
    for name, found in by.items():
        for T, row in sorted(found.items()):
            if "relative_error" in row:
                alike = f"{row['alike']} of {row['n']}" if row["outputs"] <= 100 else "no classes"
                yield [name, str(T), f"{row['relative_error']:.3f}", alike, row["judge"]]


def _refused(by: Found) -> Iterator[list[str]]:
    for name, found in by.items():
        row = found.get(0, {})
        if row.get("unsupported"):
            ann = _percent(row["ann"]) if row.get("ann") else "-"
            yield [name, ann, row["unsupported"].replace("|", "\\|")]
