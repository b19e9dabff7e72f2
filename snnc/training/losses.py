"""The losses: how far a network is from its source, and what it costs.

Sources: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015 (`kl`); Xu et al., "Constructing
Deep Spiking Neural Networks from Artificial Neural Networks with Knowledge Distillation", CVPR 2023
(`features`); Hong et al., "LaSNN: Layer-wise ANN-to-SNN Distillation for Effective and Efficient Training in
Deep Spiking Neural Networks", 2023 (`attention`); Zhang et al., "HTA-KL: Head-Tail Aware Kullback-Leibler
Divergence for Efficient Knowledge Distillation in Spiking Neural Networks", 2025 (`hta-kl`, whose weights of
the two parts are a reconstruction).
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from snnc.metrics.task import Task
from snnc.training.operators import Run

NOTHING = 1e-12


@dataclass(frozen=True, slots=True)
class Batch:
    """What the losses look at.

    Attributes:
        student: what the network gave.
        source: what its source gave for the same rows.
        labels: of each output, by its name; empty without labels.
        tasks: what each output is.
        layers: names of the activations that are compared.
        steps: the answers after each step, where ``anytime`` asks for them.
        prices: synapses that a spike of each neuron reaches, by population, relative to the source's MACs.
        variances: of the source's numbers, by output.
        temperature, head: see :class:`snnc.training.recipe.Recipe`.
        smoothing: share of a label that is spread over all classes.
    """

    student: Run
    source: Run
    labels: Mapping[str, Tensor]
    tasks: Mapping[str, Task]
    layers: Sequence[str]
    steps: Sequence[Run]
    prices: Mapping[str, Tensor]
    variances: Mapping[str, Tensor]
    temperature: float
    head: float
    smoothing: float = 0.0

    def scores(self) -> list[str]:
        """Return the names of the outputs that are class scores."""
        return [name for name, task in self.tasks.items() if task is not Task.REGRESSION]


def total(batch: Batch, weights: Mapping[str, float]) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum of losses, and each of them."""
    found = {name: TABLE[name](batch) for name in weights}
    parts = [weight * found[name] for name, weight in weights.items()]
    return sum(parts[1:], parts[0]), {name: float(each.detach()) for name, each in found.items()}


def two_classes(scores: Tensor) -> Tensor:
    """Return class scores, (batch, classes); one score of yes or no, as those of two classes."""
    flat = scores.flatten(1)
    return torch.cat([-flat / 2, flat / 2], dim=1) if flat.shape[1] == 1 else flat


def kl(student: Tensor, source: Tensor, temperature: float) -> Tensor:
    """Return ``tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau))``, the mean over rows, (batch, classes)."""
    p = functional.log_softmax(source / temperature, dim=1)
    q = functional.log_softmax(student / temperature, dim=1)
    return temperature**2 * (p.exp() * (p - q)).sum(dim=1).mean()


def hta_kl(student: Tensor, source: Tensor, temperature: float, head: float) -> Tensor:
    """Return the divergence that treats likely and unlikely classes apart.

    The head holds the source's most likely classes until their probabilities reach ``head``, the tail the
    others: ``alpha sum_head p log(p / q) + (1 - alpha) sum_tail q log(q / p)``, with ``alpha = g_h / (g_h +
    g_t)`` and ``g = sum |p - q|`` over each part.
    """
    log_p = functional.log_softmax(source / temperature, dim=1)
    log_q = functional.log_softmax(student / temperature, dim=1)
    p, q = log_p.exp(), log_q.exp()
    order = p.argsort(dim=1, descending=True, stable=True)
    ranked = p.gather(1, order)
    before = ranked.cumsum(dim=1) - ranked
    likely = torch.zeros_like(p).scatter(1, order, (before < head).to(p.dtype))
    gap = (p - q).abs().detach()
    in_head, in_tail = (gap * likely).sum(dim=1), (gap * (1 - likely)).sum(dim=1)
    both = in_head + in_tail
    alpha = torch.where(both > NOTHING, in_head / both.clamp(min=NOTHING), torch.full_like(both, 0.5))
    forward = (likely * p * (log_p - log_q)).sum(dim=1)
    backward = ((1 - likely) * q * (log_q - log_p)).sum(dim=1)
    return temperature**2 * (alpha * forward + (1 - alpha) * backward).mean()


