"""Set when populations fire: settle steps for late corrections, or the layerwise schedule.

Settle steps follow the T steps, without input and bias: signed neurons use them to take back what
they sent too early. Under the layerwise schedule a population waits for all spikes of its inputs and
then fires for T steps: binary spikes suffice for the exact counts of the quantised network, at a
latency of depth times T.

Source of accumulating before firing: Ramesh and Srinivasan, "PASCAL: Precise and Efficient ANN-SNN
Conversion using Spike Accumulation and Adaptive Layerwise Activation", arXiv 2505.01730 (2025).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snnc.errors import UsageError
from snnc.ir.bounds import MOST_TIMESTEPS
from snnc.ir.neuron import Schedule
from snnc.ir.operations import check_known
from snnc.ir.snn import SnnGraph
from snnc.pipeline import Context, require


@dataclass(frozen=True, slots=True)
class SetSchedule:
    """Set the schedule of the network.

    Attributes:
        kind: synchronous or layerwise.
        settle_steps: K, for the synchronous schedule.
    """

    name: ClassVar[str] = "set-schedule"
    kind: Schedule = Schedule.SYNCHRONOUS
    settle_steps: int = 0

    def __post_init__(self) -> None:
        """Refuse settle steps where they mean nothing."""
        require("settle-steps", self.settle_steps, 0, MOST_TIMESTEPS)
        if self.kind is Schedule.LAYERWISE and self.settle_steps:
            raise UsageError("the layerwise schedule has no settle steps")

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return ``graph`` with this schedule; nodes are untouched."""
        check_known(graph)
        if graph.schedule is self.kind and graph.settle_steps == self.settle_steps:
            return graph
        # Bounds were proved for another number of steps.
        return replace(graph, schedule=self.kind, settle_steps=self.settle_steps, max_timesteps=0)
