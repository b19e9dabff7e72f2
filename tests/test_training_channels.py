"""Channels that go and grow while a network is tuned: how many, which, and a network that is smaller."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.artefact import save
from snnc.cli import main
from snnc.compiler import Options
from snnc.diagnostics import DEAD_CHANNELS
from snnc.errors import UsageError
from snnc.frontend import read_onnx
from snnc.ir import ann, snn
from snnc.report.measuring import measure
from snnc.report.origin import prepared_source
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.reference import ReferenceSimulator
from tests.onnx_models import Array
from tests.tuned_networks import Material, network

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch

from snnc.training import stage as stages
from snnc.training.ann_network import AnnNetwork
from snnc.training.channels import ChannelGroups, Gates
from snnc.training.recipe import Recipe
from snnc.training.train import train
from snnc.training.tuning import Tuning, tune

STEPS = 60
CHANNELS = 6
"""Of both rectifiers of the network, which a residual sum ties together."""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    path = network(tmp_path_factory.mktemp("channels"))
    x = np.random.default_rng(0).standard_normal((240, 1, 6, 6)).astype(np.float32)
    answers, _ = run_ann(read_onnx(path).graph, x)
    return Material(path, x, answers.argmax(axis=1))


def run(material: Material, **changes: Any) -> Tuning:
    given: dict[str, Any] = {
        "epochs": 25,
        "batch": 32,
        "held_back": 0.25,
        "rate": 1e-2,
        "precision": "float32",
        "timesteps": 1,
        "channels": 0.5,
        "options": Options(threads=1),
        **changes,
    }
    return tune(material.path, material.x, material.y, **given)


def gated(floor: float | None = None, **options: Any) -> tuple[ann.AnnGraph, AnnNetwork]:
    """A network of one rectifier with gates, whose readers give each channel its own weight."""
    size = 10
    graph = ann.AnnGraph(
        name="net",
        nodes=(
            ann.Input(name="x", shape=(size,)),
            ann.Relu(
                name="r",
                inputs=("x",),
                shape=(size,),
                threshold=np.ones(size, np.float32),
                floor=None if floor is None else np.full(size, floor, np.float32),
                levels=4,
            ),
            ann.Linear(
                name="y",
                inputs=("r",),
                shape=(2,),
                weight=np.arange(1, 2 * size + 1, dtype=np.float32).reshape(2, size),
                bias=np.zeros(2, np.float32),
            ),
        ),
        outputs=("y",),
        output_names=("y",),
    )
    made = AnnNetwork(graph, 1)
    groups = ChannelGroups({"r": np.arange(size)}, (np.arange(size),), size)
    made.gates = Gates(groups, graph, Recipe(epochs=1, **{"channels": 0.6, **options}))
    return graph, made


def gates_of(made: AnnNetwork) -> Gates:
    assert made.gates is not None
    return made.gates


@pytest.mark.parametrize("score", ["gradient", "potential"])
@pytest.mark.parametrize("regrow", ["gradient", "random", "none"])
def test_the_share_falls_and_stays(regrow: str, score: str) -> None:
    _, made = gated(regrow=regrow, channel_score=score)
    gates, generator = gates_of(made), torch.Generator().manual_seed(1)
    made.train()
    held = []
    for step in range(STEPS):
        x = torch.rand(8, 10, generator=generator)
        made({"x": x}).outputs["y"].square().mean().backward()
        gates.follow(step, STEPS, generator)
        held.append(gates.held.clone())
    counts = [int(each.sum()) for each in held]
    assert counts[0] == round(4 + 6 * (1 - 1 / 20) ** 3) == 9
    assert counts[19:] == [4] * (STEPS - 19)
    assert gates.falling(19, STEPS)
    assert not gates.falling(20, STEPS)
    changed = any(not torch.equal(each, held[19]) for each in held[20:45])
    assert changed == (regrow != "none")
    assert all(torch.equal(each, held[45]) for each in held[45:])


def test_the_gradient_of_a_gate_is_what_its_channel_brings() -> None:
    _, made = gated()
    gates = gates_of(made)
    gates.held[3:6] = False
    x = torch.rand(8, 10, generator=torch.Generator().manual_seed(0))
    run_ = made({"x": x}, keep=("r",))
    assert not run_.kept["r"][:, 3:6].any()
    assert not run_.counts["r"][:, 3:6].any()
    run_.outputs["y"].sum().backward()
    gates.follow(0, STEPS, torch.Generator())
    gates.held[:] = True
    whole = made({"x": x}, keep=("r",)).kept["r"]
    weight = torch.arange(1.0, 21).reshape(2, 10).sum(dim=0)
    expected = (whole * weight).sum(dim=0).detach()
    torch.testing.assert_close(gates.gradient, 0.02 * expected.square())


def test_of_a_floor_silence_is_left() -> None:
    graph, made = gated(floor=0.25)
    gates_of(made).held[3:6] = False
    x = torch.rand(8, 10, generator=torch.Generator().manual_seed(0))
    found = made({"x": x}, keep=("r",))
    assert bool((found.kept["r"][:, 3:6] == 0.25).all())
    closed = made.graph()
    rectifier = closed["r"]
    assert isinstance(rectifier, ann.Relu)
    assert rectifier.threshold is not None
    assert (rectifier.threshold == [1, 1, 1, 0.25, 0.25, 0.25, 1, 1, 1, 1]).all()
    again = AnnNetwork(closed, 1)({"x": x})
    torch.testing.assert_close(again.outputs["y"], found.outputs["y"])
    # What never fires at the start is out, and stays out.
    groups = ChannelGroups({"r": np.arange(10)}, (np.arange(10),), 10)
    later = Gates(groups, closed, Recipe(epochs=1, channels=0.6))
    assert later.held.tolist() == [True] * 3 + [False] * 3 + [True] * 4
    assert graph["r"] is not rectifier


def channels_of(found: Tuning) -> list[int]:
    return [node.channels for node in found.artefact.graph.of_type(snn.IntegrateFire)]


@pytest.mark.parametrize("score", ["gradient", "potential"])
def test_the_tuned_network_is_smaller(score: str, material: Material, tmp_path: Path) -> None:
    dense = run(material, channels=None, epochs=1)
    found = run(material, channel_score=score, epochs=50)
    assert channels_of(dense) == [CHANNELS, CHANNELS]
    assert channels_of(found) == [CHANNELS // 2, CHANNELS // 2]
    kept = found.results[1]
    assert kept.tuned is not None
    assert kept.equal_rows == 60
    paths = []
    for name, tuning in (("dense", dense), ("small", found)):
        save(tuning.artefact, tmp_path / f"{name}.snn.onnx")
        paths.append(tmp_path / f"{name}.snn.onnx")
        out = tmp_path / name
        assert main(["deploy", str(paths[-1]), "--target", "c99", "-o", str(out)]) == 0
    weights = [sum(n.weight.size for n in t.artefact.graph.of_type(snn.Weighted)) for t in (dense, found)]
    assert weights[1] < 0.5 * weights[0]
    texts = [(tmp_path / name / "snnc_network.c").stat().st_size for name in ("dense", "small")]
    assert texts[1] < texts[0]


def test_the_channels_that_are_taken_out_never_fired(material: Material) -> None:
    """What is deployed computes what the first stage had learned, without a second."""
    found = run(material, rounded=0.0)
    record = next(r for r in found.conversions[1].records if r.text.startswith("prune-channels"))
    assert record.findings["channels"] == {"before": CHANNELS, "after": CHANNELS // 2}
    # So there is nothing to warn of.
    assert DEAD_CHANNELS not in [each.code for each in found.diagnostics]
    levels = [line for line in found.results[1].history if "levels" in line["stage"]]
    best = max(line["accuracy"] for line in levels[1:] if line["step"] >= levels[-1]["of"] / 3)
    tuned = found.results[1].tuned
    assert tuned is not None
    assert tuned.as_dict()["accuracy"] == pytest.approx(best, abs=0.05)


def test_the_report_compares_the_channels_that_are_left(material: Material) -> None:
    found = run(material, options=Options(preset="one-step", threads=1))
    assert found.results[1].is_tuned
    graph = found.artefact.graph
    assert any(node.fine for node in graph.of_type(snn.IntegrateFire))
    simulator = ReferenceSimulator()
    source = prepared_source(found.artefact, material.path, simulator)
    kept = {node.name: node.channels for node in source.of_type(ann.Relu)}
    for node in graph.of_type(snn.IntegrateFire):
        assert kept[node.stands_for] == node.channels == CHANNELS // 2
    assert measure(found.artefact, source, material.x[:40], None, simulator=simulator, threads=1).layers


def test_several_numbers_of_steps_lose_the_same_channels(material: Material) -> None:
    found = run(material, timesteps=(2, 1))
    for T in (2, 1):
        graph = found.artefacts[T].graph
        assert [node.channels for node in graph.of_type(snn.IntegrateFire)] == [CHANNELS // 2] * 2


def test_a_price_on_spikes_goes_with_channels(material: Material) -> None:
    found = run(material, losses={"kl": 1.0, "activity": 0.1})
    assert channels_of(found) == [CHANNELS // 2] * 2


def weights_of(tuning: Tuning) -> list[Array]:
    graph = tuning.artefact.graph
    nodes = (node for node in graph if isinstance(node, snn.Convolution | snn.Linear))
    return [np.asarray(node.weight) for node in nodes]


def test_a_run_goes_on_to_the_same_bits(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(material)
    monkeypatch.setattr(stages, "CHECKPOINT_SECONDS", 0.0)
    left, given = 15, stages.Stage.take

    def stopping(*arguments: Any) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return given(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(stages.Stage, "take", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(material, checkpoints=tmp_path)
    resumed = run(material, checkpoints=tmp_path)
    for one, other in zip(weights_of(whole), weights_of(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 1.0}, "channels must lie between 0 and 1, not 1.0"),
        ({"channels": 0}, "channels must lie between 0 and 1, not 0"),
        ({"channels": 0.1}, "takes no channel out of any layer, as the largest has 6 that can go"),
        ({"density": 0.5}, "channels and density"),
        ({"rounded": 1.0}, "channels are taken out while the first stage learns"),
        ({"learn": ("thresholds",)}, "channels are taken out while the first stage learns"),
        ({"channel_score": "weights"}, "channel_score 'weights' is unknown; known: gradient, potential"),
    ],
)
def test_shares_that_make_no_sense(changes: dict[str, Any], message: str, material: Material) -> None:
    with pytest.raises(UsageError, match=message):
        run(material, **changes)


def test_pipelines_that_prune_themselves_are_refused(material: Material) -> None:
    text = (
        "fold-batchnorm,exact-max-pool,clip-activations,lower,dual-threshold{spikes-per-step=1},"
        "init-membrane,prune-channels{share=0.5},compensate,quantise-weights"
    )
    with pytest.raises(UsageError, match="has prune-channels already"):
        run(material, options=Options(pipeline=text, threads=1))


def test_what_has_no_effect_is_refused(material: Material, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tune", str(material.path), "--train", "x.npz", "--epochs", "1", "-o", "out.snn.onnx"]
    assert main([*command, "--channel-score", "potential"]) == 2
    assert "give --channels" in capsys.readouterr().err
    assert main([*command, "--regrow", "none"]) == 2
    assert "--regrow is for sparse networks" in capsys.readouterr().err
    with pytest.raises(UsageError, match="channels are taken out by tune"):
        train("compact", np.zeros((40, 32, 32, 3), np.uint8), np.zeros(40), epochs=1, channels=0.5)
