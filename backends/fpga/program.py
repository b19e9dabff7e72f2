"""Instructions and memory images of the core: what stands where, each table once.

The numbers of registers and opcodes are those of ``core/snnc_core.sv``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from snnc.ir.graph import IntArray

REGISTERS = {
    name: number
    for number, name in enumerate(
        (
            *(
                "source",
                "stride_y",
                "stride_x",
                "stride_c",
                "rows",
                "columns",
                "blocks_in",
                "lanes",
                "reading",
            ),
            *(
                "head_rows",
                "head_columns",
                "weights",
                "weight_lane",
                "weight_block",
                "potential",
                "blocks_out",
            ),
            *("pixels", "blocks", "parameters", "target_spikes", "rule", "limit", "capacity", "constant"),
            *("points", "target_potentials", "inputs", "external", "fetched"),
        )
    )
}
PRESET, ADD, FIRE, SEND, MARK, IMAGE, RESTART, LOAD = range(32, 40)
OPCODES = {
    **{number: f"set {name}" for name, number in REGISTERS.items()},
    **dict(enumerate(("preset", "add", "fire", "send", "mark", "image", "restart", "load"), PRESET)),
}

# Bits of the register `reading`; the number of bytes by which a sum is shifted stands above them.
INPUT, EVERY, VECTOR, MAXIMUM, BYTES = 1, 2, 4, 8, 4
# Bits of the register `rule`. The last one means for `send` that no other read-out follows.
BIAS, CONSTANT, MEMORY, CAPPED, DIFFERENCE, QUIET, STEPPED, LAST = 1, 2, 4, 8, 16, 64, 32, 128

VALUE_BITS = 24


@dataclass(slots=True)
class Words:
    """A read-only memory under construction; what is there already is not written again."""

    words: list[int] = field(default_factory=list)
    known: dict[tuple[int, ...], int] = field(default_factory=dict)

    def place(self, values: Sequence[int]) -> int:
        """Return the address of consecutive words."""
        key = tuple(values)
        if key not in self.known:
            self.known[key] = len(self.words)
            self.words += key
        return self.known[key]


@dataclass(slots=True)
class Program:
    """Instructions; a register is set only where it changes."""

    words: list[int] = field(default_factory=list)
    registers: dict[str, int] = field(default_factory=dict)

    def set(self, **values: int) -> None:
        """Set registers; values count modulo 2^24."""
        for name, value in values.items():
            bits = value % 2**VALUE_BITS
            if self.registers.get(name) != bits:
                self.registers[name] = bits
                self.words.append(REGISTERS[name] << VALUE_BITS | bits)

    def run(self, opcode: int, value: int = 0) -> None:
        """Start a unit and wait for it."""
        self.words.append(opcode << VALUE_BITS | value)

    def listing(self) -> str:
        """Return the instructions as text."""
        lines = []
        for place, word in enumerate(self.words):
            opcode, value = divmod(word, 2**VALUE_BITS)
            shown = f" {value}" if opcode < PRESET or opcode in (MARK, LOAD) else ""
            lines.append(f"{place:5}  {OPCODES[opcode]}{shown}")
        return "\n".join(lines) + "\n"


def packed(rows: IntArray, bits: int) -> list[int]:
    """Return rows of lanes, (words, lanes), as words whose lowest bits are lane 0."""
    mask = (1 << bits) - 1
    words = []
    for row in rows.tolist():
        word = 0
        for value in reversed(row):
            word = word << bits | (value & mask)
        words.append(word)
    return words


def packed_bytes(rows: IntArray) -> list[int]:
    """Return what :func:`packed` returns for lanes of 8 bits, of the many words of weights, in less time."""
    size = rows.shape[1]
    stored = rows.astype(np.uint8, order="C")  # modulo 256
    if size in (1, 2, 4, 8):
        words: list[int] = stored.view(f"<u{size}")[:, 0].tolist()
        return words
    whole = stored.tobytes()
    return [int.from_bytes(whole[at : at + size], "little") for at in range(0, len(whole), size)]


def halfwords(words: list[int], beats: int) -> list[int]:
    """Return words of so many times 16 bits as numbers of 16 bits, the lowest of each word first."""
    size = 2 * beats
    if size in (2, 4, 8):
        found = np.array(words, f"<u{size}").view("<u2")
    else:
        found = np.frombuffer(b"".join(word.to_bytes(size, "little") for word in words), "<u2")
    numbers: list[int] = found.tolist()
    return numbers


def digits(weight: IntArray) -> list[tuple[int, IntArray]]:
    """Return integers as sums of int8 that are shifted: pairs of a number of bytes and the int8 values.

    Values are taken modulo 2^32, as potentials are.
    """
    left = weight.astype(np.int64)
    found: list[tuple[int, IntArray]] = []
    for shift in range(4):
        low = (left + 128) % 256 - 128
        if low.any():
            found.append((shift, low))
        left = (left - low) // 256
    return found
