"""Networks of several inputs and outputs, of any shape: read, lowered, run and written like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import snnc
from snnc.artefact import Artefact, load, save
from snnc.backends import load_simulator
from snnc.backends.c99 import C99
from snnc.backends.deployment import deploy, problems, verify
from snnc.backends.loihi import Loihi
from snnc.backends.nir import Nir
from snnc.backends.spiking_onnx import SpikingOnnx
from snnc.cli import main
from snnc.cli.config import read_config
from snnc.errors import InputError, UnsupportedModelError, UsageError
from snnc.frontend import SourceModel, read_onnx
from snnc.ir.snn import Encode, Readout
from snnc.simulation.ann_reference import run_ann
from snnc.source.source_session import SourceSession
from tests.onnx_models import node, saved

Rows = dict[str, np.ndarray]
FLOAT = TensorProto.FLOAT
ROWS = 60


def weights(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in shapes.items():
        fan_in = max(1, int(np.prod(shape[1:])))
        found[name] = (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)
    return found


def proto(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    constants: Mapping[str, np.ndarray] = {},
    types: Mapping[str, int] = {},
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "detector",
        [helper.make_tensor_value_info(k, types.get(k, FLOAT), list(v)) for k, v in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def detector() -> onnx.ModelProto:
    """Two images and a vector in; classes, a map channels last, an inner value, and one value twice out."""
    nodes = [
        node("Conv", "image w0 b0", "c0", pads=[1, 1, 1, 1]),
        node("Relu", "c0", "r0"),
        node("Conv", "other w1", "c1", pads=[1, 1, 1, 1]),
        node("Add", "r0 c1", "s"),
        node("Relu", "s", "inner"),
        node("Conv", "inner w2 b2", "map", pads=[1, 1, 1, 1]),
        node("Transpose", "map", "last", perm=[0, 2, 3, 1]),
        node("Relu", "map", "r2"),
        node("GlobalAveragePool", "r2", "g"),
        node("Flatten", "g", "f"),
        node("Concat", "f vec", "fv", axis=1),
        node("Gemm", "fv w3 b3", "logits", transB=1),
        node("Softmax", "logits", "probs", axis=1),
        node("Identity", "map", "again"),
    ]
    inputs = {"image": ("N", 2, 6, 6), "vec": ("N", 3), "other": ("N", 1, 6, 6)}
    shapes = {"w0": (4, 2, 3, 3), "b0": (4,), "w1": (4, 1, 3, 3), "w2": (3, 4, 3, 3), "b2": (3,)}
    shapes |= {"w3": (5, 6), "b3": (5,)}
    return proto(nodes, inputs, ["probs", "last", "inner", "again"], weights(0, **shapes))


def rows_for(source: SourceModel, count: int = ROWS, seed: int = 1) -> Rows:
    rng = np.random.default_rng(seed)
    found = {}
    for given in source.inputs:
        shape = (count, *given.layout.source_shape)
        whole = np.dtype(given.dtype).kind in "iu"
        x = rng.integers(0, 100, shape) if whole else rng.standard_normal(shape)
        found[given.name] = x.astype(given.dtype)
    return found


def check_equal(path: Path) -> SourceModel:
    """Read a model, assert that every output is what onnxruntime makes of it, and return it."""
    source = read_onnx(path)
    source.graph.verify()
    x = rows_for(source, 3)
    names = [output.name for output in source.outputs]
    expected = dict(zip(names, ort.InferenceSession(str(path)).run(names, x), strict=True))
    canonical = {g.name: g.layout.to_canonical(x[g.name]).astype(np.float32) for g in source.inputs}
    found, _ = run_ann(source.graph, canonical)
    for output in source.outputs:
        y = found.arrays[output.name] if len(names) > 1 else found
        ours = output.layout.to_source(y)
        theirs = np.asarray(expected[output.name])
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    return source


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("networks"), detector())


@pytest.fixture(scope="module")
def made(path: Path) -> tuple[Artefact, Rows]:
    x = rows_for(read_onnx(path))
    return snnc.compile_model(path, x, preset="graded", timesteps=32, threads=1), x


def test_every_output_is_read_in_the_source_s_order(path: Path) -> None:
    source = check_equal(path)
    assert [given.name for given in source.inputs] == ["image", "vec", "other"]
    assert [node.name for node in source.graph.inputs] == ["image", "vec", "other"]
    assert source.graph.output_names == ("probs", "last", "inner", "again")
    assert source.graph.outputs[1] == source.graph.outputs[3], "one value, returned twice"
    assert [output.ends for output in source.outputs] == ["Softmax", "", "", ""]
    assert source.outputs[1].layout.source_shape == (6, 6, 3)


def test_each_input_has_a_layout_of_its_own(tmp_path: Path) -> None:
    """One image comes channels last, one channels first, and a signal flat."""
    nodes = [
        node("Transpose", "last", "l", perm=[0, 3, 1, 2]),
        node("Conv", "l w0", "a"),
        node("Conv", "first w1", "b"),
        node("Add", "a b", "s"),
        node("Relu", "s", "r"),
        node("Reshape", "flat shape", "image"),
        node("Conv", "image w2", "c"),
        node("Add", "r c", "y"),
    ]
    inputs = {"flat": ("N", 32), "last": ("N", 4, 4, 3), "first": ("N", 2, 4, 4)}
    constants = weights(3, w0=(5, 3, 1, 1), w1=(5, 2, 1, 1), w2=(5, 2, 1, 1))
    source = check_equal(
        saved(tmp_path, proto(nodes, inputs, ["y"], {**constants, "shape": np.array([-1, 2, 4, 4])}))
    )
    assert [given.layout.axes for given in source.inputs] == [(0, 1, 2), (2, 0, 1), (0, 1, 2)]
    assert [given.layout.shape for given in source.inputs] == [(2, 4, 4), (3, 4, 4), (2, 4, 4)]


@pytest.mark.parametrize(
    "kind", [TensorProto.UINT8, TensorProto.INT32, TensorProto.FLOAT16, TensorProto.DOUBLE]
)
def test_inputs_of_any_type_are_cast(tmp_path: Path, kind: int) -> None:
    nodes = [
        node("Cast", "a", "fa", to=FLOAT),
        node("Gemm", "fa w0", "l0", transB=1),
        node("Gemm", "b w1", "l1", transB=1),
        node("Add", "l0 l1", "s"),
        node("Relu", "s"),
    ]
    inputs = {"a": ("N", 3), "b": ("N", 2)}
    made = proto(nodes, inputs, ["y"], weights(4, w0=(4, 3), w1=(4, 2)), {"a": kind})
    path = saved(tmp_path, made)
    source = check_equal(path)
    x = rows_for(source)
    artefact = snnc.compile_model(path, x, preset="graded", timesteps=16, threads=1)
    assert artefact.metadata.inputs[0]["dtype"] == source.inputs[0].dtype
    expected = SourceSession(path, 1).run_all(x)["y"]
    found = artefact.decode(snnc.simulate(artefact, x, threads=1))["y"]
    assert np.square(found - expected).sum() < 0.01 * np.square(expected).sum()


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["y", "x"], "the output is an input as it is"),
        (["y", "k"], "the output does not depend on the input"),
        (["nothing", "y"], "nothing makes it"),
    ],
)
def test_what_is_no_answer_is_refused_by_its_name(tmp_path: Path, outputs: list[str], message: str) -> None:
    nodes = [node("Relu", "x"), node("Identity", "c", "k")]
    made = proto(nodes, {"x": ("N", 4)}, outputs, {"c": np.ones(4, np.float32)})
    with pytest.raises((UnsupportedModelError, InputError)) as refused:
        read_onnx(saved(tmp_path, made))
    found = getattr(refused.value, "diagnostics", ())
    if found:
        assert message in found[0].message
        assert found[0].node == next(name for name in outputs if name != "y")
        assert "--keep-output" in (found[0].help or "")


def test_different_batches_are_refused(tmp_path: Path) -> None:
    made = proto([node("Add", "a b")], {"a": (3, 4), "b": (2, 4)}, ["y"])
    with pytest.raises(UnsupportedModelError, match="different batch sizes, 'a' 3, 'b' 2"):
        read_onnx(saved(tmp_path, made))


def test_there_is_an_encoder_and_a_read_out_each(made: tuple[Artefact, Rows]) -> None:
    graph = made[0].graph
    assert [node.name for node in graph.of_type(Encode)] == ["image", "vec", "other"]
    assert list(graph.readouts) == ["probs", "last", "inner", "again"]
    assert [node.shape for node in graph.readouts.values()] == [(5,), (3, 6, 6), (4, 6, 6), (3, 6, 6)]
    assert len(graph.of_type(Readout)) == 4
    assert [node.gain is None for node in graph.readouts.values()] == [True, False, False, False]


def test_every_output_is_near_the_source_s(made: tuple[Artefact, Rows], path: Path) -> None:
    artefact, x = made
    expected = SourceSession(path, 1).run_all(x)
    found = artefact.decode(snnc.simulate(artefact, x, threads=1))
    logarithms = np.log(expected["probs"])
    expected["probs"] = logarithms - logarithms.mean(axis=1, keepdims=True)
    found["probs"] = found["probs"] - found["probs"].mean(axis=1, keepdims=True)
    for name, y in found.items():
        assert y.shape == expected[name].shape
        error = np.square(y - expected[name]).sum() / np.square(expected[name]).sum()
        assert error < (0.05 if name == "probs" else 0.01), f"{name} has an error of {error:.3f}"


def test_simulators_and_the_file_give_the_same_bits(made: tuple[Artefact, Rows], tmp_path: Path) -> None:
    artefact, x = made
    q = artefact.encode({name: array[:5] for name, array in x.items()})
    oracle = load_simulator("reference").run(artefact.graph, q, artefact.graph.timesteps)
    file = tmp_path / "a.snn.onnx"
    save(artefact, file)
    again = load(file)
    assert repr(again) == repr(artefact)
    assert again.layouts == artefact.layouts
    assert again.output_layouts == artefact.output_layouts
    for name in ("numba", "onnx"):
        found = load_simulator(name, 1).run(again.graph, q, artefact.graph.timesteps)
        assert list(found.outputs) == list(oracle.outputs) == ["probs", "last", "inner", "again"]
        for output, y in oracle.outputs.items():
            assert len(np.unique(y)) > 5
            np.testing.assert_array_equal(found.outputs[output], y)
    session = ort.InferenceSession(str(file))
    assert [entry.name for entry in session.get_inputs()] == ["image", "vec", "other"]
    fed = {name: array[:5] for name, array in x.items()}
    for y, expected in zip(session.run(None, fed), oracle.outputs.values(), strict=True):
        np.testing.assert_array_equal(y, expected)


def test_the_artefact_tells_of_all_of_them(made: tuple[Artefact, Rows]) -> None:
    artefact = made[0]
    assert "inputs image 2x6x6, vec 3, other 1x6x6" in repr(artefact)
    assert "outputs probs 5, last 6x6x3, inner 4x6x6, again 3x6x6" in repr(artefact)
    assert [entry["name"] for entry in artefact.metadata.inputs] == ["image", "vec", "other"]
    told = [(entry["name"], entry["task"], entry["ends"]) for entry in artefact.metadata.outputs]
    assert told == [("probs", "classes", "Softmax"), ("last", "", ""), ("inner", "", ""), ("again", "", "")]
    assert artefact.metadata.schema_version == 2


def test_bundles_of_c_and_onnx_are_verified(made: tuple[Artefact, Rows], tmp_path: Path) -> None:
    for backend in (C99(), SpikingOnnx("function"), SpikingOnnx("unrolled")):
        folder = tmp_path / f"{backend.name}-{backend.profile}"
        deploy(made[0], backend, folder)
        verdict = verify(folder).verdict
        assert verdict is not None
        assert (verdict.rows, verdict.wrong) == (8, 0)
    header = (tmp_path / "c99-int8" / "snnc_network.h").read_text(encoding="ascii")
    assert "const int16_t q0[SNNC_INPUTS_0], const int16_t q1[SNNC_INPUTS_1]" in header
    assert "int32_t y3[SNNC_OUTPUTS_3]" in header
    assert "snnc_class" not in header


def test_targets_of_one_answer_say_what_they_cannot_take(made: tuple[Artefact, Rows]) -> None:
    for backend in (Nir(), Loihi()):
        told = " ".join(found.message for found in problems(backend, made[0].graph))
        assert "a second of 3 inputs" in told
        assert "a second of 4 outputs" in told
        assert "a read-out of the shape (3, 6, 6)" in told


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: {"image": x["image"], "vec": x["vec"]}, "the input 'other' of .* is missing"),
        (lambda x: {**x, "third": x["vec"]}, "has no input 'third'; its inputs: 'image', 'vec', 'other'"),
        (lambda x: {**x, "vec": x["vec"][:3]}, "different numbers of rows: 'image' has 60, 'vec' has 3"),
        (lambda x: x["image"], "has 3 inputs, and one array was given"),
        (lambda x: [x["image"], x["vec"]], "has 3 inputs, and 2 arrays were given"),
        (lambda x: {**x, "vec": x["other"]}, "rows for .vec.: no layout"),
        (lambda x: {**x, "vec": np.full_like(x["vec"], np.nan)}, "'vec'.* NaN"),
    ],
)
def test_a_mistake_with_rows_is_one_line(
    made: tuple[Artefact, Rows], path: Path, wrong: Any, message: str
) -> None:
    artefact, x = made
    for call in (
        lambda y: artefact.encode(y),
        lambda y: snnc.compile_model(path, y, preset="fast", timesteps=1),
    ):
        with pytest.raises(InputError, match=message if "NaN" not in message else "NaN") as refused:
            call(wrong(x))
        assert "\n" not in str(refused.value)


def test_rows_come_as_a_sequence_or_from_an_archive(made: tuple[Artefact, Rows], tmp_path: Path) -> None:
    artefact, x = made
    few = {name: array[:3] for name, array in x.items()}
    np.savez(tmp_path / "x.npz", image=few["image"], vec=few["vec"], other=few["other"])
    expected = artefact.encode(few)
    for given in (tuple(few.values()), tmp_path / "x.npz"):
        found = artefact.encode(given)
        for name, q in expected.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], q)
    np.savez(tmp_path / "less.npz", image=x["image"])
    with pytest.raises(InputError, match="holds 'image', but no rows for the input 'vec'"):
        artefact.encode(tmp_path / "less.npz")


def test_one_preprocessing_does_not_fit_several_inputs(path: Path, made: tuple[Artefact, Rows]) -> None:
    with pytest.raises(UsageError, match="has 3 inputs, and a preprocessing is for one"):
        snnc.compile_model(path, made[1], preset="fast", timesteps=1, preprocessing={"divide": 2})


def test_a_preprocessing_of_one_input_of_several(
    path: Path, made: tuple[Artefact, Rows], tmp_path: Path
) -> None:
    ready = made[1]
    raw = {**ready, "image": ready["image"] * 4}
    (tmp_path / "rows.json").write_text('{"divide": 4}')
    given = tmp_path / "artefact.snn.onnx"
    convert = ["convert", str(path), "-T", "2", "--preset", "fast", "-o", str(given), "--threads", "1"]
    np.savez(tmp_path / "raw.npz", image=raw["image"], vec=raw["vec"], other=raw["other"])
    asked = ["--calib", str(tmp_path / "raw.npz"), "--preprocess"]
    assert main([*convert, *asked, f"image={tmp_path / 'rows.json'}"]) == 0
    artefact = load(given)
    assert artefact.preprocessing is not None
    assert artefact.preprocessing.input == "image"
    expected = snnc.compile_model(path, ready, preset="fast", timesteps=2, threads=1)
    for name, q in expected.encode(ready).arrays.items():
        np.testing.assert_array_equal(artefact.encode(raw).arrays[name], q)
    assert main([*convert, "--force", *asked, f"mask={tmp_path / 'rows.json'}"]) == 5
    assert main([*convert, "--force", *asked, str(tmp_path / "rows.json")]) == 2
    settings = tmp_path / "snnc.toml"
    settings.write_text('preprocess = "image=rows.json"\n')
    assert read_config(settings)["preprocess"] == f"image={tmp_path / 'rows.json'}"


def test_a_current_that_is_pooled_and_returned_is_returned_as_it_is(tmp_path: Path) -> None:
    """The mean's factor goes into the weights before it, which others must not read."""
    nodes = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
        node("AveragePool", "c", "a", kernel_shape=[2, 2], strides=[2, 2]),
        node("Relu", "a", "r"),
        node("Conv", "r v", "y"),
    ]
    constants = weights(5, w=(3, 2, 3, 3), b=(3,), v=(2, 3, 1, 1))
    path = saved(tmp_path, proto(nodes, {"x": ("N", 2, 4, 4)}, ["c", "a", "y"], constants))
    x = rows_for(read_onnx(path))
    artefact = snnc.compile_model(path, x["x"], preset="graded", timesteps=8, threads=1)
    expected = SourceSession(path, 1).run_all(x["x"])
    found = artefact.decode(snnc.simulate(artefact, x["x"], threads=1))
    for name, y in found.items():
        assert np.square(y - expected[name]).sum() < 0.01 * np.square(expected[name]).sum(), name


