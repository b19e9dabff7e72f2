"""Weights most of which are zero: lists in C, which compute the same and take less memory."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.backends.c99.fan_out import LARGEST_SHARE, fan_out
from snnc.backends.c99.source import HEADER, SOURCE
from snnc.backends.c99.widths import Width
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import SnnGraph
from snnc.simulation.reference import ReferenceSimulator
from tests.c99_bundles import compile_strictly, emitted, needs_gcc
from tests.spiking_graphs import random_graph, random_inputs, sparse, wide_graph


@settings(max_examples=40)
@given(
    shape=st.tuples(*(st.integers(1, 5) for _ in range(4))),
    groups=st.integers(1, 3),
    density=st.floats(0, 0.4),
    seed=st.integers(0, 99),
)
def test_the_lists_hold_the_weight(
    shape: tuple[int, int, int, int], groups: int, density: float, seed: int
) -> None:
    outputs, inputs, height, width = shape
    random = np.random.default_rng(seed)
    weight = random.integers(-127, 128, (groups * outputs, inputs, height, width)).astype(np.int8)
    weight *= random.random(weight.shape) < density
    found = fan_out(weight, groups)
    if found is None:
        return
    assert found.bytes <= LARGEST_SHARE * weight.size
    again = np.zeros(weight.shape, np.int8)
    k = 0
    for group in range(groups):
        for c in range(inputs):
            for ky in range(height):
                for kx in range(width):
                    part = slice(found.first[k], found.first[k + 1])
                    again[:, c, ky, kx][group * outputs + found.target[part].astype(np.intp)] = found.weight[
                        part
                    ]
                    k += 1
    np.testing.assert_array_equal(again, weight)


def test_long_lists_are_none() -> None:
    random = np.random.default_rng(0)
    weight = random.integers(1, 128, (64, 64, 3, 3)).astype(np.int8)
    assert fan_out(weight, 1) is None
    for density, listed in ((0.3, False), (0.15, True)):
        kept = weight * (random.random(weight.shape) < density)
        assert (fan_out(kept.astype(np.int8), 1) is not None) == listed
    everywhere = fan_out(np.zeros((300, 8, 1, 1), np.int8), 1)
    assert everywhere is not None
    assert not everywhere.weight.size
    wide = fan_out((np.arange(300) == 299).astype(np.int8).reshape(300, 1, 1, 1), 1)
    assert wide is not None
    assert Width.of(wide.target) is Width.I16


@needs_gcc
def test_a_weight_without_synapses_is_left_out(tmp_path: Path) -> None:
    graph = sparse(wide_graph(4), 0.0)
    bundle = emitted(graph, tmp_path)
    assert "fan_out_" not in (bundle / SOURCE).read_text(encoding="ascii")
    compile_strictly(bundle, "-O1", "-c", SOURCE)


@needs_gcc
@pytest.mark.parametrize(
    "graph",
    [
        wide_graph(1),
        wide_graph(2, neuron=Neuron(levels=15)),
        random_graph(3, schedule=Schedule.LAYERWISE, neuron=Neuron(levels=2)),
        random_graph(5, settle_steps=2, neuron=Neuron(levels=4, spikes_per_step=2), negative=True),
        random_graph(8, flat=True),
    ],
    ids=["binary", "levels", "layerwise", "settling", "flat"],
)
def test_c_computes_what_the_reference_does(graph: SnnGraph, tmp_path: Path) -> None:
    """Strides, dilations, groups, both schedules; and less memory than with the zeros."""
    few = sparse(graph, 0.1)
    bundle = emitted(few, tmp_path)
    text = (bundle / SOURCE).read_text(encoding="ascii")
    assert "fan_out_" in text
    compile_strictly(bundle, "-O1", "-shared", "-fPIC", SOURCE, "-o", "network.so")
    header = (bundle / HEADER).read_text(encoding="ascii").split()
    size = {
        name: int(header[at + 1])
        for at, name in enumerate(header)
        if name.startswith("SNNC_") and at + 1 < len(header) and header[at + 1].isdigit()
    }
    functions = ctypes.CDLL(str(bundle / "network.so"))
    state = ctypes.create_string_buffer(size["SNNC_RAM_BYTES"])
    q = random_inputs(few, 6, 4)
    expected = ReferenceSimulator().run(few, q, few.timesteps).logits
    for row, wanted in zip(q, expected, strict=True):
        given_, y = np.ascontiguousarray(row, np.int16), np.zeros(size["SNNC_OUTPUTS"], np.int32)
        assert functions.snnc_infer(state, given_.ctypes, few.timesteps, y.ctypes)
        np.testing.assert_array_equal(y, wanted)
