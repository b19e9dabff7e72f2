"""CIFAR-10 and CIFAR-100 in the binary version in which their authors publish them.

A record is a label (of CIFAR-100 two: the coarse one, then the fine one, which counts) and 3,072 pixels, the
red ones first, row by row. Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnc.data.stored import stored
from snnc.errors import InputError
from snnc.ir.graph import IntArray, NumberArray

SHAPE = (3, 32, 32)


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two data sets.

    Attributes:
        training: the names of its training files, in order.
        test: the name of its test file.
        labels: bytes in front of the pixels; the last is the class.
        classes: how many there are.
    """

    training: tuple[str, ...]
    test: str
    labels: int
    classes: int


KINDS = (
    Kind(tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin", 1, 10),
    Kind(("train.bin",), "test.bin", 2, 100),
)


def files_of(path: Path) -> tuple[Kind, tuple[Path, ...]] | None:
    """Return the files that a path names: one of them, or the training files of a folder.

    ``None`` where it is something else.

    Raises:
        InputError: some of the training files are missing.
    """
    for kind in KINDS:
        if path.name in (*kind.training, kind.test):
            return (kind, (path,)) if path.is_file() else None
        if (path / kind.test).is_file() or (path / kind.training[0]).is_file():
            files = tuple(path / name for name in kind.training)
            missing = [file.name for file in files if not file.is_file()]
            if missing:
                raise InputError(
                    f"{path} holds CIFAR-{kind.classes} without {missing[0]}: add it, or name single files"
                )
            return kind, files
    return None


def read_cifar(path: Path, limit: int | None = None) -> tuple[NumberArray, IntArray] | None:
    """Read images and classes; ``None`` where the path names none of these files.

    Args:
        path: a folder, for its training images, or one of the files.
        limit: read so many images.

    Returns:
        (n, 3, 32, 32) uint8 and (n,) int64.

    Raises:
        InputError: a file is damaged, or some are missing.
    """
    found = files_of(path)
    if found is None:
        return None
    kind, files = found
    record = kind.labels + int(np.prod(SHAPE))
    counts = [_count(file, record) for file in files]
    x = stored((min(sum(counts), limit or sum(counts)), *SHAPE), np.uint8)
    y = np.zeros(len(x), np.int64)
    at = 0
    for file, count in zip(files, counts, strict=True):
        taken = min(count, len(x) - at)
        if not taken:
            break
        rows = np.fromfile(file, np.uint8, taken * record).reshape(taken, record)
        y[at : at + taken] = rows[:, kind.labels - 1]
        if y[at : at + taken].max() >= kind.classes:
            raise InputError(f"{file} holds a label of {y.max()}: it is damaged, or no CIFAR-{kind.classes}")
        x[at : at + taken] = rows[:, kind.labels :].reshape(taken, *SHAPE)
        at += taken
    return x, y


def _count(file: Path, record: int) -> int:
    size = file.stat().st_size
    if not size or size % record:
        raise InputError(f"{file} has {size} bytes, no multiple of {record}: it is damaged, load it again")
    return size // record
