"""The same networks, quantised to 8 bits by onnxruntime itself, on the same rows.

Static quantisation with quantise and dequantise nodes, weights of 8 bits per output channel, activations of 8
bits by their range on the calibration rows: what a user of onnxruntime gets. Operators that it has no 8-bit
form of, LSTM among them, stay in floats.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.corpus.wild.fidelity import sqnr
from benchmarks.corpus.wild.measuring import Subject
from benchmarks.corpus.wild.rows import Rows, material, spread

NAME = "onnxruntime"
"""Of its records, in the place of a preset."""

PER_CHANNEL_OPSET = 13
"""The first opset whose DequantizeLinear takes a scale for every channel."""

MOST_ROWS = 200
"""Calibration rows at most: their ranges hardly change any more, and all activations are kept in memory."""

QUANTISED = ("QuantizeLinear", "QLinearConv", "QLinearMatMul")
"""Operators of networks of which there is no source in floats."""

WHOLE = ("LSTM", "GRU", "RNN")
"""Operators that stay in floats and hold most of a network's products."""


class Feeds(CalibrationDataReader):  # type: ignore[misc]
    """Calibration rows, one by one."""

    def __init__(self, rows: list[Rows]) -> None:
        self.rows: Iterator[Rows] = iter(rows)

    def get_next(self) -> Rows | None:
        """Return the next row; ``None`` behind the last."""
        return next(self.rows, None)


def is_current(record: dict[str, Any], rows: int, judged: int) -> bool:
    """Say whether a record is of so many rows, and of the onnxruntime that is installed."""
    return record["of"] == [rows, judged] and record["onnxruntime"] == ort.__version__


def measure(subject: Subject, rows: int, judged: int) -> dict[str, Any]:
    """Quantise a network and judge it; return its record.

    Args:
        subject: the network.
        rows: calibration rows.
        judged: rows to judge by.
    """
    found = material(subject.folder, subject.name)
    used, held = spread(found.used, min(rows, MOST_ROWS)), spread(found.judged, judged)
    record: dict[str, Any] = {"network": subject.name, "sha256": subject.sha256, "of": [rows, judged]}
    record["onnxruntime"] = ort.__version__
    if any(node.op_type in QUANTISED for node in onnx.load(subject.path).graph.node):
        return record | {"failed": "it is quantised already", "near": {}, "floats": []}
    ort.set_default_logger_severity(4)
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        try:
            quantised = _quantised(subject.path, used, Path(folder))
            source, own = (
                ort.InferenceSession(path, providers=["CPUExecutionProvider"])
                for path in (subject.path, quantised)
            )
            names = [output.name for output in source.get_outputs()]
            wanted, got = ([session.run(names, row) for row in held] for session in (source, own))
        except Exception as error:  # noqa: BLE001 - whatever it says is its answer
            return record | {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"}
        record["floats"] = sorted({n.op_type for n in onnx.load(quantised).graph.node} & set(WHOLE))
    both = {
        name: [np.concatenate([each[i] for each in answers]).astype(np.float64) for answers in (wanted, got)]
        for i, name in enumerate(names)
    }
    return record | {"near": {name: [sqnr(s, y), None] for name, (s, y) in both.items()}}


def _quantised(path: Path, rows: list[Rows], folder: Path) -> Path:
    """Write the quantised network; return its path."""
    model = onnx.load(path)
    known = {value.name for value in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in known]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    if max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx")) < PER_CHANNEL_OPSET:
        model = version_converter.convert_version(model, PER_CHANNEL_OPSET)
    given, prepared, made = (folder / f"{name}.onnx" for name in ("given", "prepared", "made"))
    onnx.save(model, given)
    try:
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
    except Exception:  # noqa: BLE001 - its preparation is optional
        prepared = given
    quantize_static(
        prepared,
        made,
        Feeds(rows),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return made
