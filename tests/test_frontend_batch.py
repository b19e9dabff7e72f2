"""What mixes the rows of a batch is refused; what only moves them about within a row is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snnc.errors import UnsupportedModelError
from snnc.frontend import read_onnx
from tests.onnx_models import check_equal, model, node, read_again, saved

INDICES = {
    "zero": np.array([0]),
    "one": np.array([1]),
    "first": np.array(0),
    "axis": np.array([0]),
    "second": np.array([1]),
    "both": np.array([0, 1]),
    "pairs": np.array([-1, 2, 3, 4]),
}
MIXING = {
    "turned": [node("Relu", "x", "r"), node("Transpose", "r", "y", perm=[1, 0, 2])],
    "turned to the end": [node("Relu", "x", "r"), node("Transpose", "r", "y", perm=[1, 2, 0])],
    "joined": [node("Flatten", "x", "f", axis=0), node("Relu", "f")],
    "joined, from behind": [node("Flatten", "x", "f", axis=-3), node("Relu", "f")],
    "one after the other": [node("Concat", "x x", "c", axis=0), node("Relu", "c")],
    "two in one": [node("Concat", "x x", "c", axis=0), node("Reshape", "c pairs")],
    "added to others": [node("Unsqueeze", "x one", "u"), node("Relu", "x", "r"), node("Add", "u r")],
    "averaged": [node("ReduceMean", "x", "m", axes=[0]), node("Relu", "m")],
    "the first of all": [node("Gather", "x first", "g", axis=0), node("Relu", "g")],
    "cut": [node("Slice", "x zero one axis", "c"), node("Relu", "c")],
    "picked behind an axis": [node("Unsqueeze", "x axis", "u"), node("Gather", "u first", axis=1)],
    "cut behind an axis": [node("Unsqueeze", "x axis", "u"), node("Slice", "u zero one second")],
    "summed behind an axis": [node("Unsqueeze", "x axis", "u"), node("ReduceSum", "u both", keepdims=0)],
}


@pytest.mark.parametrize("batch", ["N", 5])
@pytest.mark.parametrize("name", sorted(MIXING))
def test_what_mixes_rows(tmp_path: Path, name: str, batch: int | str) -> None:
    path = saved(tmp_path, model(MIXING[name], [batch, 3, 4], INDICES))
    with pytest.raises(UnsupportedModelError, match=r"row|batch"):
        read_onnx(path)


IN_FRONT = {
    "picked": node("Gather", "u first", "v", axis=0),
    "cut": node("Slice", "u zero one axis", "v"),
    "summed": node("ReduceSum", "u axis", "v"),
    "dropped": node("Squeeze", "u", "v"),
    "repeated": node("Tile", "u thrice", "v"),
    "expanded": node("Expand", "u wide", "v"),
}


@pytest.mark.parametrize("batch", ["N", 5])
@pytest.mark.parametrize("name", IN_FRONT)
def test_an_axis_of_length_one_in_front_of_the_rows_is_none_of_them(
    tmp_path: Path, name: str, batch: int | str
) -> None:
    nodes = [node("Relu", "x", "r"), node("Unsqueeze", "r axis", "u"), IN_FRONT[name]]
    nodes += [node("Reshape", "v whole", "w"), node("ReduceSum", "w axis", keepdims=0)]
    constants = INDICES | {
        "thrice": np.array([3, 1, 1, 1]),
        "wide": np.array([3, 1, 1, 1]),
        "whole": np.array([3 if name in ("repeated", "expanded") else 1, -1, 3, 4]),
    }
    source = read_onnx(saved(tmp_path, model(nodes, [batch, 3, 4], constants)))
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    expected = np.maximum(x, 0).reshape(5, -1) * (3 if name in ("repeated", "expanded") else 1)
    np.testing.assert_allclose(read_again(source, x), expected, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(MIXING) - {"turned to the end"}))
def test_one_row_alone_mixes_none(tmp_path: Path, name: str) -> None:
    check_equal(tmp_path, model(MIXING[name], [1, 3, 4], INDICES), rows=1)


def test_an_axis_in_front_is_no_other_order(tmp_path: Path) -> None:
    nodes = [node("Expand", "x long", "e"), node("Relu", "e")]
    check_equal(tmp_path, model(nodes, ["N", 3, 4], {"long": np.array([1, 1, 3, 4])}))


@pytest.mark.parametrize(
    ("batch", "end"), [("N", 10**9), ("N", 2**31 - 1), ("N", 2**63 - 1), (5, 5), (5, 2**63 - 1)]
)
def test_a_cut_of_every_row_is_none(tmp_path: Path, batch: int | str, end: int) -> None:
    nodes = [node("Slice", "x start end axes", "c"), node("Relu", "c")]
    constants = {"start": np.array([0, 1]), "end": np.array([end, 3]), "axes": np.array([0, 1])}
    source = read_onnx(saved(tmp_path, model(nodes, [batch, 3, 4], constants)))
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    assert np.array_equal(read_again(source, x), np.maximum(x[:, 1:3], 0).reshape(5, -1))


SCALARS = {
    "joined": [node("Unsqueeze", "s axes", "u"), node("Concat", "u flat", "y", axis=0)],
    "averaged": [node("ReduceMean", "s", "m", keepdims=0), node("Reshape", "m shape", "y")],
    "kept": [node("Reshape", "s shape", "y")],
}


@pytest.mark.parametrize("name", sorted(SCALARS))
def test_one_number_of_a_row(tmp_path: Path, name: str) -> None:
    nodes = [node("Reshape", "x long", "flat"), node("Gather", "flat one", "s"), *SCALARS[name]]
    constants = {
        "one": np.array(1),
        "long": np.array([-1]),
        "axes": np.array([0]),
        "shape": np.array([1, 1]),
    }
    check_equal(tmp_path, model(nodes, [1, 2, 3], constants), rows=1)


@pytest.mark.parametrize("batch", [1, "N"])
def test_one_number_beside_constants(tmp_path: Path, batch: int | str) -> None:
    """A tensor without axes is broadcast as any other."""
    nodes = [
        node("Flatten", "x", "f"),
        node("Gather", "f one", "g", axis=1),
        node("Relu", "g", "r"),
        node("Squeeze", "r", "s"),
        node("Mul", "s factors", "m"),
        node("Reshape", "m shape"),
    ]
    constants = {
        "one": np.array([1]),
        "factors": np.array([[2.0, 3.0]], np.float32),
        "shape": np.array([1, 2]),
    }
    path = saved(tmp_path, model(nodes, [batch, 2, 3], constants))
    try:
        source = read_onnx(path)
    except UnsupportedModelError:
        assert batch == "N"
    else:
        x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
        assert read_again(source, x).ravel().tolist() == [2, 3]
