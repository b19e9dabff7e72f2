"""The layers behind a cut, learned by gradients on counts, in the integers that are deployed.

A population behind the cut ends with the count ``clip(floor((v_init + T B + sum w N) / Theta), 0, C)``:
exactly in the layerwise schedule and for neurons that the order of spikes does not matter to, nearly for
all others, which is said. Weights and biases are real numbers whose integers are used, with gradients
passed straight through the rounding; thresholds, scales and everything before the cut stay. Batches hold as
many rows of each class as of any other, new ones and those of the replay buffer, and the loss is the
cross-entropy of the logits.

Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", arXiv 1308.3432.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from snnc.adaptation.options import Options
from snnc.errors import UsageError
from snnc.ir.bounds import provable_timesteps, unproved
from snnc.ir.cut import Cut
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Firing, firing
from snnc.ir.snn import (
    ChannelWeight,
    Convolution,
    IntegrateFire,
    Linear,
    Readout,
    Reshape,
    SnnGraph,
    SnnNode,
    SumPool,
    Weighted,
)
from snnc.numerics.largest_weights import IDENTITY_LIMIT, WEIGHT_LIMIT
from snnc.numerics.scales import THRESHOLD_LIMIT
from snnc.training.extra import require_torch

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 128


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What is learned from.

    Attributes:
        counts: (rows, F) at the cut, of new rows and of replayed ones.
        labels: (rows,).
    """

    counts: IntArray
    labels: IntArray


def learn(graph: SnnGraph, cut: Cut, lesson: Lesson, options: Options) -> tuple[SnnGraph, tuple[str, ...]]:
    """Return the network with what lies behind the cut learned, and what is approximate about it.

    Args:
        graph: the network.
        cut: of it.
        lesson: the rows; a class beyond the network's gets an output.
        options: epochs, rate and seed.

    Raises:
        UsageError: torch is not installed, or a layer behind the cut cannot be learned.
    """
    require_torch("snnc adapt --head gradient")
    import torch

    for name in cut.tail:
        _check(graph[name])
    wide = _widened(graph, cut, int(lesson.labels.max()) + 1)
    before, threads = torch.get_num_threads(), 1
    torch.set_num_threads(threads)  # sums of several threads may differ in their last bits
    try:
        found = _trained(wide, cut, lesson, options)
    finally:
        torch.set_num_threads(before)
    most = provable_timesteps(found, graph.max_timesteps)
    if most < graph.timesteps:
        raise UsageError(unproved(found, most))
    inner = [name for name in cut.tail if isinstance(graph[name], IntegrateFire)]
    notes: tuple[str, ...] = ()
    if inner and graph.schedule is not Schedule.LAYERWISE:
        told = (
            f"learned as if the order of spikes did not matter to {len(inner)} populations behind the cut: "
            "measure the result by --test"
        )
        notes = (told,)
    return replace(found, max_timesteps=most), notes


def _check(node: SnnNode) -> None:
    plain = isinstance(node, Linear | Convolution | ChannelWeight | Reshape | Readout)
    if isinstance(node, SumPool):
        plain = node.window.dilations == (1, 1)
    if isinstance(node, IntegrateFire):
        plain = firing(node) is not Firing.STEPS
    if not plain:
        raise UsageError(f"{type(node).__name__} {node.name!r} cannot be learned by gradients: cut behind it")


def _widened(graph: SnnGraph, cut: Cut, classes: int) -> SnnGraph:
    """Return the network with an output for each class; new ones begin at zero weights and the mean bias."""
    readout = graph.readout
    more = classes - readout.shape[0]
    if more <= 0:
        return graph
    linear = graph[readout.inputs[0]]
    if len(readout.inputs) > 1 or not isinstance(linear, Linear) or linear.name not in cut.tail:
        raise UsageError(f"{graph.name} does not end with one linear layer, which new classes need")
    weight = np.concatenate([linear.weight, np.zeros((more, linear.weight.shape[1]), linear.weight.dtype)])
    mean = np.full(more, int(np.rint(readout.bias.mean())), readout.bias.dtype)
    bias = np.concatenate([readout.bias, mean])
    shape = (classes,)
    return graph.replacing(
        {
            linear.name: linear.with_(weight=weight, shape=shape),
            readout.name: readout.with_(bias=bias, shape=shape),
        }
    )


