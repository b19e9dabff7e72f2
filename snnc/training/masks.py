"""Weights that are no synapses: which are zero, and how that changes while a network learns.

A weight that is zero at the start stays zero. With a density, the weights of every layer fall to that share
of all by magnitude; then the smallest of those that are left drop, and as many grow again elsewhere, from
zero: those of the largest gradient, or any. :mod:`snnc.training.sparsity_schedule` says when. The first
layer, whose inputs are no spikes, and grouped convolutions stay dense, as for `compensate`.

With reverse distillation weights grow and drop in turns instead: in a dense one as many more as there are
grow, and learn from the sparse network as it was; then the smallest of all drop.

Sources: Shen et al., "ESL-SNNs: An Evolutionary Structure Learning Strategy for Spiking Neural Networks",
NeurIPS 2023 (drop and regrow at constant density); Evci et al., "Rigging the Lottery: Making All Tickets
Winners", ICML 2020 (by gradient).
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snnc.ir import ann
from snnc.training import sparsity_schedule as schedule
from snnc.training.recipe import Recipe


@dataclass(slots=True, eq=False)
class Mask:
    """Which weights of a parameter are synapses.

    Attributes:
        name: of the parameter in the state of its network.
        weight: the parameter.
        held: 1 where there is a synapse, else 0, of the same shape.
        possible: where there may be one.
        changes: whether it follows the density.
        gain: by what weights grow in a dense turn that is about to begin.
    """

    name: str
    weight: nn.Parameter
    held: Tensor
    possible: Tensor
    changes: bool
    gain: Tensor | None = None


class Masks:
    """The masks of a network that learns.

    Attributes:
        opening: whether a dense turn begins behind this step.
    """

    def __init__(
        self, graph: ann.AnnGraph | None, weights: Sequence[tuple[str, str, nn.Parameter]], recipe: Recipe
    ) -> None:
        """Make them.

        Args:
            graph: the network, if its masks may change.
            weights: node, name in the state, and parameter of all weights that learn.
            recipe: its ``density``, ``regrowth`` and ``reverse``.
        """
        self.density = None if graph is None else recipe.density
        self.regrow = recipe.regrowth
        self.reverse = recipe.reverse
        self.opening = False
        self.masks: list[Mask] = []
        for node, name, weight in weights:
            synapses = (weight.detach() != 0).to(weight.dtype)
            changes = self.density is not None and graph is not None and prunable(graph, node)
            if changes or not bool(synapses.all()):
                self.masks.append(Mask(name, weight, synapses.clone(), synapses, changes))

    def falling(self, step: int, steps: int) -> bool:
        """Say whether a network is still denser than it is to become."""
        return self.density is not None and schedule.falling(step, steps)

    def follow(self, step: int, steps: int, generator: torch.Generator) -> None:
        """Change the masks where it is time, by the gradients at hand; then mask these.

        Args:
            step: of the stage, from 0.
            steps: of the stage.
            generator: of random numbers.
        """
        if self.density is not None and self._due(step, steps):
            for mask in self.masks:
                if mask.changes:
                    self._change(mask, step + 1, steps, generator)
        self.opening = self.dense_turn(step + 1, steps) and not self.dense_turn(step, steps)
        for mask in self.masks:
            if mask.weight.grad is not None:
                if self.opening and mask.changes:
                    mask.gain = self._gain(mask.weight.grad, generator)
                mask.weight.grad.mul_(mask.held)

    def _due(self, step: int, steps: int) -> bool:
        """Say whether masks change behind a step."""
        if self.reverse and not self.falling(step, steps):
            return self.dense_turn(step, steps) and not self.dense_turn(step + 1, steps)
        return schedule.due(step, steps)

    def dense_turn(self, step: int, steps: int) -> bool:
        """Say whether a step belongs to the denser network."""
        return self.density is not None and self.reverse and schedule.dense_turn(step, steps)

    def keep_sparse(self, optimiser: torch.optim.Optimizer, average: Mapping[str, Tensor]) -> None:
        """Take what is no synapse out of weights, their momentum and their moving average."""
        if self.density is None:
            return
        with torch.no_grad():
            for mask in self.masks:
                mask.weight.mul_(mask.held)
                average[mask.name].mul_(mask.held)
                moments: dict[str, Any] = optimiser.state.get(mask.weight, {})
                for moment in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
                    if moment in moments:
                        moments[moment].mul_(mask.held)

    def _change(self, mask: Mask, step: int, steps: int, generator: torch.Generator) -> None:
        """Drop weights, and let others grow."""
        density = 1.0 if self.density is None else self.density
        size = int(mask.possible.sum())
        least = min(size, max(1, round(density * mask.possible.numel())))  # of all weights, zeros included
        magnitude = mask.weight.detach().abs()
        if step <= schedule.sparse_by(steps):
            mask.held = largest(magnitude, mask.held, schedule.left(size, least, step, steps))
        elif self.reverse:
            mask.held = largest(magnitude, mask.held, least)
        elif self.regrow != "none" and mask.weight.grad is not None:
            count = int(mask.held.sum())
            dropped = min(schedule.dropped(count, step, steps), size - count)
            if not dropped:
                return
            free = mask.possible * (1 - mask.held)
            gain = self._gain(mask.weight.grad, generator)
            mask.held = largest(magnitude, mask.held, count - dropped) + largest(gain, free, dropped)

    def _gain(self, gradient: Tensor, generator: torch.Generator) -> Tensor:
        """Return by what weights grow that are no synapses, given the gradient of all."""
        if self.regrow == "random":
            return torch.rand(gradient.shape, generator=generator).to(gradient)
        return gradient.abs()

    def open(self) -> None:
        """Begin a dense turn: as many more weights grow as there are."""
        for mask in self.masks:
            if mask.gain is not None:
                free = mask.possible * (1 - mask.held)
                more = min((schedule.DENSER - 1) * int(mask.held.sum()), int(free.sum()))
                mask.held = mask.held + largest(mask.gain, free, more)
                mask.gain = None
        self.opening = False

    def state(self) -> dict[str, Tensor]:
        """Return the masks, for a checkpoint."""
        return {mask.name: mask.held for mask in self.masks if mask.changes}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the masks of a checkpoint."""
        for mask in self.masks:
            if mask.changes:
                mask.held = state[mask.name].to(mask.held)


def prunable(graph: ann.AnnGraph, node: str) -> bool:
    """Say whether weights may be taken out of a node: neither grouped, nor reading an input."""
    found = graph[node]
    if not isinstance(found, ann.Convolution | ann.Linear):
        return False
    if isinstance(found, ann.Convolution) and found.groups != 1:
        return False
    before = graph[found.inputs[0]]
    while before.inputs and not isinstance(before, ann.Relu | ann.Levelled):
        before = graph[before.inputs[0]]
    return not isinstance(before, ann.Input)


def largest(value: Tensor, allowed: Tensor, count: int) -> Tensor:
    """Return 1 at the ``count`` largest of the allowed places, else 0."""
    ranked = torch.where(allowed > 0, value, torch.full_like(value, -1.0)).flatten()
    found = torch.zeros_like(ranked)
    found[ranked.topk(min(count, int(allowed.sum()))).indices] = 1
    return found.reshape(value.shape).to(allowed.dtype)
