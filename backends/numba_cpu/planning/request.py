"""What one call of the simulator asks for: what is computed, from what, and what is kept."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from snnc.ir import snn
from snnc.ir.neuron import Schedule
from snnc.simulation.protocol import Activity, RecordOptions


@dataclass(frozen=True)
class Request:
    """What one call of the simulator asks for, but for the arrays.

    Attributes:
        graph: the network.
        nodes: the nodes that are run, in topological order.
        given: names of the nodes that they read but that are not run.
        timesteps: T.
        record: what to keep.
    """

    graph: snn.SnnGraph
    nodes: tuple[snn.SnnNode, ...]
    given: tuple[str, ...]
    timesteps: int
    record: RecordOptions

    @classmethod
    def of(
        cls, graph: snn.SnnGraph, timesteps: int, record: RecordOptions, given: tuple[str, ...]
    ) -> Request:
        """Work out what is run.

        Args:
            graph: the network.
            timesteps: T.
            record: what to keep.
            given: names of the nodes whose spikes the caller has.
        """
        needed = graph.ancestors(record.until or graph.outputs, frozenset(given))
        return cls(
            graph=graph,
            nodes=tuple(node for node in graph if node.name in needed and node.name not in given),
            given=tuple(name for name in given if name in needed),
            timesteps=timesteps,
            record=record,
        )

    @property
    def input_limits(self) -> dict[str, int]:
        """Largest magnitude that the network's own encoding gives of each input."""
        return {node.name: node.limit for node in self.graph.encoders}

    @property
    def steps(self) -> int:
        """T + K."""
        return self.timesteps + self.graph.settle_steps

    @property
    def barrier(self) -> bool:
        """Whether a population integrates all its input before it fires."""
        return self.graph.schedule is Schedule.LAYERWISE

    @cached_property
    def integer(self) -> bool:
        """Whether all that is run computes in integers."""
        return all(getattr(node, "integer", True) for node in self.nodes)

    @cached_property
    def reads(self) -> Counter[str]:
        """How often each node is read."""
        return Counter(name for node in self.nodes for name in node.inputs)

    def keeps(self, node: snn.SnnNode) -> bool:
        """Say whether anything of a node's value is kept."""
        if isinstance(node, snn.IntegrateFire) and (self.record.states or self.record.activity):
            return True
        if isinstance(node, snn.Function) and self.record.activity:
            return True
        return isinstance(node, snn.Readout) or node.name in self.record.trains

    def added_in_place(self) -> frozenset[str]:
        """Return the synapses that only one sum reads, so that they can be added where it is formed."""
        summed = {
            name
            for node in self.nodes
            if isinstance(node, snn.IntegrateFire | snn.Readout) and not sums_first(node)
            for name in node.inputs
            if self.reads[name] == 1 and name not in self.record.trains
        }
        return frozenset(node.name for node in self.nodes if isinstance(node, snn.Weighted)) & summed

    def finished(self, together: frozenset[str] = frozenset()) -> dict[str, tuple[str, ...]]:
        """For each node, the nodes whose values nobody needs once it has been run.

        Args:
            together: nodes that are run as part of their only reader, which therefore reads their inputs.
        """
        last: dict[str, str] = {}
        for node in self.nodes:
            if node.name in together:
                continue
            last[node.name] = node.name
            for name in node.inputs:
                read = self.graph[name].inputs if name in together else (name,)
                last.update(dict.fromkeys(read, node.name))
        found: dict[str, list[str]] = {name: [] for name in last.values()}
        for name, reader in last.items():
            found[reader].append(name)
        return {reader: tuple(names) for reader, names in found.items()}

    def total(self, chunks: Iterable[dict[str, Activity]]) -> dict[str, Activity]:
        """Return the activity of populations and functions over all chunks, each counted on its own."""
        if not self.record.activity:
            deque(chunks, maxlen=0)  # the chunks are run as they are read
            return {}
        totals = {
            node.name: Activity(*(np.zeros(node.shape, np.int64) for _ in range(3)))
            for node in self.nodes
            if isinstance(node, snn.IntegrateFire | snn.Function)
        }
        for counted in chunks:
            for name, activity in counted.items():
                totals[name] += activity
        return totals


def sums_first(node: snn.SnnNode) -> bool:
    """Say whether currents of a node are written down: it leaks or has a step function, and no stage."""
    if isinstance(node, snn.IntegrateFire | snn.Readout) and node.leaky:
        return True
    return isinstance(node, snn.IntegrateFire) and node.breakpoints is not None
