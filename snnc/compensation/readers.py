"""What readers of a population receive on average, added to their biases."""

from __future__ import annotations

import numpy as np

from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.snn import IntegrateFire, Readout, SnnGraph, SnnNode
from snnc.simulation.reference import propagate


def raised_readers(graph: SnnGraph, name: str, spikes: FloatArray) -> SnnGraph:
    """Add to the float32 biases behind a population what so many more spikes a step would bring.

    Where a window overlaps padding, the bias is that of the inside.

    Args:
        graph: the network.
        name: the population.
        spikes: (channels,), of any sign.
    """
    if not spikes.any():
        return graph
    shape = graph[name].shape
    constant = np.broadcast_to(per_channel(spikes, len(shape)), shape)
    trains: dict[str, NumberArray] = {name: constant[None, None].astype(np.float32)}
    changed: dict[str, SnnNode] = {}
    for node in graph:
        if not any(source in trains for source in node.inputs):
            continue
        none = {source: np.zeros((1, 1, *graph[source].shape), np.float32) for source in node.inputs}
        read = [trains.get(source, none[source]) for source in node.inputs]
        if isinstance(node, IntegrateFire | Readout):
            middle = tuple(size // 2 for size in node.shape[1:])
            more = np.add.reduce(read)[(0, 0, slice(None), *middle)]
            changed[node.name] = node.with_(bias=(node.bias + more).astype(np.float32))
        else:
            trains[node.name] = propagate(node, read)
    return graph.replacing(changed)
