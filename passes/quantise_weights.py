"""Make the network an integer one: int8 weights per output channel, integer thresholds and potentials.

After this pass every simulator and backend gives the same spikes, bit for bit. The arithmetic is in
:mod:`snnc.quantisation`; this pass also proves that no int32 can overflow, for which T, and refuses
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snnc.errors import TargetError
from snnc.ir.bounds import overflow, provable_timesteps
from snnc.ir.snn import SnnGraph
from snnc.pipeline import Context
from snnc.quantisation import quantise_all


@dataclass(frozen=True, slots=True)
class QuantiseWeights:
    """Quantise what is still float32, and prove the bounds of all integers."""

    name: ClassVar[str] = "quantise-weights"

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return the integer network."""
        quantised = quantise_all(graph)
        proved = provable_timesteps(quantised)
        if proved < quantised.timesteps:
            found = overflow(quantised, quantised.timesteps)
            name, bound = found or (quantised.output, 0)
            raise TargetError(
                f"the potentials of {name!r} could reach {bound} in {quantised.timesteps} steps, "
                f"beyond int32; use at most T = {proved}"
            )
        context.findings["max-timesteps"] = proved
        if quantised.max_timesteps == proved:
            return quantised
        return replace(quantised, max_timesteps=proved)
