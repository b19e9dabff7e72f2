"""Rewriting a graph of either dialect: insert, replace and erase nodes; readers are kept up to date.

A graph itself never changes. A pass makes a :class:`Rewriter` of it, changes that, and takes the result::

    rewriter = Rewriter(graph)
    raised = Relu(name=rewriter.fresh(f"{node.name}.raised"), inputs=(node.name,), shape=node.shape)
    rewriter.insert_after(node.name, raised)
    rewriter.replace_uses(node.name, raised.name)
    return graph.with_nodes(rewriter.nodes, rewriter.outputs)

Names only distinguish nodes: what a node stands for is one of its fields. :meth:`Names.fresh` makes new
names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction
from typing import Generic, TypeVar

from snnc.errors import InternalError
from snnc.ir.graph import Graph, Node

N = TypeVar("N", bound=Node)


class Names:
    """The names that are taken in a graph that is being made."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        """Begin with the names that are ``taken``."""
        self._taken = set(taken)
        self._given: dict[str, int] = {}

    def fresh(self, name: str) -> str:
        """Return ``name``, with an underscore or a number behind it where it is taken, and take it."""
        found, count = name, self._given.get(name, 0)
        while found in self._taken:
            count += 1
            found = f"{name}_{count}" if count > 1 else f"{name}_"
        self._given[name] = count
        self._taken.add(found)
        return found


class Rewriter(Generic[N]):
    """A graph while it is rewritten: its nodes in order, and for each the nodes that read it."""

    def __init__(self, graph: Graph[N], taken: Iterable[str] = ()) -> None:
        """Begin with the nodes of ``graph``; no new node gets one of the names ``taken`` either."""
        self._nodes = {node.name: node for node in graph}
        self._order = [node.name for node in graph]
        # Where each node stands, as a number that no other insertion changes: looked up without a search.
        self._keys = {name: Fraction(place) for place, name in enumerate(self._order)}
        self._uses: dict[str, set[str]] = {name: set() for name in self._order}
        for node in graph:
            self._read(node)
        self._names = Names((*self._order, *taken))
        self.outputs = graph.outputs

    def __getitem__(self, name: str) -> N:
        """Return the node called ``name``."""
        return self._nodes[name]

    def __contains__(self, name: object) -> bool:
        """Say whether a node has that name."""
        return name in self._nodes

    @property
    def nodes(self) -> tuple[N, ...]:
        """The nodes as they are now, in order; those that nothing has changed are the same objects."""
        return tuple(self._nodes[name] for name in self._order)

    def readers(self, name: str) -> tuple[N, ...]:
        """Return the nodes that read ``name``, in order."""
        return tuple(self._nodes[reader] for reader in sorted(self._uses[name], key=self._keys.__getitem__))

    def fresh(self, name: str) -> str:
        """Return ``name``, lengthened where a node has it or had it, and take it."""
        return self._names.fresh(name)

    def insert_after(self, place: str, *nodes: N) -> None:
        """Put nodes behind the node called ``place``; nothing reads them yet."""
        self._put(self._place(place) + 1, nodes)

    def replace(self, old: str | Sequence[str], *new: N) -> None:
        """Put ``new`` in the place of the last of ``old``, all of which are taken out.

        Readers of the last of ``old``, and the network's outputs among them, then read the last of ``new``.
        New nodes may have the names of old ones.

        Raises:
            InternalError: something else reads another of ``old``.
        """
        gone = (old,) if isinstance(old, str) else tuple(old)
        last, result = gone[-1], new[-1].name
        readers = [name for name in self._uses[last] if name not in gone]
        place = self._place(last)
        place -= sum(self._place(name) < place for name in gone)
        for name in gone:
            self._remove(name)
        self._put(place, new)
        for name in readers:
            self._redirect(name, last, result)
        self.outputs = tuple(result if name == last else name for name in self.outputs)
        for name in gone:
            self._check_unread(name)

    def replace_uses(self, old: str, new: str, readers: Collection[str] | None = None) -> None:
        """Let the readers of ``old`` read ``new``: those named, or all of them and the outputs.

        If ``new`` reads ``old`` itself, it continues to do so.
        """
        for name in tuple(self._uses[old]):
            if name != new and (readers is None or name in readers):
                self._redirect(name, old, new)
        if readers is None:
            self.outputs = tuple(new if name == old else name for name in self.outputs)

    def erase(self, name: str) -> None:
        """Take out a node that nothing reads.

        Raises:
            InternalError: something does.
        """
        self._remove(name)
        self._check_unread(name)

    def _place(self, name: str) -> int:
        return bisect_left(self._order, self._keys[name], key=self._keys.__getitem__)

    def _put(self, place: int, nodes: Sequence[N]) -> None:
        before = self._keys[self._order[place - 1]] if place else Fraction(-1)
        after = self._keys[self._order[place]] if place < len(self._order) else before + 1
        for index, node in enumerate(nodes, 1):
            if node.name in self._nodes:
                raise InternalError(f"a second node would be called {node.name!r}")
            self._nodes[node.name] = node
            self._keys[node.name] = before + (after - before) * Fraction(index, len(nodes) + 1)
            self._uses.setdefault(node.name, set())
        self._order[place:place] = [node.name for node in nodes]
        for node in nodes:
            self._read(node)

    def _remove(self, name: str) -> None:
        del self._order[self._place(name)]
        del self._keys[name]
        for source in set(self._nodes.pop(name).inputs):
            self._uses[source].discard(name)

    def _check_unread(self, name: str) -> None:
        if name in self._nodes:
            return
        if self._uses[name] or name in self.outputs:
            raise InternalError(f"{name!r} is taken out, but still read")
        del self._uses[name]

    def _read(self, node: N) -> None:
        for source in node.inputs:
            if source not in self._uses:
                raise InternalError(f"{node.name!r} reads {source!r}, which is not there")
            self._uses[source].add(node.name)

    def _redirect(self, reader: str, old: str, new: str) -> None:
        node = self._nodes[reader]
        self._nodes[reader] = node.with_(inputs=tuple(new if name == old else name for name in node.inputs))
        self._uses[old].discard(reader)
        self._uses[new].add(reader)
