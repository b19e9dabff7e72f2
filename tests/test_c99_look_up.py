"""From raw pixels to ``q`` in C: for every value and every channel what Python gives."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.artefact import Artefact, Metadata
from snnc.backends.c99 import C99
from snnc.backends.c99.look_up import LOOK_UP_HEADER, LOOK_UP_SOURCE, LookUp, look_ups
from snnc.backends.deployment import deploy, verify
from snnc.data.preprocessing import Preprocessing
from snnc.ir.layout import InputLayout
from snnc.ir.snn import Encode, Linear, Readout, Reshape, SnnGraph
from tests.c99_bundles import compile_as_cpp, compile_strictly

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

SIZES = (3, 5, 4)
"""Channels, height and width, all different: an exchange shows."""


def network(shape: tuple[int, ...], gain: bool = False, limit: int = 2047) -> SnnGraph:
    """Return a network that only reads its input out."""
    size = int(np.prod(shape))
    numbers = np.arange(shape[0], dtype=np.float32)
    encode = Encode(
        name="image",
        shape=shape,
        scale=0.0031,
        limit=limit,
        gain=0.5 + numbers * np.float32(0.3) if gain else None,
        offset=numbers * np.float32(0.17) - 1 if gain else None,
    )
    flat = Reshape(name="flat", inputs=("image",), shape=(size,))
    weight = np.eye(4, size, dtype=np.int8)
    last = Linear(name="last", inputs=("flat",), shape=(4,), weight=weight)
    readout = Readout(name="y", inputs=("last",), shape=(4,), bias=np.zeros(4, np.int32))
    graph = SnnGraph(
        name="pixels",
        nodes=(encode, flat, last, readout),
        outputs=("y",),
        timesteps=2,
        max_timesteps=2,
    )
    graph.verify()
    return graph


def artefact(graph: SnnGraph, layout: InputLayout | None = None, **preprocessing: Any) -> Artefact:
    stored = Preprocessing(**preprocessing).as_dict() if preprocessing else None
    told = None if layout is None else layout.as_dict()
    return Artefact(graph, Metadata(preprocessing=stored, input_layout=told))


def in_c(made: Artefact, folder: Path, raw: np.ndarray) -> np.ndarray:
    """Return what the look-up gives for raw rows, (n, ...), uint8."""
    deploy(made, C99(), folder / "bundle")
    compile_strictly(folder / "bundle", "-O1", "-shared", "-fPIC", LOOK_UP_SOURCE, "-o", "look_up.so")
    function = ctypes.CDLL(str(folder / "bundle" / "look_up.so")).snnc_quantise_u8
    q = np.zeros((len(raw), *made.graph.input.shape), np.int16)
    for row, place in zip(np.ascontiguousarray(raw), q, strict=True):
        function(row.ctypes, place.ctypes)
    return q


def every_value(shape: tuple[int, ...]) -> np.ndarray:
    """Return 256 rows in which every pixel takes every value, and no two neighbours the same."""
    step = np.arange(np.prod(shape)).reshape(shape) * 7
    return ((np.arange(256).reshape(-1, *(1,) * len(shape)) + step) % 256).astype(np.uint8)


CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "channels last": ((5, 4, 3), {"divide": 255.0, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}),
    "channels first": ((3, 5, 4), {"divide": 255.0, "mean": (0.4, 0.5, 0.6), "rows_layout": "NCHW"}),
    "transposed": ((4, 5, 3), {"std": (50.0, 60.0, 70.0), "transpose_hw": True, "rows_layout": "NHWC"}),
    "saturated": ((5, 4, 3), {"divide": 0.5}),
}


@needs_gcc
@pytest.mark.parametrize("gain", [False, True], ids=["plain", "gain"])
@pytest.mark.parametrize("case", CASES)
def test_every_value_of_every_channel(case: str, gain: bool, tmp_path: Path) -> None:
    shape, preprocessing = CASES[case]
    made = artefact(network(SIZES, gain), **preprocessing)
    (found,) = look_ups(made)
    assert found.shape == shape
    raw = every_value(shape)
    expected = made.encode(raw)
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(in_c(made, tmp_path, raw), expected)


@given(
    divide=st.floats(0.1, 300),
    mean=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    std=st.lists(st.floats(0.01, 3), min_size=3, max_size=3),
    limit=st.integers(1, 2047),
    gain=st.booleans(),
)
@settings(max_examples=15)
def test_the_table_is_what_python_gives(
    divide: float, mean: list[float], std: list[float], limit: int, gain: bool
) -> None:
    made = artefact(network(SIZES, gain, limit), divide=divide, mean=tuple(mean), std=tuple(std))
    (found,) = look_ups(made)
    raw = every_value(found.shape)
    np.testing.assert_array_equal(looked_up(found, raw), made.encode(raw))


def looked_up(found: LookUp, raw: np.ndarray) -> np.ndarray:
    """Return what the loops of C give, in Python."""
    axes = np.indices(found.port.node.shape)
    places = sum(stride * axis for stride, axis in zip(found.strides, axes, strict=True))
    channel = axes[0] if len(found.table) > 1 else np.zeros_like(axes[0])
    return found.table[channel, raw.reshape(len(raw), -1)[:, places]]


@needs_gcc
def test_a_source_whose_channels_are_last(tmp_path: Path) -> None:
    layout = InputLayout((5, 4, 3), (5, 4, 3), (2, 0, 1))
    made = artefact(network(SIZES), layout, divide=255.0, mean=(0.1, 0.2, 0.3))
    raw = every_value((5, 4, 3))
    np.testing.assert_array_equal(in_c(made, tmp_path, raw), made.encode(raw))


@needs_gcc
def test_flat_rows(tmp_path: Path) -> None:
    made = artefact(network((12,)), divide=255.0)
    raw = every_value((12,))
    np.testing.assert_array_equal(in_c(made, tmp_path, raw), made.encode(raw))


@needs_gcc
def test_it_is_cpp_as_well_and_verified(tmp_path: Path) -> None:
    made = artefact(network(SIZES), divide=255.0, mean=(0.4, 0.5, 0.6))
    bundle = deploy(made, C99(), tmp_path / "bundle").directory
    readme = (bundle / "README.md").read_text("utf-8")
    assert "snnc_quantise_u8(pixels, q); /* pixels: uint8_t, 5 x 4 x 3 */" in readme
    verdict = verify(bundle).verdict
    assert verdict is not None
    assert verdict.wrong == 0
    if shutil.which("g++") is not None:
        compile_as_cpp(bundle, "g++", "-fsyntax-only", "-x", "c++", LOOK_UP_SOURCE)


@pytest.mark.parametrize(
    "preprocessing",
    [
        {},  # none: rows are ready for the network, and no bytes
        {"files": {"sample_rate": 16000}},
        {"files": {"labels": "species"}},
        {"mean": (1e30,), "std": (1e-30,)},  # which Python refuses for every row
    ],
    ids=str,
)
def test_where_there_is_none(preprocessing: dict[str, Any], tmp_path: Path) -> None:
    files = preprocessing.get("files", {})
    rest = {key: value for key, value in preprocessing.items() if key != "files"}
    stored = {**Preprocessing(**rest).as_dict(), **files} if preprocessing else None
    made = Artefact(network(SIZES), Metadata(preprocessing=stored))
    assert not look_ups(made)
    bundle = deploy(made, C99(), tmp_path / "bundle")
    assert not {LOOK_UP_HEADER, LOOK_UP_SOURCE} & set(bundle.files)


def test_flat_rows_whose_features_differ_have_none() -> None:
    """A table for each of many features would be no look-up of pixels."""
    assert not look_ups(artefact(network((12,), gain=True), divide=255.0))


@needs_gcc
def test_the_input_that_it_is_for(tmp_path: Path) -> None:
    first = network(SIZES)
    second = first["image"].with_(name="other")
    flat = first["flat"].with_(name="flat2", inputs=("other",))
    last = first["last"].with_(name="last2", inputs=("flat2",))
    both = first["y"].with_(inputs=("last", "last2"))
    nodes = (second, *(node for node in first if node.name != "y"), flat, last, both)
    graph = replace(first, nodes=nodes)
    graph.verify()
    made = artefact(graph, divide=255.0, input="image")
    (found,) = look_ups(made)
    assert (found.port.name, found.port.suffix) == ("image", "_1")
    bundle = deploy(made, C99(), tmp_path / "bundle").directory
    assert "snnc_quantise_u8_1(const uint8_t pixels[SNNC_INPUTS_1]" in (bundle / LOOK_UP_HEADER).read_text()
    subprocess.run(["gcc", "-std=c99", "-c", LOOK_UP_SOURCE], cwd=bundle, check=True)
