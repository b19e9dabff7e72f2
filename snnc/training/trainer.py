"""A network trained from nothing, to levels from the first step, and written as the integers it computes.

The first stage trains the levels of rectifiers, thresholds learned per channel, with batch normalisations on
the statistics of the batch, with one cycle of the rate. The second, folded and lowered to one step
of graded neurons, trains the integers that are written. What is written is read back, lowered by the preset
`exact`, and its counts compared with those that were trained.

Sources: Bu et al., "Optimal ANN-SNN Conversion for High-accuracy and Ultra-low-latency Spiking Neural
Networks", ICLR 2022 (thresholds learned per layer from the first epoch); Ho and Chang, "TCL: an ANN-to-SNN
Conversion with Trainable Clipping Layers", DAC 2021.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import onnx
import torch

from snnc.errors import InternalError, UsageError
from snnc.frontend import SourceModel
from snnc.ir import ann
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.snn import SnnGraph
from snnc.metrics.task import Task
from snnc.numerics.divergence import AnswerError
from snnc.numerics.thresholds import mse_threshold
from snnc.passes import PASSES
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.progress import Progress
from snnc.simulation.protocol import Simulator
from snnc.source.ann_session import to_onnx
from snnc.source.calibration import Calibration
from snnc.training.ann_network import AnnNetwork
from snnc.training.course import ALONE, OPTIMISERS, TAUGHT, Course
from snnc.training.deployable import deployable, pooled_norms
from snnc.training.export import exported
from snnc.training.growth import Growth
from snnc.training.judge import AT_ONCE, Judge, Measure
from snnc.training.learner import Learner
from snnc.training.lesson import Lesson, on_device
from snnc.training.lowering import spiking
from snnc.training.memory import fitting, within_memory
from snnc.training.pace import Pace
from snnc.training.pixels import PIXELS, Pixels
from snnc.training.plan import Plan, Speed, precision
from snnc.training.recipe import Recipe
from snnc.training.rows import TrainingRows
from snnc.training.spiking_network import SpikingNetwork
from snnc.training.stage import Stage
from snnc.training.teacher import Teacher
from snnc.training.verification import verified

LOWERED = "lower{input-limit=255},graded,set-schedule,init-membrane{fraction=0.5}"
"""How the trained levels become integers: one step of neurons that send all of their levels at once."""

TIMED_STEPS = 3

QUANTILES = 4096
LEAST_SURE = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """What came of a training.

    Attributes:
        model: the network that is written.
        graph: the same as one step of spikes, or as a source network, where it has no levels.
        measure: how good it is on the rows held back.
        equal_rows: rows on which the written network's counts are those that were trained: all compared; 0
            for a network without levels.
        steps: of each stage.
        bfloat16: whether the first stage multiplied in bfloat16.
        history: measurements on the way.
        diverged: stages that ended before their last step, for a loss or answers that were not finite.
    """

    model: onnx.ModelProto
    graph: SnnGraph | ann.AnnGraph
    measure: Measure
    equal_rows: int
    steps: tuple[int, int]
    bfloat16: bool
    history: tuple[dict[str, Any], ...]
    diverged: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Trainer:
    """One training.

    Attributes:
        course: what is trained.
        recipe: how.
        pixels: all images.
        source: the network that has learned nothing.
        rows: the images, parted into those that are learned from and those that decide.
        teacher: a float network; ``None`` for labels alone.
        folder: where checkpoints lie.
        identity: of the run.
        told: called with all measurements so far, whenever there is one more.
        simulator: of spiking networks.
        progress: where to show how far it is.
    """

    course: Course
    recipe: Recipe
    pixels: Pixels
    source: SourceModel
    rows: TrainingRows
    teacher: Teacher | None
    folder: Path
    identity: str
    told: Callable[[list[dict[str, Any]]], None]
    simulator: Simulator
    progress: Progress
    _history: list[dict[str, Any]] = field(default_factory=list)
    _diverged: list[str] = field(default_factory=list)

    def run(self) -> Grown:
        """Train, or go on where a run was interrupted.

        Raises:
            UsageError: the batch does not fit memory.
            InputError: the folder belongs to another run.
            InternalError: what is written is not what was trained.
        """
        if self.course.levels is None:
            return self._in_floats()
        start = levelled(self.source.graph, self.course.levels)
        lesson = self._lesson(start)
        plan = self._planned(lesson, start)
        lesson = replace(lesson, bfloat16=plan.bfloat16)
        first, second = plan.steps[1]
        network = self._learning(start)
        self._stage("levels", Learner(network, self.recipe), lesson, first)
        lowered = self._lowered(network.graph())
        integers = SpikingNetwork(lowered)
        recipe = self.recipe.of_integers()
        final = replace(lesson, recipe=recipe, pace=Pace(), growth=Growth())
        if second:
            self._stage("integers", Learner(integers, recipe), final, second)
        made, _ = run_pipeline(Pipeline.parse("quantise-weights", PASSES), integers.graph(), self._context())
        graph = spiking(made)
        equal = verified(integers, graph, lesson.judge, self.simulator)
        measure = lesson.judge.simulated(graph, self.simulator)
        return Grown(
            exported(graph),
            graph,
            measure,
            equal,
            (first, second),
            plan.bfloat16,
            tuple(self._history),
            tuple(self._diverged),
        )

    def _in_floats(self) -> Grown:
        """Train a network of smooth activations, and write it as it is, its normalisations folded away."""
        start = self.source.graph
        lesson = self._lesson(start)
        plan = self._planned(lesson, start)
        steps = sum(plan.steps[1])
        learner = Learner(self._learning(start), self.recipe)
        self._stage("floats", learner, replace(lesson, bfloat16=plan.bfloat16), steps)
        fold = Pipeline.parse("fold-batchnorm", PASSES)
        folded, _ = run_pipeline(fold, learner.network.graph(), self._context())
        if not isinstance(folded, ann.AnnGraph):
            raise InternalError("folding leaves no source network")
        model = to_onnx(folded, folded.outputs)
        measure = learner.measured(lesson.judge)
        told = tuple(self._history), tuple(self._diverged)
        return Grown(model, folded, measure, 0, (steps, 0), plan.bfloat16, *told)

    def _learning(self, start: ann.AnnGraph) -> AnnNetwork:
        """Return the network of the first stage.

        A batch normalisation behind a pool keeps its scale, and the pixels their factor.
        """
        network = AnnNetwork(start, 1)
        network.counted = "activity" in self.recipe.losses
        fixed = pooled_norms(start)
        for each in network.learned:
            pixels = isinstance(start[each.node], ann.ChannelAffine)
            if pixels or (each.node in fixed and each.field == "scale"):
                each.tensor.requires_grad_(False)
        network.learned = [e for e in network.learned if e.tensor.requires_grad]
        return network

    def _context(self) -> Context:
        """Return a context of a black and a white image: the encoder's range is that of pixels."""
        shape = self.pixels.x.shape[1:]
        ends = np.stack([np.zeros(shape, np.float32), np.full(shape, PIXELS, np.float32)])
        return Context(Calibration(ends, 1), 1, self.simulator, seed=self.recipe.seed, task=Task.CLASSES)

    def _lowered(self, graph: ann.AnnGraph) -> SnnGraph:
        context = self._context()
        made, _ = run_pipeline(Pipeline.parse(LOWERED, PASSES), deployable(graph, context), context)
        return spiking(made)

    def _lesson(self, start: ann.AnnGraph) -> Lesson:
        device = self.recipe.device
        output = start.output_names[0]
        held = self.rows.everything(self.rows.held)
        labels = self.rows.labels_of(self.rows.held)
        asked = None
        targets = log_probabilities(labels[output], self.pixels.classes, self.course.smoothing)
        if self.teacher is not None:
            self.teacher.to(device)
            asked = self.teacher.answering(output)
            targets = self._answers(held, output)
        weights = dict(self.recipe.losses) or (ALONE if self.teacher is None else TAUGHT)
        self.recipe.check_mix(weights)
        usable = {"labels", "kl", "hta-kl"} if self.teacher is not None else {"labels"}
        if unknown := set(weights) - usable:
            cure = "needs a teacher" if unknown <= {"kl", "hta-kl"} else "does not train from nothing"
            raise UsageError(f"the loss {min(unknown)} {cure}: give {', '.join(sorted(usable))}")
        name = self.source.graph.inputs[0].name
        return Lesson(
            recipe=self.recipe,
            rows=self.rows,
            teacher=asked,
            judge=Judge(
                held,
                {output: targets},
                labels,
                {output: Task.CLASSES},
                {output: AnswerError.DIVERGENCE},
            ),
            tasks={output: Task.CLASSES},
            layers=(),
            prices={},
            variances={},
            weights=weights,
            progress=self.progress,
            cache={name: torch.from_numpy(self.pixels.x[self.rows.trained])},
            pace=self._pace(),
            growth=Growth(self.course.first_size),
            smoothing=self.course.smoothing,
        )

    def _pace(self) -> Pace:
        how = OPTIMISERS[self.course.optimiser]
        decay = how.weight_decay if self.course.weight_decay is None else self.course.weight_decay
        return Pace(self.course.rise, decay, how.momentum, how.largest_gradient)

    def _answers(self, held: dict[str, FloatArray], output: str) -> FloatArray:
        """Return the teacher's answers to the rows held back."""
        if self.teacher is None:
            raise UsageError("there is no teacher")
        asked = self.teacher.answering(output)
        found = []
        with torch.no_grad():
            for at in range(0, len(self.rows.held), AT_ONCE):
                batch = {
                    name: on_device(torch.from_numpy(x[at : at + AT_ONCE]), self.recipe.device)
                    for name, x in held.items()
                }
                found.append(asked(batch, ()).outputs[output].float().cpu().numpy())
        return np.concatenate(found)

    def _planned(self, lesson: Lesson, start: ann.AnnGraph) -> Plan:
        """Return the plan of the run: the one that was made before, or a new one."""
        found = Plan.read(self.folder, self.identity)
        if found is not None:
            return found
        bfloat16, levels = precision(
            self.recipe,
            lambda half: self._timed(replace(lesson, bfloat16=half), lambda: self._learning(start)),
        )
        if self.recipe.minutes is None:
            found = Plan.of_epochs((1,), self.recipe, len(self.rows.trained))
        else:
            if levels is None:
                levels = self._timed(replace(lesson, bfloat16=bfloat16), lambda: self._learning(start))
            speed = levels
            if self.course.levels is not None:
                integers = SpikingNetwork(self._lowered(start))
                speed = self._timed(replace(lesson, pace=Pace()), lambda: integers)
            grown = levels.times(lesson.growth.cost(max(self.pixels.x.shape[2:])))
            found = Plan.of_minutes((1,), self.recipe, (grown, speed))
        found = replace(found, bfloat16=bfloat16)
        found.write(self.folder, self.identity)
        return found

    def _timed(self, lesson: Lesson, make: Callable[[], AnnNetwork | SpikingNetwork]) -> Speed:
        def timed(recipe: Recipe) -> Speed:
            whole = replace(lesson, recipe=recipe, growth=Growth())
            stage = Stage("timing", Learner(make(), recipe), whole, 1000, self.folder, "")
            return stage.timed(TIMED_STEPS)

        return fitting(self.recipe, timed)

    def _stage(self, name: str, learner: Learner, lesson: Lesson, steps: int) -> None:
        stage = Stage(name, learner, lesson, steps, self.folder / f"{name}.pt", self.identity)
        earlier = list(self._history)
        with within_memory(lesson.recipe.batch):
            state = stage.run(lambda history: self.told([*earlier, *history]))
        self._history = [*earlier, *state.history]
        if state.diverged:
            self._diverged.append(name)


