"""Pictures of spikes in a report: one row on its way through the network, and the spikes of all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snnc.artefact import Artefact
from snnc.errors import InputError, UsageError
from snnc.ir.batch import Rows, rows_of
from snnc.ir.operations import populations
from snnc.metrics.outputs import Labels
from snnc.progress import Progress
from snnc.report.plotting import busiest, evenly, label_of, require_matplotlib, steps_of
from snnc.report.recording import count, record
from snnc.simulation.protocol import Simulator

if TYPE_CHECKING:
    from snnc.report.drawing import Chart


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of a report.

    Attributes:
        row: the one that was walked through the network.
        of_row: pictures of it: the walk, the answer, spikes and potentials.
        of_all: spike counts and activity of all rows.
        without: why others are missing, a sentence each.
    """

    row: int
    of_row: tuple[Chart, ...]
    of_all: tuple[Chart, ...]
    without: tuple[str, ...]


def check_row(row: int, rows: int) -> None:
    """Refuse pictures that could not be made, before the work begins.

    Raises:
        InputError: there is no such row.
        UsageError: matplotlib is not installed.
    """
    require_matplotlib()
    if not 0 <= row < rows:
        raise InputError(f"there is no row {row}: there are {rows}, from 0 on")


def pictured(
    artefact: Artefact,
    x: Rows,
    y: Labels,
    number: int,
    classes: Sequence[str] = (),
    *,
    simulator: Simulator,
    timesteps: int,
    progress: Progress,
) -> Pictures:
    """Draw all pictures that this network has; every layer is recorded once.

    Args:
        artefact: the network.
        x: (n, ...) rows as the artefact takes them; of several inputs a batch of them.
        y: labels, as far as there are any.
        number: of the row that is walked through the network.
        classes: names of the outputs; numbers by default.
        simulator: what runs the network on many rows.
        timesteps: T.
        progress: where to show how far it is.

    Raises:
        InputError: there is no such row.
        UsageError: matplotlib is not installed.
    """
    check_row(number, len(x))
    if not populations(artefact.graph):
        return Pictures(number, (), (), ("No neuron fires in this network.",))
    from snnc.report import answering, spikes

    steps = steps_of(timesteps, artefact.graph.settle_steps)
    row, when = x[number : number + 1], f"row {number}, {steps}"
    layers = record(artefact, row, (), timesteps)
    of_row = [spikes.raster(layers, when), spikes.potentials(busiest(evenly(layers)), when)]
    without = []
    try:
        found = answering.answer(artefact, row, classes, timesteps)
    except UsageError as error:
        without.append(f"Answer and walk are left out: {error}.")
    else:
        image = rows_of(artefact.canonical(row), artefact.graph.input.name)[0]
        label = label_of(artefact, y, number)
        of_row[:0] = [
            answering.walk(image, layers, found, when),
            answering.answers(found, when, label),
        ]
    counted = count(artefact, x, (), timesteps, simulator, progress)
    over = f"{len(x)} row{'s' * (len(x) > 1)}, {steps}"
    of_all = [spikes.counts(counted, over)]
    places = spikes.activity(counted, timesteps + artefact.graph.settle_steps, over)
    if places is None:
        without.append("No layer has height and width, so that there is no map of activity.")
    else:
        of_all.append(places)
    return Pictures(number, tuple(of_row), tuple(of_all), tuple(without))
