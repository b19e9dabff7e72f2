"""A network tuned for a number of steps: two stages of training, between the passes of a pipeline.

The passes in front of `lower` clip the source; the first stage trains what they give, with batch
normalisations put back; the passes behind lower the result, and the second stage trains the integers. Nothing
compensates behind what was learned. What the pipeline makes without learning, compensation included, is the
closed form: the better of the two on the rows held back is kept.

Several numbers of steps are trained one after the other, from many to few: each begins with what the first
stage of the last one learned, and with its thresholds times the ratio of their closed forms.

Source of progressive levels: Zhuang et al., "Towards Effective Low-bitwidth Convolutional Neural Networks",
CVPR 2018.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnc.compiler import Tuned
from snnc.diagnostics import FALLBACK, Diagnostic
from snnc.errors import InputError, InternalError, UsageError
from snnc.ir import ann
from snnc.ir.batch import Batch, joined
from snnc.ir.graph import FloatArray, Graph
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.metrics.task import Task
from snnc.passes import PASSES
from snnc.pipeline import Context, PassRecord, Pipeline, run_pipeline
from snnc.simulation.protocol import RecordOptions, Simulator
from snnc.simulation.reference import encode_all
from snnc.source.calibration import Calibration
from snnc.training.ann_network import AnnNetwork
from snnc.training.fine import FineEdges, marked, with_fine
from snnc.training.judge import AT_ONCE, Judge, Measure
from snnc.training.lesson_parts import compared_layers, judged_tasks, loss_weights, spike_prices
from snnc.training.normalised import moments, normalised, transferred, weighted
from snnc.training.plan import Plan, Speed
from snnc.training.recipe import Recipe
from snnc.training.rows import TrainingRows, spread
from snnc.training.spiking_network import SpikingNetwork, inexact, untrainable
from snnc.training.stage import Learner, Lesson, Stage, on_device

LOWER = "lower"
QUANTISE = "quantise-weights"
FINE = "fine-skip"
CHANGING = ("compensate", "learn-thresholds")
"""Passes behind `lower` that change what was learned; the closed form has them."""

MEASURED_ROWS = 512
"""Rows on which the moments of batch normalisations are taken."""

VERIFIED_ROWS = 1000
"""Rows held back on which the counts of the simulator and of the module are compared."""

CACHED_BYTES = 2**30
"""Prepared rows that are kept in memory at most."""

TIMED_STEPS = 3
NOTHING = 1e-12


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of a run for one number of steps.

    Attributes:
        timesteps: T.
        closed: the closed form on the rows held back.
        tuned: the tuned network there; ``None`` where it cannot be deployed.
        reason: why the closed form is kept; empty where the tuned network is.
        equal_rows: rows on which the simulator's counts are those of the module: all that were compared.
        steps: of each stage.
        history: measurements on the way.
    """

    timesteps: int
    closed: Measure
    tuned: Measure | None
    reason: str
    equal_rows: int
    steps: tuple[int, int]
    history: tuple[dict[str, Any], ...]

    @property
    def is_tuned(self) -> bool:
        """Whether the tuned network is kept."""
        return not self.reason

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "timesteps": self.timesteps,
            "closed_form": self.closed.as_dict(),
            "tuned": None if self.tuned is None else self.tuned.as_dict(),
            "kept": "tuned" if self.is_tuned else "closed form",
            "reason": self.reason,
            "equal_rows": self.equal_rows,
            "steps": list(self.steps),
            "curve": list(self.history),
        }