def _trained(graph: SnnGraph, cut: Cut, lesson: Lesson, options: Options) -> SnnGraph:
    """Return the network after the last epoch."""
    import torch
    from torch.nn import functional

    tail = [graph[name] for name in cut.tail]
    parameters = _parameters(graph, tail, lesson)
    optimiser = torch.optim.Adam([each.moved for each in parameters.values()], lr=options.rate)
    shape = graph[cut.latent].shape
    counts = torch.from_numpy(lesson.counts.astype(np.float32)).reshape(-1, *shape)
    labels = torch.from_numpy(lesson.labels)
    sizes = np.bincount(lesson.labels)
    weights = torch.from_numpy(1.0 / np.maximum(sizes, 1)[lesson.labels])
    generator = torch.Generator().manual_seed(options.seed)
    steps = options.epochs * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    unit = graph.readout.scale / graph.timesteps
    for _ in range(steps):
        chosen = torch.multinomial(weights, min(BATCH, len(labels)), replacement=True, generator=generator)
        logits = _answers(graph, tail, cut.latent, counts[chosen], parameters) * unit
        loss = functional.cross_entropy(logits, labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    changed: dict[str, SnnNode] = {}
    for (name, role), each in parameters.items():
        node = changed.get(name, graph[name])
        if not bool(torch.isfinite(each.moved).all()):
            raise UsageError(f"the gradients of {name!r} diverged: give a smaller --rate than {options.rate}")
        changed[name] = node.with_(**{role: each.integers().detach().numpy().astype(each.dtype)})
    return graph.replacing(changed)


class _Parameter:
    """Integers that are learned, as real numbers around where they began.

    Attributes:
        moved: how far, in units.
    """

    def __init__(self, values: NumberArray, unit: float, limit: int) -> None:
        import torch

        self.dtype = values.dtype
        self._start = torch.from_numpy(values.astype(np.float32))
        self._unit, self._limit = unit, float(limit)
        self.moved = torch.zeros_like(self._start, requires_grad=True)

    def integers(self) -> Tensor:
        """Return the integers, with gradients passed straight through the rounding."""
        real = (self._start + self._unit * self.moved).clamp(-self._limit, self._limit)
        return real + (real.round() - real).detach()


def _parameters(graph: SnnGraph, tail: list[SnnNode], lesson: Lesson) -> dict[tuple[str, str], _Parameter]:
    found: dict[tuple[str, str], _Parameter] = {}
    arrived = max(float(np.abs(lesson.counts).sum(axis=1).mean()), 1.0)
    for node in tail:
        if isinstance(node, Weighted):
            mean = max(float(np.abs(node.weight.astype(np.float64)).mean()), 1.0)
            limit = IDENTITY_LIMIT if isinstance(node, ChannelWeight) else WEIGHT_LIMIT
            found[node.name, "weight"] = _Parameter(node.weight, mean, limit)
        elif isinstance(node, IntegrateFire):
            unit = max(float(node.threshold.mean()) / graph.timesteps, 1.0)
            found[node.name, "bias"] = _Parameter(node.bias, unit, THRESHOLD_LIMIT)
        elif isinstance(node, Readout):
            unit = max(float(np.abs(node.bias.astype(np.float64)).mean()), arrived / graph.timesteps, 1.0)
            found[node.name, "bias"] = _Parameter(node.bias, unit, THRESHOLD_LIMIT)
    return found


def _answers(
    graph: SnnGraph,
    tail: list[SnnNode],
    latent: str,
    counts: Tensor,
    parameters: dict[tuple[str, str], _Parameter],
) -> Tensor:
    """Return what the read-out holds at the end of a run, (rows, classes)."""
    import torch
    from torch.nn import functional

    from snnc.training.straight_through import Levels

    T = graph.timesteps
    values: dict[str, Tensor] = {latent: counts}

    def along(vector: Tensor, rank: int) -> Tensor:
        return vector.reshape(-1, *[1] * (rank - 1))

    for node in tail:
        read = [values[name] for name in node.inputs]
        match node:
            case Linear():
                values[node.name] = functional.linear(read[0], parameters[node.name, "weight"].integers())
            case Convolution():
                top, left, bottom, right = node.window.pads
                padded = functional.pad(read[0], (left, right, top, bottom))
                weight = parameters[node.name, "weight"].integers()
                strides, dilations = node.window.strides, node.window.dilations
                values[node.name] = functional.conv2d(
                    padded, weight, None, strides, 0, dilations, node.groups
                )
            case ChannelWeight():
                weight = parameters[node.name, "weight"].integers()
                values[node.name] = read[0] * along(weight, len(node.shape))
            case SumPool():
                top, left, bottom, right = node.window.pads
                padded = functional.pad(read[0], (left, right, top, bottom))
                pooled = functional.avg_pool2d(padded, node.window.kernel, node.window.strides)
                values[node.name] = pooled * node.window.area
            case Reshape():
                values[node.name] = read[0].reshape(-1, *node.shape)
            case IntegrateFire():
                offset = torch.from_numpy(node.v_init.astype(np.float32))
                offset = offset + T * parameters[node.name, "bias"].integers()
                threshold = torch.from_numpy(node.threshold.astype(np.float32))
                zeros = torch.zeros_like(threshold)
                most = zeros + node.neuron.capacity(T)
                given = torch.stack(read).sum(dim=0)
                values[node.name], _ = Levels.apply(
                    given, offset, threshold, zeros + 1, zeros, most, 0.0, False
                )
            case Readout():
                bias = parameters[node.name, "bias"].integers()
                return torch.stack(read).sum(dim=0) + T * bias
            case _:
                _check(node)
    raise UsageError("nothing is read out behind the cut")
