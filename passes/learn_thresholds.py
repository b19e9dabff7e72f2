"""Learn thresholds and initial potentials on the network that the rest of the pipeline produces.

The pass precedes those that compensate and quantise: every candidate is compensated and quantised like the
final network, and its answers are compared with the source network's. The search is in
:mod:`snnc.search.threshold_search`.

Source: Liu et al., "Efficient ANN-SNN Conversion with Error Compensation Learning", ICML 2025, learn the
thresholds of a clip by training; here they are learned on the spiking network itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from snnc.ir.operations import check_known
from snnc.ir.snn import SnnGraph
from snnc.pipeline import Context, require
from snnc.search.reconstruction import reconstruct
from snnc.search.threshold_search import Search, learn


class Objective(Enum):
    """What thresholds are judged by."""

    NETWORK = "network"
    LAYER = "layer"


@dataclass(frozen=True, slots=True)
class LearnThresholds:
    """Search for the thresholds with which the finished network answers most like its source.

    Attributes:
        objective: what is minimised: the error of the answers of the whole network; or, for comparison,
            the error of each layer alone, which takes seconds and is usually worse than the closed form.
        budget: the largest number of networks that are converted and measured.
        rows: the largest number of calibration rows that each of them is fitted to.
        activity: what the synaptic operations of the first network are worth, in nats of divergence, for
            numbers in relative squared error: 0
            for accuracy alone; 0.5 gives up 0.05 nats for a tenth of the operations.
        seconds: time limit; the result then depends on the clock. ``none`` for no limit.
    """

    name: ClassVar[str] = "learn-thresholds"
    objective: Objective = Objective.NETWORK
    budget: int = 20
    rows: int = 800
    activity: float = 0.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        require("budget", self.budget, 1, 2**31)
        require("rows", self.rows, 1, 2**31)
        require("activity", self.activity, 0, 1e6)
        if self.seconds is not None:
            require("seconds", self.seconds, 0, 1e9, beyond=True)

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return ``graph`` with learned thresholds; an integer network is left as it is."""
        check_known(graph)
        if graph.integer:
            return graph
        if self.objective is Objective.LAYER:
            ramp = context.rest is not None and context.rest.option("ramp") is True
            return reconstruct(graph, context, self.rows, ramp=ramp)
        return learn(graph, context, Search(self.budget, self.rows, self.activity, self.seconds))
