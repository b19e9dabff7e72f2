"""What NIR and its consumers cannot express, and in which points they differ from the artefact."""

from __future__ import annotations

from snnc.backends.nir.layers import misfit
from snnc.backends.nir.profiles import Profile, Rule
from snnc.backends.nir.rates import FORGETFUL
from snnc.ir.kinds import ValueKind, value_kinds
from snnc.ir.neuron import Schedule
from snnc.ir.operations import populations
from snnc.ir.snn import (
    Concat,
    ConstantCurrent,
    CountMaxPool,
    CurrentMaxPool,
    IntegrateFire,
    Pad,
    Reshape,
    Slice,
    SnnGraph,
    SnnNode,
)
from snnc.simulation.targets import Unsupported, several_inputs_or_outputs, unknown_operations

BARRIER = "convert with --set set-schedule.kind=layerwise"


def runs_once(graph: SnnGraph) -> bool:
    """Whether a network can run in one step: by its schedule, or because it has one step anyway."""
    return graph.schedule is Schedule.LAYERWISE or (graph.timesteps, graph.settle_steps) == (1, 0)


def problems(graph: SnnGraph, profile: Profile) -> tuple[Unsupported, ...]:
    """Return what keeps a network from a profile, node by node."""
    if several := several_inputs_or_outputs(graph):
        return several
    if not graph.integer:
        node = graph[graph.output]
        reason, cure = "float32 networks have no exact spikes", "convert with --precision int8"
        return (Unsupported(node.name, node.origin, reason, cure),)
    if found := list(unknown_operations(graph)):
        return tuple(found)
    for node in graph:
        for reason, cure in _against(graph, node, profile):
            found.append(Unsupported(node.name, node.origin, reason, cure))
    return tuple(found)


def _against(graph: SnnGraph, node: SnnNode, profile: Profile) -> list[tuple[str, str]]:
    """Return reasons and cures."""
    in_time = not runs_once(graph)
    elsewhere = "use the target c99 or spiking-onnx"
    match node:
        case ConstantCurrent():
            return [("NIR has one bias per channel, not one per neuron", elsewhere)]
        case Reshape() if _flattens_current(graph, node):
            return [("NIR has one bias per channel of a map that is read out, not one per value", elsewhere)]
        case Concat():
            return [("NIR cannot join two nodes along the channels", elsewhere)]
        case CountMaxPool() | CurrentMaxPool() if in_time:
            return [("NIR has no max-pooling", f"{BARRIER}, which needs none, or use average pooling")]
        case CountMaxPool() if not _of_populations(graph, node):
            reason = "the maximum of counts can only be taken of a population's own, not of sums or the input"
            return [(reason, elsewhere)]
        case CurrentMaxPool() if any(
            not isinstance(reader, IntegrateFire) or len(reader.inputs) > 1
            for reader in graph.consumers[node.name]
        ):
            return [("the maximum of a current can only be taken right before its population", elsewhere)]
        case IntegrateFire() if in_time and node.neuron.levels > 1 and profile.rule is not Rule.SUBTRACT:
            reason = f"a spike carries {node.neuron.levels} levels, those of {profile.name} carry one"
            return [(reason, f"{BARRIER}, or with --preset binary-only")]
        case _ if len(node.shape) not in (1, 3):
            return [(f"the shape {node.shape} is neither a vector nor (channels, height, width)", elsewhere)]
        case _:
            geometry = misfit(node, graph[node.inputs[0]].shape) if node.inputs else None
            return [] if geometry is None else [(geometry, elsewhere)]


def _flattens_current(graph: SnnGraph, node: Reshape) -> bool:
    kind = value_kinds(graph)[node.name]
    return kind is ValueKind.CURRENT and node.channels != graph[node.inputs[0]].channels


def _of_populations(graph: SnnGraph, node: CountMaxPool) -> bool:
    """Whether each count is that of one neuron, so that its copies with rising thresholds tell it.

    Only then is the maximum, level by level, whether any of them fired: in a sum of counts, or in the input,
    no neuron stands for a level.
    """
    source = graph[node.inputs[0]]
    while isinstance(source, CountMaxPool | Reshape | Pad | Slice):
        source = graph[source.inputs[0]]
    return isinstance(source, IntegrateFire)


def differences(graph: SnnGraph, profile: Profile) -> tuple[str, ...]:
    """Say in which points the consumer differs; in none where a network runs in one step."""
    if runs_once(graph):
        return ()
    neurons = [node.neuron for node in graph.of_type(IntegrateFire)]
    rules = [rule for _, rule in populations(graph)]
    found = []
    if profile.rule is Rule.SUBTRACT:
        found.append("a neuron sends as many spikes a step as its potential holds, without an upper limit")
        found.append("a potential below minus one threshold is raised to it")
    else:
        found.append("a spike resets the potential to zero, and what lay above the threshold is lost")
        if graph.timesteps > 2:
            found.append(f"thresholds are {FORGETFUL:.3f} of the artefact's, to make up for that on average")
        if any(neuron.limit is None or neuron.limit > 1 for neuron in neurons):
            found.append("a neuron sends one spike a step at most")
    if any(rule.remembers for rule in rules):
        found.append("no spike is taken back by a negative one")
    found.append("potentials start at zero, and what they should start at is spread over the steps")
    if graph.settle_steps:
        found.append(f"the {graph.settle_steps} settle steps are left out")
    return tuple(found)
