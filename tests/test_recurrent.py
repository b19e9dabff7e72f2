"""LSTM, GRU and RNN, unrolled: what onnxruntime computes of the original, in every form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.frontend.recurrent.layer import DEFAULTS, UnrollingError
from tests.onnx_models import Array
from tests.recurrent_cells import Cell

CURVES = (
    ("Sigmoid", (), ()),
    ("Tanh", (), ()),
    ("Relu", (), ()),
    ("Affine", (0.7,), (0.2,)),
    ("LeakyRelu", (0.3,), ()),
    ("ThresholdedRelu", (0.4,), ()),
    ("ScaledTanh", (0.8,), (0.6,)),
    ("HardSigmoid", (0.3,), (0.4,)),
    ("Elu", (0.5,), ()),
    ("Softsign", (), ()),
    ("Softplus", (), ()),
)


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    kind = draw(st.sampled_from(["LSTM", "GRU", "RNN"]))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    steps, count = draw(st.integers(1, 5)), 1 + (direction == "bidirectional")
    attributes: dict[str, Any] = {}
    if draw(st.booleans()):
        curves = [draw(st.sampled_from(CURVES)) for _ in range(count * len(DEFAULTS[kind]))]
        attributes["activations"] = [name for name, _, _ in curves]
        if draw(st.booleans()) or not {"Affine", "ScaledTanh", "ThresholdedRelu"}.isdisjoint(
            name for name, _, _ in curves
        ):
            attributes["activation_alpha"] = [value for _, alphas, _ in curves for value in alphas]
            attributes["activation_beta"] = [value for _, _, betas in curves for value in betas]
            attributes = {key: values for key, values in attributes.items() if values}
    if draw(st.booleans()):
        attributes["clip"] = draw(st.sampled_from([0.3, 1.0]))
    if kind == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    if kind == "LSTM":
        attributes["input_forget"] = draw(st.integers(0, 1))
    states = ["h", "c"] if kind == "LSTM" else ["h"]
    return Cell(
        kind,
        seed=draw(st.integers(0, 2**20)),
        steps=steps,
        batch=draw(st.integers(1, 3)),
        size=draw(st.integers(1, 4)),
        hidden=draw(st.integers(1, 3)),
        direction=direction,
        initial=draw(st.lists(st.sampled_from(states), unique=True)),
        bias=draw(st.booleans()),
        peepholes=kind == "LSTM" and draw(st.booleans()),
        length=draw(st.one_of(st.none(), st.integers(1, steps))),
        **attributes,
    )


@settings(max_examples=60)
@given(cell=cells(), opset=st.sampled_from([10, 17]), fed=st.booleans())
def test_unrolled_is_what_onnxruntime_computes(cell: Cell, opset: int, fed: bool) -> None:
    found = cell.again([name for name in "hc" if name in cell.values and fed], opset)
    for name, ours, theirs in zip(cell.outputs, found, cell.original(), strict=True):
        assert ours.shape == theirs.shape, name
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_rows_first_is_the_same_with_its_axes_exchanged(kind: str, direction: str) -> None:
    """No runtime computes ``layout=1``: it is held to ``layout=0`` on the same numbers."""
    states = ["h", "c"] if kind == "LSTM" else ["h"]
    plain = Cell(kind, batch=2, direction=direction, initial=states, length=3)
    turned = Cell(kind, batch=2, direction=direction, initial=states, length=3, layout=1)
    for name in ("X", *states):
        turned.values[name] = np.ascontiguousarray(plain.values[name].swapaxes(0, 1))
    y, *last = turned.again()
    expected, *expected_last = plain.original()
    np.testing.assert_allclose(y, expected.transpose(2, 0, 1, 3), atol=1e-5)
    for ours, theirs in zip(last, expected_last, strict=True):
        np.testing.assert_allclose(ours, theirs.swapaxes(0, 1), atol=1e-5)


def test_parameters_go_to_the_activations_that_have_them() -> None:
    curves = ["HardSigmoid", "Tanh", "LeakyRelu", "sigmoid", "ELU", "Affine"]
    cell = Cell(
        "LSTM",
        direction="bidirectional",
        activations=curves,
        activation_alpha=[0.1, 0.2, 0.3, 0.4],
        activation_beta=[0.5, 0.6],
    )
    for ours, theirs in zip(cell.again(), cell.original(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def changed(cell: Cell, **values: Array) -> Cell:
    cell.values |= values
    return cell


def renamed(name: str, other: str) -> Cell:
    """Return a cell an attribute of which bears the name of another."""
    cell = Cell("RNN")
    kept = [each for each in cell.node.attribute if each.name != other]
    next(each for each in kept if each.name == name).name = other
    del cell.node.attribute[:]
    cell.node.attribute.extend(kept)
    return cell


REFUSED = {
    "its weights are computed": lambda: Cell("LSTM").unrolled(["W"]),
    "its sequence lengths are computed": lambda: Cell("LSTM", length=2).unrolled(["lens"]),
    "differ in length": lambda: changed(
        Cell("GRU", batch=2, length=2), lens=np.array([1, 2], np.int32)
    ).unrolled(),
    "does not fit 4 steps": lambda: Cell("RNN", length=5).unrolled(),
    "300 steps is too long: 256": lambda: Cell("RNN", steps=300).unrolled(),
    "activation 'Swish' is unknown": lambda: Cell("RNN", activations=["Swish"]).unrolled(),
    "Affine has no alpha or beta": lambda: Cell("RNN", activations=["Affine"]).unrolled(),
    "2 activations, not 3": lambda: Cell("LSTM", activations=["Tanh"] * 2).unrolled(),
    "do not fit 2 directions": lambda: changed(
        Cell("LSTM", direction="bidirectional"), R=np.zeros((1, 8, 2), np.float32)
    ).unrolled(),
    "biases (1, 3) do not fit": lambda: changed(Cell("GRU"), B=np.zeros((1, 3), np.float32)).unrolled(),
    "peepholes (1, 5) do not fit": lambda: changed(
        Cell("LSTM", peepholes=True), P=np.zeros((1, 5), np.float32)
    ).unrolled(),
    "initial state (1, 1, 9) does not": lambda: changed(
        Cell("RNN", initial=["h"]), h=np.ones((1, 1, 9), np.float32)
    ).unrolled(),
    "its clip -1.0 is not": lambda: Cell("RNN", clip=-1.0).unrolled(),
    "its attribute 'direction' has another type": lambda: renamed("hidden_size", "direction").unrolled(),
    "numbers of the type int64": lambda: changed(Cell("GRU"), B=np.zeros((1, 12), np.int64)).unrolled(),
    "another meaning before opset 7": lambda: Cell("RNN").unrolled(opset=6),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_unrolled(reason: str) -> None:
    with pytest.raises(UnrollingError) as caught:
        REFUSED[reason]()
    assert reason in str(caught.value)