@dataclass(slots=True, eq=False)
class Tuner:
    """A run over one or several numbers of steps; called by a conversion for each.

    Attributes:
        recipe: how to train.
        rows: the training rows.
        tasks: what the outputs are, as far as it is known.
        timesteps: every T, in the order in which they are trained.
        folder: where checkpoints lie.
        identity: of the run, all that its result depends on.
        told: called with all measurements so far, whenever there is one more.
        results: by T.
    """

    recipe: Recipe
    rows: TrainingRows
    tasks: Mapping[str, Task | None]
    timesteps: tuple[int, ...]
    folder: Path
    identity: str
    told: Callable[[list[dict[str, Any]]], None]
    results: dict[int, Kept] = field(default_factory=dict)
    _history: list[dict[str, Any]] = field(default_factory=list)
    _learned: ann.AnnGraph | None = None
    _clipped: ann.AnnGraph | None = None

    def __call__(self, passes: Pipeline, graph: ann.AnnGraph, context: Context) -> Tuned:
        """Make a network for ``context.timesteps``.

        Args:
            passes: the closed form: all passes, in order.
            graph: the source network.
            context: of the conversion.

        Raises:
            UsageError: the passes leave a network whose counts depend on the order of spikes.
        """
        begun = time.monotonic()
        T = context.timesteps
        front, back = _parted(passes)
        clipped, before = run_pipeline(front, graph, context)
        if not isinstance(clipped, ann.AnnGraph):
            raise UsageError("the passes in front of `lower` leave no source network: nothing can be tuned")
        kept_context = replace(context, diagnostics=[], findings={})
        closed, closed_records = run_pipeline(back, clipped, kept_context)
        made = _without_changes(back)
        given, coarse = clipped, dict[str, str]()
        if FINE in made.names:
            given, coarse = with_fine(clipped, _edges(made), context)
        bare = Lowering(made.without(*(name for name in (FINE, QUANTISE) if name in made.names)), coarse)
        lesson = self._lesson(given, bare, context)
        closed_measure = lesson.judge.simulated(_spiking(closed), context.simulator)
        context.progress.message(f"closed form, T = {T}: {closed_measure.text}")
        start = self._start(given)
        steps = self._planned(lesson, start, bare, context).steps[T]
        folded = self._first_stage(lesson, start, steps[0], context)
        learned_context = replace(context, diagnostics=[], findings={})
        tuned, tuned_records, measure, reason, equal = self._second_stage(
            lesson, folded, bare, steps[1], learned_context
        )
        self._learned, self._clipped = folded, given
        if not reason and measure is not None and closed_measure.key <= measure.key:
            reason = "the closed form is as good on the rows held back"
        found = Kept(T, closed_measure, measure, reason, equal, steps, tuple(self._history))
        self.results[T] = found
        self._history = []
        seconds, findings = time.monotonic() - begun, self._findings(lesson, found)
        record = PassRecord("tune", found.is_tuned, len(closed.nodes), seconds, findings)
        if found.is_tuned and tuned is not None:
            context.diagnostics.extend(learned_context.diagnostics)
            passes = Pipeline((*front, *made))
            return Tuned(tuned, (*before, *tuned_records[:-1], record, tuned_records[-1]), passes)
        context.diagnostics.extend(kept_context.diagnostics)
        context.diagnostics.append(
            Diagnostic(FALLBACK, f"T = {T}: {reason}, and stays", help="tune for longer, or on more rows")
        )
        return Tuned(closed, (*before, *closed_records, record), passes)

    def _findings(self, lesson: Lesson, found: Kept) -> dict[str, Any]:
        return {
            "recipe": self.recipe.as_dict(),
            "losses": dict(lesson.weights),
            "rows": len(self.rows.trained),
            "held_back": len(self.rows.held),
            "labels": sorted(self.rows.labels),
            **found.as_dict(),
        }

    def _start(self, clipped: ann.AnnGraph) -> ann.AnnGraph:
        """Return the network that the first stage begins with."""
        if self._learned is None or self._clipped is None:
            return clipped
        ratio: dict[str, FloatArray] = {}
        others = {node.name: node.threshold for node in self._clipped.of_type(ann.Relu)}
        for node in clipped.of_type(ann.Relu):
            other = others.get(node.name)
            if node.threshold is not None and other is not None and other.shape == node.threshold.shape:
                alive = other > 0
                ratio[node.name] = np.where(alive, node.threshold / np.where(alive, other, 1), 1)
        return transferred(clipped, self._learned, ratio)

    def _lesson(self, clipped: ann.AnnGraph, bare: Lowering, context: Context) -> Lesson:
        """Return what both stages are taught."""
        device = self.recipe.device
        plain = clipped.without_thresholds()
        held = self.rows.everything(self.rows.held)
        calibration = Calibration(joined(held), context.calibration.threads, context.calibration.workers)
        answers = calibration.logits(plain)
        targets = dict(answers.arrays) if isinstance(answers, Batch) else {plain.output_names[0]: answers}
        tasks, errors = judged_tasks(self.tasks, targets)
        judge = Judge(held, targets, self.rows.labels_of(self.rows.held), tasks, errors)
        weights = loss_weights(self.recipe, tasks, self.rows.labels)
        spiking, _ = bare.run(clipped, replace(context, diagnostics=[], findings={}))
        if (reason := untrainable(spiking)) is not None:
            raise UsageError(f"{reason}: convert the network without tuning")
        reason = inexact(spiking)
        if reason is not None:
            raise UsageError(
                f"{reason}: tune with --set dual-threshold.spikes-per-step={context.timesteps}, "
                "--preset graded, or --set set-schedule.kind=layerwise"
            )
        layers = compared_layers(clipped)
        if "attention" in weights and not any(len(clipped[name].shape) > 1 for name in layers):
            raise UsageError("the loss attention compares maps, and the network has none: use features")
        teacher = AnnNetwork(plain).to(device).to(memory_format=torch.channels_last).eval()
        for parameter in teacher.parameters():
            parameter.requires_grad_(False)
        variances = {
            name: torch.tensor(max(float(values.var()), NOTHING), device=device)
            for name, values in targets.items()
        }
        return Lesson(
            recipe=self._suited(clipped),
            rows=self.rows,
            teacher=teacher,
            judge=judge,
            tasks=tasks,
            layers=layers,
            prices=spike_prices(spiking, clipped, device),
            variances=variances,
            weights=weights,
            progress=context.progress,
            cache=self._cached(clipped),
        )

    def _suited(self, graph: ann.AnnGraph) -> Recipe:
        """Refuse changes of images where there are none."""
        images = all(len(node.shape) == 3 and min(node.shape[1:]) > 1 for node in graph.inputs)
        if self.recipe.augment and not images:
            raise UsageError(
                f"--augment {','.join(self.recipe.augment)} is for images, and the network takes "
                f"{graph.inputs[0].shape}: leave it out"
            )
        return self.recipe

    def _cached(self, graph: ann.AnnGraph) -> dict[str, Tensor]:
        size = sum(4 * int(np.prod(node.shape)) for node in graph.inputs)
        if size * len(self.rows.trained) > CACHED_BYTES:
            return {}
        return {name: torch.from_numpy(x) for name, x in self.rows.everything(self.rows.trained).items()}

    def _planned(self, lesson: Lesson, start: ann.AnnGraph, bare: Lowering, context: Context) -> Plan:
        """Return the plan of the run: the one that was made before, or a new one."""
        found = Plan.read(self.folder, self.identity)
        if found is None:
            if self.recipe.minutes is None:
                found = Plan.of_epochs(self.timesteps, self.recipe, len(self.rows.trained))
            else:
                lowered, _ = bare.run(start, replace(context, diagnostics=[], findings={}))
                first = self._normalised(lesson, start, context.timesteps)
                networks = (AnnNetwork(first, context.timesteps), SpikingNetwork(lowered))
                speeds = [self._timed(lesson, network) for network in networks]
                found = Plan.of_minutes(self.timesteps, self.recipe, (speeds[0], speeds[1]))
            found.write(self.folder, self.identity)
        if set(found.steps) != set(self.timesteps):
            raise InputError(f"{self.folder} belongs to another run: remove it")
        return found

    def _timed(self, lesson: Lesson, network: AnnNetwork | SpikingNetwork) -> Speed:
        """Measure how long a step and a judgement take."""

        def timed(recipe: Recipe) -> Speed:
            lesson_ = replace(lesson, recipe=recipe)
            return Stage("timing", Learner(network, recipe), lesson_, 1000, self.folder, "").timed(
                TIMED_STEPS
            )

        return fitting(self.recipe, timed)

    def _batches(self, lesson: Lesson) -> Iterator[dict[str, Tensor]]:
        """Yield some of the training rows as they are, for statistics."""
        chosen = spread(self.rows.trained, MEASURED_ROWS)
        for start in range(0, len(chosen), AT_ONCE):
            prepared = self.rows.prepared(chosen[start : start + AT_ONCE])
            yield {name: on_device(torch.from_numpy(x), lesson.recipe.device) for name, x in prepared.items()}

    def _normalised(self, lesson: Lesson, graph: ann.AnnGraph, T: int) -> ann.AnnGraph:
        network = AnnNetwork(graph, T).to(lesson.recipe.device).eval()
        return normalised(graph, moments(network, self._batches(lesson), weighted(graph)))

    def _first_stage(self, lesson: Lesson, start: ann.AnnGraph, steps: int, context: Context) -> ann.AnnGraph:
        """Train the levels of rectifiers, and return the network, folded."""
        if not steps:
            return start
        T = context.timesteps
        network = AnnNetwork(self._normalised(lesson, start, T), T)
        self._run(f"T = {T}, levels", Learner(network, self.recipe), lesson, steps, f"T{T}.levels.pt")
        fold = Pipeline.parse("fold-batchnorm", PASSES)
        folded, _ = run_pipeline(fold, network.graph(), replace(context, diagnostics=[], findings={}))
        if not isinstance(folded, ann.AnnGraph):
            raise InternalError("folding leaves no source network")
        return folded

    def _second_stage(
        self, lesson: Lesson, folded: ann.AnnGraph, bare: Lowering, steps: int, context: Context
    ) -> tuple[SnnGraph | None, tuple[PassRecord, ...], Measure | None, str, int]:
        """Train the integers, and return the network, its records, how good it is, and why it is none."""
        T = context.timesteps
        lowered, records = bare.run(folded, context)
        network = SpikingNetwork(lowered)
        if steps:
            self._run(f"T = {T}, integers", Learner(network, self.recipe), lesson, steps, f"T{T}.integers.pt")
        try:
            last = Pipeline.parse(QUANTISE, PASSES)
            made, quantised = run_pipeline(last, network.graph(), context)
        except UsageError as error:
            return None, (*records, *records[:1]), None, f"the tuned network cannot be deployed: {error}", 0
        graph = _spiking(made)
        equal = verified(network, graph, lesson.judge, context.simulator)
        return graph, (*records, *quantised), lesson.judge.simulated(graph, context.simulator), "", equal

    def _run(self, name: str, learner: Learner, lesson: Lesson, steps: int, file: str) -> None:
        stage = Stage(name, learner, lesson, steps, self.folder / file, self.identity)
        earlier = list(self._history)
        try:
            state = stage.run(lambda history: self._tell([*earlier, *history]))
        except (MemoryError, RuntimeError) as error:
            if not _of_memory(error):
                raise
            size = lesson.recipe.batch
            raise UsageError(
                f"a batch of {size} rows does not fit memory any more: give --batch {size // 2}, and another "
                "folder by --checkpoints"
            ) from error
        self._history = [*earlier, *state.history]

    def _tell(self, history: list[dict[str, Any]]) -> None:
        finished = [each for found in self.results.values() for each in found.history]
        self.told([*finished, *history])


