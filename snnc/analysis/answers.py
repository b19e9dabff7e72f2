"""What a spiking network and its source answer, run over rows a shard at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.data.row_files import as_rows, named_rows
from snnc.errors import InputError, UsageError
from snnc.ir.batch import Given, Rows, joined
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.layout import InputLayout
from snnc.ir.snn import Readout, SnnGraph
from snnc.progress import Callback, Progress, as_progress
from snnc.simulation.protocol import RecordOptions, Simulator, Trace
from snnc.simulation.reference import leaky_readout
from snnc.source.finish import Finish
from snnc.source.source_session import SourceSession

SHARD = 250
"""Rows that are worked on at once: memory does not grow with the data set."""


@dataclass(frozen=True, slots=True)
class Source:
    """The network to compare with.

    Attributes:
        session: runs it.
        prepare: from rows as they are given to what it takes.
        macs: its multiply-accumulates per image, if known.
        check_rows: refuses all rows, by their name, where their shape does not fit.
    """

    session: SourceSession
    prepare: Callable[[Rows], Rows]
    macs: int | None = None
    check_rows: Callable[[Rows, str], None] = lambda x, name: None

    def answers(self, x: Rows, outputs: Sequence[str] = ()) -> dict[str, FloatArray]:
        """Return what it answers to rows as they are given, (n, values) per output, by name."""
        found = self.session.run_all(self.prepare(x), outputs)
        return {name: values.reshape(len(values), -1) for name, values in found.items()}


def answers_of(source: Source, x: Rows, progress: Progress | Callback | None = None) -> NumberArray:
    """Return what an ordinary network answers to rows as they are given, (n, outputs)."""
    tracked = shards(len(x), as_progress(progress), "running the ANN")
    return np.concatenate([source.session.run(source.prepare(x[rows])) for rows in tracked])


def outputs_of(
    graph: SnnGraph,
    encode: Callable[[Rows], Rows],
    x: Given,
    *,
    simulator: Simulator,
    timesteps: int,
    per_step: bool = False,
    progress: Progress | Callback | None = None,
    finish: Finish | None = None,
) -> NumberArray:
    """Return what a network of one output answers, flat.

    For the arguments see :func:`snnc.analysis.evaluation.evaluate`.

    Returns:
        (n, outputs), or (T + K, n, outputs) where the answer after every step is wanted.

    Raises:
        UsageError: there are several outputs; or the answer after every step is wanted of a network that
            ordinary ONNX finishes, once, behind the last step.
    """
    found = all_outputs_of(
        graph,
        encode,
        x,
        simulator=simulator,
        timesteps=timesteps,
        per_step=per_step,
        progress=progress,
        finish=finish,
    )
    if len(found) != 1:
        raise UsageError(f"there are {len(found)} outputs, {', '.join(map(repr, found))}, and this takes one")
    (values,) = found.values()
    return values.reshape(*values.shape[: 1 + per_step], -1)


def all_outputs_of(
    graph: SnnGraph,
    encode: Callable[[Rows], Rows],
    x: Given,
    *,
    simulator: Simulator,
    timesteps: int,
    per_step: bool = False,
    progress: Progress | Callback | None = None,
    finish: Finish | None = None,
) -> dict[str, NumberArray]:
    """Return what every output of a network answers.

    For the arguments see :func:`snnc.analysis.evaluation.evaluate`.

    Returns:
        (n, *shape) per output, by name, or (T + K, n, *shape) where the answer after every step is wanted.

    Raises:
        UsageError: that is wanted of a network that ordinary ONNX finishes, once, behind the last step.
    """
    require_network(graph, encode, simulator, finish)
    if finish is not None and per_step:
        raise UsageError(
            "ordinary ONNX makes the answers behind the last step, so there are none after every step"
        )
    if finish is not None:
        simulator = finish.simulator(simulator)
    read = tuple(dict.fromkeys(name for node in graph.readouts.values() for name in node.inputs))
    record = RecordOptions(trains=read if per_step else ())
    rows = rows_of(encode, [node.name for node in graph.inputs], graph.name, x)
    found: dict[str, list[NumberArray]] = {}
    for part in shards(len(rows), as_progress(progress), f"running at T = {timesteps}"):
        trace = simulator.run(graph, encode(rows[part]), timesteps, record)
        outputs = trace.outputs if finish is None else finish.answers(trace, rows[part])
        for name, y in outputs.items():
            kept = after_every_step(graph.readouts[name], trace, y.dtype) if per_step else y
            found.setdefault(name, []).append(kept)
    return {name: np.concatenate(parts, axis=1 if per_step else 0) for name, parts in found.items()}


def after_every_step(readout: Readout, trace: Trace, kind: np.dtype[Any]) -> NumberArray:
    """Return what a read-out holds after every step of a run that recorded its inputs, (T + K, n, *shape)."""
    currents = np.add.reduce([trace.trains[name] for name in readout.inputs], dtype=kind)
    if readout.leaky:
        wide = currents.astype(np.int64) if currents.dtype.kind == "i" else currents
        return leaky_readout(readout, wide).astype(kind)
    biased = np.minimum(np.arange(1, len(currents) + 1), trace.timesteps).astype(currents.dtype)
    bias = per_channel(readout.bias, len(readout.shape))
    total: NumberArray = currents.cumsum(axis=0, dtype=currents.dtype)
    return total + biased.reshape(-1, *(1,) * (currents.ndim - 1)) * bias


def require_network(graph: Any, encode: Any, simulator: Any, finish: Finish | None) -> None:
    """Refuse arguments of another kind, and answers of half a network, in one line."""
    if finish is None and getattr(getattr(encode, "__self__", None), "host", None) is not None:
        raise UsageError(
            "ordinary ONNX makes the answers of this artefact out of the spiking network's: give "
            "finish=artefact.finish, too"
        )
    if not isinstance(graph, SnnGraph):
        raise InputError(f"{type(graph).__name__} is not a spiking network: give the `graph` of an artefact")
    if not callable(encode):
        raise InputError(f"{type(encode).__name__} encodes no rows: give the `encode` of an artefact")
    if not callable(getattr(simulator, "run", None)):
        raise UsageError(f"{type(simulator).__name__} is not a simulator: give load_simulator('numba')")


def shards(n: int, progress: Progress, description: str) -> Iterator[slice]:
    """Yield the rows of each shard, and show how far it is."""
    starts: Sequence[int] = range(0, n, SHARD)
    for start in progress.track(starts, len(starts), description):
        yield slice(start, start + SHARD)


def rows_of(encode: Callable[[Rows], Rows], inputs: Sequence[str], name: str, x: Given) -> Rows:
    """Return rows for a network of a name as an array, or as a batch of several inputs."""
    takes = getattr(getattr(encode, "__self__", None), "takes", None)  # an artefact's may be others
    names = list(inputs if takes is None else takes)
    return joined(named_rows(x, names, name, "the rows")) if len(names) > 1 else as_rows(x)


def answers_of_run(
    readouts: Mapping[str, Readout],
    trace: Trace,
    x: Rows,
    layouts: Mapping[str, InputLayout],
    finish: Finish | None,
) -> dict[str, NumberArray]:
    """Return the answers of a run in units and layout of the source, (n, *shape) by the output's name."""
    if finish is not None:
        return dict(finish.answers(trace, x))
    found: dict[str, NumberArray] = {}
    for name, readout in readouts.items():
        values = readout.real(trace.outputs[name], trace.timesteps)
        found[name] = layouts[name].to_source(values) if name in layouts else values
    return found
