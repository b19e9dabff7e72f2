"""Fits a network to a part: how many lanes, what it takes, how many cycles.

Block RAMs and multipliers follow from the sizes of the core. Look-up tables are estimated by a formula that
was fitted to the results of Yosys, cycles from how often neurons fire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import floor

import numpy as np

from snnc.backends.fpga.additions import TooFew
from snnc.backends.fpga.external import fetching_cycles
from snnc.backends.fpga.files import REFRESH_US
from snnc.backends.fpga.layout import Addition, Design, Sizes
from snnc.backends.fpga.lowering import Fetching, design, points
from snnc.backends.fpga.parts import Device
from snnc.backends.fpga.units import ONE, Units
from snnc.ir.snn import Encode, IntegrateFire, SnnGraph

LANES = (1, 2, 4, 8, 16, 32)
SMALL = {"ecp5": 16, "ice40": 1}
"""A memory of as many words takes no block RAM: look-up tables of ECP5 hold 16, and one word is constant."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a design takes of a part.

    Attributes:
        luts: look-up tables, estimated.
        blocks: block RAMs.
        dsps: multipliers.
        external: words of the external memory, of 16 bits.
    """

    luts: int
    blocks: int
    dsps: int
    external: int = 0

    def beyond(self, device: Device) -> str | None:
        """Say what the part has too little of; ``None`` if it suffices."""
        for name, wanted, there in (
            ("words of external memory", self.external, device.sdram_words),
            ("block RAMs", self.blocks, device.blocks),
            ("multipliers", self.dsps, device.dsps),
            ("look-up tables, as estimated,", self.luts, int(FULL * device.luts)),
        ):
            if wanted > there:
                return f"{wanted:,} {name} of {there:,}"
        return None


FULL = 0.9
"""Share of the look-up tables that may be used, so that place and route find a way."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cycles of an image, by what they are spent on.

    Attributes:
        adding: spikes over their fan-out, and the walk over maps.
        maxima: pooling.
        firing: populations.
        fetching: weights from the external memory.
        rest: presets, instructions, the image and the scores.
        useful: additions of a weight to a potential that is there, not the filling of words.
    """

    adding: float
    maxima: float
    firing: float
    fetching: float
    rest: float
    useful: float

    @property
    def cycles(self) -> int:
        """Of an image, in all."""
        return round(self.adding + self.maxima + self.firing + self.fetching + self.rest)


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """A design for a part.

    Attributes:
        design: the design.
        use: what it takes.
        estimate: cycles, by the density of the network.
        timesteps: T.
        inputs: how many inputs the network has.
    """

    design: Design
    use: Use
    estimate: Estimate
    timesteps: int
    inputs: int


def memories(sizes: Sizes) -> Mapping[str, tuple[int, int]]:
    """Return words and bits of each memory of the core."""
    return {
        "program": (sizes.program, 32),
        "weights": (sizes.weights, 8 * sizes.lanes),
        "heads": (sizes.heads, 2 * sizes.address),
        "rows": (sizes.rows, 2 * sizes.address),
        "columns": (sizes.columns, 2 * sizes.address),
        "parameters": (sizes.parameters, sizes.lanes * sizes.potential),
        "potentials": (sizes.potentials, sizes.lanes * sizes.potential),
        "counts": (sizes.counts, sizes.lanes * sizes.count),
        "spikes": (sizes.spikes, sizes.lanes * sizes.spike),
        "inputs": (sizes.inputs, sizes.input),
    }


FETCHING = 600
"""Look-up tables of the unit that fetches weights, and of the controller of the memory."""

INTERVAL = floor(REFRESH_US * 25)
"""Cycles between refreshes at the slowest clock of the parts that have an external memory."""


def block_rams(words: int, bits: int, device: Device) -> int:
    """Return how many block RAMs a memory takes."""
    if words <= SMALL[device.family]:
        return 0
    return min(-(-words // depth) * -(-bits // width) for depth, width in device.shapes)


def use(sizes: Sizes, device: Device) -> Use:
    """Return what a core of these sizes takes of a part."""
    lanes, v, rest = sizes.lanes, sizes.potential, sizes.count + sizes.spike
    # Fitted to what nextpnr reports for the designs of docs/fpga.md.
    luts = 1200 + 60 * sizes.address + lanes * ((22 + 6 * sizes.steps) * v + 14 * rest)
    luts += FETCHING if sizes.external else 0
    return Use(
        luts, sum(block_rams(*each, device) for each in memories(sizes).values()), lanes + 1, sizes.external
    )


class Designs:
    """The designs of a network; those with all weights on the chip are laid out once, for whatever part."""

    def __init__(self, found: Units) -> None:
        """Begin without any.

        Args:
            found: the units of the network.
        """
        self.found = found
        self._whole: dict[int, Design] = {}

    def whole(self, lanes: int) -> Design:
        """Return the design with all weights on the chip."""
        if lanes not in self._whole:
            self._whole[lanes] = design(self.found, lanes)
        return self._whole[lanes]

    def fetching(self, lanes: int, device: Device) -> Design:
        """Return a design that fetches weights, with as many of them on the chip as there is room for.

        Where the currents of all steps do not fit beside the potentials, weights are fetched in each step.
        """
        all_weights = self.whole(lanes).sizes.weights
        made: Design | None = None
        for at_once in (True, False):
            buffer = all_weights
            for _ in range(TRIES):
                try:
                    made = design(self.found, lanes, fetching=Fetching(buffer, at_once))
                except TooFew:
                    break
                if use(made.sizes, device).beyond(device) is None:
                    return made
                others = use(replace(made.sizes, weights=0), device).blocks
                buffer = min(_words(device.blocks - others, 8 * lanes, device), buffer - STEP)
                if buffer < STEP:
                    break
        return made or self.whole(lanes)

    def fitted(self, device: Device) -> Mapped | str:
        """Return the fastest design that fits, with fewer lanes where more would hardly help.

        Weights are fetched from the external memory only where no design holds them on the chip.

        Returns:
            The design; or what the part has too little of with one lane.
        """
        lacking = ""
        for laid_out in self._ways(device):
            best, lacking = self._fastest(device, laid_out)
            if best is not None:
                return best
        return lacking

    def lacking(self, device: Device) -> str | None:
        """Say what a part has too little of with one lane; ``None`` where a design of any lanes fits.

        The answer of :meth:`fitted`, as soon as there is one.
        """
        missing: str | None = None
        for laid_out in self._ways(device):
            missing = None
            for lanes in self._lanes:
                beyond = use(laid_out(lanes).sizes, device).beyond(device)
                if beyond is None:
                    return None
                missing = missing or beyond
        return missing

    def narrowest(self, device: Device) -> Design:
        """Return the design that takes least of a part, whether it fits or not."""
        return self.fetching(1, device) if device.sdram_words else self.whole(1)

    def _ways(self, device: Device) -> Iterator[Callable[[int], Design]]:
        """Yield how designs are laid out, the faster ones first."""
        yield self.whole
        if device.sdram_words:
            yield lambda lanes: self.fetching(lanes, device)

    @property
    def _lanes(self) -> list[int]:
        """Numbers of lanes that make sense, in order."""
        widest = max(unit.volume[0] for unit in self.found.units)
        return [each for each in LANES if each < 2 * widest]

    def _fastest(self, device: Device, laid_out: Callable[[int], Design]) -> tuple[Mapped | None, str]:
        best: Mapped | None = None
        lacking, graph = "", self.found.graph
        interval = floor(REFRESH_US * min(device.board_mhz, device.clock_mhz))
        for lanes in reversed(self._lanes):
            made = laid_out(lanes)
            taken = use(made.sizes, device)
            if (missing := taken.beyond(device)) is not None:
                lacking = missing
                continue
            estimate = estimated(self.found, made, graph.density, interval)
            if best is not None and estimate.cycles > HARDLY * best.estimate.cycles:
                break
            best = Mapped(made, taken, estimate, graph.timesteps, len(graph.encoders))
        return best, lacking


TRIES, STEP = 4, 256
"""How often the memory of weights is fitted to what others leave, and the least by which it shrinks."""


def _words(blocks: int, bits: int, device: Device) -> int:
    """Return how many words of a memory so many block RAMs hold."""
    return max((blocks // -(-bits // width) * depth for depth, width in device.shapes), default=0)


def smaller(sizes: Sizes, timesteps: int, device: Device) -> str:
    """Say how much smaller a network of the same kind fits a part, as estimated.

    Maps of spikes are kept for each step; channels count twice in weights, and once in all else.

    Args:
        sizes: of the network that does not fit, with one lane.
        timesteps: its T.
        device: the part.
    """
    ways = []
    for fewer in range(timesteps - 1, 0, -1):
        spikes = -(-sizes.spikes * fewer // timesteps)
        if use(replace(sizes, spikes=spikes), device).beyond(device) is None:
            ways.append(f"-T {fewer}")
            break
    for percent in range(95, 0, -5):
        once = {name: -(-getattr(sizes, name) * percent // 100) for name in BY_CHANNEL}
        weights = sizes.weights if sizes.external else -(-sizes.weights * percent**2 // 10_000)
        if use(replace(sizes, weights=weights, **once), device).beyond(device) is None:
            share = f"{1 - percent / 100:g}"
            ways.append(f"about {percent} % of its channels: prune-channels{{share={share}}}")
            break
    return f"it would fit with {' or '.join(ways)}" if ways else "a network of this kind does not fit"


BY_CHANNEL = ("parameters", "potentials", "counts", "spikes")
"""Memories that grow with the number of channels."""

HARDLY = 1.05
"""How many times as long half as many lanes may take to be preferred."""


def estimated(found: Units, made: Design, density: Mapping[str, float], interval: int = INTERVAL) -> Estimate:
    """Estimate the cycles of an image.

    Args:
        found: the units of the network.
        made: their layout.
        density: share of the neurons of each population that fire in a step.
        interval: cycles between refreshes of the external memory.
    """
    graph = found.graph
    lanes = made.sizes.lanes
    adding = maxima = firing = fetching = useful = 0.0
    presets = 0.0
    for unit in found.units:
        work = made.work[unit.node.name]
        for addition in work.additions:
            cycles, useful_lanes = _adding(graph, addition, _density(graph, addition.source, density), lanes)
            adding += cycles
            useful += useful_lanes
        maxima += work.maxima
        pixels = unit.volume[1] * unit.volume[2]
        presets += work.presets * (1 + PARAMETERS / pixels)
        share = _density(graph, unit.node.name, density)
        somebody = 1 - (1 - share) ** min(lanes, unit.volume[0])
        a_word = 3 + somebody
        if isinstance(unit.node, IntegrateFire) and unit.node.breakpoints is not None:
            a_word = 3 + 3 * points(unit.node)
        firing += work.fired * (a_word + PARAMETERS / pixels)
        firing += work.constants
        fetching += sum(fetching_cycles(words, lanes, interval) for words in work.fetched)
    rest = presets + 3 * made.outputs + made.inputs + 2 * made.sizes.program
    return Estimate(adding, maxima, firing, fetching, rest, useful)


PARAMETERS = 5
"""Cycles in which the parameters of a block of channels are read, once for all its pixels."""

START = 12
"""Cycles from the start of an addition until it is known to be done, beside those of its taps."""


def _density(graph: SnnGraph, source: str, density: Mapping[str, float]) -> float:
    if source in density:
        return density[source]
    return 1.0 if source == ONE or isinstance(graph[source], Encode) else UNKNOWN


UNKNOWN = 0.25
"""Share of neurons that fire in a step, where nothing was measured."""


def _adding(graph: SnnGraph, addition: Addition, share: float, lanes: int) -> tuple[float, float]:
    """Return cycles and useful additions of one run over a map."""
    walk = addition.walk
    walked = walk.scanned + 2 * walk.rows
    taps = float(np.sum(walk.taps))
    if walk.vector:
        words = walk.channels / lanes
        spikes = words * (1 - (1 - share) ** lanes)
        return max(walked, spikes * taps) + START, walk.channels * share * taps
    spikes = walk.channels * share
    return max(walked, spikes * taps) + START, spikes * taps * lanes * walk.useful
