"""Operations on activations as functions of spike counts: fine counts compute the source."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.backends import load_simulator
from snnc.errors import UnsupportedModelError, UsageError
from snnc.frontend import SourceModel, read_onnx
from snnc.ir import snn
from snnc.ir.counts import CountFunction
from snnc.passes import PASSES
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.reference import ReferenceSimulator, encode
from snnc.source.calibration import Calibration
from tests.onnx_models import model, node, normal, saved
from tests.spiking_graphs import assert_same_outputs
from tests.test_frontend_products import attention

PIPELINE = "fold-batchnorm,exact-max-pool,compose-linear,rectify-linear,clip-activations{levels=%d},lower"
drawn = settings(max_examples=6, deadline=None)


def source_of(nodes: list[onnx.NodeProto], shape: list[Any], constants: dict[str, Any]) -> SourceModel:
    with tempfile.TemporaryDirectory() as folder:
        return read_onnx(saved(Path(folder), model(nodes, shape, constants)))


def lowered(source: SourceModel, rows: Any, levels: int, timesteps: int, more: str = "") -> snn.SnnGraph:
    context = Context(Calibration(rows, threads=1), timesteps, ReferenceSimulator())
    made, _ = run_pipeline(Pipeline.parse(PIPELINE % levels + more, PASSES), source.graph, context)
    assert isinstance(made, snn.SnnGraph)
    return made


def rows_of(source: SourceModel, seed: int = 0, count: int = 24) -> Any:
    return np.random.default_rng(seed).standard_normal((count, *source.graph.input.shape)).astype(np.float32)


def noise(found: Any, expected: Any) -> float:
    """Return the power of the error relative to that of the values without their mean, in dB."""
    error = np.square(found - expected).mean()
    return float(10 * np.log10(np.square(expected - expected.mean(axis=0)).mean() / max(error, 1e-30)))


def faithful(source: SourceModel, *kinds: type[CountFunction], least: float = 25) -> None:
    """Assert that fine counts compute a network, and that integers are the same in every simulator."""
    rows = rows_of(source)
    fine = lowered(source, rows, 255, 1)
    assert {type(n) for n in fine if isinstance(n, CountFunction)} >= set(kinds)
    trace = ReferenceSimulator().run(fine, encode(fine.encoder, rows), 1)
    expected, _ = run_ann(source.graph, rows)
    assert noise(fine.readout.decoded(trace.logits, 1).reshape(expected.shape), expected) > least
    for timesteps in (1, 3):
        same_everywhere(source, timesteps)


def same_everywhere(source: SourceModel, timesteps: int) -> None:
    """Assert that the compiled simulator and the reference compute the same integers."""
    rows = rows_of(source, count=8)
    whole = lowered(source, rows, 15, timesteps, ",quantise-weights")
    q = encode(whole.encoder, rows)
    by_rule = ReferenceSimulator().run(whole, q, timesteps)
    assert_same_outputs(load_simulator("numba", 1).run(whole, q, timesteps), by_rule)


def test_squeeze_and_excitation() -> None:
    nodes = [
        node("Conv", "x w", "h0"),
        node("Relu", "h0", "h"),
        node("GlobalAveragePool", "h", "p"),
        node("Conv", "p v", "q"),
        node("Sigmoid", "q", "g"),
        node("Mul", "h g", "z"),
        node("Conv", "z u"),
    ]
    constants = {"w": normal(4, 3, 3, 3), "v": normal(4, 4, 1, 1), "u": normal(2, 4, 1, 1)}
    faithful(source_of(nodes, ["N", 3, 6, 6], constants), snn.CountProduct)


@pytest.mark.parametrize("form", ["plain", "direct", "merged", "einsum"])
def test_attention(form: str) -> None:
    heads, length, features = 2, 5, 8
    each = features // heads
    seen = np.tril(np.ones((length, length), bool))
    constants: dict[str, Any] = {
        **{f"w{name}": normal(features, features) / 3 for name in "qkvo"},
        **{f"b{name}": normal(features) for name in "qkv"},
        "split": np.array([0, length, heads, each]),
        "joined": np.array([0, length, features]),
        "flat": np.array([length, heads, each]),
        "rows": np.array([length, 1, features]),
        "scale": np.float32(each**-0.5),
        "root": np.float32(each**0.5),
        "seen": seen,
        "lowest": np.float32(-np.inf),
        "mask": np.where(seen, 0, -np.inf).astype(np.float32),
    }
    source = source_of(attention(heads, length, features, form), [1, length, features], constants)
    faithful(source, snn.CountMatrixProduct, snn.CountSoftmax)


NORMS: dict[str, list[onnx.NodeProto]] = {
    "layer": [node("LayerNormalization", "h g b", "n", axis=-1)],
    "instance": [node("Transpose", "h", "t", perm=[0, 2, 1]), node("InstanceNormalization", "t g b", "m"),
                 node("Transpose", "m", "n", perm=[0, 2, 1])],
    "root mean square": [node("SimplifiedLayerNormalization", "h g", "n", axis=-1)],
    "length": [node("LpNormalization", "h", "n", axis=-1)],
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_norms(name: str) -> None:
    nodes = [node("MatMul", "x w", "h"), *NORMS[name], node("MatMul", "n v")]
    constants = {"w": normal(6, 8), "v": normal(8, 3), "g": normal(8), "b": normal(8)}
    faithful(source_of(nodes, ["N", 5, 6], constants), snn.CountNormalisation)


def test_a_quotient_and_a_product_of_three() -> None:
    nodes = [
        node("MatMul", "x w", "h"),
        node("Sigmoid", "h", "s"),
        node("Add", "s one", "d"),
        node("MatMul", "x v", "k"),
        node("Tanh", "k", "t"),
        node("Div", "t d", "q"),
        node("Mul", "q s", "z"),
        node("MatMul", "z u"),
    ]
    constants = {"w": normal(6, 8), "v": normal(6, 8), "u": normal(8, 3), "one": np.float32(0.5)}
    faithful(source_of(nodes, ["N", 6], constants), snn.CountProduct)


def test_operands_that_are_joined_share_one_unit() -> None:
    """Products of other ranges, one behind the other, times a matrix of activations."""
    nodes = [
        node("MatMul", "x w", "h"),
        node("Tanh", "h", "t"),
        node("Sigmoid", "h", "s"),
        node("Mul", "t s", "a"),
        node("Mul", "h t", "b"),
        node("Concat", "a b s", "c", axis=1),
        node("Transpose", "c", "d", perm=[0, 2, 1]),
        node("MatMul", "c d", "e"),
        node("MatMul", "e u"),
    ]
    constants = {"w": normal(6, 4), "u": normal(9, 3)}
    faithful(source_of(nodes, ["N", 3, 6], constants), snn.CountProduct, snn.CountMatrixProduct)


@drawn
@given(st.integers(0, 2**32 - 1))
def test_any_of_them_in_a_row(seed: int) -> None:
    """Products, softmax, norms and maxima of random axes, one behind the other."""
    r = Random(seed)
    size = (r.randint(2, 4), r.randint(2, 5))
    made: dict[str, Callable[[str, str], list[onnx.NodeProto]]] = {
        "product": lambda a, b: [node("MatMul", f"{a} square", f"{b}0"), node("Tanh", f"{b}0", f"{b}1"),
                                 node("Mul", f"{a} {b}1", b)],
        "softmax": lambda a, b: [node("Softmax", a, b, axis=r.choice((1, 2)))],
        "norm": lambda a, b: [node("LayerNormalization", f"{a} g b", b, axis=-1)],
        "instance": lambda a, b: [node("InstanceNormalization", f"{a} gi bi", b)],
        "matrix": lambda a, b: [node("Transpose", a, f"{b}0", perm=[0, 2, 1]),
                                node("MatMul", f"{b}0 {a}", f"{b}1"), node("MatMul", f"{a} {b}1", b)],
        "maximum": lambda a, b: [node("ReduceMax", a, f"{b}0", axes=[r.choice((1, 2))]),
                                 node("Sub", f"{a} {b}0", b)],
    }  # fmt: skip
    chosen = [r.choice(list(made)) for _ in range(2)]
    nodes = [node("MatMul", "x w", "v0")]
    for place, kind in enumerate(chosen):
        nodes += made[kind](f"v{place}", f"v{place + 1}")
    nodes.append(node("MatMul", "v2 u"))
    constants = {
        "w": normal(6, size[1]), "u": normal(size[1], 3), "square": normal(size[1], size[1]),
        "g": normal(size[1]), "b": normal(size[1]), "gi": normal(size[0]), "bi": normal(size[0]),
    }  # fmt: skip
    same_everywhere(source_of(nodes, ["N", size[0], 6], constants), r.choice((1, 2, 4)))


def test_sums_that_leave_64_bits_are_refused() -> None:
    nodes = [node("MatMul", "x w", "h"), node("LayerNormalization", "h g", "n", axis=-1, epsilon=1e12),
             node("MatMul", "n v")]  # fmt: skip
    source = source_of(nodes, ["N", 6], {"w": normal(6, 8), "v": normal(8, 3), "g": normal(8)})
    with pytest.raises(UnsupportedModelError, match="64 bits"):
        lowered(source, rows_of(source), 255, 1)


def test_what_has_no_unit_of_its_own_is_refused() -> None:
    """Without the pass that gives functions of counts spikes to read."""
    source = source_of([node("MatMul", "x w", "h"), node("Mul", "h x")], ["N", 4], {"w": normal(4, 4)})
    context = Context(Calibration(rows_of(source), threads=1), 1, ReferenceSimulator())
    pipeline = Pipeline.parse("clip-activations,lower", PASSES)
    with pytest.raises(UsageError, match="rectify-linear"):
        run_pipeline(pipeline, source.graph, context)
