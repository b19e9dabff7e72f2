"""Hold all simulators against the reference on every network of the corpus, bit for bit.

    python benchmarks/equivalence.py
    python benchmarks/equivalence.py --networks cntk_mnist_winml --presets fast,graded

For each network and preset, T = 1, 2, 4, 8 and K = 0, 2 on 32 images: the answers, and the counts and
potentials of every population. Prints one line per network, and fails if anything differs.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click
import corpus_data
import numpy as np

from snnc.backends import SIMULATORS, load_simulator
from snnc.compiler import Options, convert
from snnc.errors import UnsupportedModelError
from snnc.frontend import read_onnx
from snnc.ir.graph import IntArray
from snnc.ir.snn import SnnGraph
from snnc.target import Record

IMAGES = 32
CALIBRATION_ROWS = 128


def differences(graph: SnnGraph, q: IntArray, timesteps: int, threads: int) -> tuple[list[str], int]:
    """Return what differs from the reference, and the number of distinct answers."""
    record = Record(states=True)
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


@click.command(help=__doc__)
@click.option("--networks", default="", help="Names, separated by commas; all by default.")
@click.option("--presets", default="fast", help="Presets, separated by commas.")
@click.option("--threads", default=2)
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT)
def main(networks: str, presets: str, threads: int, shared: Path) -> None:
    """Compare, and exit with 1 if anything differs."""
    wanted = [name for name in networks.split(",") if name]
    failed = 0
    for network in corpus_data.networks(shared):
        if wanted and network.name not in wanted:
            continue
        start = time.perf_counter()
        try:
            shape = read_onnx(network.path).layout.source_shape
        except UnsupportedModelError as error:
            click.echo(f"{network.name:34} out of scope: {str(error).splitlines()[0][:80]}")
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
            for timesteps in (1, 2, 4, 8):
                for settle in (0, 2):
                    graph = replace(artefact.graph, settle_steps=settle)
                    found, answers = differences(graph, q, timesteps, threads)
                    wrong += [f"T={timesteps} K={settle} {item}" for item in found]
                    distinct.append(answers)
            failed += bool(wrong)
            verdict = f"DIFFERS: {'; '.join(wrong[:3])}" if wrong else "equal"
            click.echo(
                f"{network.name:34} {preset:9} {verdict}, {min(distinct)} to {max(distinct)} answers "
                f"of {len(q)}, {time.perf_counter() - start:.0f} s"
            )
    if failed:
        raise click.ClickException(f"{failed} networks differ")


if __name__ == "__main__":
    main()
