"""The narrowest C type that always holds a value, and up to which T that is proved."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from snnc.artefact.precision import value_bounds
from snnc.ir.bounds import count_bounds
from snnc.ir.graph import NumberArray
from snnc.ir.kinds import ValueKind, value_kinds
from snnc.ir.operations import largest_count
from snnc.ir.potentials import potential_bounds
from snnc.ir.snn import Function, IntegrateFire, SnnGraph


class Width(Enum):
    """An integer type of C99: its name in kernels, and its bytes."""

    I8 = 1
    I16 = 2
    I32 = 4

    @property
    def type(self) -> str:
        """Name of the type."""
        return f"int{8 * self.value}_t"

    @property
    def short(self) -> str:
        """Its part of a kernel's name."""
        return f"i{8 * self.value}"

    @property
    def most(self) -> int:
        """Largest value."""
        return 2 ** (8 * self.value - 1) - 1

    @classmethod
    def holding(cls, bound: int) -> Width:
        """Return the narrowest type for magnitudes up to ``bound``; the proofs keep it within 32 bits."""
        return next((width for width in cls if bound <= width.most), cls.I32)

    @classmethod
    def of(cls, values: NumberArray) -> Width:
        """Return the narrowest type for the values of an array."""
        return cls.holding(int(np.abs(values.astype(np.int64)).max()) if values.size else 0)


@dataclass(frozen=True, slots=True)
class Widths:
    """The types of a network's values in C.

    Attributes:
        values: of each node's value; in the layerwise schedule, of its sum over the run.
        counts: of ``N`` of each population and of each function of counts.
        potentials: of ``v`` of each population.
        bounds: largest magnitude of each value.
        sums: largest magnitude of the sum of all spikes of each node that gives them, up to any step.
        small: whether memory matters more than time and long runs.
    """

    values: dict[str, Width]
    counts: dict[str, Width]
    potentials: dict[str, Width]
    bounds: dict[str, int] = field(compare=False)
    sums: dict[str, int] = field(compare=False)
    small: bool = False


def widths(graph: SnnGraph, timesteps: int, small: bool = False) -> Widths:
    """Return the narrowest types for runs of ``timesteps``.

    Currents have 32 bits, and so have potentials, which would not hold longer runs otherwise; where memory
    matters more, those have 16 that are proved to fit.
    """
    bounds = value_bounds(replace(graph, max_timesteps=timesteps))
    kinds = value_kinds(graph)
    values = {
        node.name: Width.holding(bounds[node.name]) if kinds[node.name] is ValueKind.SPIKES else Width.I32
        for node in graph
    }
    counts = {
        node.name: Width.holding(largest_count(node, timesteps, graph.settle_steps))
        for node in graph.of_type(IntegrateFire)
    }
    sums = count_bounds(graph, timesteps)
    counts |= {node.name: Width.holding(sums[node.name]) for node in graph if isinstance(node, Function)}
    potentials = {node.name: Width.I32 for node in graph.of_type(IntegrateFire)}
    if small:
        reached = potential_bounds(graph, timesteps)
        potentials |= {name: Width.I16 for name, bound in reached.items() if bound <= Width.I16.most}
    return Widths(values, counts, potentials, bounds, sums, small)


def longest(graph: SnnGraph, small: bool = False) -> int:
    """Return the largest T that needs no wider type than the calibrated T does."""
    wanted = widths(graph, graph.timesteps, small)
    low, high = graph.timesteps, max(graph.max_timesteps, graph.timesteps)
    while low < high:
        middle = (low + high + 1) // 2
        if widths(graph, middle, small) == wanted:
            low = middle
        else:
            high = middle - 1
    return low
