"""One step of a network of frames in C, timed: `snnc_step` of its bundle, compiled for this machine."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

SECONDS = 0.31
"""About how long a recording of N-MNIST lasts."""

RUNS = 40

_PROGRAM = """
#include <stdio.h>
#include <time.h>
#include "snnc_network.h"
#include "golden.h"
int main(void)
{
    static snnc_state state;
    const clock_t start = clock();
    for (int32_t run = 0; run < RUNS; run++) {
        const int16_t *q = golden_q + (run % GOLDEN_ROWS) * SNNC_TIMESTEPS * SNNC_INPUTS;
        if (!snnc_begin(&state, SNNC_TIMESTEPS)) {
            return 1;
        }
        for (int32_t t = 0; t < SNNC_TIMESTEPS; t++) {
            if (!snnc_step(&state, q + t * SNNC_INPUTS)) {
                return 1;
            }
        }
    }
    printf("%.9f\\n", (double)(clock() - start) / CLOCKS_PER_SEC / RUNS / SNNC_TIMESTEPS);
    return 0;
}
"""


def table(path: Path, rows: Path) -> None:
    """Print the CPU time of a step, how much faster than real time that is, and the memory.

    Args:
        path: an artefact of frames, by `snnc convert --frames`.
        rows: folder of the recordings, whose first ones are run.
    """
    from benchmarks.streams.recordings import recordings
    from snnc.artefact import load
    from snnc.backends.c99 import C99
    from snnc.backends.deployment import deploy

    artefact = load(path)
    frames, _ = recordings(rows, "test_dev")
    with tempfile.TemporaryDirectory(prefix="snnc-") as name:
        folder = deploy(artefact, C99(), Path(name) / "bundle", rows=frames[:8]).directory
        (folder / "speed.c").write_text(_PROGRAM)
        command = ["cc", "-std=c99", "-O3", "-march=native", f"-DRUNS={RUNS}", "speed.c", "snnc_network.c"]
        subprocess.run([*command, "-o", "speed"], cwd=folder, check=True)
        times = [
            float(subprocess.run([folder / "speed"], check=True, capture_output=True).stdout)
            for _ in range(5)
        ]
        header = (folder / "snnc_network.h").read_text()
    memory = {
        key: int(header.split(f"#define {key} ")[1].split()[0])
        for key in ("SNNC_RAM_BYTES", "SNNC_CONSTANT_BYTES")
    }
    step, real = min(times), SECONDS / artefact.graph.timesteps
    print(
        "| step in C, one core | faster than real time | RAM, bytes | constants, bytes |\n|---|---|---|---|"
    )
    ram, constants = (f"{memory[key]:,}" for key in ("SNNC_RAM_BYTES", "SNNC_CONSTANT_BYTES"))
    print(f"| {1e3 * step:.3f} ms, best of {len(times)} | {real / step:.0f} times | {ram} | {constants} |")
