"""The optional folder of networks and data beside the project, `../shared`, as the benchmarks read it.

`models/index.json` lists trained ONNX networks by others, with the data set and the preprocessing of each;
`data/` holds the data sets as NumPy archives or as mosaics of images.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from snnc.data.preprocessing import Preprocessing

DEFAULT = Path(__file__).resolve().parent.parent.parent.parent / "shared"
TILE, ACROSS = 32, 100
"""Mosaics are tiles of 32x32 pixels, 100 in a row of tiles."""

Rows = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Network:
    """One network of the corpus.

    Attributes:
        name: its file's name without the ending.
        path: its file.
        data: the data set it was trained for; empty where no labelled rows are at hand.
        preprocessing: the index entry's, as it stands there.
    """

    name: str
    path: Path
    data: str
    preprocessing: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sets:
    """Rows to calibrate on and rows to judge with.

    Attributes:
        calibration: (n, ...) as they are stored.
        x: (n, ...) as they are stored.
        y: (n,) labels.
        preprocessing: from there to what the network takes; ``None`` if they are ready.
        note: what is unusual about them.
    """

    calibration: Rows
    x: Rows
    y: NDArray[np.int64]
    preprocessing: Preprocessing | None
    note: str = ""


def networks(folder: Path) -> list[Network]:
    """Return the corpus.

    Raises:
        click.ClickException: it is not there.
    """
    index = folder / "models" / "index.json"
    if not index.is_file():
        raise click.ClickException(
            f"{index} is not there: the corpus is kept outside the project; name its folder by --shared"
        )
    return [
        Network(
            name=entry["file"].removesuffix(".onnx"),
            path=index.parent / entry["file"],
            data=entry.get("data") or "",
            preprocessing=entry.get("preprocessing") or {},
        )
        for entry in json.loads(index.read_text(encoding="utf-8"))
    ]


def sets(folder: Path, network: Network, calibration: int) -> Sets:
    """Return the test rows of a network's data set, and so many training rows to calibrate on."""
    x, y = load(folder / "data", f"{network.data}_test_dev")
    if network.data == "kws01":
        # Stored as the int8 features of the benchmark; the float network takes their real values.
        features = ((x.astype(np.float32) - 83) * np.float32(0.5847029))[..., None]
        used = 100
        note = f"no training rows exist: calibrated on the first {used} test rows, judged on the others"
        return Sets(features[:used], features[used:], y[used:], None, note)
    train, _ = load(folder / "data", f"{network.data}_train", calibration)
    return Sets(train[:calibration], x, y, Preprocessing.from_dict(network.preprocessing))


def load(folder: Path, name: str, rows: int | None = None) -> tuple[Rows, NDArray[np.int64]]:
    """Read (at least) the first rows of a data set and its labels."""
    archive = folder / f"{name}.npz"
    if archive.exists():
        with np.load(archive, allow_pickle=False) as arrays:
            return arrays["x"], arrays["y"].astype(np.int64)
    from PIL import Image

    labels = np.load(folder / f"{name}_labels.npy", allow_pickle=False).astype(np.int64)
    tiles: list[Rows] = []
    for path in sorted(folder.glob(f"{name}*.webp")):
        with Image.open(path) as image:
            pixels = np.asarray(image)
        grid = pixels.reshape(-1, TILE, ACROSS, TILE, 3).transpose(0, 2, 1, 3, 4)
        tiles.append(grid.reshape(-1, TILE, TILE, 3))
        if rows is not None and sum(map(len, tiles)) >= rows:
            break
    x = np.concatenate(tiles)
    return x, labels[: len(x)]


def synthetic(shape: tuple[int, ...], rows: int, seed: int) -> NDArray[np.float32]:
    """Return smooth random inputs: normal noise, averaged over 5 neighbours along the two longest axes."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, *shape), np.float32)
    longest = sorted(range(1, x.ndim), key=lambda axis: -x.shape[axis])[:2]
    for axis in longest if x.ndim > 2 else ():
        x = sum(np.roll(x, shift, axis) for shift in range(-2, 3)) / np.float32(5**0.5)  # type: ignore[assignment]
    return x
