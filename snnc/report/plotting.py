"""The kinds of pictures of a network's spikes, and how each is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from snnc.artefact import Artefact
from snnc.errors import InputError, UsageError
from snnc.ir.batch import Rows, rows_of
from snnc.metrics.outputs import Labels
from snnc.progress import Progress, Silent
from snnc.report.recording import Recorded, chosen_layers, count, neuron_of, record
from snnc.simulation.protocol import Simulator

if TYPE_CHECKING:
    from snnc.report.drawing import Chart

Layer = TypeVar("Layer")

KINDS: Mapping[str, str] = {
    "raster": "the spikes of every layer in every step, of one row",
    "potentials": "potentials of single neurons with thresholds, of one row",
    "answers": "the answer after every step, of one row",
    "walk": "one image walked through the network",
    "counts": "histograms of spike counts, of all rows",
    "activity": "where in the image neurons fire, of all rows",
}
"""Every kind of picture, and what it shows."""

OF_MANY = ("counts", "activity")
"""Kinds that are of all rows."""

MOST_POPULATIONS = 4
"""Populations of which the busiest neuron is drawn, where no neuron is named."""


@dataclass(frozen=True, slots=True)
class Plot:
    """What to draw.

    Attributes:
        kind: one of :data:`KINDS`.
        row: which one, of kinds of one row.
        layers: names of populations; all without.
        neurons: ``LAYER:INDEX``, for potentials; the busiest of some layers without.
        classes: names of the outputs.
        timesteps: T; the calibrated value by default.
    """

    kind: str
    row: int = 0
    layers: Sequence[str] = ()
    neurons: Sequence[str] = ()
    classes: Sequence[str] = field(default=())
    timesteps: int | None = None

    def __post_init__(self) -> None:
        """Refuse what has no effect.

        Raises:
            UsageError: naming it.
        """
        if self.kind not in KINDS:
            raise UsageError(f"there is no picture {self.kind!r}; known: {', '.join(KINDS)}")
        if self.neurons and self.kind != "potentials":
            raise UsageError(f"single neurons are for potentials, not for {self.kind}")
        if self.neurons and self.layers:
            raise UsageError("neurons are named with their layers: leave out the others")
        if self.classes and self.kind not in ("answers", "walk"):
            raise UsageError(f"class names are for answers and walk, not for {self.kind}")
        if self.layers and self.kind == "answers":
            raise UsageError("answers are of the whole network: leave out the layers")
        if self.row and self.kind in OF_MANY:
            raise UsageError(f"{self.kind} is of all rows, not of one")


def draw(
    artefact: Artefact, x: Rows, y: Labels, plot: Plot, simulator: Simulator, progress: Progress | None = None
) -> Chart:
    """Draw a picture.

    Args:
        artefact: the network.
        x: (n, ...) rows as the artefact takes them; of several inputs a batch of them.
        y: labels, as far as there are any.
        plot: what to draw.
        simulator: what runs the network on many rows.
        progress: where to show how far it is.

    Raises:
        InputError: there is no such row or layer.
        UsageError: the network has nothing of the kind, or matplotlib is not installed.
    """
    require_matplotlib()
    graph = artefact.graph
    T = graph.timesteps if plot.timesteps is None else plot.timesteps
    steps = steps_of(T, graph.settle_steps)
    if plot.kind in OF_MANY:
        return _of_many(artefact, x, plot, simulator, progress or Silent(), T, steps)
    if not 0 <= plot.row < len(x):
        raise InputError(f"there is no row {plot.row}: there are {len(x)}, from 0 on")
    row, when = x[plot.row : plot.row + 1], f"row {plot.row}, {steps}"
    from snnc.report import answering, spikes

    match plot.kind:
        case "raster":
            return spikes.raster(record(artefact, row, plot.layers, T), when)
        case "potentials":
            return spikes.potentials(_neurons(artefact, row, plot, T), when)
        case "answers":
            label = label_of(artefact, y, plot.row)
            return answering.answers(answering.answer(artefact, row, plot.classes, T), when, label)
        case _:
            found = answering.answer(artefact, row, plot.classes, T)
            image = rows_of(artefact.canonical(row), graph.input.name)[0]
            return answering.walk(image, record(artefact, row, plot.layers, T), found, when)


def steps_of(timesteps: int, settle_steps: int) -> str:
    """Return for how many steps a network was run, T and K, in words."""
    return f"T = {timesteps}" + (f", K = {settle_steps}" if settle_steps else "")


def require_matplotlib() -> None:
    """Refuse to draw without matplotlib.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise UsageError(
            f"pictures need {error.name}, which is not installed: pip install matplotlib"
        ) from None
    del mpl


def _of_many(
    artefact: Artefact, x: Rows, plot: Plot, simulator: Simulator, progress: Progress, T: int, steps: str
) -> Chart:
    from snnc.report import spikes

    found = count(artefact, x, plot.layers, T, simulator, progress)
    when = f"{len(x)} row{'s' * (len(x) > 1)}, {steps}"
    if plot.kind == "counts":
        return spikes.counts(found, when)
    made = spikes.activity(found, T + artefact.graph.settle_steps, when)
    if made is None:
        raise UsageError("no layer has height and width, so there is no place to show: draw counts")
    return made


def _neurons(
    artefact: Artefact, row: Rows, plot: Plot, timesteps: int
) -> list[tuple[Recorded, tuple[int, ...]]]:
    """Return the neurons to draw, with their populations."""
    named: list[tuple[str, str | None]] = []
    for text in plot.neurons:
        layer, colon, place = text.rpartition(":")
        if not colon or not layer:
            raise UsageError(f"the neuron {text!r} has no layer: write LAYER:INDEX")
        named.append((layer, place))
    if not named:
        nodes = chosen_layers(artefact, plot.layers)
        named = [(node.name, None) for node in (nodes if plot.layers else evenly(nodes))]
    layers = tuple(dict.fromkeys(layer for layer, _ in named))
    found = {each.node.name: each for each in record(artefact, row, layers, timesteps)}
    return [(found[layer], neuron_of(found[layer], place)) for layer, place in named]


def evenly(layers: Sequence[Layer]) -> list[Layer]:
    """Return a few layers at even distances, the first and the last among them."""
    few = min(len(layers), MOST_POPULATIONS)
    return [layers[int(k)] for k in np.linspace(0, len(layers) - 1, few).round()]


def busiest(layers: Sequence[Recorded]) -> list[tuple[Recorded, tuple[int, ...]]]:
    """Return populations with the place of the neuron in each that fires most often."""
    return [(layer, neuron_of(layer, None)) for layer in layers]


def label_of(artefact: Artefact, y: Labels, row: int) -> int | None:
    """Return the right class of a row, if there is one."""
    if y is None or isinstance(y, Mapping) or y.dtype.kind not in "iu" or y.ndim != 1:
        return None
    (shape,) = artefact.gives.values()
    label = int(y[row])
    return label if len(shape) == 1 and 0 <= label < shape[0] and shape[0] > 1 else None
