"""A network over time that spikes already, tuned on labelled frames in the integers that are deployed.

It may come from a NIR file or from an artefact, in float32 or in integers. Weights and biases of its layers
learn; thresholds, decays, filters, resets and rests stay as they are. After each pass the integers are judged
on rows held back, by the simulator, and the best of them, or what it began with, is the result.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from snnc.artefact import Artefact
from snnc.backends import load_simulator
from snnc.cores import available_cores
from snnc.data.leakage import merged, row_hashes
from snnc.errors import InputError, InternalError, UsageError
from snnc.ir import snn
from snnc.ir.batch import Batch
from snnc.ir.bounds import provable_timesteps, unproved
from snnc.metrics.task import Task
from snnc.numerics.divergence import AnswerError
from snnc.numerics.quantisation import quantise_all
from snnc.numerics.real_units import in_real_units
from snnc.progress import Callback, Progress, as_progress
from snnc.simulation.protocol import Simulator
from snnc.simulation.reference import encode
from snnc.training.extra import require_torch
from snnc.training.judge import Judge, Measure
from snnc.training.leaky import EQUAL_ROWS, checked_frames, compared, learn
from snnc.training.rows import FEWEST_ROWS, spread

SMALLEST = 0.1
"""Size that a bias has at least, in thresholds, as far as its rate is concerned."""


@dataclass(frozen=True, slots=True)
class TunedLeaky:
    """The result of :func:`tune_leaky`.

    Attributes:
        artefact: the better network, in integers.
        begun: the integers that it began with, on the rows held back.
        tuned: the best that was learned, there.
        equal_rows: rows on which the simulator's counts are those of the module.
        rows: that were learned from.
        is_tuned: whether the network is what was learned; else it is what it began with.
    """

    artefact: Artefact
    begun: Measure
    tuned: Measure
    equal_rows: int
    rows: int
    is_tuned: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "begun": self.begun.as_dict(),
            "tuned": self.tuned.as_dict(),
            "kept": "tuned" if self.is_tuned else "begun",
            "equal_rows": self.equal_rows,
            "rows": self.rows,
        }


def tune_leaky(
    artefact: Artefact,
    x: Any,
    y: Any,
    *,
    method: str = "bptt",
    epochs: float = 10,
    batch: int = 50,
    rate: float = 3e-2,
    held_back: float = 0.1,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | Callback | None = None,
) -> TunedLeaky:
    """Tune a network over time on labelled frames.

    Args:
        artefact: with one input of frames and one output, in float32 or in integers.
        x: (n, T, *shape) frames, as it takes them.
        y: (n,) classes from 0.
        method: ``bptt``, ``rate`` or ``tssl``; see :mod:`snnc.training.leaky_neurons`.
        epochs: passes over the rows.
        batch: rows of a gradient.
        rate: largest learning rate, relative to the size of each parameter.
        held_back: share of the rows that decide.
        seed: of the order of the rows.
        threads: of torch and the simulator; all cores by default.
        progress: as for a conversion.

    Raises:
        UsageError: torch is not installed, an argument makes no sense, or the network cannot be trained.
        InputError: rows or classes do not fit.
        InternalError: a count of the simulator is not that of the module.
    """
    require_torch("tuning")
    import torch

    from snnc.training.leaky_network import LeakyNetwork

    frames, labels = _rows(artefact, x, y, held_back)
    held = spread(np.arange(len(labels)), max(1, int(held_back * len(labels))))
    trained = np.setdiff1d(np.arange(len(labels)), held)
    real = in_real_units(artefact.graph) if artefact.graph.integer else artefact.graph
    begun = artefact.graph if artefact.graph.integer else _deployable(quantise_all(real))
    if begun is None:
        graph = quantise_all(real)
        raise UsageError(unproved(graph, provable_timesteps(graph)))
    simulator = load_simulator("numba", threads)
    judge = _judge(artefact, frames[held], labels[held], simulator)
    shown = as_progress(progress)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or available_cores())
    torch.manual_seed(seed)
    try:
        module = LeakyNetwork(replace(real, max_timesteps=0), method)
        first = judge.simulated(begun, simulator)
        shown.message(f"before: {first.text}")
        best: tuple[Measure, snn.SnnGraph, dict[str, Any]] | None = None

        def passed() -> None:
            nonlocal best
            module.quantise()
            graph = _deployable(module.quantised)
            if graph is None:
                return
            measure = judge.simulated(graph, simulator)
            shown.message(f"after a pass: {measure.text}")
            if best is None or measure.key < best[0].key:
                state = {name: value.clone() for name, value in module.state_dict().items()}
                best = measure, graph, state

        groups = [
            {"params": [each], "lr": rate * _size(node, each), "weight_decay": 0.0}
            for node, each in module.learned
        ]
        if not groups:
            raise UsageError(f"{artefact.graph.name} has no layer whose weights could learn")
        q = encode(artefact.graph.encoder, frames)
        rng = np.random.default_rng(seed)
        learn(
            module,
            q[trained],
            labels[trained],
            groups,
            epochs=epochs,
            batch=min(batch, len(trained)),
            shift=0,
            rng=rng,
            progress=shown,
            passed=passed,
        )
        if best is None:
            raise UsageError("no state of the tuned network is proved to fit its integers: lower --rate")
        measure, graph, state = best
        module.load_state_dict(state)
        module.quantise()
        equal = compared(module, graph, q[held[:EQUAL_ROWS]])
    finally:
        torch.set_num_threads(before)
    is_tuned = measure.key < first.key
    seen = row_hashes([q])
    stored = artefact.metadata.calibration.get("row_hashes")
    known = merged([seen, stored]) if isinstance(stored, str) else seen
    calibration = {**artefact.metadata.calibration, "rows": len(labels), "row_hashes": known}
    record = {"pass": "tune", "method": method, "epochs": epochs, "seed": seed}
    found = TunedLeaky(artefact, first, measure, equal, len(trained), is_tuned)
    record |= found.as_dict()
    records = (*artefact.metadata.records, record)
    metadata = replace(artefact.metadata, calibration=calibration, records=records)
    made = Artefact(graph if is_tuned else begun, metadata)
    return replace(found, artefact=made)


def _rows(artefact: Artefact, x: Any, y: Any, held_back: float) -> tuple[Any, Any]:
    """Return frames as the network takes them, and classes.

    Raises:
        UsageError: it has several inputs, or parts in ordinary ONNX.
        InputError: they do not fit it.
    """
    graph = artefact.graph
    if artefact.host is not None or len(graph.inputs) > 1 or len(graph.outputs) > 1:
        raise UsageError("a network over time is tuned with one input and one output, all of it spiking")
    if not 0 < held_back < 1:
        raise UsageError(f"held_back must lie between 0 and 1, not {held_back!r}")
    frames, labels = np.asarray(x), np.asarray(y)
    checked_frames(frames, labels)
    if frames.shape[1] != graph.timesteps:
        raise InputError(
            f"the rows have {frames.shape[1]} frames, and the network runs T = {graph.timesteps}"
        )
    if len(labels) < FEWEST_ROWS:
        raise InputError(f"{len(labels)} rows are too few to learn from: give at least {FEWEST_ROWS}")
    classes = graph.readout.channels
    if labels.max() >= classes:
        raise InputError(f"the labels reach {labels.max()}, and the network has {classes} classes from 0")
    taken = artefact.canonical(frames)
    if isinstance(taken, Batch):
        raise InternalError("one input has become several")
    return taken, labels.astype(np.int64)


def _judge(artefact: Artefact, frames: Any, labels: Any, simulator: Simulator) -> Judge:
    """Return what decides: right answers, then nearness to the answers of the network as it was given."""
    graph = artefact.graph
    (name,) = graph.output_names
    answers = simulator.run(graph, encode(graph.encoder, frames), graph.timesteps).outputs[name]
    targets = graph.readout.decoded(answers, graph.timesteps)
    return Judge(
        {graph.encoder.name: frames},
        {name: targets},
        {name: labels},
        {name: Task.CLASSES},
        {name: AnswerError.DIVERGENCE},
    )


def _deployable(graph: snn.SnnGraph) -> snn.SnnGraph | None:
    """Return a network with its proved number of steps; ``None`` where it is below its own."""
    proved = provable_timesteps(graph)
    return None if proved < graph.timesteps else replace(graph, max_timesteps=proved)


def _size(node: snn.SnnNode, parameter: Any) -> float:
    """Return how large a parameter is."""
    size = float(parameter.detach().square().mean().sqrt())
    if isinstance(node, snn.IntegrateFire):
        size = max(size, SMALLEST * float(node.threshold.mean()))
    return size if size > 0 else SMALLEST
