"""What `check` says, `convert --dry-run` and `convert` do: one verdict for every network."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto

from snnc.cli import main
from tests.onnx_models import model, node, saved

PRESETS = ("fast", "paper", "binary-only", "graded", "balanced")
BLOCKS = (
    "conv", "relu", "relu", "norm", "max", "mean", "pad", "deepen", "join", "sum", "difference", "turn",
    "transpose", "fold", "flat", "dense", "global", "slice", "map", "softmax", "sigmoid", "gate",
    "place", "coordinates", "average", "folded",
)  # fmt: skip


class Random:
    """A random network: operations in any order, of which some have no spiking form."""

    def __init__(self, blocks: list[str], seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Any] = {}
        self.shape: tuple[int, ...] = (2, 6, 6)
        self.top = "x"
        self.before = ("x", self.shape)
        for block in blocks:
            kept = (self.top, self.shape)
            self.block(block)
            self.before = kept if self.top != kept[0] else self.before
        self.nodes.append(node("Identity", self.top, "y"))

    def proto(self) -> onnx.ModelProto:
        return model(self.nodes, ["N", 2, 6, 6], self.constants)

    def constant(self, values: Any) -> str:
        name = f"c{len(self.constants)}"
        values = np.asarray(values)
        self.constants[name] = values.astype(np.float32) if values.dtype.kind == "f" else values
        return name

    def normal(self, *shape: int) -> str:
        return self.constant(self.random.standard_normal(shape))

    def add(self, op: str, inputs: str, shape: tuple[int, ...] | None = None, **attributes: Any) -> None:
        name = f"t{len(self.nodes)}"
        self.nodes.append(node(op, inputs, name, **attributes))
        self.top, self.shape = name, self.shape if shape is None else shape

    def block(self, kind: str) -> None:
        channels, image = self.shape[0], len(self.shape) == 3
        size = self.shape[1:]
        match kind:
            case "relu":
                self.add("Relu", self.top)
            case "norm":
                spread = (1, channels, *(1,) * len(size))
                self.add("Mul", f"{self.top} {self.normal(*spread)}")
                self.add("Add", f"{self.top} {self.normal(*spread)}")
            case "turn":
                self.add("Neg", self.top)
            case "sum" | "difference" if self.before[1] == self.shape:
                self.add("Add" if kind == "sum" else "Sub", f"{self.top} {self.before[0]}")
            case "join" if self.before[1][1:] == size:
                self.add(
                    "Concat", f"{self.top} {self.before[0]}", (channels + self.before[1][0], *size), axis=1
                )
            case "place":
                self.add("Add", f"{self.top} {self.normal(1, *self.shape)}")
            case "coordinates":
                joined = (channels + 2, *size)
                self.add("Concat", f"{self.normal(1, 2, *size)} {self.top}", joined, axis=1)
            case "average":
                self.add("ReduceMean", self.top, (1, *size), axes=[1])
            case "softmax" if not image:
                self.add("Softmax", self.top, axis=1)
            case "sigmoid":
                self.add("Sigmoid", self.top)
            case "gate":
                self.add("Mul", f"{self.top} {self.top}")
            case "deepen":
                pads = [0, 1, *(0,) * len(size), 0, 2, *(0,) * len(size)]
                self.add("Pad", f"{self.top} {self.constant(pads)}", (channels + 3, *size))
            case "dense" if not image:
                self.add("Gemm", f"{self.top} {self.normal(5, channels)} {self.normal(5)}", (5,), transB=1)
            case "map" if not image and channels % 4 == 0:
                shape = (channels // 4, 2, 2)
                self.add("Reshape", f"{self.top} {self.constant([-1, *shape])}", shape)
            case _ if image:
                self.of_image(kind, channels, size[0], size[1])
            case _:
                pass  # does not fit here

    def of_image(self, kind: str, channels: int, height: int, width: int) -> None:
        match kind:
            case "conv":
                weight = f"{self.normal(4, channels, 3, 3)} {self.normal(4)}"
                self.add("Conv", f"{self.top} {weight}", (4, height, width), pads=[1, 1, 1, 1])
            case "max" | "mean":
                op = "MaxPool" if kind == "max" else "AveragePool"
                window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
                included = {"count_include_pad": 1} if kind == "mean" else {}
                self.add(op, self.top, self.shape, **window, **included)
            case "pad":
                pads = self.constant([0, 0, 1, 0, 0, 0, 0, 2])
                self.add("Pad", f"{self.top} {pads}", (channels, height + 1, width + 2))
            case "transpose":
                self.add("Transpose", self.top, (channels, width, height), perm=[0, 1, 3, 2])
            case "fold" if height % 2 == 0:
                shape = (2 * channels, height // 2, width)
                self.add("Reshape", f"{self.top} {self.constant([-1, *shape])}", shape)
            case "folded" if height % 2 == 0 and width % 2 == 0:
                shape = (4 * channels, height // 2, width // 2)
                self.add("SpaceToDepth", self.top, shape, blocksize=2)
            case "flat":
                self.add("Flatten", self.top, (channels * height * width,))
            case "global":
                self.add("GlobalAveragePool", self.top, (channels, 1, 1))
            case "slice" if channels > 1:
                ends = f"{self.constant([1])} {self.constant([channels])} {self.constant([1])}"
                self.add("Slice", f"{self.top} {ends}", (channels - 1, height, width))
            case _:
                pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("random")
    rows = np.random.default_rng(0).standard_normal((12, 2, 6, 6)).astype(np.float32)
    np.savez(made / "rows.npz", x=rows)
    return made


def run(*parts: str) -> tuple[int, str, str]:
    """Run a verb; return exit code, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*parts, "-q"])
    return code, out.getvalue(), err.getvalue()


