"""The conversion itself: rows, preset, passes, artefact."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snnc import __version__
from snnc.analysis import costs
from snnc.analysis.front import carried, order
from snnc.analysis.memory import require_memory
from snnc.arguments import Model, as_preprocessing, example_rows, in_memory
from snnc.artefact import Artefact, Metadata
from snnc.backends import load_simulator
from snnc.compiler.checking import read_convertible
from snnc.compiler.choosing import KEPT, choice_among, kept_levels
from snnc.compiler.frames import (
    preprocessing_of_frames,
    present_frames,
    require_frames,
    spread,
)
from snnc.compiler.nearness import far_outputs
from snnc.compiler.tasks import task_of_whole, tasks_of
from snnc.conversion_options import DEFAULTS, Options, alternatives
from snnc.data.input_statistics import KEY as STATISTICS
from snnc.data.input_statistics import InputStatistics
from snnc.data.leakage import row_hashes
from snnc.data.material import given_rows, preprocessing_beside
from snnc.data.preprocessing import Preprocessing, for_inputs, prepared_rows
from snnc.diagnostics import OTHER_LEVELS, Diagnostic
from snnc.errors import InternalError, UsageError
from snnc.frontend import SourceModel
from snnc.frontend.exporting import INPUT, exported, is_module
from snnc.ir.ann import AnnGraph, Relu
from snnc.ir.batch import Batch, Rows, flat, joined, rows_of
from snnc.ir.blocks import released
from snnc.ir.graph import Graph, IntArray
from snnc.ir.snn import SnnGraph
from snnc.metrics.task import Task
from snnc.pass_options import former_names
from snnc.pipeline import Context, Dump, PassRecord, Pipeline, run_pipeline
from snnc.progress import Callback, Progress, as_progress
from snnc.scale.workers import Workers
from snnc.search.choice import EXACT, Candidate, Choice
from snnc.simulation.protocol import RecordOptions, Simulator, Trace
from snnc.simulation.reference import encode_all
from snnc.simulation.remote import WorkersSimulator
from snnc.source.calibration import Calibration

_log = logging.getLogger("snnc")

HASHED_ROWS = 256
"""Rows that are quantised at once to be recognised later."""

HASHED_VALUES = 1 << 22
"""Values that are quantised at once for it, as long as it is more than one row."""

TRIED_ROWS = 32
"""Rows on which the finished network is run: enough to choose kernels by, and to see outputs far off."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A spiking network that was made by more than its passes.

    Attributes:
        graph: the network.
        records: what each pass did, and what else was done.
        passes: those that made it.
    """

    graph: Graph[Any]
    records: tuple[PassRecord, ...]
    passes: Pipeline


Tuner = Callable[[Pipeline, AnnGraph, Context], Tuned]
"""Runs the passes of a conversion, with learning between them: see :mod:`snnc.training`."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """The result of :func:`convert`.

    Attributes:
        artefact: the spiking network and how it was made.
        records: what each pass did.
        diagnostics: warnings for the user.
        choice: of preset and steps; ``None`` where both were given.
        source: bytes of the ONNX network, where it came without a path.
    """

    artefact: Artefact
    records: tuple[PassRecord, ...]
    diagnostics: tuple[Diagnostic, ...]
    choice: Choice | None = None
    source: bytes | None = None


def convert(
    model: Model,
    calibration: Any,
    options: Options = DEFAULTS,
    *,
    preprocessing: Preprocessing | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    progress: Progress | Callback | None = None,
    dump: Dump | None = None,
    name: str = "the calibration rows",
    tuner: Tuner | None = None,
    workers: Workers | None = None,
) -> Conversion:
    """Convert a trained network.

    If the options give no preset or no number of steps, these are chosen by the loss of candidates on
    held-back rows: see :mod:`snnc.search.choice`. The result is then converted with all rows.

    Args:
        model: path of an ONNX file, ``zoo:NAME``, an ``onnx.ModelProto``, its bytes, or a
            ``torch.nn.Module``, which is exported for the calibration rows (extra ``torch``).
        calibration: unlabelled rows of training data, (n, *input shape): raw where ``preprocessing``
            is given, in any certain layout, else as the network takes them. An array, lists, a tensor, or
            the path of a ``.npy`` or ``.npz`` file; for several inputs a mapping of these by the inputs'
            names, or a ``.npz`` file of such arrays. 500 to 1,000 are enough.
        options: how to convert.
        preprocessing: from raw rows to what the network takes, or the dictionary or JSON file of one;
            stored in the artefact.
        progress: called with (done, total, description), or an object that shows it.
        dump: called with each pass's name and result.
        name: what the calibration rows are called in messages.
        tuner: runs the passes instead, and learns between them.
        workers: run networks and multiply on many rows; the result is the same bits as without them.

    Raises:
        UnsupportedModelError: the network holds something that cannot be converted.
        InputError: the file or the rows are damaged or do not fit.
        UsageError: an option makes no sense, or the network is an artefact already.
    """
    if not isinstance(options, Options):
        raise UsageError(f"the options are {type(options).__name__}; give snnc.compiler.Options(...)")
    if dump is not None and not callable(dump):
        raise UsageError(f"dump is {type(dump).__name__}; give a function of (name, graph)")
    for text in former_names(options.pipeline, options.settings.items()):
        _log.warning("warning: %s", text)
    preprocessing = as_preprocessing(preprocessing)
    if is_module(model):
        model, calibration, preprocessing = _exported(model, calibration, preprocessing, name)
    source, named = read_convertible(model, options)
    if options.frames:
        require_frames(source, preprocessing, named)
    among = alternatives(options, source.graph)
    taken_by = source.takes
    several = len(taken_by) > 1
    if several and preprocessing is not None and preprocessing.input is None:
        raise UsageError(
            f"{named} has {len(taken_by)} inputs, and a preprocessing is for one: say for which, such as by "
            f"--preprocess {next(iter(taken_by))}=FILE.json, or give rows as it takes them"
        )
    if not several and isinstance(calibration, str | os.PathLike):
        preprocessing = preprocessing_beside(Path(calibration), preprocessing)
    prepares = for_inputs(preprocessing, taken_by)
    raw = joined(given_rows(calibration, list(taken_by), named, name, preprocessing))
    taken: dict[str, Any] = {}
    for given, form in taken_by.items():
        what = f"{name} for {given!r}" if several else name
        taken[given] = prepared_rows(rows_of(raw, given), form, prepares[given], what)
    known = taken if source.host is None else source.host.before(taken)
    rows = source.entries(known, options.threads)
    possible = tuple(among.values()) or (options,)
    require_memory(source.graph, len(raw), fitted=any(each.fits for each in possible))
    prepared = Calibration(joined(rows), options.threads, workers)
    del rows, taken, known  # as large as the data
    simulator: Simulator = load_simulator("numba", options.threads)
    if workers is not None:
        simulator = WorkersSimulator(simulator, workers)
    shown = as_progress(progress)
    tasks = tasks_of(source, options.task)
    task = next(iter(tasks.values())) if len(tasks) == 1 else options.task
    kept = kept_levels(options, source.graph, prepared, simulator)
    choice: Choice | None
    if kept is not None:
        options, choice = kept, Choice(Candidate(EXACT, kept.steps), KEPT)
    else:
        segments = {} if source.host is None else source.host.segments
        choice = choice_among(among, source.graph, prepared, task, tasks, simulator, shown, segments)
        if choice is not None:
            options = among[choice.chosen]
    passes = options.passes()
    context = Context(
        calibration=prepared,
        timesteps=options.steps,
        simulator=simulator,
        seed=options.seed,
        progress=shown,
        journal=options.journal,
        task=task,
        tasks=tasks,
    )
    context.diagnostics.extend(source.warnings)
    context.diagnostics.extend(prepared.warnings(source.graph, task))
    context.diagnostics.extend(_other_levels(source.graph, passes))
    if tuner is None:
        graph, records = run_pipeline(passes, source.graph, context, dump)
    else:
        tuned = tuner(passes, source.graph, context)
        graph, records, passes = tuned.graph, tuned.records, tuned.passes
    if not isinstance(graph, SnnGraph):
        raise InternalError(f"the last pass, {passes[-1].name!r}, left no spiking network")
    if options.precision == "int8" and not graph.integer:
        raise UsageError(
            "the pipeline leaves float32 weights: end it with `quantise-weights`, or ask for float32"
        )
    tried = prepared.subset(slice(TRIED_ROWS))
    graph, presented = _presented(graph, tried.rows, options)
    sent = costs.payload(graph, options.steps)
    if options.payload is not None and order(sent) > carried(options.payload):
        raise InternalError(f"the network sends {sent} spikes, though only {options.payload} were asked for")
    trace = _trial(graph, presented, context.simulator)
    if graph.integer:
        graph = replace(graph, density=trace.density(graph.settle_steps))
    context.diagnostics.extend(far_outputs(source.graph, graph, trace.outputs, tried, tasks))
    seen = {
        "rows": len(prepared),
        "sha256": prepared.sha256,
        "seed": options.seed,
        **(
            {}
            if several
            or options.frames
            or len(source.inputs) > 1
            or (source.host is not None and source.host.prefix is not None)
            else {STATISTICS: InputStatistics.of(prepared.rows, raw).as_dict()}
        ),
    }
    # With these, an evaluation can tell that it is given rows that were calibrated on.
    seen |= _recognised(graph, source, prepared.rows, options)
    if choice is not None:
        seen["choice"] = choice.as_dict()
    if options.frames and preprocessing is not None:
        preprocessing = preprocessing_of_frames(preprocessing, graph.timesteps)
    metadata = Metadata(
        snnc_version=__version__,
        pipeline=passes.text,
        preset=(options.preset or "") if options.pipeline is None else "",
        records=tuple(record.as_dict() for record in records),
        preprocessing=None if preprocessing is None else preprocessing.as_dict(),
        input_layout=None if len(source.inputs) > 1 else source.layout.as_dict(),
        source_path=named,
        source_sha256=source.sha256,
        calibration=seen,
        task=_word(task if source.host is None else task_of_whole(source.host, options.task)),
        ends=_end(source),
        selection=options.selection.as_dict(),
        inputs=tuple(
            {"name": given.name, "dtype": given.dtype, "layout": given.layout.as_dict()}
            for given in source.inputs
        ),
        outputs=tuple(
            {
                "name": output.name,
                "layout": output.layout.as_dict(),
                "task": _word(tasks[output.name]),
                "ends": output.ends,
            }
            for output in source.outputs
        ),
    )
    artefact = Artefact(graph, metadata, source.host)
    return Conversion(artefact, records, tuple(context.diagnostics), choice, in_memory(model))


def _exported(
    module: Any, calibration: Any, preprocessing: Preprocessing | None, name: str
) -> tuple[bytes, Any, Preprocessing | None]:
    """Export a network of PyTorch for calibration rows, and return these, read, and their preprocessing."""
    several = isinstance(calibration, Mapping | Batch)
    if several:
        if preprocessing is not None:
            raise UsageError(f"{name} are several arrays, and a preprocessing is for one input")
        names = list(calibration if isinstance(calibration, Mapping) else calibration.arrays)
        raw = given_rows(calibration, names, type(module).__name__, name, None)
        return exported(module, {key: x[:2] for key, x in raw.items()}), raw, None
    if isinstance(calibration, str | os.PathLike):
        preprocessing = preprocessing_beside(Path(calibration), preprocessing)
    (rows,) = given_rows(calibration, [INPUT], type(module).__name__, name, preprocessing).values()
    return exported(module, example_rows(rows, preprocessing, name)), rows, preprocessing


def _presented(graph: SnnGraph, rows: Rows, options: Options) -> tuple[SnnGraph, Rows]:
    """Return the network as its rows are presented, and some rows of that form."""
    if not options.frames:
        return graph, rows
    return present_frames(graph), spread(rows, graph.timesteps)


def _recognised(graph: SnnGraph, source: SourceModel, rows: Rows, options: Options) -> dict[str, Any]:
    """Return what calibration rows are recognised by; frames are others than what they add up to."""
    if options.frames:
        return {}
    return {"row_hashes": row_hashes(_encoded(graph, rows, _known_beforehand(source)))}


def _word(task: Task | None) -> str:
    return "" if task is None else task.value


def _end(source: SourceModel) -> str:
    if source.host is not None:
        return source.host.activation
    return source.outputs[0].ends if len(source.outputs) == 1 else ""


def _known_beforehand(source: SourceModel) -> tuple[str, ...]:
    """Return the inputs that depend on no spikes, by which rows are recognised."""
    behind = {} if source.host is None else source.host.segments
    return tuple(given.name for given in source.inputs if not behind.get(given.name))


def _encoded(graph: SnnGraph, rows: Rows, names: Sequence[str]) -> Iterator[IntArray]:
    """Yield the quantised rows, a few at a time; of several inputs, all values of a row in one."""
    values = sum(math.prod(node.shape) for node in graph.inputs)
    size = max(1, min(HASHED_ROWS, HASHED_VALUES // max(1, values)))
    for start in range(0, len(rows), size):
        q = encode_all(graph, rows[start : start + size])
        released(rows)
        yield flat(joined({name: rows_of(q, name) for name in names}))


def _other_levels(source: AnnGraph, passes: Pipeline) -> Iterator[Diagnostic]:
    """Say that a pipeline does not keep the levels of a quantised network."""
    rounding = [node for node in source.of_type(Relu) if node.scale is not None]
    if not rounding or "lower-quantised" in passes.names:
        return
    levels = sorted({node.steps for node in rounding})
    shown = str(levels[0]) if len(levels) == 1 else f"{levels[0]} to {levels[-1]}"
    yield Diagnostic(
        OTHER_LEVELS,
        f"{len(rounding)} activations of the source are rounded to {shown} levels above the lowest, and this "
        "pipeline rounds anew: counts are no levels of the source",
        rounding[0].origin,
        "--preset exact keeps them, with T M of at least as many",
    )


def _trial(graph: SnnGraph, rows: Rows, simulator: Simulator) -> Trace:
    """Run the network on a few rows: the density of its spikes tells simulators how to plan."""
    q = encode_all(graph, rows)
    return simulator.run(graph, q, graph.timesteps, RecordOptions(activity=True))
