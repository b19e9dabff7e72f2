"""Regions: what lies between a tensor and a later one that depends on nothing else, every value for itself.

All operations of a region act on every value for itself, with constants beside it, so that it is a function
of one number, or of one number per channel, however many operations spell it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest

import onnx

from snnc.frontend.functions import DEFAULT_DOMAINS

MOST_ROOTS = 32
"""Most tensors that are kept as those that another depends on alone, so that long chains take linear time."""


@dataclass(frozen=True, slots=True)
class Region:
    """A function of one number, spelt by several nodes.

    Attributes:
        root: the tensor that it reads.
        end: the tensor that it gives.
        places: the numbers of its nodes in the graph, in order.
    """

    root: str
    end: str
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wiring:
    """How nodes of one graph hang together.

    Attributes:
        nodes: in topological order.
        constants: names of tensors that are constant.
        place: by tensor, the number of the node that makes it.
        roots: by tensor, those that are all that it depends on, one at a time, itself included: the nearest.
        readers: by tensor, the numbers of the nodes that read it.
    """

    nodes: Sequence[onnx.NodeProto]
    constants: frozenset[str]
    place: Mapping[str, int]
    roots: Mapping[str, frozenset[str]]
    readers: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(
        cls,
        nodes: Sequence[onnx.NodeProto],
        constants: Collection[str],
        kinds: Collection[str],
        others: Mapping[str, Collection[str]] | None = None,
    ) -> Wiring:
        """Walk over nodes once.

        Args:
            nodes: in topological order.
            constants: names of tensors that are constant, those that nodes compute of constants included.
            kinds: the operators of the default domain that act on every value for itself.
            others: those of other domains, by domain.
        """
        constant = frozenset(constants)
        place: dict[str, int] = {}
        roots: dict[str, frozenset[str]] = {}
        readers: dict[str, list[int]] = {}
        for number, node in enumerate(nodes):
            read = {name for name in node.input if name and name not in constant}
            for name in read:
                readers.setdefault(name, []).append(number)
            known = kinds if node.domain in DEFAULT_DOMAINS else (others or {}).get(node.domain, ())
            for name in node.output:
                place[name] = number
                own = frozenset({name})
                if node.op_type in known and read:
                    own |= frozenset.intersection(*(roots.get(each, frozenset({each})) for each in read))
                if len(own) > MOST_ROOTS:
                    own = frozenset(nlargest(MOST_ROOTS, own, key=lambda each: place.get(each, -1)))
                roots[name] = own
        return cls(nodes, constant, place, roots, {name: tuple(found) for name, found in readers.items()})

    def region(self, root: str, end: str) -> Region:
        """Return the nodes on the way from ``root`` to ``end``, one of whose roots it is."""
        waiting, inside = [end], set()
        while waiting:
            name = waiting.pop()
            if name == root or name in self.constants or self.place.get(name) is None:
                continue
            if self.place[name] in inside:
                continue
            inside.add(self.place[name])
            waiting += [each for each in self.nodes[self.place[name]].input if each]
        return Region(root, end, tuple(sorted(inside)))

    def varying(self, number: int) -> list[str]:
        """Return the inputs of a node that are no constants, each once."""
        names = self.nodes[number].input
        return list(dict.fromkeys(name for name in names if name and name not in self.constants))
