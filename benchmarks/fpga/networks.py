"""Networks that the measurements run on: of the corpus or the zoo, converted, each with its test rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import corpus_data
from snnc.artefact import save
from snnc.compiler import Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.models import calibration_data, resolve, test_data

CALIBRATION_ROWS = 500


def write(name: str, folder: Path, shared: Path) -> None:
    """Convert a network (``balanced``, T = 4) and write ``NAME.snn.onnx`` and ``NAME.test.npz``.

    Args:
        name: of the corpus, or ``zoo:NAME``.
        folder: where they are written.
        shared: the folder of the corpus.
    """
    options = Options(timesteps=4, preset="balanced")
    preprocessing: Preprocessing | Mapping[str, Any] | None
    labels: NDArray[np.integer[Any]]
    if name.startswith("zoo:"):
        entry = resolve(name)
        (x, _), (test, labels) = calibration_data(entry), test_data(entry)
        network, preprocessing = name, entry.preprocessing
    else:
        found = next(each for each in corpus_data.networks(shared) if each.name == name)
        sets = corpus_data.sets(shared, found, CALIBRATION_ROWS)
        network, preprocessing = str(found.path), sets.preprocessing
        x, test, labels = sets.calibration, sets.x, sets.y
    artefact = convert(network, x[:CALIBRATION_ROWS], options, preprocessing=preprocessing).artefact
    stem = name.removeprefix("zoo:")
    save(artefact, folder / f"{stem}.snn.onnx")
    np.savez(folder / f"{stem}.test.npz", x=test, y=labels)
    print(f"wrote {stem}.snn.onnx and {stem}.test.npz to {folder}")
