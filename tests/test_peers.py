"""The benchmark of other converters: each in its own environment, on tiny networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests import onnx_models, quadrants

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / "build" / "peers"
MODES = {"spikingjelly": {"99.9%", "robust", "robust delayed", "LTB"}, "sinabs": {"99%"}}

needs_peer = pytest.mark.parametrize(
    "peer",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                not (ENVIRONMENTS / name / ".installed").exists(),
                reason=f"{name} is not installed; see benchmarks/peers/README.md",
            ),
        )
        for name in MODES
    ],
)


def residual() -> onnx.ModelProto:
    """Return a network with all that the peers' loader has to know, on (1, 8, 8)."""
    node, normal = onnx_models.node, onnx_models.normal
    constants = {
        "w1": normal(4, 1, 3, 3),
        "scale": np.array([1, 2, 0.5, 1], np.float32),
        "shift": np.array([0.1, -0.2, 0.3, 0], np.float32),
        "mean": np.array([0, 0.5, -0.5, 0.2], np.float32),
        "variance": np.array([1, 4, 0.25, 2], np.float32),
        "w2": normal(6, 4, 3, 3) / 6,
        "b2": normal(6),
        "w3": normal(4, 10) / 3,
        "starts": [0, 0],
        "ends": [4, 4],
        "axes": [2, 3],
        "steps": [2, 2],
        "pads": [0, 1, 0, 0, 0, 1, 0, 0],
    }
    nodes = [
        node("Conv", "x w1", "c1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c1 scale shift mean variance", "n1"),
        node("Relu", "n1", "r1"),
        node("MaxPool", "r1", "m1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "m1 w2 b2", "c2", strides=[2, 2], pads=[0, 0, 1, 1]),
        node("Slice", "m1 starts ends axes steps", "s1"),
        node("Pad", "s1 pads", "p1"),
        node("Add", "c2 p1", "a1"),
        node("Relu", "a1", "r2"),
        node("Concat", "r2 s1", "j1", axis=1),
        node("AveragePool", "j1", "g1", kernel_shape=[2, 2]),
        node("Flatten", "g1", "f1"),
        node("Gemm", "f1 w3", "l1", transB=1),
        node("Softmax", "l1", "y", axis=1),
    ]
    return onnx_models.model(nodes, ["n", 1, 8, 8], constants)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder as the benchmark expects it."""
    folder = tmp_path / "shared"
    (folder / "models").mkdir(parents=True)
    (folder / "data").mkdir()
    entries = []
    for name, proto in (("quadrants", quadrants.network()), ("residual", residual())):
        (folder / "models" / f"{name}.onnx").write_bytes(proto.SerializeToString())
        entries.append({"file": f"{name}.onnx", "data": "toy", "preprocessing": quadrants.PREPROCESSING})
    (folder / "models" / "index.json").write_text(json.dumps(entries), encoding="utf-8")
    for name, n, seed in (("toy_train", 200, 1), ("toy_test_dev", 120, 2)):
        x, y = quadrants.images(n, seed)
        np.savez(folder / "data" / f"{name}.npz", x=x, y=y)
    return folder


def measure(shared: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers.accuracy",
        "--shared",
        str(shared),
        *map(str, arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)


def rows(cache: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cache.read_text(encoding="utf-8").splitlines()]


@needs_peer
def test_a_peer_is_measured_once(peer: str, shared: Path, tmp_path: Path) -> None:
    """The peer's side refuses a network whose outputs, as it loaded it, differ from its source's."""
    cache = tmp_path / "cache.jsonl"
    parts = ("--networks", "quadrants,residual", "--tools", peer, "--timesteps", "1,32", "--cache", cache)
    done = measure(shared, *parts, "--limit", 110)
    assert done.returncode == 0, done.stderr
    found = rows(cache)
    assert sorted((row["network"], row["mode"], row["timesteps"]) for row in found) == sorted(
        (network, mode, T) for network in ("quadrants", "residual") for mode in MODES[peer] for T in (1, 32)
    )
    for row in found:
        assert row["n"] == 110
        low, high = row["top1_ci95"]
        assert low <= row["top1"] <= high
        assert row["synops_ratio"] > 0 or row["spikes_per_neuron_per_step"] == 0
        if row["network"] == "residual":
            continue
        if row["timesteps"] == 32:
            assert row["top1"] > 0.9
        if row["payload"] == "binary":
            # Each of the 2 x 8 x 8 neurons reaches the six classes through the pool.
            spikes = row["spikes_per_neuron_per_step"]
            assert 0 <= spikes <= 1
            assert row["synops"] == pytest.approx(spikes * row["timesteps"] * 128 * 6)
        else:
            assert row["payload"].startswith("levels:")
    assert measure(shared, *parts, "--limit", 110).stdout == ""


def test_an_environment_that_is_not_there(shared: Path, tmp_path: Path) -> None:
    done = measure(shared, "--networks", "quadrants", "--environments", tmp_path, "--cache", tmp_path / "c")
    assert done.returncode == 1
    assert "spikingjelly is not installed" in done.stderr
    assert "benchmarks/peers/setup.sh spikingjelly" in done.stderr


def test_names_that_nobody_has(shared: Path) -> None:
    for option, kind in (("--networks", "network"), ("--tools", "tool")):
        done = measure(shared, *("--networks", "quadrants"), option, "nobody")
        assert done.returncode == 1
        assert f"no {kind} is called 'nobody'" in done.stderr


def test_an_unknown_peer_is_not_set_up() -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "peers" / "setup.sh"), "nobody"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "no peer is called 'nobody'; known: spikingjelly sinabs" in done.stderr
