"""What an evaluation found, in the words and the form of NeuroBench's results.

The keys are the names of NeuroBench's metrics (version 2), so that the JSON takes the place of what its
``Benchmark.save_benchmark_results`` writes. What they mean here: counts are per row and over all steps; a
unit spike at a synapse is an accumulate, an event of several levels a multiply-accumulate, as is each product
of the analogue first layer; synapses of weight zero are left out of the effective operations, and Dense
counts every synapse in every step.

Source: Yik et al., "The NeuroBench framework for benchmarking neuromorphic computing algorithms and systems",
Nature Communications 2025.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snnc.analysis.costs import Costs, unary
from snnc.analysis.evaluation import Evaluation
from snnc.analysis.node_costs import fan_outs
from snnc.errors import UsageError
from snnc.ir.operations import check_known
from snnc.ir.snn import ConstantCurrent, Encode, Function, IntegrateFire, Readout, SnnGraph, Weighted
from snnc.metrics.task import Task


def results(found: Evaluation, graph: SnnGraph) -> dict[str, Any]:
    """Return the results of NeuroBench's metrics.

    Args:
        found: of a network with one output.
        graph: that network.

    Raises:
        UsageError: it has several outputs, or there were no labels.
    """
    check_known(graph)
    costs = found.costs
    return {
        "Footprint": footprint(graph, costs.neurons),
        "ConnectionSparsity": costs.zero_weights,
        "ParameterCount": sum(array.size for array in _parameters(graph)),
        **_correctness(found),
        "ActivationSparsity": 1 - costs.events_per_neuron_per_step,
        "SynapticOperations": _operations(graph, costs),
        "MembraneUpdates": costs.neurons * costs.steps,
    }


def footprint(graph: SnnGraph, neurons: int) -> int:
    """Return the bytes of all parameters, of int32 states and of the quantised input."""
    check_known(graph)
    parameters = sum(array.nbytes for array in _parameters(graph))
    states = 4 * (neurons + sum(node.channels for node in graph.of_type(Readout)))
    for population in graph.of_type(IntegrateFire):
        more = (population.synapse_decay is not None) + (population.refractory > 0)
        states += 4 * more * int(np.prod(population.shape))
    for readout in graph.of_type(Readout):
        states += 4 * (readout.synapse_decay is not None) * int(np.prod(readout.shape))
    inputs = sum(2 * int(np.prod(node.shape)) for node in graph.of_type(Encode))
    return parameters + states + inputs


def dense(graph: SnnGraph, costs: Costs) -> int:
    """Return the operations if every neuron sent something in every step."""
    check_known(graph)
    reach = fan_outs(graph)
    each = sum(int(reach[node.name].sum()) for node in graph if isinstance(node, IntegrateFire | Function))
    return costs.first_layer_macs + int(costs.products) + costs.steps * each


def _parameters(graph: SnnGraph) -> list[np.ndarray]:
    """Return weights, and what populations, read-outs and constant currents hold."""
    found = [node.weight for node in graph.of_type(Weighted)]
    for node in graph.of_type(IntegrateFire):
        found += [node.threshold, node.bias, node.v_init]
        found += [
            values
            for values in (
                *(node.negative_threshold, node.breakpoints, node.step_values),
                *(node.decay, node.synapse_decay, node.reset_to, node.reset_by),
            )
            if values is not None
        ]
    for readout in graph.of_type(Readout):
        found += [v for v in (readout.bias, readout.decay, readout.synapse_decay) if v is not None]
    return found + [node.values for node in graph.of_type(ConstantCurrent)]


def _operations(graph: SnnGraph, costs: Costs) -> dict[str, float]:
    single = {node.name for node in graph.of_type(IntegrateFire) if unary(node.neuron)}
    effective = [(layer.name in single, layer.effective / costs.images) for layer in costs.senders]
    return {
        "Effective_MACs": costs.first_layer_effective
        + costs.products
        + sum(count for accumulates, count in effective if not accumulates),
        "Effective_ACs": sum(count for accumulates, count in effective if accumulates),
        "Dense": dense(graph, costs),
    }


def _correctness(found: Evaluation) -> dict[str, float]:
    """Return what NeuroBench calls correctness: accuracy, or R2 and the squared error of numbers."""
    scores = found.scores
    labelled = {each.metric: each.value for each in scores.measured if each.against == "labels"}
    if scores.task is Task.CLASSES and scores.top1 is not None:
        return {"ClassificationAccuracy": scores.top1.value}
    names = {"r2": "R2", "mse": "MSE"}
    told = {names[name]: value for name, value in labelled.items() if name in names}
    if not told:
        raise UsageError(
            "NeuroBench's results hold an accuracy, R2 or a squared error: give rows with labels, of "
            "classes or numbers"
        )
    return told
