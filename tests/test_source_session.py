"""The source network in onnxruntime: rows that do not fit it are refused, and every row has its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from snnc.errors import InputError
from snnc.source.source_session import SourceSession
from tests.onnx_models import model, node, saved

BYTES = model([node("Cast", "x", "c", to=1), node("Relu", "c")], ["N", 4], dtype=TensorProto.UINT8)


def test_whole_numbers_of_any_type_fit_a_network_of_bytes(tmp_path: Path) -> None:
    session = SourceSession(saved(tmp_path, BYTES), 1)
    for dtype in (np.uint8, np.int64, np.float32):
        row: Any = np.array([[0, 7, 254, 255]], dtype)
        np.testing.assert_array_equal(session.run(row), row)


@pytest.mark.parametrize("wrong", [0.5, 256, -1, np.nan])
def test_rows_that_a_network_of_bytes_would_see_otherwise_are_refused(tmp_path: Path, wrong: float) -> None:
    session = SourceSession(saved(tmp_path, BYTES), 1)
    with pytest.raises(InputError, match="takes uint8, and other values are among the rows"):
        session.run(np.array([[0, 1, 2, wrong]], np.float32))


@pytest.mark.parametrize("features", [1, 5])
def test_an_answer_without_its_batch_of_one_belongs_to_its_row(tmp_path: Path, features: int) -> None:
    proto = model([node("Relu", "x", "r"), node("Squeeze", "r")], [1, features])
    session = SourceSession(saved(tmp_path, proto), 1)
    rows = np.arange(3 * features, dtype=np.float32).reshape(3, features)
    np.testing.assert_array_equal(session.run(rows), rows)


def test_one_answer_for_many_rows_is_refused(tmp_path: Path) -> None:
    proto = model([node("ReduceMax", "x", keepdims=0)], ["N", 5])
    session = SourceSession(saved(tmp_path, proto), 1)
    with pytest.raises(InputError, match="1 answers for 3 rows"):
        session.run(np.ones((3, 5), np.float32))
