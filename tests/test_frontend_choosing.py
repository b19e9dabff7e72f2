"""Limits that are spelled as comparisons and Where: read as what they compute, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from snnc.errors import UnsupportedModelError
from snnc.frontend import read_onnx
from snnc.ir import ann
from tests.onnx_models import Array, check_equal, model, node, normal, saved

SHAPE: list[int | str | None] = ["N", 3, 6, 6]
CONSTANTS: dict[str, Array] = {
    "w": normal(3, 3, 3, 3),
    "low": np.zeros((), np.float32),
    "high": np.full((), 0.5, np.float32),
    "channels": np.array([0.2, 0.5, 1], np.float32).reshape(3, 1, 1),
    "zeros": np.zeros((1, 3, 4, 4), np.float32),
}


def network(*nodes: onnx.NodeProto, first: str = "Identity") -> onnx.ModelProto:
    """Return a convolution, what is given, from ``a`` to ``b``, and a convolution."""
    return model(
        [node("Conv", "x w", "c"), node(first, "c", "a"), *nodes, node("Conv", "b w", "y")], SHAPE, CONSTANTS
    )


def rectifier(folder: Path, proto: onnx.ModelProto) -> ann.Relu:
    """Assert that a network is read as it computes, by one rectifier, and return that."""
    (found,) = check_equal(folder, proto, rows=4).graph.of_type(ann.Relu)
    return found


@pytest.mark.parametrize(
    ("compared", "chosen"),
    [
        (node("Less", "a low", "k"), "k low a"),
        (node("LessOrEqual", "a low", "k"), "k zeros a"),
        (node("Greater", "a zeros", "k"), "k a low"),
        (node("GreaterOrEqual", "a low", "k"), "k a zeros"),
        (node("Greater", "low a", "k"), "k low a"),
    ],
)
def test_a_rectifier_as_a_choice(tmp_path: Path, compared: onnx.NodeProto, chosen: str) -> None:
    proto = network(compared, node("Where", chosen, "b"))
    assert rectifier(tmp_path, proto).ceiling is None


def test_a_negated_comparison(tmp_path: Path) -> None:
    proto = network(node("Greater", "a low", "k"), node("Not", "k", "m"), node("Where", "m low a", "b"))
    assert rectifier(tmp_path, proto).ceiling is None


def test_a_comparison_that_is_cast_to_what_it_is(tmp_path: Path) -> None:
    proto = network(node("Less", "a low", "k"), node("Cast", "k", "m", to=9), node("Where", "m low a", "b"))
    assert rectifier(tmp_path, proto).ceiling is None


@pytest.mark.parametrize("high", ["high", "channels"])
@pytest.mark.parametrize("first", ["Identity", "Relu"])
@pytest.mark.parametrize("order", ["above below", "below above", "nested", "one after the other"])
def test_a_clip_as_two_choices(tmp_path: Path, order: str, first: str, high: str) -> None:
    compared = [node("Greater", f"a {high}", "g"), node("Less", "a low", "l")]
    nodes = {
        "above below": [*compared, node("Where", f"g {high} a", "m"), node("Where", "l low m", "b")],
        "below above": [*compared, node("Where", "l low a", "m"), node("Where", f"g {high} m", "b")],
        "nested": [*compared[::-1], node("Where", f"g {high} a", "m"), node("Where", "l zeros m", "b")],
        "one after the other": [
            compared[0],
            node("Where", f"g {high} a", "m"),
            node("Less", "m low", "l"),
            node("Shape", "m", "size"),
            node("ConstantOfShape", "size", "filled"),
            node("Where", "l filled m", "b"),
        ],
    }[order]
    ceiling = rectifier(tmp_path, network(*nodes, first=first)).ceiling
    assert ceiling is not None
    np.testing.assert_array_equal(ceiling, np.broadcast_to(CONSTANTS[high].ravel(), 3))


CHOICES = [
    "Greater a high k; Where k low a b",
    "Greater a high k; Where k high a b",
    "Greater a low k; Where k low a b",
    "Less a high k; Where k high a b",
    "Less a low k; Cast k b",
    "Greater a high k; Where k high a m; Cast m b",
    "Greater a high g; Where g high a m; Less m high l; Where l low m b",
    "Clip a low high r; Greater a channels k; Where k channels r b",
    "Relu a r; Neg a n; Less n low k; Where k low r b",
]


def made(nodes: str) -> list[onnx.NodeProto]:
    return [
        node(op, " ".join(read), written, **({"to": 1} if op == "Cast" else {}))
        for op, *read, written in (line.split() for line in nodes.split("; "))
    ]


@pytest.mark.parametrize("nodes", CHOICES)
def test_other_choices_are_functions_of_one_value(tmp_path: Path, nodes: str) -> None:
    graph = check_equal(tmp_path, network(*made(nodes))).graph
    assert len(graph.of_type(ann.Pointwise)) == 1


def test_a_choice_that_changes_nothing(tmp_path: Path) -> None:
    graph = check_equal(tmp_path, network(*made("Relu a r; Less a low k; Where k a r b"))).graph
    assert [type(each) for each in graph] == [ann.Input, ann.Convolution, ann.Convolution]


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ("Relu a r; Conv r w v; Less v low k; Where k r v b", "chooses between two activations"),
        ("Conv a w v; Less a v k; Where k low a b", "compares two activations"),
    ],
)
def test_other_choices_are_refused(tmp_path: Path, nodes: str, says: str) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        read_onnx(saved(tmp_path, network(*made(nodes))))
