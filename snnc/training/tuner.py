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
from collections.abc import Callable, Mapping
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
from snnc.ir.graph import FloatArray
from snnc.ir.snn import SnnGraph
from snnc.metrics.task import Task
from snnc.numerics.weight_grid import WEIGHT_BITS
from snnc.passes import PASSES
from snnc.passes.quantise_weights import QuantiseWeights
from snnc.pipeline import Context, PassRecord, Pipeline, run_pipeline
from snnc.report.fed import spiking_layers
from snnc.source.calibration import Calibration
from snnc.training.ann_network import AnnNetwork
from snnc.training.channels import ChannelGroups, Gates
from snnc.training.fine import with_fine
from snnc.training.judge import Judge, Measure
from snnc.training.kept import Kept
from snnc.training.learner import Learner
from snnc.training.lesson import Lesson
from snnc.training.lesson_parts import (
    compared_layers,
    fewest_levels,
    judged_tasks,
    loss_weights,
    spike_prices,
)
from snnc.training.lowering import (
    FINE,
    QUANTISE,
    Lowering,
    fine_edges,
    parted,
    spiking,
    weight_bits,
    without_changes,
)
from snnc.training.memory import fitting, within_memory
from snnc.training.normalised import moments, normalised, transferred, weighted
from snnc.training.plan import Plan, Speed, precision
from snnc.training.recipe import Recipe
from snnc.training.rows import TrainingRows
from snnc.training.spiking_network import SpikingNetwork, inexact, untrainable
from snnc.training.stage import Stage
from snnc.training.temporal import TemporalNetwork
from snnc.training.verification import verified

CACHED_BYTES = 2**30
"""Prepared rows that are kept in memory at most."""

