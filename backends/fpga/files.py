"""The files of a design: sizes for the preprocessor, and one image a memory, as ``$readmemh`` reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, floor
from pathlib import Path

import numpy as np

from snnc.backends.fpga.layout import Design, Sizes
from snnc.ir.batch import Batch, Rows
from snnc.ir.graph import IntArray

SIZES = "network.vh"
CORE = Path(__file__).parent / "core"
TEST_BENCH = ("snnc_sdram_model.sv", "snnc_tb.sv")
MODULES = (
    *("snnc_ram.sv", "snnc_fifo.sv", "snnc_scan.sv", "snnc_taps.sv", "snnc_load.sv", "snnc_lanes.sv"),
    *("snnc_fire.sv", "snnc_send.sv", "snnc_core.sv", "snnc_sdram.sv", "snnc_network.sv"),
)
"""The core, from its parts to the whole."""

STIMULUS = "stimulus.hex"

POWER_US, REFRESH_US = 200.0, 7.8
"""How long an SDRAM takes no commands after power-up, and how often it wants a refresh (8192 in 64 ms)."""


def header(sizes: Sizes, stimulus: int, clocks: tuple[float, float] = (25.0, 40.0)) -> str:
    """Return the sizes of a network as definitions.

    Args:
        sizes: of the core.
        stimulus: values that the test bench may send.
        clocks: in MHz, the slowest and the fastest that an external memory is to be kept alive with.
    """
    values = {
        "LANES": sizes.lanes,
        "SW": sizes.spike,
        "IW": sizes.input,
        "VW": sizes.potential,
        "NW": sizes.count,
        "AW": sizes.address,
        "PROGRAM": sizes.program,
        "WEIGHTS": sizes.weights,
        "HEADS": sizes.heads,
        "ROWS": sizes.rows,
        "COLUMNS": sizes.columns,
        "PARAMETERS": sizes.parameters,
        "POTENTIALS": sizes.potentials,
        "COUNTS": sizes.counts,
        "SPIKES": sizes.spikes,
        "INPUTS": sizes.inputs,
        "STEPS": sizes.steps,
        "MAXIMA": sizes.maxima,
        "STIMULUS": max(stimulus, 1),
    }
    if sizes.external:
        values |= {
            "EXTERNAL": sizes.external,
            "POWER": ceil(POWER_US * max(clocks)),
            "REFRESH": floor(REFRESH_US * min(clocks)),
        }
    lines = [f"`define SNNC_{name} {value}" for name, value in values.items()]
    lines.append(f'`define SNNC_WEIGHT_IMAGE "{"" if sizes.external else "weights.hex"}"')
    return "\n".join(("// Sizes of the core for one network, made by snnc.", *lines, ""))


def widths(sizes: Sizes) -> Mapping[str, int]:
    """Return the bits of a word of each memory that has an image."""
    return {
        "program": 32,
        **({"external": 16} if sizes.external else {"weights": 8 * sizes.lanes}),
        "heads": 2 * sizes.address,
        "rows": 2 * sizes.address,
        "columns": 2 * sizes.address,
        "parameters": sizes.lanes * sizes.potential,
        "input": sizes.input,
    }


def hexadecimal(words: Iterable[int], bits: int) -> str:
    """Return words as one hexadecimal number a line."""
    digits = -(-bits // 4)
    return "".join(f"{word:0{digits}x}\n" for word in words)


def texts(design: Design, stimulus: int, clocks: tuple[float, float] = (25.0, 40.0)) -> dict[str, str]:
    """Return the files of a design that are made for it, by name; see :func:`header`."""
    found = {SIZES: header(design.sizes, stimulus, clocks), "program.txt": design.listing}
    for name, bits in widths(design.sizes).items():
        found[f"{name}.hex"] = hexadecimal(design.images[name], bits)
    return found


def stream(q: Rows, names: Iterable[str]) -> IntArray:
    """Return images as the core takes them, (rows, values): input after input, channels first."""
    arrays = [q.arrays[name] for name in names] if isinstance(q, Batch) else [q]
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)


def core_text(name: str) -> str:
    """Return the source text of a module of the core."""
    return (CORE / name).read_text(encoding="ascii")
