"""Train the bundled keyword network on spoken digits and write it as ONNX.

    python -m snnc.models.digits_cnn DATA_FOLDER -o models/digits_cnn.onnx

A convolution and three depthwise-separable blocks over log-mel energies, ReLU, global average pooling and one
linear layer: the form of the keyword networks of microcontrollers. It learns from the training recordings of
the Free Spoken Digit Dataset in DATA_FOLDER (see :mod:`snnc.models.spoken_digits`) and from 1,000
synthesised words, each moved in time, made softer in some bands and shortened at random. The bundled file was
trained with the defaults on 2,700 recordings, by PyTorch 2.13 on one CPU thread.

Needs PyTorch (``pip install -e '.[train]'`` in a checkout) and espeak-ng.

Sources: Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers", 2017 (the architecture); Park et
al., "SpecAugment", Interspeech 2019 (the masks).
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
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from snnc.errors import InputError, UsageError
from snnc.models.convolutions import ConvNet, Layer, to_onnx
from snnc.models.recipe import Recipe, accuracy, train
from snnc.models.spoken_digits import BANDS, FRAMES, LEVELS, TRAINING_VOICES, WORDS, read, synthesised

DIVIDE, MEAN, STD = float(LEVELS), 0.35, 0.3  # the input is (level / DIVIDE - MEAN) / STD
BLOCK = (Layer(48, (1, 1), depthwise=True), Layer(48, (1, 1), kernel=1))
LAYERS = (
    Layer(24, (2, 2)),
    Layer(24, (2, 1), depthwise=True),
    Layer(48, (1, 1), kernel=1),
    *BLOCK,
    *BLOCK,
)
EPOCHS = 40
SYNTHESISED = 1000  # rows that are trained on, beside the recordings


def normalise(x: Tensor) -> Tensor:
    """Return uint8 rows (N, FRAMES, BANDS) as the network's float32 input (N, 1, FRAMES, BANDS)."""
    return ((x.float() / DIVIDE - MEAN) / STD).unsqueeze(1).contiguous(memory_format=torch.channels_last)


def augment(x: Tensor, generator: torch.Generator, *, shift: int = 8, mask: int = 6) -> Tensor:
    """Return uint8 rows (N, FRAMES, BANDS), moved in time, without some frames and bands, and with a hiss.

    Args:
        x: rows, (N, FRAMES, BANDS).
        generator: where the randomness comes from.
        shift: largest shift along time, in frames; what comes in is silence.
        mask: most frames, and half as many bands, that become silent.
    """
    count = len(x)
    frames, bands = torch.arange(FRAMES), torch.arange(BANDS)
    moved = frames + torch.randint(2 * shift + 1, (count, 1), generator=generator)
    shifted = functional.pad(x, (0, 0, shift, shift))[torch.arange(count)[:, None], moved]
    for axis, places, most in ((1, frames, mask), (2, bands, mask // 2)):
        start = torch.randint(len(places), (count, 1), generator=generator)
        width = torch.randint(most + 1, (count, 1), generator=generator)
        hidden = (places >= start) & (places < start + width)
        shifted = shifted.masked_fill(hidden.unsqueeze(3 - axis), 0)
    floor = torch.randint(LEVELS // 2, (count, 1, 1), generator=generator)
    hiss = floor + torch.randn(shifted.shape, generator=generator) * 1.5
    return torch.maximum(shifted.float(), hiss).clamp(0, LEVELS).round().to(torch.uint8)


@click.command(help=str(__doc__).partition("\n")[0])
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--epochs", type=click.IntRange(1), default=EPOCHS, show_default=True)
@click.option("--hold-out", type=click.IntRange(0), default=300, show_default=True)
@click.option("--seed", type=int, default=Recipe().seed, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(data: Path, output: Path, epochs: int, hold_out: int, seed: int, threads: int) -> None:
    """Train, write the network, and print its top-1 on the test recordings."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    recipe = Recipe(epochs=epochs, hold_out=hold_out, seed=seed)
    try:
        recorded = read(data, "train")
        test_x, test_y = (torch.from_numpy(array) for array in read(data, "test"))
        spoken = synthesised(TRAINING_VOICES, SYNTHESISED, 1)
    except (InputError, UsageError) as error:
        raise click.ClickException(str(error)) from error
    x, y = (np.concatenate(pair) for pair in zip(spoken, recorded, strict=True))
    order = np.random.default_rng(seed).permutation(len(x))  # those held out are of both kinds
    if len(x) < hold_out + recipe.batch:
        raise click.UsageError(f"{len(x)} training rows are too few to hold {hold_out} out: lower --hold-out")
    network = train(
        partial(ConvNet, LAYERS, len(WORDS)),
        torch.from_numpy(x[order]),
        torch.from_numpy(y[order]).long(),
        recipe,
        normalise,
        augment,
    )
    model = to_onnx(network, "digits_cnn", (1, FRAMES, BANDS), "snnc digits_cnn.py", "spectrogram")
    temporary = output.with_name(f".{output.name}.partial")
    temporary.write_bytes(model.SerializeToString())
    temporary.replace(output)
    top1 = accuracy(network, test_x, test_y.long(), normalise)
    click.echo(f"{output}: top-1 {top1:.4f} on {len(test_x)} test recordings")


if __name__ == "__main__":
    main()
