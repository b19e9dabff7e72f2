"""A network over time that is in integers, in real units again: what its integers stand for, in float32."""

from __future__ import annotations

import numpy as np

from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.leak import WHOLE
from snnc.ir.operations import check_known
from snnc.ir.snn import IntegrateFire, Readout, SnnGraph, SnnNode, Weighted


def in_real_units(graph: SnnGraph) -> SnnGraph:
    """Return a network in float32 whose thresholds are 1, and whose read-outs have the unit 1.

    Quantised again its integers may differ by rounding: the unit of a channel is chosen anew.

    Args:
        graph: in integers; one input, currents that reach one population or read-out each.
    """
    check_known(graph)
    changed: dict[str, SnnNode] = {}
    for node in graph:
        if isinstance(node, Weighted):
            unit = current_unit(graph, node)
            weight = node.weight * per_channel(unit, node.weight.ndim)
            changed[node.name] = node.with_(weight=weight.astype(np.float32))
        elif isinstance(node, IntegrateFire | Readout):
            changed[node.name] = _real(node)
    return graph.replacing(changed)


def sink_of(graph: SnnGraph, name: str) -> IntegrateFire | Readout:
    """Return the population or read-out that a current reaches."""
    node = graph[name]
    while not isinstance(node, IntegrateFire | Readout):
        node = graph.consumers[node.name][0]
    return node


def along(unit: FloatArray, channels: int) -> FloatArray:
    """Return numbers of the channels of a sink for those of a weight, which may be flattened behind it.

    Args:
        unit: (channels of the sink,) or (1,).
        channels: of the weight.
    """
    return unit if len(unit) in (1, channels) else unit.reshape(channels, -1)[:, 0]


def current_unit(graph: SnnGraph, node: Weighted) -> FloatArray:
    """Return the real value of one unit of a weight in integers, (channels,) or (1,)."""
    sink = sink_of(graph, node.name)
    return along(_unit(sink) * np.float32(1 << sink.fraction_bits), len(node.weight))


def _unit(node: IntegrateFire | Readout) -> FloatArray:
    """Return the real value of one unit of a potential, (channels,) or (1,)."""
    if isinstance(node, IntegrateFire):
        return (1 / node.threshold).astype(np.float32)
    gain = np.ones(1, np.float32) if node.gain is None else node.gain
    return (gain * np.float32(node.scale)).astype(np.float32)


def _real(node: IntegrateFire | Readout) -> IntegrateFire | Readout:
    unit = _unit(node)

    def scaled(values: NumberArray | None) -> FloatArray | None:
        return None if values is None else (values * unit).astype(np.float32)

    def decay(values: NumberArray | None) -> FloatArray | None:
        return None if values is None else (values / np.float32(WHOLE)).astype(np.float32)

    leaks = {"decay": decay(node.decay), "synapse_decay": decay(node.synapse_decay), "fraction_bits": 0}
    if isinstance(node, Readout):
        return node.with_(bias=scaled(node.bias), scale=1.0, gain=None, **leaks)
    return node.with_(
        threshold=scaled(node.threshold),
        bias=scaled(node.bias),
        v_init=scaled(node.v_init),
        reset_to=scaled(node.reset_to),
        reset_by=scaled(node.reset_by),
        spike_scale=node.spike_scale if node.leaky else np.ones_like(node.spike_scale),
        **leaks,
    )
