"""Learning after the conversion: what heads give, that nothing else changes, and how edits are taken back."""

from __future__ import annotations

import json
from functools import partialmethod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnc
from snnc.adaptation import Options, adapt, revoke
from snnc.adaptation.outcome import answers
from snnc.artefact import Artefact, sparse_weights
from snnc.artefact.adaptations import Adaptation, Head
from snnc.converted_network import ConvertedNetwork
from snnc.errors import InputError, UsageError
from snnc.ir.cut import find_cut
from snnc.ir.graph import IntArray
from snnc.ir.snn import Convolution, IntegrateFire, Linear, SnnGraph
from snnc.numerics.count_sums import summed
from snnc.numerics.exact_ridge import ridge
from snnc.numerics.prototypes import prototypes
from snnc.simulation.latents import counts_at
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests import quadrants
from tests.spiking_graphs import plain_graphs, random_inputs

SIMULATOR = ReferenceSimulator()
KNOWN = quadrants.CLASSES


def pairs(n: int, seed: int) -> tuple[IntArray, IntArray]:
    """Return images (n, 8, 8) in which two quadrants are bright, and which two, from 6 on."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, n)
    x = random.uniform(0, 120, (n, 8, 8))
    for row, label in enumerate(labels):
        both = ((0, 1), (2, 3), (0, 2), (1, 3))[label]
        for quadrant in both:
            down, right = 4 * (quadrant // 2), 4 * (quadrant % 2)
            x[row, down : down + 4, right : right + 4] += random.uniform(60, 120)
    return x.astype(np.uint8), labels + KNOWN


def everything(n: int, seed: int) -> tuple[IntArray, IntArray]:
    """Return n images of new classes and n of old ones."""
    (x, y), (old_x, old_y) = pairs(n, seed), quadrants.images(n, seed + 1)
    return np.concatenate([x, old_x]), np.concatenate([y, old_y])


@pytest.fixture(scope="module")
def network() -> ConvertedNetwork:
    model = quadrants.network().SerializeToString()
    x, _ = quadrants.images(60, 0)
    preprocessing = dict(quadrants.PREPROCESSING)
    return snnc.convert(model, x, timesteps=4, preset="fast", preprocessing=preprocessing, threads=1)


def one(network: Artefact, x: IntArray, y: IntArray, head: Head = Head.LINEAR, **more: object) -> Artefact:
    return adapt(network, x, y, Options(head=head, **more), SIMULATOR).artefact  # type: ignore[arg-type]


def content(artefact: Artefact) -> bytes:
    return artefact.model().SerializeToString(deterministic=True)


def head_of(artefact: Artefact) -> tuple[IntArray, IntArray]:
    graph = artefact.graph
    linear = graph[graph.readout.inputs[0]]
    assert isinstance(linear, Linear)
    return linear.weight.astype(np.int64), graph.readout.bias.astype(np.int64)


@pytest.mark.parametrize("head", [Head.LINEAR, Head.PROTOTYPE])
def test_new_classes_are_learned_beside_old_ones(network: ConvertedNetwork, head: Head) -> None:
    rows, labels = everything(80, 1)
    found = one(network, rows, labels, head, improve=True)
    test_x, test_y = pairs(60, 3)
    old_test_x, old_test_y = quadrants.images(60, 4)
    assert (answers(found, test_x, SIMULATOR) == test_y).mean() > 0.8
    assert (answers(found, old_test_x, SIMULATOR) == old_test_y).mean() > 0.8
    assert found.graph.readout.shape == (KNOWN + 4,)


@pytest.mark.parametrize("head", [Head.LINEAR, Head.PROTOTYPE])
def test_without_old_rows_the_old_weights_stay_to_the_bit(network: ConvertedNetwork, head: Head) -> None:
    x, y = pairs(40, 1)
    found = adapt(network, x, y, Options(head=head), SIMULATOR)
    weight, bias = head_of(found.artefact)
    old_weight, old_bias = head_of(network)
    np.testing.assert_array_equal(weight[:KNOWN], old_weight)
    np.testing.assert_array_equal(bias[:KNOWN], old_bias)
    assert found.kept == tuple(range(KNOWN))
    assert "approximate" in found.notes[0]
    old_x, old_y = quadrants.images(60, 4)
    assert (answers(found.artefact, old_x, SIMULATOR) == old_y).mean() > 0.9
    test_x, test_y = pairs(60, 3)
    assert (answers(found.artefact, test_x, SIMULATOR) == test_y).mean() > 0.8


def test_nothing_before_the_cut_changes(network: ConvertedNetwork) -> None:
    x, y = pairs(20, 1)
    found = one(network, x, y)
    tail = set(find_cut(network.graph).tail)
    for node in network.graph:
        if node.name not in tail:
            assert found.graph[node.name] is node


@settings(max_examples=8)
@given(seed=st.integers(0, 2**20), head=st.sampled_from([Head.LINEAR, Head.PROTOTYPE]))
def test_streaming_equals_joint_learning_bit_for_bit(
    network: ConvertedNetwork, seed: int, head: Head
) -> None:
    x, y = everything(24, 1)
    order = np.random.default_rng(seed).permutation(len(y))
    joint = one(network, x[order], y[order], head, improve=True)
    streamed: Artefact = network
    for classes in ((0, 1, 2, 3), (6,), (7, 8), (9,)):
        chosen = np.isin(y, classes)
        streamed = one(streamed, x[chosen], y[chosen], head, improve=True)
    for joint_part, part in zip(head_of(joint), head_of(streamed), strict=True):
        np.testing.assert_array_equal(joint_part, part)
    assert joint.graph.readout.scale == streamed.graph.readout.scale


def test_the_ridge_is_the_solution_of_its_equations() -> None:
    random = np.random.default_rng(0)
    counts, labels = random.integers(0, 9, (40, 5)), random.integers(0, 3, 40)
    weight, bias = ridge(summed(counts, labels, 9, gram=True), 1e-2)
    targets = np.eye(3)[labels]
    centred = counts - counts.mean(axis=0)
    penalty = 1e-2 * (centred**2).mean() * len(counts)
    expected = np.linalg.solve(centred.T @ centred + penalty * np.eye(5), centred.T @ targets).T
    np.testing.assert_allclose(weight, expected, rtol=1e-9)
    np.testing.assert_allclose(bias, targets.mean(axis=0) - expected @ counts.mean(axis=0), rtol=1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**20))
def test_prototypes_are_cosines_to_half_a_unit(seed: int) -> None:
    random = np.random.default_rng(seed)
    counts, labels = random.integers(0, 2 ** random.integers(1, 14), (12, 6)), np.repeat([0, 1, 2], 4)
    counts[:, 0] += 1
    weight = prototypes(summed(counts, labels, 2**14, gram=False)).astype(np.float64)
    sums = np.array([counts[labels == c].sum(axis=0) for c in range(3)])
    unit = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    factor = 127 / unit.max()
    assert weight.max() in (126, 127)
    assert np.abs(weight - factor * unit).max() < 0.5 + 0.02 * 127 / 100 + factor * 2**-7


def test_sums_are_exact_integers() -> None:
    random = np.random.default_rng(1)
    counts = random.integers(-(2**20), 2**20, (300, 3))
    found = summed(counts, np.zeros(300, np.int64), 2**20, gram=True)
    assert found.gram is not None
    expected = [
        [sum(int(a) * int(b) for a, b in zip(counts[:, i], counts[:, j], strict=True)) for j in range(3)]
        for i in range(3)
    ]
    assert found.gram.tolist() == expected
    with pytest.raises(UsageError, match="63 bits"):
        summed(counts, np.zeros(300, np.int64), 2**31, gram=True)


@settings(max_examples=10)
@given(graph=plain_graphs(), seed=st.integers(0, 99))
def test_counts_at_a_cut_are_what_the_classifier_sums(graph: SnnGraph, seed: int) -> None:
    try:
        cut = find_cut(graph)
    except UsageError:
        return
    q = random_inputs(graph, 3, seed)
    counts = counts_at(graph, cut, lambda rows: q[rows], 3, SIMULATOR)
    trace = SIMULATOR.run(graph, q, graph.timesteps, RecordOptions(trains=(cut.latent,)))
    np.testing.assert_array_equal(counts, trace.trains[cut.latent].sum(axis=0).reshape(3, -1))


@settings(max_examples=12)
@given(data=st.data())
def test_any_edits_are_taken_back_byte_for_byte(network: ConvertedNetwork, data: st.DataObject) -> None:
    check_sequence(network, np.random.default_rng(data.draw(st.integers(0, 2**32))), steps=4)


def check_sequence(network: Artefact, random: np.random.Generator, steps: int) -> None:
    """Adapt and revoke at random; hold the result to a network that learned only the rows that are left."""
    head = (Head.LINEAR, Head.PROTOTYPE)[random.integers(2)]
    x, y = everything(16, 7)
    options = Options(head=head, improve=True, gaps=True)
    current: Artefact = network
    learned: dict[str, IntArray] = {}
    for _ in range(steps):
        if learned and random.random() < 0.4:
            gone = list(learned)[random.integers(len(learned))]
            current, _ = revoke(current, gone)
            del learned[gone]
            continue
        classes = random.permutation([*range(4), *range(KNOWN, KNOWN + 4)])[: random.integers(1, 4)]
        rows: IntArray = np.flatnonzero(np.isin(y, classes))
        rows = random.permutation(rows)[: random.integers(2, 12)]
        rows = np.concatenate([rows, [np.flatnonzero(y == y[row])[k] for row in rows for k in (0, 1)]])
        found = adapt(current, x[rows], y[rows], options, SIMULATOR)
        learned[found.edit.id], current = rows, found.artefact
    alone: Artefact = network
    for rows in learned.values():
        alone = adapt(alone, x[rows], y[rows], options, SIMULATOR).artefact
    assert content(current) == content(alone)


def test_behind_a_population_everything_is_learned_anew(network: ConvertedNetwork) -> None:
    x, y = everything(60, 1)
    layer = network.graph.of_type(IntegrateFire)[0].name
    with pytest.raises(UsageError, match="no rows of class 0"):
        one(network, x[y >= KNOWN], y[y >= KNOWN], cut=layer)
    junk, _ = quadrants.images(8, 9)
    x, y = (
        np.concatenate([x, junk]),
        np.concatenate([y, np.repeat([4, 5], 4)]),
    )  # of every class of the network
    found = adapt(network, x, y, Options(cut=layer, improve=True), SIMULATOR)
    assert found.features == 128
    graph = found.artefact.graph
    assert [type(node).__name__ for node in graph.nodes[-4:]] == [
        "IntegrateFire",
        "Reshape",
        "Linear",
        "Readout",
    ]
    assert (answers(found.artefact, x, SIMULATOR) == y).mean() > 0.8
    back, _ = revoke(found.artefact, found.edit.id)
    assert content(back) == content(network)


def test_an_edit_of_a_file_with_dense_weights_is_taken_back(
    network: ConvertedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions stored weights with their zeros, so that the record has the hash of that form."""
    monkeypatch.setattr(sparse_weights, "WORTH_BYTES", 1)
    (first,) = network.graph.of_type(Convolution)
    few = first.with_(weight=first.weight * (np.arange(3) == 1))
    before = Artefact(network.graph.replacing({first.name: few}), network.metadata)
    assert any(node.op_type == "SparseWeight" for node in before.model().graph.node)
    x, y = pairs(20, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Artefact, "model", partialmethod(Artefact.model, sparse=False))
        found = adapt(before, x, y, Options(), SIMULATOR)
    back, _ = revoke(found.artefact, found.edit.id)
    assert content(back) == content(before)


