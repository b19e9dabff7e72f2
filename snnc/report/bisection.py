"""Find the layer at which accuracy is lost by letting more and more layers of the source network spike.

For ``k = 0 .. n`` a hybrid is run whose first ``k`` populations spike, while all behind them is computed by
the source network from what those spikes stand for. At ``k = 0`` it is the source network, at ``k = n`` only
its read-out is not spiking. The loss need not grow from one end to the other, since a layer can take back
what others did; so no bisection is sure to meet the layer that costs most, and all hybrids are run. The
spikes of the first populations do not depend on what is behind them, so one simulation serves many hybrids.

A row's loss is 1 where its class is wrong, or not the source's where there are no labels. Of numbers it is
the squared error relative to the variance of what they are held to, so that its mean is ``1 - R2``; of a map,
relative to the power of all its places, so that its mean is the inverse of the SQNR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from snnc.analysis.evaluation import Share
from snnc.artefact import Artefact
from snnc.errors import InputError, UsageError
from snnc.ir.ann import AnnGraph, ChannelAffine, Convolution, Linear, Softmax
from snnc.ir.batch import Rows
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.snn import IntegrateFire
from snnc.metrics import (
    Outputs,
    Paired,
    Task,
    behaves_as_classifier,
    decisions,
    finished,
    threshold_of,
)
from snnc.metrics.ending import computes_end
from snnc.metrics.intervals import bootstrap
from snnc.metrics.outputs import Labels, labels_by_output, recognise_output
from snnc.progress import Progress, Silent
from snnc.report.fed import FedSource, SpikingLayer, counts_of, spiking_layers
from snnc.simulation.protocol import RecordOptions, Simulator
from snnc.source.ann_session import CHUNK

SESSION_BYTES = 2**29
"""Weights of hybrids that are held at once."""

STANDS_OUT = 0.25
"""Share of the whole loss below which a layer does not stand out."""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One hybrid.

    Attributes:
        spiking: how many populations and functions of counts spike.
        layer: the last of them; empty for none.
        onnx_node: the ONNX node that it came from.
        losses: (n,) float64, the loss of every row.
        share: right answers, or answers equal to the source's where there are no labels; ``None`` of numbers.
    """

    spiking: int
    layer: str
    onnx_node: str
    losses: FloatArray = field(repr=False)
    share: Share | None

    @property
    def loss(self) -> float:
        """Mean loss of a row."""
        return float(self.losses.mean())


@dataclass(frozen=True, slots=True)
class Bisection:
    """What was found.

    Attributes:
        trials: all hybrids, by the number of spiking populations.
        populations: how many there are.
        labelled: whether answers are held to labels, or else to the source network.
        classes: whether answers are classes, or else numbers.
        culprit: the hybrid whose last layer costs most; ``None`` where nothing is lost, or no layer
            stands out.
        before: the hybrid with one spiking population less.
        largest: the hybrid whose last layer costs most, whether it stands out or not; ``None`` without
            layers.
        interval: 95 %, of what that layer costs; ``None`` where too few rows tell.
        tolerance: up to which nothing counts as lost.
        is_map: whether they are places of a map.
    """

    trials: tuple[Trial, ...]
    populations: int
    labelled: bool
    classes: bool
    culprit: Trial | None
    before: Trial | None
    largest: Trial | None
    interval: tuple[float, float] | None
    tolerance: float
    is_map: bool = False

    @property
    def lost(self) -> float:
        """What is lost when all populations spike: share of the rows, or of the variance."""
        return self.trials[-1].loss - self.trials[0].loss

    @property
    def cost(self) -> float:
        """What the layer that costs most costs alone; 0 without layers."""
        if self.largest is None:
            return 0.0
        return self.largest.loss - self.trials[self.largest.spiking - 1].loss


