"""The definition of the ordinary dialect in NumPy: what a trained network computes, slow and exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from snnc.errors import InternalError
from snnc.ir import ann
from snnc.ir.batch import Batch, Given, arrays_by_name, joined, rows_of
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray
from snnc.ir.operations import check_known
from snnc.simulation.arrays import convolve, gathered, slices, windows


def run_ann(graph: ann.AnnGraph, x: Given, keep: Sequence[str] = ()) -> tuple[Any, dict[str, FloatArray]]:
    """Run a network of the ANN dialect.

    Args:
        graph: the network.
        x: (batch, *input shape), float32, channels first; of several inputs one array each, by name.
        keep: names of nodes whose values are wanted.

    Returns:
        The output, (batch, *output shape), or each of them by its name, and the values of the nodes in
        ``keep``.
    """
    check_known(graph)
    given = Batch(arrays_by_name(x, [node.name for node in graph.inputs], graph.name))
    values: dict[str, FloatArray] = {}
    for node in graph:
        values[node.name] = _ann_node(node, [values[name] for name in node.inputs], given)
    outputs = {name: values[node] for name, node in zip(graph.output_names, graph.outputs, strict=True)}
    return joined(outputs), {name: values[name] for name in keep}


def _ann_node(node: ann.AnnNode, inputs: list[FloatArray], given: Batch) -> FloatArray:
    rank, rows = len(node.shape), len(given)
    match node:
        case ann.Input():
            return rows_of(given, node.name).astype(np.float32).reshape(rows, *node.shape)
        case ann.Constant():
            return np.broadcast_to(node.values, (rows, *node.shape)).astype(np.float32)
        case ann.Convolution():
            return convolve(inputs[0], node.weight, node.window, node.groups) + per_channel(node.bias, rank)
        case ann.Linear():
            return inputs[0] @ node.weight.T + node.bias
        case ann.BatchNormalisation():
            gain = node.scale / np.sqrt(node.variance + np.float32(node.epsilon))
            return (inputs[0] - per_channel(node.mean, rank)) * per_channel(gain, rank) + per_channel(
                node.shift, rank
            )
        case ann.ChannelAffine():
            return inputs[0] * per_channel(node.scale, rank) + per_channel(node.shift, rank)
        case ann.Relu():
            return _rectified(node, inputs[0])
        case ann.Levelled():
            return levelled(node, _activation(node, inputs))
        case ann.AveragePool():
            return windows(inputs[0], node.window, 0).mean(axis=(4, 5), dtype=np.float32)
        case ann.MaxPool():
            return windows(inputs[0], node.window, -np.inf).max(axis=(4, 5))
        case ann.Add():
            return np.add.reduce(inputs)
        case ann.Concat():
            return np.concatenate(inputs, axis=1)
        case ann.Reshape():
            return inputs[0].reshape(rows, *node.shape)
        case ann.Pad():
            return np.pad(inputs[0], ((0, 0), *zip(node.before, node.after, strict=True)))
        case ann.Slice():
            return inputs[0][slices(node)]
        case ann.Gather():
            return gathered(inputs[0], node.index)
        case ann.Softmax():
            shifted = inputs[0] - inputs[0].max(axis=1, keepdims=True)
            log = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            return log if node.logarithm else np.exp(log)
        case _:
            raise InternalError(f"the reference knows no {type(node).__name__}")


def _activation(node: ann.Levelled, inputs: list[FloatArray]) -> FloatArray:
    """Return what the source network computes, without the levels that were chosen for it."""
    match node:
        case ann.Pointwise():
            return np.asarray(np.moveaxis(node.function(np.moveaxis(inputs[0], 1, 0)), 0, 1))
        case ann.Product():
            return np.asarray(inputs[0] * inputs[1])
        case ann.MatrixProduct():
            second = inputs[1].swapaxes(-1, -2) if node.transposed else inputs[1]
            return np.asarray(inputs[0] @ second)
        case ann.Normalisation():
            axes = tuple(axis + 1 for axis in node.axes)
            centred = inputs[0] - inputs[0].mean(axis=axes, keepdims=True) if node.centred else inputs[0]
            variance = (centred * centred).mean(axis=axes, keepdims=True)
            return np.asarray(centred / np.sqrt(variance + np.float32(node.epsilon)))
        case ann.InnerSoftmax():
            return np.asarray(softmax(inputs[0], node.axis + 1))
        case ann.Maximum():
            axes = tuple(axis + 1 for axis in node.axes)
            return np.asarray(inputs[0].max(axis=axes, keepdims=True))
        case _:
            raise InternalError(f"the reference knows no {type(node).__name__}")


def levelled(node: ann.Levelled, y: FloatArray) -> FloatArray:
    """Return an activation within the range of the levels that were chosen for it, (batch, *shape)."""
    if node.step is None:
        return y.astype(np.float32)
    step = per_channel(node.step, len(node.shape))
    return np.clip(y, step * node.lowest, step * node.highest).astype(np.float32)


def softmax(x: FloatArray, axis: int) -> FloatArray:
    """Return the softmax along an axis, in the precision of ``x``."""
    exponential = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(exponential / exponential.sum(axis=axis, keepdims=True))


def _rectified(node: ann.Relu, x: FloatArray) -> FloatArray:
    rank = len(node.shape)
    if node.scale is not None:
        x = rounded(node, x)
        if node.threshold is None:
            return x
    shift = 0 if node.shift is None else per_channel(node.shift, rank)
    floor = np.float32(0) if node.floor is None else per_channel(node.floor, rank)
    y = np.maximum(x + shift, floor)
    for limit in (node.ceiling, node.threshold):
        if limit is not None:
            y = np.minimum(y, per_channel(limit, rank))
    return (y - shift).astype(np.float32)


def rounded(node: ann.Relu, x: FloatArray) -> FloatArray:
    """Return ``scale clip(round(x / scale), lowest, highest)`` for (batch, *shape), in float32."""
    if node.scale is None:
        raise InternalError(f"{node.name!r} rounds to no levels")
    scale = per_channel(node.scale, x.ndim - 1)
    levels = x / scale
    match node.rounding:
        case "half-even":
            levels = np.rint(levels)
        case "half-up":
            levels = np.floor(levels + np.float32(0.5))
        case _:
            levels = np.floor(levels)
    return (np.clip(levels, node.lowest, node.highest) * scale).astype(np.float32)
