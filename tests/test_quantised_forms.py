"""Quantised activations: whatever their form, they become rectifiers with the source's own levels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from snnc.errors import UnsupportedModelError
from snnc.frontend import read_onnx
from snnc.frontend.quantised.folding import dequantising_scale
from snnc.ir import ann
from snnc.simulation.ann_reference import run_ann
from tests.onnx_models import check_equal, model, node, original, saved

LIMIT, LEVELS = np.float32(1.7), np.float32(4)


def read_from(folder: Path, nodes: list[onnx.NodeProto], constants: Mapping[str, object]) -> ann.AnnGraph:
    names = {
        name: np.float32(value) if isinstance(value, float) else value for name, value in constants.items()
    }
    return read_onnx(saved(folder, model(nodes, (None, 3), names, opset=13))).graph


def rectifier(graph: ann.AnnGraph) -> ann.Relu:
    (found,) = graph.of_type(ann.Relu)
    assert len(graph.nodes) == 2, "the chain is one rectifier, and nothing else is left"
    return found


QCFS = [
    node("Div", "x limit", "a"),
    node("Clip", "a zero one", "b"),
    node("Mul", "b levels", "c"),
    node("Add", "c half", "d"),
    node("Floor", "d", "e"),
    node("Div", "e levels", "f"),
    node("Mul", "f limit"),
]
QCFS_DETACHED = [
    node("Mul", "x levels", "a"),
    node("Div", "a limit", "b"),
    node("Add", "b half", "c"),
    node("Floor", "c", "d"),
    node("Sub", "d c", "e"),
    node("Add", "e c", "f"),
    node("Clip", "f zero levels", "g"),
    node("Mul", "g limit", "h"),
    node("Div", "h levels"),
]
PACT = [
    node("Abs", "x", "a"),
    node("Sub", "x limit", "b"),
    node("Abs", "b", "c"),
    node("Sub", "a c", "d"),
    node("Add", "d limit", "e"),
    node("Mul", "e half", "f"),
    node("Mul", "f perunit", "g"),
    node("Round", "g", "h"),
    node("Div", "h perunit"),
]
LSQ = [
    node("Div", "x unit", "a"),
    node("Clip", "a zero levels", "b"),
    node("Round", "b", "c"),
    node("Sub", "c b", "d"),
    node("Add", "d b", "e"),
    node("Mul", "e unit"),
]
TCL = [
    node("Relu", "x", "a"),
    node("Sub", "limit a", "b"),
    node("Relu", "b", "c"),
    node("Sub", "limit c"),
]
SIGNED = [
    node("Div", "x unit", "a"),
    node("Round", "a", "b"),
    node("Clip", "b lowest three", "c"),
    node("Mul", "c unit"),
]
CONSTANTS = {
    "limit": LIMIT,
    "levels": LEVELS,
    "half": np.float32(0.5),
    "zero": np.float32(0),
    "one": np.float32(1),
    "perunit": LEVELS / LIMIT,
    "unit": LIMIT / LEVELS,
    "lowest": np.float32(-4),
    "three": np.float32(3),
}
FORMS = {
    "qcfs": (QCFS, 0, 4, "half-up"),
    "qcfs detached": (QCFS_DETACHED, 0, 4, "half-up"),
    "pact": (PACT, 0, 4, "half-even"),
    "lsq": (LSQ, 0, 4, "half-even"),
    "signed": (SIGNED, -4, 3, "half-even"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_chain_of_floats_is_recognised_by_what_it_computes(form: str, tmp_path: Path) -> None:
    nodes, lowest, highest, rounding = FORMS[form]
    found = rectifier(read_from(tmp_path, nodes, CONSTANTS))
    assert (found.lowest, found.highest, found.rounding) == (lowest, highest, rounding)
    assert found.scale == pytest.approx(LIMIT / LEVELS, rel=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_every_breakpoint_is_the_sources_to_the_last_bit(form: str, tmp_path: Path) -> None:
    """On both sides of each tie, and on it, in float32."""
    nodes, lowest, highest, _ = FORMS[form]
    path = saved(tmp_path, model(nodes, (None, 3), CONSTANTS, opset=13))
    found = rectifier(read_onnx(path).graph)
    unit = np.float64(LIMIT / LEVELS)
    ties = (np.arange(lowest - 1, highest + 2) + 0.5) * unit
    grid = np.concatenate([ties, ties * (1 + 1e-7), ties * (1 - 1e-7), ties * (1 + 1e-6), ties * (1 - 1e-6)])
    x = np.concatenate([grid.astype(np.float32), np.random.default_rng(0).normal(size=99).astype(np.float32)])
    source = original(path, "x", np.repeat(x[:, None], 3, axis=1))
    wanted = np.rint(source / unit).astype(int)
    if found.points is None:
        graph = read_onnx(path).graph
        given = np.rint(run_ann(graph, np.repeat(x[:, None], 3, axis=1))[0] / unit).astype(int)
    else:
        given = np.repeat(
            (found.lowest + np.searchsorted(found.points[0], x, side="right"))[:, None], 3, axis=1
        )
    assert (given == wanted).all()


def test_a_learned_clip_is_a_rectifier_with_a_ceiling(tmp_path: Path) -> None:
    found = rectifier(read_from(tmp_path, TCL, CONSTANTS))
    assert found.scale is None
    assert found.ceiling == pytest.approx(LIMIT, rel=1e-6)


def test_limits_of_each_channel(tmp_path: Path) -> None:
    limits = np.array([0.5, 1.0, 2.5], np.float32)
    found = rectifier(read_from(tmp_path, QCFS, CONSTANTS | {"limit": limits}))
    assert found.scale is not None
    assert np.allclose(found.scale, limits / LEVELS, rtol=1e-6)


def test_each_channel_is_compared_with_its_own_limit(tmp_path: Path) -> None:
    """Limits far apart: the slope of the channel with the small one is not lost beside the large one."""
    nodes = [node("Mul", "x g", "m"), *TCL]
    nodes[1] = node("Relu", "m", "a")
    constants = {"g": np.array([1, 2], np.float32), "limit": np.array([100, 1e-3], np.float32)}
    path = saved(tmp_path, model(nodes, (None, 2), constants, opset=13))
    x = np.array([[50, 2e-4], [120, 4e-4], [-1, 9e-4]], np.float32)
    found, _ = run_ann(read_onnx(path).graph, x)
    assert found == pytest.approx(original(path, "x", x), rel=1e-5)


def test_a_dip_beyond_the_last_step_is_no_staircase(tmp_path: Path) -> None:
    """Bisection between the ends alone passes a function by that leaves the top level and returns."""
    nodes = [
        node("Round", "x", "r"),
        node("Clip", "r zero three", "a"),
        node("Sub", "x place", "b"),
        node("Abs", "b", "c"),
        node("Sub", "one c", "d"),
        node("Relu", "d", "e"),
        node("Round", "e", "f"),
        node("Sub", "a f"),
    ]
    path = saved(tmp_path, model(nodes, (None, 1), CONSTANTS | {"place": np.float32(9.6)}, opset=13))
    x = np.linspace(-2, 15, 300, dtype=np.float32)[:, None]
    found, _ = run_ann(read_onnx(path).graph, x)
    assert found == pytest.approx(original(path, "x", x), rel=1e-5)


def test_a_bias_before_the_chain_stays_a_bias(tmp_path: Path) -> None:
    nodes = [node("Add", "x bias", "biased"), *LSQ[1:]]
    nodes.insert(1, node("Div", "biased unit", "a"))
    graph = read_from(tmp_path, nodes, CONSTANTS | {"bias": np.array([0.3, -0.2, 0.1], np.float32)})
    assert [type(each) for each in graph] == [ann.Input, ann.ChannelAffine, ann.Relu]


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Floor", "x")],
        [node("Abs", "x")],
    ],
    ids=["unbounded", "abs"],
)
def test_what_is_no_staircase_is_a_function(nodes: list[onnx.NodeProto], tmp_path: Path) -> None:
    assert [type(each) for each in read_from(tmp_path, nodes, CONSTANTS)] == [ann.Input, ann.Pointwise]


def quantised(kind: str, scale: float, zero: int) -> dict[str, object]:
    return {"s": np.float32(scale), "z": np.array(zero, kind)}


def test_qdq_is_one_rectifier(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("QuantizeLinear", "r s z", "q"), node("DequantizeLinear", "q s z")]
    found = rectifier(read_from(tmp_path, nodes, quantised("int8", 0.1, -128)))
    assert (found.lowest, found.highest, found.rounding) == (0, 255, "half-even")
    found = rectifier(read_from(tmp_path, nodes, quantised("uint8", 0.1, 10)))
    assert (found.lowest, found.highest) == (0, 245), "a rectifier before it takes the levels below zero"


def test_brevitas_says_fewer_bits_by_a_clip(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "x", "r"),
        node("QuantizeLinear", "r s z", "q"),
        node("Clip", "q low high", "c"),
        node("DequantizeLinear", "c s z"),
    ]
    constants = quantised("uint8", 0.1, 0) | {"low": np.uint8(0), "high": np.uint8(3)}
    found = rectifier(read_from(tmp_path, nodes, constants))
    assert (found.lowest, found.highest) == (0, 3)


@pytest.mark.parametrize("given", ["zero point", "output_dtype"])
def test_four_bits_are_signed_or_not(given: str, tmp_path: Path) -> None:
    kind: dict[str, Any] = {"output_dtype": TensorProto.INT4} if given == "output_dtype" else {}
    names = "s" if kind else "s z"
    nodes = [node("QuantizeLinear", f"x {names}", "q", **kind), node("DequantizeLinear", f"q {names}")]
    proto = model(nodes, (None, 3), {"s": np.float32(0.2)}, opset=21, ir_version=10)
    if not kind:
        proto.graph.initializer.append(helper.make_tensor("z", TensorProto.INT4, [], [0]))
    found = rectifier(read_onnx(saved(tmp_path, proto)).graph)
    assert (found.lowest, found.highest) == (-8, 7)


SCALES: dict[str, object] = {"s": np.array([0.1, 0.2, 0.5], np.float32), "z": np.zeros(3, np.int8)}


def test_scales_along_another_axis_are_others(tmp_path: Path) -> None:
    nodes = [node("QuantizeLinear", "x s z", "q", axis=1), node("DequantizeLinear", "q s z", axis=2)]
    check_equal(tmp_path, model(nodes, (None, 3, 3), SCALES, opset=13))


@pytest.mark.parametrize("kind", ["Transpose", "Gather"])
def test_channels_with_scales_are_not_moved(kind: str, tmp_path: Path) -> None:
    moved = {
        "Transpose": node("Transpose", "q", "t", perm=[0, 2, 1]),
        "Gather": node("Gather", "q i", "t", axis=1),
    }[kind]
    nodes = [node("QuantizeLinear", "x s z", "q", axis=1), moved, node("DequantizeLinear", "t s z", axis=1)]
    with pytest.raises(UnsupportedModelError, match="scales differ from channel to channel"):
        read_onnx(saved(tmp_path, model(nodes, (None, 3, 3), {**SCALES, "i": [2, 1, 0]}, opset=13)))


def quant_node(read: str, **attributes: Any) -> onnx.NodeProto:
    settings = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND", **attributes}
    return helper.make_node(
        "Quant",
        [read, "s", "zero", "bits"],
        ["q"],
        name="quant",
        domain="qonnx.custom_op.general",
        **settings,
    )


@pytest.mark.parametrize(
    ("bits", "mode", "levels"),
    [
        (1, "ROUND", [-1, -1, 1, 1]),
        (4, "ROUND", [-2, -2, 0, 2]),
        (4, "HALF_UP", [-3, -2, 1, 3]),
    ],
)
def test_quant_of_constants_as_qonnx_computes_it(
    bits: int, mode: str, levels: list[int], tmp_path: Path
) -> None:
    """QONNX gives one signed bit the levels -1 and 1, and rounds half up away from zero."""
    nodes = [quant_node("w", rounding_mode=mode), node("MatMul", "x q")]
    weights = np.array([[-2.5, -1.5, 0.5, 2.5]], np.float32).T
    constants = {"w": weights, "s": np.float32(1), "zero": np.float32(0), "bits": np.float32(bits)}
    (linear,) = read_onnx(saved(tmp_path, model(nodes, (None, 4), constants, opset=13))).graph.of_type(
        ann.Linear
    )
    assert linear.weight.ravel().tolist() == levels


@pytest.mark.parametrize(
    ("bits", "mode", "what"), [(4, "HALF_UP", "away from zero"), (2.5, "ROUND", "bit width 2.5")]
)
def test_what_quant_rounds_otherwise_is_refused(bits: float, mode: str, what: str, tmp_path: Path) -> None:
    nodes = [quant_node("x", rounding_mode=mode), node("Identity", "q")]
    constants = {"s": 1.0, "zero": 0.0, "bits": float(bits)}
    with pytest.raises(UnsupportedModelError, match=what):
        read_from(tmp_path, nodes, constants)


def test_scales_of_blocks_that_do_not_fill_the_axis() -> None:
    """9 rows in blocks of 4: the last block has one row."""
    dequantised = node("DequantizeLinear", "w s", axis=0, block_size=4)
    scales = dequantising_scale(dequantised, np.zeros((9, 1), np.int8), np.array([[1.0], [2.0], [3.0]]))
    assert scales.ravel().tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 3]


@pytest.mark.parametrize("op", ["Quant", "IntQuant"])
@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general"])
def test_quant_of_qonnx(domain: str, op: str, tmp_path: Path) -> None:
    quant = helper.make_node(
        op, ["x", "s", "zero", "bits"], ["y"], domain=domain, signed=1, narrow=1, rounding_mode="ROUND"
    )
    constants = {"s": np.float32(0.25), "zero": np.float32(0), "bits": np.float32(3)}
    found = rectifier(read_from(tmp_path, [quant], constants))
    assert (found.lowest, found.highest, found.rounding) == (-3, 3, "half-even")


@pytest.mark.parametrize(
    ("op", "domain", "what"),
    [
        ("ConvInteger", "", "dynamic quantisation"),
        ("MatMulInteger", "", "dynamic quantisation"),
        ("DynamicQuantizeLinear", "", "dynamic quantisation"),
        ("DynamicQuantizeMatMul", "com.microsoft", "dynamic quantisation"),
        ("MatMulIntegerToFloat", "com.microsoft", "dynamic quantisation"),
        ("MultiThreshold", "qonnx.custom_op.general", "MultiThreshold"),
        ("BipolarQuant", "qonnx.custom_op.general", "BipolarQuant"),
        ("QLinearSigmoid", "com.microsoft", "QLinearSigmoid"),
    ],
)
def test_what_is_not_read_is_refused_by_name(op: str, domain: str, what: str, tmp_path: Path) -> None:
    from snnc.frontend.onnx import check_onnx

    read = ["x"] if op == "DynamicQuantizeLinear" else ["x", "w"]
    written = ["y", "s", "z"] if op == "DynamicQuantizeLinear" else ["y"]
    nodes = [helper.make_node(op, read, written, name="n", domain=domain)]
    proto = model(nodes, (None, 3), {"w": np.ones((3, 2), np.int8)}, opset=13)
    proto.opset_import.append(helper.make_opsetid(domain or "x", 1))
    found = check_onnx(saved(tmp_path, proto))
    assert any(what in str(each) for each in found), [str(each) for each in found]


def test_integers_are_not_computed_with(tmp_path: Path) -> None:
    from snnc.frontend.onnx import check_onnx

    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("Cast", "q", "c", to=TensorProto.FLOAT),
        node("Mul", "c two"),
    ]
    proto = model(nodes, (None, 3), quantised("uint8", 0.1, 3) | {"two": np.float32(2)}, opset=13)
    (found,) = check_onnx(saved(tmp_path, proto))
    assert found.code.number == "SNN107"
    assert found.node == "Cast_c"


def test_weights_keep_their_scale(tmp_path: Path) -> None:
    integers = np.array([[4, -2, 6], [0, 0, 2]], np.int8)
    nodes = [
        node("DequantizeLinear", "w ws wz", "d", axis=0),
        node("Transpose", "d", "t", perm=[1, 0]),
        node("MatMul", "x t"),
    ]
    constants = {"w": integers, "ws": np.array([0.5, 0.25], np.float32), "wz": np.zeros(2, np.int8)}
    graph = read_from(tmp_path, nodes, constants)
    (linear,) = graph.of_type(ann.Linear)
    assert linear.weight_scale is not None
    assert np.array_equal(np.rint(linear.weight / linear.weight_scale[:, None]), integers)


SIGNED_GRID: dict[str, object] = {"scale": np.float32(0.05), "zero": np.int8(0)}
UNSIGNED_GRID: dict[str, object] = {"scale": np.float32(0.3), "zero": np.uint8(0)}
ROUNDED = [node("QuantizeLinear", "x scale zero", "q"), node("DequantizeLinear", "q scale zero", "d")]
LIMITED_BY_WHERE = [node("Greater", "d one", "b"), node("Where", "b one d", "h")]


@pytest.mark.parametrize("limit", [[node("Min", "d one", "h")], LIMITED_BY_WHERE], ids=["min", "where"])
def test_a_limit_of_signed_levels_is_no_rectifier(tmp_path: Path, limit: list[onnx.NodeProto]) -> None:
    proto = model([*ROUNDED, *limit, node("Identity", "h")], (None, 3), {"one": np.float32(1), **SIGNED_GRID})
    graph = check_equal(tmp_path, proto, rows=100).graph
    assert [type(each) for each in graph] == [ann.Input, ann.Relu, ann.Pointwise]


@pytest.mark.parametrize("limit", [0.5, 0.9, 1.0, 100.0])
def test_a_limit_behind_levels_need_not_be_one_of_them(tmp_path: Path, limit: float) -> None:
    proto = model([*ROUNDED, node("Min", "d one")], (None, 3), {"one": np.float32(limit), **UNSIGNED_GRID})
    check_equal(tmp_path, proto, rows=100)


def test_a_limit_of_levels_is_none_of_what_was_rounded(tmp_path: Path) -> None:
    """0.49 lies below the limit, and its level above: the source returns the level."""
    nodes = [*ROUNDED, node("Greater", "x one", "b"), node("Where", "b one d")]
    with pytest.raises(UnsupportedModelError, match="another activation"):
        read_from(tmp_path, nodes, {"one": 0.5, **UNSIGNED_GRID})


def test_a_scale_for_each_row_is_refused(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", "x scale zero", "q", axis=0),
        node("DequantizeLinear", "q scale zero", axis=0),
    ]
    constants = {"scale": np.array([0.5, 0.25], np.float32), "zero": np.zeros(2, np.uint8)}
    with pytest.raises(UnsupportedModelError, match="2 scales along axis 0"):
        read_from(tmp_path, nodes, constants)