def squared(student: Tensor, source: Tensor, variance: Tensor) -> Tensor:
    """Return the mean over outputs of ``E[(y - s)^2] / var(s)``, of (batch, *shape)."""
    return ((student - source).square() / variance).mean()


def cross_entropy(scores: Tensor, probabilities: Tensor) -> Tensor:
    """Return the mean of ``-sum p log softmax(z)`` over rows of (batch, classes)."""
    return -(probabilities * functional.log_softmax(scores, dim=1)).sum(dim=1).mean()


def attention(student: Tensor, source: Tensor) -> Tensor:
    """Return the squared distance of ``Q / |Q|``, ``Q = sum_c F_c^2`` of maps, the mean over rows."""
    ours, theirs = (
        functional.normalize(each.square().sum(dim=1).flatten(1), dim=1) for each in (student, source)
    )
    return (ours - theirs).square().sum(dim=1).mean()


def activity(counts: Mapping[str, Tensor], prices: Mapping[str, Tensor]) -> Tensor:
    """Return ``sum |N| fan-out`` over all neurons, the mean over rows, in units of the prices."""
    parts = [(counts[name].abs() * price).flatten(1).sum(dim=1).mean() for name, price in prices.items()]
    return sum(parts[1:], parts[0])


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return the probabilities of certain labels, (batch, classes)."""
    return functional.one_hot(labels.long().flatten(), classes).float()


def smoothed(probabilities: Tensor, share: float) -> Tensor:
    """Return (batch, classes) probabilities of which a share is spread evenly."""
    return (1 - share) * probabilities + share / probabilities.shape[1]


def _summed(parts: Sequence[Tensor]) -> Tensor:
    return sum(parts[1:], parts[0])


def _kl(batch: Batch) -> Tensor:
    outputs = ((batch.student.outputs[name], batch.source.outputs[name]) for name in batch.scores())
    return _summed([kl(two_classes(s), two_classes(t), batch.temperature) for s, t in outputs])


def _hta_kl(batch: Batch) -> Tensor:
    outputs = ((batch.student.outputs[name], batch.source.outputs[name]) for name in batch.scores())
    return _summed(
        [hta_kl(two_classes(s), two_classes(t), batch.temperature, batch.head) for s, t in outputs]
    )


def _squared(batch: Batch) -> Tensor:
    names = [name for name, task in batch.tasks.items() if task is Task.REGRESSION]
    given, wanted = batch.student.outputs, batch.source.outputs
    return _summed([squared(given[name], wanted[name], batch.variances[name]) for name in names])


def _labels(batch: Batch) -> Tensor:
    parts = []
    for name, labels in batch.labels.items():
        given = batch.student.outputs[name]
        if batch.tasks[name] is Task.REGRESSION:
            parts.append(squared(given, labels.reshape(given.shape).to(given), batch.variances[name]))
        else:
            scores = two_classes(given)
            parts.append(cross_entropy(scores, smoothed(one_hot(labels, scores.shape[1]), batch.smoothing)))
    return _summed(parts)


def _anytime(batch: Batch) -> Tensor:
    parts = []
    for run in batch.steps:
        for name in batch.scores():
            scores = two_classes(run.outputs[name])
            if name in batch.labels:
                wanted = one_hot(batch.labels[name], scores.shape[1])
            else:
                wanted = functional.softmax(two_classes(batch.source.outputs[name]), dim=1)
            parts.append(cross_entropy(scores, wanted))
    return _summed(parts) / len(batch.steps)


def _features(batch: Batch) -> Tensor:
    ours, theirs = batch.student.kept, batch.source.kept
    parts = [(ours[name] - theirs[name]).square().mean() for name in batch.layers]
    return _summed(parts) / len(parts)


def _attention(batch: Batch) -> Tensor:
    ours, theirs = batch.student.kept, batch.source.kept
    names = [name for name in batch.layers if ours[name].ndim > 2]
    return _summed([attention(ours[name], theirs[name]) for name in names]) / len(names)


def _activity(batch: Batch) -> Tensor:
    return activity(batch.student.counts, batch.prices)


TABLE: Mapping[str, Callable[[Batch], Tensor]] = {
    "kl": _kl,
    "hta-kl": _hta_kl,
    "squared": _squared,
    "labels": _labels,
    "anytime": _anytime,
    "features": _features,
    "attention": _attention,
    "activity": _activity,
}
"""Every loss by its name in :data:`snnc.training.recipe.LOSSES`; of several outputs they are added up."""
