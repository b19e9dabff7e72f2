"""Conversions whose outputs are far from the source's say so."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.compiler import Conversion, Options, convert
from snnc.compiler.nearness import far_by
from snnc.diagnostics import FAR_FROM_SOURCE
from snnc.metrics import Task
from snnc.numerics.divergence import AnswerError
from tests.onnx_models import model, node

X = np.random.default_rng(2).standard_normal((60, 6)).astype(np.float32)


def converted(preset: str, task: str) -> Conversion:
    random = np.random.default_rng(1)
    weights = {"a": random.standard_normal((6, 12)), "b": random.standard_normal((12, 12))}
    weights["c"] = random.standard_normal((12, 5))
    nodes = [node("MatMul", "x a", "h"), node("Relu", "h", "r"), node("MatMul", "r b", "k")]
    nodes += [node("Tanh", "k", "t"), node("MatMul", "t c", "y")]
    proto = model(nodes, ["n", 6], {name: value.astype(np.float32) for name, value in weights.items()})
    return convert(proto, X, Options(1, preset, task=Task(task), threads=1))


@pytest.mark.parametrize("task", ["regression", "classes"])
def test_far_outputs_are_named_and_near_ones_are_not(task: str) -> None:
    said = [each for each in converted("fast", task).diagnostics if each.code is FAR_FROM_SOURCE]
    assert len(said) == 1
    assert "the output 'y' is far from the source's on 32 calibration rows" in said[0].message
    assert ("another class" in said[0].message) == (task == "classes")
    assert FAR_FROM_SOURCE not in [each.code for each in converted("precise", task).diagnostics]


def test_values_that_lie_apart_hide_no_others() -> None:
    """Of a box, the middle is a place in the image that each pixel has of its own, and the size is not."""
    source, found = np.zeros((20, 8)), np.zeros((20, 8))
    source[:, :6] = np.arange(6) * 100
    found[:, :6] = source[:, :6]
    source[:, 6:] = np.random.default_rng(0).standard_normal((20, 2))
    assert "times the power" in far_by(source, found, AnswerError.SQUARED)
    found[:, 6:] = source[:, 6:]
    assert far_by(source, found, AnswerError.SQUARED) == ""


def test_what_a_few_rows_say_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnc.compiler.conversion.TRIED_ROWS", 9)
    assert FAR_FROM_SOURCE not in [each.code for each in converted("fast", "regression").diagnostics]
