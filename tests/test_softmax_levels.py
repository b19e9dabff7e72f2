"""Levels of what a softmax reads: chosen by its error, told where they are too few, masks within reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnc.diagnostics import COARSE_SOFTMAX
from snnc.ir import ann
from snnc.numerics.softmax_levels import argument_levels
from snnc.passes import PASSES
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.simulation.ann_reference import softmax
from snnc.simulation.reference import ReferenceSimulator
from snnc.source.calibration import Calibration
from tests.onnx_models import node, normal
from tests.test_lower_counts import source_of


def test_large_arguments_alone_get_levels() -> None:
    """What lies far below weighs nothing, where the zero lies neither."""
    x = np.random.default_rng(0).normal(size=(20, 3, 8)).astype(np.float32)
    for offset in (0.0, 500.0):
        moved = (x + np.float32(offset)).copy()
        moved[:, :, ::2] -= 1000
        found = argument_levels(moved, 2, 15)
        assert found.error < 0.01
        assert 0 < 15 * found.step < 20
        assert offset - 20 < found.zero < moved.max()


def test_rows_far_apart_are_all_reached() -> None:
    x = np.random.default_rng(1).normal(size=(8, 1, 6)).astype(np.float32) * 3
    x[0] -= 150
    found = argument_levels(x, 2, 255)
    counts = np.clip(np.rint((x - found.zero) / found.step), 0, 255)
    assert np.abs(softmax(counts * found.step, 2) - softmax(x, 2)).max() < 0.25


def clipped(seen: Any, levels: int) -> tuple[Any, Context]:
    nodes = [node("MatMul", "x w", "h"), node("Add", "h mask", "m"), node("Softmax", "m", "s", axis=-1)]
    nodes.append(node("MatMul", "s v"))
    mask = np.where(seen, 0, -np.inf).astype(np.float32)
    constants = {"w": normal(6, 4), "v": normal(4, 3), "mask": mask}
    source = source_of(nodes, ["N", 4, 6], constants)
    rows = np.random.default_rng(0).standard_normal((24, *source.graph.input.shape)).astype(np.float32)
    context = Context(Calibration(rows, threads=1), 1, ReferenceSimulator())
    pipeline = Pipeline.parse(f"rectify-linear,clip-activations{{levels={levels}}}", PASSES)
    return run_pipeline(pipeline, source.graph, context)[0], context


@pytest.mark.parametrize("form", ["places", "channels"])
def test_a_mask_comes_within_reach(form: str) -> None:
    seen = np.tril(np.ones((4, 4), bool)) if form == "places" else np.array([True, False, True, True])
    graph, context = clipped(seen, 15)
    if form == "places":
        (mask,) = graph.of_type(ann.Constant)
        lowest = mask.values.min()
    else:
        lowest = min(n.bias.min() for n in graph.of_type(ann.Convolution))
    assert -300 < lowest < -20
    assert context.diagnostics == []


def test_too_few_levels_are_told() -> None:
    _, context = clipped(np.ones(4, bool), 1)
    assert COARSE_SOFTMAX in [found.code for found in context.diagnostics]
