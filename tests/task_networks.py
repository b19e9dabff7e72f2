"""Perceptrons that answer with numbers, in files, and what the command line says of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnc
from snnc.cli import main
from snnc.ir.snn import Readout
from tests.onnx_models import model, node

FEATURES = 8
ROWS = 150


@dataclass(frozen=True)
class Network:
    """A trained network of a kind, and rows.

    Attributes:
        path: of the ONNX file.
        rows: calibration rows without labels.
        labelled: other rows with labels.
    """

    path: Path
    rows: Path
    labelled: Path

    def converted(self, name: str, *options: str) -> Path:
        out = self.path.with_name(f"{self.path.stem}-{name}.snn.onnx")
        if not out.exists():
            assert main(["convert", str(self.path), "--calib", str(self.rows), "-o", str(out), *options]) == 0
        return out


def task_network(folder: Path, kind: str) -> Network:
    """Write a perceptron: its hidden layer is random, and its read-out solves the task by least squares."""
    random = np.random.default_rng(3)
    x = random.standard_normal((2 * ROWS, FEATURES)).astype(np.float32)
    hidden = random.standard_normal((24, FEATURES)).astype(np.float32) / 2
    shift = random.standard_normal(24).astype(np.float32) / 2
    a = np.maximum(x @ hidden.T + shift, 0)
    truth = np.abs(x[:, :1]) + x[:, 1:2] * 0.5
    if kind == "forecast":  # all six go up and down together
        truth = truth + 0.1 * x[:, 2:3] * np.arange(6) + 20
    elif kind == "price":
        truth = 200_000 + 20_000 * truth
    design = np.concatenate([a, np.ones((len(a), 1), np.float32)], axis=1)
    fitted = np.linalg.lstsq(design[:ROWS], truth[:ROWS], rcond=None)[0].astype(np.float32)
    labels: Any = truth.astype(np.float32)
    if kind in ("logit", "sigmoid"):
        fitted[-1] -= np.median(truth)
        fitted *= 4
        labels = (truth[:, 0] > np.median(truth)).astype(np.int64)
    constants = {"w": hidden, "b": shift, "v": fitted[:-1].T.copy(), "c": fitted[-1].copy()}
    nodes = [
        node("Gemm", "x w b", "h", transB=1),
        node("Relu", "h", "r"),
        node("Gemm", "r v c", "y", transB=1),
    ]
    path = folder / f"{kind}.onnx"
    path.write_bytes(model(nodes, ["n", FEATURES], constants).SerializeToString())
    rows, labelled = folder / f"{kind}.npz", folder / f"{kind}-labelled.npz"
    np.savez(rows, x=x[:ROWS])
    np.savez(labelled, x=x[ROWS:], y=labels[ROWS:])
    return Network(path, rows, labelled)


def told(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def message(capsys: pytest.CaptureFixture[str], *arguments: object, code: int) -> str:
    found: str = told(capsys, *arguments, code=code)["error"]["message"]
    return found


def numbers_of(path: Path, rows: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what an artefact and its source answer, (n, outputs)."""
    import onnxruntime as ort

    network, x = snnc.load(path), np.load(rows)["x"]
    (readout,) = network.graph.of_type(Readout)
    y = snnc.simulate(network, x).logits * (readout.scale / network.graph.timesteps)
    session = ort.InferenceSession(network.metadata.source_path, providers=["CPUExecutionProvider"])
    return y, np.asarray(session.run(None, {"x": x})[0])
