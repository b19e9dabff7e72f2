"""What tuned networks reach on test rows: the table of docs/training.md.

    python -m benchmarks.learning.tuned NETWORK.snn.onnx ... --test ROWS.npz
    python -m benchmarks.learning.tuned --report docs/training.md      # only write the table

`snnc tune` made the networks; their artefacts tell how. Each is a line of benchmarks/measured/tuned.jsonl.
Accuracy is that of the bit-exact integer network on all test rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.common import digests
from benchmarks.common.tables import Row, percent, read, table, write_between
from benchmarks.learning.__main__ import MEASURED, rows_of
from snnc.analysis.evaluation import evaluate
from snnc.artefact import load
from snnc.backends import load_simulator

CACHE = MEASURED / "tuned.jsonl"
COMMAND = "python -m benchmarks.learning.tuned"


def measure(path: Path, test: tuple[Any, Any], threads: int) -> Row:
    """Judge a tuned network.

    Raises:
        click.ClickException: it was not tuned.
    """
    artefact = load(path)
    learned = next((each for each in artefact.metadata.records if each["pass"] == "tune"), None)
    if learned is None:
        raise click.ClickException(f"{path} was not made by snnc tune")
    findings: Mapping[str, Any] = learned
    judged = evaluate(
        artefact.graph, artefact.encode, *test, simulator=load_simulator("numba", threads)
    ).as_dict()
    judged.pop("layers", None)
    recipe = findings["recipe"]
    return {
        "network": Path(artefact.metadata.source_path).stem,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "pipeline": artefact.metadata.pipeline,
        "recipe": recipe,
        "rows": findings["rows"],
        "labels": bool(findings["labels"]),
        "steps": findings["steps"],
        "kept": findings["kept"],
        "epochs": round(sum(findings["steps"]) * recipe["batch"] / findings["rows"], 1),
        **judged,
        "sources": digests.compiler(),
    }


def options(row: Row) -> str:
    """Return in what a run differs from that of unary spikes and labels."""
    recipe = row["recipe"]
    kind = row["payload"].split("+")[0]
    named = {
        "fine skip": recipe["fine_skip"],
        f"{kind}, at one step": kind.startswith("levels"),
        f"one {kind} spike a step, {recipe.get('finish')}": recipe.get("finish"),
        f"price of {recipe['losses'].get('activity')} on operations": "activity" in recipe["losses"],
        f"density {recipe.get('density')}": recipe.get("density"),
        f"{recipe.get('channels')} of the channels out": recipe.get("channels"),
        f"{row['rows']:,} rows without labels": not row.get("labels", True),
    }
    return ", ".join(name for name, there in named.items() if there) or "-"


def latest(rows: Sequence[Row]) -> dict[tuple[str, str, int], Row]:
    """Return the last measurement of each network, its options and its number of steps."""
    return {(row["network"], options(row), row["timesteps"]): row for row in rows}


def lines(rows: Sequence[Row]) -> list[list[str]]:
    """Return the lines of the table."""
    found = []
    for (network, chosen, timesteps), row in sorted(latest(rows).items()):
        found.append(
            [
                network,
                chosen,
                str(timesteps),
                percent(row),
                f"{row['n']:,}",
                row["payload"],
                f"{row['effective_synops'] / 1e6:.2f}",
                f"{row['epochs']:g}",
                row["kept"],
                row["sources"],
            ]
        )
    return found


def write(page: Path) -> None:
    """Replace what stands between the two marks of a page."""
    head = (
        "network",
        "options",
        "T",
        "top-1 in % [95 %]",
        "n",
        "payload",
        "operations an image, millions",
        "passes over the rows",
        "kept",
        "sources",
    )
    write_between(page, "tuned", table(head, lines(read(CACHE))))


@click.command(help=__doc__)
@click.argument("networks", nargs=-1, type=click.Path(path_type=Path))
@click.option("--test", type=click.Path(path_type=Path), help="Test rows, .npz with x and y.")
@click.option("--threads", default=1)
@click.option("--report", type=click.Path(path_type=Path), help="Write the table into this page.")
def main(networks: tuple[Path, ...], test: Path | None, threads: int, report: Path | None) -> None:
    """Measure, and write the table."""
    if networks and test is None:
        raise click.UsageError("give --test, the rows to judge by")
    for path in networks:
        row = measure(path, rows_of(Path(str(test))), threads)
        with CACHE.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        print(f"{path}: {percent(row)}", flush=True)
    if report is not None:
        write(report)


if __name__ == "__main__":
    main()
