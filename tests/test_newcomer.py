"""The walk of somebody who has a network, own rows, and the page on these: commands and mistakes.

The network is exported by PyTorch where that is installed; elsewhere it is the file that PyTorch writes.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnc.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "own-rows.md"
HIGH, WIDE = 6, 10
TORCH = importlib.util.find_spec("torch") is not None

Rows = np.ndarray
LAYOUTS: dict[str, Callable[[Rows], Rows]] = {
    "channels last": lambda x: x,
    "channels first": lambda x: x.transpose(0, 3, 1, 2),
}


def images(n: int, seed: int) -> tuple[Rows, Rows]:
    """Return images (n, HIGH, WIDE, 3) uint8, and which colour is the brightest, (n,)."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, n)
    x = random.uniform(0, 120, (n, HIGH, WIDE, 3))
    x[np.arange(n), :, :, labels] += random.uniform(25, 100, n)[:, None, None]
    return x.astype(np.uint8), labels


def weights() -> dict[str, Rows]:
    """Return weights that tell the colours apart, as training would find them."""
    conv = np.zeros((6, 3, 3, 3), np.float32)
    for colour in range(3):
        conv[colour, colour] = 1 / 9
        conv[3 + colour] = -1 / 18
        conv[3 + colour, colour] = 1 / 9
    fc = np.concatenate([np.eye(3), 2 * np.eye(3)], axis=1).astype(np.float32)
    return {
        "0.weight": conv,
        "0.bias": np.zeros(6, np.float32),
        "4.weight": 4 * fc,
        "4.bias": np.zeros(3, np.float32),
    }