TIMED_STEPS = 3
NOTHING = 1e-12


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
    _last: int | None = None
    _clipped: ann.AnnGraph | None = None
    _untrained: str = ""
    _diverged: list[str] = field(default_factory=list)
    _groups: ChannelGroups | None = None
    _bits: int = WEIGHT_BITS

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
        front, back = parted(passes)
        clipped, before = run_pipeline(front, graph, context)
        if not isinstance(clipped, ann.AnnGraph):
            raise UsageError("the passes in front of `lower` leave no source network: nothing can be tuned")
        kept_context = replace(context, diagnostics=[], findings={})
        closed, closed_records = run_pipeline(back, clipped, kept_context)
        made, self._bits = without_changes(back), weight_bits(back)
        self.recipe = self.recipe.for_bits(self._bits)
        given, coarse = clipped, dict[str, str]()
        if FINE in made.names:
            given, coarse = with_fine(clipped, fine_edges(made), context)
        bare = Lowering(made.without(*(name for name in (FINE, QUANTISE) if name in made.names)), coarse)
        lesson = self._lesson(given, bare, context)
        closed_measure = lesson.judge.simulated(spiking(closed), context.simulator)
        context.progress.message(f"closed form, T = {T}: {closed_measure.text}")
        start = self._start(given)
        plan = self._planned(lesson, start, bare, context)
        steps, lesson = plan.steps[T], replace(lesson, bfloat16=plan.bfloat16)
        folded = self._first_stage(lesson, start, steps[0], context)
        learned_context = replace(context, diagnostics=[], findings={})
        tuned, tuned_records, measure, reason, equal = self._second_stage(
            lesson, folded, bare, steps[1], learned_context
        )
        self._learned, self._last, self._clipped = folded, T, given
        if not reason and measure is not None and closed_measure.key <= measure.key:
            reason = "the closed form is as good on the rows held back"
        found = Kept(
            T,
            closed_measure,
            measure,
            reason,
            equal,
            steps,
            tuple(self._history),
            self._untrained,
            tuple(self._diverged),
        )
        self.results[T] = found
        self._history, self._diverged = [], []
        context.diagnostics.extend(
            Diagnostic(
                FALLBACK,
                f"{name}: the loss or the answers were not finite; the last good state is kept",
                help="tune at a lower --rate",
            )
            for name in found.diverged
        )
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
        self.recipe.check_mix(weights)
        lowered, _ = bare.whole().run(clipped, replace(context, diagnostics=[], findings={}))
        if self.recipe.channels is not None:
            self._groups = ChannelGroups.find(lowered, clipped)
            self._groups.require_some(self.recipe.channels)
        self._untrained = untrainable(lowered) or ""
        if self._untrained:
            if self.recipe.finish is not None:
                raise UsageError(f"{self._untrained}: leave --finish out")
            context.progress.message(f"{self._untrained}: only the first stage is trained")
        reason = inexact(lowered)
        if reason is not None and self.recipe.finish is None:
            raise UsageError(
                f"{reason}: tune with --set dual-threshold.spikes-per-step={context.timesteps}, "
                "--preset graded, or --set set-schedule.kind=layerwise; or train through the steps, by "
                "--finish rate"
            )
        if reason is None and self.recipe.finish is not None:
            raise UsageError(
                f"--finish {self.recipe.finish} is for spikes whose order matters, and the counts of this "
                "network do not depend on it: leave it out"
            )
        layers = compared_layers(clipped)
        prices = spike_prices(lowered, clipped, device)
        priced = [node.name for node in clipped.of_type(ann.Relu) if node.name in prices]
        for name, compared in (("features", layers), ("activity", priced)):
            if name in weights and not compared:
                raise UsageError(f"the loss {name} is of rectifiers, and the network has none: leave it out")
        if "attention" in weights and not any(len(clipped[name].shape) > 1 for name in layers):
            raise UsageError("the loss attention compares maps, and the network has none: use features")
        functions = [node.name for node in spiking_layers(lowered) if node.name not in priced]
        if "activity" in weights and functions:
            context.progress.message(
                f"the loss activity prices spikes of rectifiers alone, not those of {', '.join(functions)}"
            )
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
            prices=prices,
            variances=variances,
            weights=weights,
            progress=context.progress,
            cache=self._cached(clipped),
        )

    def _quantising(self) -> Pipeline:
        """Return the pass that makes the integers that are deployed."""
        return Pipeline((QuantiseWeights(self._bits),))

    def _integers(self, lowered: SnnGraph) -> SpikingNetwork:
        """Return what the second stage trains."""
        if self.recipe.finish is None:
            return SpikingNetwork(lowered, self._bits)
        return TemporalNetwork(lowered, self.recipe.finish, self._bits)

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
            recipe = replace(self.recipe, rounded=0.0) if self._untrained else self.recipe
            T = context.timesteps
            first = self._normalised(lesson, start)

            def timed(half: bool) -> Speed:
                return self._timed(replace(lesson, bfloat16=half), self._levels(lesson, first, T))

            bfloat16, levels = precision(recipe, timed)
            if recipe.minutes is None:
                found = Plan.of_epochs(self.timesteps, recipe, len(self.rows.trained))
            else:
                integers = levels = timed(bfloat16) if levels is None else levels
                if recipe.second_share:
                    lowered, _ = bare.run(start, replace(context, diagnostics=[], findings={}))
                    integers = self._timed(lesson, self._integers(lowered))
                found = Plan.of_minutes(self.timesteps, recipe, (levels, integers))
            found = replace(found, bfloat16=bfloat16)
            for levels_steps, _ in found.steps.values():
                self.recipe.check_turns(levels_steps, lesson.weights)
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

    def _normalised(self, lesson: Lesson, graph: ann.AnnGraph) -> ann.AnnGraph:
        """Return a network with normalisations behind its weights.

        They give each channel the mean and deviation that it has without the rounding that is to be learned:
        in the network for more steps that was trained last, and at first in the source.
        """
        before = graph.without_thresholds() if self._learned is None else self._learned
        network = AnnNetwork(before, self._last).to(lesson.recipe.device).eval()
        return normalised(graph, moments(network, lesson.statistics(), weighted(graph)))

    def _levels(self, lesson: Lesson, graph: ann.AnnGraph, T: int) -> AnnNetwork:
        """Return what the first stage trains."""
        network = AnnNetwork(graph, T, relative=True)
        network.counted = "activity" in lesson.weights
        if self._groups is not None:
            network.gates = Gates(self._groups, graph, self.recipe)
        return network

    def _first_stage(self, lesson: Lesson, start: ann.AnnGraph, steps: int, context: Context) -> ann.AnnGraph:
        """Train the levels of rectifiers, and return the network, folded."""
        if not steps:
            return start
        T = context.timesteps
        network = self._levels(lesson, self._normalised(lesson, start), T)
        learner = Learner(network, self.recipe.of_levels(fewest_levels(start, T)))
        learner.take_statistics(lesson.statistics())
        self._run(f"T = {T}, levels", learner, lesson, steps, f"T{T}.levels.pt")
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
        if self._untrained:
            return self._without_integers(lesson, lowered, records, context)
        network = self._integers(lowered)
        # Without some channels a spike reaches less.
        lesson = replace(lesson, prices=spike_prices(lowered, folded, self.recipe.device))
        if steps:
            self._run(
                f"T = {T}, {self.recipe.finish or 'integers'}",
                Learner(network, self.recipe.of_integers(self._bits)),
                lesson,
                steps,
                f"T{T}.integers.pt",
            )
        try:
            made, quantised = run_pipeline(self._quantising(), network.graph(), context)
        except UsageError as error:
            return None, (*records, *records[:1]), None, f"the tuned network cannot be deployed: {error}", 0
        graph = spiking(made)
        equal = verified(network, graph, lesson.judge, context.simulator)
        return graph, (*records, *quantised), lesson.judge.simulated(graph, context.simulator), "", equal

    def _without_integers(
        self, lesson: Lesson, lowered: SnnGraph, records: tuple[PassRecord, ...], context: Context
    ) -> tuple[SnnGraph | None, tuple[PassRecord, ...], Measure | None, str, int]:
        """Return a network whose integers are not trained: no module computes them to compare with."""
        made, quantised = run_pipeline(self._quantising(), lowered, context)
        graph = spiking(made)
        return graph, (*records, *quantised), lesson.judge.simulated(graph, context.simulator), "", 0

    def _run(self, name: str, learner: Learner, lesson: Lesson, steps: int, file: str) -> None:
        stage = Stage(name, learner, lesson, steps, self.folder / file, self.identity)
        earlier = list(self._history)
        with within_memory(lesson.recipe.batch):
            state = stage.run(lambda history: self._tell([*earlier, *history]))
        if state.diverged:
            self._diverged.append(name)
        self._history = [*earlier, *state.history]

    def _tell(self, history: list[dict[str, Any]]) -> None:
        finished = [each for found in self.results.values() for each in found.history]
        self.told([*finished, *history])