def levelled(graph: ann.AnnGraph, levels: int) -> ann.AnnGraph:
    """Return a network whose rectifiers round to levels, clipped where that suits a normal distribution best.

    Behind a batch normalisation values have a deviation of about 1, behind a sum of two such of about the
    square root of 2.
    """
    normal = np.array([NormalDist().inv_cdf((k + 0.5) / QUANTILES) for k in range(QUANTILES)])
    threshold = mse_threshold(np.maximum(normal, 0)[None].astype(np.float32), levels)[0]

    def clipped(node: ann.Relu) -> ann.Relu:
        before = graph[node.inputs[0]]
        deviation = np.sqrt(len(before.inputs)) if isinstance(before, ann.Add) else 1.0
        return node.with_(threshold=np.full(node.channels, threshold * deviation, np.float32), levels=levels)

    return graph.map(ann.Relu, clipped)


def log_probabilities(labels: NumberArray, classes: int, smoothing: float) -> FloatArray:
    """Return scores whose probabilities are those of smoothed labels, (n, classes) float32."""
    share = max(smoothing, 1 - LEAST_SURE) / classes
    found = np.full((len(labels), classes), np.log(share), np.float32)
    found[np.arange(len(labels)), labels.astype(np.int64)] = np.log(1 - (classes - 1) * share)
    return found
