"""What one spike of a node reaches, and what one evaluation of it takes.

The fan-out of a neuron is the number of synapses that its spike reaches. It depends on its position, because
a spike at the border of a map reaches fewer windows. It is traced back through all nodes that pool, join and
move spikes: each summing window that contains a spike passes it on once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InternalError
from snnc.ir import snn
from snnc.ir.channels import per_channel
from snnc.ir.geometry import ABSENT, Window
from snnc.ir.graph import Shape
from snnc.ir.kinds import ValueKind, value_kinds
from snnc.ir.operations import Operation, operations, unmatched

CountMap = NDArray[np.int64]


def fan_outs(graph: snn.SnnGraph, *, effective: bool = False) -> dict[str, CountMap]:
    """Return for each node that gives spikes how many synapses one event of each neuron reaches.

    Args:
        graph: the network.
        effective: leave out synapses whose weight is zero.

    Returns:
        One map per node, of the node's own shape. Only the sum of the encoder's map is meaningful: it is the
        number of multiplications of the analogue first layer. Where the input is pooled before it is
        multiplied, the multiplication is assigned to one pixel of the window.
    """
    kinds = value_kinds(graph)
    raw = _raw(graph)
    maps = {
        node.name: np.zeros(node.shape, np.int64) for node in graph if kinds[node.name] is ValueKind.SPIKES
    }
    # In a circle the source of a delay comes behind its readers, so delays take their turn last.
    nodes = reversed(operations(graph))
    for node in sorted(nodes, key=lambda node: isinstance(node, snn.Delay)):
        reach = maps.get(node.name)
        if isinstance(node, snn.Concat):
            start = 0
            for name in node.inputs:
                stop = start + graph[name].channels
                maps[name] += reach[start:stop] if reach is not None else 0
                start = stop
        elif not isinstance(node, snn.Encode | snn.IntegrateFire | snn.ConstantCurrent | snn.Function):
            for name in (*node.inputs, *node.earlier):
                if name not in maps:
                    continue
                if (
                    reach is not None
                    and node.name in raw
                    and isinstance(node, snn.SumPool | snn.CountMaxPool)
                ):
                    maps[name][:, 0, 0] += reach.sum(axis=(1, 2))
                else:
                    maps[name] += _pulled_back(node, reach, graph[name].shape, effective=effective)
    return maps


def _raw(graph: snn.SnnGraph) -> frozenset[str]:
    """Return the names of the nodes that hold the quantised input alone, pooled or moved."""
    found: set[str] = set()
    for node in graph:
        weightless = not isinstance(
            node, snn.Weighted | snn.IntegrateFire | snn.ConstantCurrent | snn.Readout | snn.Function
        )
        sources = (*node.inputs, *node.earlier)
        if weightless and found.issuperset(sources):
            found.add(node.name)
    return frozenset(found)


def _pulled_back(node: Operation, reach: CountMap | None, shape: Shape, *, effective: bool) -> CountMap:
    """Return how many synapses an event at each position of a node's input reaches through this node.

    Args:
        node: the reader.
        reach: fan-out of the node's own events; ``None`` where it gives a current.
        shape: of the input.
        effective: leave out synapses whose weight is zero.
    """
    if effective and isinstance(node, snn.Weighted):
        return _effective(node, shape)
    none = np.zeros(shape, np.int64)
    match node:
        case snn.Convolution():
            per_group = np.full((1, *node.shape[1:]), node.channels // node.groups, np.int64)
            return np.broadcast_to(_readers(per_group, node.window, (1, *shape[1:])), shape)
        case snn.Linear():
            return np.full(shape, node.channels, np.int64)
        case snn.ChannelWeight():
            return np.ones(shape, np.int64)
        case snn.CurrentMaxPool() | snn.Readout():
            return none
        case _ if reach is None:
            return none
        case snn.SumPool() | snn.CountMaxPool():
            return _readers(reach, node.window, shape)
        case snn.Reshape() | snn.Delay():
            return reach.reshape(shape)
        case snn.Pad():
            return reach[tuple(slice(b, b + n) for b, n in zip(node.before, shape, strict=True))]
        case snn.Slice():
            none[tuple(map(slice, node.start, node.stop, node.step))] = reach
            return none
        case snn.Gather():
            present = node.index != ABSENT
            np.add.at(none.reshape(-1), node.index[present], reach[present])
            return none
        case (
            snn.CountProduct()
            | snn.CountMatrixProduct()
            | snn.CountSoftmax()
            | snn.CountNormalisation()
            | snn.CountMaximum()
        ):
            raise InternalError(f"events do not pass through {node.name!r}, which sends its own")
        case snn.Encode() | snn.IntegrateFire() | snn.ConstantCurrent() | snn.Concat():
            raise InternalError(f"events do not pass through {node.name!r}")
        case _:
            raise unmatched(node)


def _effective(node: snn.Weighted, shape: Shape) -> CountMap:
    """Return how many synapses of a weight other than zero an event at each position of the input reaches."""
    alive = node.weight != 0
    if isinstance(node, snn.Convolution):
        by_group = alive.reshape(node.groups, -1, *alive.shape[1:]).sum(axis=1, dtype=np.int64)
        taps = by_group.reshape(shape[0], *node.window.kernel)
        return _readers(np.ones((1, *node.shape[1:]), np.int64), node.window, shape, taps)
    reached = alive.sum(axis=0, dtype=np.int64) if isinstance(node, snn.Linear) else alive.astype(np.int64)
    return np.broadcast_to(per_channel(reached, len(shape)), shape)


def _readers(values: CountMap, window: Window, shape: Shape, taps: CountMap | None = None) -> CountMap:
    """Return for each input position the sum of ``values`` over the windows that hold it.

    Args:
        values: (channels, output height, output width), of each window.
        window: geometry.
        shape: of the input.
        taps: (channels, *kernel), how often each place of a window counts; once by default.
    """
    top, left, bottom, right = window.pads
    channels, height, width = shape
    found = np.zeros((channels, height + top + bottom, width + left + right), np.int64)
    rows, columns = values.shape[1:]
    down, across = window.strides
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            y, x = i * window.dilations[0], j * window.dilations[1]
            counted = values if taps is None else values * taps[:, i, j, None, None]
            found[:, y : y + down * rows : down, x : x + across * columns : across] += counted
    return found[:, top : top + height, left : left + width]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation of a node takes beside the synapses that its events reach.

    Attributes:
        products: multiplications by a count or a decay, MACs.
        lookups: table look-ups.
        divisions: divisions and square roots.
    """

    products: int = 0
    lookups: int = 0
    divisions: int = 0


