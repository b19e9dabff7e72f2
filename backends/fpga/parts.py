"""The parts that a design may be fitted to: what they hold, from their data sheets, or from a TOML file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path

from snnc.errors import InputError, UsageError
from snnc.option_files import check_keys, read_toml


@dataclass(frozen=True, slots=True)
class Device:
    """A part.

    Attributes:
        name: of the profile.
        family: of the tools: ``ecp5`` or ``ice40``.
        option: by which nextpnr knows it, such as ``85k``.
        package: of the board's part.
        luts: look-up tables with four inputs.
        blocks: block RAMs.
        shapes: words and bits of a block RAM, each way it may be used.
        dsps: multipliers.
        sdram_words: words of 16 bits of an SDRAM beside it, for weights; 0 where there is none.
        clock_mhz: the frequency that is asked of place and route.
        board_mhz: of the oscillator on the board.
        summary: one line.
        constraints: pins of the board, as the family's tools read them; empty where no board is known. A
            frequency among them would be asked of place and route in place of ``clock_mhz``.
        sdram_constraints: likewise, pins of the SDRAM, for designs that use it.
    """

    name: str
    family: str
    option: str
    package: str
    luts: int
    blocks: int
    shapes: tuple[tuple[int, int], ...]
    dsps: int
    sdram_words: int
    clock_mhz: float
    board_mhz: float
    summary: str
    constraints: str = ""
    sdram_constraints: str = ""


_EBR_ECP5 = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
_EBR_ICE40 = ((256, 16), (512, 8), (1024, 4), (2048, 2))

SDRAM_WORDS = 2**24
"""Of the ULX3S: 32 MB."""

ULX3S = """\
# ULX3S: 25 MHz oscillator, button B1 for reset, FTDI serial port, first LED
# Compare the pins with the schematic of your board before you connect it.
LOCATE COMP "clk" SITE "G2";
IOBUF PORT "clk" PULLMODE=NONE IO_TYPE=LVCMOS33;
LOCATE COMP "button" SITE "R1";
IOBUF PORT "button" PULLMODE=DOWN IO_TYPE=LVCMOS33;
LOCATE COMP "tx" SITE "L4";
IOBUF PORT "tx" PULLMODE=UP IO_TYPE=LVCMOS33;
LOCATE COMP "rx" SITE "M1";
IOBUF PORT "rx" PULLMODE=UP IO_TYPE=LVCMOS33;
LOCATE COMP "led" SITE "B2";
IOBUF PORT "led" PULLMODE=NONE IO_TYPE=LVCMOS33;
"""

_PINS = (
    *(("clk", "F19"), ("cke", "F20"), ("csn", "P20"), ("rasn", "R20"), ("casn", "T19"), ("wen", "T20")),
    *(("ba[0]", "P19"), ("ba[1]", "N20"), ("dqm[0]", "U19"), ("dqm[1]", "E20")),
    *(("address[0]", "M20"), ("address[1]", "M19"), ("address[2]", "L20"), ("address[3]", "L19")),
    *(("address[4]", "K20"), ("address[5]", "K19"), ("address[6]", "K18"), ("address[7]", "J20")),
    *(("address[8]", "J19"), ("address[9]", "H20"), ("address[10]", "N19"), ("address[11]", "G20")),
    *(("address[12]", "G19"), ("data[0]", "J16"), ("data[1]", "L18"), ("data[2]", "M18")),
    *(("data[3]", "N18"), ("data[4]", "P18"), ("data[5]", "T18"), ("data[6]", "T17")),
    *(("data[7]", "U20"), ("data[8]", "E19"), ("data[9]", "D20"), ("data[10]", "D19")),
    *(("data[11]", "C20"), ("data[12]", "E18"), ("data[13]", "F18"), ("data[14]", "J18")),
    ("data[15]", "J17"),
)
ULX3S_SDRAM = "# SDRAM\n" + "".join(
    f'LOCATE COMP "sdram_{name}" SITE "{pin}";\n'
    f'IOBUF PORT "sdram_{name}" PULLMODE=NONE IO_TYPE=LVCMOS33 SLEWRATE=FAST;\n'
    for name, pin in _PINS
)

UPDUINO = """\
# UPduino 3.1: 12 MHz oscillator (close jumper OSC), a free pin for reset, FTDI serial port, green LED
# Compare the pins with the schematic of your board before you connect it.
set_io clk 20
set_io button 23
set_io tx 14
set_io rx 15
set_io led 39
"""

DEVICES = {
    device.name: device
    for device in (
        Device(
            *("ecp5-85", "ecp5", "85k", "CABGA381", 83640, 208, _EBR_ECP5, 156, SDRAM_WORDS, 40.0, 25.0),
            "Lattice ECP5 LFE5U-85F, as on the ULX3S",
            *(ULX3S, ULX3S_SDRAM),
        ),
        Device(
            *("ecp5-45", "ecp5", "45k", "CABGA381", 43848, 108, _EBR_ECP5, 72, SDRAM_WORDS, 40.0, 25.0),
            "Lattice ECP5 LFE5U-45F",
            *(ULX3S, ULX3S_SDRAM),
        ),
        Device(
            *("ecp5-25", "ecp5", "25k", "CABGA381", 24288, 56, _EBR_ECP5, 28, SDRAM_WORDS, 40.0, 25.0),
            "Lattice ECP5 LFE5U-25F",
            *(ULX3S, ULX3S_SDRAM),
        ),
        Device(
            *("ice40up5k", "ice40", "up5k", "sg48", 5280, 30, _EBR_ICE40, 8, 0, 12.0, 12.0),
            "Lattice iCE40 UP5K, as on the UPduino; its single-port RAM is not used",
            UPDUINO,
        ),
    )
}
"""Figures of the data sheets FPGA-DS-02012 (ECP5) and FPGA-DS-02008 (iCE40 UltraPlus); clocks of designs that
were routed, with a margin: docs/fpga.md."""


def device(profile: str) -> Device:
    """Return the part of a profile, or of a TOML file.

    Raises:
        UsageError: there is no such part.
        InputError: the file does not describe one.
    """
    if profile in DEVICES:
        return DEVICES[profile]
    if not profile.endswith(".toml"):
        known = ", ".join(DEVICES)
        raise UsageError(f"the target fpga has no profile {profile!r}; known: {known}, or a file PART.toml")
    return _from_file(Path(profile))


def _from_file(path: Path) -> Device:
    content = read_toml(path, "part")
    base = content.pop("like", "ecp5-85")
    if not isinstance(base, str) or base not in DEVICES:
        raise InputError(f"part {path}: like = {base!r} is no known part; known: {', '.join(DEVICES)}")
    values = {each.name: getattr(DEVICES[base], each.name) for each in fields(Device)}
    values |= {"name": path.stem, "summary": str(path)}
    settable = {name: value for name, value in values.items() if name not in ("shapes", "family")}
    check_keys(
        content, settable, lambda key, value: _problem(key, value, type(settable[key])), f"part {path}"
    )
    values |= {key: type(values[key])(value) for key, value in content.items()}
    if (problem := _problem("name", values["name"], str)) is not None:
        raise InputError(f"part {path}: its name {problem}; set name in the file")
    return Device(**values)


def _problem(key: str, value: object, kind: type) -> str | None:
    """Say why the value of a key does not fit."""
    if kind is str:
        if not isinstance(value, str):
            return f"= {value!r} is no text"
        # These stand in a Makefile.
        if (
            key in ("name", "option", "package")
            and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value) is None
        ):
            return f"= {value!r} has other characters than letters, digits, '.', '_', '-'"
        return None if "constraints" not in key or value.isascii() else "have characters that are not ASCII"
    if key == "sdram_words":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= SDRAM_WORDS:
            return f"= {value!r} is no whole number from 0 to {SDRAM_WORDS:,}"
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < FURTHEST:
        return f"= {value!r} is no positive number below {FURTHEST:,}"
    if kind is int and not isinstance(value, int):
        return f"= {value!r} is no whole number"
    if key == "board_mhz" and value < LEAST_MHZ:
        return f"= {value:g} is too slow for the serial port (at least {LEAST_MHZ:g})"
    return None


FURTHEST = 1_000_000_000
"""What no figure of a part reaches."""

LEAST_MHZ = 1.0
"""Below it, a bit of the serial port has too few cycles to be sampled in its middle."""


def description(part: Device) -> str:
    """Return a part as a TOML file that :func:`device` reads."""
    like = next(each.name for each in DEVICES.values() if each.family == part.family)
    left_out = ("family", "shapes", "summary")
    rows = {each.name: getattr(part, each.name) for each in fields(Device) if each.name not in left_out}
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in {"like": like, **rows}.items())
