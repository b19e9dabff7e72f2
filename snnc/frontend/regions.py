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
    nodes: Sequence[onnx.NodeProto],
    constant: Collection[str],
    kinds: Collection[str],
    others: Mapping[str, Collection[str]] = {},
) -> tuple[dict[str, int], dict[str, frozenset[str]]]:
    """Return who makes each tensor, and the tensors through which everything goes that it depends on.

    Args:
        nodes: in topological order.
        constant: names of tensors that are constant.
        kinds: the operators of the default domain through which to look.
        others: those of other domains, by domain.
    """
    place: dict[str, int] = {}
    roots: dict[str, frozenset[str]] = {}
    for number, node in enumerate(nodes):
        read = {name for name in node.input if name and name not in constant}
        for name in node.output:
            place[name] = number
            own = frozenset({name})
            known = kinds if node.domain in DEFAULT_DOMAINS else others.get(node.domain, ())
            if node.op_type in known and read:
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


@dataclass(frozen=True, slots=True)
class Wiring:
    """How nodes of one graph hang together, of which some act on every value for itself.

    Attributes:
        nodes: in topological order.
        constants: names of tensors that are constant.
        place: by tensor, the number of the node that makes it.
        roots: by tensor, those through which everything goes that it depends on, itself included.
        readers: by tensor, the numbers of the nodes that read it.
    """

    nodes: Sequence[onnx.NodeProto]
    constants: Collection[str]
    place: Mapping[str, int]
    roots: Mapping[str, frozenset[str]]
    readers: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(
        cls,
        nodes: Sequence[onnx.NodeProto],
        constants: Collection[str],
        kinds: Collection[str],
        others: Mapping[str, Collection[str]] = {},
    ) -> Wiring:
        """Walk over nodes once; see :func:`dominators` for the arguments."""
        constant = frozenset(constants)
        readers: dict[str, list[int]] = {}
        for number, node in enumerate(nodes):
            for name in {name for name in node.input if name and name not in constant}:
                readers.setdefault(name, []).append(number)
        place, roots = dominators(nodes, constant, kinds, others)
        return cls(nodes, constant, place, roots, {name: tuple(found) for name, found in readers.items()})

    def region(self, root: str, end: str) -> Region:
        """Return the nodes on the way from ``root`` to ``end``, one of whose roots it is."""
        return Region(root, end, tuple(between(self.nodes, self.place, root, end, self.constants)))

    def varying(self, number: int) -> list[str]:
        """Return the inputs of a node that are no constants, each once."""
        names = self.nodes[number].input
        return list(dict.fromkeys(name for name in names if name and name not in self.constants))
