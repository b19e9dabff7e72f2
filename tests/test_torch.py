"""Networks of PyTorch: what is exported and how mistakes are told, with a stand-in where torch is absent."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import snnc
from snnc.cli import main
from snnc.cli.factories import is_factory
from snnc.data.preprocessing import Preprocessing
from snnc.errors import InputError, UsageError
from snnc.frontend import exporting
from tests.onnx_models import model, node, normal

WITH_TORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None or importlib.util.find_spec("onnxscript") is None,
    reason="torch is not installed (extra snnc[torch])",
)
CONVERT = ("-T", "2", "--preset", "fast", "--threads", "1")
OPTIONS: dict[str, Any] = {"timesteps": 2, "preset": "fast", "threads": 1}


class StandIn:
    """What looks like a module of torch."""

    def __init__(self) -> None:
        self.training = True
        self.calls: list[tuple[int, ...]] = []

    def modules(self) -> Iterator[StandIn]:
        yield self

    def parameters(self) -> Iterator[Any]:
        yield from ()

    def eval(self) -> None:
        self.training = False

    def __call__(self, x: Any) -> Any:
        assert not self.training
        self.calls.append(x.array.shape)
        if x.array.shape[1:] != (4,):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied\nmore")
        return x


class Tensor:
    """What looks like a tensor of torch."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> str:
        return f"torch.{self.array.dtype}"

    def to(self, _: Any) -> Tensor:
        return self

    def __getitem__(self, rows: slice) -> Tensor:
        return Tensor(self.array[rows])


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for torch, which exports one fixed network."""
    stub: Any = types.ModuleType("torch")
    stub.nn = types.SimpleNamespace(Module=StandIn)
    stub.float32 = "float32"
    stub.from_numpy = Tensor
    stub.no_grad = logging.Filter  # anything that is no context
    stub.exports = []

    class Without:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    nodes = [node("Gemm", "x a", "h"), node("Relu", "h", "r"), node("Gemm", "r b")]
    proto = model(nodes, ["N", 4], {"a": normal(4, 8), "b": normal(8, 3)})

    def export(module: Any, args: Any, **options: Any) -> Any:
        print("chatter")  # noqa: T201
        stub.exports.append((args, options))
        error = stub.fails.pop(0) if stub.fails else None
        if error is not None:
            raise error
        return types.SimpleNamespace(model_proto=proto)

    stub.fails = []
    stub.no_grad = Without
    stub.export = types.SimpleNamespace(Dim=str)
    stub.onnx = types.SimpleNamespace(export=export)
    monkeypatch.setitem(sys.modules, "torch", stub)
    return stub


ROWS = np.random.default_rng(0).standard_normal((120, 4)).astype(np.float32)


def test_torch_is_never_imported_without_need(tmp_path: Path) -> None:
    nodes = [node("Gemm", "x a", "h"), node("Relu", "h", "r"), node("Gemm", "r b")]
    path = tmp_path / "n.onnx"
    path.write_bytes(model(nodes, ["N", 4], {"a": normal(4, 8), "b": normal(8, 3)}).SerializeToString())
    np.save(tmp_path / "rows.npy", ROWS)
    program = f"""
        import sys
        import snnc
        from snnc.cli import main
        assert "torch" not in sys.modules
        rows = {str(tmp_path / "rows.npy")!r}
        snnc.compile_model({str(path)!r}, rows, timesteps=2, preset="fast", threads=1)
        assert main(["check", {str(path)!r}, "-q"]) == 0
        assert not {{"torch", "onnxscript"}} & set(sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


class TestWithAStandIn:
    def test_rows_say_what_it_takes(self, torch: Any, capsys: pytest.CaptureFixture[str]) -> None:
        module = StandIn()
        artefact = snnc.compile_model(module, ROWS, **OPTIONS)
        assert artefact.graph.input.shape == (4,)
        assert module.training
        assert module.calls == [(2, 4)]
        ((args, options),) = torch.exports
        assert args[0].shape == (2, 4)
        assert options["dynamic_shapes"] == ({0: "batch"},)
        assert options["input_names"] == ["input"]
        assert capsys.readouterr().out == ""

    def test_one_row_and_a_preprocessing(self, torch: Any) -> None:
        x = np.full((1, 4), 200, np.uint8)
        found = exporting.exported(StandIn(), Preprocessing(divide=100).apply(x))
        assert found
        assert np.allclose(torch.exports[0][0][0].array, 2)
        assert torch.exports[0][0][0].shape == (2, 4)

    def test_a_batch_that_the_module_fixes(self, torch: Any) -> None:
        torch.fails = [RuntimeError("Constraints violated (batch)!")]
        assert exporting.exported(StandIn(), ROWS)
        first, second = torch.exports
        assert first[0][0].shape == (2, 4)
        assert second[0][0].shape == (1, 4)
        assert second[1]["dynamic_shapes"] is None

    def test_rows_of_another_shape(self, torch: Any) -> None:
        module = StandIn()
        with pytest.raises(InputError) as caught:
            snnc.compile_model(module, ROWS[:, :3], **OPTIONS)
        told = "StandIn does not take a batch of shape (n, 3) in float32: mat1 and mat2 shapes cannot be"
        assert str(caught.value).startswith(told)
        assert module.training
        assert torch.exports == []

    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (RuntimeError("Could not guard on data-dependent expression u0 > 0"), "depends on the values"),
            (RuntimeError("no decomposition\nof x"), "torch cannot export StandIn: no decomposition; export"),
            (ImportError("No module named 'onnxscript'"), "pip install torch"),
        ],
    )
    def test_what_cannot_be_exported(self, torch: Any, error: Exception, says: str) -> None:
        torch.fails = [error]
        module = StandIn()
        with pytest.raises((InputError, UsageError), match=says) as caught:
            snnc.compile_model(module, ROWS, **OPTIONS)
        assert "\n" not in str(caught.value)
        assert module.training

    def test_where_rows_are_needed(self, torch: Any) -> None:
        assert torch
        from snnc.compiler import Options, check

        with pytest.raises(UsageError, match="exported for calibration rows"):
            check(StandIn(), Options(timesteps=2, preset="fast"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a module of its own, called otherwise each time."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    np.save(tmp_path / "rows.npy", ROWS)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("networks_of_a_test"):
            del sys.modules[name]


def converted(name: str, *options: str) -> int:
    return main(["convert", name, "--calib", "rows.npy", "-o", "n.snn.onnx", *CONVERT, *options])


CODE = """
import sys
print("imported")
StandIn = sys.modules["tests.test_torch"].StandIn
good = StandIn
instance = StandIn()
def fails(): raise ValueError("no\\nway")
def leaves(): sys.exit(3)
def number(): return 3
class inner:
    made = staticmethod(lambda: StandIn())
"""


class TestFactories:
    @pytest.mark.parametrize("name", ["good", "instance", "inner.made"])
    def test_a_factory(self, torch: Any, here: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert torch
        (here / "networks_of_a_test.py").write_text(CODE)
        assert converted(f"networks_of_a_test:{name}", "--json") == 0
        captured = capsys.readouterr()
        assert captured.out.startswith("{")
        assert "imported" in captured.err
        assert (here / "n.onnx").is_file()
        assert snnc.load("n.snn.onnx").metadata.source_path == "n.onnx"
        assert str(here) not in sys.path
        assert converted(f"networks_of_a_test:{name}") == 2
        assert "exists already" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("name", "code", "says"),
        [
            ("networks_of_a_test:fails", 5, "fails: ValueError: no way"),
            ("networks_of_a_test:leaves", 5, "fails: SystemExit: 3"),
            ("networks_of_a_test:number", 5, "gives int, no torch.nn.Module"),
            ("networks_of_a_test:nothing", 5, "has no 'nothing'"),
            ("networks_of_a_test_2:good", 5, "neither as a file nor as a module 'networks_of_a_test_2'"),
            (
                "networks_of_a_test_3:good",
                5,
                "cannot be imported, ModuleNotFoundError: No module named 'nowhere'",
            ),
            ("networks_of_a_test_4:good", 5, "cannot be imported, SyntaxError"),
        ],
    )
    def test_mistakes(
        self, torch: Any, here: Path, name: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert torch
        (here / "networks_of_a_test.py").write_text(CODE)
        (here / "networks_of_a_test_3.py").write_text("import nowhere")
        (here / "networks_of_a_test_4.py").write_text("def")
        before = set(here.iterdir()) | {here / "__pycache__"}
        assert converted(name) == code
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert says in line
        assert set(here.iterdir()) <= before

    def test_without_torch(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        (here / "networks_of_a_test.py").write_text("import torch")
        assert converted("networks_of_a_test:good") == 2
        assert "pip install torch==2.13.0 onnxscript" in capsys.readouterr().err

    def test_a_file_is_never_imported(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (here / "networks_of_a_test.py").write_text("raise AssertionError('code was run')")
        (here / "networks_of_a_test:good").write_bytes(b"no network")
        assert not is_factory("networks_of_a_test:good")
        assert converted("networks_of_a_test:good") == 5
        assert "code was run" not in capsys.readouterr().err
        for name in ("zoo:good", "a/b.onnx", "a:b:c", "a.onnx", ":b", "a:", "a-b:c", "../a:b", "C:\\a.onnx"):
            assert not is_factory(name)
        for verb, code in (("check", 2), ("eval", 5)):
            assert main([verb, "networks_of_a_test:other"]) == code
            assert "code was run" not in capsys.readouterr().err

    def test_check_takes_one(self, torch: Any, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert torch
        (here / "networks_of_a_test.py").write_text(CODE)
        before = set(here.iterdir()) | {here / "__pycache__"}
        name = "networks_of_a_test:good"
        assert main(["check", name, "--calib", "rows.npy", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["model"], told["supported"]) == (name, True)
        assert main(["check", name, "--calib", "rows.npy", "--target", "akida"]) in (0, 6)
        assert name in capsys.readouterr().out
        assert main(["check", name]) == 2
        assert "give --calib" in capsys.readouterr().err
        (here / "n.onnx").write_bytes(b"no network")
        assert main(["check", "n.onnx", "--calib", "rows.npy"]) == 2
        assert "is for PACKAGE.MODULE:FACTORY" in capsys.readouterr().err
        assert set(here.iterdir()) <= before | {here / "n.onnx"}

    def test_nothing_is_left_when_the_conversion_fails(self, torch: Any, here: Path) -> None:
        assert torch
        (here / "networks_of_a_test.py").write_text(CODE)
        assert converted("networks_of_a_test:good", "--task", "binary") != 0
        assert not list(here.glob("n.*"))
        assert converted("networks_of_a_test:good", "--dry-run") == 0
        assert not list(here.glob("n.*"))


@WITH_TORCH
class TestWithTorch:
    def network(self) -> Any:
        torch = pytest.importorskip("torch")
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3),
            torch.nn.BatchNorm2d(4),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Dropout(),
            torch.nn.Linear(144, 3),
        )

    def test_it_computes_the_same(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        torch = pytest.importorskip("torch")
        module = self.network()
        module[1].eval()
        modes = [each.training for each in module.modules()]
        x = np.random.default_rng(0).standard_normal((7, 3, 8, 8)).astype(np.float32)
        data = exporting.exported(module, x)
        assert capfd.readouterr() == ("", "")
        assert [each.training for each in module.modules()] == modes
        session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
        found = np.asarray(session.run(None, {"input": x})[0])
        with torch.no_grad():
            expected = module.eval()(torch.from_numpy(x)).numpy()
        assert np.allclose(found, expected, atol=1e-5)

    def test_pictures_and_a_preprocessing(self) -> None:
        rows = np.random.default_rng(0).integers(0, 256, (120, 8, 8, 3), np.uint8)
        with pytest.raises(InputError, match="channels first or last"):
            snnc.compile_model(self.network(), rows, preprocessing={"divide": 255}, **OPTIONS)
        preprocessing = {"divide": 255, "mean": [0.5, 0.4, 0.3]}
        artefact = snnc.compile_model(self.network(), rows, preprocessing=preprocessing, **OPTIONS)
        assert artefact.graph.input.shape == (3, 8, 8)
        assert snnc.simulate(artefact, rows[:3], threads=1).logits.shape == (3, 3)

    def test_loaders_and_data_sets(self) -> None:
        torch = pytest.importorskip("torch")
        x = torch.from_numpy(np.random.default_rng(0).standard_normal((150, 3, 8, 8)).astype(np.float32))
        y = torch.arange(150) % 3
        data = torch.utils.data.TensorDataset(x, y)
        module = self.network()
        plain = snnc.convert(module, x, **OPTIONS)
        q = plain.encode(x[:20])
        for rows in (
            data,
            torch.utils.data.TensorDataset(x),
            torch.utils.data.DataLoader(data, batch_size=32),
            torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=50),
        ):
            made = snnc.convert(module, rows, **OPTIONS)
            assert (made.encode(x[:20]) == q).all()
            assert (made.simulate(x[:20]).logits == plain.simulate(x[:20]).logits).all()
        loader = torch.utils.data.DataLoader(data, batch_size=64)
        found = plain.evaluate(loader, threads=1)
        assert found.as_dict() == plain.evaluate(x, y, threads=1).as_dict()
        assert found.ann is not None
        with torch.no_grad():
            right = module.eval()(x).argmax(1) == y
        assert found.ann.scores.top1 is not None
        assert found.ann.scores.top1.hits == int(right.sum())
        report = plain.report(loader, threads=1)
        assert report.measurement.rows == 150

        kind: Any = torch.utils.data.IterableDataset
        streamed = type("Streamed", (kind,), {"__iter__": lambda self: zip(x, y, strict=True)})()
        with pytest.raises(InputError, match="give a DataLoader"):
            snnc.convert(module, streamed, **OPTIONS)
        streamed = torch.utils.data.DataLoader(streamed, batch_size=64)
        assert (snnc.convert(module, streamed, **OPTIONS).encode(x[:20]) == q).all()
        single = torch.utils.data.DataLoader(data, batch_size=None)
        with pytest.raises(InputError, match="give it a batch_size"):
            snnc.convert(module, single, **OPTIONS)

    def test_the_values_of_an_input(self) -> None:
        torch = pytest.importorskip("torch")
        forward = {"forward": lambda self, x: x if x.sum() > 0 else -x}
        chooses = type("Chooses", (torch.nn.Module,), forward)
        with pytest.raises(InputError, match="depends on the values of its input"):
            exporting.exported(chooses(), ROWS)
        with pytest.raises(InputError, match=r"does not take a batch of shape \(n, 4\)"):
            exporting.exported(torch.nn.Linear(3, 2), ROWS)
