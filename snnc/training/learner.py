"""A network that learns, of either dialect: its parameters, their rates, and how it is run and judged."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snnc.ir import ann
from snnc.ir.batch import joined
from snnc.ir.graph import FloatArray
from snnc.simulation.reference import encode_all
from snnc.training.ann_network import MOMENTUM, AnnNetwork
from snnc.training.channels import Gates
from snnc.training.judge import AT_ONCE, Judge, Measure
from snnc.training.lesson import on_device
from snnc.training.masks import Masks
from snnc.training.operators import Run
from snnc.training.plasticity import LOCAL_RATE, by_gradient, locally
from snnc.training.recipe import Recipe
from snnc.training.spiking_network import SpikingNetwork
from snnc.training.temporal import TemporalNetwork

RELATIVE = 3.0
"""Rate of weights that are learned in units of their size, over that of the other parameters."""


class Learner:
    """A network of either kind as a stage sees it."""

    def __init__(self, network: AnnNetwork | SpikingNetwork, recipe: Recipe) -> None:
        """Let the parameters of the wanted roles learn, and no other."""
        self.network = network.to(recipe.device).to(memory_format=torch.channels_last)
        self.recipe = recipe
        self.groups: list[dict[str, Any]] = []
        spiking = isinstance(network, SpikingNetwork)
        names = {tensor: name for name, tensor in self.network.named_parameters()}
        weights: list[tuple[str, str, nn.Parameter]] = []
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for each in network.learned:
            wanted = each.role in recipe.learn
            each.tensor.requires_grad_(wanted)
            if not wanted:
                continue
            rate = recipe.rate * (RELATIVE if spiking and each.role == "weights" else 1)
            groups.setdefault((rate, each.role == "weights"), []).append(each.tensor)
            if each.role == "weights":
                weights.append((each.node, names[each.tensor], each.tensor))
        source = self.network.source
        self.masks = Masks(source if isinstance(source, ann.AnnGraph) else None, weights, recipe)
        gates = self.network.gates if isinstance(self.network, AnnNetwork) else None
        self.sparse: list[Masks | Gates] = [self.masks] if gates is None else [self.masks, gates]
        self.earlier: dict[str, Tensor] | None = None
        self._teacher: AnnNetwork | None = None
        self.groups += [
            {"params": found, "lr": rate, "initial_lr": rate, "shrinks": shrinks}
            for (rate, shrinks), found in groups.items()
        ]

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

    def learn_locally(self, x: Mapping[str, Tensor], epoch: int, rate: float) -> bool:
        """Take a step of local plasticity where an epoch asks for it; say whether gradients follow.

        Args:
            x: prepared rows.
            epoch: number of the pass.
            rate: of the step, relative to the largest.
        """
        network = self.network
        if not isinstance(network, TemporalNetwork) or network.method != "cycles":
            return True
        if locally(epoch):
            self.prepare()
            network.learn_locally(self.given(x), LOCAL_RATE * rate)
        return by_gradient(epoch)

    def falling(self, step: int, steps: int) -> bool:
        """Say whether weights or channels are still more than there are to be."""
        return any(each.falling(step, steps) for each in self.sparse)

    def follow(self, step: int, steps: int, generator: torch.Generator) -> None:
        """Change which weights and channels there are, by the gradients at hand."""
        for each in self.sparse:
            each.follow(step, steps, generator)

    def keep_sparse(self, optimiser: torch.optim.Optimizer, average: Mapping[str, Tensor]) -> None:
        """Take what there is not out of parameters, their momentum and their moving average."""
        for each in self.sparse:
            each.keep_sparse(optimiser, average)
        if self.masks.opening:
            self.earlier = self.state()
            self.masks.open()

    def counts(self, step: int, steps: int) -> bool:
        """Say whether a state is as sparse as the network is to become: not in a dense turn."""
        return not self.masks.dense_turn(step, steps)

    def earlier_self(self) -> AnnNetwork | None:
        """Return the sparse network that teaches, as it was before this dense turn."""
        if not isinstance(self.network, AnnNetwork) or self.earlier is None:
            return None
        teacher = self._teacher
        if teacher is None:
            teacher = self._teacher = copy.deepcopy(self.network).requires_grad_(False).eval()
        teacher.load_state_dict(self.earlier)
        return teacher

    def state(self) -> dict[str, Tensor]:
        """Return a copy of all parameters and statistics."""
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take parameters and statistics."""
        self.network.load_state_dict(state)
        self.prepare()

    def take_statistics(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Take the statistics of batch normalisations anew, with the parameters as they are.

        The average of the parameters gives other activations than any of the networks that it averages, so
        the average of their statistics does not fit it. Where a rounding to few levels follows, that costs
        accuracy.

        Args:
            batches: training rows, prepared.

        Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI
        2018, section 3.2.
        """
        network = self.network
        if not isinstance(network, AnnNetwork) or not network.normalises:
            return
        network.train()
        with torch.no_grad():
            for number, batch in enumerate(batches):
                network.momentum = 1 / (number + 1)
                network(batch)
        network.momentum = MOMENTUM

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


def timesteps(network: AnnNetwork | SpikingNetwork) -> int:
    """Return T of a network that is trained."""
    return 1 if network.timesteps is None else network.timesteps
