"""What would give wrong numbers in an adaptation without a word: all of it is refused, or named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnc
from snnc.adaptation import Options, ReplayBuffer, adapt, revoke
from snnc.artefact import Artefact
from snnc.artefact.adaptations import Head
from snnc.cli import main
from snnc.converted_network import ConvertedNetwork
from snnc.errors import InputError, UsageError
from snnc.numerics.count_sums import CountSums, summed
from tests import quadrants
from tests.test_adapt import SIMULATOR, everything, pairs


@pytest.fixture(scope="module")
def network() -> ConvertedNetwork:
    model = quadrants.network().SerializeToString()
    x, _ = quadrants.images(60, 0)
    preprocessing = dict(quadrants.PREPROCESSING)
    return snnc.convert(model, x, timesteps=4, preset="fast", preprocessing=preprocessing, threads=1)


@pytest.fixture(scope="module")
def buffer(network: ConvertedNetwork) -> ReplayBuffer:
    x, y = quadrants.images(40, 2)
    found = adapt(network, x, y, Options(improve=True, replay_bytes=4000), SIMULATOR).buffer
    assert found is not None
    return found


@pytest.fixture(scope="module")
def learned(network: ConvertedNetwork, buffer: ReplayBuffer) -> Artefact:
    x, y = pairs(20, 1)
    return adapt(network, x, y, Options(), SIMULATOR, buffer).artefact


def large(value: int, rows: int, *, gram: bool) -> CountSums:
    return summed(np.full((rows, 2), value), np.zeros(rows, np.int64), abs(value), gram=gram)


def test_sums_of_several_edits_never_wrap() -> None:
    """Each part is proved to fit 63 bits, which says nothing of all of them."""
    products = large(2**26 - 1, 1500, gram=True)
    with pytest.raises(UsageError, match="all edits exceed 63 bits"):
        _ = products + products
    for value in (2**62, -(2**62)):
        with pytest.raises(UsageError, match="all edits exceed 63 bits"):
            _ = large(value, 1, gram=False) + large(value, 1, gram=False) + large(value, 1, gram=False)
    both = large(2**62, 1, gram=False) + large(-(2**62), 1, gram=False)
    assert both.sums[0].tolist() == [0, 0]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), "1"])
def test_numbers_that_give_no_head_are_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="finite number above 0"):
        Options(ridge=value)
    with pytest.raises(UsageError, match="finite number above 0"):
        Options(rate=value)


@pytest.mark.parametrize("strength", [1e40, 1e150, 1e300])
@pytest.mark.parametrize("every", [False, True], ids=["some", "all"])
def test_a_ridge_that_leaves_no_weights_is_refused(
    network: ConvertedNetwork, strength: float, *, every: bool
) -> None:
    x, y = everything(20, 1)
    if every:  # of all classes: no weights are kept
        junk, _ = quadrants.images(8, 9)
        x, y = np.concatenate([x, junk]), np.concatenate([y, np.repeat([4, 5], 4)])
    options = Options(improve=True, ridge=strength)
    with pytest.raises(UsageError, match="--ridge"):
        adapt(network, x, y, options, SIMULATOR)


DAMAGE: dict[str, Callable[[ReplayBuffer], ReplayBuffer]] = {
    "another width": lambda b: replace(b, shape=(3,), latents=b.latents[:, :3]),
    "beyond any count": lambda b: replace(b, latents=b.latents + 2**40),
    "below any count": lambda b: replace(b, latents=b.latents - 2**20),
    "windows that are counts": lambda b: replace(b, window=2),
    "a negative window": lambda b: replace(b, window=-1),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_buffer_of_what_the_layer_cannot_send_is_refused(
    network: ConvertedNetwork, buffer: ReplayBuffer, name: str
) -> None:
    x, y = pairs(8, 1)
    with pytest.raises(InputError, match="what this layer cannot send"):
        adapt(network, x, y, Options(head=Head.PROTOTYPE), SIMULATOR, DAMAGE[name](buffer))


def test_rows_are_not_learned_twice_with_another_buffer(
    network: ConvertedNetwork, learned: Artefact, buffer: ReplayBuffer
) -> None:
    x, y = pairs(20, 1)
    fewer = buffer.with_rows(buffer.latents[:0], buffer.labels[:0], buffer.size - 20)
    assert len(fewer) < len(buffer)
    for replay in (buffer, fewer, None):
        with pytest.raises(UsageError, match="learned already"):
            adapt(learned, x, y, Options(improve=True), SIMULATOR, replay)


RECORDS: dict[str, dict[str, Any]] = {
    "no such node": {"latent": "nowhere"},
    "another width": {"features": 3},
    "another head": {"head": "prototype"},
    "gradients": {"head": "gradient"},
    "no edits": {"edits": []},
    "other names": {"classes": ["a"]},
    "another network": {"content_sha256": "0"},
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_does_not_fit_is_the_inputs_fault(learned: Artefact, name: str) -> None:
    stored = dict(learned.metadata.adaptation or {})
    other = replace(learned, metadata=replace(learned.metadata, adaptation={**stored, **RECORDS[name]}))
    with pytest.raises(InputError, match="damaged"):
        revoke(other, stored["edits"][0]["id"])


def test_a_buffer_that_cannot_be_written_leaves_no_artefact(
    network: ConvertedNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = pairs(8, 1)
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    network.save(tmp_path / "n.snn.onnx")
    out, absent = tmp_path / "out.snn.onnx", tmp_path / "nowhere" / "b.npz"
    parts = ("adapt", tmp_path / "n.snn.onnx", "--data", tmp_path / "rows.npz", "-o", out, "--replay", absent)
    assert main([*map(str, parts), "--replay-bytes", "3000", "--backend", "reference"]) == 5
    assert "does not exist" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("label", [1e300, -1e300, 6.5])
def test_real_numbers_are_no_labels(
    network: ConvertedNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str], label: float
) -> None:
    x, _ = pairs(8, 1)
    np.savez(tmp_path / "rows.npz", x=x, y=np.full(8, label))
    network.save(tmp_path / "n.snn.onnx")
    parts = ("adapt", tmp_path / "n.snn.onnx", "--data", tmp_path / "rows.npz", "-o", tmp_path / "o.snn.onnx")
    assert main([*map(str, parts), "--backend", "reference"]) == 5
    assert "give one class, an integer" in capsys.readouterr().err


def test_gaps_are_of_sums_alone(network: ConvertedNetwork) -> None:
    x, y = pairs(8, 1)
    with pytest.raises(UsageError, match="gaps"):
        adapt(network, x, y + 1, Options(head=Head.GRADIENT, gaps=True), SIMULATOR)