def test_a_channel_that_never_fires_still_says_what_it_is(tmp_path: Path) -> None:
    """Its weights are left out for its population, and not for the output that returns the current."""
    nodes = [node("Gemm", "x w b", "c", transB=1), node("Relu", "c", "r"), node("Gemm", "r v", "y", transB=1)]
    constants = weights(6, w=(3, 4), b=(3,), v=(2, 3))
    constants["b"][0] = -50
    path = saved(tmp_path, proto(nodes, {"x": ("N", 4)}, ["c", "y"], constants))
    x = rows_for(read_onnx(path))
    artefact = snnc.compile_model(path, x["x"], preset="graded", timesteps=8, threads=1)
    expected = SourceSession(path, 1).run_all(x["x"])["c"]
    found = artefact.decode(snnc.simulate(artefact, x["x"], threads=1))["c"]
    assert np.corrcoef(found[:, 0], expected[:, 0])[0, 1] > 0.99


def test_two_outputs_of_one_name_are_one(tmp_path: Path) -> None:
    """As onnxruntime runs them: they are the same value."""
    nodes = [node("Gemm", "x a", "h"), node("Relu", "h", "r"), node("Gemm", "r b", "y")]
    model = proto(nodes, {"x": ("N", 4)}, ["y", "r", "y"], weights(3, a=(4, 8), b=(8, 3)))
    source = read_onnx(saved(tmp_path, model))
    assert [output.name for output in source.outputs] == ["y", "r"]
    (warning,) = source.warnings
    assert (warning.code.number, warning.node) == ("SNN120", "y")
    assert "two outputs are called 'y'" in warning.message
