"""Networks on the core in Verilog simulators, compared with the reference."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.backends.fpga import files, simulate
from snnc.backends.fpga.layout import Design
from snnc.backends.fpga.lowering import design
from snnc.backends.fpga.units import units
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests.spiking_graphs import random_inputs

ROWS = 2

needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="Verilator is not installed")
needs_either = pytest.mark.skipif(
    shutil.which("iverilog") is None and shutil.which("verilator") is None,
    reason="neither Icarus nor Verilator is installed",
)


def images(made: Design, folder: Path) -> None:
    for name, text in files.texts(made, 0).items():
        if name != files.SIZES:
            (folder / name).write_text(text, encoding="ascii")


def assert_equal_to_reference(graph: SnnGraph, q: Any, found: simulate.Simulated) -> None:
    """Compare every score, count and potential of every row."""
    expected = ReferenceSimulator().run(graph, q, graph.timesteps, RecordOptions(states=True))
    scores = np.concatenate([y.reshape(len(y), -1) for y in expected.outputs.values()], axis=1)
    np.testing.assert_array_equal(found.scores, scores)
    for node in graph.of_type(IntegrateFire):
        for name, got, wanted in (
            ("counts", found.counts[node.name], expected.counts[node.name]),
            ("potentials", found.potentials[node.name], expected.potentials[node.name]),
        ):
            np.testing.assert_array_equal(got.reshape(wanted.shape), wanted, err_msg=f"{name} of {node.name}")


def simulated(
    graph: SnnGraph, command: list[str], folder: Path, made: Design, *arguments: str
) -> tuple[Any, simulate.Simulated]:
    q = random_inputs(graph, ROWS, 7)
    stimulus = files.stream(q, [node.name for node in graph.encoders])
    images(made, folder)
    return q, simulate.simulate(command, made, stimulus, folder, arguments=arguments)


def alone(graph: SnnGraph, folder: Path, lanes: int, *arguments: str, simulator: str = "icarus") -> Design:
    """Run a network on a core of its own sizes, and compare it."""
    made = design(units(graph), lanes)
    (folder / files.SIZES).write_text(files.header(made.sizes, 10_000), encoding="ascii")
    q, found = simulated(graph, simulate.build(simulator, folder), folder, made, *arguments)
    assert_equal_to_reference(graph, q, found)
    return made