def bisect(
    artefact: Artefact,
    source: AnnGraph,
    x: Rows,
    y: Labels,
    *,
    simulator: Simulator,
    output: str | None = None,
    task: Task | str | None = None,
    tolerance: float = 0.005,
    timesteps: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Bisection:
    """Measure what every layer costs.

    A layer stands out if it costs at least :data:`STANDS_OUT` of the whole loss and more than nothing as far
    as the rows tell: with classes by the interval of Agresti and Min, of numbers by the bootstrap.

    Args:
        artefact: the spiking network.
        source: the network that was lowered.
        x: (n, ...) rows as the artefact takes them; of several inputs a batch.
        y: (n, ...) labels, or ``None``; of several outputs by their names.
        simulator: what runs the spiking part.
        output: the name of the one that is judged; it must be given where there are several.
        task: what the user says of the outputs; else what the artefact remembers, or the labels tell.
        tolerance: share of rows, or of the variance, up to which nothing counts as lost.
        timesteps: T; the calibrated value by default.
        threads: used by the source network.
        progress: where to show how far it is.

    Raises:
        InputError: rows or labels do not fit.
        UsageError: there are several outputs, and none is named; or ordinary ONNX reads the read-outs.
    """
    if len(x) == 0:
        raise InputError("there are no rows to run")
    output = _judged_output(artefact, output)
    names = artefact.graph.output_names
    last = source[source.outputs[names.index(output)]]
    ends = artefact.source_ends[output] or ("Softmax" if isinstance(last, Softmax) else "")
    outputs = recognise_output(
        output if len(names) > 1 else "",
        artefact.gives[output],
        rows=len(x),
        labels=labels_by_output(y, names).get(output),
        ends=ends,
        given=task,
        stored=artefact.metadata.stored_task if len(names) == 1 else None,
    )
    work = _Hybrids(artefact, source, x, output, simulator, timesteps, threads, progress or Silent())
    populations, answers = work.populations, work.answers()
    judge = _Judge(outputs, ends, answers[0], behind=computes_end(artefact.graph, output, ends))
    trials = tuple(
        judge.trial(k, None if k == 0 else populations[k - 1], answers[k]) for k in range(len(answers))
    )
    found = conclusion(trials, outputs.labels is not None, judge.classes, tolerance)
    return replace(found, is_map=outputs.is_map)


def _judged_output(artefact: Artefact, name: str | None) -> str:
    """Return the output to judge."""
    host = artefact.host
    if host is not None and (host.suffix is not None or host.islands):
        raise UsageError(
            "ordinary ONNX reads the read-outs of this artefact, and bisect judges the read-outs of hybrids: "
            "snnc report shows the error of every layer"
        )
    names = artefact.graph.output_names
    listed = ", ".join(map(repr, names))
    if name is None and len(names) > 1:
        raise UsageError(f"there are {len(names)} outputs, {listed}: say which to judge, by --output NAME")
    if name is not None and name not in names:
        raise UsageError(f"there is no output {name!r}; the outputs: {listed}")
    return next(iter(names)) if name is None else name


def conclusion(trials: tuple[Trial, ...], labelled: bool, classes: bool, tolerance: float) -> Bisection:
    """Return what follows from all hybrids; see :func:`bisect`."""
    largest = interval = culprit = None
    lost = trials[-1].loss - trials[0].loss
    if len(trials) > 1:
        largest = max(trials[1:], key=lambda trial: trial.loss - trials[trial.spiking - 1].loss)
        before = trials[largest.spiking - 1]
        interval = _interval(before.losses, largest.losses, classes)
        certain = interval is None or interval[0] > 0
        # What others take back makes the whole smaller than its parts.
        rises = [max(b.loss - a.loss, 0.0) for a, b in pairwise(trials)]
        if (
            max(lost, *rises) > tolerance
            and certain
            and largest.loss - before.loss >= STANDS_OUT * sum(rises)
        ):
            culprit = largest
    previous = None if culprit is None else trials[culprit.spiking - 1]
    return Bisection(
        trials, len(trials) - 1, labelled, classes, culprit, previous, largest, interval, tolerance
    )


def _interval(before: FloatArray, behind: FloatArray, classes: bool) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of what a layer adds to the loss of a row."""
    if not classes:
        changes = np.stack([behind - before, np.ones(len(before))], axis=1)
        return bootstrap(changes, lambda sums: sums[:, 0] / sums[:, 1])
    worse, better = (int(np.count_nonzero(found)) for found in (behind > before, behind < before))
    wrong = int(np.count_nonzero((behind == before) & (before > 0)))
    return Paired(len(before) - worse - better - wrong, worse, better, wrong).interval


class _Judge:
    """What every hybrid is held to."""

    def __init__(self, outputs: Outputs, ends: str, first: FloatArray, *, behind: bool) -> None:
        """Begin with the answers of the source network, (n, outputs), behind its last activation or not."""
        self.ends = "" if behind else ends
        self.threshold = threshold_of(ends)
        self.labelled = outputs.labels is not None
        evident = outputs.task is not None
        self.classes = outputs.have_classes and (evident or behaves_as_classifier(first))
        ours = finished(first, self.ends)
        if self.classes:
            labels = outputs.classes
            self.targets: NumberArray = decisions(ours, self.threshold) if labels is None else labels
        else:
            self.targets = ours if outputs.labels is None else outputs.labels
            variances = self.targets.var(axis=0)
            if outputs.is_map:
                power = float(np.square(self.targets).mean(axis=0).sum())
                self.weights = np.full(len(variances), 1 / power if power else 1.0)
                return
            # A constant output explains nothing; where all are, errors count as they are.
            self.weights = np.divide(1, variances, out=np.zeros(len(variances)), where=variances > 0)
            self.weights /= max(np.count_nonzero(variances), 1)
            if not self.weights.any():
                self.weights[:] = 1 / len(variances)

    def trial(self, spiking: int, last: SpikingLayer | None, answers: FloatArray) -> Trial:
        """Judge one hybrid by its answers, (n, outputs)."""
        values = finished(answers, self.ends)
        name, origin = ("", "") if last is None else (last.name, last.origin)
        if not self.classes:
            losses = np.square(values - self.targets) @ self.weights
            return Trial(spiking, name, origin, losses, None)
        right = decisions(values, self.threshold) == self.targets
        share = Share(int(right.sum()), len(right))
        return Trial(spiking, name, origin, (~right).astype(np.float64), share)


class _Hybrids:
    """Runs hybrids on all rows."""

    def __init__(
        self,
        artefact: Artefact,
        source: AnnGraph,
        x: Rows,
        output: str,
        simulator: Simulator,
        timesteps: int | None,
        threads: int | None,
        progress: Progress,
    ) -> None:
        self.artefact = artefact
        self.source = source
        self.x = x
        self.output = output
        self.simulator = simulator
        self.timesteps = artefact.graph.timesteps if timesteps is None else timesteps
        self.threads = threads
        self.progress = progress
        self.populations = spiking_layers(artefact.graph)

    def answers(self) -> list[FloatArray]:
        """Return what all hybrids answer, (n, outputs) each, run as many at once as their weights allow."""
        held = [node for node in self.source if isinstance(node, Convolution | Linear | ChannelAffine)]
        size = sum(np.asarray(getattr(node, "weight", ())).nbytes for node in held)
        at_once = max(1, int(SESSION_BYTES // max(size, 1)))
        every = range(len(self.populations) + 1)
        found: dict[int, FloatArray] = {}
        for start in range(0, len(every), at_once):
            found |= self._run(every[start : start + at_once])
        return [found[k] for k in every]

    def _run(self, wanted: Sequence[int]) -> Mapping[int, FloatArray]:
        names = [node.name for node in self.populations]
        fed = {
            k: FedSource(self.source, self.artefact.graph, self.threads, spiking=tuple(names[:k]))
            for k in wanted
        }
        found: dict[int, list[FloatArray]] = {k: [] for k in wanted}
        starts = range(0, len(self.x), CHUNK)
        span = f"{wanted[0]} to {wanted[-1]} layers spiking"
        for start in self.progress.track(starts, len(starts), span):
            q = self.artefact.encode(self.x[start : start + CHUNK])
            counts: dict[str, IntArray] = {}
            if needed := tuple(names[: max(wanted)]):
                layers = self.populations[: len(needed)]
                functions = tuple(node.name for node in layers if not isinstance(node, IntegrateFire))
                record = RecordOptions(states=True, until=needed, trains=functions)
                trace = self.simulator.run(self.artefact.graph, q, self.timesteps, record)
                counts = counts_of(trace, layers)
            for k, hybrid in fed.items():
                answers = hybrid.run(q, counts, self.timesteps).answers[self.output]
                told = self.artefact.output_layouts[self.output].to_source(answers)
                found[k].append(told.reshape(len(q), -1))
        return {k: np.concatenate(parts) for k, parts in found.items()}
