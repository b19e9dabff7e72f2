"""Networks of leaky neurons trained on frames: the integers, the gradients, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.artefact import load
from snnc.cli import main
from snnc.errors import InputError, UsageError
from snnc.ir import snn
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator

torch = pytest.importorskip("torch")

from snnc.training.leaky import leaky_graph, train_leaky  # noqa: E402
from snnc.training.leaky_network import LeakyNetwork  # noqa: E402

STEPS = 8


def frames(rows: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return spikes of three classes, each of which is active elsewhere, (rows, STEPS, 12)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    x = (rng.random((rows, STEPS, 12)) < 0.15).astype(np.float32)
    for k in range(3):
        x[y == k, :, 4 * k : 4 * k + 4] += rng.random((int((y == k).sum()), STEPS, 4)) < 0.4
    return x, y


def changed(graph: snn.SnnGraph, **fields: Any) -> snn.SnnGraph:
    """Return a network whose populations have other settings."""
    return graph.map(snn.IntegrateFire, lambda node: node.with_(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"refractory": 2},
        {"reset_to": np.full(128, -0.25, np.float32)},
        {"reset_by": np.full(128, 1.2, np.float32)},
        {"synapse_decay": np.full(128, 0.5, np.float32)},
        {"decay": None},
    ],
)
@pytest.mark.parametrize("method", ["bptt", "rate"])
def test_the_module_computes_the_integers_that_are_written(fields: dict[str, Any], method: str) -> None:
    graph = changed(leaky_graph((12,), STEPS, 3), **fields)
    module = LeakyNetwork(graph, method)
    q = (3 * frames(8)[0]).astype(np.int32)
    trace = ReferenceSimulator().run(module.quantised, q, STEPS, RecordOptions(states=True))
    for answers in (module(torch.from_numpy(q)), _without_gradients(module, q)):
        assert answers.counts["hidden"].sum() > 0
        np.testing.assert_array_equal(answers.counts["hidden"].detach().numpy(), trace.counts["hidden"])
        real = module.quantised.readout.real(trace.logits, STEPS)
        np.testing.assert_allclose(answers.outputs[-1].detach().numpy(), real, rtol=1e-5)


def _without_gradients(module: LeakyNetwork, q: np.ndarray) -> Any:
    with torch.no_grad():
        return module(torch.from_numpy(q))


@pytest.mark.parametrize("method", ["bptt", "rate"])
@pytest.mark.parametrize("decays", ["layer", "channel"])
def test_gradients_reach_all_that_is_learned(method: str, decays: str) -> None:
    graph = leaky_graph((12,), STEPS, 3)
    module = LeakyNetwork(graph, method, decays)
    module(torch.from_numpy((3 * frames(16)[0]).astype(np.int32))).outputs[-1].square().sum().backward()
    learned = dict(module.named_parameters())
    assert len(learned) == 6  # two weights, two biases, the decay and its factor
    for name, parameter in learned.items():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0, name


def test_the_rates_have_the_gradient_of_constant_inputs() -> None:
    """Without a leak the mean spikes follow a constant input, by either way."""
    graph = changed(leaky_graph((12,), 64, 3), decay=None)
    module = LeakyNetwork(graph, "rate")
    x = np.broadcast_to(frames(4)[0][:, :1], (4, 64, 12)).astype(np.int32).copy()
    found: dict[str, Any] = {}
    for method in ("bptt", "rate"):
        module.method = method
        module.zero_grad()
        module(torch.from_numpy(x)).outputs[-1].sum().backward()
        found[method] = module.n1_weight.grad.flatten()
    together = torch.stack([found["bptt"], found["rate"]])
    assert torch.corrcoef(together)[0, 1] > 0.7


@pytest.mark.parametrize(
    ("neurons", "method", "decays"),
    [("lif", "bptt", "channel"), ("da-lif", "bptt", "channel"), ("da-lif", "rate", "layer")],
)
def test_what_is_trained(neurons: str, method: str, decays: str) -> None:
    x, y = frames()
    made = train_leaky(neurons, x, y, epochs=8, batch=20, method=method, decays=decays, threads=1)
    assert made.equal_rows == 9
    graph = made.artefact.graph
    test, labels = frames(60, seed=1)
    answers = ReferenceSimulator().run(graph, made.artefact.encode(test), STEPS).logits.argmax(axis=1)
    assert (answers == labels).mean() > 0.8
    low, high = made.decays["hidden"]
    if neurons == "lif":
        assert low == high == pytest.approx(0.9)
    elif decays == "layer":
        assert low == high != pytest.approx(0.9)
    else:
        assert low < 0.9 < high
    again = train_leaky(neurons, x, y, epochs=8, batch=20, method=method, decays=decays, threads=1)
    first, second = (each.artefact.graph["hidden.w"] for each in (made, again))
    assert np.array_equal(first.weight, second.weight)  # type: ignore[attr-defined]


def test_images_are_convolved() -> None:
    graph = leaky_graph((2, 34, 34), 3, 10)
    assert [node.shape for node in graph.of_type(snn.IntegrateFire)] == [(12, 17, 17), (32, 9, 9), (128,)]
    q = np.random.default_rng(0).integers(0, 3, (2, 3, 2, 34, 34)).astype(np.int32)
    module = LeakyNetwork(graph)
    trace = ReferenceSimulator().run(module.quantised, q, 3, RecordOptions(states=True))
    for name, counts in module(torch.from_numpy(q)).counts.items():
        np.testing.assert_array_equal(counts.detach().numpy(), trace.counts[name])


def test_images_are_moved_by_a_part_of_their_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pixels of 17 cost a LIF network 14 points on N-MNIST."""
    from snnc.training import leaky

    moved: list[int] = []

    def noted(q: Any, most: int, rng: Any) -> Any:
        moved.append(most)
        return q

    monkeypatch.setattr(leaky, "_shifted", noted)
    for side, wanted in ((17, 1), (34, 2), (8, 0)):
        x = np.random.default_rng(0).integers(0, 2, (8, 2, 1, side, side))
        train_leaky("lif", x, np.arange(8) % 2, epochs=1, batch=4, threads=1)
        assert set(moved) == {wanted}
        moved.clear()


