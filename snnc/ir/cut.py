"""Where a network is cut so that only what lies behind is learned further."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from snnc.errors import UsageError
from snnc.ir.kinds import ValueKind, value_kinds
from snnc.ir.operations import check_known
from snnc.ir.snn import Linear, SnnGraph, SnnNode, Weighted


@dataclass(frozen=True, slots=True)
class Cut:
    """One place that all that reaches the answer goes through.

    Attributes:
        name: the layer as the user names it.
        latent: the node whose spikes, summed over the run, are what is learned from.
        tail: the nodes behind, in order; nothing before them ever changes.
    """

    name: str
    latent: str
    tail: tuple[str, ...]

    def is_classifier(self, graph: SnnGraph) -> bool:
        """Whether only one linear layer and the read-out lie behind."""
        return [type(graph[name]).__name__ for name in self.tail] == ["Linear", "Readout"]


def find_cut(graph: SnnGraph, name: str | None = None) -> Cut:
    """Return the cut at a layer: before its weights, or behind it where it is a population.

    Args:
        graph: the network.
        name: the layer; the classifier by default.

    Raises:
        UsageError: the network has no such layer, no classes, or something goes round the layer.
    """
    check_known(graph)
    if (what := graph.changing) is not None:
        raise UsageError(f"{graph.name} cannot learn after its conversion: {what}")
    if len(graph.outputs) > 1 or len(graph.readout.shape) > 1 or graph.readout.gain is not None:
        raise UsageError(
            f"{graph.name} is no classifier of one output: only classes can be added or improved"
        )
    if prod(graph.readout.shape) < 2:
        raise UsageError(f"{graph.name} has one output, which says yes or no: only classes can be added")
    if name is None:
        name = _classifier(graph)
    if name not in graph:
        raise UsageError(f"{graph.name} has no layer {name!r}: name one of {_listed(graph)} by --cut")
    node = graph[name]
    latent = node.inputs[0] if isinstance(node, Weighted) else name
    if value_kinds(graph)[latent] is not ValueKind.SPIKES:
        raise UsageError(f"{name!r} gives a current, not spikes: name one of {_listed(graph)} by --cut")
    before = graph.ancestors([latent])
    # What stands beside the cut belongs to neither side unless it is constant or read behind it alone.
    tail = tuple(each.name for each in graph if each.name not in before)
    for each in tail:
        if graph[each].is_input:
            raise UsageError(f"the input {each!r} goes round {name!r}: name a layer behind it by --cut")
        for read in graph[each].inputs:
            if read in before and read != latent:
                raise UsageError(
                    f"{each!r} reads {read!r} past {name!r}: name a layer by --cut that all goes through"
                )
    return Cut(name, latent, tail)


def features(graph: SnnGraph, cut: Cut) -> int:
    """Return how many counts there are at a cut."""
    return prod(graph[cut.latent].shape)


def _classifier(graph: SnnGraph) -> str:
    read = graph.readout.inputs
    node = graph[read[0]]
    if len(read) > 1 or not isinstance(node, Linear) or not graph.read_once(node.name):
        raise UsageError(
            f"{graph.name} does not end with one linear layer: name one of {_listed(graph)} by --cut"
        )
    return node.name


def _listed(graph: SnnGraph) -> str:
    """Return layers that may be named, the last ones first."""

    def may(node: SnnNode) -> bool:
        return type(node).__name__ in ("IntegrateFire", "Linear")

    found = [repr(node.name) for node in reversed(graph.nodes) if may(node)][:4]
    return ", ".join(found) or "its populations"
