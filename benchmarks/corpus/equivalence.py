"""Hold all simulators against the reference on every network of the corpus, bit for bit.

    python -m benchmarks.corpus.equivalence
    python -m benchmarks.corpus.equivalence --networks cntk_mnist_winml --presets fast,graded
    python -m benchmarks.corpus.equivalence --report docs/equivalence.md  # only write

For each network and preset, T = 1, 2, 4, 8 and K = 0, 2 on 32 images: the answers, and the counts and
potentials of every population. Prints one line per network, adds it to build/equivalence.jsonl, and fails
if anything differs.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import corpus_data
from snnc.backends import SIMULATORS, load_simulator
from snnc.compiler import Options, convert
from snnc.errors import UnsupportedModelError
from snnc.frontend import read_onnx
from snnc.ir.graph import IntArray
from snnc.ir.snn import SnnGraph
from snnc.simulation.protocol import RecordOptions

ROOT = Path(__file__).resolve().parent.parent.parent
FOUND = ROOT / "build" / "equivalence.jsonl"
IMAGES = 32
CALIBRATION_ROWS = 128
STEPS = (1, 2, 4, 8)
SETTLE_STEPS = (0, 2)
HEAD = f"""\
# Equality of the simulators

Made by `python -m benchmarks.corpus.equivalence` and
`python -m benchmarks.corpus.equivalence --report docs/equivalence.md`; do not edit.

Each network was converted at T = 4 on {CALIBRATION_ROWS} rows and run on {IMAGES} distinct images at
T = {", ".join(map(str, STEPS))}, each with {" and ".join(map(str, SETTLE_STEPS))} settle steps, by
{", ".join(f"`{name}`" for name in SIMULATORS)}. *Equal* means that the answers, and the spike counts and
potentials of every population, are those of `reference`, bit for bit. Where few answers are distinct, few
spikes reach the read-out at that T.

| network | preset | result | distinct answers, fewest to most |
| --- | --- | --- | --- |
"""


def differences(graph: SnnGraph, q: IntArray, timesteps: int, threads: int) -> tuple[list[str], int]:
    """Return what differs from the reference, and the number of distinct answers."""
    record = RecordOptions(states=True)
    expected = load_simulator("reference").run(graph, q, timesteps, record)
    wrong = []
    for name in SIMULATORS:
        found = load_simulator(name, threads).run(graph, q, timesteps, record)
        if not np.array_equal(found.logits, expected.logits):
            wrong.append(f"{name}: answers")
        wrong += [
            f"{name}: {what} of {population}"
            for what in ("counts", "potentials")
            for population, values in getattr(expected, what).items()
            if not np.array_equal(getattr(found, what)[population], values)
        ]
    return wrong, len(np.unique(expected.logits, axis=0))


def keep(row: dict[str, Any]) -> None:
    """Remember what was found."""
    FOUND.parent.mkdir(exist_ok=True)
    with FOUND.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def page() -> str:
    """Return the table of what was found last for each network and preset, in Markdown."""
    if not FOUND.is_file():
        raise click.ClickException("nothing was compared yet: run without --report first")
    rows = [json.loads(line) for line in FOUND.read_text(encoding="utf-8").splitlines()]
    last = {(row["network"], row.get("preset", "")): row for row in rows}
    lines = [HEAD.rstrip()]
    for (network, preset), row in last.items():
        if "out_of_scope" in row:
            lines.append(f"| {network} | | not convertible: {row['out_of_scope']} | |")
            continue
        result = f"**differs**: {'; '.join(row['wrong'][:3])}" if row["wrong"] else "equal"
        fewest, most = row["distinct"]
        lines.append(f"| {network} | {preset} | {result} | {fewest} to {most} of {row['images']} |")
    return "\n".join(lines) + "\n"


@click.command(help=__doc__)
@click.option("--networks", default="", help="Names, separated by commas; all by default.")
@click.option("--presets", default="fast", help="Presets, separated by commas.")
@click.option("--threads", default=2)
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT)
@click.option("--report", type=click.Path(path_type=Path), help="Write the table, and stop.")
def main(networks: str, presets: str, threads: int, shared: Path, report: Path | None) -> None:
    """Compare, and exit with 1 if anything differs."""
    if report is not None:
        report.write_text(page(), encoding="utf-8")
        return
    wanted = [name for name in networks.split(",") if name]
    failed = 0
    for network in corpus_data.networks(shared):
        if wanted and network.name not in wanted:
            continue
        start = time.perf_counter()
        try:
            shape = read_onnx(network.path).layout.source_shape
        except UnsupportedModelError as error:
            code = error.diagnostics[0].code.number
            keep({"network": network.name, "out_of_scope": code})
            click.echo(f"{network.name:34} out of scope: {code}")
            continue
        preprocessing = None
        if network.data:
            sets = corpus_data.sets(shared, network, CALIBRATION_ROWS)
            calibration, images = sets.calibration[:CALIBRATION_ROWS], sets.x[:IMAGES]
            preprocessing = sets.preprocessing
        else:
            calibration, images = (corpus_data.synthetic(shape, n, n) for n in (CALIBRATION_ROWS, IMAGES))
        for preset in presets.split(","):
            options = Options(timesteps=4, preset=preset, threads=threads)
            artefact = convert(network.path, calibration, options, preprocessing=preprocessing).artefact
            q = artefact.encode(images)
            wrong: list[str] = []
            distinct = []
            for timesteps in STEPS:
                for settle in SETTLE_STEPS:
                    graph = replace(artefact.graph, settle_steps=settle)
                    found, answers = differences(graph, q, timesteps, threads)
                    wrong += [f"T={timesteps} K={settle} {item}" for item in found]
                    distinct.append(answers)
            failed += bool(wrong)
            keep(
                {
                    "network": network.name,
                    "preset": preset,
                    "wrong": wrong,
                    "distinct": [min(distinct), max(distinct)],
                    "images": len(q),
                }
            )
            verdict = f"DIFFERS: {'; '.join(wrong[:3])}" if wrong else "equal"
            click.echo(
                f"{network.name:34} {preset:9} {verdict}, {min(distinct)} to {max(distinct)} answers "
                f"of {len(q)}, {time.perf_counter() - start:.0f} s"
            )
    if failed:
        raise click.ClickException(f"{failed} networks differ")


if __name__ == "__main__":
    main()
