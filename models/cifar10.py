"""Read CIFAR-10 to measure the bundled network that was trained on it. Its images are not bundled.

The data folder may hold either

- the binary version of its authors, ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, or
- ``cifar10_train.npz`` and ``cifar10_test_dev.npz`` with arrays ``x``, (N, 32, 32, 3), and ``y``.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from snnc.data.cifar import read_cifar
from snnc.errors import InputError

Bytes = NDArray[np.uint8]
Split = Literal["train", "test"]

_NPZ: dict[Split, str] = {"train": "cifar10_train.npz", "test": "cifar10_test_dev.npz"}


def read(folder: Path, split: Split) -> tuple[Bytes, Bytes]:
    """Return the images, (N, 3, 32, 32), and the labels 0 .. 9, (N,), both uint8.

    Raises:
        InputError: the folder holds neither form, or a file is not what its name says.
    """
    archive = folder / _NPZ[split]
    if not archive.is_file():
        found = read_cifar(folder if split == "train" else folder / "test_batch.bin")
        if found is None:
            raise InputError(f"{folder}: holds neither the binary version of CIFAR-10 nor {archive.name}")
        return np.asarray(found[0], np.uint8), found[1].astype(np.uint8)
    try:
        with archive.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{archive}: not an .npz file with the arrays x and y") from error
    if x.dtype != np.uint8 or x.shape[1:] != (32, 32, 3) or y.shape != (len(x),):
        raise InputError(
            f"{archive}: the rows are {x.dtype} {x.shape} with labels {y.shape}, where uint8 (N, 32, 32, 3) "
            "with (N,) is needed"
        )
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y.astype(np.uint8)
