"""The netlist that Yosys makes of a small network for an iCE40, simulated with the cells that it brings."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from snnc.backends.fpga import files
from snnc.backends.fpga.lowering import design
from snnc.backends.fpga.units import units
from snnc.backends.programs import run
from snnc.simulation.reference import ReferenceSimulator
from tests.fpga_networks import small_perceptron
from tests.spiking_graphs import random_inputs

CELLS = Path("/usr/share/yosys/ice40/cells_sim.v")
ROWS = 3

pytestmark = pytest.mark.skipif(
    shutil.which("yosys") is None or shutil.which("iverilog") is None or not CELLS.exists(),
    reason="Yosys with its models of iCE40 cells, or Icarus Verilog, is not installed",
)


def test_the_netlist_answers_as_the_reference(tmp_path: Path) -> None:
    graph = small_perceptron()
    made = design(units(graph), 2)
    q = random_inputs(graph, ROWS, 7)
    stimulus = files.stream(q, [node.name for node in graph.encoders])
    for name, text in files.texts(made, stimulus.size).items():
        (tmp_path / name).write_text(text, encoding="ascii")
    for name in (*files.MODULES, *files.TEST_BENCH):
        (tmp_path / name).write_text(files.core_text(name), encoding="ascii")
    stimulus_text = files.hexadecimal((stimulus.ravel() & 0xFFFF).tolist(), 16)
    (tmp_path / files.STIMULUS).write_text(stimulus_text, encoding="ascii")
    script = (
        f"read_verilog -sv -defer -DSYNTHESIS {' '.join(files.MODULES)}; "
        "synth_ice40 -dsp -device u -top snnc_network; write_verilog -noattr netlist.v"
    )
    synthesised = run(["yosys", "-q", "-p", script], 600, tmp_path)
    assert synthesised.returncode == 0, synthesised.stderr
    command = ["iverilog", "-g2012", "-DSNNC_NETLIST", "-DNO_ICE40_DEFAULT_ASSIGNMENTS", "-o", "netlist.vvp"]
    compiled = run([*command, "netlist.v", str(CELLS), *files.TEST_BENCH], 120, tmp_path)
    assert compiled.returncode == 0, compiled.stderr
    arguments = [f"+rows={ROWS}", f"+inputs={made.inputs}", f"+outputs={made.outputs}", "+states=0"]
    ran = run(["vvp", "-n", "netlist.vvp", *arguments], 300, tmp_path)
    assert "DONE" in ran.stdout, ran.stdout
    assert "FAULT" not in ran.stdout
    trace = ReferenceSimulator().run(graph, q, graph.timesteps)
    expected = np.concatenate([y.reshape(len(y), -1) for y in trace.outputs.values()], axis=1)
    scores = np.loadtxt(tmp_path / "scores.txt", np.int64).reshape(expected.shape)
    np.testing.assert_array_equal(scores, expected)
    assert len(np.unique(expected, axis=0)) == ROWS
