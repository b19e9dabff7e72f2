"""What is counted in simulations of the core: prices of accesses, changed bits of a waveform."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fpga import toggles
from benchmarks.fpga.prices import priced
from snnc.report.energy import MODELS


def test_counts_of_a_simulation_are_priced_in_all_lanes() -> None:
    counted = {"taps": 10.0, "weight_reads": 8.0, "potential_reads": 3.0, "potential_writes": 2.0}
    spent = priced(counted, 4, MODELS["45nm"])
    assert spent == pytest.approx({"additions": 12.0, "weights": 40.0, "potentials": 100.0})


WAVEFORM = """\
$scope module snnc_tb $end
$var wire 1 ! clk $end
$scope module dut $end
$var wire 1 ! clk $end
$scope module core $end
$var wire 3 # sum [2:0] $end
$var parameter 8 % LANES $end
$scope module lanes $end
$var wire 3 # total [2:0] $end
$upscope $end
$upscope $end
$upscope $end
$var reg 1 & outside $end
$upscope $end
$enddefinitions $end
#0
bx #
x!
0&
#5
b1 #
0!
1&
#10
b110 #
1!
0&
#15
b11 #
"""


def test_changed_bits_of_a_waveform_are_counted_once_a_net(tmp_path: Path) -> None:
    path = tmp_path / "w.vcd"
    path.write_text(WAVEFORM, encoding="ascii")
    # The clock 0 to 1; the sum 001 to 110 to 011; nothing from unknown, and nothing beside the design.
    assert toggles.counted(path) == {"core": 1, "lanes": 5}
