"""Run a QONNX file by its own executor: `benchmarks.corpus.quantised` starts this in another environment.

    python qonnx_job.py MODEL FOLDER TENSOR ...

reads the rows in FOLDER/x.npy and writes the values of each tensor to FOLDER/0.npy, FOLDER/1.npy, ...
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes


def main(path: str, folder: str, *names: str) -> None:
    """Run the model on each row."""
    model = ModelWrapper(path).transform(InferShapes())
    given = model.graph.input[0].name
    x = np.load(Path(folder) / "x.npy")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for row in range(len(x)):
        found = execute_onnx(model, {given: x[row : row + 1]}, return_full_exec_context=True)
        for name in names:
            parts[name].append(np.asarray(found[name]))
    for place, name in enumerate(names):
        np.save(Path(folder) / f"{place}.npy", np.concatenate(parts[name]))


if __name__ == "__main__":
    main(*sys.argv[1:])
