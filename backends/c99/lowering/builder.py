"""The program while it is built: where values lie, and the calls of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from snnc.backends.c99.memory import Buffer
from snnc.backends.c99.ports import c_index, ports
from snnc.backends.c99.program import At, Call, Extent, Field, Place, Program, Table, uses
from snnc.backends.c99.widths import Width, Widths
from snnc.ir.graph import NumberArray
from snnc.ir.kinds import constant_nodes
from snnc.ir.neuron import Schedule
from snnc.ir.snn import Reshape, SnnGraph, SnnNode

NULL = "0"
TIMES, STEPS = "times", "state->timesteps"
BEFORE = "(state->step < state->timesteps ? state->step : state->timesteps)"
"""Steps with input before the one at hand."""


class CodeBuilder:
    """Builds the program of a network, node by node.

    Attributes:
        graph: the network.
        widths: of its values.
        program: so far.
        number: by which C calls each node.
        barrier: whether one call runs the whole network, as in the layerwise schedule.
        constant: nodes whose value is the same in each step.
        reads: how often each value is read.
        values: where the value of each node lies.
        presented: where a constant value lies as the step at hand has it.
        ports: inputs and outputs.
    """

    def __init__(self, graph: SnnGraph, widths: Widths) -> None:
        self.graph = graph
        self.widths = widths
        self.program = Program()
        self.number = c_index(graph)
        self.barrier = graph.schedule is Schedule.LAYERWISE
        self.constant = constant_nodes(graph)
        self.reads = uses([node.inputs for node in graph])
        self.values: dict[str, Place] = {}
        self.presented: dict[str, Place] = {}
        self.ports = ports(graph)

    def table(
        self, node: SnnNode, role: str, values: NumberArray, note: str, width: Width | None = None
    ) -> Table:
        """Add constants of a node to the program."""
        return self.program.table(f"{role}_{self.number[node.name]}", values, f"{note} of {node.name}", width)

    def keep(self, node: SnnNode, role: str, width: Width, size: int, note: str) -> Field:
        """Add what a node remembers between steps to the program."""
        return self.program.keep(
            f"{role}_{self.number[node.name]}", width, size, f"{note} of {node.name} (ONNX: {node.origin})"
        )

    def allocate(self, node: SnnNode) -> Buffer:
        """Make the buffer of a node's value."""
        buffer = Buffer(self.widths.values[node.name], Extent.of(node.shape).size)
        self.values[node.name] = buffer
        return buffer

    def read(self, node: SnnNode, index: int = 0) -> Place:
        """Return the value of an input as ``node`` sees it in the step at hand."""
        name = node.inputs[index]
        value = self.values[name]
        if name not in self.constant or node.name in self.constant:
            return value
        if name not in self.presented:
            width = Width.I32 if self.barrier else self.widths.values[name]
            out = Buffer(width, value.size)
            self.call(node, "present", (value.width, width), value, TIMES, value.size, out)
            self.presented[name] = out
        return self.presented[name]

    def call(
        self, node: SnnNode, kernel: str, types: Sequence[Width], *arguments: Place | At | str | int
    ) -> None:
        """Add the call of a kernel: once in a run where the node is constant, else in each step."""
        calls = self.program.once if node.name in self.constant else self.program.step
        calls.append(Call(kernel, tuple(types), arguments, f"{node.name} (ONNX: {node.origin})"))

    def once(self, node: SnnNode, kernel: str, types: Sequence[Width], *arguments: Place | str | int) -> None:
        """Add a call at the beginning of a run, whatever the node."""
        self.program.once.append(Call(kernel, tuple(types), arguments, f"{node.name} (ONNX: {node.origin})"))

    def move(
        self,
        node: SnnNode,
        source: Place | At,
        extent: Extent,
        apart: tuple[int, int, int],
        target: Place | At,
        wanted: tuple[int, int, int],
    ) -> None:
        """Copy a block of values between two orders."""
        sizes = (extent.rows, extent.columns, extent.channels)
        places = [item.place if isinstance(item, At) else item for item in (source, target)]
        block = self.program.structure("block", (*sizes, *apart, *wanted))
        self.call(node, "move", [item.width for item in places], source, block, target)

    def readers(self, node: SnnNode) -> Iterator[SnnNode]:
        """Go through what reads a value, in other shapes, too: those may be the same place in memory."""
        for reader in self.graph.consumers[node.name]:
            yield reader
            if isinstance(reader, Reshape):
                yield from self.readers(reader)
