"""Preset and steps, where the user leaves them open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from snnc.analysis import costs
from snnc.analysis.front import carried, order
from snnc.conversion_options import Options, unlearned
from snnc.errors import InternalError, UnsupportedModelError, UsageError
from snnc.ir.ann import AnnGraph, Relu
from snnc.ir.snn import SnnGraph
from snnc.metrics.task import Task
from snnc.pipeline import Context, run_pipeline
from snnc.progress import Progress
from snnc.search.choice import EXACT, Candidate, Choice, choose
from snnc.simulation.protocol import Simulator
from snnc.source.calibration import Calibration

KEPT = "the source is quantised, and its levels are kept exactly, by its own integers"
"""Why the preset `exact` was chosen."""

TRIAL_ROWS = 32
"""Rows with which it is tried whether a quantised network keeps its levels: enough to look at the input."""

TRIAL_THRIFT = 4
"""What a trial saves of the samples and positions that passes look at: it only has to tell presets apart."""


def choice_among(
    among: Mapping[Candidate, Options],
    source: AnnGraph,
    calibration: Calibration,
    task: Task | None,
    tasks: Mapping[str, Task | None],
    simulator: Simulator,
    progress: Progress,
    segments: Mapping[str, int],
) -> Choice | None:
    """Choose preset and steps; ``None`` where they are given."""
    if not among:
        return None
    if len(among) == 1:
        return Choice(next(iter(among)), "the only candidate that keeps to what is asked for")

    def make(candidate: Candidate, rows: Calibration) -> SnnGraph:
        options = among[candidate]
        context = Context(rows, options.steps, simulator, options.seed, task=task, thrift=TRIAL_THRIFT)
        context.tasks = tasks
        graph, _ = run_pipeline(unlearned(options.passes()), source, context)
        if not isinstance(graph, SnnGraph):
            raise InternalError(f"the preset {candidate.preset!r} left no spiking network")
        return graph

    return choose(tuple(among), make, source, calibration, simulator, progress, task, tasks, segments)


def kept_levels(
    options: Options, source: AnnGraph, calibration: Calibration, simulator: Simulator
) -> Options | None:
    """Return the options that keep a quantised network's levels exactly; ``None`` where there are none.

    A preset or a pipeline that is named stays.
    """
    if options.preset is not None or options.pipeline is not None or options.precision != "int8":
        return None
    if not any(node.scale is not None for node in source.of_type(Relu)):
        return None
    kept = replace(options, preset=EXACT, timesteps=options.timesteps or 1)
    few = calibration.subset(slice(TRIAL_ROWS))
    try:
        graph, records = run_pipeline(kept.passes(), source, Context(few, kept.steps, simulator, kept.seed))
    except (UnsupportedModelError, UsageError):
        return None
    sent = costs.payload(graph, kept.steps) if isinstance(graph, SnnGraph) else ""
    if kept.payload is not None and order(sent) > carried(kept.payload):
        return None
    return None if any(record.findings.get("approximated") for record in records) else kept
