"""The walk over the network: the nodes that were written, and how currents are written down."""

from __future__ import annotations

from typing import Any

from snnc.ir import ann, snn
from snnc.ir.count_paths import sharing_one_unit
from snnc.ir.rewriter import Names
from snnc.passes.lower.values import Current, Value, fields_of


class Walk:
    """One walk over the ANN graph, and the spiking nodes that are written on the way.

    Attributes:
        graph: what is lowered.
        timesteps: T.
        signed: whether there may be neurons that take spikes back.
        shared: activations whose operands share one unit.
        written: the nodes so far, by name.
        names: all that are taken; what an operation becomes bears its name, so no other node may.
        values: what each operation has become.
        dead: for each rectifier, how many of its channels never fired.
    """

    def __init__(self, graph: ann.AnnGraph, timesteps: int, *, signed: bool) -> None:
        self.graph = graph
        self.timesteps = timesteps
        self.signed = signed
        self.shared = {name for group in sharing_one_unit(graph) if len(group) > 1 for name in group}
        self.written: dict[str, snn.SnnNode] = {}
        self.names = Names(node.name for node in graph)
        self.values: dict[str, Value] = {}
        self.dead: dict[str, int] = {}

    def as_current(self, value: Value, node: ann.AnnNode) -> Current:
        """Return a current of this value: spikes pass through one weight per channel."""
        if isinstance(value, Current):
            return value
        name = self.names.fresh(f"{value.name}.identity")
        synapse = snn.ChannelWeight(
            name=name,
            inputs=(value.name,),
            shape=self.written[value.name].shape,
            origin=node.origin,
            weight=value.spike_scale,
        )
        return Current(((synapse,),), value.silence)

    def emit(self, current: Current, *, own: bool = False) -> tuple[str, ...]:
        """Write the terms of a current down, and return the names of their last nodes.

        A node that stands there already is read once more; where it is not the same, as where a mean has
        changed its weights, or where the reader must have its ``own``, it gets another name.
        """
        names = []
        for chain in current.terms:
            before: str | None = None  # of the node that was renamed
            for node in chain:
                if before is None and self.written.get(node.name) is node and not own:
                    continue
                written = node if before is None else node.with_(inputs=(before,))
                if node.name in self.written:
                    written = written.with_(name=self.names.fresh(node.name))
                before = None if written.name == node.name else written.name
                self.append(written)
            names.append(before or chain[-1].name)
        return tuple(names)

    def append(self, node: snn.SnnNode) -> str:
        """Write a node down, and return its name."""
        self.written[node.name] = node
        return node.name

    def part(self, node: ann.AnnNode, index: int, read: str) -> dict[str, Any]:
        """Return name, input, shape and origin of one of the nodes that ``node`` becomes."""
        place = fields_of(node, read)
        return place if index == 0 else {**place, "name": self.names.fresh(f"{node.name}.{index}")}
