"""Set the initial potential of every neuron to a fraction of its threshold.

From rest, a neuron driven by a constant ``x`` in ``[0, theta]`` emits ``floor(T x / theta)`` spikes
in ``T`` steps, so its rate always underestimates ``x``. From ``theta / 2`` the floor becomes a
rounding, and the error is at most ``theta / (2 T)``.

Source: Bu et al., "Optimized Potential Initialization for Low-latency Spiking Neural Networks",
AAAI 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.errors import UsageError
from snnc.ir.operations import check_known
from snnc.ir.snn import IntegrateFire, SnnGraph, SnnNode
from snnc.pipeline import Context, require


@dataclass(frozen=True, slots=True)
class InitMembrane:
    """Set ``v_init`` of every population to a fraction of its threshold.

    Attributes:
        fraction: ``v_init / threshold``, dimensionless, in [0, 1).
    """

    name: ClassVar[str] = "init-membrane"
    fraction: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a fraction at which a neuron would fire without input."""
        require("fraction", self.fraction, 0, 1)
        if self.fraction == 1:
            raise UsageError(f"fraction must lie in [0, 1), not {self.fraction}")

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return ``graph`` with the initial potentials set; weights are untouched."""
        check_known(graph)
        return graph.map(IntegrateFire, self._start)

    def _start(self, node: IntegrateFire) -> SnnNode:
        if node.breakpoints is not None:  # which round by themselves
            return node
        if node.integer:
            v_init = np.floor(node.threshold.astype(np.float64) * self.fraction).astype(np.int32)
        else:
            v_init = (node.threshold * np.float32(self.fraction)).astype(np.float32)
        return node if np.array_equal(v_init, node.v_init) else node.with_(v_init=v_init)
