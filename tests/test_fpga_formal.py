"""What is proved of the core by induction: the neuron, and the addresses that its units form."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from snnc.backends.fpga.files import core_text
from snnc.backends.programs import run

TOOLS = ("yosys", "yosys-smtbmc", "z3")

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason=f"one of {', '.join(TOOLS)} is not installed"
)

PROOFS = {
    "list": ("snnc_fifo", "", {"WIDTH": 3, "LOG": 2}),
    "scores": ("snnc_send", "", {"LANES": 2, "VW": 3, "AW": 4}),
    "map": ("snnc_scan", "", {"LANES": 2, "SW": 2, "IW": 3, "WORD": 4, "AW": 3}),
    "taps": ("snnc_taps", "", {"LANES": 2, "SW": 2, "IW": 3, "WORD": 4, "PW": 3, "AW": 3}),
    "load": ("snnc_load", "", {"LANES": 4, "AW": 4}),
    "words": ("snnc_fire", "", {"LANES": 1, "VW": 2, "NW": 2, "SW": 2, "AW": 3}),
    "neuron": ("snnc_fire", "-DFORMAL_NEURON", {"LANES": 1, "VW": 4, "NW": 3, "SW": 2, "AW": 2}),
}
"""What is proved: of which module, what is defined for it, and how wide it is."""


def proved(name: str, folder: Path, right: str = "", wrong: str = "") -> bool:
    """Whether the assertions of a module hold in the first steps, and by induction in all later ones.

    Args:
        name: of the proof.
        folder: where it is made.
        right: text of the module that is replaced first.
        wrong: by what.
    """
    module, defined, parameters = PROOFS[name]
    text = core_text(f"{module}.sv")
    assert right in text
    (folder / f"{module}.sv").write_text(text.replace(right, wrong, 1) if right else text, encoding="ascii")
    chosen = " ".join(f"-chparam {name} {value}" for name, value in parameters.items())
    script = (
        f"read_verilog -sv -formal {defined} -defer {module}.sv; hierarchy -top {module} {chosen}; "
        f"prep -top {module}; async2sync; write_smt2 -wires model.smt2"
    )
    made = run(["yosys", "-q", "-p", script], 120, folder)
    assert made.returncode == 0, made.stderr
    command = ["yosys-smtbmc", "-s", "z3", "--unroll", "--noprogress", "-t", "5"]
    return all(
        "Status: PASSED" in run([*command, *more, "model.smt2"], 900, folder).stdout for more in (["-i"], [])
    )


@pytest.mark.parametrize("name", PROOFS)
def test_it_is_proved(name: str, tmp_path: Path) -> None:
    assert proved(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("list", "((1 << LOG) - 1)", "(1 << LOG)"),
        ("scores", "at <= at + blocks;", "at <= at + 1'b1;"),
        ("map", "here <= column_addr + stride_x;", "here <= column_addr;"),
        ("taps", "late_block <= block;", "late_block <= column;"),
        ("load", "write_addr <= target - 1'b1;", "write_addr <= target;"),
        ("words", "at <= at + blocks;", "at <= at + 1'b1;"),
        ("neuron", "m >= threshold &&", "m > threshold &&"),
        ("neuron", "spike > -most &&", "spike >= -most &&"),
        ("neuron", "m >= $signed(parameter_data", "m > $signed(parameter_data"),
    ],
)
def test_a_mistake_is_found(name: str, right: str, wrong: str, tmp_path: Path) -> None:
    assert not proved(name, tmp_path, right, wrong)
