"""Learning by gradients behind a cut: integers as deployed, with replay, and taken back last first."""

from __future__ import annotations

import numpy as np
import pytest

import snnc
from snnc.adaptation import Options, adapt, revoke
from snnc.adaptation.buffer import ReplayBuffer
from snnc.adaptation.outcome import answers
from snnc.artefact import Artefact
from snnc.artefact.adaptations import Head
from snnc.converted_network import ConvertedNetwork
from snnc.errors import UsageError
from snnc.ir.cut import find_cut
from snnc.ir.neuron import Neuron
from snnc.ir.snn import IntegrateFire
from tests import quadrants
from tests.spiking_graphs import random_graph
from tests.test_adapt import KNOWN, SIMULATOR, content, pairs

pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture(scope="module")
def network() -> ConvertedNetwork:
    model = quadrants.network().SerializeToString()
    x, _ = quadrants.images(60, 0)
    preprocessing = dict(quadrants.PREPROCESSING)
    return snnc.convert(model, x, timesteps=4, preset="fast", preprocessing=preprocessing, threads=1)


def options(**more: object) -> Options:
    return Options(head=Head.GRADIENT, epochs=40, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def buffer(network: ConvertedNetwork) -> ReplayBuffer:
    x, y = quadrants.images(80, 2)
    found = adapt(network, x, y, Options(improve=True, replay_bytes=4000), SIMULATOR).buffer
    assert found is not None
    return found


def test_replay_keeps_what_was_known(network: ConvertedNetwork, buffer: ReplayBuffer) -> None:
    x, y = pairs(80, 1)
    found = adapt(network, x, y, options(), SIMULATOR, buffer)
    assert found.edit.replay_rows == len(buffer)
    test_x, test_y = pairs(60, 3)
    old_x, old_y = quadrants.images(60, 4)
    assert (answers(found.artefact, test_x, SIMULATOR) == test_y).mean() > 0.85
    assert (answers(found.artefact, old_x, SIMULATOR) == old_y).mean() > 0.85
    tail = set(find_cut(network.graph).tail)
    for node in network.graph:
        if node.name not in tail:
            assert found.artefact.graph[node.name] is node


def test_layers_behind_a_population_are_learned(network: ConvertedNetwork) -> None:
    graph = random_graph(3, flat=True, blocks=2)
    populations = graph.of_type(IntegrateFire)
    random = np.random.default_rng(0)
    y = np.repeat([7, 8], 20)
    sign = np.where(y == 7, 1, -1)[:, None] * random.normal(size=11)
    x = ((2 * sign + random.normal(size=(40, 11))) * 300 * graph.encoder.scale).astype(np.float32)
    found = adapt(Artefact(graph), x, y, options(cut=populations[0].name), SIMULATOR)
    changed = [
        node.name
        for node in found.artefact.graph
        if node.name in graph and content_of(node) != content_of(graph[node.name])
    ]
    assert set(changed) <= set(found.cut.tail)
    assert any("order of spikes" in note for note in found.notes)
    assert (answers(found.artefact, x, SIMULATOR) == y).mean() > 0.6


def test_a_buffer_of_windows_stands_for_counts() -> None:
    graph = random_graph(3, flat=True, blocks=2, neuron=Neuron(count_memory=False))
    random = np.random.default_rng(0)
    y = np.repeat([0, 1, 7, 8], 15)
    x = random.normal(size=(9, 11))[y] * 2 + 0.5 * random.normal(size=(60, 11))
    x = (x * 300 * graph.encoder.scale).astype(np.float32)
    cut, old = graph.of_type(IntegrateFire)[0].name, y < 2
    made = options(cut=cut, improve=True, replay_bytes=3000, replay_window=2)
    first = adapt(Artefact(graph), x[old], y[old], made, SIMULATOR)
    assert first.buffer is not None
    assert first.buffer.window == 2
    assert first.buffer.bits == 1
    assert first.buffer.shape == (2, graph[cut].shape[0])
    second = adapt(first.artefact, x[~old], y[~old], options(), SIMULATOR, first.buffer)
    assert any("estimated from windows of 2 steps" in note for note in second.notes)
    assert second.edit.replay_rows == len(first.buffer) > 10  # rows whose windows are equal are kept once
    with pytest.raises(UsageError, match="for --head gradient"):
        adapt(Artefact(graph), x[~old], y[~old], Options(cut=cut, gaps=True), SIMULATOR, first.buffer)


def content_of(node: object) -> list[object]:
    values = [getattr(node, name) for name in node.__dataclass_fields__]  # type: ignore[attr-defined]
    return [value.tobytes() if isinstance(value, np.ndarray) else value for value in values]


def test_what_gradients_forget_is_said(network: ConvertedNetwork, buffer: ReplayBuffer) -> None:
    x, y = pairs(20, 1)
    short = Options(head=Head.GRADIENT, epochs=1)
    assert "no rows of 6 earlier classes" in adapt(network, x, y, short, SIMULATOR).notes[0]
    assert "no rows of 2 earlier classes" in adapt(network, x, y, short, SIMULATOR, buffer).notes[0]
    made = Options(head=Head.GRADIENT, epochs=1, replay_bytes=4000)
    grown = adapt(network, x, y, made, SIMULATOR, buffer).buffer
    notes = adapt(network, x, y, short, SIMULATOR, grown).notes
    assert any(f"class {y.min()}, which is new" in note for note in notes)


def test_the_last_edit_is_taken_back_first(network: ConvertedNetwork) -> None:
    x, y = pairs(40, 1)
    one = adapt(network, x[y < 8], y[y < 8], options(), SIMULATOR)
    two = adapt(one.artefact, x[y >= 8], y[y >= 8], options(), SIMULATOR)
    assert two.artefact.graph.readout.shape == (KNOWN + 4,)
    with pytest.raises(UsageError, match=f"revoke {two.edit.id} first"):
        revoke(two.artefact, one.edit.id)
    before, _ = revoke(two.artefact, two.edit.id)
    assert content(before) == content(one.artefact)
    before, _ = revoke(before, one.edit.id)
    assert content(before) == content(network)
    again = adapt(network, x[y < 8], y[y < 8], options(), SIMULATOR)
    assert content(again.artefact) == content(one.artefact)
