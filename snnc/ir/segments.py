"""A network in segments: parts of a graph that read nothing of each other, and run one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from snnc.errors import VerificationError
from snnc.ir.graph import Graph, Node

N = TypeVar("N", bound=Node)
G = TypeVar("G", bound="Graph[Any]")


def segments_of(graph: Graph[N], segments: Mapping[str, int]) -> dict[str, frozenset[int]]:
    """Return the segments that each node belongs to: one, or those that read it where it reads no input.

    Args:
        graph: the network.
        segments: number of the segment of each input, by its name.

    Raises:
        VerificationError: a node reads two segments.
    """
    found: dict[str, frozenset[int]] = {}
    for node in graph:
        read = [found[name] for name in node.inputs]
        found[node.name] = frozenset((segments[node.name],)) if node.is_input else frozenset().union(*read)
        if len(found[node.name]) > 1:
            raise VerificationError(f"{graph.name}: {node.name!r} reads two segments of the network")
    constant = {name for name, places in found.items() if not places}
    for node in reversed(graph.nodes):
        for name in constant.intersection(node.inputs):
            found[name] |= found[node.name]
    return found


def split(graph: G, segments: Mapping[str, int]) -> tuple[G, ...]:
    """Return each segment as a network of its own, in order.

    Args:
        graph: the network.
        segments: number of the segment of each input, by its name: 0, 1 and so on.

    Raises:
        VerificationError: a node reads two segments, or a segment has no input or no output.
    """
    places = segments_of(graph, segments)
    found = []
    for number in range(1 + max(segments.values())):
        given = zip(graph.outputs, graph.output_names, strict=True)
        kept = [(node, name) for node, name in given if number in places[node]]
        nodes = tuple(node for node in graph.nodes if number in places[node.name])
        if not kept or not any(node.is_input for node in nodes):
            raise VerificationError(f"{graph.name}: its segment {number} has no input or no output")
        outputs, names = zip(*kept, strict=True)
        found.append(replace(graph, nodes=nodes, outputs=outputs, output_names=names))
    return tuple(found)
