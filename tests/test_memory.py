"""Rows that are worked on in chunks and kept on disk: the same bits, and less memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.analysis import duration, memory
from snnc.compiler import Options, convert
from snnc.errors import InputError
from snnc.ir import snn
from snnc.numerics import spill
from snnc.numerics.means import ChannelMean, Mean
from snnc.numerics.spill import RowFile, row_array
from snnc.passes import PASSES
from snnc.pipeline import Pipeline, run_pipeline
from snnc.simulation import partial as prefix
from snnc.simulation.partial import PartialSimulation
from tests import quadrants
from tests.ann_graphs import context, residual_network

PIPELINE = (
    "fold-batchnorm,clip-activations{floor=true},lower,dual-threshold{spikes-per-step=2},fine-skip,"
    "init-membrane{fraction=0.25},compensate{ramp=true,variance-restoration=0.7,start=true,scale=true},quantise-weights"
)


def wild(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Values of which no sum is exact, so that every order of summation has bits of its own."""
    random = np.random.default_rng(seed)
    return (random.standard_normal(shape) * np.exp(6 * random.standard_normal(shape))).astype(np.float32)


@given(
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from([(), (1, 1), (3, 3), (7, 7), (40, 40), (91, 91), (1, 9000)]),
    st.integers(1, 41),
    st.integers(0, 99),
)
def test_means_do_not_depend_on_chunks_and_are_numpys(
    rows: int, channels: int, size: tuple[int, ...], chunk: int, seed: int
) -> None:
    values = wild((rows, channels, *size), seed)
    mean, means = Mean(), ChannelMean()
    for start in range(0, rows, chunk):
        mean.add(values[start : start + chunk])
        means.add(values[start : start + chunk])
    assert mean.value == float(np.mean(values, dtype=np.float64))
    np.testing.assert_array_equal(
        means.value, values.mean(axis=(0, *range(2, values.ndim)), dtype=np.float64)
    )


def test_rows_on_disk_are_what_was_written_and_have_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    values = np.arange(7 * 3 * 2, dtype=np.float32).reshape(7, 3, 2)
    stored = RowFile(values.shape, np.float32)
    assert (stored[2:4] == 0).all()
    for rows in (slice(4, 7), slice(0, 4)):
        stored[rows] = values[rows]
    for rows in (slice(0, 7), slice(3, 5), slice(6, 9), slice(2, 2)):
        np.testing.assert_array_equal(stored[rows], values[rows])
    stored[1:2] = values[:1].transpose(0, 1, 2)[:, ::-1]
    np.testing.assert_array_equal(stored[1:2], values[:1, ::-1])
    assert len(stored) == 7
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_large_lies_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "IN_MEMORY", 80)
    assert isinstance(row_array((10, 2), np.float32), np.ndarray)
    assert isinstance(row_array((11, 2), np.float32), RowFile)


def test_a_network_made_in_chunks_on_disk_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for chunk, limit in ((1 << 24, 1 << 27), (2000, 100)):
        monkeypatch.setattr(prefix, "CHUNK_VALUES", chunk)
        monkeypatch.setattr(spill, "IN_MEMORY", limit)
        source = residual_network(4)
        made = context(source, rows=73, timesteps=3)
        graph, records = run_pipeline(Pipeline.parse(PIPELINE, PASSES), source, made)
        assert isinstance(graph, snn.SnnGraph)
        assert {"weights", "bias"} & set(
            "+".join(layer["kept"] for layer in records[-2].findings["layers"]).split("+")
        )
        found.append([repr(node) for node in graph] + [str(record.findings) for record in records])
        largest = max(int(np.prod(node.shape)) for node in graph)
        chunks = PartialSimulation(graph, made.calibration.rows, made.simulator).chunks
        assert len(chunks) == -(-73 // max(1, chunk // largest))
        assert chunks[-1].stop == 73
    assert found[0] == found[1]


def test_rows_that_do_not_fit_are_refused_with_the_number_that_does() -> None:
    graph = residual_network(4)
    enough = memory.needed(graph, 1000, fitted=True)
    memory.require_memory(graph, 1000, fitted=True, free=round(enough / memory.UNTOUCHED) + 1)
    with pytest.raises(
        InputError, match=r"1000 calibration rows .* GB are free: give at most \d+ rows"
    ) as error:
        memory.require_memory(graph, 1000, fitted=True, free=memory.needed(graph, 300, fitted=True))
    fits = int(str(error.value).split()[-2])
    assert 0 < fits < 300
    left = memory.UNTOUCHED * memory.needed(graph, 300, fitted=True)
    assert memory.needed(graph, fits, fitted=True) <= left < memory.needed(graph, fits + 1, fitted=True)
    with pytest.raises(InputError, match="no number of rows fits"):
        memory.require_memory(graph, 10, fitted=False, free=1000)


@given(st.integers(1, 5000))
def test_more_rows_need_more_memory_and_fits_need_more_than_none(rows: int) -> None:
    graph = residual_network(4)
    need = memory.needed(graph, rows, fitted=True)
    assert need <= memory.needed(graph, rows + 100, fitted=True)
    assert memory.needed(graph, rows, fitted=False) <= need


def test_the_limit_of_a_control_group_counts(tmp_path: Path) -> None:
    assert memory.control_groups(tmp_path) == [None, None]
    for name, text in (("memory.max", "5000\n"), ("memory.current", "1200\n")):
        (tmp_path / name).write_text(text, encoding="ascii")
    assert memory.control_groups(tmp_path) == [3800, None]
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    assert memory.control_groups(tmp_path) == [None, None]


def test_a_conversion_without_memory_does_not_begin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = quadrants.write(tmp_path)
    monkeypatch.setattr(memory, "available", lambda: 1 << 20)
    with pytest.raises(InputError, match="200 calibration rows of this network need about"):
        convert(files.model, files.calibration, Options(4, "fast"), preprocessing=files.preprocessing)


def test_the_time_grows_with_rows_and_steps_and_is_told_in_words() -> None:
    graph = residual_network(4)
    plain, fitted = (duration.seconds(graph, 500, 4, fitted=each) for each in (False, True))
    assert duration.START < plain < fitted
    assert fitted < duration.seconds(graph, 500, 8, fitted=True)
    assert fitted < duration.seconds(graph, 1000, 4, fitted=True)
    words = [duration.lasting(time) for time in (0.6, 119, 121, 7300)]
    assert words == ["1 s", "119 s", "2 min", "2 h"]
