"""Read CIFAR-10 to measure the bundled network that was trained on it. Its images are not bundled.

The data folder holds ``cifar10_train.npz`` and ``cifar10_test_dev.npz`` with arrays ``x``, (N, 32, 32, 3),
and ``y``.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError

Bytes = NDArray[np.uint8]
Split = Literal["train", "test"]

_NPZ: dict[Split, str] = {"train": "cifar10_train.npz", "test": "cifar10_test_dev.npz"}


def read(folder: Path, split: Split) -> tuple[Bytes, Bytes]:
    """Return the images, (N, 3, 32, 32), and the labels 0 .. 9, (N,), both uint8.

    Raises:
        InputError: the file is missing, or not what its name says.
    """
    archive = folder / _NPZ[split]
    try:
        with archive.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except OSError as error:
        raise InputError(f"{archive} cannot be read: {error.strerror}") from error
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{archive}: not an .npz file with the arrays x and y") from error
    if x.dtype != np.uint8 or x.shape[1:] != (32, 32, 3) or y.shape != (len(x),):
        raise InputError(
            f"{archive}: the rows are {x.dtype} {x.shape} with labels {y.shape}, where uint8 (N, 32, 32, 3) "
            "with (N,) is needed"
        )
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y.astype(np.uint8)
