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
from snnc.numerics.quantisation import quantise_all
from snnc.pipeline import Context


@dataclass(frozen=True, slots=True)
class QuantiseWeights:
    """Quantise what is still float32, and prove the bounds of all integers."""

    name: ClassVar[str] = "quantise-weights"

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return the integer network."""
        check_known(graph)
        quantised = quantise_all(graph)
        proved = provable_timesteps(quantised)
        if proved < quantised.timesteps:
            raise UsageError(unproved(quantised, proved))
        context.findings["max-timesteps"] = proved
        if quantised.max_timesteps == proved:
            return quantised
        return replace(quantised, max_timesteps=proved)
