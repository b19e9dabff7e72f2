"""Train the small bundled networks on Fashion-MNIST and write them as ONNX.

    python -m snnc.models.fashion_cnn DATA_FOLDER -o models/fashion_cnn.onnx
    python -m snnc.models.fashion_cnn DATA_FOLDER --activation silu -o models/fashion_silu.onnx

Three strided convolutions of 12, 24 and 48 channels, global average pooling and one linear layer: 13,642
parameters, so that a network is converted in seconds and fits a microcontroller. The activation is ReLU, or
SiLU, which spiking neurons follow by step functions. The recipe is :mod:`snnc.models.recipe` for 60 epochs,
with the random changes of :mod:`snnc.models.fashion_resnet`; the bundled files were trained so on 9,000 rows,
by PyTorch 2.13 on one CPU thread.

Needs PyTorch: ``pip install -e '.[train]'`` in a checkout.
"""

# PyTorch is an extra: where it is absent, the checkers see its names as Any.
# mypy: disable-error-code="import-not-found"
# mypy: allow-subclassing-any, allow-untyped-decorators, allow-untyped-calls
# mypy: no-warn-unused-ignores, no-warn-return-any, no-warn-redundant-casts
# pyright: reportMissingImports=false

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
import torch

from snnc.errors import InputError
from snnc.models.convolutions import Activation, ConvNet, Layer, to_onnx
from snnc.models.fashion_mnist import SPLITS, read
from snnc.models.fashion_resnet import CLASSES, augment, normalise
from snnc.models.recipe import Recipe, accuracy, train

LAYERS = tuple(Layer(channels) for channels in (12, 24, 48))
EPOCHS = 60


@click.command(help=str(__doc__).partition("\n")[0])
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--activation", type=click.Choice(["relu", "silu"]), default="relu", show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=EPOCHS, show_default=True)
@click.option("--hold-out", type=click.IntRange(0), default=Recipe().hold_out, show_default=True)
@click.option("--seed", type=int, default=Recipe().seed, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(
    data: Path, output: Path, activation: Activation, epochs: int, hold_out: int, seed: int, threads: int
) -> None:
    """Train, write the network, and print its top-1 on the test rows."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        x, y, test_x, test_y = (
            torch.from_numpy(array.copy()) for split in SPLITS for array in read(data, split)
        )
    except InputError as error:
        raise click.ClickException(str(error)) from error
    recipe = Recipe(epochs=epochs, hold_out=hold_out, seed=seed)
    if len(x) < hold_out + recipe.batch:
        raise click.UsageError(f"{len(x)} training rows are too few to hold {hold_out} out: lower --hold-out")
    make = partial(ConvNet, LAYERS, CLASSES, activation)
    network = train(make, x, y.long(), recipe, normalise, augment)
    temporary = output.with_name(f".{output.name}.partial")
    name = "fashion_cnn" if activation == "relu" else f"fashion_{activation}"
    model = to_onnx(network, name, (1, 28, 28), "snnc fashion_cnn.py")
    temporary.write_bytes(model.SerializeToString())
    temporary.replace(output)
    top1 = accuracy(network, test_x, test_y.long(), normalise)
    click.echo(f"{output}: top-1 {top1:.4f} on {len(test_x)} test rows")


if __name__ == "__main__":
    main()
