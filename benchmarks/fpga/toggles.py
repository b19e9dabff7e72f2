"""How often the nets of a design change, counted in the waveform of a simulation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

TOP = ("snnc_tb", "dut")
"""Where the design stands in the test bench; what is beside it is not counted."""

COUNTED = ("wire", "reg")
UNKNOWN = re.compile("[xz]")


def counted(path: Path) -> dict[str, int]:
    """Return how many bits change in a waveform, by the unit of the core.

    The simulator gives the parts of one net, such as a wire and the ports that it connects, one identifier:
    a net is counted once, for the unit that names it last. Contents of memories are in no waveform; a bit
    whose value was unknown does not count.

    Args:
        path: value change dump (IEEE 1800, clause 21.7).
    """
    with path.open(encoding="ascii") as lines:
        units = _units(lines)
        values: dict[str, str] = {}
        found: Counter[str] = Counter()
        for line in lines:
            if line[0] == "b":
                value, _, name = line[1:].rstrip().partition(" ")
            elif line[0] in "01xz":
                value, name = line[0], line[1:].rstrip()
            else:
                continue
            if name in units:
                found[units[name]] += _changed(values.get(name, ""), value)
                values[name] = value
    return dict(sorted(found.items()))


def _units(lines: Iterable[str]) -> dict[str, str]:
    """Read the head; return the unit of each identifier."""
    scope: list[str] = []
    units: dict[str, str] = {}
    for line in lines:
        match line.split():
            case ["$scope", _, name, "$end"]:
                scope.append(name)
            case ["$upscope", "$end"]:
                scope.pop()
            case ["$var", kind, _, name, *_] if kind in COUNTED and tuple(scope[:2]) == TOP:
                # snnc_tb.dut.core.UNIT; what lies above belongs to no unit.
                units[name] = scope[3] if len(scope) > 3 else "core"
            case ["$enddefinitions", "$end"]:
                return units
    raise ValueError("the waveform has no end of its definitions")


def _changed(old: str, new: str) -> int:
    """Return in how many bits two values differ; leading bits that are left out repeat 0, x or z."""
    if not old:
        return 0
    if not UNKNOWN.search(old + new):
        return (int(old, 2) ^ int(new, 2)).bit_count()
    width = max(len(old), len(new))
    return sum({a, b} == {"0", "1"} for a, b in zip(_padded(old, width), _padded(new, width), strict=True))


def _padded(value: str, width: int) -> str:
    return value.rjust(width, value[0] if value[0] in "xz" else "0")
