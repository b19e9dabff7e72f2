"""What each loss and each finishing stage of `snnc tune` earns, on one small network.

    python -m benchmarks.learning                                   # ten epochs each: hours on two cores
    python -m benchmarks.learning --print --report docs/ablation.md
    python -m benchmarks.learning --network NET.onnx --train ROWS.npz --test ROWS.npz --epochs 1

Each trial is a line of benchmarks/measured/learning.jsonl and is not repeated on the same sources, rows and
epochs; one that was interrupted goes on from its checkpoints, in `learning.checkpoints` beside it. A trial
runs in a process of its own, whose largest memory is told. Accuracy is that of the bit-exact integer network
on rows that nothing was learned from. Needs PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import corpus_data, digests
from benchmarks.common.tables import percent, read, table, write_between
from benchmarks.learning.measuring import Row, measure
from benchmarks.learning.trials import TABLES, Trial

ROOT = Path(__file__).resolve().parent.parent.parent
MEASURED = ROOT / "benchmarks" / "measured"
NETWORK = "mlperf_resnet8_keras"


def rows_of(path: Path) -> tuple[Any, Any]:
    """Return ``x`` and ``y`` of an archive."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["x"], arrays["y"].astype(np.int64)


def run(task: Row, trials: Sequence[Trial], measured: Path) -> None:
    """Measure what is missing."""
    identity = identified(task)
    done = {row["trial"] for row in read(measured) if row["identity"] == identity}
    for trial in trials:
        if trial.name in done:
            continue
        key = hashlib.sha256(f"{identity} {trial.name}".encode()).hexdigest()[:12]
        folder = measured.with_suffix(".checkpoints") / key
        with get_context("spawn").Pool(1) as pool:
            row = pool.apply(measure, ({**task, "checkpoints": str(folder)}, trial))
        with measured.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({**row, "identity": identity, "sources": digests.compiler()}) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        print(f"{trial.name}: {percent(row)}, {row['seconds']:.0f} s, {row['memory_mib']} MiB", flush=True)


def identified(task: Row) -> str:
    """Return a hash of all that a measurement depends on, but for the trial."""
    found = hashlib.sha256(digests.compiler().encode())
    found.update(Path(task["network"]).read_bytes())
    for array in (*task["train"], *task["test"]):
        found.update(np.ascontiguousarray(array).tobytes())
    found.update(
        json.dumps([task[name] for name in ("epochs", "preprocessing", "augment", "batch")]).encode()
    )
    return found.hexdigest()[:16]


def pages(rows: Sequence[Row]) -> list[str]:
    """Return the tables of what was measured last of each trial."""
    latest = {row["trial"]: row for row in rows}
    found = []
    for name, trials in TABLES.items():
        lines = []
        for trial in trials():
            row = latest.get(trial.name)
            if row is None:
                continue
            each = row["seconds"] / row["epochs"] if trial.learns else 0
            kept = row["tuned"].get("kept", "closed form")
            lines.append(
                [
                    trial.name.removesuffix(trial.label).strip() or "-",
                    trial.label,
                    str(trial.timesteps),
                    percent(row),
                    f"{row['n']:,}",
                    kept,
                    f"{row['synops'] / 1e6:.2f}",
                    f"{each:.0f}" if trial.learns else "-",
                    f"{row['memory_mib']:,}",
                ]
            )
        if lines:
            head = ("network", name, "T", "top-1 %", "n", "kept", "MSynOps", "s per epoch", "memory, MiB")
            found.append(f"## {name.capitalize()}\n\n{table(head, lines)}")
    return found


@click.command(help=__doc__)
@click.option("--tables", default=",".join(TABLES), help=f"Which tables: {', '.join(TABLES)}.")
@click.option("--trials", default="", help="Only trials whose name holds this.")
@click.option("--epochs", default=10.0, help="Passes over the training rows of each trial.")
@click.option("--network", type=click.Path(path_type=Path), help="A network of your own.")
@click.option("--train", type=click.Path(path_type=Path), help="Its training rows, .npz with x and y.")
@click.option("--test", type=click.Path(path_type=Path), help="Its test rows, likewise.")
@click.option("--rows", default=0, help="Training rows at most; 0 for all.")
@click.option("--augment", default="crop,flip", help="Changes of images, or none.")
@click.option("--batch", default=128)
@click.option("--threads", default=2)
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT)
@click.option("--measured", type=click.Path(path_type=Path), default=MEASURED / "learning.jsonl")
@click.option("--print", "only_print", is_flag=True, help="Print the tables of what was measured, and stop.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the tables into this page.")
def main(
    tables: str,
    trials: str,
    epochs: float,
    network: Path | None,
    train: Path | None,
    test: Path | None,
    rows: int,
    augment: str,
    batch: int,
    threads: int,
    shared: Path,
    measured: Path,
    only_print: bool,
    report: Path | None,
) -> None:
    """Measure, and print the tables."""
    if not only_print:
        if network is not None and train is not None and test is not None:
            task: Row = {
                "network": str(network),
                "train": rows_of(train),
                "test": rows_of(test),
                "preprocessing": None,
            }
        else:
            entry = next(each for each in corpus_data.networks(shared) if each.name == NETWORK)
            task = {
                "network": str(entry.path),
                "train": corpus_data.load(shared / "data", f"{entry.data}_train"),
                "test": corpus_data.load(shared / "data", f"{entry.data}_test_dev"),
                "preprocessing": entry.preprocessing,
            }
        if rows:
            task["train"] = tuple(array[:rows] for array in task["train"])
        changes = () if augment == "none" else tuple(augment.split(","))
        task |= {"epochs": epochs, "threads": threads, "augment": changes, "batch": batch}
        chosen = [trial for name in tables.split(",") for trial in TABLES[name]() if trials in trial.name]
        measured.parent.mkdir(parents=True, exist_ok=True)
        run(task, chosen, measured)
    found = "\n".join(pages(read(measured)))
    print(found)
    if report is not None:
        write_between(report, "trials", found)


if __name__ == "__main__":
    main()