def export(path: Path) -> None:
    """Write the network as PyTorch does, and by it where it is installed."""
    if TORCH:
        torch: Any = importlib.import_module("torch")
        nn = torch.nn
        module = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
        )
        module.load_state_dict({name: torch.from_numpy(values) for name, values in weights().items()})
        example = torch.zeros(1, 3, HIGH, WIDE)
        names = {"input_names": ["input"], "output_names": ["output"]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the exporter that most files are from
            torch.onnx.export(module.eval(), (example,), str(path), dynamo=False, **names)
        return
    nodes = [
        helper.make_node(
            "Conv", ["input", "0.weight", "0.bias"], ["/0/Conv_output_0"], "/0/Conv", pads=[1] * 4
        ),
        helper.make_node("Relu", ["/0/Conv_output_0"], ["/1/Relu_output_0"], "/1/Relu"),
        helper.make_node(
            "GlobalAveragePool", ["/1/Relu_output_0"], ["/2/Pool_output_0"], "/2/GlobalAveragePool"
        ),
        helper.make_node("Flatten", ["/2/Pool_output_0"], ["/3/Flatten_output_0"], "/3/Flatten"),
        helper.make_node(
            "Gemm", ["/3/Flatten_output_0", "4.weight", "4.bias"], ["output"], "/4/Gemm", transB=1
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, HIGH, WIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(values, name) for name, values in weights().items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page takes for granted: network.onnx, train.npz, test.npz and images.json."""
    folder = tmp_path_factory.mktemp("newcomer")
    export(folder / "network.onnx")
    x, _ = images(200, 1)
    np.savez(folder / "train.npz", x=x)
    x, y = images(100, 2)
    np.savez(folder / "test.npz", x=x, y=y)
    preprocessing = {"divide": 255, "mean": [0.3, 0.3, 0.3], "std": [0.2, 0.2, 0.2]}
    (folder / "images.json").write_text(json.dumps(preprocessing), encoding="utf-8")
    return folder


@pytest.fixture
def at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def commands() -> list[list[str]]:
    """Return the commands of the page's section on one's own network."""
    section = PAGE.read_text(encoding="utf-8").split("## Your own network")[1].split("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["snnc"]]


def accuracy(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[float, str]:
    """Run ``eval``, and return its accuracy and its warnings."""
    capsys.readouterr()
    assert main(["eval", *arguments, "--json"]) == 0
    told = capsys.readouterr()
    return json.loads(told.out)["top1"], told.err


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    capsys.readouterr()
    assert main([*arguments]) == code
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    return told


def test_the_commands_of_the_page(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = commands()
    assert [words[0] for words in found] == ["check", "convert", "eval", "bench", "deploy", "report"]
    for words in found:
        quick = ["--rounds", "2"] if words[0] == "bench" else []
        assert main([*words, *quick]) == 0, words
    assert (at_home / "report.html").exists()
    assert main(["verify", "firmware"]) == 0
    top1, warnings = accuracy(capsys, "network.snn.onnx", "--data", "test.npz")
    assert top1 > 0.9
    assert warnings == ""


@pytest.mark.parametrize("calibration", LAYOUTS)
@pytest.mark.parametrize("test", LAYOUTS)
def test_own_rows_in_each_layout(
    calibration: str, test: str, at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, _ = images(200, 1)
    x, y = images(100, 2)
    np.savez("train-own.npz", x=LAYOUTS[calibration](train))
    np.savez("test-own.npz", x=LAYOUTS[test](x), y=y)
    prepared = ["--preprocess", "images.json"]
    convert = ["convert", "network.onnx", "--calib", "train-own.npz", *prepared, "-o", "own.snn.onnx"]
    assert main([*convert, "--preset", "fast", "-T", "8", "--force"]) == 0
    spiking, _ = accuracy(capsys, "own.snn.onnx", "--data", "test-own.npz", "--against", "network.onnx")
    source, _ = accuracy(capsys, "network.onnx", "--data", "test-own.npz", *prepared)
    assert min(spiking, source) > 0.9


def test_rows_that_are_prepared_already_in_another_layout(
    at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The advice, followed to the letter, gives what was meant."""
    x, y = images(100, 2)
    ready = ((x / 255 - 0.3) / 0.2).astype(np.float32)
    np.savez("ready.npz", x=ready, y=y)
    told = refused(capsys, 5, "eval", "network.onnx", "--data", "ready.npz")
    assert f"not (100, {HIGH}, {WIDE}, 3), the shape of `x` of ready.npz" in told
    call = re.search(r"x\.transpose\([\d, ]+\)", told)
    assert call is not None
    np.savez("turned.npz", x=ready.transpose(*map(int, re.findall(r"\d+", call.group()))), y=y)
    assert accuracy(capsys, "network.onnx", "--data", "turned.npz")[0] > 0.9


def test_flat_rows(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = images(100, 2)
    np.savez("flat.npz", x=x.reshape(100, -1), y=y)
    flat = ["network.onnx", "--data", "flat.npz", "--preprocess", "images.json"]
    assert "rows_layout NCHW or NHWC" in refused(capsys, 5, "eval", *flat)
    assert accuracy(capsys, *flat, "--rows-layout", "NHWC")[0] > 0.9


def test_a_forgotten_division(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of another scale than those of the calibration are told, whichever way round."""
    x, y = images(100, 2)
    np.savez("scaled.npz", x=(x / 255).astype(np.float32), y=y)
    calibrated = ["--calib", "train.npz", "--preprocess", "images.json", "--preset", "fast"]
    assert main(["convert", "network.onnx", *calibrated, "-o", "scale.snn.onnx", "--force"]) == 0
    assert "SNN204" not in accuracy(capsys, "scale.snn.onnx", "--data", "test.npz")[1]
    assert "SNN204" in accuracy(capsys, "scale.snn.onnx", "--data", "scaled.npz")[1]


def test_a_network_of_one_output_passes_no_gate_of_classes(
    at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load("network.onnx")
    weight = helper.make_tensor("price", TensorProto.FLOAT, [3, 1], [1.0, 2.0, -3.0])
    model.graph.initializer.append(weight)
    model.graph.node.append(helper.make_node("MatMul", ["output", "price"], ["value"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("value", TensorProto.FLOAT, [1, 1]))
    onnx.save(model, "price.onnx")
    convert = ["convert", "price.onnx", "--calib", "train.npz", "--preprocess", "images.json"]
    convert += ["-o", "price.snn.onnx", "--preset", "fast", "-T", "1"]
    assert "--task" in refused(capsys, 2, *convert, "--max-drop", "0.1")
    assert "--min-metric" in refused(capsys, 2, *convert, "--max-drop", "0.1", "--task", "regression")
    convert += ["--task", "regression"]
    assert "r2" in refused(capsys, 4, *convert, "--min-metric", "r2=0.9999")
    assert not Path("price.snn.onnx").exists()


def test_check_and_convert_say_the_same(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load("network.onnx")
    (gate,) = [node for node in model.graph.node if node.op_type == "Relu"]
    gate.op_type = "Hardmax"
    onnx.save(model, "hardmax.onnx")
    calibrated = ["--calib", "train.npz", "--preprocess", "images.json"]
    for words in (["check"], ["convert", "--dry-run"], ["convert", "-o", "hardmax.snn.onnx"]):
        options = calibrated if words[0] == "convert" else []
        assert main([words[0], "hardmax.onnx", *words[1:], *options]) == 3
        told = capsys.readouterr()
        assert "Hardmax" in told.out + told.err
