"""Channels that go together, networks without some of them, and the pass that chooses which."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from snnc.artefact import load, save
from snnc.compiler import Options, convert
from snnc.errors import GateError, UsageError
from snnc.ir import ann
from snnc.ir.batch import rows_of
from snnc.ir.channel_sets import Mask, channel_sets, without_channels
from snnc.ir.snn import Convolution, IntegrateFire, Linear, SnnGraph, SnnNode, Weighted
from snnc.passes import PASSES
from snnc.pipeline import Context, PassRecord, Pipeline, run_pipeline
from snnc.report.measuring import measure
from snnc.report.origin import prepared_source
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator, encode_all
from snnc.source.ann_session import AnnSession
from snnc.source.kept_channels import with_kept_channels
from tests.ann_graphs import Builder, context, residual_network
from tests.onnx_models import model, node, normal, saved
from tests.spiking_graphs import random_graph, random_inputs
from tests.tuned_networks import network

LOWERED = "fold-batchnorm,exact-max-pool,clip-activations,lower,dual-threshold,init-membrane"


def lowered(source: ann.AnnGraph, passes: str = LOWERED) -> tuple[SnnGraph, Context]:
    """Return a network in floats, with a context whose source is the one that was lowered."""
    made = context(source)
    graph, _ = run_pipeline(Pipeline.parse(passes, PASSES), source, made)
    assert isinstance(graph, SnnGraph)
    return graph, made


def pruned(graph: SnnGraph, made: Context, options: str) -> tuple[SnnGraph, PassRecord]:
    made = replace(made, findings={})
    done, (record,) = run_pipeline(Pipeline.parse(f"prune-channels{{{options}}}", PASSES), graph, made)
    assert isinstance(done, SnnGraph)
    return done, record


def silenced(graph: SnnGraph, kept: dict[str, Mask]) -> SnnGraph:
    """Return a network whose readers give no weight to the channels that go."""

    def without(node: Weighted) -> SnnNode:
        if not isinstance(node, Convolution | Linear) or (isinstance(node, Convolution) and node.groups > 1):
            return node
        mask = kept[node.inputs[0]].reshape(1, -1, *(1,) * (node.weight.ndim - 2))
        return node.with_(weight=np.where(mask, node.weight, 0).astype(node.weight.dtype))

    return graph.map(Weighted, without)


@pytest.mark.parametrize("seed", range(8))
def test_a_smaller_network_is_the_one_whose_channels_are_not_read(seed: int) -> None:
    graph = random_graph(seed, routed=seed % 2 == 0, several=seed % 3 == 0, functions=seed % 4 // 3)
    sets = channel_sets(graph)
    free = np.flatnonzero(~sets.fixed)
    random = np.random.default_rng(seed)
    gone = np.zeros(len(sets.fixed), np.bool_)
    gone[random.permutation(free)[: len(free) // 2]] = True
    for mask in sets.kept(gone).values():  # no layer vanishes
        gone &= mask.any() | ~gone
    kept = sets.kept(gone)
    if not all(mask.any() for mask in kept.values()):
        for name, mask in kept.items():
            if not mask.any():
                gone[sets.of[name][0]] = False
        kept = sets.kept(gone)
    smaller = without_channels(graph, kept)
    smaller.verify()
    q = random_inputs(graph, 3, seed)
    asked = RecordOptions(states=True)
    whole = ReferenceSimulator().run(silenced(graph, kept), q, graph.timesteps, asked)
    part = ReferenceSimulator().run(smaller, q, graph.timesteps, asked)
    for name, output in whole.outputs.items():
        np.testing.assert_array_equal(part.outputs[name], output)
    for name, counts in part.counts.items():
        np.testing.assert_array_equal(counts, whole.counts[name][:, kept[name]])


def test_some_channels_can_go_in_the_random_networks() -> None:
    assert sum(int((~channel_sets(random_graph(seed)).fixed).sum()) for seed in range(12)) > 50


def test_a_residual_sum_ties_the_populations_that_it_adds() -> None:
    graph, _ = lowered(residual_network())
    of = channel_sets(graph).of
    np.testing.assert_array_equal(of["relu0"], of["relu2"])
    assert not set(of["relu1"]) & set(of["relu0"])


def test_the_source_with_kept_channels_computes_the_same() -> None:
    source = residual_network(pool=True)
    split = with_kept_channels(source, {"relu0": [0, 3, 4], "relu3": [11]})
    x = np.random.default_rng(0).standard_normal((4, *source.input.shape)).astype(np.float32)
    names = ["relu0", "relu2", "relu4", source.output]
    whole = AnnSession(source, names, 1).run(x)
    part = AnnSession(split, names, 1).run(x)
    # onnxruntime fuses other operations, so that the last bits differ.
    np.testing.assert_allclose(part["relu0"], whole["relu0"][:, [0, 3, 4]], rtol=1e-4, atol=1e-5)
    for name in names[1:]:
        np.testing.assert_allclose(part[name], whole[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("score", ["activity", "potential", "weights"])
def test_a_share_of_every_layer_goes(score: str) -> None:
    graph, made = lowered(residual_network())
    done, record = pruned(graph, made, f"share=0.5,score={score}")
    sizes = {node.name: node.channels for node in done.of_type(IntegrateFire)}
    assert sizes == {"relu0": 4, "relu1": 4, "relu2": 4, "relu3": 6, "relu4": 6}
    assert record.findings["channels"] == {"before": 8 + 8 + 12 + 12, "after": 20}
    weights = [sum(node.weight.size for node in each.of_type(Weighted)) for each in (graph, done)]
    assert weights[1] < 0.4 * weights[0]


def test_what_a_silent_or_constant_channel_sent_is_kept_in_the_biases() -> None:
    # Channels 0 to 3 are constant: without them nothing changes but the rounding of the mean.
    b = Builder(3)
    conv = b.conv("conv0", "x", 8)
    (node,) = (node for node in b.nodes if isinstance(node, ann.Convolution))
    weight = np.where(np.arange(8)[:, None, None, None] < 4, 0, node.weight).astype(np.float32)
    b.nodes[-1] = node.with_(weight=weight, bias=np.full(8, 0.5, np.float32))
    top = b.linear("fc", b.flatten("flat", b.relu("relu0", conv)), 5)
    graph, made = lowered(b.graph(top))
    done, record = pruned(graph, made, "share=0.5")
    assert record.findings["kept"] == {"relu0": [4, 5, 6, 7]}
    q = encode_all(graph, made.calibration.rows[:8])
    whole, part = (ReferenceSimulator().run(each, q, graph.timesteps).outputs["fc"] for each in (graph, done))
    np.testing.assert_allclose(part, whole, rtol=1e-4, atol=1e-3)


def test_compensation_fits_the_pruned_network_to_the_whole_source() -> None:
    source = residual_network()
    made = context(source, rows=200)
    text = f"{LOWERED},prune-channels{{share=0.25}},compensate,quantise-weights"
    graph, records = run_pipeline(Pipeline.parse(text, PASSES), source, made)
    assert isinstance(graph, SnnGraph)
    assert graph.integer
    found = {record.text.partition("{")[0]: record.findings for record in records}
    divergence = found["compensate"]["divergence"]
    assert found["compensate"]["kept"]
    assert divergence["compensated"] < 0.8 * divergence["plain"]
    # What it was fitted to are the answers of the whole source.
    x = rows_of(made.calibration.rows, "x")[:20]
    whole, targets = (
        AnnSession(each.without_thresholds(), [each.output], 1).run(x)[each.output]
        for each in (source, made.ann())
    )
    np.testing.assert_allclose(targets, whole, rtol=1e-4, atol=1e-4)


def test_the_report_compares_with_the_channels_that_are_left(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x a", "c1"),
        node("Relu", "c1", "r1"),
        node("Conv", "r1 b", "c2"),
        node("Relu", "c2", "r2"),
        node("GlobalAveragePool", "r2", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f w", "y", transB=1),
    ]
    constants = {"a": normal(8, 2, 3, 3) / 4, "b": normal(6, 8, 1, 1) / 2, "w": normal(3, 6)}
    path = saved(tmp_path, model(nodes, ["batch", 2, 6, 6], constants))
    rows = np.random.default_rng(3).standard_normal((120, 2, 6, 6)).astype(np.float32)
    text = f"{LOWERED},prune-channels{{share=0.5}},compensate,quantise-weights"
    artefact = convert(path, rows[:100], Options(timesteps=6, pipeline=text, threads=1)).artefact
    save(artefact, tmp_path / "pruned.snn.onnx")
    again = load(tmp_path / "pruned.snn.onnx")
    assert [node.channels for node in again.graph.of_type(IntegrateFire)] == [4, 3]
    source = prepared_source(again, path, ReferenceSimulator())
    found = measure(again, source, rows[100:], None, simulator=ReferenceSimulator(), threads=1)
    layers = {layer.name: layer for layer in found.layers}
    assert len(layers) == 3
    # The channels that are gone are missed behind them, and named as a matter of weights.
    first, *_, last = found.layers
    assert abs(last.local.of("parameters")) > abs(first.local.of("parameters"))


def test_a_report_on_a_pruned_network_with_fine_identity_branches(tmp_path: Path) -> None:
    path = network(tmp_path)
    rows = np.random.default_rng(3).standard_normal((120, 1, 6, 6)).astype(np.float32)
    text = (
        "fold-batchnorm,exact-max-pool,clip-activations{levels=15},lower,multi-threshold,"
        "fine-skip{levels=63},init-membrane,prune-channels{share=0.5},compensate,quantise-weights"
    )
    artefact = convert(path, rows[:100], Options(timesteps=1, pipeline=text, threads=1)).artefact
    assert any(node.fine for node in artefact.graph.of_type(IntegrateFire))
    source = prepared_source(artefact, path, ReferenceSimulator())
    found = measure(artefact, source, rows[100:], None, simulator=ReferenceSimulator(), threads=1)
    assert len(found.layers) == 1 + len(artefact.graph.of_type(IntegrateFire))


def test_a_limit_on_operations_is_kept_and_costly_channels_go_first() -> None:
    graph, made = lowered(residual_network())
    _, free = pruned(graph, made, "max-synops=1000000,share=0.25")
    before = free.findings["synops"]["before"]
    limit = round(0.5 * before, 4)
    done, record = pruned(graph, made, f"max-synops={limit}")
    after = record.findings["operations / MACs"]["after"]
    assert 0.3 * before < after <= limit
    assert all(node.channels for node in done.of_type(IntegrateFire))


def test_a_limit_on_weights_is_kept() -> None:
    graph, made = lowered(residual_network())
    done, _ = pruned(graph, made, "max-weights=0.5")
    weights = [sum(node.weight.size for node in each.of_type(Weighted)) for each in (graph, done)]
    assert 0.3 < weights[1] / weights[0] <= 0.5


def test_a_limit_that_no_pruning_meets_is_refused_with_the_nearest() -> None:
    graph, made = lowered(residual_network())
    with pytest.raises(GateError, match=r"no pruning .* nearest, .*operations / MACs \(limit 0.0001\)"):
        pruned(graph, made, "max-synops=0.0001")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{share=1}", "leaves no channel of any layer"),
        ("{share=-0.1}", "share must lie in"),
        ("{max-weights=2}", "max-weights must lie in"),
        ("{score=luck}", "luck"),
    ],
)
def test_what_makes_no_sense_is_refused(options: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Pipeline.parse(f"prune-channels{options}", PASSES)


def test_without_a_share_or_a_limit_nothing_is_asked_for() -> None:
    graph, made = lowered(residual_network())
    with pytest.raises(UsageError, match=r"prunes nothing: give it a share"):
        pruned(graph, made, "score=potential")


def test_a_share_that_takes_nothing_out_is_refused_with_the_least_that_does() -> None:
    graph, made = lowered(residual_network())
    with pytest.raises(UsageError, match=r"prune-channels.share=0.01 takes no channel out") as told:
        pruned(graph, made, "share=0.01")
    enough = re.search(r"give ([0-9.]+) or more", str(told.value))
    assert enough is not None
    assert pruned(graph, made, f"share={enough[1]}")[0] is not graph


def test_integers_are_refused() -> None:
    graph, made = lowered(residual_network(), f"{LOWERED},quantise-weights")
    with pytest.raises(UsageError, match="before `compensate`"):
        pruned(graph, made, "share=0.5")


def test_a_limit_on_weights_takes_channels_of_many_weights() -> None:
    """The first layers, of few weights and most operations, keep theirs."""
    graph, made = lowered(residual_network())
    by_weights, _ = pruned(graph, made, "max-weights=0.8")
    by_operations, _ = pruned(graph, made, "max-synops=0.5")

    def left(of: SnnGraph) -> list[float]:
        """Return the share of channels that each population keeps, first to last."""
        whole = graph.of_type(IntegrateFire)
        return [of[node.name].channels / node.channels for node in whole]

    assert left(by_weights)[:3] == [1, 1, 1]
    assert min(left(by_operations)[:3]) < 1
