"""About how long a synapse takes by each kernel, on processors like those where the rates were measured."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from snnc.backends.numba_cpu.codegen import micro_products, micro_tiles
from snnc.backends.numba_cpu.layout.event_layout import Events
from snnc.backends.numba_cpu.layout.product_layout import TILE_KINDS, Products, input_runs
from snnc.backends.numba_cpu.layout.terms import Synapse
from snnc.backends.numba_cpu.machine.cpu import Cpu, detect

BAND_STEPS = micro_tiles.STEPS
"""Steps that are worked on together."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one core does.

    Attributes:
        events: weights per nanosecond that events add.
        list_cost: nanoseconds per channel of an input pixel, for each sign and level.
        scatter_cost: nanoseconds per input pixel and output tile.
        byte_products: weights per nanosecond that are multiplied as bytes, where there are many outputs.
        word_products: the same of int16.
        float_products: the same of float32.
        tile_cost: nanoseconds of a product of two tiles, however few pixels are in one.
        firing_cost: nanoseconds of a neuron in a step.
        narrow: how many times as long products take where fewer outputs are made together than could be.
    """

    events: float
    list_cost: float
    scatter_cost: float
    byte_products: float
    word_products: float
    float_products: float
    tile_cost: float
    firing_cost: float
    narrow: float = 1


def rates_of(cpu: Cpu) -> Rates:
    """Return what was measured on a processor like this one, at the clock of its kind."""
    if cpu.name == "znver5":  # all of 512 bits at once
        return Rates(200, 0.04, 12, 550, 275, 110, 7, 0.05, narrow=1.6)
    if cpu.vbmi2:  # a Zen 4; tiles on a Sapphire Rapids
        return Rates(120, 0.08, 8, 220, 100, 58, 7, 0.33)
    if not cpu.avx2:  # a Zen 1, with the instructions that all x86-64 have: none multiplies bytes
        return Rates(28, 0.35, 40, 5, 20, 8, 7, 1.4)
    if cpu.name == "znver1":  # AVX2 in two halves of 128 bits, and one unit that multiplies
        return Rates(33, 0.27, 30, 38, 28, 15, 7, 1.1)
    # AVX2 on a Zen 3; floats at the rate of half as wide vectors.
    return Rates(70, 0.13, 15, 140, 60, 30, 7, 0.5)


RATES = rates_of(detect())


def event_time(synapse: Synapse, choice: Events, density: float) -> float:
    """Return about how many nanoseconds a step of one image takes by events."""
    pixels = synapse.source.height * synapse.source.width
    tiles = -(-synapse.weight.shape[0] // choice.tile)
    parts = -(-synapse.window.kernel[0] // choice.joined_rows)
    down, right = synapse.window.strides
    reached = synapse.window.area / (down * right)
    work = density * pixels * synapse.source.channels * tiles * choice.tile * reached / RATES.events
    listed = synapse.source.padded * synapse.source.magnitude * (2 if synapse.source.low < 0 else 1)
    return work + pixels * (listed * RATES.list_cost + tiles * parts * RATES.scatter_cost / right)


def product_time(synapse: Synapse, choice: Products, steps: int) -> float:
    """Return about how many nanoseconds one of so many steps of one image takes densely."""
    pixels = synapse.source.height * synapse.source.width / prod(synapse.window.strides)
    wide = micro_products.outputs_together(synapse.outputs)
    outputs = -(-synapse.outputs // wide) * wide * synapse.groups
    runs = len(input_runs(synapse, choice.run_length))
    if choice.kind in TILE_KINDS:
        rows = synapse.source.height / synapse.window.strides[0]
        together = min(BAND_STEPS, steps) if choice.kind == "step_tiles" else 1
        tiles = -(-synapse.width * together // micro_tiles.ROWS) / together
        return rows * tiles * outputs / micro_products.OUTPUTS * runs * RATES.tile_cost
    inputs = runs * choice.run_length
    rates = {
        "bytes": RATES.byte_products,
        "words": RATES.word_products,
        "floats": RATES.float_products,
    }
    longer = 1 if wide == max(micro_products.WIDTHS) else RATES.narrow
    return longer * pixels * outputs * inputs / rates[choice.kind]
