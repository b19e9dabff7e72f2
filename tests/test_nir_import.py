"""NIR files read as spiking networks, held to the equations of the exporters' neurons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.artefact import load
from snnc.cli import main
from snnc.compiler.importing import import_nir
from snnc.errors import InputError, NonFiniteError, UnsupportedModelError, UsageError
from snnc.frontend.nir import Convention, lowered, read_nir
from snnc.ir.snn import Readout
from snnc.numerics.quantisation import quantise_all
from snnc.simulation.reference import ReferenceSimulator
from tests.nir_files import (
    CLASSES,
    EXPORTERS,
    FEATURES,
    HIDDEN,
    STEPS,
    SnnTorch,
    SpikingJelly,
    dense,
    frames,
    run,
    trains,
    vector,
    weights,
    write,
)

nir = pytest.importorskip("nir")


@pytest.mark.parametrize("name", EXPORTERS)
def test_spikes_of_the_exporter(tmp_path: Path, name: str) -> None:
    """In float32, and in int8 nearly all."""
    convention, node, layer = EXPORTERS[name]
    # Without a bias behind the filter, whose exporters put it before.
    filtered = "synaptic" in name
    path = dense(tmp_path / "a.nir", node, bias=not filtered)
    graph = lowered(read_nir(path), Convention.chosen(**convention), STEPS)
    x = frames()
    hidden, last = run(x, lambda n: layer(), bias=not filtered)
    found = trains(graph, x)
    assert 0.02 < (hidden > 0).mean() < 0.98
    for theirs, ours in ((hidden, found["hidden"]), (last, found["last"])):
        assert (theirs == ours).mean() >= 0.999
    integer = quantise_all(graph)
    assert integer.integer
    assert (trains(integer, x)["hidden"] == hidden).mean() > 0.9


def test_convolution_pooling_and_a_leaky_integrator(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(0.2, 0.4, (3, 2, 3, 3)).astype(np.float32)
    bias, last = rng.normal(0, 0.1, 3).astype(np.float32), rng.normal(0, 1, (4, 27)).astype(np.float32)
    nodes = {
        "input": nir.Input(np.array([2, 6, 6])),
        "conv": nir.Conv2d((6, 6), kernel, 1, 1, 1, 1, bias),
        "lif": SpikingJelly.node(1),
        "pool": nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "flat": nir.Flatten({"input": np.array([3, 3, 3])}, 0, -1),
        "fc": nir.Linear(last),
        "li": nir.LI(vector(4e-4, 4), vector(1, 4), vector(0, 4)),
        "output": nir.Output(np.array([4])),
    }
    nodes["lif"] = nir.LIF(*(np.full((3, 6, 6), v, np.float32) for v in (2e-4, 1, 0, 1, 0)))
    graph = lowered(read_nir(write(tmp_path / "a.nir", nodes)), Convention.chosen("spikingjelly"), STEPS)
    x = frames(3, (2, 6, 6))
    padded = np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(3, 4))
    current = np.einsum("btchwij,ocij->btohw", windows, kernel) + bias[:, None, None]
    layer, y = SpikingJelly(), np.zeros((3, 4), np.float32)
    for t in range(STEPS):
        spikes = layer(current[:, t])
        pooled = spikes.reshape(3, 3, 3, 2, 3, 2).mean((3, 5)).reshape(3, 27)
        y = y + (pooled @ last.T - y) / 4
    out = ReferenceSimulator().run(graph, x.astype(np.int32), STEPS).logits
    assert np.allclose(out, y, atol=1e-4)
    assert isinstance(graph[graph.output], Readout)
    whole = quantise_all(graph)
    integer = ReferenceSimulator().run(whole, x.astype(np.int32), STEPS).logits
    assert np.corrcoef(whole.readout.decoded(integer, STEPS).ravel(), y.ravel())[0, 1] > 0.98


def test_signals_scales_thresholds_and_graphs_inside(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).normal(0.3, 0.4, (3, 2, 3)).astype(np.float32)
    inner = nir.NIRGraph(
        nodes={
            "in": nir.Input(np.array([3, 8])),
            "gate": nir.Threshold(np.full((3, 8), 0.5, np.float32)),
            "out": nir.Output(np.array([3, 8])),
        },
        edges=[("in", "gate"), ("gate", "out")],
        type_check=False,
    )
    nodes = {
        "input": nir.Input(np.array([2, 8])),
        "conv": nir.Conv1d(8, kernel, 1, "same", 1, 1, np.zeros(3, np.float32)),
        "scale": nir.Scale(np.array([1, 0.5, 2], np.float32).reshape(3, 1) * np.ones((3, 8), np.float32)),
        "part": inner,
        "output": nir.Output(np.array([3, 8])),
    }
    graph = lowered(read_nir(write(tmp_path / "a.nir", nodes)), Convention.chosen(None, 1.0, "euler"), STEPS)
    x = frames(3, (2, 8))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1))), 3, axis=3)
    current = np.einsum("btcli,oci->btol", windows, kernel) * np.array([1, 0.5, 2])[:, None]
    found = trains(graph, x)["part.gate"]
    assert np.array_equal(found[:, :, :, 0], (current > 0.5).swapaxes(0, 1))


@pytest.mark.parametrize("name", ["snntorch subtract", "spikingjelly LIF", "sinabs LIF"])
@pytest.mark.parametrize("delay", [0, 3])
def test_recurrent_layers_and_delays(tmp_path: Path, name: str, delay: int) -> None:
    """A layer that reads its own spikes of an earlier step, and those of the layer behind."""
    convention, node, layer = EXPORTERS[name]
    dt = Convention.chosen(**convention).dt
    a, b, c, d = weights(True)
    rng = np.random.default_rng(3)
    own = rng.normal(-0.1, 0.2, (HIDDEN, HIDDEN)).astype(np.float32)
    back = rng.normal(-0.2, 0.3, (HIDDEN, CLASSES)).astype(np.float32)
    nodes = {
        "input": nir.Input(np.array([FEATURES])),
        "fc1": nir.Affine(a, b),
        "hidden": node(HIDDEN),
        "own": nir.Linear(own),
        "fc2": nir.Affine(c, d),
        "last": node(CLASSES),
        "back": nir.Linear(back),
        "output": nir.Output(np.array([CLASSES])),
    }
    edges = [("input", "fc1"), ("fc1", "hidden"), ("hidden", "fc2"), ("fc2", "last"), ("last", "output")]
    edges += [("last", "back"), ("back", "hidden"), ("own", "hidden")]
    if delay:
        nodes["delay"] = nir.Delay(vector(delay * dt, HIDDEN))
        edges += [("hidden", "delay"), ("delay", "own")]
    else:
        edges += [("hidden", "own")]
    graph = lowered(read_nir(write(tmp_path / "a.nir", nodes, edges)), Convention.chosen(**convention), STEPS)
    x, first, second = frames(), layer(), layer()
    sent = [np.zeros((len(x), HIDDEN), np.float32)] * max(1, delay)
    y = np.zeros((len(x), CLASSES), np.float32)
    expected = []
    for t in range(STEPS):
        hidden = first(x[:, t] @ a.T + b + sent[-max(1, delay)] @ own.T + y @ back.T)
        y = second(hidden @ c.T + d)
        sent.append(hidden)
        expected.append((hidden, y))
    found = trains(graph, x)
    for k, population in enumerate(("hidden", "last")):
        theirs = np.stack([each[k] for each in expected])
        assert 0.02 < (theirs > 0).mean() < 0.98
        assert (theirs == found[population]).mean() >= 0.999
    integer = quantise_all(graph)
    assert integer.integer
    assert (trains(integer, x)["hidden"] == found["hidden"]).mean() > 0.85


class TestCommand:
    def test_converts_measures_and_runs(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path, rows, out = (
            dense(tmp_path / "a.nir", SpikingJelly.node),
            tmp_path / "x.npy",
            tmp_path / "a.snn.onnx",
        )
        x = frames(8)
        np.save(rows, x)
        given = ["convert", str(path), "--calib", str(rows), "-o", str(out), "--threads", "1"]
        assert main([*given, "--exporter", "spikingjelly", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["same_answers"] >= 7
        assert told["input_unit"] == 1
        graph = load(out).graph
        expected = quantise_all(lowered(read_nir(path), Convention.chosen("spikingjelly"), STEPS))
        assert np.array_equal(trains(graph, x)["last"], trains(expected, x)["last"])

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ((), "name what wrote it by --exporter"),
            (("--exporter", "norse", "--preset", "fast"), "--preset is for networks in ONNX"),
            (("--exporter", "norse", "-T", "3"), "-T 3: the rows have 40 frames"),
            (("--exporter", "norse", "--shape", "input=4"), "--shape is for networks in ONNX"),
        ],
    )
    def test_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
    ) -> None:
        path, rows = dense(tmp_path / "a.nir", SpikingJelly.node), tmp_path / "x.npy"
        np.save(rows, frames(2))
        given = ["convert", str(path), "--calib", str(rows), "-o", str(tmp_path / "a.snn.onnx")]
        assert main([*given, *options]) == 2
        assert said in capsys.readouterr().err

    def test_rows_that_do_not_fit(self, tmp_path: Path) -> None:
        path = dense(tmp_path / "a.nir", SpikingJelly.node)
        with pytest.raises(InputError, match=r"takes frames, \(rows, steps, 12\), and the rows are of"):
            import_nir(path, frames()[0], Convention.chosen("spikingjelly"))
        assert import_nir(path, frames() / 3, Convention.chosen("spikingjelly"), "float32").scale == (
            pytest.approx(1 / 3 / 2047)
        )


class TestRefusals:
    def refused(self, path: Path, error: type[Exception] = UnsupportedModelError, **given: Any) -> str:
        with pytest.raises(error) as caught:
            lowered(read_nir(path), Convention.chosen(**(given or {"exporter": "spikingjelly"})), STEPS)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_what_is_left_open(self, tmp_path: Path) -> None:
        path = dense(tmp_path / "a.nir", SnnTorch.node)
        with pytest.raises(UsageError, match="name what wrote it by --exporter snntorch"):
            Convention.chosen(None)
        with pytest.raises(UsageError, match="give --discretisation euler"):
            Convention.chosen(None, 1e-3)
        assert "give --reset subtract" in self.refused(path, UsageError, exporter="snntorch")
        with pytest.raises(UsageError, match="known are snntorch"):
            Convention.chosen("brian")
        with pytest.raises(UsageError, match="--dt 0: give"):
            Convention.chosen(None, 0, "euler")
        assert "is shorter than the step of 0.01" in self.refused(
            path, exporter="snntorch", dt=0.01, reset="value"
        )

    def test_circles(self, tmp_path: Path) -> None:
        nodes = {
            "input": nir.Input(np.array([4])),
            "lif": SpikingJelly.node(4),
            "back": nir.Linear(np.eye(4, dtype=np.float32)),
            "output": nir.Output(np.array([4])),
        }
        edges = [("input", "lif"), ("lif", "back"), ("back", "lif"), ("back", "output")]
        several = [*edges, ("input", "back")]
        assert "nothing says which of them reads the step before" in self.refused(
            write(tmp_path / "a.nir", nodes, several)
        )
        nodes["lif"] = nir.Scale(vector(0.5, 4))
        edges = [("input", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "output")]
        assert "in a circle without neurons" in self.refused(write(tmp_path / "a.nir", nodes, edges))

    def test_nodes_without_a_form(self, tmp_path: Path) -> None:
        def chain(**nodes: Any) -> Path:
            ends = {"input": nir.Input(np.array([4]))}, {"output": nir.Output(np.array([4]))}
            return write(tmp_path / "a.nir", {**ends[0], **nodes, **ends[1]})

        eye = np.eye(4, dtype=np.float32)
        assert "is CubaLI, which is not read" in self.refused(
            chain(li=nir.CubaLI(*(vector(1, 4) for _ in range(5))))
        )
        assert "one whole number for all of it" in self.refused(chain(delay=nir.Delay(vector(1.5e-4, 4))))
        delays = np.array([1, 1, 2, 1], np.float32) * 1e-4
        assert "are 1 to 2 steps" in self.refused(chain(delay=nir.Delay(delays)))
        assert "up to 256" in self.refused(chain(delay=nir.Delay(vector(1, 4))))
        assert "delays a bias" in self.refused(
            chain(a=nir.Affine(eye, vector(1, 4)), delay=nir.Delay(vector(1e-4, 4)))
        )
        assert "join two layers" in self.refused(chain(a=nir.Linear(eye), b=nir.Linear(eye)))
        assert "only in front of the output" in self.refused(
            chain(li=nir.LI(*(vector(v, 4) for v in (1, 1, 0))), b=nir.Linear(eye))
        )
        assert "of the step before" in self.refused(chain(c=SnnTorch.node(4, alpha=0.5)), exporter="norse")
        assert "is not positive" in self.refused(chain(c=nir.IF(vector(1, 4), -vector(1, 4))))
        path = chain(c=nir.IF(vector(1, 4), vector(np.nan, 4)))
        assert "v_threshold of 'c' holds NaN" in self.refused(path, NonFiniteError)

    def test_damaged(self, tmp_path: Path) -> None:
        path = dense(tmp_path / "a.nir", SpikingJelly.node)
        path.write_bytes(path.read_bytes()[:2000])
        assert "cannot be read as a NIR file" in self.refused(path, InputError)
        path.write_bytes(b"no HDF5")
        self.refused(path, InputError)
        self.refused(tmp_path / "absent.nir", InputError)
