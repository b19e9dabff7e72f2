"""Evaluation of an artefact with all that it remembers; whether rows are like those that it was made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from snnc.analysis.answers import SHARD, Source
from snnc.analysis.evaluation import Evaluation, evaluate
from snnc.analysis.parts import Parts
from snnc.data import normalisation
from snnc.data.input_statistics import MOST_ROWS, InputStatistics
from snnc.data.leakage import count_seen, merged
from snnc.diagnostics import OVERLAP, UNLIKE_CALIBRATION, Diagnostic
from snnc.ir.batch import Rows, flat
from snnc.ir.graph import FloatArray, NumberArray
from snnc.metrics.outputs import Labels
from snnc.metrics.task import Task
from snnc.progress import Callback, Progress
from snnc.simulation.protocol import Simulator
from snnc.simulation.reference import encode

if TYPE_CHECKING:
    from snnc.artefact import Artefact


def evaluate_artefact(
    artefact: Artefact,
    x: Rows,
    y: Labels,
    *,
    simulator: Simulator,
    counter: Simulator | None = None,
    timesteps: int | None = None,
    source: Source | None = None,
    task: Task | str | None = None,
    metrics: Sequence[str] = (),
    progress: Progress | Callback | None = None,
    parts: Parts | None = None,
) -> Evaluation:
    """Run an artefact, and the network that it came from, on the same rows.

    The arguments are those of :func:`snnc.analysis.evaluation.evaluate`; what the artefact knows of its
    outputs is taken from it.
    """
    return evaluate(
        artefact.graph,
        artefact.encode,
        x,
        y,
        simulator=simulator,
        counter=counter,
        timesteps=timesteps,
        source=source,
        task=stored_tasks(artefact) if task is None else task,
        ends=artefact.source_ends,
        metrics=metrics,
        layouts=artefact.output_layouts,
        progress=progress,
        finish=artefact.finish,
        parts=parts,
    )


def stored_tasks(artefact: Artefact) -> Task | dict[str, Task | None] | None:
    """Return what an artefact remembers of its outputs: the task of the one, or of each by its name."""
    if len(artefact.gives) == 1:
        return artefact.metadata.stored_task
    if artefact.host is not None:
        return None
    stored = {entry["name"]: entry.get("task", "") for entry in artefact.metadata.outputs}
    return {output: Task(task) if task else None for output, task in stored.items()}


def unlike_calibration(artefact: Artefact, x: Rows, simulator: Simulator) -> Diagnostic | None:
    """Return a warning where rows are not scaled, centred or ordered as the calibration rows were.

    Args:
        artefact: the spiking network; nothing is said of one without the statistics of its calibration rows.
        x: (n, ...) rows as the artefact takes them; some hundreds of them are looked at.
        simulator: runs the network on a few rows whose channels and axes are in other orders.
    """
    seen = InputStatistics.stored(artefact.metadata.calibration)
    if seen is None or len(x) == 0:
        return None
    chosen = x if len(x) <= MOST_ROWS else x[np.linspace(0, len(x) - 1, MOST_ROWS).astype(np.int64)]
    rows = artefact.canonical(chosen)
    foreign = seen.foreign(rows, chosen)
    if foreign is not None:
        return foreign.diagnostic()
    graph = artefact.graph
    if len(graph.outputs) > 1 or graph.readout.shape[1:] not in ((), (1, 1)):
        return None  # of several outputs, or of a map, no confidence tells

    def run(values: FloatArray) -> NumberArray:
        return simulator.run(graph, encode(graph.encoder, values), graph.timesteps).logits

    # The distribution of the values says little of the order of colours, or of height and width.
    misread = normalisation.judge(run, rows, task=artefact.metadata.stored_task, order_only=True)
    return None if misread is None else Diagnostic(UNLIKE_CALIBRATION, misread.text, help=misread.cure)


def calibrated_on(artefact: Artefact, x: Rows) -> Diagnostic | None:
    """Return a warning where rows were calibrated on or learned: an accuracy on them looks too good."""
    stored: Mapping[str, Any] = artefact.metadata.calibration
    learned: Mapping[str, Any] = artefact.metadata.adaptation or {}
    hashes = [edit["row_hashes"] for edit in learned.get("edits", ())]
    hashes += [stored["row_hashes"]] if "row_hashes" in stored else []
    if not hashes:
        return None
    coded = (artefact.encode(x[start : start + SHARD]) for start in range(0, len(x), SHARD))
    seen = sum(count_seen(merged(hashes), flat(artefact.inputs_of(q))) for q in coded)
    if not seen:
        return None
    used = "used for calibration, or learned since," if learned else "used for calibration,"
    message = f"{seen} of {len(x)} rows were {used} so the accuracy looks too good"
    return Diagnostic(OVERLAP, message, help="evaluate on other rows")