def fitting(recipe: Recipe, timed: Callable[[Recipe], Speed]) -> Speed:
    """Return what a recipe's batch takes, and refuse one that does not fit memory.

    Raises:
        UsageError: naming the largest half, quarter, ... of the batch that fits.
    """
    size, found = recipe.batch, None
    while found is None:
        try:
            found = timed(replace(recipe, batch=size))
        except (MemoryError, RuntimeError) as error:
            if not _of_memory(error) or size < 4:
                raise
            size //= 2
    if size < recipe.batch:
        raise UsageError(
            f"a batch of {recipe.batch} rows does not fit memory, {size} do: give --batch {size}"
        )
    return found


def _of_memory(error: Exception) -> bool:
    """Whether memory was short; on a CPU torch raises no error of its own for it."""
    return isinstance(error, MemoryError) or "memory" in str(error).lower()


def verified(network: SpikingNetwork, graph: SnnGraph, judge: Judge, simulator: Simulator) -> int:
    """Compare the counts of a spiking network with its module's, and return on how many rows they are equal.

    Raises:
        InternalError: a count differs: what was trained is not what is deployed.
    """
    count = min(len(judge), VERIFIED_ROWS)
    names = [node.name for node in graph.of_type(IntegrateFire)]
    network.quantise()
    for start in range(0, count, AT_ONCE):
        rows = slice(start, min(start + AT_ONCE, count))
        q = encode_all(graph, joined({name: x[rows] for name, x in judge.rows.items()}))
        trace = simulator.run(graph, q, graph.timesteps, RecordOptions(states=True))
        arrays = q.arrays if isinstance(q, Batch) else {graph.encoders[0].name: q}
        device = next(network.parameters()).device
        given = {name: torch.from_numpy(x.astype(np.float64)).to(device) for name, x in arrays.items()}
        with torch.no_grad():
            found = network(given, exact=True).counts
        for name in names:
            if not np.array_equal(found[name].cpu().numpy(), trace.counts[name]):
                raise InternalError(f"the counts of {name!r} are not those that were trained")
    return count


