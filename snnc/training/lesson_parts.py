"""What a network is taught by: the tasks of its outputs, losses, layers to compare, prices of spikes."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnc.analysis import costs
from snnc.analysis.node_costs import fan_outs
from snnc.errors import UsageError
from snnc.ir import ann
from snnc.ir.graph import FloatArray
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.metrics.task import Task
from snnc.numerics.divergence import AnswerError, answer_error
from snnc.training.recipe import LABELLED, Recipe


def judged_tasks(
    known: Mapping[str, Task | None], targets: Mapping[str, FloatArray]
) -> tuple[dict[str, Task], dict[str, AnswerError]]:
    """Return what each output is; where it is not evident, its behaviour decides."""
    errors = {name: answer_error(known.get(name), values) for name, values in targets.items()}
    tasks: dict[str, Task] = {}
    for name, error in errors.items():
        if error is AnswerError.DIVERGENCE:
            tasks[name] = Task.CLASSES
        else:
            tasks[name] = Task.BINARY if known.get(name) is Task.BINARY else Task.REGRESSION
    return tasks, errors


def loss_weights(recipe: Recipe, tasks: Mapping[str, Task], labels: Mapping[str, Any]) -> dict[str, float]:
    """Return the losses and their weights, and refuse those that have nothing to compare."""
    scores = any(task is not Task.REGRESSION for task in tasks.values())
    numbers = any(task is Task.REGRESSION for task in tasks.values())
    if not recipe.losses:
        share = LABELLED if labels else 0.0
        found = {"kl": 1 - share} if scores else {}
        found |= {"squared": 1 - share} if numbers else {}
        return found | ({"labels": share} if labels else {})
    for name in ("kl", "hta-kl", "anytime"):
        if name in recipe.losses and not scores:
            raise UsageError(
                f"the loss {name} compares class scores, and the outputs are numbers: use squared"
            )
    if "squared" in recipe.losses and not numbers:
        raise UsageError("the loss squared compares numbers, and the outputs are class scores: use kl")
    if "labels" in recipe.losses and not labels:
        raise UsageError("the loss labels needs labels: give --labels, and `y` in the file")
    return dict(recipe.losses)


def compared_layers(graph: ann.AnnGraph) -> tuple[str, ...]:
    """Return the rectifiers whose activations are compared: the last of every shape."""
    last = {node.shape: node.name for node in graph.of_type(ann.Relu) if node.shift is None}
    return tuple(last.values())


def spike_prices(graph: SnnGraph, source: ann.AnnGraph, device: str) -> dict[str, Tensor]:
    """Return the synapses that a spike of each neuron reaches, over the source's MACs, by population."""
    macs = max(sum(costs.macs_of_ann(source).values()), 1)
    reach = fan_outs(graph)
    return {
        node.name: torch.from_numpy((reach[node.name] / macs).astype(np.float32)).to(device)
        for node in graph.of_type(IntegrateFire)
    }


def fewest_levels(graph: ann.AnnGraph, timesteps: int) -> int:
    """Return T M, the levels in T steps, of the activation that has the fewest; 1 where none has any."""
    rectifiers = [node.levels for node in graph.of_type(ann.Relu) if node.threshold is not None]
    others = [node.levels for node in graph.of_type(ann.Levelled) if node.step is not None]
    return timesteps * min([*rectifiers, *others], default=1)
