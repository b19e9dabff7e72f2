"""One stage of training: steps of gradients on one network, with checkpoints that lead to the same result.

A network is tuned in two stages. The first trains the levels of rectifiers in floats, with batch
normalisations that use the statistics of the batch; the second, folded and lowered, the integers that are
deployed. Both learn by Adam with a cosine rate and gradients clipped at 1, and what counts is the moving
average of the parameters.

The number of steps is fixed before the first one, and all randomness comes from one generator that is part of
a checkpoint: a stage that is interrupted goes on to the same bits, on the same number of threads.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snnc.errors import InputError
from snnc.ir.batch import joined
from snnc.ir.graph import FloatArray
from snnc.ir.snn import IntegrateFire
from snnc.metrics.task import Task
from snnc.progress import Progress
from snnc.simulation.reference import encode_all
from snnc.training import losses
from snnc.training.ann_network import AnnNetwork
from snnc.training.augmentation import augmented
from snnc.training.judge import AT_ONCE, Judge, Measure
from snnc.training.operators import Run
from snnc.training.plan import Speed
from snnc.training.recipe import Recipe
from snnc.training.rows import TrainingRows
from snnc.training.spiking_network import SpikingNetwork
from snnc.writing import replacing

CHECKPOINT_SECONDS = 60.0
EVALUATIONS = 10
"""How often a stage is judged."""

LARGEST_GRADIENT = 1.0
WARM_UP = 50
"""Steps in which the rate rises, at most a tenth of all."""

RELATIVE = 3.0
"""Rate of the second stage, relative to a parameter's size, over that of the first."""

