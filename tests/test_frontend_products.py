"""Products, quotients, softmax and maxima of activations: read as one operation each."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto

from snnc.frontend import SourceModel
from snnc.ir import ann
from tests.onnx_models import check_equal, kinds, model, node, normal

drawn = settings(max_examples=15, deadline=None)


def same(
    nodes: list[NodeProto], shape: list[Any], constants: dict[str, Any] | None = None, **options: Any
) -> SourceModel:
    """Read a network, assert that it computes what onnxruntime does, and return it."""
    with tempfile.TemporaryDirectory() as folder:
        return check_equal(Path(folder), model(nodes, shape, constants or {}, **options))


def one(source: SourceModel, kind: type[ann.AnnNode]) -> Any:
    """Return the only node of a kind."""
    (found,) = source.graph.of_type(kind)
    return found


def test_squeeze_and_excitation_repeats_the_gate() -> None:
    nodes = [
        node("Conv", "x w", "h"),
        node("GlobalAveragePool", "h", "p"),
        node("Conv", "p v", "q"),
        node("Relu", "q", "g"),
        node("Mul", "h g"),
    ]
    source = same(nodes, ["N", 3, 6, 6], {"w": normal(4, 3, 3, 3), "v": normal(4, 4, 1, 1)})
    made = one(source, ann.Product)
    assert [source.graph[name].shape for name in made.inputs] == [(4, 4, 4), (4, 1, 1)]


@drawn
@given(st.integers(0, 2**32 - 1))
def test_products_of_any_shapes(seed: int) -> None:
    """Axes of size 1 of either factor, in any layout, before weights."""
    r = Random(seed)
    sizes = [r.randint(1, 4) for _ in range(r.randint(1, 3))]
    other = [n if r.random() < 0.6 else 1 for n in sizes]
    kind = r.choice(("Mul", "Div", "Max", "Min"))
    order = [0, *r.sample(range(1, len(sizes) + 1), len(sizes))]
    constants = {"a": normal(*sizes), "s": np.array([0] * len(other) + [0]), "k": np.abs(normal(*other)) + 5}
    axes = [axis + 1 for axis, n in enumerate(other) if n == 1]
    nodes = [
        node("Mul", "x a", "left"),
        node("Relu", "x", "b"),
        *([node("ReduceMean", "b", "c", axes=axes)] if axes else [node("Identity", "b", "c")]),
        node("Add", "c k", "right"),
        node(kind, r.choice(("left right", "right left" if kind != "Div" else "left right")), "h"),
        node("Transpose", "h", "t", perm=order),
        node("Flatten", "t", "f", axis=1),
        node("MatMul", "f w"),
    ]
    constants["w"] = normal(int(np.prod(sizes)), 3)
    source = same(nodes, ["N", *sizes], constants)
    product = {"Product", "Pointwise"}.intersection(kinds(source.graph))
    assert product or kind not in ("Mul", "Div")


def test_a_product_with_itself_and_a_constant_over_it() -> None:
    squared = same([node("MatMul", "x w", "h"), node("Mul", "h h")], ["N", 4], {"w": normal(4, 4)})
    assert one(squared, ann.Pointwise).program == "Mul(x, x)"
    nodes = [node("Abs", "c", "d"), node("Add", "x k", "h"), node("Div", "d h")]
    source = same(nodes, ["N", 4], {"c": normal(4), "k": np.full(4, 9, np.float32)})
    assert one(source, ann.Pointwise).program == "Div(c0, x)"


@drawn
@given(st.integers(0, 2**32 - 1))
def test_products_of_matrices(seed: int) -> None:
    """MatMul and Einsum of two tensors of any number of leading axes, each transposed or not."""
    r = Random(seed)
    front = [r.randint(1, 3) for _ in range(r.randint(0, 2))]
    i, k, j = (r.randint(1, 4) for _ in range(3))
    rank = len(front) + 3
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    turn = [r.random() < 0.5 for _ in range(2)]
    left, right = (
        [1, *front, *((n, m) if t else (m, n))] for (m, n), t in zip(((i, k), (k, j)), turn, strict=True)
    )
    if front and r.random() < 0.5:
        right[1] = 1
    size = r.randint(2, 5)
    nodes = [node("MatMul", "x u", "p"), node("MatMul", "x v", "q")]
    for name, source, t in (("a", "p", turn[0]), ("b", "q", turn[1])):
        nodes.append(node("Reshape", f"{source} {name}s", f"{name}0"))
        nodes.append(node("Transpose", f"{name}0", name, perm=swapped if t else list(range(rank))))
    if r.random() < 0.5:
        nodes.append(node("MatMul", "a b"))
    else:
        axes = "nxyz"[: rank - 2]
        theirs = axes if right[1:2] == left[1:2] else axes.replace("x", "")
        if theirs != axes:
            nodes.append(node("Squeeze", "b axis", "b1"))
        result = r.choice((f"{axes}ij", f"{axes}ji"))
        nodes.append(
            node("Einsum", "a b1" if theirs != axes else "a b", equation=f"{axes}ik,{theirs}kj->{result}")
        )
    constants = {
        "u": normal(size, int(np.prod(left))),
        "v": normal(size, int(np.prod(right))),
        "as": np.array(left),
        "bs": np.array(right),
        "axis": np.array([1]),
    }
    constants["as"][0] = constants["bs"][0] = -1
    assert kinds(same(nodes, ["N", size], constants).graph).count("MatrixProduct") <= 1


def attention(heads: int, length: int, features: int, form: str) -> list[NodeProto]:
    """Multi-head attention of (batch, sequence, features) in one exporter's form, with a causal mask."""
    nodes = []
    for name in "qkv":
        nodes += [node("MatMul", f"x w{name}", f"{name}0"), node("Add", f"{name}0 b{name}", name)]
    if form == "merged":  # (batch heads, sequence, features)
        for name in "qkv":
            nodes += [
                node("Transpose", name, f"{name}1", perm=[1, 0, 2]),
                node("Reshape", f"{name}1 flat", f"{name}2"),
                node("Transpose", f"{name}2", f"{name}h", perm=[1, 0, 2]),
            ]
        nodes.append(node("Transpose", "kh", "kt", perm=[0, 2, 1]))
    else:
        for name in "qkv":
            perm = [0, 2, 3, 1] if name == "k" and form == "direct" else [0, 2, 1, 3]
            nodes += [
                node("Reshape", f"{name} split", f"{name}1"),
                node("Transpose", f"{name}1", f"{name}h", perm=perm),
            ]
        turned = node("Transpose", "kh", "kt", perm=[0, 1, 3, 2])
        nodes.append(node("Identity", "kh", "kt") if form == "direct" else turned)
    if form == "einsum":
        nodes.append(node("Einsum", "qh kh", "s0", equation="bhid,bhjd->bhij"))
    else:
        nodes.append(node("MatMul", "qh kt", "s0"))
    nodes += [
        node("Div", "s0 root", "s1") if form == "merged" else node("Mul", "s0 scale", "s1"),
        node("Where", "seen s1 lowest", "s2") if form == "direct" else node("Add", "s1 mask", "s2"),
        node("Softmax", "s2", "p", axis=-1),
        node("MatMul", "p vh", "o"),
    ]
    if form == "merged":
        nodes += [node("Transpose", "o", "o1", perm=[1, 0, 2]), node("Reshape", "o1 rows", "o2")]
        nodes.append(node("Transpose", "o2", "o3", perm=[1, 0, 2]))
    else:
        nodes += [node("Transpose", "o", "o2", perm=[0, 2, 1, 3]), node("Reshape", "o2 joined", "o3")]
    return [*nodes, node("MatMul", "o3 wo")]


