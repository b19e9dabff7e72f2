"""Channels that come and go while a network learns; those that are out in the end are taken out whole.

Channels that residual sums, poolings and concatenations tie together (:mod:`snnc.ir.channel_sets`) go and
grow together. Each such set has a gate in front of what reads it: 1, or 0, where its neurons are silent. The
gradient by the gate is what the loss changes by, to first order, if the set goes, or grows again. Of every
layer those sets go whose squared gradient, a moving mean, is smallest (``gradient``), or whose potential
``|m| / threshold`` is lowest (``potential``, spiking channel activity), and grow again whose gradient is
largest, or any. :mod:`snnc.training.sparsity_schedule` says when. A channel that is out has a threshold of
zero in the network that was trained; `prune-channels` takes it out, since it never fires.

Sources: Li et al., "Towards Efficient Deep Spiking Neural Networks Construction with Spiking Activity based
Pruning", ICML 2024 (prune by potential, regrow by gradient); Molchanov et al., "Importance Estimation for
Neural Network Pruning", CVPR 2019 (squared gradients of gates).
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snnc.compensation.channel_layers import free_sets, layers_of, require_some
from snnc.ir import ann
from snnc.ir.graph import IntArray
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.source.kept_channels import is_divisible
from snnc.training import sparsity_schedule as schedule
from snnc.training.masks import largest
from snnc.training.operators import per_channel
from snnc.training.recipe import Recipe

REMEMBERED = 0.98
"""Weight of the past in the moving means of scores, a step."""


@dataclass(frozen=True, slots=True, eq=False)
class ChannelGroups:
    """Which channels of rectifiers go together.

    Attributes:
        of: by rectifier, the number of the set of each of its channels, (channels,).
        layers: the sets of each layer that can lose some.
        sets: how many sets there are.
    """

    of: Mapping[str, IntArray]
    layers: tuple[NDArray[np.int64], ...]
    sets: int

    @classmethod
    def find(cls, lowered: SnnGraph, source: ann.AnnGraph) -> ChannelGroups:
        """Return those of a network that was lowered; populations bear the names of their rectifiers."""
        rectifiers = [
            node.name
            for node in lowered.of_type(IntegrateFire)
            if node.name in source and is_divisible(source[node.name])
        ]
        sets = free_sets(lowered, rectifiers)
        return cls({name: sets.of[name] for name in rectifiers}, layers_of(lowered, sets), len(sets.fixed))

    def require_some(self, share: float) -> None:
        """Refuse a share that takes nothing out.

        Raises:
            UsageError: no layer loses a channel.
        """
        require_some("channels", share, self.layers)


class Gates(nn.Module):
    """Which channels of a network's rectifiers there are.

    Attributes:
        held: (sets,), whether a set is there.
        possible: (sets,), whether it may be.
        gradient: (sets,), moving mean of the squared gradient by its gate.
        potential: (sets,), moving mean of its potential, in thresholds.
    """

    held: Tensor
    possible: Tensor
    gradient: Tensor
    potential: Tensor

    def __init__(self, groups: ChannelGroups, graph: ann.AnnGraph, recipe: Recipe) -> None:
        """Let all be there that fire.

        Args:
            groups: which go together.
            graph: the network that is trained; a channel that never fires there stays out.
            recipe: its ``channels``, ``channel_score`` and ``regrowth``.
        """
        super().__init__()
        self.share = recipe.channels or 0.0
        self.score, self.regrow = recipe.channel_score, recipe.regrowth
        self.layers = [torch.from_numpy(members) for members in groups.layers]
        fires = torch.ones(groups.sets, dtype=torch.bool)
        self._names: dict[str, str] = {}
        for number, (name, sets) in enumerate(groups.of.items()):
            self._names[name] = f"sets{number}"
            self.register_buffer(f"sets{number}", torch.from_numpy(sets.astype(np.int64)), persistent=False)
            node = graph[name]
            if isinstance(node, ann.Relu) and node.threshold is not None:
                floor = np.zeros_like(node.threshold) if node.floor is None else node.floor
                fires[torch.from_numpy(sets[node.threshold <= floor].astype(np.int64))] = False
        changing = torch.zeros(groups.sets, dtype=torch.bool)
        for members in self.layers:
            changing[members] = True
        self.register_buffer("possible", fires | ~changing, persistent=False)
        self.register_buffer("held", fires | ~changing)
        self.register_buffer("gradient", torch.zeros(groups.sets))
        self.register_buffer("potential", torch.zeros(groups.sets))
        self._gate: Tensor | None = None
        self._seen: dict[str, Tensor] = {}

    def _sets(self, name: str) -> Tensor:
        found: Tensor = getattr(self, self._names[name])
        return found

    def of(self, name: str, x: Tensor | None, shift: Tensor, threshold: Tensor) -> Tensor:
        """Return the gates of a rectifier's channels, (channels,).

        Args:
            name: of the rectifier.
            x: what it is given, (batch, channels, ...), where that is looked at for scores.
            shift: what is added to it, (channels,).
            threshold: (channels,).
        """
        if name not in self._names:
            return torch.ones_like(threshold)
        if x is not None and self.score == "potential" and torch.is_grad_enabled():
            with torch.no_grad():
                rank = x.ndim - 1
                size = (x + per_channel(shift, rank)).abs() / per_channel(threshold, rank)
                self._seen[name] = size.float().transpose(0, 1).flatten(1).mean(dim=1)
        gate = self._gate
        if gate is None or gate.device != self.held.device:
            gate = self._gate = torch.zeros_like(self.gradient, requires_grad=True)
        found: Tensor = (self.held.to(gate.dtype) + gate)[self._sets(name)]
        return found

    def closed(self, name: str, threshold: Tensor, floor: Tensor | None) -> Tensor:
        """Return the thresholds of a rectifier, (channels,), at which what is out never fires."""
        if name not in self._names:
            return threshold
        lowest = torch.zeros_like(threshold) if floor is None else floor
        return torch.where(self.held[self._sets(name)], threshold, lowest)

    def falling(self, step: int, steps: int) -> bool:
        """Say whether there are still more channels than there are to be."""
        return schedule.falling(step, steps)

    def follow(self, step: int, steps: int, generator: torch.Generator) -> None:
        """Take gradients and potentials of a step up, and let channels go or grow where it is time.

        Args:
            step: of the stage, from 0.
            steps: of the stage.
            generator: of random numbers.
        """
        if self._gate is not None and self._gate.grad is not None:
            self.gradient.mul_(REMEMBERED).add_(self._gate.grad.square(), alpha=1 - REMEMBERED)
            self._gate = None
        if self._seen:
            total, places = torch.zeros_like(self.potential), torch.zeros_like(self.potential)
            for name, size in self._seen.items():
                total.index_add_(0, self._sets(name), size)
                places.index_add_(0, self._sets(name), torch.ones_like(size))
            self.potential.mul_(REMEMBERED).add_(total / places.clamp(min=1), alpha=1 - REMEMBERED)
            self._seen = {}
        if schedule.due(step, steps):
            for members in self.layers:
                self._change(members.to(self.held.device), step + 1, steps, generator)

    def keep_sparse(self, optimiser: torch.optim.Optimizer, average: Mapping[str, Tensor]) -> None:
        """Let the moving average have the same channels."""
        average["gates.held"].copy_(self.held)

    def _change(self, members: Tensor, step: int, steps: int, generator: torch.Generator) -> None:
        """Let sets of a layer go, and others grow."""
        least = len(members) - int(self.share * len(members))  # those that never fire included
        held = self.held[members].float()
        value = (self.gradient if self.score == "gradient" else self.potential)[members]
        size = int(self.possible[members].sum())
        if step <= schedule.sparse_by(steps):
            self.held[members] = largest(value, held, schedule.left(size, min(least, size), step, steps)) > 0
            return
        count = int(held.sum())
        dropped = min(schedule.dropped(count, step, steps), size - count)
        if not dropped or self.regrow == "none":
            return
        left = largest(value, held, count - dropped)
        free = self.possible[members].float() * (1 - held)
        gain = self.gradient[members]
        if self.regrow == "random":
            gain = torch.rand(gain.shape, generator=generator).to(gain)
        self.held[members] = (left + largest(gain, free, dropped)) > 0
