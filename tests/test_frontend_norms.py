"""Normalisation by statistics of its own input: as one operator, and as every exporter spells it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, helper

from snnc.diagnostics import APPROXIMATED
from snnc.frontend import check_onnx
from snnc.ir import ann
from tests.onnx_models import check_equal, kinds, model, node, normal, saved
from tests.test_frontend_products import one, same

drawn = settings(max_examples=15, deadline=None)
F = 6
CONSTANTS: dict[str, Any] = {
    "w": normal(F, F),
    "g": normal(F),
    "b": normal(F),
    "one": np.float32(1),
    "two": np.float32(2),
    "half": np.float32(0.5),
    "minus": np.float32(-0.5),
    "count": np.float32(F),
    "fewer": np.float32(F - 1),
    "eps": np.float32(1e-5),
    "tiny": np.float32(1e-12),
    "last": np.array([-1]),
}
CENTRED = [node("ReduceMean", "i", "m", axes=[-1]), node("Sub", "i m", "s")]
SQUARED = [node("Pow", "s two", "p"), node("ReduceMean", "p", "v", axes=[-1])]
ROOT = [node("Add", "v eps", "e"), node("Sqrt", "e", "d")]
SCALED = [node("Mul", "n g", "k"), node("Add", "k b", "o")]
CHAINS: dict[str, tuple[bool, list[NodeProto]]] = {
    "torch": (True, [*CENTRED, *SQUARED, *ROOT, node("Div", "s d", "n"), *SCALED]),
    "without scale": (True, [*CENTRED, *SQUARED, *ROOT, node("Div", "s d", "o")]),
    "product with the reciprocal": (
        True,
        [*CENTRED, *SQUARED, *ROOT, node("Reciprocal", "d", "r"), node("Mul", "s r", "n"), *SCALED],
    ),
    "one over the root": (
        True,
        [*CENTRED, *SQUARED, *ROOT, node("Div", "one d", "r"), node("Mul", "r s", "n"), *SCALED],
    ),
    "scale first": (
        True,
        [
            *CENTRED,
            node("Mul", "s s", "p"),
            node("ReduceMean", "p", "v", axes=[-1]),
            *ROOT,
            node("Mul", "s g", "sg"),
            node("Div", "sg d", "n"),
            node("Add", "n b", "o"),
        ],
    ),
    "keras": (
        True,
        [
            *CENTRED,
            node("Mul", "s s", "p"),
            node("ReduceMean", "p", "v", axes=[-1]),
            *ROOT,
            node("Reciprocal", "d", "r"),
            node("Mul", "r g", "rg"),
            node("Mul", "i rg", "a"),
            node("Mul", "m rg", "mr"),
            node("Sub", "b mr", "z"),
            node("Add", "a z", "o"),
        ],
    ),
    "mean of squares less square of mean": (
        True,
        [
            *CENTRED,
            node("Mul", "i i", "p"),
            node("ReduceMean", "p", "q", axes=[-1]),
            node("Mul", "m m", "mm"),
            node("Sub", "q mm", "v"),
            *ROOT,
            node("Div", "s d", "n"),
            *SCALED,
        ],
    ),
    "power of a half": (
        True,
        [*CENTRED, *SQUARED, node("Add", "v eps", "e"), node("Pow", "e half", "d"), node("Div", "s d", "o")],
    ),
    "power of minus a half": (
        True,
        [*CENTRED, *SQUARED, node("Add", "eps v", "e"), node("Pow", "e minus", "d"), node("Mul", "d s", "o")],
    ),
    "sums": (
        True,
        [
            node("ReduceSum", "i last", "t"),
            node("Div", "t count", "m"),
            node("Sub", "i m", "s"),
            node("Pow", "s two", "p"),
            node("ReduceSum", "p last", "v0"),
            node("Div", "v0 count", "v"),
            *ROOT,
            node("Div", "s d", "n"),
            *SCALED,
        ],
    ),
    "casts": (
        True,
        [
            node("Cast", "i", "i1", to=1),
            node("ReduceMean", "i1", "m", axes=[-1]),
            node("Sub", "i1 m", "s"),
            *SQUARED,
            *ROOT,
            node("Div", "s d", "n0"),
            node("Cast", "n0", "n", to=1),
            *SCALED,
        ],
    ),
    "sizes": (
        True,
        [
            *CENTRED,
            *SQUARED,
            *ROOT,
            node("Shape", "i", "z"),
            node("Expand", "d z", "d2"),
            node("Div", "s d2", "n"),
            *SCALED,
        ],
    ),
    "root mean square": (
        False,
        [
            node("Pow", "i two", "p"),
            node("ReduceMean", "p", "v", axes=[-1]),
            *ROOT,
            node("Reciprocal", "d", "r"),
            node("Mul", "i r", "n"),
            node("Mul", "n g", "o"),
        ],
    ),
    "length": (
        False,
        [node("ReduceL2", "i", "d", axes=[-1]), node("Max", "d tiny", "e"), node("Div", "i e", "o")],
    ),
}


def chain(nodes: list[NodeProto]) -> list[NodeProto]:
    """A spelling between two matrices."""
    return [node("MatMul", "x w", "i"), *nodes, node("MatMul", "o w")]


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("front", [[], [4], [3, 4]], ids=len)
def test_every_spelling_is_one_operation(name: str, front: list[int]) -> None:
    centred, nodes = CHAINS[name]
    source = same(chain(nodes), ["N", *front, F], CONSTANTS)
    found = kinds(source.graph)
    assert "Product" not in found
    made = one(source, ann.Normalisation)
    assert made.centred == centred
    epsilon = 1e-24 / F if name == "length" else 1e-5
    assert made.epsilon == pytest.approx(epsilon, rel=1e-3)
    weights = [n for n in source.graph if isinstance(n, ann.ChannelAffine | ann.Linear | ann.Convolution)]
    assert all(len(n.shape) == (3 if front else 1) for n in weights)  # one scale for each channel


def test_an_epsilon_behind_the_root_is_named(tmp_path: Path) -> None:
    """Also a standard deviation over one element fewer, which is a scale."""
    nodes = [*CENTRED, node("Pow", "s two", "p"), node("ReduceSum", "p last", "q")]
    nodes += [node("Div", "q fewer", "v"), node("Sqrt", "v", "d"), node("Add", "d eps", "e")]
    nodes += [node("Div", "s e", "n"), *SCALED]
    proto = model(chain(nodes), ["N", 4, F], CONSTANTS)
    source = check_equal(tmp_path, proto)
    assert one(source, ann.Normalisation).epsilon == pytest.approx(1e-10 * (F - 1) / F, rel=1e-3)
    (told,) = check_onnx(saved(tmp_path, proto))
    assert told.code is APPROXIMATED
    assert told.node == "Div_n"
    assert "epsilon" in told.message


def test_what_looks_like_a_norm_and_is_none_is_read_as_it_is() -> None:
    """The third power in place of the square, and a mean over other axes than those of the squares."""
    nodes = [*CENTRED, node("Mul", "s s", "p"), node("ReduceMean", "p", "v", axes=[-2]), *ROOT]
    source = same([node("MatMul", "x w", "i"), *nodes[:4], node("Mul", "s v", "y")], ["N", 4, F], CONSTANTS)
    assert "Normalisation" not in kinds(source.graph)


def test_a_mean_that_others_read_too() -> None:
    nodes = [*CHAINS["scale first"][1], node("Add", "o m", "o2"), node("Sub", "o2 v", "o3")]
    source = same([node("MatMul", "x w", "i"), *nodes, node("MatMul", "o3 w")], ["N", 4, F], CONSTANTS)
    assert one(source, ann.Normalisation).centred


@drawn
@given(st.integers(0, 2**32 - 1))
def test_operators_of_any_axes(seed: int) -> None:
    r = Random(seed)
    kind = r.choice(
        (
            "LayerNormalization",
            "InstanceNormalization",
            "GroupNormalization",
            "LpNormalization",
            "RMSNormalization",
        )
    )
    sizes = [r.choice((2, 4)), *(r.randint(2, 4) for _ in range(r.randint(1, 2)))]
    rank, opset = len(sizes) + 1, 23 if kind[0] in "RG" else 17
    order = [0, *r.sample(range(1, rank), rank - 1)]
    shape = [1, *(sizes[axis - 1] for axis in order[1:])]
    axis = r.randint(1, rank - 1)
    constants: dict[str, Any] = {"c": normal(*sizes), "w": normal(shape[-1], 3)}
    read, attributes = "h g b", {}
    if kind in ("LayerNormalization", "RMSNormalization"):
        constants["g"], constants["b"] = normal(*shape[axis:]), normal(*shape[axis:])
        attributes = {"axis": r.choice((axis, axis - rank)), "epsilon": r.choice((1e-5, 1e-2))}
        read = "h g b" if kind[0] == "L" else "h g"
    elif kind == "LpNormalization":
        read, attributes = "h", {"axis": axis}
    else:
        constants["g"], constants["b"] = normal(shape[1]), normal(shape[1])
        attributes = (
            {"num_groups": r.choice([n for n in (1, 2, 4) if shape[1] % n == 0])} if kind[0] == "G" else {}
        )
    nodes = [
        node("Mul", "x c", "h0"),
        node("Transpose", "h0", "h", perm=order),
        node(kind, read, "n", **attributes),
        node("MatMul", "n w"),
    ]
    source = same(nodes, ["N", *sizes], constants, opset=opset)
    assert len(source.graph.of_type(ann.Normalisation)) == 1


def test_group_norm_of_torch_scales_per_channel() -> None:
    """Reshape, InstanceNormalization, Reshape, and a scale for each channel."""
    nodes = [
        node("Conv", "x w", "h"),
        node("Reshape", "h grouped", "r"),
        node("InstanceNormalization", "r ones zeros", "n"),
        node("Reshape", "n back", "q"),
        node("Mul", "q g", "k"),
        node("Add", "k b", "z"),
        node("Conv", "z v"),
    ]
    constants = {
        "w": normal(4, 3, 3, 3),
        "v": normal(4, 4, 3, 3),
        "g": normal(4, 1, 1),
        "b": normal(4, 1, 1),
        "grouped": np.array([0, 2, -1]),
        "back": np.array([-1, 4, 3, 4]),
        "ones": np.ones(2, np.float32),
        "zeros": np.zeros(2, np.float32),
    }
    source = same(nodes, ["N", 3, 5, 6], constants)
    assert one(source, ann.ChannelAffine).shape == (4, 3, 4)


def test_keras_group_norm_over_the_last_axis() -> None:
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
        node("Reshape", "t grouped", "i"),
        node("ReduceMean", "i", "m", axes=[1, 2, 4]),
        node("Sub", "i m", "s"),
        node("Mul", "s s", "p"),
        node("ReduceMean", "p", "v", axes=[1, 2, 4]),
        *ROOT,
        node("Div", "s d", "n"),
        node("Mul", "n g", "k"),
        node("Reshape", "k back", "z"),
        node("Transpose", "z", "u", perm=[0, 3, 1, 2]),
        node("Conv", "u w"),
    ]
    constants = {
        "grouped": np.array([-1, 3, 5, 2, 3]),
        "back": np.array([-1, 3, 5, 6]),
        "g": normal(2, 3),
        "eps": CONSTANTS["eps"],
        "w": normal(2, 6, 1, 1),
    }
    made = one(same(nodes, ["N", 6, 3, 5], constants), ann.Normalisation)
    assert made.shape[0] == 2
    assert made.axes[0] > 0


def test_operators_of_onnxruntime() -> None:
    nodes = [
        node("MatMul", "x w", "i"),
        node("SimplifiedLayerNormalization", "i g", "n", axis=-1, epsilon=1e-3),
        node("MatMul", "n w"),
    ]
    assert not one(same(nodes, ["N", 4, F], CONSTANTS), ann.Normalisation).centred
    for kind, read in (
        ("SkipLayerNormalization", "i x g b b"),
        ("SkipSimplifiedLayerNormalization", "i x g b"),
    ):
        skip = node(kind, read, "n - - t", epsilon=1e-4)
        skip.domain = "com.microsoft"
        del skip.output[:]
        skip.output.extend(["n", "", "", "t"])
        proto = model([nodes[0], skip, node("Add", "n t")], ["N", 4, F], CONSTANTS)
        proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        source = _equal(proto)
        assert one(source, ann.Normalisation).epsilon == pytest.approx(1e-4)


def test_mean_variance_normalisation() -> None:
    nodes = [node("Conv", "x w", "h"), node("MeanVarianceNormalization", "h", axes=[0, 2, 3])]
    source = same(nodes, [1, 3, 5, 6], {"w": normal(4, 3, 3, 3)})
    assert one(source, ann.Normalisation).axes == (1, 2)


def _equal(proto: onnx.ModelProto) -> Any:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return check_equal(Path(folder), proto)
