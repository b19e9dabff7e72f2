"""Several binary-weighted thresholds per neuron: a neuron sends a number of n bits per step.

A neuron with the thresholds ``theta_1 2^k``, ``k = 0 .. n-1``, fires those thresholds whose sum is the
largest
that does not exceed its potential: ``s = floor(m / theta_1)`` in ``[0, 2^n - 1]``, with the
bits of ``|s|`` as its spikes, of one sign. T steps then distinguish ``T (2^n - 1)`` levels. An event is
a multiplication by an n-bit payload, or up to n binary spikes.

Source: Huang et al., "Towards High-performance Spiking Transformers from ANN to SNN Conversion",
ACM MM 2024.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snnc.errors import UsageError
from snnc.ir.neuron import Code
from snnc.ir.operations import check_known
from snnc.ir.snn import IntegrateFire, SnnGraph, SnnNode
from snnc.pipeline import Context


@dataclass(frozen=True, slots=True)
class MultiThreshold:
    """Send the levels that ``clip-activations{levels=2^n-1}`` chose as the bits of one signed number."""

    name: ClassVar[str] = "multi-threshold"

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return ``graph`` with binary-weighted thresholds; weights and units are untouched."""
        check_known(graph)
        return graph.map(IntegrateFire, self._split)

    def _split(self, node: IntegrateFire) -> SnnNode:
        neuron = replace(node.neuron, spikes_per_step=1, count_memory=True, code=Code.BINARY)
        if neuron.problem() is not None:
            raise UsageError(f"{neuron.problem()}: set clip-activations{{levels=...}} to 3, 7 or 15")
        return node if node.neuron == neuron else node.with_(neuron=neuron, negative_threshold=None)