def _parted(passes: Pipeline) -> tuple[Pipeline, Pipeline]:
    """Return the passes in front of `lower`, and the others."""
    if LOWER not in passes.names or QUANTISE not in passes.names:
        raise UsageError(
            f"tuning needs `{LOWER}` and `{QUANTISE}` in the pipeline; it has {', '.join(passes.names)}"
        )
    at = passes.names.index(LOWER)
    return passes[:at], passes[at:]


@dataclass(frozen=True, slots=True)
class Lowering:
    """How what the first stage trained becomes spiking.

    Attributes:
        passes: in order, without those that change what was learned, and without `quantise-weights`.
        coarse: the coarse rectifier of each fine one, by its name.
    """

    passes: Pipeline
    coarse: Mapping[str, str]

    def run(self, graph: ann.AnnGraph, context: Context) -> tuple[SnnGraph, tuple[PassRecord, ...]]:
        """Return the spiking network in float32, and what each pass did."""
        made, records = run_pipeline(self.passes, graph, context)
        return marked(_spiking(made), self.coarse), records


def _edges(passes: Pipeline) -> FineEdges:
    """Return who reads fine spikes by the options of `fine-skip`."""
    item: Any = next(item for item in passes if item.name == FINE)
    return FineEdges(item.levels, item.shortcuts, item.classifier)


def _without_changes(back: Pipeline) -> Pipeline:
    """Return the passes behind the first stage without those that would change what it learned."""
    kept = Pipeline(tuple(item for item in back if item.name not in CHANGING))
    return kept.with_settings({"init-membrane.fraction": "0.5"}) if "init-membrane" in kept.names else kept


def _spiking(graph: Graph[Any]) -> SnnGraph:
    if not isinstance(graph, SnnGraph):
        raise InternalError("a pipeline that lowers left no spiking network")
    return graph
