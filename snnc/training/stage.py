"""One stage of training: steps of gradients on one network, with checkpoints that lead to the same result.

A network is tuned in two stages. The first trains the levels of rectifiers in floats, with batch
normalisations that use the statistics of the batch; the second, folded and lowered, the integers that are
deployed. Both follow clipped gradients with a cosine rate, as :mod:`snnc.training.pace` says, and what counts
is the moving average of the parameters.

The number of steps is fixed before the first one, and all randomness comes from one generator that is part of
a checkpoint: a stage that is interrupted goes on to the same bits, on the same number of threads.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnc.training import losses
from snnc.training.ann_network import AnnNetwork
from snnc.training.checkpoint import Checkpoint, RunState
from snnc.training.learner import Learner, timesteps
from snnc.training.lesson import Lesson
from snnc.training.operators import Run
from snnc.training.pace import EVALUATIONS, decay, evaluations
from snnc.training.plan import Speed

CHECKPOINT_SECONDS = 60.0

NOT_YET = (math.inf, math.inf)
"""Key of a network that is denser than it is to become: the first of those that are not replaces it."""


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
        self.checkpoint = Checkpoint(path, identity, steps)
        self.optimiser = lesson.pace.optimiser(learner.groups) if learner.groups else None
        self.evaluations = evaluations(steps)

    def run(self, told: Callable[[list[dict[str, Any]]], None] = lambda history: None) -> RunState:
        """Train, or go on where a checkpoint was left, and load the best state.

        Args:
            told: called with all measurements so far, whenever there is one more.

        Raises:
            InputError: the checkpoint belongs to another run, or is damaged.
        """
        state = self.checkpoint.resumed(self.learner, self.optimiser) or self._begun()
        saved = time.monotonic()
        todo = range(state.step, self.steps)
        told(state.history)
        for step in self.lesson.progress.track(todo, len(todo), self.name):
            if state.diverged:
                continue
            finite = self.take(state, step)
            state.step = step + 1
            if not finite:
                self._end(state, "the loss is not finite")
            elif state.step in self.evaluations:
                self._judged(state)
                told(state.history)
            if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                self.checkpoint.save(state, self.learner, self.optimiser)
                saved = time.monotonic()
        self.checkpoint.save(state, self.learner, self.optimiser)
        self.learner.load(state.best)
        return state

    def _end(self, state: RunState, reason: str) -> None:
        """Take no step any more; the best state stays."""
        state.diverged = True
        self.lesson.progress.message(f"{self.name}: {reason}; the last good state is kept")

    def timed(self, steps: int) -> Speed:
        """Measure how long steps and judgements take, on a network of its own, which learns from them."""
        begun = time.perf_counter()
        state = self._begun()
        self.learner.take_statistics(self.lesson.statistics())
        judging = time.perf_counter() - begun
        self.take(state, 0)
        begun = time.perf_counter()
        for step in range(1, steps + 1):
            self.take(state, step)
        return Speed((time.perf_counter() - begun) / steps, judging * EVALUATIONS)

    def _begun(self) -> RunState:
        """Return the state before the first step, judged."""
        now = self.learner.state()
        generator = torch.Generator().manual_seed(self.lesson.recipe.seed)
        self.learner.prepare()
        measure = self.learner.measured(self.lesson.judge)
        first = {"stage": self.name, "step": 0, "of": self.steps, **measure.as_dict()}
        order = torch.randperm(len(self.lesson.rows.trained), generator=generator)
        best = {name: value.clone() for name, value in now.items()}  # the average changes in place
        key = NOT_YET if self.learner.falling(0, self.steps) else measure.key
        return RunState(0, now, best, key, order, 0, generator, [first])

    def take(self, state: RunState, step: int) -> bool:
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
            group["lr"] = group["initial_lr"] * lesson.pace.rate(step, self.steps)
        epoch = step // max(1, len(state.order) // size)
        x = lesson.inputs(chosen, state.generator, epoch)
        if self.learner.learn_locally(x, epoch, lesson.pace.rate(step, self.steps)) and not self._follow(
            state, self.optimiser, x, lesson.labels(chosen), step
        ):
            return False
        keep = decay(step, self.steps)
        with torch.no_grad():
            for name, value in self.learner.network.state_dict().items():
                if value.is_floating_point():
                    state.average[name].mul_(keep).add_(value, alpha=1 - keep)
        self.learner.keep_sparse(self.optimiser, state.average)
        return True

    def _follow(
        self,
        state: RunState,
        optimiser: torch.optim.Optimizer,
        x: Mapping[str, Tensor],
        labels: Mapping[str, Tensor],
        step: int,
    ) -> bool:
        """Follow the gradient of a batch; say whether it was finite."""
        dense = self.learner.masks.dense_turn(step, self.steps)
        seen = {name: self.lesson.growth.seen(each, step, self.steps) for name, each in x.items()}
        loss, parts = self.loss(x, seen, labels, self.learner.earlier_self() if dense else None)
        if not bool(torch.isfinite(loss)):
            return False
        optimiser.zero_grad()
        loss.backward()
        self.learner.follow(step, self.steps, state.generator)
        learned = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(learned, self.lesson.pace.largest_gradient)
        if not bool(torch.isfinite(norm)):
            return False
        optimiser.step()
        state.add(parts)
        return True

    def loss(
        self,
        x: Mapping[str, Tensor],
        seen: Mapping[str, Tensor],
        labels: Mapping[str, Tensor],
        teacher: AnnNetwork | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch in training mode, and its parts.

        Args:
            x: the batch, by input, as a teacher sees it.
            seen: the same as the network that learns sees it.
            labels: by output.
            teacher: who answers in the place of the source.
        """
        lesson, learner = self.lesson, self.learner
        layers = lesson.layers if {"features", "attention"} & set(lesson.weights) else ()
        source = Run({}, {}, {})
        device, half = lesson.recipe.device, lesson.bfloat16
        asked = lesson.teacher if teacher is None else teacher
        if asked is not None:
            with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=half):
                source = asked(x, layers).in_float32()
        learner.network.train()
        learner.prepare()
        # Integers are exact in float32 only.
        half = half and isinstance(learner.network, AnnNetwork)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            student = learner.run(seen, layers).in_float32()
        steps: list[Run] = []
        if "anytime" in lesson.weights:
            T = timesteps(learner.network)
            steps = [*(learner.run(seen, steps=t) for t in range(1, T)), student]
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
            smoothing=lesson.smoothing,
        )
        return losses.total(batch, lesson.weights)

    def _judged(self, state: RunState) -> None:
        """Judge the moving average, and keep it if it is the best so far."""
        now = self.learner.state()
        self.learner.load(state.average)
        self.learner.take_statistics(self.lesson.statistics())
        judged = self.learner.state()
        measure = self.learner.measured(self.lesson.judge)
        self.learner.load(now)
        found = {"stage": self.name, "step": state.step, "of": self.steps, **measure.as_dict()}
        if self.lesson.recipe.reverse:
            found["turn"] = "sparse" if self.learner.counts(state.step - 1, self.steps) else "dense"
        state.history.append({**found, "losses": state.losses()})
        self.lesson.progress.message(f"{self.name}, step {state.step} of {self.steps}: {measure.text}")
        if not math.isfinite(measure.error):
            self._end(state, "the answers on the rows held back are not finite")
        if not self.learner.counts(state.step - 1, self.steps):
            return
        falling = self.learner.falling(state.step, self.steps)
        if measure.key < state.key or falling:
            state.key = NOT_YET if falling else measure.key
            state.best = judged
