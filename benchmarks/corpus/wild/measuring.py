"""One network at one preset: what spikes do of it, how near its answers come, and what it costs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.common import digests
from benchmarks.corpus.wild.fidelity import cosine, sqnr
from benchmarks.corpus.wild.rows import (
    MOST_JUDGED,
    MOST_ROWS,
    Material,
    Rows,
    joined,
    material,
    numbers,
    open_shapes,
    spread,
)
from benchmarks.corpus.wild.tasks import Answers, check
from snnc.artefact import Artefact
from snnc.backends import load_simulator
from snnc.compiler import Options, convert, examine
from snnc.diagnostics import causes
from snnc.errors import SnncError
from snnc.frontend import SourceModel
from snnc.metrics import finished
from snnc.metrics.ending import computes_end
from snnc.simulation.protocol import RecordOptions
from snnc.source.host import Host

STEPS = {"one-step": 1, "balanced": 32, "precise": 1}
"""The presets that are measured, and T of each."""

MOST_VALUES = 300_000_000
"""Values of all activations of all calibration rows at most: large maps get fewer rows."""

FEWEST = 12
TIMED_ROWS = 4
TIMES = 3


@dataclass(frozen=True)
class Subject:
    """A network of the folder.

    Attributes:
        name: of it.
        task: in words.
        path: of its file.
        folder: of all networks and their samples.
    """

    name: str
    task: str
    path: Path
    folder: Path

    @property
    def sha256(self) -> str:
        """Of its file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def measure(
    subject: Subject, preset: str, rows: int = MOST_ROWS, judged: int = MOST_JUDGED
) -> dict[str, Any]:
    """Check a network, convert it at a preset and judge it; return its record.

    Args:
        subject: the network.
        preset: of :data:`STEPS`.
        rows: calibration rows at most.
        judged: rows to judge by at most.
    """
    found = material(subject.folder, subject.name)
    shape, fix = open_shapes(subject.path, found.judged[0]), numbers(found.judged[0])
    record: dict[str, Any] = {
        "network": subject.name,
        "task": subject.task,
        "sha256": subject.sha256,
        "code": digests.compiler(),
        "preset": preset,
        "timesteps": STEPS[preset],
        "shape": list(shape),
        "fix": list(fix),
        "said": found.said,
        "single": found.is_single,
    }
    start = time.process_time()
    source, options, findings = _read(subject.path, shape, fix, preset)
    record["check_seconds"] = time.process_time() - start
    if source is None:
        record["reasons"] = [{"text": str(each), "places": len(each.findings)} for each in causes(findings)]
        return record
    record |= {"host_mode": options.host, **_told(source.host)}
    values = sum(int(np.prod(node.shape)) for node in source.graph)
    count = int(np.clip(MOST_VALUES // values, FEWEST, rows))
    used, held = spread(found.used, count), spread(found.judged, judged)
    record |= {"rows": len(used), "judged": len(held)}
    try:
        record |= _converted(subject, source, options, Material(used, held, found.said))
    except SnncError as error:
        record["failed"] = str(error)
    return record


def _read(
    path: Path, shape: tuple[str, ...], fix: tuple[str, ...], preset: str
) -> tuple[SourceModel | None, Options, Any]:
    """Read a network with as little in the host as it needs: at the edges, else between spikes as well."""
    options = Options(STEPS[preset], preset, shape=shape, fix=fix, threads=1)
    source, findings = examine(path, options)
    if source is None:
        wider = replace(options, host="any")
        other, _ = examine(path, wider)
        if other is not None:
            return other, wider, ()
    return source, options, findings


def _told(host: Host | None) -> dict[str, Any]:
    if host is None:
        return {"share": 1.0, "host": [], "host_nodes": 0}
    causes_of = [node.text for node in host.nodes if node.is_cause]
    return {"share": host.share, "host": causes_of, "host_nodes": len(host.nodes), "host_line": host.line}


def _converted(subject: Subject, source: SourceModel, options: Options, rows: Material) -> dict[str, Any]:
    start = time.process_time()
    taken = set(source.takes)
    whole = {name for name in taken if rows.used[0][name].shape[:1] != (1,)}
    artefact = convert(subject.path, _given(rows.used, taken, whole), options).artefact
    seconds = time.process_time() - start
    run, density = _runner(artefact)
    ends = {
        output.name: output.ends
        for output in source.outputs
        if source.host is None and not computes_end(artefact.graph, output.name, output.ends)
    }
    judged = [_of_spikes(run(_given([row], taken, whole)), ends) for row in rows.judged]
    spiking = {name: np.concatenate([each[name] for each in judged]) for name in judged[0]}
    session = _session(subject.path)
    wanted = {name: np.concatenate([_wanted(session, row)[name] for row in rows.judged]) for name in spiking}
    spiking = {name: value.reshape(wanted[name].shape) for name, value in spiking.items()}
    task = check(subject.name, wanted, spiking)
    timed = spread(rows.judged, TIMED_ROWS)
    together = _given(timed, taken, whole)
    ratio = _seconds(lambda: run(together, count=False)) / _seconds(lambda: _each(session, timed))
    return {
        "seconds": seconds,
        "near": {name: [sqnr(wanted[name], y), cosine(wanted[name], y)] for name, y in spiking.items()},
        "check": None if task is None else asdict(task),
        "density": density(),
        "ratio": ratio,
    }


def _runner(artefact: Artefact) -> tuple[Callable[..., Mapping[str, np.ndarray]], Callable[[], float]]:
    """Return what runs an artefact on one thread, and what tells the density of all that was counted."""
    simulator = artefact.simulator(load_simulator("numba", 1))
    graph, sent = artefact.graph, [0, 0]

    def run(x: Any, *, count: bool = True) -> Mapping[str, np.ndarray]:
        trace = simulator.run(graph, artefact.encode(x), graph.timesteps, RecordOptions(activity=count))
        for activity in trace.activity.values():
            sent[0] += int(activity.events.sum())
            sent[1] += activity.events.size * trace.samples * (graph.timesteps + graph.settle_steps)
        return artefact.decode(trace, x)

    return run, lambda: sent[0] / max(sent[1], 1)


def _of_spikes(answers: Mapping[str, np.ndarray], ends: Mapping[str, str]) -> Answers:
    """Return answers behind the activation that a spiking network leaves out."""
    return {
        name: np.asarray(
            finished(value.reshape(len(value), -1).astype(np.float64), ends.get(name, "")), np.float64
        )
        for name, value in answers.items()
    }


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _wanted(session: ort.InferenceSession, row: Rows) -> Answers:
    names = [value.name for value in session.get_outputs()]
    found = session.run(names, row)
    return {name: np.asarray(value, np.float64) for name, value in zip(names, found, strict=True)}


def _each(session: ort.InferenceSession, rows: Sequence[Rows]) -> None:
    for row in rows:
        _wanted(session, row)


def _seconds(work: Callable[[], object]) -> float:
    """Return CPU seconds: the least of a few, after one that is not counted."""
    work()
    found = []
    for _ in range(TIMES):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return max(min(found), 1e-9)


def _given(rows: Sequence[Rows], taken: Collection[str], whole: Collection[str]) -> Any:
    """Return rows as snnc takes them.

    Args:
        rows: as the file takes them.
        taken: names of the inputs; others have a value that stays.
        whole: those a row of which has no batch in front.
    """
    found = joined([{k: v[None] if k in whole else v for k, v in row.items() if k in taken} for row in rows])
    return next(iter(found.values())) if len(found) == 1 else found