class TestCommand:
    def test_trains_and_evaluates(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        rows, out = tmp_path / "frames.npz", tmp_path / "a.snn.onnx"
        x, y = frames()
        np.savez(rows, x=x, y=y)
        given = ["train", "--arch", "da-lif", "--data", str(rows), "-o", str(out), "--threads", "1"]
        assert main([*given, "--epochs", "4", "--batch", "20", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["equal_rows"] == told["held_back"]["rows"] == 9
        assert load(out).graph.changing
        assert main(["eval", str(out), "--data", str(rows), "--threads", "1"]) == 0

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--arch", "lif", "--decays", "layer"), "--decays is for da-lif"),
            (("--arch", "lif", "--minutes", "3"), "--minutes is not for leaky networks"),
            (("--arch", "small", "--method", "rate"), "--method is for the leaky networks"),
        ],
    )
    def test_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
    ) -> None:
        rows = tmp_path / "frames.npz"
        x, y = frames()
        np.savez(rows, x=x, y=y)
        assert main(["train", *options, "--data", str(rows), "-o", str(tmp_path / "a.snn.onnx")]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "a.snn.onnx").exists()


@pytest.mark.parametrize(
    ("x", "y", "error", "said"),
    [
        (np.zeros((4, 3)), np.zeros(4, int), InputError, "are no frames"),
        (np.zeros((4, 3, 2)), np.zeros(3, int), InputError, "are not a class from 0 for each of 4 rows"),
        (np.full((4, 3, 2), np.nan), np.zeros(4, int), InputError, "NaN"),
        (np.full((4, 3, 2), 3000), np.zeros(4, int), InputError, "beyond 2047"),
        (np.zeros((1, 3, 2)), np.zeros(1, int), UsageError, "leaves none to learn from"),
    ],
)
def test_rows_that_do_not_fit(x: np.ndarray, y: np.ndarray, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        train_leaky("lif", x, y)


def test_what_is_not_trained_over_time() -> None:
    graph = leaky_graph((12,), STEPS, 3)
    with pytest.raises(UsageError, match="is not the one input, a sequence of frames"):
        LeakyNetwork(graph.map(snn.Encode, lambda node: node.with_(presented=snn.Presented.STILL)))
    with pytest.raises(UsageError, match="is quantised already"):
        LeakyNetwork(LeakyNetwork(graph).quantised)
    with pytest.raises(UsageError, match="has no decay"):
        LeakyNetwork(changed(graph, decay=None), decays="layer")