@pytest.mark.parametrize("form", ["plain", "direct", "merged", "einsum"])
def test_attention(form: str) -> None:
    heads, length, features = 2, 5, 8
    each = features // heads
    seen = np.tril(np.ones((length, length), bool))
    constants: dict[str, Any] = {
        **{f"w{name}": normal(features, features) for name in "qkvo"},
        **{f"b{name}": normal(features) for name in "qkv"},
        "split": np.array([0, length, heads, each]),
        "joined": np.array([0, length, features]),
        "flat": np.array([length, heads, each]),
        "rows": np.array([length, 1, features]),
        "scale": np.float32(each**-0.5),
        "root": np.float32(each**0.5),
        "seen": seen,
        "lowest": np.float32(-np.inf),
        "mask": np.where(seen, 0, -np.inf if form == "plain" else -3.4e38).astype(np.float32),
    }
    source = same(attention(heads, length, features, form), [1, length, features], constants)
    assert kinds(source.graph).count("MatrixProduct") == 2
    assert one(source, ann.InnerSoftmax).axis == 2


@drawn
@given(st.integers(0, 2**32 - 1))
def test_softmax_and_maxima_over_any_axes(seed: int) -> None:
    r = Random(seed)
    sizes = [r.randint(1, 4) for _ in range(r.randint(2, 3))]
    sizes[r.randrange(len(sizes))] = 3
    opset = r.choice((11, 13, 17))
    rank = len(sizes) + 1
    order = [0, *r.sample(range(1, rank), rank - 1)]
    chosen = [axis for axis in range(1, rank) if sizes[order[axis] - 1] > 1]
    axis = r.choice([*chosen, *(a - rank for a in chosen)])
    kind = r.choice(("Softmax", "Softmax", "ReduceMax", "ReduceMin"))
    if kind == "Softmax":
        middle = node("Softmax", "h", "s", axis=axis)
    else:
        middle = node(
            kind, "h", "s", axes=r.sample(chosen, r.randint(1, len(chosen))), keepdims=r.randint(0, 1)
        )
    behind = r.random() < 0.5
    nodes = [
        node("Mul", "x c", "h0"),
        node("Transpose", "h0", "h", perm=order),
        middle,
        node("Flatten", "s", "f", axis=1),
        *([node("Mul", "f half", "z"), node("Relu", "z")] if behind else [node("Identity", "f", "y")]),
    ]
    same(nodes, ["N", *sizes], {"c": normal(*sizes), "half": np.float32(0.5)}, opset=opset)


