"""The same network in C on a Cortex-M4: how many instructions QEMU counts for an image."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from snnc.artefact import Artefact
from snnc.backends import load_backend
from snnc.backends.deployment import deploy

HERE = Path(__file__).parent
BOARD = HERE.parent / "consumers"
COMPILER = ("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-std=c99", "--specs=rdimon.specs")
LEVELS = ("-O2", "-O3")
MACHINE = ("qemu-system-arm", "-M", "mps2-an386", "-nographic", "-icount", "shift=0")
SEMIHOSTING = ("-semihosting-config", "enable=on,target=native")
PER_TICK = 40
"""Instructions of a tick of the board's timer: QEMU gives each a nanosecond, and the timer runs at 25 MHz."""


def instructions(artefact: Artefact, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the instructions of each image, by how the C was optimised.

    Args:
        artefact: the network.
        rows: (n, ...) as the network takes them.

    Raises:
        SystemExit: a tool is missing, an answer is wrong, or QEMU's clock counts something else.
    """
    for tool in (COMPILER[0], MACHINE[0]):
        if shutil.which(tool) is None:
            packages = "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
            raise SystemExit(f"{tool} is not installed: apt install {packages}")
    found = {}
    with tempfile.TemporaryDirectory(prefix="snnc-") as name:
        folder = Path(name)
        bundle = deploy(artefact, load_backend("c99"), folder / "bundle", rows=rows).directory
        sources = [bundle / "snnc_network.c", HERE / "count_instructions.c", BOARD / "cortex_m4.c"]
        for level in LEVELS:
            program = folder / "program"
            _run([*COMPILER, level, f"-I{bundle}", "-T", BOARD / "cortex_m4.ld", *sources, "-o", program])
            lines = [line.split() for line in _run([*MACHINE, *SEMIHOSTING, "-kernel", program]).splitlines()]
            known, wanted = next((int(line[1]), int(line[3])) for line in lines if line[0] == "known")
            if abs(known - wanted) > 10 * PER_TICK:
                raise SystemExit(f"QEMU counts {known} instructions of a loop of {wanted}")
            images = [line[1:] for line in lines if line[0] == "image"]
            if len(images) != len(rows) or any(verdict != "right" for _, verdict in images):
                raise SystemExit(f"the C of {artefact.graph.name} answers wrongly at {level}")
            found[level] = PER_TICK * np.array([int(ticks) for ticks, _ in images])
    return found


def _run(command: list[str | Path]) -> str:
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=1800)
    if result.returncode:
        raise SystemExit(f"{command[0]}: {(result.stderr or result.stdout).strip()[:300]}")
    return result.stdout
