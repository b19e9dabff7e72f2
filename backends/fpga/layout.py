"""A network that is laid out for the core: its sizes, its memories, and what is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from snnc.backends.fpga.additions import Walk
from snnc.backends.fpga.views import Volume


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parameters of the core: bits and depths.

    Attributes:
        lanes: parallel additions.
        spike, input, potential, count, address: bits of each.
        program, weights, heads, rows, columns, parameters, potentials, counts, spikes, inputs: words of each
            memory.
        steps: 1 if populations follow step functions or counts are pooled, else 0.
        maxima: 1 if maxima are taken, else 0.
        external: words of 16 bits in the external memory that weights are fetched from; 0 if they all lie in
            ``weights``.
    """

    lanes: int
    spike: int
    input: int
    potential: int
    count: int
    address: int
    program: int
    weights: int
    heads: int
    rows: int
    columns: int
    parameters: int
    potentials: int
    counts: int
    spikes: int
    inputs: int
    steps: int
    maxima: int
    external: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Addition:
    """One run of the adding lanes, for the estimate of cycles.

    Attributes:
        source: name of the node whose spikes are added, or :data:`ONE`.
        walk: what is walked.
        once: whether it runs once for an image, rather than in each step.
    """

    source: str
    walk: Walk
    once: bool


@dataclass(slots=True)
class Work:
    """What is run for one unit, for the estimate of cycles.

    Attributes:
        additions: runs of the adding lanes.
        maxima: words that are compared.
        fired: words whose neurons fire or integrate.
        constants: of these, words to which a current is added that lies in memory.
        presets: words that are preset.
        fetched: words of weights of each run of the external memory.
    """

    additions: list[Addition] = field(default_factory=list)
    maxima: int = 0
    fired: int = 0
    constants: int = 0
    presets: int = 0
    fetched: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """A network on the core.

    Attributes:
        sizes: parameters of the core.
        images: words of each memory that has contents, by its name.
        listing: the program as text.
        marks: name of the node and volume for each number that the program marks.
        inputs: values of an image; behind them lies a one.
        outputs: scores of an image.
        work: what is run for each unit.
        weight_bytes: distinct weights, without the filling of words.
    """

    sizes: Sizes
    images: Mapping[str, list[int]]
    listing: str
    marks: tuple[tuple[str, Volume], ...]
    inputs: int
    outputs: int
    work: Mapping[str, Work]
    weight_bytes: int
