"""The closed set of greatest weight: what a network is divided by, exactly and always in the same way.

A set of elements is closed where it holds with every element all that this one requires. The one of greatest
weight is the source side of a minimum cut (Picard, "Maximal closure of a graph and applications to
combinatorial problems", Management Science 22 (1976)); the cut is found by Dinic's algorithm. Of several the
smallest is taken, which is unique.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence


def greatest_closure(weights: Sequence[int], requires: Iterable[tuple[int, int]]) -> frozenset[int]:
    """Return the closed set of greatest weight.

    Args:
        weights: of the elements 0, 1, ...; negative ones are costs.
        requires: pairs of an element and one that must be in the set, too, where the first is.
    """
    source, sink = len(weights), len(weights) + 1
    network = _Network(len(weights) + 2)
    endless = sum(abs(weight) for weight in weights) + 1
    for element, weight in enumerate(weights):
        if weight > 0:
            network.join(source, element, weight)
        elif weight < 0:
            network.join(element, sink, -weight)
    for element, other in requires:
        network.join(element, other, endless)
    while network.level(source)[sink] >= 0:
        network.saturate(source, sink)
    levels = network.level(source)
    return frozenset(element for element in range(len(weights)) if levels[element] >= 0)


class _Network:
    """A flow network: edges in pairs, forth at an even number and back at the odd one behind it."""

    def __init__(self, size: int) -> None:
        self.ends: list[int] = []
        self.free: list[int] = []
        self.edges: list[list[int]] = [[] for _ in range(size)]
        self.levels: list[int] = []

    def join(self, start: int, end: int, capacity: int) -> None:
        self.edges[start].append(len(self.ends))
        self.edges[end].append(len(self.ends) + 1)
        self.ends += [end, start]
        self.free += [capacity, 0]

    def level(self, source: int) -> list[int]:
        """Return how many edges with room lie between the source and each place; -1 where none lead there."""
        self.levels = [-1] * len(self.edges)
        self.levels[source] = 0
        waiting = deque([source])
        while waiting:
            place = waiting.popleft()
            for edge in self.edges[place]:
                end = self.ends[edge]
                if self.free[edge] and self.levels[end] < 0:
                    self.levels[end] = self.levels[place] + 1
                    waiting.append(end)
        return self.levels

    def leads_on(self, place: int, number: int) -> bool:
        """Say whether an edge has room and leads one step on."""
        edge = self.edges[place][number]
        return self.free[edge] > 0 and self.levels[self.ends[edge]] == self.levels[place] + 1

    def saturate(self, source: int, sink: int) -> None:
        """Send flow along shortest ways until none is left; without recursion, for networks are deep."""
        tried = [0] * len(self.edges)
        way: list[int] = []
        place = source
        while True:
            if place == sink:
                room = min(self.free[edge] for edge in way)
                for edge in way:
                    self.free[edge] -= room
                    self.free[edge ^ 1] += room
                full = next(index for index, edge in enumerate(way) if not self.free[edge])
                place = self.ends[way[full] ^ 1]
                del way[full:]
                continue
            while tried[place] < len(self.edges[place]) and not self.leads_on(place, tried[place]):
                tried[place] += 1
            if tried[place] < len(self.edges[place]):
                way.append(self.edges[place][tried[place]])
                place = self.ends[way[-1]]
            elif way:
                last = way.pop()
                place = self.ends[last ^ 1]
                tried[place] += 1
            else:
                return
