"""Networks that take frames: converted, saved, judged against their source, and answering a stream."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import snnc
from snnc.analysis.answers import all_outputs_of
from snnc.analysis.streaming import stream
from snnc.artefact import Artefact, load, save
from snnc.backends import load_simulator
from snnc.cli import main
from snnc.errors import InputError, UsageError
from snnc.events import EVENT, EventFrames, open_recording, streamed
from snnc.ir import snn
from snnc.ir.neuron import Neuron
from snnc.ir.snn import Presented
from tests.onnx_models import model, node, normal, saved
from tests.recordings import noise, write_bin
from tests.spiking_graphs import random_graph
from tests.temporal_graphs import with_frames, with_leaks

T = 4


def recordings(rows: int = 40, seed: int = 0) -> np.ndarray:
    """Return (rows, T, 6) counts, such that what comes late matters."""
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.uniform(0, 2, (rows, 1, 6)), (rows, T, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    proto = model(
        [
            node("Gemm", "x w b", "h", transB=1),
            node("Relu", "h", "a"),
            node("Gemm", "a v c", "y", transB=1),
        ],
        ("n", 6),
        {"w": normal(9, 6), "b": normal(9), "v": normal(3, 9), "c": normal(3)},
    )
    return saved(tmp_path_factory.mktemp("network"), proto)


@pytest.fixture(scope="module")
def converted(network: Path) -> Any:
    return snnc.convert(
        network, recordings().sum(axis=1), timesteps=T, preset="graded", frames=True, task="classes"
    )


def test_frames_that_add_up_give_the_still_answers(network: Path, converted: Any) -> None:
    rows = recordings()
    still = snnc.convert(
        network,
        rows.sum(axis=1),
        timesteps=T,
        preset="graded",
        settings={"lower.input-limit": snn.INPUT_LIMIT // T},
        task="classes",
    )
    expected = still.simulate(rows.sum(axis=1)).logits
    same = np.repeat(rows.sum(axis=1)[:, np.newaxis] / T, T, axis=1)
    np.testing.assert_array_equal(converted.simulate(same).logits, expected)
    found = converted.simulate(rows).logits  # each frame is rounded by itself
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9


def test_the_artefact_keeps_what_a_row_is(converted: Any, tmp_path: Path) -> None:
    save(converted, tmp_path / "network.snn.onnx")
    back = load(tmp_path / "network.snn.onnx")
    assert back.graph.encoder.presented is Presented.ACCUMULATED
    rows = recordings(5)
    np.testing.assert_array_equal(back.encode(rows), converted.encode(rows))
    assert back.encode(rows).shape == (5, T, 6)
    with pytest.raises(InputError, match=r"\(5, 3, 6\)"):
        back.encode(rows[:, :3])


def test_the_source_sees_the_sum(network: Path, converted: Any) -> None:
    rows, labels = recordings(), np.zeros(40, np.int64)
    found = converted.evaluate(rows, labels)
    assert found.ann is not None
    source = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    scores = source.run(None, {"x": rows.sum(axis=1)})[0]
    np.testing.assert_array_equal(found.ann.scores.classes, np.asarray(scores).argmax(axis=1))
    assert found.costs.first_layer_macs == T * 6 * 9
    with pytest.raises(UsageError, match="converted without --frames"):
        converted.report(rows, labels)


def test_what_cannot_be_frames(network: Path, tmp_path: Path, capsys: Any) -> None:
    rows = recordings().sum(axis=1)
    with pytest.raises(UsageError, match="frames are given as the network takes them"):
        snnc.convert(network, rows, timesteps=T, preset="fast", frames=True, preprocessing={"divide": 2.0})
    np.save(tmp_path / "rows.npy", rows)
    given = [
        str(network),
        "--calib",
        str(tmp_path / "rows.npy"),
        "-o",
        str(tmp_path / "o.snn.onnx"),
        "--frames",
    ]
    for more, problem in (
        ([], "give their number, -T"),
        (["-T", "4", "--max-drop", "1"], "--max-drop is measured on rows that stay the same"),
    ):
        assert main(["convert", *given, *more]) == 2
        assert problem in capsys.readouterr().err


def test_folders_of_recordings(tmp_path: Path) -> None:
    """Accumulated where they calibrate, cut into T frames where the network takes them."""
    for number in range(12):
        folder = tmp_path / "recordings" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        write_bin(folder / f"{number}.bin", noise(seed=number))
    size, events = 2 * 34 * 34, {"events": {"sensor": [34, 34]}}
    proto = model(
        [
            node("Flatten", "x", "f"),
            node("Gemm", "f w", "h", transB=1),
            node("Relu", "h", "a"),
            node("Gemm", "a v"),
        ],
        ("n", 2, 34, 34),
        {"w": normal(5, size), "v": normal(5, 2)},
    )
    made = snnc.convert(
        saved(tmp_path, proto),
        tmp_path / "recordings",
        timesteps=T,
        preset="fast",
        frames=True,
        task="classes",
        preprocessing=events,
    )
    (tmp_path / "recordings" / "images.json").write_text(json.dumps(events))
    found = made.evaluate(tmp_path / "recordings")
    assert found.scores.n == 12
    assert found.ann is not None
    with pytest.raises(UsageError, match="leave out `frames` in the preprocessing"):
        snnc.convert(
            saved(tmp_path, proto),
            tmp_path / "recordings",
            timesteps=T,
            preset="fast",
            frames=True,
            preprocessing={"events": {"frames": 3, **events["events"]}},
        )


def streaming(leaky: bool = False) -> Artefact:
    graph = random_graph(5, timesteps=T, flat=True, blocks=1, neuron=Neuron(spikes_per_step=None))
    graph = with_leaks(graph, 3) if leaky else graph
    return Artefact(with_frames(graph, Presented.SEQUENCE if leaky else Presented.ACCUMULATED))


def made_up(artefact: Artefact, count: int) -> np.ndarray:
    encoder = artefact.graph.encoder
    x = np.random.default_rng(1).normal(size=(count, *encoder.shape)) * encoder.scale * encoder.limit / 3
    return x.astype(np.float32)


@pytest.mark.parametrize("leaky", [False, True])
def test_a_stream_answers_as_a_run_does_after_each_step(leaky: bool) -> None:
    artefact, simulator = streaming(leaky), load_simulator("reference")
    frames = made_up(artefact, 2 * T)
    found = list(stream(artefact, frames))
    assert [(each.window, each.step) for each in found] == [(w, s) for w in (0, 1) for s in range(1, T + 1)]
    rows = frames.reshape(2, T, *artefact.graph.encoder.shape)
    (values,) = all_outputs_of(
        artefact.graph, artefact.encode, rows, simulator=simulator, timesteps=T, per_step=True
    ).values()
    for each in found:
        raw = values[each.step - 1, each.window : each.window + 1]
        np.testing.assert_array_equal(each.values, artefact.graph.readout.real(raw, each.step)[0])
        assert each.answer == raw.argmax()


def test_a_window_ends_where_the_answer_is_sure() -> None:
    artefact = streaming()
    frames = made_up(artefact, 2 * T)
    sure = [each.confidence for each in stream(artefact, frames)]
    found = list(stream(artefact, frames, exit_confidence=sure[1]))
    assert all(each.enough == (each.confidence >= sure[1]) for each in found)
    assert found[-1].window == 1
    assert sum(each.window == 0 for each in found) <= 2


def test_a_stream_that_keeps_its_state() -> None:
    artefact = streaming(leaky=True)
    frames = made_up(artefact, 2 * T)
    found = list(stream(artefact, frames, keep_state=True))
    assert [each.step for each in found] == list(range(1, 2 * T + 1))
    with pytest.raises(UsageError, match="add up to one row"):
        list(stream(streaming(), frames, keep_state=True))
    with pytest.raises(UsageError, match="convert it with --frames"):
        list(stream(Artefact(random_graph(5, flat=True)), frames))


def test_a_recording_is_streamed(tmp_path: Path, capsys: Any) -> None:
    encoder = snn.Encode(name="x", shape=(2, 4, 4), scale=1.0, presented=Presented.SEQUENCE)
    nodes = (
        encoder,
        snn.Reshape(name="flat", inputs=("x",), shape=(32,)),
        snn.Linear(
            name="w", inputs=("flat",), shape=(3,), weight=np.arange(96, dtype=np.int8).reshape(3, 32)
        ),
        snn.Readout(name="y", inputs=("w",), shape=(3,), bias=np.zeros(3, np.int32)),
    )
    graph = snn.SnnGraph(name="events", timesteps=T, outputs=("y",), nodes=nodes, max_timesteps=64)
    save(Artefact(graph), tmp_path / "n.snn.onnx")
    rng = np.random.default_rng(0)
    events = np.zeros(40, EVENT)
    events["t"] = np.sort(rng.integers(0, 4000, 40))
    events["x"], events["y"], events["p"] = (rng.integers(0, most, 40) for most in (4, 4, 2))
    np.save(tmp_path / "events.npy", events)
    command = ["run", str(tmp_path / "n.snn.onnx"), "--stream", "--input", str(tmp_path / "events.npy")]
    assert main([*command, "--every", "1000"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    recording = open_recording(tmp_path / "events.npy", (4, 4))
    frames = list(streamed(recording, EventFrames(), 1000))
    expected = list(stream(Artefact(graph), frames))
    assert [line["class"] for line in found] == [each.answer for each in expected]
    assert len(found) == len(frames) >= 3
    assert main([*command[:-1], str(tmp_path / "n.snn.onnx"), "--every", "1000"]) == 2
    assert "--every is for recordings" in capsys.readouterr().err


def test_the_command_answers_line_by_line(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    artefact = streaming()
    save(artefact, tmp_path / "n.snn.onnx")
    frames = made_up(artefact, T + 1)
    np.save(tmp_path / "frames.npy", frames)
    command = ["run", str(tmp_path / "n.snn.onnx"), "--stream", "--input"]
    assert main([*command, str(tmp_path / "frames.npy")]) == 0
    told = capsys.readouterr().out
    lines = [json.loads(line) for line in told.splitlines()]
    assert [(line["window"], line["step"]) for line in lines] == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1)]
    whole = (tmp_path / "frames.npy").read_bytes()
    for data, code in ((whole, 0), (whole[:-3], 5), (b"no frames", 5)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert main([*command, "-"]) == code
        caught = capsys.readouterr()
        assert caught.out == told if not code else "standard input" in caught.err
    for refused, code in (("--per-step", 2), ("--threads=1", 2), ("--every=1000", 5)):
        assert main([*command, str(tmp_path / "frames.npy"), refused]) == code
    assert main(["run", str(tmp_path / "n.snn.onnx"), "--input", str(tmp_path / "frames.npy")]) == 2