@pytest.mark.parametrize("head", [Head.LINEAR, Head.PROTOTYPE])
def test_rows_go_to_the_most_similar_edit(network: ConvertedNetwork, head: Head) -> None:
    x, y = everything(60, 1)
    junk, _ = quadrants.images(8, 9)
    old_x = np.concatenate([x[y < KNOWN], junk])
    old_y = np.concatenate([y[y < KNOWN], np.repeat([4, 5], 4)])
    with pytest.raises(UsageError, match="needs rows of all classes"):
        one(network, x[y >= KNOWN], y[y >= KNOWN], head, route=True)
    buffer = adapt(network, old_x, old_y, Options(improve=True, replay_bytes=4000), SIMULATOR).buffer
    options = Options(head=head, route=True)
    first = adapt(network, x[(y == 6) | (y == 7)], y[(y == 6) | (y == 7)], options, SIMULATOR, buffer)
    second = adapt(first.artefact, x[y >= 8], y[y >= 8], Options(), SIMULATOR, buffer)
    test_x, test_y = pairs(60, 3)
    given = answers(second.artefact, test_x, SIMULATOR)
    of_edit = np.where(given >= 8, 2, np.where(given >= 6, 1, 0))
    assert (of_edit == np.where(test_y >= 8, 2, 1)).mean() > 0.8
    back, _ = revoke(second.artefact, second.edit.id)
    assert content(back) == content(first.artefact)


