"""The replay buffer: what it keeps, how large it is, and which files it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.adaptation.buffer import ReplayBuffer, is_buffer, network_hash, or_windows, read_buffer
from snnc.errors import InputError, UsageError
from snnc.ir.cut import features, find_cut
from snnc.ir.snn import IntegrateFire
from tests.spiking_graphs import random_graph

GRAPH = random_graph(3, flat=True, blocks=1)
CUT = find_cut(GRAPH)


def empty(limit: int, *shape: int, window: int = 0) -> ReplayBuffer:
    return ReplayBuffer.empty(GRAPH, CUT, limit, shape, window)


def rows(n: int, seed: int, largest: int = 30) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, largest + 1, (n, 6)), random.integers(0, 3, n)


@settings(max_examples=30)
@given(
    n=st.integers(1, 60),
    seed=st.integers(0, 999),
    limit=st.integers(1100, 4000),
    largest=st.sampled_from([1, 2, 31, 32, 4095]),
)
def test_the_file_is_within_the_limit_and_read_back(
    n: int, seed: int, limit: int, largest: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    latents, labels = rows(n, seed, largest)
    buffer = empty(limit, 6).with_rows(latents, labels)
    path = tmp_path_factory.mktemp("buffer") / "b.npz"
    buffer.save(path)
    assert path.stat().st_size == buffer.size <= limit
    found = read_buffer(path)
    np.testing.assert_array_equal(found.latents, buffer.latents)
    np.testing.assert_array_equal(found.labels, buffer.labels)
    assert found.file() == path.read_bytes()
    assert sum(found.seen.values()) == n
    assert is_buffer(path)


@settings(max_examples=20)
@given(seed=st.integers(0, 999), parts=st.integers(1, 5))
def test_no_order_of_rows_matters(seed: int, parts: int) -> None:
    latents, labels = rows(80, seed)
    whole = empty(1400, 6).with_rows(latents, labels)
    order = np.random.default_rng(seed).permutation(80)
    streamed = empty(1400, 6)
    for part in np.array_split(order, parts):
        streamed = streamed.with_rows(latents[part], labels[part])
    # A part may lack classes that come later, so that it keeps more of the others: never fewer.
    assert set(whole.classes) == set(streamed.classes)
    assert whole.file() == streamed.file()


def test_classes_are_balanced_and_the_sample_is_uniform() -> None:
    random = np.random.default_rng(0)
    latents = random.integers(0, 1000, (3000, 6))
    labels = np.where(np.arange(3000) < 2900, 0, 1)
    latents[:, 0] = np.arange(3000) % 2  # half of the rows of each kind
    buffer = empty(3000, 6).with_rows(latents, labels)
    held = np.bincount(buffer.labels)
    assert abs(held[0] - held[1]) <= max(0, held[0] - 100)
    assert held.min() >= 80
    kind = buffer.latents[buffer.labels == 0, 0].mean()
    assert abs(kind - 0.5) < 4 * np.sqrt(0.25 / held[0])


def test_windows_are_ored() -> None:
    train = np.zeros((5, 1, 2), np.int64)
    train[[0, 1, 4], 0, 0] = 1
    assert or_windows(train, 2).tolist() == [[[1, 0], [0, 0], [1, 0]]]
    with pytest.raises(UsageError, match="graded or signed"):
        or_windows(train * 2, 2)
    with pytest.raises(UsageError, match="graded or signed"):
        or_windows(-train, 2)


def test_trains_are_packed_to_a_bit_each() -> None:
    random = np.random.default_rng(0)
    latents, labels = random.integers(0, 2, (50, 4, 16)), np.arange(50) % 2
    buffer = empty(4000, 4, 16, window=2).with_rows(latents, labels)
    assert buffer.bits == 1
    assert buffer.as_dict()["bytes_per_row"] == 8
    np.testing.assert_array_equal(buffer.counts, buffer.latents.sum(axis=1))


def test_buffers_of_other_networks_and_layers_are_refused() -> None:
    buffer = empty(2000, features(GRAPH, CUT))
    buffer.require_fit(GRAPH, CUT, "b.npz")
    # The head may change, for nothing before the cut does.
    readout = GRAPH.readout
    buffer.require_fit(GRAPH.replacing({readout.name: readout.with_(bias=readout.bias + 1)}), CUT, "b.npz")
    node = GRAPH.of_type(IntegrateFire)[0]
    other = GRAPH.replacing({node.name: node.with_(bias=node.bias + 1)})
    with pytest.raises(InputError, match="of another network"):
        buffer.require_fit(other, CUT, "b.npz")
    with pytest.raises(InputError, match="another buffer"):
        buffer.require_fit(GRAPH, replace(CUT, name="other"), "b.npz")
    assert network_hash(GRAPH, CUT) != network_hash(replace(GRAPH, timesteps=GRAPH.timesteps + 1), CUT)


def test_other_files_are_refused(tmp_path: Path) -> None:
    latents, labels = rows(20, 1)
    buffer = empty(4000, 6).with_rows(latents, labels)
    content = buffer.file()
    path = tmp_path / "b.npz"
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InputError):
            read_buffer(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_buffer(tmp_path / "none.npz")
    np.savez(
        path, header=np.zeros(3, np.uint8), labels=np.zeros(3, np.uint16), packed=np.zeros((3, 2), np.uint8)
    )
    with pytest.raises(InputError, match="no replay buffer"):
        read_buffer(path)
    newer = content.replace(b'"schema": 1', b'"schema": 9')
    path.write_bytes(newer)
    with pytest.raises(InputError):  # the archive's checksum does not fit
        read_buffer(path)
