"""What the core has no place for, and the pieces of its programs and memories."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from snnc.backends import load_backend
from snnc.backends.fpga.program import RESTART, Program, Words, digits, packed, packed_bytes
from snnc.ir.graph import IntArray
from tests.fpga_networks import small_steps
from tests.spiking_graphs import as_float, random_graph


def test_float_networks_are_refused() -> None:
    found = load_backend("fpga").check(as_float(random_graph(4)))
    assert found
    assert all("--precision int8" in problem.help for problem in found)


def test_node_by_node() -> None:
    graph = random_graph(1, routed=True, functions=2)
    found = load_backend("fpga").check(graph)
    assert {problem.node for problem in found} <= {node.name for node in graph}
    assert any("knows no Count" in problem.reason for problem in found)


def test_more_spikes_than_an_instruction_counts_are_refused() -> None:
    graph = small_steps(levels=2**22)
    (found,) = load_backend("fpga").check(graph)
    assert "may send 16,777,216 in a step" in found.reason


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20))
def test_weights_are_sums_of_bytes(values: list[int]) -> None:
    weight = np.array(values, np.int64)
    parts = digits(weight)
    assert all(np.abs(2 * low + 1).max() <= 256 for _, low in parts)
    total: IntArray = sum((low << (8 * shift) for shift, low in parts), np.zeros_like(weight))
    np.testing.assert_array_equal(total.astype(np.int32), weight.astype(np.int32))


@given(st.lists(st.lists(st.integers(-8, 7), min_size=3, max_size=3), min_size=1, max_size=5))
def test_lanes_are_packed_from_the_lowest_bits(rows: list[list[int]]) -> None:
    words = packed(np.array(rows), 4)
    assert [[(word >> 4 * lane & 15 ^ 8) - 8 for lane in range(3)] for word in words] == rows
    assert packed_bytes(np.array(rows)) == packed(np.array(rows), 8)


def test_tables_are_stored_once() -> None:
    words = Words()
    assert [words.place(each) for each in ([1, 2], [3], [1, 2])] == [0, 2, 0]


def test_registers_are_set_only_where_they_change() -> None:
    program = Program()
    program.set(rows=3, columns=4)
    program.set(rows=3, columns=5)
    program.run(RESTART)
    assert [line.split()[1:] for line in program.listing().splitlines()] == [
        ["set", "rows", "3"],
        ["set", "columns", "4"],
        ["set", "columns", "5"],
        ["restart"],
    ]