def test_the_classes_need_no_softmax_and_the_middle_does() -> None:
    nodes = [node("MatMul", "x w", "h"), node("Softmax", "h", axis=-1)]
    assert "Softmax" in kinds(same(nodes, ["N", 4], {"w": normal(4, 4)}).graph)
    nodes = [node("MatMul", "x w", "h"), node("Softmax", "h", "s", axis=-1), node("Mul", "s x")]
    assert "InnerSoftmax" in kinds(same(nodes, ["N", 4], {"w": normal(4, 4)}).graph)


def test_a_sum_of_squares() -> None:
    nodes = [node("MatMul", "x w", "h"), node("ReduceSumSquare", "h", axes=[1])]
    assert "Product" in kinds(same(nodes, ["N", 3, 4], {"w": normal(4, 4)}).graph)


@pytest.mark.parametrize("operator", ["ReduceL1", "ReduceL2"])
@pytest.mark.parametrize("opset", [13, 18])
def test_the_length_of_a_vector(operator: str, opset: int) -> None:
    given: dict[str, Any] = {} if opset > 13 else {"axes": [1]}
    nodes = [node("MatMul", "x w", "h"), node(operator, "h axes" if opset > 13 else "h", keepdims=0, **given)]
    constants = {"w": normal(4, 4)} | ({"axes": np.array([1])} if opset > 13 else {})
    graph = same(nodes, ["N", 3, 4], constants, opset=opset).graph
    assert "Pointwise" in kinds(graph)


def test_where_by_a_constant_is_a_sum() -> None:
    chosen = np.array([True, False, True, False])
    nodes = [node("Relu", "x", "r"), node("MatMul", "x w", "h"), node("Where", "c r h")]
    same(nodes, ["N", 4], {"c": chosen, "w": normal(4, 4)})
    same([node("Relu", "x", "r"), node("Where", "c k r")], ["N", 4], {"c": chosen, "k": normal(4)})
