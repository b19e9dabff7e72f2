"""Networks that are no plain ReLU classifiers: what spikes do of them, and how near the outputs come.

    python -m benchmarks.corpus.wild --report docs/wild.md           # hours of one core
    python -m benchmarks.corpus.wild --networks yolox_nano --presets precise --rows 8
    python -m benchmarks.corpus.wild --presets onnxruntime # its own 8 bits, beside precise

Each network of ../shared/wild is checked; those that can be converted are, at each preset, and their outputs
are held to the source's in onnxruntime on other images, sounds or states than those that were calibrated on.
A network at a preset is one file of benchmarks/measured/wild: what is there for the same network and the
same sources of the compiler is not measured again, so that the work can be stopped and taken up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from benchmarks.common import digests
from benchmarks.corpus.wild import rival
from benchmarks.corpus.wild.measuring import STEPS, Subject, measure
from benchmarks.corpus.wild.page import report
from benchmarks.corpus.wild.rows import MOST_JUDGED, MOST_ROWS

ROOT = Path(__file__).resolve().parents[3]
RECORDS = ROOT / "benchmarks/measured/wild"


def subjects(folder: Path) -> list[Subject]:
    """Return the networks of a folder, in the order of its index."""
    entries = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return [
        Subject(entry["file"].removesuffix(".onnx"), entry["task"], folder / "models" / entry["file"], folder)
        for entry in entries
    ]


def record_of(subject: Subject, preset: str) -> dict[str, Any] | None:
    """Return what was measured of a network at a preset; ``None`` for nothing, or of another file."""
    path = RECORDS / f"{subject.name}.{preset}.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found if found["sha256"] == subject.sha256 else None


def _measured(subject: Subject, preset: str, rows: int, judged: int, *, keep: bool) -> dict[str, Any] | None:
    """Return a new record; ``None`` where there is one already, or nothing to measure."""
    found = record_of(subject, preset)
    if preset != rival.NAME:
        current = found is not None and (keep or found["code"] == digests.compiler())
        return None if current else measure(subject, preset, rows, judged)
    precise = record_of(subject, "precise")
    if precise is None or "near" not in precise:
        return None
    rows, judged = precise["rows"], precise["judged"]
    current = found is not None and rival.is_current(found, rows, judged)
    return None if current else rival.measure(subject, rows, judged)


@click.command(help=__doc__)
@click.option("--shared", type=click.Path(path_type=Path), default=ROOT.parent / "shared")
@click.option("--networks", default="", help="Only these, separated by commas.")
@click.option("--presets", default=",".join(STEPS), help="Only these, separated by commas.")
@click.option("--rows", type=click.IntRange(2), default=MOST_ROWS, help="Calibration rows at most.")
@click.option("--judged", type=click.IntRange(1), default=MOST_JUDGED, help="Rows to judge by at most.")
@click.option("--keep", is_flag=True, help="Keep what other sources of the compiler measured.")
@click.option("--report", "page", type=click.Path(path_type=Path), help="Write the page there.")
@click.option("--only-report", is_flag=True, help="Measure nothing.")
def main(
    shared: Path,
    networks: str,
    presets: str,
    rows: int,
    judged: int,
    keep: bool,
    page: Path | None,
    only_report: bool,
) -> None:
    """Measure and report."""
    folder = shared / "wild"
    if not (folder / "index.json").exists():
        click.echo(f"{folder} is not there: nothing to measure")
        return
    known = subjects(folder)
    wanted = set(filter(None, networks.split(",")))
    if unknown := wanted - {subject.name for subject in known}:
        raise click.UsageError(f"{folder} has no {min(unknown)!r}")
    asked = list(filter(None, presets.split(",")))
    if strange := set(asked) - {*STEPS, rival.NAME}:
        raise click.UsageError(f"{min(strange)!r} is not measured; known: {', '.join((*STEPS, rival.NAME))}")
    RECORDS.mkdir(parents=True, exist_ok=True)
    for subject in known:
        for preset in () if only_report or (wanted and subject.name not in wanted) else asked:
            record = _measured(subject, preset, rows, judged, keep=keep)
            if record is None:
                continue
            path = RECORDS / f"{subject.name}.{preset}.json"
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            short = {
                key: record.get(key) for key in ("near", "check", "failed", "reasons") if record.get(key)
            }
            click.echo(f"{subject.name} {preset}: {json.dumps(short)[:300]}")
    if page is not None:
        told = {(s, preset): record_of(s, preset) for s in known for preset in (*STEPS, rival.NAME)}
        command = "python -m benchmarks.corpus.wild --report docs/wild.md"
        page.write_text(report(told, command), encoding="utf-8")


if __name__ == "__main__":
    main()
