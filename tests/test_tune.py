"""Tuning: what is trained is what is deployed, never worse than the closed form, resumed to the same bits."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.analysis.certificate import quantised
from snnc.artefact import Artefact, load, save
from snnc.compiler import Options, convert
from snnc.data.leakage import count_seen
from snnc.errors import InputError, InternalError, UsageError
from snnc.ir import snn
from snnc.ir.text import print_exact
from snnc.metrics.task import Task
from snnc.numerics.quantisation import few_bit_layers
from snnc.numerics.weight_grid import bits_of
from snnc.passes import PASSES
from snnc.pipeline import Pipeline
from snnc.report.origin import prepared_source
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests import test_islands
from tests.onnx_models import Array, model, node, saved
from tests.tuned_networks import QUICK, ROWS, Material, answered, network, run

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)


import torch

from snnc.training import losses, verification
from snnc.training import stage as stages
from snnc.training import tuner as tuners
from snnc.training.ann_network import AnnNetwork
from snnc.training.augmentation import augmented
from snnc.training.judge import Judge, Measure
from snnc.training.learner import Learner
from snnc.training.recipe import Recipe
from snnc.training.spiking_network import SpikingNetwork, untrainable
from snnc.training.tuning import Tuning, tune


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return answered(tmp_path_factory.mktemp("tune"))


@pytest.fixture(scope="module")
def whole(material: Material, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tuning, Path]:
    """A run that was not interrupted, with labels."""
    metrics = tmp_path_factory.mktemp("metrics") / "m.jsonl"
    return run(material, labels=material.y, metrics=metrics, timesteps=(2, 1)), metrics


def counts(artefact: Artefact, x: Array) -> dict[str, Array]:
    trace = ReferenceSimulator().run(
        artefact.graph, artefact.encode(x), artefact.graph.timesteps, RecordOptions(states=True)
    )
    return dict(trace.counts)


def test_tuning_lowers_the_error_on_rows_held_back(whole: tuple[Tuning, Path]) -> None:
    tuning, _ = whole
    for T in (2, 1):
        kept = tuning.results[T]
        assert kept.is_tuned
        assert kept.tuned is not None
        assert kept.tuned.right is not None
        assert kept.tuned.right.n == 60
        assert kept.tuned.key < kept.closed.key
        assert kept.equal_rows == 60
    with pytest.raises(UsageError, match="T = 2, T = 1: choose one"):
        _ = tuning.artefact


@pytest.mark.parametrize("option", ["compensate.bits", "quantise-weights.bits"])
def test_weights_of_few_bits_are_learned(material: Material, option: str) -> None:
    """They are what is trained, so that the module and the artefact agree; the closed form has as few."""
    passes = Pipeline.parse(
        "fold-batchnorm,exact-max-pool,rectify-linear,clip-activations{levels=15,floor=true},lower,"
        "multi-threshold,init-membrane,compensate,quantise-weights",
        PASSES,
    )
    if option != "compensate.bits":
        passes = passes.without("compensate")
    given = Options(1, None, pipeline=passes, settings={option: "3"}, threads=1)
    tuning = run(material, labels=material.y, timesteps=1, options=given)
    kept = tuning.results[1]
    assert kept.tuned is not None
    assert kept.equal_rows == 60
    graph = tuning.artefact.graph
    (layer,) = few_bit_layers(graph)
    node = graph[layer]
    assert isinstance(node, snn.Convolution)
    assert bits_of(node.weight) == 3
    assert tuning.artefact.metadata.records[-1]["pass"] == "quantise-weights{bits=3}"
    if kept.is_tuned:
        assert "quantise-weights{bits=3}" in tuning.artefact.metadata.pipeline
        (record,) = (each for each in tuning.artefact.metadata.records if each["pass"] == "tune")
        assert record["recipe"]["rounded"] == pytest.approx(1 / 3)


def test_the_artefact_tells_how_it_was_made(
    whole: tuple[Tuning, Path], material: Material, tmp_path: Path
) -> None:
    artefact = whole[0].artefacts[2]
    save(artefact, tmp_path / "net.snn.onnx")
    metadata = load(tmp_path / "net.snn.onnx").metadata
    (record,) = (record for record in metadata.records if record["pass"] == "tune")
    assert (record["kept"], record["rows"], record["held_back"], record["labels"]) == (
        "tuned",
        180,
        60,
        ["y"],
    )
    assert record["losses"] == {"kl": 0.9, "labels": 0.1}
    assert record["curve"][0]["step"] == 0
    assert "compensate" not in metadata.pipeline
    assert "dual-threshold{spikes-per-step=2}" in metadata.pipeline
    # Every training row is recognised, also those that only decided.
    assert count_seen(metadata.calibration["row_hashes"], artefact.encode(material.x)) == ROWS
    source = prepared_source(artefact, material.path, ReferenceSimulator())
    assert {node.stands_for for node in artefact.graph.of_type(snn.IntegrateFire)} <= {n.name for n in source}


def test_the_counts_are_those_of_the_quantised_network(
    whole: tuple[Tuning, Path], material: Material
) -> None:
    fresh = np.random.default_rng(9).standard_normal((50, 1, 6, 6)).astype(np.float32)
    for artefact in whole[0].artefacts.values():
        graded = replace(artefact, graph=quantised(artefact.graph))
        for name, found in counts(artefact, fresh).items():
            np.testing.assert_array_equal(found, counts(graded, fresh)[name])


def test_measurements_are_lines_of_json(whole: tuple[Tuning, Path]) -> None:
    lines = [json.loads(line) for line in whole[1].read_text().splitlines()]
    assert [line["stage"] for line in lines if line["step"] == 0] == [
        "T = 2, levels",
        "T = 2, integers",
        "T = 1, levels",
        "T = 1, integers",
    ]
    assert all(0 <= line["accuracy"] <= 1 and line["rows"] == 60 for line in lines)
    assert all({"kl", "labels"} == set(line["losses"]) for line in lines if line["step"])


def test_a_network_that_got_worse_is_not_kept(material: Material) -> None:
    found = run(material, rate=30.0, timesteps=2, rounded=1.0)
    kept = found.results[2]
    assert not kept.is_tuned
    assert kept.reason == "the closed form is as good on the rows held back"
    assert any("the closed form is as good" in each.message for each in found.diagnostics)
    record = next(r for r in found.artefact.metadata.records if r["pass"] == "tune")
    assert record["kept"] == "closed form"
    assert "compensate" in found.artefact.metadata.pipeline
    # It is what a conversion with the same rows makes.
    plain = convert(
        material.path,
        material.x[np.setdiff1d(np.arange(ROWS), np.arange(60) * ROWS // 60)],
        Options(2, "balanced", settings={"dual-threshold.spikes-per-step": "2"}, threads=1),
    )
    assert print_exact(found.artefact.graph) == print_exact(plain.artefact.graph)


def test_a_loss_that_is_no_number_keeps_the_last_good_state(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    given = losses.total

    def broken(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        loss, parts = given(*arguments)
        return (loss * float("nan"), parts) if calls > 12 else (loss, parts)

    monkeypatch.setattr(losses, "total", broken)
    found = run(material, rounded=0.0, timesteps=1)
    assert calls == 13
    assert found.results[1].history[-1]["step"] <= 12
    assert found.results[1].diverged == ("T = 1, levels",)
    assert any(
        "T = 1, levels: the loss or the answers were not finite" in d.message for d in found.diagnostics
    )
    for name, value in counts(found.artefact, material.x[:5]).items():
        assert np.isfinite(value).all(), name


def test_answers_without_bounds_end_a_stage_and_are_told(material: Material) -> None:
    found = run(material, rate=1e30, timesteps=1, rounded=0.3)
    assert "T = 1, levels" in found.results[1].diverged
    assert any(each.help == "tune at a lower --rate" for each in found.diagnostics)
    (record,) = (record for record in found.artefact.metadata.records if record["pass"] == "tune")
    assert record["diverged"] == list(found.results[1].diverged)


@pytest.mark.parametrize("loss", ["features", "activity", "attention"])
def test_losses_of_rectifiers_need_some(loss: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    proto = model(
        [node("Gemm", "x w", "h", transB=1), node("Tanh", "h", "t"), node("Gemm", "t v", transB=1)],
        ("N", 8),
        {
            name: random.standard_normal(shape).astype(np.float32)
            for name, shape in (("w", (16, 8)), ("v", (3, 16)))
        },
    )
    x = random.standard_normal((ROWS, 8)).astype(np.float32)
    given: dict[str, Any] = {**QUICK, "timesteps": 1, "losses": {loss: 1.0, "kl": 1.0}}
    folder = tmp_path / "run"
    with pytest.raises(UsageError, match=f"the loss {loss} .* the network has none"):
        tune(
            saved(tmp_path, proto),
            x,
            options=Options(preset="one-step", threads=1),
            checkpoints=folder,
            **given,
        )
    assert not folder.exists()


def test_a_refused_run_leaves_nothing_in_the_way_of_the_next(material: Material, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UsageError, match="reverse needs 60 steps"):
        run(material, density=0.5, reverse=True, epochs=1, checkpoints=folder)
    assert not folder.exists()
    folder.mkdir()
    (folder / "note.txt").write_text("the user's own")
    with pytest.raises(UsageError, match="reverse needs 60 steps"):
        run(material, density=0.5, reverse=True, epochs=1, checkpoints=folder)
    assert [path.name for path in folder.iterdir()] == ["note.txt"]
    run(material, epochs=1, checkpoints=folder)
    assert (folder / "plan.json").exists()


def test_what_is_trained_must_be_what_is_deployed(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(ReferenceSimulator):
        def run(self, graph: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
            trace = super().run(graph, inputs, *arguments, **named)
            for values in trace.counts.values():
                values[-1] += 1
            return trace

    given = verification.verified
    monkeypatch.setattr(tuners, "verified", lambda n, g, j, _: given(n, g, j, Wrong()))
    with pytest.raises(InternalError, match="are not those that were trained"):
        run(material, epochs=0.2)


def test_synapses_that_are_none_stay_none(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = iter((Measure(1.0, None), Measure(0.5, None)))
    monkeypatch.setattr(Judge, "simulated", lambda *_: next(judged))
    pruned = Material(network(tmp_path, pruned=True), material.x, material.y)
    found = run(pruned, timesteps=2, epochs=1)
    graph = found.artefact.graph
    first = next(node for node in graph if isinstance(node, snn.Convolution))
    assert found.results[2].is_tuned
    assert not first.weight[:, :, 0].any()
    assert first.weight[:, :, 1:].any()


def test_numbers_are_tuned_by_their_squared_error(material: Material, tmp_path: Path) -> None:
    path = network(tmp_path, outputs=2)
    found = tune(
        path,
        material.x,
        timesteps=1,
        options=Options(threads=1, task=Task.REGRESSION),
        **QUICK,
    )
    (record,) = (r for r in found.artefact.metadata.records if r["pass"] == "tune")
    assert record["losses"] == {"squared": 1.0}
    kept = found.results[1]
    assert kept.is_tuned
    assert kept.tuned is not None
    assert kept.tuned.right is None
    assert kept.tuned.error < kept.closed.error


@pytest.mark.parametrize(
    "mixed",
    [
        {"kl": 1.0, "features": 0.1, "attention": 0.1},
        {"hta-kl": 1.0, "anytime": 0.5},
        {"kl": 1.0, "activity": 1.0},
    ],
)
def test_every_loss_trains(mixed: dict[str, float], material: Material) -> None:
    found = run(material, losses=mixed, timesteps=2, epochs=0.4)
    history = found.results[2].history
    assert all(set(each["losses"]) == set(mixed) for each in history if each["step"])
    assert all(np.isfinite(list(each["losses"].values())).all() for each in history if each["step"])


def test_a_price_on_activity_saves_operations(material: Material) -> None:
    spikes = {}
    for price in (0.0, 20.0):
        mixed = {"kl": 1.0} | ({"activity": price} if price else {})
        found = run(material, losses=mixed, timesteps=2)
        artefact = found.artefact if found.results[2].is_tuned else None
        if artefact is None:
            continue
        spikes[price] = sum(int(each.sum()) for each in counts(artefact, material.x[:40]).values())
    assert 0.0 in spikes
    assert 20.0 not in spikes or spikes[20.0] < 0.9 * spikes[0.0]


def test_a_mixed_image_is_made_of_two() -> None:
    """Image i is 1 in channel i alone: its channels tell what a mixture is made of."""
    x = torch.eye(6)[:, :, None, None].expand(6, 6, 2, 2)
    found = augmented(x, ("mix",), torch.Generator().manual_seed(0))
    shares = found[:, :, 0, 0]
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(6))
    assert bool(((shares > 0).sum(dim=1) <= 2).all())
    assert bool((shares.diagonal() > 0).all())
    assert bool((shares.diagonal() < 1).any())
    assert torch.equal(found, shares[:, :, None, None].expand(6, 6, 2, 2))


def test_mixed_images_have_no_labels(material: Material) -> None:
    assert run(material, augment=("mix",), epochs=0.4).results[1].tuned is not None
    with pytest.raises(UsageError, match="augment mix puts images together that have no label"):
        run(material, augment=("mix",), labels=material.y, epochs=0.4)


def test_augmentation_is_for_images(material: Material) -> None:
    assert run(material, augment=("crop", "flip", "cutout"), epochs=0.4).results[1].tuned is not None


@pytest.mark.parametrize("timesteps", [1, 2])
def test_fine_skips_are_trained_in_both_stages(
    timesteps: int, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = iter((Measure(1.0, None), Measure(0.5, None)))
    monkeypatch.setattr(Judge, "simulated", lambda *_: next(judged))
    found = run(material, fine_skip=True, timesteps=timesteps, epochs=1)
    kept = found.results[timesteps]
    assert kept.tuned is not None
    assert kept.equal_rows == 60
    assert kept.is_tuned
    fine = [node for node in found.artefact.graph.of_type(snn.IntegrateFire) if node.fine]
    # The sum reads the first of them, the classifier the second.
    assert [node.stands_for for node in fine] == ["Relu_r1", "Relu_r2"]
    assert [node.neuron.levels for node in fine] == [15, 15]
    coarse = [node for node in found.artefact.graph.of_type(snn.IntegrateFire) if not node.fine]
    assert {node.neuron.payload for node in coarse} == {"signed"}
    source = prepared_source(found.artefact, material.path, ReferenceSimulator())
    assert {node.stands_for for node in (*fine, *coarse)} <= {node.name for node in source}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": None}, "say how long to tune: minutes, or epochs"),
        ({"minutes": 1}, "say how long to tune: minutes, or epochs"),
        ({"epochs": -1}, "epochs must be a number above 0"),
        ({"losses": {"mse": 1.0}}, "the loss 'mse' is unknown; known: kl, hta-kl"),
        ({"losses": {"kl": 0.0}}, "weight of the loss 'kl'"),
        ({"losses": {"labels": 1.0}}, "the loss labels needs labels"),
        ({"losses": {"squared": 1.0}}, "the outputs are class scores: use kl"),
        ({"learn": ("weight",)}, "learn 'weight' is unknown; known: weights"),
        ({"learn": ()}, "nothing is to be learned"),
        ({"augment": ("rotate",)}, "augment 'rotate' is unknown; known: crop"),
        ({"batch": 1}, "batch must be a whole number of at least 2"),
        ({"timesteps": ()}, "give one number of steps"),
        ({"timesteps": (2, 2)}, "several that differ"),
        ({"fine_skip": True, "options": Options(preset="graded")}, "has fine skips already"),
        ({"fine_skip": True, "options": Options(pipeline="lower")}, "put `fine-skip` into the pipeline"),
        ({"colour": 1}, "tune takes no 'colour'"),
        ({"options": Options(preset="binary-only")}, "their order matters: tune with --set dual-threshold"),
        ({"options": Options(pipeline="fold-batchnorm,clip-activations,lower")}, "needs `lower` and `quant"),
    ],
)
def test_recipes_that_make_no_sense(changes: dict[str, Any], message: str, material: Material) -> None:
    with pytest.raises(UsageError, match=message):
        run(material, **{"timesteps": 2, **changes})


def test_nodes_that_cannot_be_trained_are_named(material: Material) -> None:
    points = np.array([[1, 5]], np.int32)
    node_ = snn.IntegrateFire(
        name="stepped",
        inputs=("current",),
        shape=(2,),
        origin="Gelu_3",
        threshold=np.ones(2, np.int32),
        bias=np.zeros(2, np.int32),
        v_init=np.zeros(2, np.int32),
        spike_scale=np.ones(2, np.float32),
        breakpoints=points,
        step_values=np.array([0, 1, 2], np.int32),
    )
    graph = snn.SnnGraph(name="test", nodes=(node_,), outputs=("stepped",), timesteps=2)
    told = "'Gelu_3' becomes IntegrateFire 'stepped', which follows a step function"
    assert untrainable(graph) == f"{told} and cannot be trained yet"
    with pytest.raises(UsageError, match=f"{told}.*: convert the network without tuning"):
        SpikingNetwork(graph)


def test_spikes_in_pieces_are_refused() -> None:
    rows = np.zeros((60, *test_islands.SHAPE), np.float32)
    with pytest.raises(UsageError, match="ordinary ONNX between its spikes"):
        tune(test_islands.network().SerializeToString(), rows, options=Options(host="any"), epochs=1)


def test_rows_and_labels_that_do_not_fit(material: Material) -> None:
    with pytest.raises(InputError, match="are 20 rows, too few to learn from"):
        run(replace(material, x=material.x[:20]))
    with pytest.raises(InputError, match="there are 240 rows, but 5 labels"):
        run(material, labels=material.y[:5])
    with pytest.raises(InputError, match="the label 7 does not fit 3 classes"):
        run(material, labels=material.y + 5)
    with pytest.raises(InputError, match="shape"):
        run(replace(material, x=material.x[:, :, :5]))


def test_what_is_not_to_be_learned_stays(material: Material) -> None:
    from snnc.frontend import read_onnx

    graph = read_onnx(material.path).graph
    found = Learner(AnnNetwork(graph), Recipe(epochs=1, learn=("norms",)))
    assert {p.field for p in found.network.learned if p.tensor.requires_grad} == {"scale", "shift"}
    assert sum(len(group["params"]) for group in found.groups) == 2


def test_memory_that_ends_in_training_is_told(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(stages.Stage, "take", short)
    with pytest.raises(UsageError, match="a batch of 32 rows does not fit memory any more: give --batch 16"):
        run(material, epochs=0.2)


def test_a_stage_that_only_gets_worse_keeps_its_first_state(material: Material) -> None:
    found = run(material, rate=30.0, timesteps=2, rounded=0.0)
    kept = found.results[2]
    assert kept.tuned is not None
    first = kept.history[0]
    assert all(line["error"] > first["error"] for line in kept.history[1:])
    assert kept.tuned.error < 2 * first["error"] + 0.05


def test_levels_in_bfloat16_become_integers_that_are_exact(material: Material) -> None:
    """What is deployed was trained in integers, whatever the first stage multiplied in."""
    kept = run(material, precision="bfloat16", fine_skip=True, timesteps=2, epochs=2).results[2]
    assert kept.tuned is not None
    assert kept.equal_rows > 0
