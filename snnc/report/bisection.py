"""Find the layer at which accuracy is lost by swapping layers of the source network back in.

For ``k = 0 .. n`` a hybrid is run whose first ``k`` populations spike, while all behind them is computed by
the source network from what those spikes stand for. At ``k = 0`` it is the source network, at ``k = n`` only
its read-out is not spiking. The loss grows from one end to the other, so bisection finds a layer at which it
crosses half of the whole loss, in ``log2 n`` runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.ann_session import CHUNK
from snnc.artefact import Artefact
from snnc.errors import InputError
from snnc.evaluation import Share, require_classes
from snnc.ir.ann import AnnGraph
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.snn import IntegrateFire
from snnc.progress import Progress, Silent
from snnc.report.fed import FedSource
from snnc.target import Record, Simulator


@dataclass(frozen=True, slots=True)
class Trial:
    """One hybrid.

    Attributes:
        spiking: how many populations spike.
        layer: the last of them; empty for none.
        onnx_node: the ONNX node that it came from.
        share: right answers, or answers equal to the source's where there are no labels.
    """

    spiking: int
    layer: str
    onnx_node: str
    share: Share


@dataclass(frozen=True, slots=True)
class Bisection:
    """What was found.

    Attributes:
        trials: all hybrids that were run, by the number of spiking populations.
        populations: how many there are.
        labelled: whether shares are accuracies, or else agreements with the source network.
        culprit: the first hybrid that loses more than half; ``None`` where there is nothing to lose.
        before: the hybrid with one spiking population less.
    """

    trials: tuple[Trial, ...]
    populations: int
    labelled: bool
    culprit: Trial | None
    before: Trial | None

    @property
    def lost(self) -> float:
        """Share of the rows that is lost when all populations spike."""
        return self.trials[0].share.value - self.trials[-1].share.value

    @property
    def cost(self) -> float:
        """Share of the rows that the culprit alone costs."""
        if self.culprit is None or self.before is None:
            return 0.0
        return self.before.share.value - self.culprit.share.value


def bisect(
    artefact: Artefact,
    source: AnnGraph,
    x: NumberArray,
    y: IntArray | None,
    *,
    simulator: Simulator,
    tolerance: float = 0.005,
    timesteps: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Bisection:
    """Search for the layer at which accuracy is lost.

    Args:
        artefact: the spiking network.
        source: the network that was lowered.
        x: (n, ...) rows as the artefact takes them.
        y: (n,) labels, or ``None``.
        simulator: what runs the spiking part.
        tolerance: share of rows up to which nothing counts as lost.
        timesteps: T; the calibrated value by default.
        threads: used by the source network.
        progress: where to show how far it is.

    Raises:
        InputError: rows or labels do not fit.
    """
    if len(x) == 0:
        raise InputError("there are no rows to look at")
    work = _Search(artefact, source, x, y, simulator, timesteps, threads, progress or Silent())
    low, high = work.trial(0), work.trial(len(work.populations))
    lost = low.share.value - high.share.value
    if lost <= tolerance or not work.populations:
        return Bisection(tuple(work.trials.values()), len(work.populations), y is not None, None, None)
    half = low.share.value - lost / 2
    while high.spiking - low.spiking > 1:
        middle = work.trial((low.spiking + high.spiking) // 2)
        if middle.share.value >= half:
            low = middle
        else:
            high = middle
    trials = tuple(work.trials[k] for k in sorted(work.trials))
    return Bisection(trials, len(work.populations), y is not None, high, low)


class _Search:
    """Runs hybrids and remembers them."""

    def __init__(
        self,
        artefact: Artefact,
        source: AnnGraph,
        x: NumberArray,
        y: IntArray | None,
        simulator: Simulator,
        timesteps: int | None,
        threads: int | None,
        progress: Progress,
    ) -> None:
        self.artefact = artefact
        self.source = source
        self.x = x
        self.targets = y
        self.simulator = simulator
        self.timesteps = artefact.graph.timesteps if timesteps is None else timesteps
        self.threads = threads
        self.progress = progress
        self.populations = artefact.graph.of_type(IntegrateFire)
        self.trials: dict[int, Trial] = {}

    def trial(self, spiking: int) -> Trial:
        """Run the hybrid whose first so many populations spike."""
        names = tuple(node.name for node in self.populations[:spiking])
        fed = FedSource(self.source, self.artefact.graph, self.threads, spiking=names)
        starts = range(0, len(self.x), CHUNK)
        tracked = self.progress.track(starts, len(starts), f"{spiking} layers spiking")
        classes = np.concatenate([self._answers(fed, names, self.x[s : s + CHUNK]) for s in tracked])
        if self.targets is None:
            self.targets = classes  # the first hybrid is the source network itself
        if self.targets.shape != classes.shape:
            raise InputError(f"labels of shape {self.targets.shape} do not fit {len(classes)} rows")
        last = self.populations[spiking - 1] if spiking else None
        found = Trial(
            spiking,
            "" if last is None else last.name,
            "" if last is None else last.origin,
            Share(int((classes == self.targets).sum()), len(classes)),
        )
        self.trials[spiking] = found
        return found

    def _answers(self, fed: FedSource, names: tuple[str, ...], x: NumberArray) -> IntArray:
        q = self.artefact.encode(x)
        counts: dict[str, IntArray] = {}
        if names:
            record = Record(states=True, until=names)
            counts = self.simulator.run(self.artefact.graph, q, self.timesteps, record).counts
        logits = fed.run(q, counts, self.timesteps)[fed.logits]
        logits = logits.reshape(len(x), -1)
        if self.targets is not None:
            require_classes(self.targets, logits.shape[1])
        return logits.argmax(axis=1)
