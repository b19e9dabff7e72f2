"""What a stage is taught: rows, the source that answers for them, and what decides."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from snnc.metrics.task import Task
from snnc.progress import Progress
from snnc.training.augmentation import augmented, mirrored
from snnc.training.growth import Growth
from snnc.training.judge import AT_ONCE, Judge
from snnc.training.operators import Run
from snnc.training.pace import Pace
from snnc.training.recipe import Recipe
from snnc.training.rows import TrainingRows, spread

SETTLED_ROWS = 2000
"""Rows on which the statistics of averaged parameters are taken."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a stage is taught: the same for both stages.

    Attributes:
        recipe: how.
        rows: those that are learned from, and those held back.
        teacher: the source network, which answers for inputs, and gives what is kept; ``None`` to learn from
            labels alone.
        judge: the rows held back.
        tasks: what each output is.
        layers: activations that `features` and `attention` compare.
        prices: synapses that a spike of each neuron reaches, relative to the source's MACs, by population.
        variances: of the source's numbers, by output.
        weights: of the losses.
        progress: where to show how far it is.
        cache: prepared rows, where they fit memory, by input.
        pace: how fast.
        growth: how large the images are that it sees.
        smoothing: share of a label that is spread over all classes.
        bfloat16: whether the first stage multiplies in bfloat16.
    """

    recipe: Recipe
    rows: TrainingRows
    teacher: Callable[[Mapping[str, Tensor], Sequence[str]], Run] | None
    judge: Judge
    tasks: Mapping[str, Task]
    layers: Sequence[str]
    prices: Mapping[str, Tensor]
    variances: Mapping[str, Tensor]
    weights: Mapping[str, float]
    progress: Progress
    cache: dict[str, Tensor] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)
    growth: Growth = field(default_factory=Growth)
    smoothing: float = 0.0
    bfloat16: bool = False

    def inputs(self, chosen: Tensor, generator: torch.Generator, epoch: int = 0) -> dict[str, Tensor]:
        """Return some of the training rows, changed at random where that is asked for.

        Args:
            chosen: which of the rows.
            generator: where the randomness comes from.
            epoch: number of the pass over the rows.
        """
        found = self._plain(chosen)
        if self.recipe.augment:
            turned = mirrored(chosen, epoch) if "alternate" in self.recipe.augment else None
            found = {name: augmented(x, self.recipe.augment, generator, turned) for name, x in found.items()}
        return {name: on_device(x, self.recipe.device) for name, x in found.items()}

    def statistics(self) -> Iterator[dict[str, Tensor]]:
        """Yield some of the training rows as they are, the same at every call."""
        chosen = torch.from_numpy(spread(np.arange(len(self.rows.trained)), SETTLED_ROWS))
        # Equal parts: a single row has no variance.
        for part in chosen.tensor_split(-(-len(chosen) // AT_ONCE)):
            yield {name: on_device(x, self.recipe.device) for name, x in self._plain(part).items()}

    def _plain(self, chosen: Tensor) -> dict[str, Tensor]:
        """Return some of the training rows as they are."""
        if self.cache:
            return {name: values[chosen].float() for name, values in self.cache.items()}
        prepared = self.rows.prepared(self.rows.trained[chosen.numpy()])
        return {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in prepared.items()}

    def labels(self, chosen: Tensor) -> dict[str, Tensor]:
        """Return the labels of some of the training rows."""
        found = self.rows.labels_of(self.rows.trained[chosen.numpy()])
        return {name: torch.from_numpy(np.asarray(y)).to(self.recipe.device) for name, y in found.items()}


def on_device(x: Tensor, device: str) -> Tensor:
    """Return a batch where it is computed; maps with channels last, which is the faster form."""
    x = x.to(device)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
