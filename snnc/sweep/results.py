"""What a sweep found, as people look at it: lines of JSON, rows of a table, pictures of the front, a page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnc.analysis.front import Point, pareto
from snnc.errors import UsageError
from snnc.report.energy import microjoules
from snnc.sweep.record import Record
from snnc.sweep.running import Outcome
from snnc.writing import replacing

if TYPE_CHECKING:
    from snnc.report.drawing import Chart

COLUMNS = (
    *("cell", "T", "latency", "payload", "accuracy", "points lost", "operations / MACs"),
    *("µJ an image (45nm)", "footprint, kB"),
)

Draw = Callable[[Sequence[Point], Sequence[Point], None], "Chart"]


def lines(records: Sequence[Record]) -> str:
    """Return a line of JSON for each record, in the order of the plan."""
    return "".join(json.dumps(record, sort_keys=True, allow_nan=False) + "\n" for record in records)


def subjects(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the records by what is compared: a network and its rows, in words that tell them apart.

    The calibration rows and the preprocessing are told where one network on the same rows has several.
    """
    kinds: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for record in records:
        kinds.setdefault((record["model"], record["data"]), set()).add(_prepared(record))
    found: dict[str, list[Record]] = {}
    for record in records:
        title = f"{record['model']} on {record['data']}"
        calibration, preprocessing = _prepared(record)
        others = kinds[record["model"], record["data"]]
        if len({each[0] for each in others}) > 1:
            title += f", calibrated with {calibration}"
        if len({each[1] for each in others}) > 1:
            title += f", preprocessed by {preprocessing}"
        found.setdefault(title, []).append(record)
    return found


def _prepared(record: Record) -> tuple[str, str]:
    return record["calibration"], json.dumps(record["preprocessing"], sort_keys=True)


def rows_of(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Return the rows of the table of one network and one set of rows; those of its front are marked."""
    front = {point.label for point in front_of(records)[1]}
    return [_row(record, on_front=record["cell"] in front) for record in records]


def _row(record: Record, *, on_front: bool) -> tuple[str, ...]:
    label = ("→ " if on_front else "") + record["cell"]
    if record["error"] is not None:
        return (label, str(record["timesteps"] or ""), "", "", "failed", "", "", "", "")
    measured, relative, lost = record["measured"], record["relative_synops"], record["points_lost"]
    return (
        label,
        str(record["timesteps"]),
        str(measured["latency_steps"]),
        measured["payload"],
        _accuracy(measured),
        "" if lost is None else f"{lost:.2f}",
        "" if relative is None else f"{relative:.3f}",
        "" if record["picojoules"] is None else microjoules(record["picojoules"]),
        "" if record["footprint"] is None else f"{record['footprint'] / 1000:.1f}",
    )


def _accuracy(measured: dict[str, Any]) -> str:
    """Return the accuracy with its interval, or the first metric where there is none."""
    if "outputs" in measured:
        return "several outputs"
    if measured["top1"] is not None:
        low, high = measured["top1_ci95"]
        return f"{measured['top1']:.2%} [{low:.2%}, {high:.2%}]"
    for name, found in measured["metrics"].items():
        if found["value"] is not None:
            return f"{name} {found['value']:.4g}"
    return ""


def front_of(records: Sequence[Record]) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """Return cost and loss of all cells of one network and one set of rows, and those on the front."""
    points = tuple(
        Point(
            label=record["cell"],
            timesteps=record["timesteps"],
            latency=record["measured"]["latency_steps"],
            payload=record["measured"]["payload"],
            synops=record["relative_synops"],
            drop=record["points_lost"],
            rows=record["rows"],
            picojoules=record["picojoules"],
            footprint=record["footprint"],
        )
        for record in records
        if record["error"] is None
        and record["points_lost"] is not None
        and record["relative_synops"]  # a logarithmic axis has no zero
    )
    return points, pareto(points)


def drawing() -> Draw:
    """Return what draws a front.

    Raises:
        UsageError: its library is missing.
    """
    try:
        from snnc.report.front import front_chart
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise UsageError(
            "the pictures of a sweep are drawn with matplotlib: pip install matplotlib, or leave them out by "
            "--no-pictures"
        ) from error
    return front_chart


def write(folder: Path, outcome: Outcome, draw: Draw | None) -> tuple[Path, ...]:
    """Write what was found; returns the files.

    Args:
        folder: where to.
        outcome: of the sweep.
        draw: draws the fronts; ``None`` for no pictures.

    Raises:
        InputError: a file cannot be written; the older one is left as it was.
    """
    files = [folder / "results.jsonl"]
    _put(files[0], lines(outcome.records))
    pictures: list[str] = []
    by_subject = subjects(outcome.records)
    for number, (subject, records) in enumerate(by_subject.items(), 1):
        points, front = front_of(records)
        if draw is None or not points:
            continue
        chart = draw(points, front, None)
        name = "front.svg" if len(by_subject) == 1 else f"front-{number}.svg"
        files.append(folder / name)
        _put(files[-1], chart.file())
        pictures.append(
            f"<figure><figcaption>{escape(subject)}</figcaption>{chart.svg}"
            f"<p>{escape(chart.description)}</p></figure>"
        )
    files.append(folder / "index.html")
    _put(files[-1], page(outcome, pictures))
    for old in folder.glob("front*.svg"):  # of what was swept before
        if old not in files and re.fullmatch(r"front(-\d+)?\.svg", old.name):
            old.unlink(missing_ok=True)
    return tuple(files)


def _put(path: Path, text: str) -> None:
    with replacing(path) as stream:
        stream.write(text.encode())


STYLE = (
    ":root{color-scheme:light dark;color:#1a1a1a;background:#fff}"
    "@media(prefers-color-scheme:dark){:root{color:#e8e8e8;background:#15181c}}"
    "body{margin:1rem auto;max-width:72rem;padding:0 1rem;font:1rem/1.5 system-ui,sans-serif}"
    "figure{margin:1rem 0}figcaption,caption{font-weight:600;text-align:left}svg{max-width:100%;height:auto}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem}"
    "th,td{border-bottom:1px solid #8888;padding:.25rem .6rem;text-align:right}"
    "th:first-child,td:first-child{text-align:left}"
)


def page(outcome: Outcome, pictures: Sequence[str]) -> str:
    """Return the page of a sweep: static, without scripts and without anything from elsewhere."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Sweep of snnc</title><style>{STYLE}</style></head><body><h1>Sweep</h1>",
        f"<p>{escape(summary(outcome))}</p>",
    ]
    for subject, records in subjects(outcome.records).items():
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows_of(records)
        )
        parts.append(
            f'<div class="scroll"><table><caption>{escape(subject)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )
    parts += pictures
    failed = [record for record in outcome.records if record["error"] is not None]
    if failed:
        items = "".join(f"<li>{escape(failure_line(record))}</li>" for record in failed)
        parts.append(f"<h2>Failed</h2><ul>{items}</ul>")
    parts.append("</body></html>\n")
    return "\n".join(parts)


def failure_line(record: Record) -> str:
    """Return one line on a cell that failed."""
    return f"{record['model']}, {record['cell']}: {record['error']['message']}"


def summary(outcome: Outcome) -> str:
    """Return how far a sweep is, in a sentence; the same whether it was interrupted or not."""
    failed = sum(record["error"] is not None for record in outcome.records)
    told = f"{len(outcome.cells)} cells: {len(outcome.records) - failed} measured, {failed} failed"
    return f"{told}, {outcome.left} left." if outcome.left else f"{told}."