@settings(max_examples=60)
@given(
    blocks=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=8),
    preset=st.sampled_from(PRESETS),
    seed=st.integers(0, 99),
)
def test_one_verdict(folder: Path, blocks: list[str], preset: str, seed: int) -> None:
    path = str(saved(folder, Random(["conv", *blocks], seed).proto()))
    code, out, _ = run("check", path, "--json")
    found = json.loads(out)["diagnostics"]
    assert code == (3 if found else 0)
    assert all(item["code"].startswith("SNN") and item["node"] and item["help"] for item in found)
    chosen = ["--calib", str(folder / "rows.npz"), "--preset", preset, "-o", str(folder / "out.snn.onnx")]
    dry, _, expected = run("convert", path, *chosen, "--force", "--threads", "1", "--dry-run")
    done, _, error = run("convert", path, *chosen, "--force", "--threads", "1")
    assert dry == done
    assert done in (0, 3)
    if preset == "balanced":  # the default, which `check` looks at
        assert code == done
    if done:
        assert error == expected
        assert "SNN" in error


@pytest.mark.parametrize(("timesteps", "code"), [(2, 0), (3, 2), (16, 2)])
def test_an_overflow_that_no_row_can_avoid_is_foreseen(tmp_path: Path, timesteps: int, code: int) -> None:
    """The mean of a wide image is a sum of many values: in some steps more than int32 holds."""
    nodes = [node("GlobalAveragePool", "x", "g"), node("Flatten", "g", "y")]
    path = str(saved(tmp_path, model(nodes, ["N", 3, 224, 224], {})))
    rows = np.random.default_rng(0).standard_normal((4, 3, 224, 224)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows)
    asked = ["--calib", str(tmp_path / "rows.npz"), "-o", str(tmp_path / "out.snn.onnx"), "--threads", "1"]
    for preset in ("fast", "balanced"):
        named = ["convert", path, *asked, "--force", "--preset", preset, "-T", str(timesteps)]
        dry, _, foreseen = run(*named, "--dry-run")
        done, _, error = run(*named)
        assert (dry, done) == (code, code)
        assert error == foreseen
        assert ("beyond int32; use at most T = 2" in error) == bool(code)


def test_a_constant_that_dwarfs_the_input_is_held_in_int32(folder: Path) -> None:
    """Beside constants, the unit of the answers is theirs: rounded in the input's, they overflowed."""
    path = str(saved(folder, Random(["conv", "coordinates"], 0).proto()))
    chosen = ["--calib", str(folder / "rows.npz"), "--preset", "fast", "-T", "4"]
    out = str(folder / "out.snn.onnx")
    assert run("convert", path, *chosen, "-o", out, "--force", "--threads", "1")[0] == 0
