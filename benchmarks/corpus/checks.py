"""How long does `snnc check` take, and what does it say, for each network of a folder?

    python -m benchmarks.corpus.checks                       # ../shared/wild; a minute or two
    python -m benchmarks.corpus.checks --report docs/checks.md

Each check is a process of its own, as a person starts it: its seconds and its processor's seconds hold the
start of Python and the reading of the file. Sizes that a file leaves open are given by `--shape`, inputs
that are single numbers by `--fix`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click

from benchmarks.common import digests
from benchmarks.common.tables import Row, read, table
from benchmarks.corpus.wild.__main__ import subjects
from benchmarks.corpus.wild.measuring import Subject
from benchmarks.corpus.wild.rows import material, numbers, open_shapes
from snnc.writing import replacing

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "benchmarks/measured/checks.jsonl"
SAID = {0: "passes", 3: "refused"}
PAGE = """# How long `snnc check` takes

Of each network of `../shared/wild`, the whole command as a person types it, on one machine of two cores: its
seconds, and those of the processor. Networks that pass only with `--shape`, `--fix` or `--host any` are given
them.
Printed by

    python -m benchmarks.corpus.checks --report docs/checks.md

"""


def measured(subject: Subject) -> Row:
    """Check a network as the command line does; with islands in the host where nothing else passes."""
    feed = material(subject.folder, subject.name).judged[0]
    given = {"--shape": open_shapes(subject.path, feed), "--fix": numbers(feed)}
    options = [part for name, texts in given.items() for each in texts for part in (name, each)]
    row = _run(subject, options)
    if row["exit"]:
        wider = _run(subject, [*options, "--host", "any"])
        row = row if wider["exit"] else wider
    return {"network": subject.name, **row, "sources": digests.compiler()}


def _run(subject: Subject, options: list[str]) -> Row:
    command = [sys.executable, "-m", "snnc", "check", str(subject.path), *options]
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - start, os.times()
    if done.returncode not in SAID:
        raise click.ClickException(f"{subject.name}: exit {done.returncode}: {done.stderr.strip()}")
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return {"options": options, "exit": done.returncode, "seconds": seconds, "cpu_seconds": cpu}


def page(rows: list[Row]) -> str:
    """Return the page of all that was measured."""
    lines = [
        [
            row["network"],
            SAID[row["exit"]],
            " ".join(row["options"]) or "-",
            f"{row['seconds']:.1f}",
            f"{row['cpu_seconds']:.1f}",
        ]
        for row in rows
    ]
    sources = ", ".join(sorted({row["sources"] for row in rows}))
    head = ("network", "check", "options", "seconds", "of the processor")
    passed = sum(not row["exit"] for row in rows)
    slowest = max(rows, key=lambda row: row["seconds"])
    summary = (
        f"\n{passed} of {len(rows)} pass; the slowest, {slowest['network']}, takes "
        f"{slowest['seconds']:.1f} s. "
        f"Measured on the sources {sources}.\n"
    )
    return PAGE + table(head, lines) + summary


@click.command(help=__doc__)
@click.option("--shared", type=click.Path(path_type=Path), default=ROOT.parent / "shared")
@click.option("--report", type=click.Path(path_type=Path), help="Write the page there.")
@click.option("--measure/--no-measure", default=True, show_default=True)
def main(shared: Path, report: Path | None, measure: bool) -> None:
    """Measure, keep, and report."""
    folder = shared / "wild"
    if measure:
        if not (folder / "index.json").exists():
            raise click.UsageError(f"{folder} is not there: nothing to measure")
        rows = []
        for subject in subjects(folder):
            rows.append(measured(subject))
            click.echo(f"{subject.name}: {SAID[rows[-1]['exit']]}, {rows[-1]['seconds']:.1f} s")
        with replacing(KEPT) as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
    if report is not None:
        with replacing(report) as file:
            file.write(page(read(KEPT)).encode())


if __name__ == "__main__":
    main()