SMALLEST = 0.1
"""Size that a bias has at least, in thresholds, as far as its rate is concerned."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a stage is taught: the same for both stages.

    Attributes:
        recipe: how.
        rows: those that are learned from, and those held back.
        teacher: the source network.
        judge: the rows held back.
        tasks: what each output is.
        layers: activations that `features` and `attention` compare.
        prices: synapses that a spike of each neuron reaches, relative to the source's MACs, by population.
        variances: of the source's numbers, by output.
        weights: of the losses.
        progress: where to show how far it is.
        cache: prepared rows, where they fit memory, by input.
    """

    recipe: Recipe
    rows: TrainingRows
    teacher: AnnNetwork
    judge: Judge
    tasks: Mapping[str, Task]
    layers: Sequence[str]
    prices: Mapping[str, Tensor]
    variances: Mapping[str, Tensor]
    weights: Mapping[str, float]
    progress: Progress
    cache: dict[str, Tensor] = field(default_factory=dict)

    def inputs(self, chosen: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return some of the training rows, changed at random where that is asked for."""
        if self.cache:
            found = {name: values[chosen] for name, values in self.cache.items()}
        else:
            indices = self.rows.trained[chosen.numpy()]
            prepared = self.rows.prepared(indices)
            found = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in prepared.items()}
        if self.recipe.augment:
            found = {name: augmented(x, self.recipe.augment, generator) for name, x in found.items()}
        return {name: on_device(x, self.recipe.device) for name, x in found.items()}

    def labels(self, chosen: Tensor) -> dict[str, Tensor]:
        """Return the labels of some of the training rows."""
        found = self.rows.labels_of(self.rows.trained[chosen.numpy()])
        return {name: torch.from_numpy(np.asarray(y)).to(self.recipe.device) for name, y in found.items()}


def on_device(x: Tensor, device: str) -> Tensor:
    """Return a batch where it is computed; maps with channels last, which is the faster form."""
    x = x.to(device)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


class Learner:
    """A network of either kind as a stage sees it."""

    def __init__(self, network: AnnNetwork | SpikingNetwork, recipe: Recipe) -> None:
        """Let the parameters of the wanted roles learn, and no other."""
        self.network = network.to(recipe.device).to(memory_format=torch.channels_last)
        self.recipe = recipe
        self.masks: list[tuple[nn.Parameter, Tensor]] = []
        self.groups: list[dict[str, Any]] = []
        spiking = isinstance(network, SpikingNetwork)
        by_rate: dict[float, list[nn.Parameter]] = {}
        for each in network.learned:
            wanted = each.role in recipe.learn
            each.tensor.requires_grad_(wanted)
            if not wanted:
                continue
            size = self._size(each.node, each.role, each.tensor) if spiking else 1 / RELATIVE
            rate = recipe.rate * RELATIVE * size
            by_rate.setdefault(rate, []).append(each.tensor)
            if each.role == "weights" and bool((each.tensor == 0).any()):
                # A weight of zero is no synapse, and stays none.
                self.masks.append((each.tensor, (each.tensor != 0).to(each.tensor.dtype)))
        self.groups += [{"params": found, "lr": r, "initial_lr": r} for r, found in by_rate.items()]

    def _size(self, name: str, role: str, tensor: nn.Parameter) -> float:
        """Return how large a parameter of the second stage is: its rate is relative to that."""
        if role in ("thresholds", "starts"):
            return 1 / RELATIVE
        size = float(tensor.detach().square().mean().sqrt())
        node = self.network.source[name]
        if isinstance(node, IntegrateFire):
            size = max(size, SMALLEST * float(node.threshold.mean()))
        return size if size > 0 else SMALLEST

    def prepare(self) -> None:
        """Let the compiler quantise what is trained in integers."""
        if isinstance(self.network, SpikingNetwork):
            self.network.quantise()

    def given(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the network takes of prepared rows."""
        if not isinstance(self.network, SpikingNetwork):
            return dict(x)
        graph = self.network.quantised
        q = encode_all(graph, joined({name: values.cpu().numpy() for name, values in x.items()}))
        arrays = q.arrays if hasattr(q, "arrays") else {graph.encoders[0].name: q}
        return {
            name: on_device(torch.from_numpy(array.astype(np.float32)), self.recipe.device)
            for name, array in arrays.items()
        }

    def run(self, x: Mapping[str, Tensor], keep: Sequence[str] = (), steps: int | None = None) -> Run:
        """Run the network on prepared rows."""
        found: Run = self.network(self.given(x), keep, steps)
        return found

    def state(self) -> dict[str, Tensor]:
        """Return a copy of all parameters and statistics."""
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take parameters and statistics."""
        self.network.load_state_dict(state)
        self.prepare()

    def measured(self, judge: Judge) -> Measure:
        """Judge the network as it is, in evaluation mode."""
        self.network.eval()
        parts: dict[str, list[FloatArray]] = {name: [] for name in judge.targets}
        with torch.no_grad():
            for start in range(0, len(judge), AT_ONCE):
                batch = {
                    name: on_device(torch.from_numpy(x[start : start + AT_ONCE]), self.recipe.device)
                    for name, x in judge.rows.items()
                }
                for name, values in self.run(batch).outputs.items():
                    parts[name].append(values.float().cpu().numpy())
        return judge.of({name: np.concatenate(each) for name, each in parts.items()})


@dataclass(slots=True)
class _Progress:
    """What a checkpoint holds beside the optimiser: how far a stage is."""

    step: int
    average: dict[str, Tensor]
    best: dict[str, Tensor]
    key: tuple[float, float]
    order: Tensor
    position: int
    generator: torch.Generator
    history: list[dict[str, Any]]
    recent: dict[str, float] = field(default_factory=dict)
    diverged: bool = False

    def add(self, parts: Mapping[str, float]) -> None:
        """Add the losses of a step to those since the last measurement."""
        for name, value in (*parts.items(), ("steps", 1.0)):
            self.recent[name] = self.recent.get(name, 0.0) + value

    def losses(self) -> dict[str, float]:
        """Return the mean losses since the last measurement, and begin anew."""
        count = self.recent.pop("steps", 1.0)
        found = {name: round(value / count, 6) for name, value in self.recent.items()}
        self.recent = {}
        return found


class Stage:
    """A stage and where its checkpoint lies."""

    def __init__(
        self, name: str, learner: Learner, lesson: Lesson, steps: int, path: Path, identity: str
    ) -> None:
        """Make the stage.

        Args:
            name: of it, for the user and the record.
            learner: what learns.
            lesson: what it is taught.
            steps: how many.
            path: of the checkpoint.
            identity: of the run; a checkpoint of another is refused.
        """
        self.name, self.learner, self.lesson, self.steps = name, learner, lesson, steps
        self.path, self.identity = path, identity
        self.optimiser = torch.optim.Adam(learner.groups) if learner.groups else None
        self.evaluations = evaluations(steps)

    def run(self, told: Callable[[list[dict[str, Any]]], None] = lambda history: None) -> _Progress:
        """Train, or go on where a checkpoint was left, and load the best state.

        Args:
            told: called with all measurements so far, whenever there is one more.

        Raises:
            InputError: the checkpoint belongs to another run, or is damaged.
        """
        state = self._resumed() or self._begun()
        saved = time.monotonic()
        todo = range(state.step, self.steps)
        told(state.history)
        for step in self.lesson.progress.track(todo, len(todo), self.name):
            if state.diverged:
                continue
            if not self.take(state, step):
                state.diverged = True
                self.lesson.progress.message(
                    f"{self.name}: the loss is not finite; the last good state is kept"
                )
            state.step = step + 1
            if not state.diverged and state.step in self.evaluations:
                self._judged(state)
                told(state.history)
            if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                self._save(state)
                saved = time.monotonic()
        self._save(state)
        self.learner.load(state.best)
        return state

    def timed(self, steps: int) -> Speed:
        """Measure how long steps and judgements take, on a network of its own, which learns from them."""
        begun = time.perf_counter()
        state = self._begun()
        judging = time.perf_counter() - begun
        self.take(state, 0)
        begun = time.perf_counter()
        for step in range(1, steps + 1):
            self.take(state, step)
        return Speed((time.perf_counter() - begun) / steps, judging * EVALUATIONS)

    def _begun(self) -> _Progress:
        """Return the state before the first step, judged."""
        now = self.learner.state()
        generator = torch.Generator().manual_seed(self.lesson.recipe.seed)
        self.learner.prepare()
        measure = self.learner.measured(self.lesson.judge)
        first = {"stage": self.name, "step": 0, "of": self.steps, **measure.as_dict()}
        order = torch.randperm(len(self.lesson.rows.trained), generator=generator)
        return _Progress(0, now, dict(now), measure.key, order, 0, generator, [first])

    def take(self, state: _Progress, step: int) -> bool:
        """Take one step of gradients; say whether the loss was finite."""
        lesson, recipe = self.lesson, self.lesson.recipe
        size = min(recipe.batch, len(state.order))
        if state.position + size > len(state.order):
            state.order = torch.randperm(len(state.order), generator=state.generator)
            state.position = 0
        chosen = state.order[state.position : state.position + size]
        state.position += size
        if self.optimiser is None:
            return True
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * rate(step, self.steps)
        x = lesson.inputs(chosen, state.generator)
        loss, parts = self.loss(x, lesson.labels(chosen))
        if not bool(torch.isfinite(loss)):
            return False
        self.optimiser.zero_grad()
        loss.backward()
        for parameter, mask in self.learner.masks:
            if parameter.grad is not None:
                parameter.grad.mul_(mask)
        learned = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(learned, LARGEST_GRADIENT)
        if not bool(torch.isfinite(norm)):
            return False
        self.optimiser.step()
        keep = decay(step, self.steps)
        with torch.no_grad():
            for name, value in self.learner.network.state_dict().items():
                if value.is_floating_point():
                    state.average[name].mul_(keep).add_(value, alpha=1 - keep)
        state.add(parts)
        return True

    def loss(self, x: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch in training mode, and its parts."""
        lesson, learner = self.lesson, self.learner
        layers = lesson.layers if {"features", "attention"} & set(lesson.weights) else ()
        with torch.no_grad():
            source = lesson.teacher(x, layers)
        learner.network.train()
        learner.prepare()
        student = learner.run(x, layers)
        steps: list[Run] = []
        if "anytime" in lesson.weights:
            T = timesteps(learner.network)
            steps = [*(learner.run(x, steps=t) for t in range(1, T)), student]
        batch = losses.Batch(
            student=student,
            source=source,
            labels=labels,
            tasks=lesson.tasks,
            layers=layers,
            steps=steps,
            prices={name: price for name, price in lesson.prices.items() if name in student.counts},
            variances=lesson.variances,
            temperature=lesson.recipe.temperature,
            head=lesson.recipe.head,
        )
        return losses.total(batch, lesson.weights)

    def _judged(self, state: _Progress) -> None:
        """Judge the moving average, and keep it if it is the best so far."""
        now = self.learner.state()
        self.learner.load(state.average)
        measure = self.learner.measured(self.lesson.judge)
        self.learner.load(now)
        found = {"stage": self.name, "step": state.step, "of": self.steps, **measure.as_dict()}
        state.history.append({**found, "losses": state.losses()})
        self.lesson.progress.message(f"{self.name}, step {state.step} of {self.steps}: {measure.text}")
        if measure.key < state.key:
            state.key = measure.key
            state.best = {name: value.clone() for name, value in state.average.items()}

    def _save(self, state: _Progress) -> None:
        held = {
            "identity": self.identity,
            "steps": self.steps,
            "step": state.step,
            "network": self.learner.state(),
            "average": state.average,
            "best": state.best,
            "key": list(state.key),
            "order": state.order,
            "position": state.position,
            "generator": state.generator.get_state(),
            "history": state.history,
            "recent": state.recent,
            "diverged": state.diverged,
            "optimiser": {} if self.optimiser is None else self.optimiser.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(held, buffer)
        with replacing(self.path) as stream:
            stream.write(buffer.getvalue())

    def _resumed(self) -> _Progress | None:
        """Return what a checkpoint holds, and take up its network and optimiser; ``None`` without one."""
        if not self.path.exists():
            return None
        try:
            held = torch.load(self.path, map_location=self.lesson.recipe.device, weights_only=True)
            if held["identity"] != self.identity or held["steps"] != self.steps:
                raise InputError(
                    f"{self.path} belongs to another run, with other rows or options: remove it, or name "
                    "another folder by --checkpoints"
                )
            generator = torch.Generator()
            generator.set_state(held["generator"].cpu())
            self.learner.load(held["network"])
            if self.optimiser is not None:
                self.optimiser.load_state_dict(held["optimiser"])
            return _Progress(
                held["step"],
                held["average"],
                held["best"],
                (float(held["key"][0]), float(held["key"][1])),
                held["order"].cpu(),
                held["position"],
                generator,
                held["history"],
                held["recent"],
                held["diverged"],
            )
        except InputError:
            raise
        except Exception as error:  # what torch raises for a damaged file has no root of its own
            raise InputError(f"{self.path} is no checkpoint, or damaged: remove it") from error


def timesteps(network: AnnNetwork | SpikingNetwork) -> int:
    """Return T of a network that is trained."""
    return 1 if network.timesteps is None else network.timesteps


def evaluations(steps: int) -> frozenset[int]:
    """Return behind which steps a stage is judged; the last is among them."""
    return frozenset(-(-steps * k // EVALUATIONS) for k in range(1, EVALUATIONS + 1) if steps)


def rate(step: int, steps: int) -> float:
    """Return the learning rate of a step over the largest: a short rise, then half a cosine."""
    rise = min(1.0, (step + 1) / max(1.0, min(WARM_UP, steps / 10)))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def decay(step: int, steps: int) -> float:
    """Return how much of the moving average stays: it looks back over a twentieth of the stage."""
    horizon = min(max(steps / 20, 5.0), 300.0)
    return min(1 - 1 / horizon, (1 + step) / (10 + step))
