"""Weights that are no synapses: which are zero, and how that changes while a network learns.

A weight that is zero at the start stays zero. With a density, the weights of every layer fall to that share
of all by magnitude in the first third of the steps, by a cubic schedule. Then, until the last quarter, a
share ``0.3 (1 + cos(pi x)) / 2`` of those that are left is dropped at equal intervals, the smallest, and as
many grow again elsewhere, from zero: those of the largest gradient, or any. The first layer, whose inputs are
no spikes, and grouped convolutions stay dense, as for `compensate`.

Sources: Shen et al., "ESL-SNNs: An Evolutionary Structure Learning Strategy for Spiking Neural Networks",
NeurIPS 2023 (drop and regrow at constant density); Evci et al., "Rigging the Lottery: Making All Tickets
Winners", ICML 2020 (by gradient, and the share that falls); Zhu and Gupta, "To Prune, or Not to Prune", 2017
(the cubic schedule).
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snnc.ir import ann
from snnc.training.recipe import Recipe

SPARSE_BY = 1 / 3
"""Share of the steps in which the density falls."""

SETTLED_BY = 3 / 4
"""Share of the steps behind which the masks stay."""

CHANGES = 60
"""How often masks change in a stage."""

LARGEST_DROP = 0.3


@dataclass(slots=True, eq=False)
class Mask:
    """Which weights of a parameter are synapses.

    Attributes:
        name: of the parameter in the state of its network.
        weight: the parameter.
        held: 1 where there is a synapse, else 0, of the same shape.
        possible: where there may be one.
        changes: whether it follows the density.
    """

    name: str
    weight: nn.Parameter
    held: Tensor
    possible: Tensor
    changes: bool


class Masks:
    """The masks of a network that learns."""

    def __init__(
        self, graph: ann.AnnGraph | None, weights: Sequence[tuple[str, str, nn.Parameter]], recipe: Recipe
    ) -> None:
        """Make them.

        Args:
            graph: the network, if its masks may change.
            weights: node, name in the state, and parameter of all weights that learn.
            recipe: its ``density`` and ``regrow``.
        """
        self.density = None if graph is None else recipe.density
        self.regrow = recipe.regrow
        self.masks: list[Mask] = []
        for node, name, weight in weights:
            synapses = (weight.detach() != 0).to(weight.dtype)
            changes = self.density is not None and graph is not None and prunable(graph, node)
            if changes or not bool(synapses.all()):
                self.masks.append(Mask(name, weight, synapses.clone(), synapses, changes))

    def falling(self, step: int, steps: int) -> bool:
        """Say whether a network is still denser than it is to become."""
        return self.density is not None and step < _sparse_by(steps)

    def follow(self, step: int, steps: int, generator: torch.Generator) -> None:
        """Change the masks where it is time, by the gradients at hand; then mask these.

        Args:
            step: of the stage, from 0.
            steps: of the stage.
            generator: of random numbers.
        """
        due = (step + 1) % max(1, steps // CHANGES) == 0 or step + 1 == _sparse_by(steps)
        if self.density is not None and due:
            for mask in self.masks:
                if mask.changes:
                    self._change(mask, step + 1, steps, generator)
        for mask in self.masks:
            if mask.weight.grad is not None:
                mask.weight.grad.mul_(mask.held)

    def apply(self, optimiser: torch.optim.Optimizer, average: Mapping[str, Tensor]) -> None:
        """Take what is no synapse out of weights, their momentum and their moving average."""
        if self.density is None:
            return
        with torch.no_grad():
            for mask in self.masks:
                mask.weight.mul_(mask.held)
                average[mask.name].mul_(mask.held)
                moments: dict[str, Any] = optimiser.state.get(mask.weight, {})
                for moment in ("exp_avg", "exp_avg_sq"):
                    if moment in moments:
                        moments[moment].mul_(mask.held)

    def _change(self, mask: Mask, step: int, steps: int, generator: torch.Generator) -> None:
        """Drop weights, and let others grow."""
        density = 1.0 if self.density is None else self.density
        size = int(mask.possible.sum())
        least = min(size, max(1, round(density * mask.possible.numel())))  # of all weights, zeros included
        first, last = _sparse_by(steps), SETTLED_BY * steps
        if step <= first:
            count = round(least + (size - least) * (1 - step / first) ** 3)
            mask.held = _largest(mask.weight.detach().abs(), mask.held, count)
            return
        if step > last or self.regrow == "none":
            return
        count = int(mask.held.sum())
        part = LARGEST_DROP * (1 + math.cos(math.pi * (step - first) / (last - first))) / 2
        dropped = min(int(part * count), size - count)
        gradient = mask.weight.grad
        if not dropped or gradient is None:
            return
        left = _largest(mask.weight.detach().abs(), mask.held, count - dropped)
        free = mask.possible * (1 - mask.held)
        value = gradient.abs()
        if self.regrow == "random":
            value = torch.rand(value.shape, generator=generator).to(value)
        mask.held = left + _largest(value, free, dropped)

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


def _sparse_by(steps: int) -> int:
    return max(1, round(SPARSE_BY * steps))


def _largest(value: Tensor, allowed: Tensor, count: int) -> Tensor:
    """Return 1 at the ``count`` largest of the allowed places, else 0."""
    ranked = torch.where(allowed > 0, value, torch.full_like(value, -1.0)).flatten()
    found = torch.zeros_like(ranked)
    found[ranked.topk(min(count, int(allowed.sum()))).indices] = 1
    return found.reshape(value.shape).to(allowed.dtype)
