"""The core's bounds, proved by induction: the list of spikes, the walk over maps, the reading of scores."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from snnc.backends.fpga.files import core_text
from snnc.backends.programs import run

TOOLS = ("yosys", "yosys-smtbmc", "z3")

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason=f"one of {', '.join(TOOLS)} is not installed"
)


def proved(module: str, text: str, parameters: Mapping[str, int], folder: Path) -> bool:
    """Whether the assertions of a module hold in the first steps, and by induction in all later ones."""
    (folder / f"{module}.sv").write_text(text, encoding="ascii")
    chosen = " ".join(f"-set {name} {value}" for name, value in parameters.items())
    script = (
        f"read_verilog -sv -formal {module}.sv; chparam {chosen} {module}; prep -top {module}; async2sync; "
        "write_smt2 -wires model.smt2"
    )
    made = run(["yosys", "-q", "-p", script], 120, folder)
    assert made.returncode == 0, made.stderr
    checks = [["-t", "5"], ["-i", "-t", "5"]]
    command = ["yosys-smtbmc", "-s", "z3", "--noprogress"]
    return all(
        "Status: PASSED" in run([*command, *each, "model.smt2"], 300, folder).stdout for each in checks
    )


SMALL = {
    "snnc_fifo": {"WIDTH": 3, "LOG": 2},
    "snnc_send": {"LANES": 2, "VW": 3, "AW": 4},
    "snnc_scan": {"LANES": 2, "SW": 2, "IW": 3, "WORD": 4, "AW": 3},
}


@pytest.mark.parametrize("module", SMALL)
def test_it_is_proved(module: str, tmp_path: Path) -> None:
    assert proved(module, core_text(f"{module}.sv"), SMALL[module], tmp_path)


@pytest.mark.parametrize(
    ("module", "right", "wrong"),
    [
        ("snnc_fifo", "((1 << LOG) - 1)", "(1 << LOG)"),
        ("snnc_send", "at <= at + blocks;", "at <= at + 1'b1;"),
        ("snnc_scan", "here <= column_addr + stride_x;", "here <= column_addr;"),
    ],
)
def test_a_mistake_is_found(module: str, right: str, wrong: str, tmp_path: Path) -> None:
    text = core_text(f"{module}.sv")
    assert right in text
    assert not proved(module, text.replace(right, wrong, 1), SMALL[module], tmp_path)
