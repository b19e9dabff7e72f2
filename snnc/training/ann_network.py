"""A network of the ANN dialect as a module of torch: as it is, or rounded to the levels of T steps.

As it is, it computes what :func:`snnc.simulation.ann_reference.run_ann` does. With ``timesteps``, a rectifier
with a threshold gives what a population's count stands for, ``n = T M`` levels above the floor ``l``::

    k = clip(floor(n (x + shift - l) / (theta - l) + 1/2), 0, n)        y = l + (theta - l) k / n - shift

and padding stands for the floor, as silence does in the spiking network. Other activations give the levels
that the conversion chose for them. Batch normalisations use the
statistics of the batch in training mode, and keep running ones.

Every array that can be learned is a parameter, at first exactly the graph's own; :meth:`AnnNetwork.graph`
puts them back. Thresholds and floors are learned as factors, ``theta = theta_0 exp(p)``, so that they stay
positive and a step changes each by a share of itself.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from snnc.errors import UnknownOperationError
from snnc.ir import ann
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray
from snnc.ir.operations import check_known
from snnc.numerics.thresholds import HIGHEST_FLOOR
from snnc.training.activations import activation, unknown_operator
from snnc.training.channels import Gates
from snnc.training.operators import (
    Run,
    convolved,
    gathered,
    highest,
    padded_axes,
    per_channel,
    sliced,
    summed,
)
from snnc.training.parameters import Parameters, power_of_two
from snnc.training.straight_through import Levels

MOMENTUM = 0.1
"""Weight of a batch in the running statistics of a batch normalisation."""

START = 0.5
"""Initial potential of a neuron, in thresholds: its count is rounded."""

LARGEST_CHANGE = 4.0
"""Largest logarithm of a factor: thresholds change at most by 55."""

NORM_UNIT = 4
"""Unit of the parameters of a normalisation, in deviations of what it gives: a step changes them faster than
thresholds."""

ROUNDING = 1e-6
"""Relative slack for limits that are compared in float32."""

LEARNED: Mapping[type[ann.AnnNode], tuple[str, ...]] = {
    ann.Constant: ("values",),
    ann.Convolution: ("weight", "bias"),
    ann.Linear: ("weight", "bias"),
    ann.BatchNormalisation: ("scale", "shift"),
    ann.ChannelAffine: ("scale", "shift"),
}
"""Fields that are parameters, by the kind of node; those of rectifiers are factors."""

ROLES = {
    "values": "biases",
    "weight": "weights",
    "bias": "biases",
    "scale": "norms",
    "shift": "norms",
    "threshold": "thresholds",
    "floor": "floors",
}
"""What a field is called where a user says what is to be learned."""


class AnnNetwork(Parameters):
    """A graph of the ANN dialect as a module of torch.

    Attributes:
        source: the graph.
        timesteps: T; ``None`` for the network as it is.
        counted: whether a run gives the counts, too; without them it is faster.
        momentum: weight of a batch in the running statistics of batch normalisations, in training mode.
        gates: which channels of rectifiers there are; ``None`` for all.
    """

    def __init__(self, graph: ann.AnnGraph, timesteps: int | None = None, *, relative: bool = False) -> None:
        """Make the module.

        Args:
            graph: the network.
            timesteps: T, to round to levels; ``None`` for the network as it is.
            relative: hold normalisations in units of what they give, for a network that has learned before.

        Raises:
            UnknownOperationError: a node is of a kind that is not known here.
        """
        super().__init__()
        check_known(graph)
        for node in graph:
            if type(node) not in _KNOWN:
                raise UnknownOperationError(
                    f"{type(node).__name__} {node.name!r}: nothing is known of its gradients"
                )
            if (operator := unknown_operator(node)) is not None:
                raise UnknownOperationError(f"{node.name!r}: nothing is known of the operator {operator}")
        self.source = graph
        self.timesteps = timesteps
        self.counted = True
        self.momentum = MOMENTUM
        self.gates: Gates | None = None
        for number, node in enumerate(graph):
            for field in LEARNED.get(type(node), ()):
                self._learn(
                    number, node, field, getattr(node, field), ROLES[field], _unit(node) if relative else None
                )
            match node:
                case ann.BatchNormalisation():
                    self._hold(number, node, "mean", node.mean)
                    self._hold(number, node, "variance", node.variance)
                case ann.Gather():
                    self._hold(number, node, "index", node.index.astype(np.int64))
                case ann.Relu():
                    self._rectifier(number, node)
                case _:
                    pass

    def _rectifier(self, number: int, node: ann.Relu) -> None:
        for field in ("shift", "ceiling", "scale"):
            if getattr(node, field) is not None:
                self._hold(number, node, field, getattr(node, field))
        for field in ("threshold", "floor"):
            value = getattr(node, field)
            if value is not None:
                self._hold(number, node, f"{field}_0", value)
                self._learn(number, node, field, np.zeros_like(value), ROLES[field])
        if node.threshold is not None and node.floor is not None:
            share = np.divide(node.floor, node.threshold, out=np.zeros_like(node.floor), where=node.floor > 0)
            share = np.clip(share * (1 + ROUNDING), HIGHEST_FLOOR, 1)
            self._hold(number, node, "highest_floor", share.astype(np.float32))

    @property
    def normalises(self) -> bool:
        """Say whether there are batch normalisations."""
        return any(isinstance(node, ann.BatchNormalisation) for node in self.source)

    def has(self, node: ann.AnnNode, field: str) -> bool:
        """Say whether a node has such a parameter or constant."""
        return (node.name, field) in self._names

    def limits(self, node: ann.Relu) -> tuple[Tensor, Tensor | None]:
        """Return threshold and floor of a rectifier, (channels,); ``None`` for a floor of zero."""
        threshold = self.value(node, "threshold_0") * factor(self.value(node, "threshold"))
        if not self.has(node, "floor"):
            return threshold, None
        floor = self.value(node, "floor_0") * factor(self.value(node, "floor"))
        return threshold, torch.minimum(floor, self.value(node, "highest_floor") * threshold)

    def forward(
        self, inputs: Mapping[str, Tensor], keep: Sequence[str] = (), steps: int | None = None
    ) -> Run:
        """Run the network.

        Args:
            inputs: (batch, *shape) by the names of the inputs.
            keep: names of nodes whose values are wanted.
            steps: the answers after so many of the T steps, of neurons that may take back what they sent;
                T by default.
        """
        T = self.timesteps
        values: dict[str, Tensor] = {}
        silence: dict[str, Tensor | None] = {}
        counts: dict[str, Tensor] = {}
        for node in self.source:
            if isinstance(node, ann.Input):
                values[node.name], silence[node.name] = inputs[node.name], None
                continue
            read = [values[name] for name in node.inputs]
            floors = [silence[name] for name in node.inputs]
            if isinstance(node, ann.Constant):
                rows = len(next(iter(inputs.values())))
                values[node.name] = self.value(node, "values").expand(rows, *node.shape)
                silence[node.name] = None
            elif isinstance(node, ann.Relu) and T is not None and self.has(node, "threshold"):
                found = self._levels(node, read[0], T, T if steps is None else steps)
                values[node.name], sent, silence[node.name] = found
                if sent is not None:
                    counts[node.name] = sent
            else:
                values[node.name] = self._computed(node, read, floors[0] if floors else None)
                silence[node.name] = self._silence(node, floors)
        outputs = {name: values[node] for name, node in self.source.answers.items()}
        return Run(outputs, {name: values[name] for name in keep}, counts)

    def _levels(
        self, node: ann.Relu, x: Tensor, T: int, steps: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return what a population's counts stand for, the counts, and what its silence stands for."""
        levels, share = node.levels * T, steps / T
        threshold, floor = self.limits(node)
        lowest = torch.zeros_like(threshold) if floor is None else floor
        shift = self.value(node, "shift") if self.has(node, "shift") else torch.zeros_like(threshold)
        span = threshold - lowest
        dead = span <= 0  # a channel that never fired: constant in the spiking network
        safe = torch.where(dead, torch.ones_like(span), span)
        step = safe / (share * levels)
        most = torch.where(dead, 0.0, float(levels))
        seen = x if self.training else None
        worth = step if self.gates is None else step * self.gates.of(node.name, seen, shift, safe)
        y, k = Levels.apply(x, shift - lowest, step, worth, lowest - shift, most, START, self.counted)
        if k is not None and self.gates is not None:
            k = k * per_channel(worth.detach() != 0, len(node.shape))
        return y, k, floor

    def _silence(self, node: ann.AnnNode, floors: Sequence[Tensor | None]) -> Tensor | None:
        """Return what stands for zero behind a node that moves or pools counts, (channels,)."""
        floor = next((each for each in floors if each is not None), None)
        if floor is None:
            return None
        match node:
            case ann.MaxPool() | ann.AveragePool():
                return floor
            case ann.ChannelAffine():
                return floor * self.value(node, "scale")
            case ann.Concat():
                parts = zip(floors, node.inputs, strict=True)
                sizes = [floor.new_zeros(self.source[name].channels) if f is None else f for f, name in parts]
                return torch.cat(sizes)
            case ann.Slice():
                return floor[node.start[0] : node.stop[0] : node.step[0]]
            case ann.Pad():
                return functional.pad(floor, (node.before[0], node.after[0]))
            case ann.Reshape() | ann.Gather():
                shape = self.source[node.inputs[0]].shape
                spread = per_channel(floor, len(shape)).expand(shape)[None]
                rows = self._computed(node, [spread], None)[0].reshape(node.channels, -1)
                # What mixes floors, or adds zeros to them, moves currents, and zero stands for itself.
                return rows[:, 0] if bool((rows == rows[:, :1]).all()) else None
            case _:
                return None

    def _computed(self, node: ann.AnnNode, read: Sequence[Tensor], floor: Tensor | None) -> Tensor:
        """Return the values of a node."""
        x, rank = read[0], len(node.shape)
        match node:
            case ann.Convolution():
                weight, bias = self.value(node, "weight"), self.value(node, "bias")
                if floor is None or not any(node.window.pads):
                    return convolved(x, weight, bias, node.window, node.groups)
                # Padding stands for the floor: without it, what is padded is silence.
                level = floor.to(x.dtype)  # or the difference would be float32
                spread = level.reshape(node.groups, -1).repeat_interleave(node.channels // node.groups, dim=0)
                raised = bias + (weight.sum(dim=(2, 3)) * spread).sum(dim=1)
                above = x + per_channel(-level, 3)  # whose gradient need not be negated, as that of x - level
                return convolved(above, weight, raised, node.window, node.groups)
            case ann.Linear():
                return functional.linear(x, self.value(node, "weight"), self.value(node, "bias"))
            case ann.BatchNormalisation():
                return functional.batch_norm(
                    x,
                    self.value(node, "mean"),
                    self.value(node, "variance"),
                    self.value(node, "scale"),
                    self.value(node, "shift"),
                    self.training,
                    self.momentum,
                    node.epsilon,
                )
            case ann.ChannelAffine():
                scale, shift = self.value(node, "scale"), self.value(node, "shift")
                return x * per_channel(scale, rank) + per_channel(shift, rank)
            case ann.Relu():
                return self._rectified(node, x)
            case ann.Levelled():
                return activation(node, read, rounded=self.timesteps is not None)
            case ann.AveragePool():
                window = self._window(node, x)
                if floor is None or not any(window.pads):
                    return summed(x, window) / window.area
                level = per_channel(floor, rank)
                return summed(x - level, window) / window.area + level
            case ann.MaxPool():
                return highest(x, self._window(node, x))
            case ann.Add():
                return sum(read[1:], x)
            case ann.Concat():
                return torch.cat(list(read), dim=1)
            case ann.Reshape():
                return x.reshape(len(x), *node.shape)
            case ann.Pad():
                if floor is None:
                    return padded_axes(x, node.before, node.after)
                level = per_channel(functional.pad(floor, (node.before[0], node.after[0])), rank)
                return padded_axes(x - per_channel(floor, rank), node.before, node.after) + level
            case ann.Slice():
                return sliced(x, node)
            case ann.Gather():
                return gathered(x, self.value(node, "index"))
            case ann.Softmax():
                return functional.log_softmax(x, dim=1) if node.logarithm else functional.softmax(x, dim=1)
            case _:
                raise UnknownOperationError(f"{type(node).__name__} {node.name!r}: nothing is known of it")

    def _window(self, node: ann.AveragePool | ann.MaxPool, x: Tensor) -> Window:
        """Return the window of a pooling: one over the whole map covers smaller images' maps, too."""
        whole = node.window.kernel == self.source[node.inputs[0]].shape[1:]
        height, width = x.shape[2:]
        return replace(node.window, kernel=(height, width)) if whole else node.window

    def _rectified(self, node: ann.Relu, x: Tensor) -> Tensor:
        rank = len(node.shape)
        if self.has(node, "scale"):
            x = self._rounded(node, x)
            if not self.has(node, "threshold"):
                return x
        shift = per_channel(self.value(node, "shift"), rank) if self.has(node, "shift") else None
        threshold, floor = self.limits(node) if self.has(node, "threshold") else (None, None)
        y = x if shift is None else x + shift
        y = torch.relu(y) if floor is None else torch.maximum(y, per_channel(floor, rank))
        if self.has(node, "ceiling"):
            y = torch.minimum(y, per_channel(self.value(node, "ceiling"), rank))
        if threshold is not None:
            y = torch.minimum(y, per_channel(threshold, rank))
        return y if shift is None else y - shift

    def _rounded(self, node: ann.Relu, x: Tensor) -> Tensor:
        """Return ``scale clip(round(x / scale), lowest, highest)``; the gradient is that of the clip."""
        scale = per_channel(self.value(node, "scale"), len(node.shape))
        levels = x / scale
        match node.rounding:
            case "half-even":
                found = torch.round(levels)
            case "half-up":
                found = torch.floor(levels + 0.5)
            case _:
                found = torch.floor(levels)
        clipped = levels.clamp(node.lowest, node.highest)
        return (clipped + (found.clamp(node.lowest, node.highest) - clipped).detach()) * scale

    def graph(self) -> ann.AnnGraph:
        """Return the graph with the parameters as they are now, bit for bit where they did not change."""
        changed: dict[str, ann.AnnNode] = {}
        with torch.no_grad():
            for node in self.source:
                fields = {field: self._array(node, field) for field in LEARNED.get(type(node), ())}
                if isinstance(node, ann.BatchNormalisation):
                    fields |= {field: self._array(node, field) for field in ("mean", "variance")}
                elif isinstance(node, ann.Relu) and self.has(node, "threshold"):
                    threshold, floor = self.limits(node)
                    closed = None if self.gates is None else self.gates.closed(node.name, threshold, floor)
                    fields["threshold"] = _numpy(threshold if closed is None else closed)
                    fields |= {} if floor is None else {"floor": _numpy(floor)}
                different = {k: v for k, v in fields.items() if not np.array_equal(v, getattr(node, k))}
                if different:
                    changed[node.name] = node.with_(**different)
        return self.source.replacing(changed)

    def _array(self, node: ann.AnnNode, field: str) -> FloatArray:
        return _numpy(self.value(node, field))


def _unit(node: ann.AnnNode) -> FloatArray | None:
    """Return in what the parameters of a node are held: of a normalisation, a multiple of what it gives."""
    if not isinstance(node, ann.BatchNormalisation):
        return None
    return power_of_two(NORM_UNIT * np.abs(node.scale))


def factor(logarithm: Tensor) -> Tensor:
    """Return the factor of a threshold or a floor, within what floats hold many times over."""
    return torch.exp(logarithm.clamp(-LARGEST_CHANGE, LARGEST_CHANGE))


def _numpy(tensor: Tensor) -> FloatArray:
    return np.array(tensor.detach().cpu().contiguous().numpy(), np.float32)


_KNOWN = frozenset(
    {
        *(ann.Input, ann.Constant, ann.Convolution, ann.Linear, ann.BatchNormalisation, ann.ChannelAffine),
        *(ann.Relu, ann.AveragePool, ann.MaxPool, ann.Add, ann.Concat, ann.Reshape, ann.Pad, ann.Slice),
        *(ann.Gather, ann.Softmax, ann.Pointwise, ann.Product, ann.MatrixProduct, ann.Normalisation),
        *(ann.InnerSoftmax, ann.Maximum),
    }
)
