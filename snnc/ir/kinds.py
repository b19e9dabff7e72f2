"""The kinds of values in a spiking network: spikes or currents, constant in time or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, TypeVar

from snnc.errors import InternalError
from snnc.ir.graph import FloatArray, Graph, Node, Shape


class ValueKind(Enum):
    """What a node's value is."""

    SPIKES = "spikes"
    CURRENT = "current"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SnnNode(Node):
    """An operation of the spiking dialect.

    Class attributes, declared once per operation beside :class:`snnc.ir.graph.Node`'s:
        reads: kind of value of its inputs; ``None`` if both kinds are allowed.
        gives: kind of its value; ``None`` for the kind of its first input.
        remembers: whether its value depends on earlier steps.
        reads_constant: whether its inputs must be the same in each of the T steps.
        moves: whether each of its values is a value of its inputs, at any position, or zero.
    """

    reads: ClassVar[ValueKind | None] = None
    gives: ClassVar[ValueKind | None] = None
    remembers: ClassVar[bool] = False
    reads_constant: ClassVar[bool] = False
    moves: ClassVar[bool] = False

    @property
    def varies(self) -> bool:
        """Whether its value changes from step to step where all that it reads stays the same."""
        return self.remembers

    def magnitude(self, inputs: Sequence[int]) -> int:
        """Return the largest magnitude of its value, for inputs of a given magnitude.

        Kinds that remember nothing say it. It holds for one step and for the sums over any steps alike: those
        of what a linear operation gives are the same function of the sums of what it reads.

        Args:
            inputs: largest magnitude of each input.

        Raises:
            InternalError: its value is bounded otherwise: see :mod:`snnc.ir.bounds`.
        """
        raise InternalError(f"{type(self).__name__} {self.name!r} says of no inputs how large it can get")

    def carried(self, values: Sequence[FloatArray], shapes: Sequence[Shape]) -> FloatArray:
        """Carry one number per channel through: (channels,) of its inputs to (channels,) of its value.

        Kinds that move or pool what they read say it.

        Args:
            values: the numbers of each input.
            shapes: of the inputs.

        Raises:
            InternalError: its values belong to no channels of its inputs.
        """
        raise InternalError(f"no channel passes through {self.name!r}")


S = TypeVar("S", bound=SnnNode)


def value_kinds(graph: Graph[S]) -> dict[str, ValueKind]:
    """Say of every node whether it gives spikes or a current."""
    kinds: dict[str, ValueKind] = {}
    for node in graph:
        kinds[node.name] = node.gives or kinds[node.inputs[0]]
    return kinds


def constant_nodes(graph: Graph[S]) -> frozenset[str]:
    """Return the names of the nodes whose value is the same in each of the T steps.

    They depend on encoded still inputs alone: the analogue first layer. In settle steps they are zero.
    """
    constant: set[str] = set()
    for node in graph:
        if not node.varies and constant.issuperset(node.inputs):
            constant.add(node.name)
    return frozenset(constant)


def kind_problem(graph: Graph[S]) -> str | None:
    """Say which node reads a current where spikes are needed, or the other way round."""
    kinds = value_kinds(graph)
    constant = constant_nodes(graph)
    for node in graph:
        read = {kinds[name] for name in node.inputs}
        where = f"{type(node).__name__} {node.name!r}"
        if node.reads is ValueKind.SPIKES and ValueKind.CURRENT in read:
            return f"{where} reads a current, but needs spikes"
        if node.reads is ValueKind.CURRENT and ValueKind.SPIKES in read:
            return f"{where} reads spikes, but needs currents"
        if node.reads_constant and not constant.issuperset(node.inputs):
            return f"{where} reads a current that changes in time"
    return None
