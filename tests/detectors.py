"""A detector of several inputs and outputs, converted, and the verbs on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnc
from snnc.artefact import save
from snnc.cli import main
from snnc.frontend import read_onnx
from tests.onnx_models import node, saved
from tests.test_inputs_outputs import detector, proto, rows_for, weights

OUTPUTS = ["probs", "last", "inner", "again"]


def detector_files(folder: Path) -> Path:
    """Write a detector, its rows as arrays and archives, and a conversion of it; return the folder."""
    path = saved(folder, detector(), "detector.onnx")
    x = rows_for(read_onnx(path))
    np.savez(folder / "rows.npz", image=x["image"], vec=x["vec"], other=x["other"])
    test = rows_for(read_onnx(path), 12, seed=2)
    answers = np.random.default_rng(0).integers(0, 5, 12)
    maps = np.random.default_rng(0).standard_normal((12, 6, 6, 3)).astype(np.float32)
    np.savez(
        folder / "test.npz",
        image=test["image"],
        vec=test["vec"],
        other=test["other"],
        probs=answers,
        last=maps,
    )
    for name, array in test.items():
        np.save(folder / f"{name}.npy", array)
    artefact = snnc.compile_model(path, folder / "rows.npz", preset="fast", timesteps=2, threads=1)
    save(artefact, folder / "made.snn.onnx")
    return folder


def segmentation() -> Any:
    """A fully convolutional network whose height and width its file leaves open."""
    nodes = [
        node("Conv", "image w b", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Conv", "r v", "y"),
    ]
    shapes = {"image": ("batch", 2, "height", "width")}
    return proto(nodes, shapes, ["y"], weights(9, w=(4, 2, 3, 3), b=(4,), v=(3, 4, 1, 1)))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(list(map(str, arguments)))
    found = capsys.readouterr()
    return code, found.out, found.err


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    code, out, error = run(capsys, *arguments, "--json")
    assert code == 0, error + out
    return json.loads(out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one line that an error is."""
    code, _, error = run(capsys, *arguments)
    assert code not in (0, 1)
    lines = [line for line in error.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    return lines[0]
