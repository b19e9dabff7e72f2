"""Whether every address that a program can form lies in its memory, whatever the image is.

The core forms addresses from registers and tables alone, and a spike only decides whether one is formed; that
its units form no others is proved of the core (``tests/test_fpga_formal.py``). So the largest and the
smallest of each instruction say all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from snnc.backends.fpga import program as code
from snnc.backends.fpga.external import external_beats
from snnc.backends.fpga.layout import Design
from snnc.errors import InternalError
from snnc.ir.graph import IntArray

Extent = tuple[str, int, int]
"""A memory, and the smallest and the largest address of it."""

NAMES = {number: name for name, number in code.REGISTERS.items()}


def beyond(design: Design) -> list[str]:
    """Return what is wrong with the addresses of a design: nothing, if it was laid out rightly."""
    sizes = design.sizes
    found = []
    for place, opcode, extents in _instructions(design):
        for memory, low, high in extents:
            depth = getattr(sizes, memory)
            if low < 0 or high >= depth:
                name = code.OPCODES[opcode]
                found.append(f"{name} at {place} reaches {low} to {high} of {depth} words of {memory}")
    return found


def _instructions(design: Design) -> Iterator[tuple[int, int, list[Extent]]]:
    registers = dict.fromkeys(code.REGISTERS, 0)
    tables = {name: _pairs(design, name) for name in ("heads", "rows", "columns")}
    for place, word in enumerate(design.images["program"]):
        opcode, value = divmod(word, 2**code.VALUE_BITS)
        if opcode in NAMES:
            registers[NAMES[opcode]] = value
            continue
        match opcode:
            case code.ADD:
                yield place, opcode, _addition(registers, tables, design.sizes.lanes)
            case code.FIRE | code.PRESET:
                yield place, opcode, _population(registers, fires=opcode == code.FIRE)
            case code.SEND:
                yield place, opcode, [_run("potentials", registers["potential"], _words(registers))]
            case code.IMAGE:
                yield place, opcode, [_run("inputs", 0, registers["inputs"])]
            case code.LOAD:
                words, beats = registers["fetched"], external_beats(design.sizes.lanes)
                runs = [_run("weights", value, words), _run("external", registers["external"], words * beats)]
                yield place, opcode, runs
            case code.MARK | code.RESTART:
                continue  # neither reads nor writes a memory
            case unknown:
                raise InternalError(f"nothing is known of the addresses of instruction {unknown}")


def _pairs(design: Design, name: str) -> IntArray:
    """Return the two halves of the words of a table, (words, 2)."""
    mask = 2**design.sizes.address - 1
    return np.array(
        [(word >> design.sizes.address, word & mask) for word in design.images[name]], np.int64
    ).reshape(-1, 2)


def _run(memory: str, at: int, words: int) -> Extent:
    return memory, at, at + words - 1


def _words(registers: dict[str, int]) -> int:
    return registers["pixels"] * registers["blocks"]


def _population(registers: dict[str, int], *, fires: bool) -> list[Extent]:
    words, rule = _words(registers), registers["rule"]
    each = 4 + 2 * registers["points"]
    found = [
        _run("potentials", registers["potential"], words),
        _run("parameters", registers["parameters"], registers["blocks"] * each),
    ]
    if fires and rule & code.CONSTANT:
        found.append(_run("potentials", registers["constant"], words))
    if fires or not rule & code.QUIET:
        found.append(_run("counts", 0, words))
    if fires and not rule & code.QUIET:
        found.append(_run("spikes", registers["target_spikes"], words))
    return found


def _addition(registers: dict[str, int], tables: dict[str, IntArray], lanes: int) -> list[Extent]:
    r = registers
    rows, columns, blocks = r["rows"], r["columns"], r["blocks_in"]
    reading = r["reading"]
    vector, maximum = bool(reading & code.VECTOR), bool(reading & code.MAXIMUM)
    found = [_run("heads", r["head_rows"], rows), _run("heads", r["head_columns"], columns)]
    if not reading & code.EVERY:
        last = (rows - 1) * r["stride_y"] + (columns - 1) * r["stride_x"] + (blocks - 1) * r["stride_c"]
        memory = "inputs" if reading & code.INPUT else "spikes"
        found.append((memory, r["source"], r["source"] + last))
    reached = []
    for name, count in (("rows", rows), ("columns", columns)):
        heads = tables["heads"][r[f"head_{name}"] :][:count]
        used = heads[heads[:, 1] > 0]
        if not len(used):
            return found  # nobody looks at anything
        found.append((name, int(used[:, 0].min()), int(used.sum(axis=1).max()) - 1))
        reached.append(np.concatenate([tables[name][at : at + taps] for at, taps in used]))
    potentials, weights = (sum(int(taps[:, half].max()) for taps in reached) for half in (0, 1))
    lowest, least = (sum(int(taps[:, half].min()) for taps in reached) for half in (0, 1))
    more = r["blocks_out"] - 1
    at = r["potential"]
    found.append(("potentials", at + lowest, at + potentials + more + (blocks - 1 if vector else 0)))
    if maximum:
        found.append(_run("potentials", r["target_potentials"], rows * columns * blocks))
        return found
    base = r["weights"]
    if base >= 2 ** (code.VALUE_BITS - 1):  # the lanes before the first one are not read
        base -= 2**code.VALUE_BITS
    high, low = r["lanes"] >> 8, r["lanes"] & 0xFF
    ends = [base + (blocks - 1) * r["weight_block"]]
    if vector or reading & code.INPUT:
        begin = base
    else:
        begin = base + low * r["weight_lane"]
        ends[0] += high * r["weight_lane"]
        if blocks > 1:
            ends.append(base + (blocks - 2) * r["weight_block"] + (lanes - 1) * r["weight_lane"])
    found.append(("weights", begin + least, max(ends) + weights + more))
    return found
