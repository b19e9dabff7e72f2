"""Ordinary ONNX between spikes: converted, written, read, and run alike everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import snnc
from snnc.analysis.evaluation import evaluate
from snnc.analysis.latency import depth, latencies, latency_steps
from snnc.artefact import Artefact, load, save
from snnc.artefact.metadata import HASH, content_hash
from snnc.backends import load_backend, load_simulator
from snnc.backends.deployment import problems
from snnc.cli import main
from snnc.compiler import Options, convert, examine, read_convertible
from snnc.errors import ArtefactError, InputError, UnsupportedModelError, UsageError
from snnc.ir.snn import IntegrateFire
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.conversions import CountingSimulator
from tests.test_host_sections import run

SHAPE = (2, 6, 6)
OUTPUTS = ("scores", "shade")


def network(batch: int | str = "n", names: tuple[str, str] = ("image", "scores")) -> onnx.ModelProto:
    """Return a network that sorts channels before its layers and twice between, and has a second output.

    What is sorted last is joined with the sorted image, a layer in the middle reads the image again, and the
    last one a population from before both.
    """
    g = np.random.default_rng(0)
    image, scores = names
    constants: dict[str, Any] = {
        "two": np.array([2]),
        "eight": np.array([8]),
        "w1": g.normal(0, 0.4, (8, 2, 3, 3)),
        "b1": g.normal(0, 0.1, 8),
        "w2": g.normal(0, 0.4, (8, 8, 1, 1)),
        "w3": g.normal(0, 0.2, (8, 8, 3, 3)),
        "w4": g.normal(0, 0.2, (8, 2, 3, 3)),
        "w5": g.normal(0, 0.2, (6, 16, 3, 3)),
        "w7": g.normal(0, 0.2, (8, 8, 3, 3)),
        "w6": g.normal(0, 0.1, (96, 5)),
        "flat": np.array([0, -1]),
    }
    pads = {"pads": [1, 1, 1, 1]}
    nodes: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("TopK", [image, "two"], "normal", {"axis": 1}),
        ("Conv", ["normal", "w1", "b1"], "c1", pads),
        ("Relu", ["c1"], "r1", {}),
        ("Conv", ["r1", "w2"], "e1", {}),
        ("TopK", ["e1", "eight"], "g1", {"axis": 1}),
        ("Conv", ["g1", "w3"], "c2", pads),
        ("Conv", [image, "w4"], "c3", pads),
        ("Add", ["c2", "c3"], "sum", {}),
        ("Relu", ["sum"], "r2", {}),
        ("Conv", ["r2", "w7"], "c5", pads),
        ("Concat", ["c5", "normal"], "all", {"axis": 1}),
        ("TopK", ["all", "eight"], "g2", {"axis": 1}),
        ("Concat", ["g2", "r1"], "both", {"axis": 1}),
        ("Conv", ["both", "w5"], "c4", {}),
        ("Relu", ["c4"], "r3", {}),
        ("Reshape", ["r3", "flat"], "row", {}),
        ("MatMul", ["row", "w6"], scores, {}),
        ("ReduceMax", ["normal"], "shade", {"axes": [1, 2, 3], "keepdims": 1}),
    ]
    made = [
        helper.make_node(o, i, [u, f"{u}_places"] if o == "TopK" else [u], name=f"{u}_node", **a)
        for o, i, u, a in nodes
    ]
    stored = [
        numpy_helper.from_array(np.asarray(v, np.int64 if np.asarray(v).dtype.kind == "i" else np.float32), k)
        for k, v in constants.items()
    ]
    value = helper.make_tensor_value_info
    outputs = [
        value(scores, TensorProto.FLOAT, [batch, 5]),
        value("shade", TensorProto.FLOAT, [batch, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        made, "sorting", [value(image, TensorProto.FLOAT, [batch, *SHAPE])], outputs, stored
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def rows(n: int = 96, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *SHAPE)).astype(np.float32)


def converted(model: onnx.ModelProto, preset: str = "fast", timesteps: int = 4) -> Artefact:
    return convert(model, rows(), Options(timesteps, preset, threads=1, host="any")).artefact


@pytest.fixture(scope="module")
def artefact() -> Artefact:
    return converted(network())


def answers(artefact: Artefact, x: np.ndarray, **options: Any) -> dict[str, np.ndarray]:
    return artefact.decode(snnc.simulate(artefact, x, threads=1, **options), x)


def test_what_stands_between_spikes_is_told(artefact: Artefact) -> None:
    host = artefact.host
    assert host is not None
    assert len(host.islands) == 2
    told = {node.name: node for node in host.nodes}
    assert told["g1_node"].section == "island 1"
    assert told["g2_node"].section == "island 2"
    assert told["normal_node"].section == "prefix"
    assert told["g1_node"].is_cause
    assert "TopK" in told["g1_node"].reason
    assert host.share == 1
    assert not {"c1_node", "e1_node", "c2_node", "c3_node", "c4_node", "scores_node"} & told.keys()
    assert host.beside == ("image", "normal")
    assert {port.name for port in host.entries} >= {"image in segment 1", "r1 in segment 2"}
    assert [len(segment.of_type(IntegrateFire)) > 0 for segment in artefact.segments] == [True] * 3


def test_nothing_falls_into_an_island_unasked() -> None:
    source, found = examine(network(), Options(4, "fast"))
    assert found if source is None else source.host is not None and not source.host.islands
    with pytest.raises(UnsupportedModelError):
        read_convertible(network(), Options(4, "fast", host="none"))


def test_answers_are_near_the_source(artefact: Artefact) -> None:
    x = rows(64, 2)
    wanted = dict(zip(OUTPUTS, run(network(), {"image": x}), strict=True))
    found = answers(artefact, x)
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose(found["shade"], wanted["shade"], atol=1e-6)
    noise = np.square(found["scores"] - wanted["scores"]).sum()
    assert noise < 0.3 * np.square(wanted["scores"] - wanted["scores"].mean(0)).sum()
    finer = answers(converted(network(), timesteps=32), x)["scores"]
    assert np.square(finer - wanted["scores"]).sum() < 0.2 * noise


@pytest.mark.parametrize(("preset", "timesteps"), [("fast", 4), ("graded", 2), ("one-step", 1), ("paper", 8)])
def test_simulators_and_the_file_agree(preset: str, timesteps: int, tmp_path: Path) -> None:
    made, path, again = converted(network(), preset, timesteps), tmp_path / "a.onnx", tmp_path / "b.onnx"
    x = rows(16, 3)
    found = [answers(made, x, backend=name) for name in ("reference", "numba", "onnx")]
    save(made, path)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert [value.name for value in model.graph.input] == ["image", "T"]
    found.append(dict(zip(OUTPUTS, run(model, {"image": x}), strict=True)))
    loaded = load(path)
    found.append(answers(loaded, x))
    for other in found[1:]:
        for name in OUTPUTS:
            np.testing.assert_array_equal(found[0][name], other[name])
    assert loaded.host is not None
    assert made.host is not None
    assert loaded.host.as_dict() == made.host.as_dict()
    save(loaded, again)
    assert again.read_bytes() == path.read_bytes()


def test_other_numbers_of_steps_in_the_file(artefact: Artefact) -> None:
    x = rows(8, 4)
    found = run(artefact.model(), {"image": x, "T": np.asarray(2)})
    for name, value in answers(artefact, x, timesteps=2).items():
        np.testing.assert_array_equal(found[OUTPUTS.index(name)], value)


@pytest.mark.parametrize("names", [("x", "y"), ("q", "t"), ("batch size", "going on"), ("time", "zero")])
def test_names_of_the_source_are_kept(names: tuple[str, str]) -> None:
    made = converted(network(names=names))
    whole = made.model()
    onnx.checker.check_model(whole)
    x = rows(4, 5)
    found, _ = run(whole, {names[0]: x})
    np.testing.assert_array_equal(found, answers(made, x)[names[1]])


def test_a_fixed_batch() -> None:
    made, x = converted(network(4)), rows(8, 6)
    found = answers(made, x)["scores"]
    for start in (0, 4):
        np.testing.assert_array_equal(
            run(made.model(), {"image": x[start : start + 4]})[0], found[start : start + 4]
        )
    np.testing.assert_array_equal(answers(made, x[:3])["scores"], found[:3])


def test_each_segment_costs_the_steps_of_a_run(artefact: Artefact) -> None:
    counting, x = CountingSimulator(), rows(4, 7)
    evaluation = evaluate(
        artefact.graph, artefact.encode, x, None, simulator=counting, finish=artefact.finish
    )
    assert sum(steps for _, steps in counting.ran) == evaluation.latency_steps == 3 * 4
    assert sum(len(graph.of_type(IntegrateFire)) for graph, _ in counting.ran) == len(
        artefact.graph.of_type(IntegrateFire)
    )
    settled = replace(artefact.graph, settle_steps=3, max_timesteps=0)
    assert latency_steps(settled, 4, artefact.input_segments) == 3 * 7
    layered = converted(network(), "graded", 2)
    depths = [depth(segment) for segment in layered.segments]
    assert latencies(layered.graph, 2, layered.input_segments) == tuple(2 * depth for depth in depths)
    assert min(depths) > 0
    assert latency_steps(layered.graph, 2, layered.input_segments) == 2 * sum(depths)


def test_what_a_run_encodes_behind_an_island_is_what_the_island_made_of_the_spikes(
    artefact: Artefact,
) -> None:
    """Not what the source would have given there."""
    x = rows(4, 8)
    trace = snnc.simulate(artefact, x, threads=1)
    behind = {name for name, number in artefact.input_segments.items() if number}
    assert trace.encoded.keys() == behind
    other = replace(trace, outputs={name: 2 * y for name, y in trace.outputs.items()})
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(artefact.decode(other, x)["scores"], artefact.decode(trace, x)["scores"])


def test_a_simulator_of_one_segment_is_not_taken_for_one_of_all(artefact: Artefact) -> None:
    q = artefact.encode(rows(2, 9))
    with pytest.raises(InputError, match="input"):
        ReferenceSimulator().run(artefact.graph, q, 4)
    with pytest.raises(UsageError, match="islands"):
        artefact.canonical(rows(2, 9))
    simulator = artefact.simulator(load_simulator("numba", 1))
    with pytest.raises(UsageError, match="as a whole"):
        simulator.run(artefact.graph, q, 4, RecordOptions(until=(artefact.graph.nodes[-1].name,)))


@pytest.mark.parametrize("target", ["c99", "nir", "loihi", "akida", "spiking-onnx"])
def test_targets_refuse_it_and_name_the_island(artefact: Artefact, target: str) -> None:
    found = problems(load_backend(target, None), artefact.graph, artefact.host)
    assert any("TopK runs as ordinary ONNX in island 1, between spikes" in item.message for item in found)


FORGED: dict[str, Any] = {
    "no island": lambda host: host["sections"].pop("island 1"),
    "a third island": lambda host: host["sections"].update({"island 3": host["sections"]["island 2"]}),
    "an island too many": lambda host: host["sections"].update({"island 9": None}),
    "an island of another name": lambda host: host["sections"].update(
        {"island 01": host["sections"].pop("island 1")}
    ),
    "a place of a node": lambda host: host["nodes"][0].update(section="island 7"),
    "what an island gives": lambda host: host["sections"]["island 1"]["outputs"].pop(),
    "what an island reads": lambda host: host["sections"]["island 1"]["inputs"][0].update(name="scores"),
    "islands in another order": lambda host: host["sections"].update(
        {"island 1": host["sections"]["island 2"], "island 2": host["sections"]["island 1"]}
    ),
    "an entry": lambda host: host["entries"].reverse(),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_a_file_says_of_its_islands_is_not_believed(
    artefact: Artefact, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "forged.snn.onnx"
    save(artefact, path)
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == "snnc.host":
            host = json.loads(entry.value)
            FORGED[what](host)
            entry.value = json.dumps(host)
    for entry in model.metadata_props:
        if entry.key == HASH:
            entry.value = content_hash(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="not in the form that snnc writes"):
        load(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("islands")
    x = rows(48, 10)
    onnx.save(network(), folder / "n.onnx")
    np.savez(folder / "calib.npz", x=rows())
    np.savez(folder / "test.npz", x=x, scores=run(network(), {"image": x})[0].argmax(axis=1))
    np.save(folder / "x.npy", x[:6])
    asked = ("--calib", folder / "calib.npz", "-T", 4, "--preset", "fast", "--threads", 1, "--host", "any")
    assert main(["convert", str(folder / "n.onnx"), *map(str, asked), "-o", str(folder / "n.snn.onnx")]) == 0
    return folder


def told(capsys: pytest.CaptureFixture[str], *arguments: Any, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_check_names_nodes_shares_and_steps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "check", folder / "n.onnx", "--host", "any")["host"]
    assert (found["islands"], found["latency_steps"], found["spiking_share"]) == (2, None, 1)
    nodes = {node["name"]: node for node in found["nodes"]}
    assert nodes["normal_node"]["latency_steps"] == 0
    assert nodes["g1_node"]["latency_steps"] is None
    assert main(["check", str(folder / "n.onnx"), "--host", "any"]) == 0
    text = capsys.readouterr().out
    assert "the latency is 3 (T + K) steps" in text
    assert "island 1: TopK 'g1_node'" in text
    assert main(["check", str(folder / "n.onnx")]) in (0, 3)
    assert "island 1" not in capsys.readouterr().out


def test_verbs_tell_the_steps_of_all_segments(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, data = folder / "n.snn.onnx", ("--data", folder / "test.npz", "--threads", 1)
    shown = told(capsys, "inspect", made)
    assert shown["latency_steps"] == 12
    assert shown["host"]["latency_steps"] == 8
    assert {node["latency_steps"] for node in shown["host"]["nodes"] if "island" in node["section"]} == {4}
    judged = told(capsys, "eval", made, *data, "--against", "source")
    assert judged["latency_steps"] == 12
    timed = told(capsys, "bench", made, *data, "--batch", 4, "--rounds", 1)
    assert timed["latency_steps"] == 12
    report = told(capsys, "report", made, *data, "--curve", "4")
    assert (report["latency_steps"], report["host"]["latency_steps"]) == (12, 8)
    for name in OUTPUTS:  # the same source and the same spikes, by another way
        ours, theirs = (found["outputs"][name]["metrics"] for found in (judged, report))
        for metric in ours.keys() & theirs.keys():
            one, other = ours[metric]["value"], theirs[metric]["value"]
            assert one == other if one is None or other is None else one == pytest.approx(other, rel=1e-4)
    assert judged["outputs"]["scores"]["metrics"].keys() & report["outputs"]["scores"]["metrics"].keys()
    capsys.readouterr()
    assert main(["run", str(made), "--input", str(folder / "x.npy"), "-o", str(folder / "y.npz")]) == 0
    with np.load(folder / "y.npz") as found:
        wanted = answers(load(made), np.load(folder / "x.npy"))
        assert all(np.array_equal(found[name], wanted[name]) for name in OUTPUTS)


def test_rows_that_were_calibrated_on_are_known_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["eval", str(folder / "n.snn.onnx"), "--data", str(folder / "calib.npz"), "--limit", "8"]) == 0
    )
    assert "8 of 8 rows were used for calibration" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [("certify",), ("bench", "--mode", "counts")])
def test_what_takes_one_run_refuses_islands(
    folder: Path, verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [verb[0], str(folder / "n.snn.onnx"), *verb[1:], "--data", str(folder / "test.npz")]
    assert main(asked) == 2
    assert "island" in capsys.readouterr().err


def test_choosing_and_dry_runs_know_of_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dry = told(
        capsys, "convert", folder / "n.onnx", "--calib", folder / "calib.npz", "--host", "any", "--dry-run"
    )
    assert dry["host"]["islands"] == 2
