"""The five errors: they add up, and each catches its own cause."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.errors import InputError, NonFiniteError, UnknownOperationError
from snnc.ir.graph import IntArray
from snnc.ir.neuron import Neuron
from snnc.ir.operations import firing
from snnc.ir.snn import Convolution, IntegrateFire, SnnGraph
from snnc.report.coding import counts, evenly_spaced
from snnc.report.fed import FedSource
from snnc.report.layers import LayerReport
from snnc.report.measurement import Measurement
from snnc.report.terms import OWN, TERMS, decompose, received
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.ann_graphs import residual_network
from tests.conversions import MADE, Converted, ScaleThreshold, convert
from tests.spiking_graphs import random_graph

END = "init-membrane,quantise-weights"
KINDS = {
    "signed": MADE,
    "binary": "clip-activations,lower,init-membrane,quantise-weights",
    "graded": "clip-activations,lower,graded,fine-skip,init-membrane,quantise-weights",
    "one-step": "clip-activations{levels=15},lower,multi-threshold,init-membrane,quantise-weights",
    "settled": "clip-activations,lower,dual-threshold,set-schedule{settle-steps=2}," + END,
    "barrier": "clip-activations,lower,dual-threshold,set-schedule{kind=layerwise}," + END,
    "floor": "clip-activations{floor=true},lower,dual-threshold{spikes-per-step=2}," + END,
    "fine floor": "clip-activations{floor=true},lower,graded,fine-skip," + END,
    "float32": "clip-activations,lower,dual-threshold,init-membrane",
}


@cache
def conversion(kind: str, pool: bool = False) -> Converted:
    return convert(residual_network(3, pool=pool), KINDS[kind])


@cache
def measured(kind: str, pool: bool = False) -> Measurement:
    return conversion(kind, pool).measured()


def layer(found: Measurement, name: str) -> LayerReport:
    return next(item for item in found.layers if item.name == name)


@given(
    st.integers(1, 9),
    st.integers(0, 3),
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
)
def test_a_code_sends_its_count_evenly(timesteps: int, settle_steps: int, wanted: list[int]) -> None:
    counted = np.array([wanted], np.int32)
    train = evenly_spaced(counted, timesteps, settle_steps)
    assert (train.sum(axis=0) == counted).all()
    assert not train[timesteps:].any()
    during = train[:timesteps]
    assert (during.max(axis=0) - during.min(axis=0)).max() <= 1
    done = during.cumsum(axis=0)
    ideal = counted * np.arange(1, timesteps + 1)[:, None, None] / timesteps
    assert np.abs(done - ideal).max() <= 0.5


def test_a_code_is_the_nearest_count() -> None:
    node = conversion("signed").artefact.graph.of_type(IntegrateFire)[0]
    step = float(node.spike_scale[0]) / 4
    a = np.zeros((5, node.channels, 1, 1), np.float32)
    a[:, 0, 0, 0] = [0, 0.49 * step, 0.51 * step, 3 * step, 40 * step]
    assert counts(node, a, 4)[:, 0, 0, 0].tolist() == [0, 0, 1, 3, 4]


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_terms_add_up_in_every_neuron(kind: str, pool: bool) -> None:
    made = conversion(kind, pool)
    graph, source = made.artefact.graph, made.source
    q = made.artefact.encode(made.rows)
    trace = ReferenceSimulator().run(graph, q, 4, RecordOptions(states=True))
    fed = FedSource(source, graph, 1)
    answers = fed.run(q, trace.counts, 4)
    for node in graph.of_type(IntegrateFire):
        relu = fed.rectifier(node.name)
        name = source[node.name if node.name in source else node.name.removesuffix(".fine")].inputs[0]
        _, values = run_ann(source, made.rows, [name])
        n, v = trace.counts[node.name], trace.potentials[node.name]
        found = decompose(
            node, relu, values[name], answers.before[node.name], n, v, 4, 4 + graph.settle_steps
        )
        activations = np.maximum(values[name], 0)
        sent = node.decoded(n, 4)
        scale = np.abs(activations).max()
        assert np.abs(sum(found.errors) - (sent - activations)).max() < 1e-5 * scale
        clipping, quantisation = found.errors[2:4]
        assert clipping.max() <= max(1e-12, float(node.lowest.max()))
        # Half a level and, above the largest one, nothing: from a start at half the threshold Q rounds.
        unit = float((node.spike_scale / 4).max())
        assert np.abs(quantisation).max() <= unit * (1.01 if node.integer else 0.5 + 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_adds_up_to_the_difference_of_both_networks(kind: str) -> None:
    made, found = conversion(kind), measured(kind)
    graph, source = made.artefact.graph, made.source
    trace = ReferenceSimulator().run(graph, made.artefact.encode(made.rows), 4, RecordOptions(states=True))
    for node in graph.of_type(IntegrateFire):
        _, values = run_ann(source, made.rows, [node.name.removesuffix(".fine")])
        a = values[node.name.removesuffix(".fine")].astype(np.float64)
        phi = node.decoded(trace.counts[node.name], 4).astype(np.float64)
        split = layer(found, node.name).cumulative
        assert split.total == pytest.approx(np.square(phi - a).sum() / np.square(a).sum(), rel=1e-4)
        assert sum(split.means) == pytest.approx((phi - a).mean(), abs=1e-6)
        assert split.sqnr == pytest.approx(
            10 * np.log10(np.square(a).sum() / np.square(phi - a).sum()), abs=1e-3
        )
        assert split.cosine == pytest.approx(
            (a * phi).sum() / np.sqrt(np.square(a).sum() * np.square(phi).sum()), abs=1e-6
        )
    logits, _ = run_ann(source, made.rows)
    outputs = trace.logits * made.artefact.graph.nodes[-1].scale / 4  # type: ignore[attr-defined]
    assert sum(found.layers[-1].cumulative.means) == pytest.approx((outputs - logits).mean(), abs=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "floor" not in kind])
def test_equal_parameters_make_no_parameter_error(kind: str) -> None:
    """Only the rounding to int8 is left, which a floating-point network does not even have."""
    for item in measured(kind).layers:
        for split in (item.local, item.cumulative):
            assert abs(split.of("parameters")) < (1e-6 if kind == "float32" else 3e-3)


@pytest.mark.parametrize("kind", ["graded", "barrier"])
def test_networks_that_wait_for_all_input_have_no_unevenness(kind: str) -> None:
    for item in measured(kind).layers:
        assert item.local.of("unevenness") == item.cumulative.of("unevenness") == 0
        if item.firing is not None:
            assert item.firing.lead == (0, 0, 1, 0, 0)


def test_plain_neurons_are_more_uneven_than_signed_ones() -> None:
    binary, signed = measured("binary"), measured("signed")
    for name in ("relu1", "relu2", "relu3", "relu4"):
        assert layer(binary, name).local.rms[4] > 2 * layer(signed, name).local.rms[4]


Change = Callable[[SnnGraph], SnnGraph]


def _population(name: str, **changes: Callable[[IntegrateFire], object]) -> Change:
    def change(graph: SnnGraph) -> SnnGraph:
        node = graph[name]
        assert isinstance(node, IntegrateFire)
        return graph.replacing({name: node.with_(**{key: make(node) for key, make in changes.items()})})

    return change


def _coarse(graph: SnnGraph) -> SnnGraph:
    node = graph["conv3"]
    assert isinstance(node, Convolution)
    weight = (np.rint(node.weight / 64) * 64).clip(-127, 127).astype(np.int8)
    return graph.replacing({"conv3": node.with_(weight=weight)})


def _lost_bias(node: IntegrateFire) -> IntArray:
    return (node.bias - 2 * node.threshold).astype(np.int32)


PLANTED: dict[str, tuple[Change, str]] = {
    "start at zero": (_population("relu3", v_init=lambda node: 0 * node.v_init), "quantisation"),
    "no negative spikes": (_population("relu3", neuron=lambda _: Neuron(count_memory=False)), "unevenness"),
    "coarse weights": (_coarse, "parameters"),
    "lost bias": (_population("relu3", bias=_lost_bias), "parameters"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_each_term_catches_its_own_cause_where_it_is(name: str) -> None:
    change, term = PLANTED[name]
    plain, made = measured("signed"), conversion("signed").altered(change)
    broken = made.measured()
    before, after = layer(plain, "relu3").local, layer(broken, "relu3").local
    grown = {key: after.rms[TERMS.index(key)] - before.rms[TERMS.index(key)] for key in OWN}
    assert max(grown, key=grown.__getitem__) == term
    assert after.rms[TERMS.index(term)] > 1.5 * before.rms[TERMS.index(term)]
    assert after.total > before.total
    # On the same input every other layer does the same, and in the running network those behind it suffer.
    for other in ("relu0", "relu1", "relu2"):
        assert layer(broken, other).local == layer(plain, other).local
        assert layer(broken, other).cumulative == layer(plain, other).cumulative
    last = layer(broken, "relu4")
    assert last.cumulative.of("propagated") > layer(plain, "relu4").cumulative.of("propagated")
    assert last.local == layer(plain, "relu4").local


@pytest.mark.parametrize(("factor", "term"), [(0.1, "clipping"), (10.0, "quantisation")])
def test_a_threshold_that_is_wrong(factor: float, term: str) -> None:
    plain = layer(measured("signed"), "relu3")
    mistake = ScaleThreshold("relu3", factor)
    broken = layer(convert(residual_network(3), MADE, mistake=mistake).measured(), "relu3")
    assert broken.local.of(term) > 0.5 > 10 * plain.local.of(term)
    assert plain.thresholds is not None
    assert broken.thresholds is not None
    assert (broken.thresholds.above > 0.3) == (factor < 1)
    assert broken.thresholds.median == pytest.approx(factor * plain.thresholds.median, rel=0.01)


def test_what_the_source_computes_from_its_own_values_is_itself() -> None:
    """With spikes fine enough, nothing separates the cut network from the whole one."""
    made = convert(residual_network(5), "clip-activations{method=max},lower,dual-threshold,init-membrane")
    fed = FedSource(made.source, made.artefact.graph, 1)
    timesteps = 1 << 16
    populations = made.artefact.graph.of_type(IntegrateFire)
    _, values = run_ann(made.source, made.rows, [node.name for node in populations])
    coded = {
        n.name: np.rint(values[n.name] * timesteps / n.spike_scale.reshape(1, -1, 1, 1)).astype(np.int32)
        for n in populations
    }
    found = fed.run(made.artefact.encode(made.rows), coded, timesteps)
    logits, _ = run_ann(made.source, made.rows)
    assert (
        np.abs(found.answers[made.artefact.graph.output_names[0]] - logits).max()
        < 1e-3 * np.abs(logits).max()
    )


def test_memory_does_not_grow_and_chunks_do_not_matter() -> None:
    made = convert(rows=40)  # more than one chunk
    whole = made.measured()
    assert whole.rows == 40
    assert sum(whole.layers[0].firing.lead) == pytest.approx(1) if whole.layers[0].firing else False
    assert len(whole.snn.classes) == 40


def test_labels_are_optional_and_checked() -> None:
    made = convert(rows=4)
    plain = made.measured()
    assert plain.snn.top1 is None
    assert plain.ann.paired is None
    assert plain.ann.agreement is not None
    assert plain.ann.agreement.n == 4
    labelled = made.measured(labels=np.array([0, 1, 2, 3]))
    assert labelled.ann.paired is not None
    assert labelled.ann.paired.n == 4
    with pytest.raises(InputError, match="the label 7 does not fit 5 classes"):
        made.measured(labels=np.array([0, 1, 2, 7]))
    with pytest.raises(InputError, match="there are 4 rows, but 2 labels"):
        made.measured(labels=np.array([0, 1]))


def test_answers_that_are_no_numbers_are_refused() -> None:
    made = convert(rows=2)
    broken = made.source.replacing({"fc": made.source["fc"].with_(bias=np.full(5, np.nan, np.float32))})
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        Converted(broken, made.artefact, made.rows).measured()


def test_neurons_that_forget_what_they_do_not_send_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (node, *_) = random_graph(3, blocks=0).of_type(IntegrateFire)
    count, v = np.zeros((1, *node.shape), np.int32), np.zeros((1, *node.shape), np.int32)
    received(node, count, v)
    monkeypatch.setattr(firing(node), "keeps_charge", False)
    with pytest.raises(UnknownOperationError, match="forgets what it does not send"):
        received(node, count, v)
