"""Inputs, outputs and nodes of a network, as C calls them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snnc.backends.c99.program import Extent
from snnc.ir.snn import Encode, Readout, SnnGraph


def c_index(graph: SnnGraph) -> dict[str, int]:
    """Return the number by which C calls each node."""
    return {node.name: index for index, node in enumerate(graph)}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the network, as C calls it.

    Attributes:
        node: the encoder or the read-out.
        name: what the source calls it.
        argument: of C functions: ``q`` and ``y``, with a number where there are several.
        suffix: of its macros, likewise.
    """

    node: Encode | Readout
    name: str
    argument: str
    suffix: str

    @property
    def frames(self) -> bool:
        """Whether it is an input of which each step sees its own frame."""
        return isinstance(self.node, Encode) and self.node.varies

    @property
    def size(self) -> int:
        """Number of values."""
        return Extent.of(self.node.shape).size


def ports(graph: SnnGraph) -> dict[str, Port]:
    """Return the inputs and outputs of a network by the names of their nodes, in order."""
    found: dict[str, Port] = {}
    inputs: dict[str, Encode] = {node.name: node for node in graph.encoders}
    sides: tuple[tuple[str, Mapping[str, Encode | Readout]], ...] = (("q", inputs), ("y", graph.readouts))
    for letter, nodes in sides:
        for number, (name, node) in enumerate(nodes.items()):
            told = "" if len(nodes) == 1 else str(number)
            found[node.name] = Port(node, name, letter + told, told and f"_{told}")
    return found
