"""The walk over a quantised network: the nodes that were written, and how sums are written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snnc.diagnostics import UNSUPPORTED_STRUCTURE, Diagnostic
from snnc.errors import UnsupportedModelError
from snnc.ir import ann, snn
from snnc.ir.graph import IntArray
from snnc.ir.rewriter import Names
from snnc.numerics.input_grid import InputGrid
from snnc.numerics.integer_sums import WIDE, Counts, IntegerSum, Sum, Term
from snnc.numerics.levels import LARGEST_WEIGHT, MOST_MULTIPLE

Value = Counts | Sum


class Walk:
    """One walk over the network, and the spiking nodes that are written on the way.

    Attributes:
        graph: what is lowered.
        grids: the levels of each input, by its name.
        timesteps: T.
        most: largest magnitude of weights that must be rounded.
        limited: whether a neuron sends one spike a step.
        encoded: the nodes whose part an encoder takes over: what affine maps and rounding stand before it.
        names: all that are taken.
        written: the nodes so far, by name.
        values: what each operation has become.
        levels: for each rectifier, the number of its levels above the lowest.
        approximated: why a count is not exactly the source's level, by the name of the node.
        ties: for each rectifier, how many of its breakpoints lie on a tie.
    """

    def __init__(
        self,
        graph: ann.AnnGraph,
        grids: Mapping[str, InputGrid],
        timesteps: int,
        most: int,
        *,
        limited: bool = False,
    ) -> None:
        self.graph = graph
        self.grids = grids
        self.timesteps = timesteps
        self.most = most
        self.limited = limited
        self.encoded = {name for grid in grids.values() for name in grid.nodes}
        self.names = Names(node.name for node in graph)
        self.written: dict[str, snn.SnnNode] = {}
        self.values: dict[str, Value] = {}
        self.levels: dict[str, int] = {}
        self.approximated: dict[str, str] = {}
        self.ties: dict[str, int] = {}

    def as_sum(self, value: Value, node: ann.AnnNode) -> Sum:
        """Return a value as a sum: spikes pass through one weight per channel."""
        if isinstance(value, Sum):
            return value
        shape = self.written[value.name].shape
        name = self.names.fresh(f"{value.name}.identity")
        synapse = snn.ChannelWeight(
            name=name, inputs=(value.name,), shape=shape, origin=node.origin, weight=np.zeros(0, np.int16)
        )
        return Sum((Term(value, synapse, value.unit.copy(), value.unit.copy()),), value.offset)

    def write(self, integers: IntegerSum) -> tuple[str, ...]:
        """Write the currents of a sum down, in as many nodes as their integers need."""
        names: list[str] = []
        for place, term in enumerate(integers.total.terms):
            whole = integers.weights(place)
            wide = term.added or np.abs(whole).max(initial=0) > MOST_MULTIPLE
            most, kind = (WIDE, np.int16) if wide else (LARGEST_WEIGHT, np.int8)
            while True:
                now = np.clip(whole, -most - 1, most)  # all that the type holds
                names.append(self.current(term, np.asarray(now, kind)))
                whole = whole - now
                if not whole.any():
                    break
        values = integers.constant()
        if values is not None:
            name = self.names.fresh(f"{integers.node.name}.border")
            constant = snn.ConstantCurrent(
                name=name, shape=values.shape, origin=integers.node.origin, values=values
            )
            names.append(self.append(constant))
        return tuple(names)

    def current(self, term: Term, weight: IntArray) -> str:
        """Write one synapse and what is behind it, each under a name of its own."""
        chain: list[snn.SnnNode] = []
        for each in (term.node.with_(weight=weight), *term.chain):
            node = each.with_(inputs=(chain[-1].name,)) if chain else each
            known = self.written.get(node.name)
            if known is None or not _equal(known, node):
                if known is not None:
                    node = node.with_(name=self.names.fresh(f"{node.name}.part"))
                self.append(node)
            chain.append(node)
        return chain[-1].name

    def append(self, node: snn.SnnNode) -> str:
        """Write a node down, and return its name."""
        self.written[node.name] = node
        return node.name


def _equal(one: snn.SnnNode, other: snn.SnnNode) -> bool:
    return (
        isinstance(one, snn.Weighted)
        and isinstance(other, snn.Weighted)
        and one.inputs == other.inputs
        and np.array_equal(one.weight, other.weight)
    )


def fields_of(node: ann.AnnNode, *inputs: str) -> dict[str, Any]:
    """Return name, inputs, shape and origin of the spiking node that stands for ``node``."""
    return {"name": node.name, "inputs": inputs, "shape": node.shape, "origin": node.origin}


def unsupported(node: ann.AnnNode, reason: str, cure: str) -> UnsupportedModelError:
    """Return the error that refuses a node."""
    found = Diagnostic(
        UNSUPPORTED_STRUCTURE, f"{type(node).__name__}: {reason}", node.origin or node.name, cure
    )
    return UnsupportedModelError(f"the network cannot be converted: {found.reason}", (found,))
