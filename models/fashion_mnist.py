"""Read Fashion-MNIST, and make the bundled ``fashion_mnist.npz`` from it.

    python -m snnc.models.fashion_mnist DATA_FOLDER -o models/fashion_mnist.npz

The data folder may hold either

- the four original files ``{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz`` (60,000 and 10,000 rows), or
- ``fashion_mnist_train.npz`` and ``fashion_mnist_test_dev.npz`` with arrays ``x`` and ``y`` (10,000 and
  5,000 rows: a part of the same data).

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", 2017; https://github.com/zalandoresearch/fashion-mnist (MIT licence).
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path
from typing import Literal

import click
import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError

Bytes = NDArray[np.uint8]
Split = Literal["train", "test"]

SPLITS: tuple[Split, Split] = ("train", "test")
_IDX_STEM: dict[Split, str] = {"train": "train", "test": "t10k"}
_NPZ_STEM: dict[Split, str] = {"train": "fashion_mnist_train", "test": "fashion_mnist_test_dev"}
CALIBRATION_ROWS, TEST_ROWS = 500, 1000  # the first ones of the training and of the test rows
_IDX_UINT8 = 0x08  # third byte of the magic number; the fourth is the rank


def read(folder: Path, split: Split) -> tuple[Bytes, Bytes]:
    """Return the images, (N, 28, 28), and the labels 0 .. 9, (N,), both uint8.

    Raises:
        InputError: the folder holds neither form, or a file is not what its name says.
    """
    images = folder / f"{_IDX_STEM[split]}-images-idx3-ubyte.gz"
    labels = folder / f"{_IDX_STEM[split]}-labels-idx1-ubyte.gz"
    archive = folder / f"{_NPZ_STEM[split]}.npz"
    if images.is_file() and labels.is_file():
        x, y = _read_idx(images, rank=3), _read_idx(labels, rank=1)
    elif archive.is_file():
        try:
            with archive.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                x, y = arrays["x"], arrays["y"]
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{archive}: not an .npz file with the arrays x and y") from error
    else:
        raise InputError(f"{folder}: holds neither {images.name} and {labels.name}, nor {archive.name}")
    if x.dtype != np.uint8 or x.shape[1:] != (28, 28) or y.shape != (len(x),):
        raise InputError(
            f"{folder}: the {split} rows are {x.dtype} {x.shape} with labels {y.shape}, "
            "where uint8 (N, 28, 28) with (N,) is needed"
        )
    return x, y.astype(np.uint8)


def _read_idx(path: Path, rank: int) -> Bytes:
    """Return the array of one gzipped IDX file of unsigned bytes: magic, big-endian sizes, data."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path}: not a gzip file, or a part of one; download it again") from error
    header = 4 + 4 * rank
    if content[:4] != bytes([0, 0, _IDX_UINT8, rank]):
        raise InputError(f"{path}: not an IDX file of unsigned bytes of rank {rank}")
    shape = np.frombuffer(content[4:header], dtype=">u4").astype(int)
    if len(content) - header != shape.prod():
        raise InputError(
            f"{path}: {len(content) - header} bytes of data where the header says {shape.prod()}; "
            "download it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


@click.command(help=str(__doc__).partition("\n")[0])
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(data: Path, output: Path) -> None:
    """Write the bundled rows; the same data give the same bytes."""
    try:
        (train_x, train_y), (test_x, test_y) = (read(data, split) for split in SPLITS)
    except InputError as error:
        raise click.ClickException(str(error)) from error
    temporary = output.with_name(f".{output.name}.partial.npz")  # numpy appends .npz to any other name
    np.savez_compressed(
        temporary,
        calibration_x=train_x[:CALIBRATION_ROWS],
        calibration_y=train_y[:CALIBRATION_ROWS],
        test_x=test_x[:TEST_ROWS],
        test_y=test_y[:TEST_ROWS],
    )
    temporary.replace(output)
    click.echo(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