NOTHING = Evaluation()


def evaluation(graph: snn.SnnGraph, node: Operation) -> Evaluation:
    """Return what a node computes in one step for one image, beside its synapses.

    Sums into read-outs count nothing, and neither do the few products of one that leaks.
    """
    size = prod(node.shape)
    match node:
        case snn.IntegrateFire():
            decays = (node.decay is not None) + (node.synapse_decay is not None)
            return Evaluation(products=decays * size, lookups=0 if node.breakpoints is None else size)
        case snn.CountProduct():
            return Evaluation(products=2 * size)
        case snn.CountMatrixProduct():
            return Evaluation(products=size * (graph[node.inputs[0]].shape[-1] + 1))
        case snn.CountSoftmax():
            return Evaluation(products=size, lookups=size, divisions=size)
        case snn.CountNormalisation():
            # A square and a scaling for each element; a division for each, and a root for each group.
            return Evaluation(products=2 * size, divisions=size + size // node.elements(node.shape))
        case (
            snn.Encode()
            | snn.Convolution()
            | snn.Linear()
            | snn.ChannelWeight()
            | snn.ConstantCurrent()
            | snn.SumPool()
            | snn.CountMaxPool()
            | snn.CountMaximum()
            | snn.CurrentMaxPool()
            | snn.Concat()
            | snn.Reshape()
            | snn.Pad()
            | snn.Slice()
            | snn.Gather()
            | snn.Delay()
            | snn.Readout()
        ):
            return Evaluation()
        case _:
            raise unmatched(node)
