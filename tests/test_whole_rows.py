"""Files for a batch of one, some inputs of which do not have it in front, and inputs that get a value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import snnc
from snnc.cli import main
from snnc.errors import UsageError
from snnc.frontend import read_onnx
from snnc.source.selection import Selection
from snnc.source.source_session import SourceSession
from snnc.source.whole_rows import whole_rows

ROWS = 120
LAYERS, SIZE, WIDTH = 2, 3, 4


def recurrent(path: Path, batch: int | str = 1) -> Path:
    """A step of two recurrent layers: (1, 4) and a state (2, 1, 3), whose order an If reads from a number."""
    random = np.random.default_rng(0)

    def constant(name: str, array: Any) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(array), name)

    def branch(first: int) -> onnx.GraphProto:
        """Take a layer of the state, which belongs to the graph around."""
        nodes = [helper.make_node("Gather", ["state", f"layer{first}"], [f"taken{first}"], axis=0)]
        kind = helper.make_tensor_value_info(f"taken{first}", TensorProto.FLOAT, [1, SIZE])
        return helper.make_graph(nodes, f"branch{first}", [], [kind])

    nodes = [
        helper.make_node("Equal", ["rate", "fast"], ["is_fast"]),
        helper.make_node("If", ["is_fast"], ["h"], then_branch=branch(0), else_branch=branch(1)),
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["h", "u"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["y"]),
        helper.make_node("Unsqueeze", ["y", "zero"], ["y3"]),
        helper.make_node("Unsqueeze", ["h", "zero"], ["h3"]),
        helper.make_node("Concat", ["y3", "h3"], ["next"], axis=0),
        helper.make_node("MatMul", ["y", "v"], ["z"]),
    ]
    stored = [
        constant("w", random.standard_normal((WIDTH, SIZE)).astype(np.float32)),
        constant("u", random.standard_normal((SIZE, SIZE)).astype(np.float32)),
        constant("v", random.standard_normal((SIZE, 2)).astype(np.float32)),
        constant("zero", np.array([0])),
        constant("layer0", np.array(0)),
        constant("layer1", np.array(1)),
        constant("fast", np.array(16000)),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, WIDTH]),
        helper.make_tensor_value_info("state", TensorProto.FLOAT, [LAYERS, 1, SIZE]),
        helper.make_tensor_value_info("rate", TensorProto.INT64, []),
    ]
    outputs = [
        helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 2]),
        helper.make_tensor_value_info("next", TensorProto.FLOAT, [LAYERS, 1, SIZE]),
    ]
    graph = helper.make_graph(nodes, "recurrent", inputs, outputs, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)
    return path


def rows() -> dict[str, Any]:
    random = np.random.default_rng(1)
    return {
        "x": random.standard_normal((ROWS, WIDTH)).astype(np.float32),
        "state": random.standard_normal((ROWS, LAYERS, 1, SIZE)).astype(np.float32),
    }


def expected(path: Path, given: dict[str, Any], rate: int) -> dict[str, Any]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = [
        session.run(["z", "next"], {"x": x[None], "state": state, "rate": np.array(rate)})
        for x, state in zip(given["x"], given["state"], strict=True)
    ]
    z, states = ([np.asarray(answer[place]) for answer in found] for place in range(2))
    return {"z": np.concatenate(z), "next": np.stack(states)}


@pytest.mark.parametrize("rate", [16000, 8000])
def test_the_source_answers_as_the_file_does(tmp_path: Path, rate: int) -> None:
    path, given = recurrent(tmp_path / "r.onnx"), rows()
    selection = Selection.parse((), (), (f"rate={rate}",))
    found = SourceSession(path, selection=selection).run_all(given)
    for name, values in expected(path, given, rate).items():
        np.testing.assert_allclose(found[name].reshape(values.shape), values, rtol=1e-5, atol=1e-6)


def test_a_state_is_an_input_of_the_spiking_network(tmp_path: Path) -> None:
    path, given = recurrent(tmp_path / "r.onnx"), rows()
    made = snnc.compile_model(path, given, fix={"rate": 16000}, preset="precise", timesteps=1, threads=1)
    assert {name: form.shape for name, form in made.takes.items()} == {
        "x": (WIDTH,),
        "state": (LAYERS, 1, SIZE),
    }
    wanted = expected(path, given, 16000)
    found = made.decode(snnc.simulate(made, given, threads=1))
    for name, values in wanted.items():
        error = np.square(found[name].reshape(values.shape) - values).mean() / values.var()
        assert error < 1e-3, name


def test_shapes_of_whole_rows() -> None:
    def graph(**shapes: list[int | str]) -> onnx.GraphProto:
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
        return helper.make_graph([], "g", infos, [])

    assert whole_rows(graph(x=[1, 4], state=[2, 1, 3])) == {"state": (2, 1, 3)}
    assert whole_rows(graph(x=[1, 4], offset=[4])) == {"offset": (4,)}
    assert not whole_rows(graph(x=[1, 4], gain=[], offset=[4])), "a number is to be fixed"
    assert whole_rows(graph(x=[48])) == {"x": (48,)}
    # A batch that is free, or is two, or sizes that are not known: nothing is taken for a whole row.
    assert not whole_rows(graph(x=["n", 4], state=[2, 1, 3]))
    assert not whole_rows(graph(x=[2, 4], state=[2, 1, 3]))
    assert not whole_rows(graph(x=[1, "size"], state=[2, 1, 3]))
    assert not whole_rows(graph(x=[1, 4], y=[1, 2, 3]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate", "write NAME=16000"),
        ("rate=fast", "write NAME=16000"),
        ("rate=nan", "write NAME=16000"),
        ("speed=1", "has no input 'speed'; its inputs: 'x', 'state', 'rate'"),
        ("rate=1.5", "the input takes int64: give whole numbers that fit"),
        ("rate=99999999999999999999", "give whole numbers that fit"),
        ("rate=1,2", r"the shape \(\): give one number, or 1"),
        ("x=1,2", r"the shape \(1, 4\): give one number, or 4"),
    ],
)
def test_values_that_do_not_fit(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_onnx(recurrent(tmp_path / "r.onnx"), selection=Selection.parse((), (), (text,)))


def test_a_value_may_be_given_once() -> None:
    with pytest.raises(UsageError, match="names the input 'a' twice"):
        Selection.parse((), (), ("a=1", "a=2"))


def test_something_must_be_left(tmp_path: Path) -> None:
    path = recurrent(tmp_path / "r.onnx")
    with pytest.raises(UsageError, match="has no input left"):
        read_onnx(path, selection=Selection.parse((), (), ("x=0", "state=0", "rate=16000")))


def test_the_artefact_remembers_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, given = recurrent(tmp_path / "r.onnx"), rows()
    np.savez(tmp_path / "rows.npz", **given)
    made = tmp_path / "r.snn.onnx"
    asked = ["--calib", str(tmp_path / "rows.npz"), "--fix", "rate=8000", "--preset", "precise", "-T", "1"]
    assert main(["convert", str(path), *asked, "-o", str(made), "--threads", "1"]) == 0
    judged = ["--data", str(tmp_path / "rows.npz"), "--against", "source", "--threads", "1"]
    assert main(["eval", str(made), *judged, "--json"]) == 0
    assert '"sqnr"' in capsys.readouterr().out


def test_where_the_batch_is_free_the_cures_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recurrent(tmp_path / "r.onnx", batch="n")
    assert main(["check", str(path)]) == 3
    assert "--fix rate=VALUE" in capsys.readouterr().out
    assert main(["check", str(path), "--fix", "rate=8000", "--shape", "x=1,4"]) == 0
    told = capsys.readouterr().out
    assert "SNN124 at 'state'" in told
    assert "(n, 2, 1, 3)" in told
