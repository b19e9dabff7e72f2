"""The core in a Verilog simulator: what it answers, what its populations end with, what it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnc.backends.fpga import files
from snnc.backends.fpga.layout import Design
from snnc.backends.programs import program, run
from snnc.errors import UsageError
from snnc.ir.graph import IntArray

SIMULATORS = {"verilator": "verilator", "icarus": "iverilog"}
MOST_SECONDS = 1800
COUNTED = (
    *("cycles", "taps", "weight_reads", "potential_reads", "potential_writes", "spike_reads", "spike_writes"),
    *("count_reads", "count_writes", "words_with_spikes", "cycles_adding", "cycles_firing"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """What a simulation gave.

    Attributes:
        scores: (rows, values of all outputs).
        counts: (rows, *volume) of each unit that was marked, final ``N``; empty if states were not recorded.
        potentials: likewise, final ``v``.
        activity: (rows,) of each of :data:`COUNTED`, for one image each.
    """

    scores: IntArray
    counts: Mapping[str, IntArray]
    potentials: Mapping[str, IntArray]
    activity: Mapping[str, IntArray]


def has(simulator: str) -> bool:
    """Whether a simulator is installed."""
    return program(SIMULATORS[simulator]) is not None


def require(simulator: str | None = None) -> str:
    """Return an installed simulator.

    Raises:
        UsageError: it, or all of them, are missing.
    """
    names = SIMULATORS if simulator is None else (simulator,)
    found = next(filter(has, names), None)
    if found is None:
        what = "neither Verilator nor Icarus" if simulator is None else SIMULATORS[simulator]
        raise UsageError(
            f"{what} is installed to simulate the design with: install the package verilator or iverilog; "
            "--hashes-only checks the files alone"
        )
    return found


def version(simulator: str) -> str:
    """Return name and version of a simulator."""
    flag = "--version" if simulator == "verilator" else "-V"
    path = program(SIMULATORS[simulator])
    result = run([str(path), flag], 60, Path.cwd())
    return result.stdout.partition("\n")[0].strip()


def build(simulator: str, folder: Path, *, quick: bool = False) -> list[str]:
    """Write core and test bench beside the sizes of ``folder/network.vh``, and compile them.

    Args:
        simulator: of :data:`SIMULATORS`.
        folder: where it is built.
        quick: whether it is compiled without optimisation: in a third of the time, for runs of few cycles.

    Returns:
        The command that runs them.

    Raises:
        UsageError: the compiler refused it.
    """
    for name in (*files.MODULES, *files.TEST_BENCH):
        (folder / name).write_text(files.core_text(name), encoding="ascii")
    return compiled(simulator, folder, quick=quick)


def compiled(simulator: str, folder: Path, *, quick: bool = False) -> list[str]:
    """Compile what :func:`build` has written; as it does."""
    names = (*files.MODULES, *files.TEST_BENCH)
    tool = str(program(SIMULATORS[simulator]))
    if simulator == "verilator":
        command = [tool, "--binary", "--assert", "-Wno-fatal", "-j", "1", "--top-module", "snnc_tb"]
        level = "-O0" if quick else "-O2"
        flags = f"OPT_FAST={level} OPT_SLOW=-O0 OPT_GLOBAL={level}"
        command += ["-o", "simulation", "-MAKEFLAGS", flags, *names]
        ran = [str(folder / "obj_dir" / "simulation")]
    else:
        command = [tool, "-g2012", "-o", "simulation.vvp", *names]
        ran = [str(program("vvp")), "-n", "simulation.vvp"]
    result = run(command, MOST_SECONDS, folder)
    if result.returncode:
        first = next((line for line in result.stderr.splitlines() if "rror" in line), result.stderr[:200])
        raise UsageError(f"{SIMULATORS[simulator]} does not compile the core: {first}")
    return ran


def simulate(
    command: Sequence[str],
    design: Design,
    stimulus: IntArray,
    folder: Path,
    *,
    states: bool = True,
    arguments: Sequence[str] = (),
    seconds: int = MOST_SECONDS,
) -> Simulated:
    """Run a built simulation in a folder that holds the images of a design.

    Args:
        command: from :func:`build`.
        design: the design.
        stimulus: (rows, values of an image), ``q``.
        folder: where it runs.
        states: whether to record what populations end with.
        arguments: further ones of the test bench.
        seconds: after which it is stopped.

    Raises:
        UsageError: the simulator stopped early, with what it said.
    """
    (folder / files.STIMULUS).write_text(
        files.hexadecimal((stimulus.ravel() & 0xFFFF).tolist(), 16), encoding="ascii"
    )
    rows = len(stimulus)
    given = [
        f"+rows={rows}",
        f"+inputs={design.inputs}",
        f"+outputs={design.outputs}",
        f"+states={int(states)}",
    ]
    result = run([*command, *given, *arguments], seconds, folder)
    if "DONE" not in result.stdout or "FAULT" in result.stdout or result.returncode:
        said = (result.stdout + result.stderr).strip().splitlines() or ["nothing"]
        fault = next((line for line in said if "FAULT" in line or "rror" in line), said[-1])
        raise UsageError(f"the simulation stopped: {fault}")
    scores = np.loadtxt(folder / "scores.txt", np.int64, ndmin=1).reshape(rows, design.outputs)
    totals = np.loadtxt(folder / "counts.txt", np.int64, ndmin=2)
    activity = np.diff(totals, axis=0, prepend=np.zeros_like(totals[:1]))
    activity[:, 0] = totals[:, 0]
    counts, potentials = _states(folder / "states.txt", design, rows) if states else ({}, {})
    return Simulated(scores, counts, potentials, dict(zip(COUNTED, activity.T, strict=True)))


def _states(path: Path, design: Design, rows: int) -> tuple[dict[str, IntArray], dict[str, IntArray]]:
    """Read what populations ended with: lanes of words, pixel after pixel. A reset comes in the first row."""
    lines = (
        path.read_text(encoding="ascii").rpartition("reset\n")[2].split("\n")
    )  # what it interrupted is void
    sizes = design.sizes
    counts: dict[str, list[IntArray]] = {name: [] for name, _ in design.marks}
    potentials: dict[str, list[IntArray]] = {name: [] for name, _ in design.marks}
    at = 0
    for _ in range(rows):
        for number, (name, (channels, height, width)) in enumerate(design.marks):
            if lines[at] != f"population {number}":
                raise UsageError(f"the simulation recorded {lines[at]!r} in place of population {number}")
            blocks = -(-channels // sizes.lanes)
            words = [line.split() for line in lines[at + 1 : at + 1 + blocks * height * width]]
            at += 1 + len(words)
            for kept, column, bits in ((potentials, 0, sizes.potential), (counts, 1, sizes.count)):
                lanes = _unpacked([int(word[column], 16) for word in words], sizes.lanes, bits)
                values = lanes.reshape(height, width, blocks * sizes.lanes)[..., :channels]
                kept[name].append(np.moveaxis(values, -1, 0))
    return tuple({name: np.array(found) for name, found in kept.items()} for kept in (counts, potentials))  # type: ignore[return-value]


def _unpacked(words: Sequence[int], lanes: int, bits: int) -> IntArray:
    """Return the signed lanes of words, (words, lanes)."""
    mask, sign = (1 << bits) - 1, 1 << (bits - 1)
    values = np.array([[(word >> lane * bits) & mask for lane in range(lanes)] for word in words], np.int64)
    return (values ^ sign) - sign
