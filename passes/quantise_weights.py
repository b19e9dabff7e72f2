"""Quantise the network: int8 weights per output channel, integer thresholds and potentials.

After this pass every simulator and backend gives the same spikes, bit for bit. The arithmetic is in
:mod:`snnc.numerics.quantisation`; this pass also proves that no int32 can overflow, for which T, and refuses
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snnc.errors import UsageError
from snnc.ir.bounds import provable_timesteps, unproved
from snnc.ir.operations import check_known
from snnc.ir.snn import SnnGraph
from snnc.numerics.quantisation import quantise_all, widest_layer
from snnc.numerics.weight_grid import FEWEST_BITS, WEIGHT_BITS
from snnc.pipeline import Context, require


@dataclass(frozen=True, slots=True)
class QuantiseWeights:
    """Quantise what is still float32, and prove the bounds of all integers.

    Attributes:
        bits: of the weights of convolutions and dense layers between populations, from 2 to 8; the first
            layer and what drives the read-out keep 8. Weights that are integers already are left as they
            are, and refused where they have more bits.
    """

    name: ClassVar[str] = "quantise-weights"
    bits: int = WEIGHT_BITS

    def __post_init__(self) -> None:
        """Refuse numbers of bits that int8 does not hold."""
        require("bits", self.bits, FEWEST_BITS, WEIGHT_BITS)

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return the integer network."""
        check_known(graph)
        self._check(graph)
        quantised = quantise_all(graph, self.bits)
        proved = provable_timesteps(quantised)
        if proved < quantised.timesteps:
            raise UsageError(unproved(quantised, proved))
        context.findings["max-timesteps"] = proved
        if quantised.max_timesteps == proved:
            return quantised
        return replace(quantised, max_timesteps=proved)

    def _check(self, graph: SnnGraph) -> None:
        """Refuse weights that are integers of more bits already: they would silently stay so.

        Raises:
            UsageError: naming the layer of most bits.
        """
        found = widest_layer(graph) if self.bits < WEIGHT_BITS and graph.integer else None
        if found is not None and found[1] > self.bits:
            raise UsageError(
                f"quantise-weights: bits={self.bits} is for weights in floats, and those of "
                f"{found[0].origin!r} are integers of {found[1]} bits already: leave bits out, or give them "
                f"to the pass that rounds before, as compensate{{bits={self.bits}}}"
            )