def test_one_old_class_has_nothing_to_be_told_from(network: ConvertedNetwork) -> None:
    x, y = quadrants.images(40, 2)
    learned = adapt(network, x[y == 3], y[y == 3], Options(improve=True), SIMULATOR)
    assert (answers(learned.artefact, x, SIMULATOR) == y).mean() > 0.5
    same = np.concatenate([x[:3], x[:3]])  # two classes of the same rows
    alike = head_of(one(network, same, np.repeat([0, 1], 3), improve=True))[0]
    np.testing.assert_array_equal(alike[0], alike[1])
    assert alike.any()
    back, _ = revoke(learned.artefact, learned.edit.id)
    assert content(back) == content(network)


def test_a_record_is_what_its_hash_says(network: ConvertedNetwork) -> None:
    x, y = pairs(20, 1)
    stored = dict(one(network, x, y).metadata.adaptation or {})
    stored["edits"] = [{**stored["edits"][0], "rows": 99}]
    with pytest.raises(InputError, match="not what its hash says"):
        Adaptation.from_dict(stored)
    with pytest.raises(InputError, match="newer snnc"):
        Adaptation.from_dict({**stored, "schema": 9})


def test_an_edit_survives_its_json(network: ConvertedNetwork) -> None:
    x, y = everything(20, 1)
    stored = one(network, x, y, improve=True).metadata.adaptation
    assert stored is not None
    found = Adaptation.from_dict(json.loads(json.dumps(stored)))
    assert found.as_dict() == stored
    assert found.edits[0].sums is not None
    counts = counts_at(
        network.graph, find_cut(network.graph), lambda part: network.encode(x[part]), 40, SIMULATOR
    )
    np.testing.assert_array_equal(found.edits[0].sums.gram, counts.T @ counts)
