"""A job's network as a PyTorch module, made of PyTorch's own layers so that converters know them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Node = dict[str, Any]
Arrays = dict[str, np.ndarray]


class Network(nn.Module):
    """A feed-forward network: the layers, and what each reads.

    Attributes:
        nodes: in topological order; see ``benchmarks/peers/job.py``, which writes them.
        output: number of the node whose values are returned.
        layers: by the number of their node.
    """

    def __init__(self, nodes: list[Node], output: int, arrays: Arrays) -> None:
        """Make the layers.

        Args:
            nodes: the network's structure.
            output: number of the node whose values are returned.
            arrays: weights, ``{"3.weight": ...}`` for the node of number 3.
        """
        super().__init__()
        self.nodes = nodes
        self.output = output
        self.layers = nn.ModuleDict()
        for number, node in enumerate(nodes):
            made = _layer(node, number, arrays)
            if made is not None:
                self.layers[f"n{number}"] = made
        self.eval().requires_grad_(False)

    @property
    def rectifiers(self) -> list[int]:
        """Numbers of the nodes that become spiking, in order."""
        return [number for number, node in enumerate(self.nodes) if node["kind"] == "Relu"]

    def forward(self, x: Tensor) -> Tensor:
        """Return the output, (n, classes), for the rows ``x``, (n, *input shape)."""
        values = [x]
        for number, node in enumerate(self.nodes[1:], start=1):
            read = [values[source] for source in node["inputs"]]
            name = f"n{number}"
            values.append(self.layers[name](read[0]) if name in self.layers else _joined(node, read))
        return values[self.output]

    def as_source(self, x: Tensor) -> Tensor:
        """Return what the source network returns, with the softmax at its end that :meth:`forward` omits."""
        last, values = self.nodes[self.output], self(x)
        if last["kind"] != "Softmax":
            return values
        return values.log_softmax(1) if last["logarithm"] else values.softmax(1)


def _layer(node: Node, number: int, arrays: Arrays) -> nn.Module | None:
    """Return the layer of a node; ``None`` for what only moves or adds values."""
    match node["kind"]:
        case "Convolution":
            return _convolution(node, arrays[f"{number}.weight"], arrays[f"{number}.bias"])
        case "Linear":
            weight = arrays[f"{number}.weight"]
            return _filled(nn.Linear(weight.shape[1], len(weight)), weight, arrays[f"{number}.bias"])
        case "BatchNormalisation":
            names = ("scale", "shift", "mean", "variance")
            return _normalisation(node, *(arrays[f"{number}.{name}"] for name in names))
        case "ChannelAffine":
            scale, shift = arrays[f"{number}.scale"], arrays[f"{number}.shift"]
            return _normalisation(node, scale, shift, np.zeros_like(scale), np.ones_like(scale))
        case "Relu":
            return nn.ReLU()
        case "AveragePool":
            return nn.AvgPool2d(node["kernel"], node["strides"], _symmetric(node))
        case "MaxPool":
            return nn.MaxPool2d(node["kernel"], node["strides"], _symmetric(node), node["dilations"])
        case "Pad":
            return _channel_padding(node)
        case "Softmax":
            return nn.Identity()  # keeps the order of the classes
        case _:
            return None


def _joined(node: Node, read: list[Tensor]) -> Tensor:
    match node["kind"]:
        case "Add":
            total = read[0]
            for value in read[1:]:
                total = total + value
            return total
        case "Concat":
            return torch.cat(read, 1)
        case "Reshape" if len(node["shape"]) == 1:
            return torch.flatten(read[0], 1)
        case "Reshape":
            return torch.reshape(read[0], (-1, *node["shape"]))
        case "Slice":
            bounds = zip(node["start"], node["stop"], node["step"], strict=True)
            return read[0][(slice(None), *(slice(*bound) for bound in bounds))]
        case kind:
            raise SystemExit(f"the node {node['name']!r} is a {kind}, which the peers' loader does not know")


def _convolution(node: Node, weight: np.ndarray, bias: np.ndarray) -> nn.Module:
    """Return a convolution; uneven padding becomes even padding and zeros around the kernel."""
    top, left, bottom, right = node["pads"]
    padding = (max(top, bottom), max(left, right))
    if (top, left) != (bottom, right):
        if tuple(node["dilations"]) != (1, 1):
            raise SystemExit(f"the convolution {node['name']!r} has uneven padding and dilation at once")
        rows, columns = ((padding[0] - top, padding[0] - bottom), (padding[1] - left, padding[1] - right))
        weight = np.pad(weight, ((0, 0), (0, 0), rows, columns))
    groups = node["groups"]
    made = nn.Conv2d(
        weight.shape[1] * groups,
        len(weight),
        weight.shape[2:],
        node["strides"],
        padding,
        node["dilations"],
        groups,
    )
    return _filled(made, weight, bias)


def _normalisation(
    node: Node, scale: np.ndarray, shift: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> nn.Module:
    kind = nn.BatchNorm2d if len(node["shape"]) == 3 else nn.BatchNorm1d
    made = _filled(kind(len(scale), eps=node.get("epsilon", 0.0)), scale, shift)
    made.running_mean.copy_(torch.from_numpy(mean))
    made.running_var.copy_(torch.from_numpy(variance))
    return made


def _channel_padding(node: Node) -> nn.Module:
    """Return a convolution of kernel 1 that copies the channels to their new places."""
    if any(node["before"][1:]) or any(node["after"][1:]):
        raise SystemExit(f"the node {node['name']!r} pads height or width, which the loader does not know")
    outputs, start = node["shape"][0], node["before"][0]
    inputs = outputs - start - node["after"][0]
    weight = np.zeros((outputs, inputs, 1, 1), np.float32)
    weight[np.arange(start, start + inputs), np.arange(inputs)] = 1
    return _filled(nn.Conv2d(inputs, outputs, 1), weight, np.zeros(outputs, np.float32))


def _symmetric(node: Node) -> tuple[int, int]:
    top, left, bottom, right = node["pads"]
    if (top, left) != (bottom, right):
        raise SystemExit(f"the pool {node['name']!r} has uneven padding, which the loader does not know")
    return top, left


def _filled(made: nn.Module, weight: np.ndarray, bias: np.ndarray) -> nn.Module:
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(weight))
        made.bias.copy_(torch.from_numpy(bias))
    return made
