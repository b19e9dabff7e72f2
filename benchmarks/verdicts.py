"""Break three trained networks on purpose in ten ways each, and count how often the verdict sees through it.

    python -m benchmarks.verdicts [--shared FOLDER] [--seed N] [--rows N]

The networks and their data are those of the optional folder `../shared`. Layer and size of every mistake are
drawn by the seed. A verdict is right if its first finding names the cause, and the layer or, for mistakes
that concern all of it, the whole network.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from benchmarks.corpus_data import DEFAULT, networks, sets
from snnc.backends import load_simulator
from snnc.frontend import read_onnx
from tests.breakages import BREAKAGES, Setting, is_right

NETWORKS = ("chenyaofo_cifar10_resnet20", "mlperf_resnet8_keras", "chenyaofo_cifar100_resnet20")


@click.command()
@click.option("--shared", type=click.Path(path_type=Path), default=DEFAULT, help="The optional folder.")
@click.option("--seed", default=0, show_default=True)
@click.option("--calibration", default=200, show_default=True, help="Calibration rows.")
@click.option("--rows", default=96, show_default=True, help="Rows that are measured.")
@click.option("--network", "chosen", multiple=True, default=NETWORKS, show_default=True)
def main(shared: Path, seed: int, calibration: int, rows: int, chosen: tuple[str, ...]) -> None:
    """Print every verdict and their number."""
    known = {network.name: network for network in networks(shared)}
    simulator = load_simulator("numba")
    right = total = 0
    for number, name in enumerate(chosen):
        network = known[name]
        source = read_onnx(network.path)
        data = sets(shared, network, calibration)

        def prepared(x: np.ndarray, source=source, data=data) -> np.ndarray:  # type: ignore[no-untyped-def]
            x = x if data.preprocessing is None else data.preprocessing.apply(x, source.layout.source_shape)
            return source.layout.to_canonical(x).astype(np.float32)

        setting = Setting(
            source.graph,
            prepared(data.calibration),
            prepared(data.x[:rows]),
            data.y[:rows],
            simulator,
        )
        for index, (mistake, plant) in enumerate(BREAKAGES.items()):
            made, layer, causes = plant(setting, np.random.default_rng([seed, number, index]))
            found = made.verdict()[1]
            good = is_right(found, layer, causes)
            right, total = right + good, total + 1
            click.echo(f"{'right' if good else 'WRONG'}  {name}: {mistake} ({layer or 'the network'})")
            click.echo(f"       {found.text}")
    click.echo(f"{right} of {total} verdicts name the right layer and cause first")


if __name__ == "__main__":
    main()
