"""N-MNIST as frames: `nmnist_*.npz` of a folder of recordings, which are none of this project's."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FRAMES = 10
SIDE = 34
SEED = 1


def recordings(folder: Path, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return recordings as counts in frames of equal time, (n, FRAMES, 2, SIDE, SIDE), and labels, (n,)."""
    with np.load(folder / f"nmnist_{part}.npz") as file:
        t, x, y, p, offsets, labels = (file[key] for key in ("t", "x", "y_px", "p", "offsets", "y"))
    frames = np.zeros((len(labels), FRAMES, 2, SIDE, SIDE), np.float32)
    for row, (start, stop) in enumerate(pairwise(offsets)):
        when = t[start:stop].astype(np.int64)
        bins = (when - when[0]) * FRAMES // (when[-1] - when[0] + 1)
        np.add.at(frames[row], (bins, p[start:stop], y[start:stop], x[start:stop]), 1)
    return frames, labels.astype(np.int64)


def frames(folder: Path, output: Path, pool: int) -> None:
    """Write the frames of both parts, uint8, as ``OUTPUT_train.npz`` and ``OUTPUT_test.npz``.

    Args:
        folder: of the recordings.
        output: what the files are called, and where.
        pool: so many pixels in each direction are added up.
    """
    for part, name in (("train", "train"), ("test_dev", "test")):
        x, y = recordings(folder, part)
        side = SIDE // pool
        x = x.reshape(len(x), FRAMES, 2, side, pool, side, pool).sum(axis=(4, 6))
        np.savez_compressed(output.with_name(f"{output.stem}_{name}.npz"), x=x.astype(np.uint8), y=y)
