"""Let neurons take spikes back, and send several in one step.

Spikes arrive unevenly, so an integrate-and-fire neuron may fire too early and end above its true value. With
a second, negative threshold it can send a spike of sign -1; the count memory keeps its count from falling
below zero, which implements the rectifier. A negative threshold near zero corrects immediately; at ``-theta``
it hardly helps within few steps. Two spikes per step let the neuron catch up twice as fast.

Sources: Liu et al., "Efficient ANN-SNN Conversion with Error Compensation Learning", ICML 2025;
Wang et al., "Signed Neuron with Memory", IJCAI 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snnc.errors import UsageError
from snnc.ir.operations import check_known
from snnc.ir.snn import IntegrateFire, SnnGraph, SnnNode
from snnc.pipeline import MANY, Context, require


@dataclass(frozen=True, slots=True)
class DualThreshold:
    """Give every population a spike-count memory and negative spikes.

    Attributes:
        spikes_per_step: how many spikes of one level, of either sign, may leave in one step; populations
            whose spikes carry M levels send as many fewer, but at least one.
        negative: the negative threshold relative to the positive one; 0 unless one spike leaves
            in a step.
    """

    name: ClassVar[str] = "dual-threshold"
    spikes_per_step: int = 1
    negative: float = 0.0

    def __post_init__(self) -> None:
        """Refuse combinations that the neuron does not know."""
        require("spikes-per-step", self.spikes_per_step, 1, MANY)
        require("negative", self.negative, 0, 100)
        if self.negative and self.spikes_per_step > 1:
            raise UsageError("negative must be 0, or positive with one spike per step")

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return ``graph`` with signed neurons; weights and thresholds are untouched."""
        check_known(graph)
        return graph.map(IntegrateFire, self._sign)

    def _sign(self, node: IntegrateFire) -> SnnNode:
        levels = node.neuron.levels
        spikes = max(1, self.spikes_per_step // levels)
        neuron = replace(node.neuron, spikes_per_step=spikes, count_memory=True)
        if not self.negative:
            return node if node.neuron == neuron else node.with_(neuron=neuron, negative_threshold=None)
        if node.neuron.levels > 1:
            raise UsageError("a negative threshold other than 0 needs spikes of one level")
        negative = (node.threshold * self.negative).astype(node.threshold.dtype)
        same = node.negative_threshold is not None and np.array_equal(node.negative_threshold, negative)
        return (
            node if same and node.neuron == neuron else node.with_(neuron=neuron, negative_threshold=negative)
        )
