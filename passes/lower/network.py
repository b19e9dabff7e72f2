"""The whole network: what each operation becomes, in order, and the read-outs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from snnc.ir import ann, snn
from snnc.metrics.task import Task
from snnc.passes.lower.functions import count_function
from snnc.passes.lower.inputs import InputCode, encode
from snnc.passes.lower.populations import population, stepped
from snnc.passes.lower.reshaping import fits, move, moved, padding, padding_map
from snnc.passes.lower.synapses import average, weigh
from snnc.passes.lower.values import RECTIFIED, Current, Spikes, Value, fields_of, unsupported
from snnc.passes.lower.walk import Walk


def spiking_network(
    walk: Walk, codes: Mapping[str, InputCode], task_of: Callable[[str], Task | None]
) -> snn.SnnGraph:
    """Return the spiking network of the graph that is walked over.

    Args:
        walk: one that has not begun.
        codes: how each input is encoded, by its name.
        task_of: what an output is, by its name.
    """
    graph = walk.graph
    for node in graph:
        walk.values[node.name] = lowered(walk, codes, node, [walk.values[name] for name in node.inputs])
    given = zip(graph.output_names, graph.outputs, strict=True)
    outputs = tuple(readout(walk, name, graph[node], task_of(name)) for name, node in given)
    return snn.SnnGraph(
        name=graph.name,
        nodes=tuple(walk.written.values()),
        outputs=outputs,
        output_names=graph.output_names,
        timesteps=walk.timesteps,
    )


def lowered(walk: Walk, codes: Mapping[str, InputCode], node: ann.AnnNode, inputs: Sequence[Value]) -> Value:
    """Return what one operation becomes."""
    match node, inputs:
        case ann.Input(), _:
            return encode(walk, node, codes[node.name])
        case ann.Constant(), _:
            constant = snn.ConstantCurrent(values=node.values, **fields_of(node))
            return Current(((constant,),), np.zeros(node.channels, np.float32))
        case ann.ChannelAffine(), _ if any(node is code.affine for code in codes.values()):
            return inputs[0]
        case ann.Softmax(), [value]:
            return value
        case ann.ChannelAffine(), [Spikes() as spikes]:
            # The same spikes, read in another unit.
            shift = node.scale * spikes.shift - node.shift
            return replace(
                spikes,
                spike_scale=spikes.spike_scale * node.scale,
                shift=shift,
                floor=spikes.floor * node.scale,
            )
        case ann.Convolution() | ann.Linear(), [Spikes() as spikes]:
            return weigh(walk, node, spikes)
        case ann.Relu(), [value]:
            return population(walk, node, walk.as_current(value, node))
        case ann.Pointwise(), [value]:
            return stepped(walk, node, walk.as_current(value, node))
        case ann.Levelled(), _:
            return count_function(walk, node, inputs)
        case ann.Add(), _:
            currents = [
                walk.as_current(value, walk.graph[name])
                for value, name in zip(inputs, node.inputs, strict=True)
            ]
            terms = tuple(term for current in currents for term in current.terms)
            bias = np.stack([current.bias for current in currents]).sum(axis=0, dtype=np.float32)
            return Current(terms, np.asarray(bias))
        case ann.AveragePool(), [value]:
            return average(walk, node, value)
        case ann.MaxPool(), [Spikes() as spikes]:
            if (spikes.spike_scale < 0).any():
                raise unsupported(
                    node,
                    "a maximum of values whose sign was turned is a minimum of spikes",
                    RECTIFIED,
                )
            pool = snn.CountMaxPool(window=node.window, **fields_of(node, spikes.name))
            walk.append(pool)
            return replace(spikes, name=node.name)
        case ann.MaxPool(), [Current(terms=(chain,)) as current]:
            pooled = snn.CurrentMaxPool(window=node.window, **fields_of(node, chain[-1].name))
            return Current(((*chain, pooled),), current.bias)
        case ann.Reshape() | ann.Gather(), [Spikes() as spikes] if not fits(node, spikes, walk.graph):
            before = walk.graph[node.inputs[0]]
            return moved(walk, node, before, walk.as_current(spikes, before))
        case ann.Reshape() | ann.Gather(), [Current() as current]:
            return moved(walk, node, walk.graph[node.inputs[0]], current)
        case ann.Pad(), [Spikes() as spikes] if spikes.shift.any() and len(node.shape) not in (1, 3):
            before = walk.graph[node.inputs[0]]
            return moved(walk, padding_map(node, before.shape), before, walk.as_current(spikes, before))
        case ann.Pad(), [Spikes() as spikes] if spikes.shift.any():
            return weigh(walk, padding(node, walk.graph[node.inputs[0]].shape), spikes)
        case ann.Reshape() | ann.Pad() | ann.Slice() | ann.Concat() | ann.Gather(), _ if all(
            isinstance(value, Spikes) for value in inputs
        ):
            return move(walk, node, [value for value in inputs if isinstance(value, Spikes)])
        case _:
            needed = "fold-batchnorm" if isinstance(node, ann.BatchNormalisation) else "rectify-linear"
            raise unsupported(
                node,
                f"{type(node).__name__} cannot read a sum of currents here",
                f"put `{needed}` before `lower`",
            )


def readout(walk: Walk, name: str, node: ann.AnnNode, task: Task | None) -> str:
    """Write the read-out of an output down, and return the name of its node.

    Where values are no class scores, which are compared with each other, each channel gets a unit of its
    own.
    """
    current = walk.as_current(walk.values[node.name], node)
    scores = math.prod(node.shape) == node.channels and task is not Task.REGRESSION
    alone = len(walk.graph.outputs) == 1
    readout = snn.Readout(
        name=walk.names.fresh("readout" if alone else f"{name}.readout"),
        inputs=walk.emit(current, own=True),
        shape=node.shape,
        origin=node.origin,
        bias=current.bias,
        gain=None if scores else np.ones(node.channels, np.float32),
    )
    return walk.append(readout)
