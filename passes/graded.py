"""Let a neuron send as many signed spikes in one step as its potential allows.

``s = clip(floor(m / theta), -N, C - N)``: with nothing held back, the count after the last step is
``clip(floor((v(0) + sum I + T B) / theta), 0, C)`` whatever the order in which spikes arrived, so the
network equals its quantised analogue network exactly and has no unevenness error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snnc.ir.operations import check_known
from snnc.ir.snn import IntegrateFire, SnnGraph, SnnNode
from snnc.pipeline import Context


@dataclass(frozen=True, slots=True)
class Graded:
    """Make every population graded."""

    name: ClassVar[str] = "graded"

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return ``graph`` with graded neurons; weights and thresholds are untouched."""
        check_known(graph)
        return graph.map(IntegrateFire, self._grade)

    def _grade(self, node: IntegrateFire) -> SnnNode:
        neuron = replace(node.neuron, spikes_per_step=None, count_memory=True)
        return node if node.neuron == neuron else node.with_(neuron=neuron, negative_threshold=None)
