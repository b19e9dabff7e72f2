"""Parts of a graph between two tensors, of which the later depends on nothing but the earlier."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx

from snnc.frontend.functions import DEFAULT_DOMAINS


@dataclass(frozen=True, slots=True)
class Region:
    """A function of one tensor, spelt by several nodes.

    Attributes:
        root: the tensor that it reads.
        end: the tensor that it gives.
        places: the numbers of its nodes in the graph, in order.
    """

    root: str
    end: str
    places: tuple[int, ...]


def dominators(
    nodes: Sequence[onnx.NodeProto], constant: Collection[str], kinds: Collection[str]
) -> tuple[dict[str, int], dict[str, frozenset[str]]]:
    """Return who makes each tensor, and the tensors through which everything goes that it depends on.

    Args:
        nodes: in topological order.
        constant: names of tensors that are constant.
        kinds: the operators through which to look.
    """
    place: dict[str, int] = {}
    roots: dict[str, frozenset[str]] = {}
    for number, node in enumerate(nodes):
        read = {name for name in node.input if name and name not in constant}
        for name in node.output:
            place[name] = number
            own = frozenset({name})
            if node.domain in DEFAULT_DOMAINS and node.op_type in kinds and read:
                shared = [roots.get(each, frozenset({each})) for each in read]
                own |= frozenset.intersection(*shared)
            roots[name] = own
    return place, roots


def between(
    nodes: Sequence[onnx.NodeProto],
    place: Mapping[str, int],
    root: str,
    end: str,
    constant: Collection[str],
) -> list[int]:
    """Return the numbers of the nodes on the way from ``root`` to ``end``, in order."""
    waiting, inside = [end], set()
    while waiting:
        name = waiting.pop()
        if name == root or name in constant or name not in place or place[name] in inside:
            continue
        inside.add(place[name])
        waiting += [each for each in nodes[place[name]].input if each]
    return sorted(inside)
