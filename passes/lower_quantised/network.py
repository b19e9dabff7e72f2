"""The whole network: what each operation becomes, in order, and the read-outs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from snnc.ir import ann, snn
from snnc.metrics.task import Task
from snnc.numerics.integer_sums import Counts, IntegerSum, Sum, scaled
from snnc.passes.lower_quantised.populations import population
from snnc.passes.lower_quantised.reshaping import flattened, move
from snnc.passes.lower_quantised.synapses import added, average, encode, weigh
from snnc.passes.lower_quantised.walk import Value, Walk, fields_of, unsupported


def spiking_network(walk: Walk, task_of: Callable[[str], Task | None]) -> snn.SnnGraph:
    """Return the integer spiking network of the graph that is walked over.

    Args:
        walk: one that has not begun.
        task_of: what an output is, by its name.
    """
    graph = walk.graph
    for node in graph:
        walk.values[node.name] = lowered(walk, node, [walk.values[name] for name in node.inputs])
    given = zip(graph.output_names, graph.outputs, strict=True)
    outputs = tuple(readout(walk, name, graph[node], task_of(name)) for name, node in given)
    made = snn.SnnGraph(
        name=graph.name,
        nodes=tuple(walk.written.values()),
        outputs=outputs,
        output_names=graph.output_names,
        timesteps=walk.timesteps,
    )
    needed = made.ancestors(outputs) | {node.name for node in graph.inputs}
    return made.with_nodes([node for node in made if node.name in needed])


def lowered(walk: Walk, node: ann.AnnNode, inputs: list[Value]) -> Value:
    """Return what one operation becomes."""
    match node, inputs:
        case ann.Input(), _:
            return encode(walk, node)
        case ann.Constant(), _:
            none = np.zeros(node.channels)
            return Sum((), none, node.values.astype(np.float64))
        case ann.Softmax(), [value]:
            return value
        case _, [value] if node.name in walk.encoded:
            return value
        case ann.ChannelAffine(), [value]:
            return scaled(value, node.scale.astype(np.float64), node.shift.astype(np.float64))
        case ann.BatchNormalisation(), [value]:
            gain = node.scale.astype(np.float64) / np.sqrt(node.variance.astype(np.float64) + node.epsilon)
            return scaled(value, gain, node.shift - node.mean.astype(np.float64) * gain)
        case ann.Convolution() | ann.Linear(), [Counts() as counts]:
            return weigh(walk, node, counts)
        case ann.Relu(), [value]:
            return population(walk, node, value)
        case ann.Add(), _:
            return added(walk, node, inputs)
        case ann.AveragePool(), [value]:
            return average(walk, node, value)
        case ann.MaxPool(), [Counts() as counts] if (counts.unit > 0).all() and (
            counts.unit == counts.unit[0]
        ).all():
            walk.append(snn.CountMaxPool(window=node.window, **fields_of(node, counts.name)))
            return replace(counts, name=node.name)
        case ann.Reshape(), [Sum() as total] if len(node.shape) == 1:
            return flattened(walk, node, total)
        case ((ann.Reshape() | ann.Pad() | ann.Slice() | ann.Gather() | ann.Concat()), _) if all(
            isinstance(value, Counts) for value in inputs
        ):
            return move(walk, node, [value for value in inputs if isinstance(value, Counts)])
        case _:
            raise unsupported(
                node,
                f"{type(node).__name__} reads a value that is not rounded to levels",
                "quantise what it reads, or choose another preset",
            )


def readout(walk: Walk, name: str, node: ann.AnnNode, task: Task | None) -> str:
    """Write the accumulated output down, and return the name of its node."""
    total = walk.as_sum(walk.values[node.name], node)
    scores = math.prod(node.shape) == node.channels and task is not Task.REGRESSION
    integers = IntegerSum(node, total, walk.timesteps, scores, walk.most)
    inputs = walk.write(integers)
    step = integers.step * walk.timesteps
    scale = float(step.max())
    bias = np.rint(total.bias / step)
    alone = len(walk.graph.outputs) == 1
    if integers.reason:
        walk.approximated["read-out" if alone else name] = integers.reason
    readout = snn.Readout(
        name=walk.names.fresh("readout" if alone else f"{name}.readout"),
        inputs=inputs,
        shape=node.shape,
        origin=node.origin,
        bias=np.clip(bias, -(2**30), 2**30).astype(np.int32),
        scale=scale,
        gain=None if scores else (step / scale).astype(np.float32),
    )
    return walk.append(readout)
