"""Reuse of earlier networks in a search: all layers before the first that differs.

Compensation works layer by layer, and its result for a layer depends only on that layer and on earlier ones.
Two candidates whose first layers are equal therefore share the compensated prefix and its spikes, and only
the rest has to be fitted and simulated again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.snn import SnnGraph, SnnNode
from snnc.numerics.quantisation import Group, correct_readers

SNAPSHOT_BYTES = 512 * 2**20
"""Of spike trains that are kept at most; late layers, which are small, profit most."""

ReaderRatio = tuple[str, FloatArray]
"""A population and the factors by which its readers correct what a spike stands for, (channels,)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A network whose first groups are done.

    Attributes:
        nodes: the finished nodes by name.
        ratios: by which readers of finished populations were corrected, in order.
        trains: the spikes that unfinished layers read, (T + K, rows, *shape).
        layers: the record of each finished group.
    """

    nodes: Mapping[str, SnnNode]
    ratios: tuple[ReaderRatio, ...]
    trains: Mapping[str, NumberArray]
    layers: tuple[dict[str, Any], ...]

    @property
    def nbytes(self) -> int:
        """The memory of its spike trains."""
        return sum(train.nbytes for train in self.trains.values())

    def applied(self, graph: SnnGraph) -> SnnGraph:
        """Return a network whose first groups are as given with these groups done."""
        graph = graph.replacing(self.nodes)
        for name, ratio in self.ratios:
            graph = correct_readers(graph, name, ratio)
        return graph


@dataclass(slots=True)
class Snapshots:
    """The latest snapshots that fit the memory, by key.

    Attributes:
        limit: of the memory, in bytes; 0 to keep none.
    """

    limit: int = 0
    _found: OrderedDict[str, Snapshot] = field(default_factory=OrderedDict)

    def get(self, key: str) -> Snapshot | None:
        """Return a snapshot, if it is still there."""
        if key in self._found:
            self._found.move_to_end(key)
        return self._found.get(key)

    def put(self, key: str, snapshot: Snapshot) -> None:
        """Keep a snapshot and forget those that were not used for longest."""
        if not self.limit:
            return
        trains = {name: _narrow(train) for name, train in snapshot.trains.items()}
        self._found[key] = Snapshot(snapshot.nodes, snapshot.ratios, trains, snapshot.layers)
        while sum(kept.nbytes for kept in self._found.values()) > self.limit:
            self._found.popitem(last=False)


def _narrow(train: NumberArray) -> NumberArray:
    narrow = train.astype(np.int8)
    return narrow if np.array_equal(narrow, train) else train


def prefix_keys(graph: SnnGraph, order: Sequence[Group], common: object) -> list[str]:
    """Return for each group a key of all that its result depends on: of the groups up to it, as given.

    Args:
        graph: the network before any group is done.
        order: its groups.
        common: what else the results depend on; its ``repr`` counts.
    """
    members = [(*group.synapses, *group.sinks) for group in order]
    grouped = {name for names in members for name in names}
    digest = hashlib.sha256(repr(common).encode())
    for node in graph:
        digest.update(repr((node.name, node.inputs)).encode() if node.name in grouped else content(node))
    found = []
    for names in members:
        for name in names:
            digest.update(content(graph[name]))
        found.append(digest.copy().hexdigest())
    return found


def content(node: SnnNode) -> bytes:
    """Return all that a node is, for a digest."""
    values = {item.name: getattr(node, item.name) for item in fields(node)}
    arrays = [value.tobytes() for value in values.values() if isinstance(value, np.ndarray)]
    words = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
    return b"".join([type(node).__name__.encode(), repr(words).encode(), *arrays])
