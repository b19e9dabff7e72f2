"""Does the default disappoint? Convert networks of ../shared/models without a preset, and with fixed ones.

    python -m benchmarks.corpus.choice --networks chenyaofo_cifar100_resnet20,shahd_fashion_keras

Each network is converted as `convert` does by default, with `balanced` at T = 4, and with `fast` at T = 4,
on the same training rows without labels, and judged on the same test rows. Times are processor time of one
thread, after kernels were compiled: a default of more than twice `balanced`, or one that loses more than a
fixed preset beyond the 95 % interval of the paired difference, is marked, and the exit code is 4.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import corpus_data
from snnc.analysis.answers import outputs_of
from snnc.analysis.evaluation import Paired
from snnc.backends import load_simulator
from snnc.compiler import Conversion, Options, convert

FIXED = (("balanced", 4), ("fast", 4))
SHALLOW = "vnn21_cifar_resnet_4b,vnn21_cifar10_large,shahd_fashion_keras,vnn20_mnist_0.1"


@dataclass(frozen=True, slots=True)
class Judged:
    """A conversion on test rows.

    Attributes:
        name: for the table.
        seconds: processor time of the conversion.
        right: (n,) which rows it answers rightly.
    """

    name: str
    seconds: float
    right: NDArray[np.bool_]


def judged(network: corpus_data.Network, sets: corpus_data.Sets, options: Options, limit: int) -> Judged:
    """Convert and judge."""
    start = time.process_time()
    made: Conversion = convert(network.path, sets.calibration, options, preprocessing=sets.preprocessing)
    seconds = time.process_time() - start
    artefact = made.artefact
    simulator = load_simulator("numba", options.threads)
    timesteps = artefact.graph.timesteps
    x, y = sets.x[:limit], sets.y[:limit]
    answers = outputs_of(artefact.graph, artefact.encode, x, simulator=simulator, timesteps=timesteps)
    name = f"{artefact.metadata.preset}@{timesteps}"
    return Judged(name, seconds, answers.argmax(axis=1) == y)


def difference(better: Judged, worse: Judged) -> tuple[float, float, float]:
    """Return by how many points the first is worse than the second, and the 95 % interval."""
    a, b = worse.right, better.right
    cells = (int(cell.sum()) for cell in (a & b, a & ~b, ~a & b, ~a & ~b))
    paired = Paired(*cells)
    low, high = paired.interval
    return 100 * paired.drop, 100 * low, 100 * high


@click.command()
@click.option("--networks", default=SHALLOW, show_default=True)
@click.option("--calibration", default=500, show_default=True, help="Training rows.")
@click.option("--limit", default=1000, show_default=True, help="Test rows.")
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT, show_default=True)
def main(networks: str, calibration: int, limit: int, shared: Path) -> None:
    """Compare the default with fixed presets."""
    wanted = networks.split(",")
    found = {each.name: each for each in corpus_data.networks(shared)}
    missed = False
    for name in wanted:
        network, sets = found[name], corpus_data.sets(shared, found[name], calibration)
        convert(network.path, sets.calibration[:60], Options(threads=1), preprocessing=sets.preprocessing)
        default = judged(network, sets, Options(threads=1), limit)
        fixed = [judged(network, sets, Options(T, preset, threads=1), limit) for preset, T in FIXED]
        ratio = default.seconds / fixed[0].seconds
        print(f"{name}: default = {default.name}, {100 * default.right.mean():.2f} % of {limit} rows")
        mark = " MISSED" if ratio > 2 else ""
        print(f"  time {default.seconds:.1f} s, {ratio:.2f} of balanced's {fixed[0].seconds:.1f} s{mark}")
        for each in fixed:
            points, low, high = difference(default, each)
            worse = " MISSED" if low > 0 else ""
            print(f"  below {each.name} by {points:+.2f} [{low:+.2f}, {high:+.2f}] points{worse}", flush=True)
            missed |= low > 0
        missed |= ratio > 2
    sys.exit(4 if missed else 0)


if __name__ == "__main__":
    main()
