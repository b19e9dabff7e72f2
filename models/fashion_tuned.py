"""Tune the small bundled network to two time steps on Fashion-MNIST and write the artefact.

    python -m snnc.models.fashion_tuned DATA_FOLDER -o models/fashion_cnn_t2.snn.onnx

runs ``snnc tune`` on ``zoo:fashion-cnn``: thresholds, weights, biases and initial potentials are trained, by
gradients, from the network's answers and the labels of all training rows in DATA_FOLDER, which
:mod:`snnc.models.fashion_mnist` reads. The bundled file was tuned with the defaults on 10,000 rows, by
PyTorch 2.13 on one CPU thread.

Needs PyTorch: ``pip install -e '.[train]'`` in a checkout.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

from snnc.errors import InputError
from snnc.models import PREFIX, resolve
from snnc.models.fashion_mnist import read

SOURCE = PREFIX + "fashion-cnn"
TIMESTEPS = 2
EPOCHS = 15


@click.command(help=str(__doc__).partition("\n")[0])
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--epochs", type=click.IntRange(1), default=EPOCHS, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(data: Path, output: Path, epochs: int, seed: int, threads: int) -> None:
    """Tune, and write the artefact; what it records of its rows is their name and number, no path."""
    try:
        x, y = read(data, "train")
        entry = resolve(SOURCE)
    except InputError as error:
        raise click.ClickException(str(error)) from error
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "fashion_mnist_train.npz", x=x, y=y)
        preprocess = Path(folder) / "fashion_mnist.json"
        preprocess.write_text(json.dumps(dict(entry.preprocessing)), encoding="utf-8")
        numbers = {"-T": TIMESTEPS, "--epochs": epochs, "--seed": seed, "--threads": threads}
        options = [part for name, value in numbers.items() for part in (name, str(value))]
        rows = ["--train", "fashion_mnist_train.npz", "--labels", "--preprocess", preprocess.name]
        augment = ["--augment", "crop,flip", "--force"]
        command = [sys.executable, "-m", "snnc", "tune", SOURCE, *rows, *augment, *options]
        done = subprocess.run([*command, "-o", str(output.absolute())], cwd=folder, check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
