"""How the bundled networks are trained, and how well they answer; what differs is how rows are made ready.

The recipe is made for few rows (10,000) and one CPU: SGD with Nesterov momentum, linear warm-up and cosine
decay, random changes of every row, label smoothing, and an exponential moving average of the weights. The
last average is what is kept; the held-out rows are for choosing a recipe, the test rows choose nothing. The
same seed, thread count, PyTorch build and processor give the same weights.

Needs PyTorch: ``pip install -e '.[train]'`` in a checkout.

Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.
"""

# PyTorch is an extra: where it is absent, the checkers see its names as Any.
# mypy: disable-error-code="import-not-found"
# mypy: allow-subclassing-any, allow-untyped-decorators, allow-untyped-calls
# mypy: no-warn-unused-ignores, no-warn-return-any, no-warn-redundant-casts
# pyright: reportMissingImports=false

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Network = TypeVar("Network", bound=nn.Module)
Normalise = Callable[[Tensor], Tensor]
"""From uint8 rows (N, H, W) to the network's float32 input (N, 1, H, W)."""
Augment = Callable[[Tensor, torch.Generator], Tensor]
"""From uint8 rows (N, H, W) to rows of the same kind, changed at random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train; the defaults are what the bundled network was trained with.

    Attributes:
        epochs: passes over the training rows.
        batch: rows a step.
        rate: peak learning rate.
        momentum: of SGD, in Nesterov's form.
        weight_decay: L2 penalty on every parameter.
        smoothing: share of the label that is spread over all classes.
        averaging: decay of the exponential moving average of the weights, per step.
        hold_out: last rows of the training set, never trained on.
        seed: of the initial weights, the order of rows and the augmentation.
    """

    epochs: int = 80
    batch: int = 64
    rate: float = 0.06
    momentum: float = 0.9
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    averaging: float = 0.998
    hold_out: int = 1000
    seed: int = 0


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the indices of full batches in a fresh random order; a last, smaller batch is left out."""
    order = torch.randperm(count, generator=generator)
    yield from order[: count - count % size].split(size)


def learning_rate(progress: float, *, warm_up: float = 0.06) -> float:
    """Return the fraction of the peak rate at ``progress`` in [0, 1]: linear rise, then half a cosine."""
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


@torch.no_grad()
def accuracy(network: nn.Module, x: Tensor, y: Tensor, normalise: Normalise) -> float:
    """Return top-1 on uint8 rows as a fraction; the network is put into evaluation mode."""
    network.eval()
    answers = torch.cat([network(normalise(part)).argmax(1) for part in x.split(500)])
    return float(torch.eq(answers, y).float().mean())


def train(
    make: Callable[[], Network],
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    normalise: Normalise,
    augment: Augment,
) -> Network:
    """Return the moving average of the weights, in evaluation mode; progress is printed after each epoch.

    Args:
        make: makes the network, whose weights torch's own generator draws.
        x: training rows, uint8 (N, H, W), with those held out.
        y: labels, int64 (N,).
        recipe: how to train.
        normalise: what the network takes of rows.
        augment: how rows are changed at random before each step.
    """
    kept = len(x) - recipe.hold_out
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    network = make().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.averaging),
        use_buffers=True,
    )
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=recipe.rate,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    total = recipe.epochs * (kept // recipe.batch)
    step = 0
    start = time.monotonic()
    for epoch in range(1, recipe.epochs + 1):
        network.train()
        losses = []
        for rows in batches(kept, recipe.batch, generator):
            step += 1
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * learning_rate(step / total)
            logits = network(normalise(augment(x[rows], generator)))
            loss = functional.cross_entropy(logits, y[rows], label_smoothing=recipe.smoothing)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            average.update_parameters(network)
            losses.append(loss.item())
        held = (
            f"held-out top-1 {accuracy(average, x[kept:], y[kept:], normalise):.4f}"
            if kept < len(x)
            else "no rows held out"
        )
        click.echo(f"epoch {epoch:3d}  loss {np.mean(losses):.4f}  {held}  {time.monotonic() - start:6.0f} s")
    return cast(Network, average.module.eval())
