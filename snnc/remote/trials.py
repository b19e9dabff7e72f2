"""Candidates of a budget in tasks: each is converted with few rows, and measured on rows kept back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from snnc.analysis.front import Point
from snnc.budget.candidates import Candidate
from snnc.budget.trials import Trials
from snnc.data.preprocessing import Preprocessing
from snnc.data.shared_rows import SharedRows, rows_of_blob
from snnc.metrics.task import Outputs
from snnc.metrics.task import Task as Kind
from snnc.passes import PASSES
from snnc.pipeline import Pipeline
from snnc.remote.conversion import options_of, told_of_options
from snnc.remote.files import Unpacked, source_of
from snnc.scale.plain import packed
from snnc.scale.tasks import Arrays, Blob, Found, Shared, Task, ready
from snnc.scale.workers import Workers

LABELS = "labels:"
"""Put before the name of an array of labels among those of a task."""


def points_on(
    workers: Workers,
    files: Shared,
    told: Mapping[str, Any],
    trials: Trials,
    candidates: Sequence[Candidate],
    few: int | None,
) -> Iterator[Point | None]:
    """Yield what candidates cost and lose, in their order, made and measured by workers.

    Args:
        workers: who does it.
        files: of the network.
        told: what is told of it as a source; see :func:`snnc.remote.files.told_of_source`.
        trials: what makes and measures them in this process.
        candidates: the candidates.
        few: calibration rows that each is made with; ``None`` for all.
    """
    rows, kept = (SharedRows(each).shared(slice(0, len(each))) for each in (trials.rows[:few], trials.kept))
    labels = trials.labels
    named = labels if isinstance(labels, Mapping) else {} if labels is None else {"": labels}
    common = {
        "source": dict(told),
        "options": told_of_options(trials.options),
        "preprocessing": None if trials.preprocessing is None else trials.preprocessing.as_dict(),
        "labels": None if labels is None else "several" if isinstance(labels, Mapping) else "one",
        "outputs": {
            name: [None if each.task is None else each.task.value, each.size, each.is_map]
            for name, each in trials.each.items()
        },
        "metrics": list(trials.metrics),
    }
    arrays = {LABELS + name: np.asarray(each) for name, each in named.items()}

    def task(candidate: Candidate) -> Task:
        own = {
            "timesteps": candidate.timesteps,
            "pipeline": candidate.pipeline.text,
            "label": candidate.label,
            "latency": candidate.latency,
            "payload": candidate.payload,
        }
        shared = (files, rows, kept)
        return Task("trial", packed({**common, "candidate": own}, arrays), shared, candidate.label)

    for done in workers.results(map(task, candidates)):
        if (point := done.values["point"]) is None:
            yield None
            continue
        metrics = tuple((str(name), float(value)) for name, value in point["metrics"])
        yield Point(**{**point, "metrics": metrics})


def tried(values: dict[str, Any], arrays: Arrays, blobs: Sequence[Blob]) -> Found:
    """Make and measure a candidate, in a worker."""
    given = values["candidate"]
    candidate = Candidate(**{**given, "pipeline": Pipeline.parse(given["pipeline"], PASSES)})
    labels = {name.removeprefix(LABELS): array for name, array in arrays.items()}
    preprocessing = values["preprocessing"]
    outputs = {
        name: Outputs(None if task is None else Kind(task), "", None, int(size), bool(is_map))
        for name, (task, size, is_map) in values["outputs"].items()
    }
    trials = Trials(
        model=str(ready("model", blobs[0], Unpacked.of).path),
        rows=rows_of_blob(blobs[1]),
        kept=rows_of_blob(blobs[2]),
        labels={"several": labels, "one": labels.get("")}.get(values["labels"]),
        source=source_of(blobs[0], values["source"]),
        options=replace(options_of(values["options"]), journal=None),
        preprocessing=None if preprocessing is None else Preprocessing.from_dict(preprocessing),
        each=outputs,
        metrics=tuple(values["metrics"]),
    )
    found = trials.point(candidate, len(trials.rows))
    if found is None:
        return {"point": None}, {}
    point = asdict(found)
    return {"point": {**point, "metrics": [list(each) for each in point["metrics"]]}}, {}
