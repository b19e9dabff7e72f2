"""What fits Loihi 2, by its public figures.

Sources: Intel, "Taking Neuromorphic Computing to the Next Level with Loihi 2", Technology Brief, 2021 (cores,
neurons, synapses, memory, graded spikes up to 32 bits); the precisions that lava 0.10 writes beside the
variables of its fixed-point processes (8-bit weights, 17-bit threshold mantissas, 24-bit states).
"""

from __future__ import annotations

from math import ceil, prod
from typing import Any

import numpy as np

from snnc.backends.chain import Layer
from snnc.ir.bounds import step_bounds, weight_sums
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.neuron import Schedule
from snnc.ir.snn import Encode, IntegrateFire, Readout, SnnGraph, Weighted
from snnc.simulation.targets import Unsupported

CORES = 128
NEURONS_PER_CORE = 8192
BYTES_PER_CORE = 192 * 1024
SYNAPSES_PER_CHIP = 120_000_000
STATE_BITS = 24
MANTISSA_BITS = 17
WEIGHT_BITS = 8
EXPONENTS = range(8)
"""Left shifts of a mantissa: three bits."""

MARGIN = 0.9
"""How far below the limit the numbers of a new conversion should stay: it rounds anew."""

VARIABLES_PER_NEURON = 4
"""v, N, threshold and bias, each of which a core keeps in 32 bits."""


def mantissas(values: IntArray) -> tuple[IntArray, IntArray]:
    """Return mantissas and exponents such that ``mantissa << exponent`` is the value, or lies below it."""
    exponents = np.zeros_like(values)
    for exponent in EXPONENTS:
        exponents = np.where((values >> exponents) >= 2**MANTISSA_BITS, exponent, exponents)
    return np.minimum(values >> exponents, 2**MANTISSA_BITS - 1), exponents


def without_mantissa(values: IntArray) -> IntArray:
    """Return those values that have no exact mantissa and exponent."""
    found, exponents = mantissas(values)
    return values[found << exponents != values]


def _integers(values: NumberArray) -> IntArray:
    """Return the array of a quantised network as what it is."""
    return values.astype(np.int64)


def potential_bounds(graph: SnnGraph) -> dict[str, int]:
    """Return the largest magnitude that any potential of each population, or the read-out, can reach."""
    step = step_bounds(graph, graph.timesteps)
    steps = graph.timesteps + graph.settle_steps
    found = {}
    for node in graph:
        if not isinstance(node, IntegrateFire | Readout):
            continue
        current = np.abs(node.bias.astype(np.int64))
        for name in node.inputs:
            source = graph[name]
            if isinstance(source, Weighted) and source.shape[0] == len(current):
                current = current + weight_sums(_integers(source.weight)) * step[source.inputs[0]]
            else:
                current = current + step[name]
        start = node.v_init if isinstance(node, IntegrateFire) else np.zeros(1)
        found[node.name] = int(np.abs(start.astype(np.int64)).max() + steps * current.max())
    return found


def problems(graph: SnnGraph) -> tuple[Unsupported, ...]:
    """Return what keeps the numbers of a network from the chip."""
    if not graph.integer:
        node = graph[graph.output]
        reason = "float32 parameters: the chip has integers only"
        return (Unsupported(node.name, node.origin, reason, "convert with --precision int8"),)
    found = []
    if graph.schedule is not Schedule.SYNCHRONOUS:
        node = graph[graph.output]
        reason = "the layerwise schedule: on the chip every population fires in every step"
        found.append(Unsupported(node.name, node.origin, reason, "convert without --set set-schedule.kind"))
    limit = graph.encoder.limit
    for name, bound in potential_bounds(graph).items():
        node = graph[name]
        excess = bound / (2 ** (STATE_BITS - 1) - 1)
        reason = f"potentials may reach {bound:,}, beyond the {STATE_BITS} bits of a state"
        inexact: IntArray = np.zeros(0, np.int64)
        if isinstance(node, IntegrateFire):
            inexact = without_mantissa(_integers(node.threshold))
        if excess <= 1 and len(inexact):
            excess = int(inexact.max()) / (2**MANTISSA_BITS - 1)
            reason = (
                f"a threshold of {int(inexact.max()):,} has no mantissa of {MANTISSA_BITS} bits "
                f"and exponent up to {EXPONENTS[-1]}"
            )
        if excess > 1:
            found.append(Unsupported(name, node.origin, reason, _smaller(graph, name, limit, excess)))
    return tuple(found)


def _smaller(graph: SnnGraph, name: str, limit: int, excess: float) -> str:
    """Return how to make the numbers of a population smaller."""
    synapse = graph[graph[name].inputs[0]]
    first = synapse.inputs and isinstance(graph[synapse.inputs[0]], Encode)
    wanted = int(limit / excess * MARGIN)
    if first and wanted >= 1:
        return f"quantise the input more coarsely: convert with --set lower.input-limit={wanted}"
    return "use fewer time steps"


def fit(graph: SnnGraph, layers: tuple[Layer, ...]) -> dict[str, Any]:
    """Return what the network takes of the chip, as facts of the manifest.

    Cores are a lower bound: neurons and memory divided by what a core has. Kernels of convolutions are
    counted once, as the chip can share them.
    """
    rows = [_row(layer) for layer in layers]
    cores = sum(row["cores_at_least"] for row in rows)
    synapses = sum(row["synapses"] for row in rows)
    return {
        "chip": "Loihi 2",
        "neurons": sum(row["neurons"] for row in rows),
        "synapses": synapses,
        "weight_bytes": sum(row["weight_bytes"] for row in rows),
        "cores_at_least": cores,
        "chips_at_least": ceil(max(cores / CORES, 1)),
        "largest_fan_in": max(row["fan_in"] for row in rows),
        "weight_bits": WEIGHT_BITS,
        "state_bits_used": max(potential_bounds(graph).values()).bit_length() + 1,
        "layers": rows,
        "limits": {
            "cores": CORES,
            "neurons_per_core": NEURONS_PER_CORE,
            "bytes_per_core": BYTES_PER_CORE,
            "synapses_per_chip": SYNAPSES_PER_CHIP,
        },
        "fits_one_chip": cores <= CORES and synapses <= SYNAPSES_PER_CHIP,
    }


def _row(layer: Layer) -> dict[str, Any]:
    """Return what a layer takes."""
    neurons = prod(layer.neurons.shape)
    fan_in = int(np.count_nonzero(layer.weight.reshape(len(layer.weight), -1), axis=1).max())
    connections = np.count_nonzero(layer.weight) * (neurons // len(layer.weight))
    memory = layer.weight.size + 4 * VARIABLES_PER_NEURON * neurons
    return {
        "population": layer.neurons.name,
        "onnx_node": layer.neurons.origin,
        "neurons": neurons,
        "fan_in": fan_in,
        "synapses": int(connections),
        "weight_bytes": int(layer.weight.size),
        "cores_at_least": max(ceil(neurons / NEURONS_PER_CORE), ceil(memory / BYTES_PER_CORE)),
    }
