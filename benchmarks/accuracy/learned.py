"""What learned thresholds earn, and where certificates hold: measured for the tables of docs/accuracy.md.

    python -m benchmarks.accuracy --tables learned     # about an hour on two idle cores
    python -m benchmarks.accuracy --tables certify

Both convert the first network of the accuracy benchmark with 2,000 training images, drawn by seed, and no
labels. Measurements are lines of learned.jsonl and certificates.jsonl in benchmarks/measured and are not
repeated; the search for thresholds goes on from its own journal after an interruption.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.choices import LEARNED, LEARNED_STEPS, Setting, learned
from benchmarks.common import corpus_data
from benchmarks.common.source import source_of
from benchmarks.common.tables import percent, read, table
from snnc.analysis.certificate import certify, disagreements
from snnc.analysis.costs import macs_of_ann
from snnc.analysis.evaluation import Paired, evaluate
from snnc.backends import load_simulator
from snnc.compiler import Conversion, Options, convert
from snnc.frontend import read_onnx

Row = dict[str, Any]

ROWS = 2000
"""Unlabelled training images."""

FINDING = 1000
"""Test rows that certificates are found on; the others check them."""

FIRST, BALANCED = 0, 1
"""Places of the setting that the others are compared with, and of the default one."""


def measure_all(network: corpus_data.Network, sets: corpus_data.Sets, folder: Path, threads: int) -> None:
    """Measure what is missing of the table of learned thresholds.

    Args:
        network: the first of the benchmark.
        sets: with :data:`ROWS` calibration rows.
        folder: of the measurements.
        threads: at most.
    """
    path = folder / "learned.jsonl"
    done = {(row["timesteps"], row["pipeline"]) for row in read(path)}
    for setting in (s for T in LEARNED_STEPS for s in learned(T)):
        if (setting.timesteps, setting.pipeline) in done:
            continue
        start, used = time.perf_counter(), time.process_time()
        journal = folder / f"{setting.name}.journal"
        conversion = _converted(network, sets, setting, threads, journal)
        seconds, used = time.perf_counter() - start, time.process_time() - used
        row = _judged(network, sets, setting, conversion, threads)
        took = {"convert_seconds": round(seconds, 1), "convert_cpu_seconds": round(used, 1)}
        _append(path, {**row, **took})
        journal.unlink(missing_ok=True)
        print(f"{setting.label}, T = {setting.timesteps}: {100 * row['top1']:.2f} %", flush=True)


def _converted(
    network: corpus_data.Network,
    sets: corpus_data.Sets,
    setting: Setting,
    threads: int,
    journal: Path | None = None,
) -> Conversion:
    options = Options(setting.timesteps, pipeline=setting.pipeline, threads=threads, journal=journal)
    return convert(network.path, sets.calibration, options, preprocessing=sets.preprocessing)


def _judged(
    network: corpus_data.Network,
    sets: corpus_data.Sets,
    setting: Setting,
    conversion: Conversion,
    threads: int,
) -> Row:
    artefact = conversion.artefact
    found = evaluate(
        artefact.graph,
        artefact.encode,
        sets.x,
        sets.y,
        simulator=load_simulator("numba", threads),
        source=source_of(network, sets),
    )
    row = found.as_dict()
    del row["layers"]
    right = np.packbits(found.scores.classes == sets.y)
    return {
        "network": network.name,
        "setting": setting.name,
        "pipeline": setting.pipeline,
        "ann_macs": sum(macs_of_ann(read_onnx(network.path).graph).values()),
        **row,
        "right": base64.b64encode(right.tobytes()).decode(),
        "learned": [r.findings["learned"] for r in conversion.records if "learned" in r.findings],
    }


def certify_all(network: corpus_data.Network, sets: corpus_data.Sets, folder: Path, threads: int) -> None:
    """Find certificates of `balanced` on some test rows and check them on the others."""
    path = folder / "certificates.jsonl"
    done = {row["timesteps"] for row in read(path)}
    simulator = load_simulator("numba", threads)
    for T in LEARNED_STEPS:
        if T in done:
            continue
        artefact = _converted(network, sets, learned(T)[BALANCED], threads).artefact
        q = artefact.encode(sets.x)
        for exact in certify(artefact.graph, q[:FINDING], simulator):
            share = disagreements(artefact.graph, exact, q[FINDING:], simulator)
            row = {
                "network": network.name,
                "timesteps": T,
                "spikes_per_step": exact.spikes_per_step,
                "settle_steps": exact.settle_steps,
                "basis": exact.basis.value,
                "proved_settle_steps": exact.proved_settle_steps,
                "latency_steps": exact.latency_steps,
                "synops": exact.synops,
                "ann_macs": sum(macs_of_ann(read_onnx(network.path).graph).values()),
                "rows": FINDING,
                "differing": share.hits,
                "others": share.n,
                "ci95": list(share.interval),
            }
            _append(path, row)
            print(f"T = {T}: {row}", flush=True)


def learned_table(rows: Sequence[Row]) -> str:
    """Return top-1, the paired gain over the first setting and the operations, by T and setting."""
    lines = []
    for T in LEARNED_STEPS:
        found = {row["setting"]: row for row in rows if row["timesteps"] == T}
        base = found.get(learned(T)[FIRST].name)
        for setting in learned(T):
            row = found.get(setting.name)
            if row is None or base is None:
                continue
            operations, events = row["synops"] / row["ann_macs"], row["events_per_neuron_per_step"]
            lines.append(
                [
                    str(T),
                    setting.label,
                    percent(row),
                    "" if row is base else gain(base, row),
                    f"{events:.3f}" + _fewer(base, row, "events_per_neuron_per_step"),
                    f"{operations:.2f}" + _fewer(base, row, "synops"),
                    f"{row['convert_cpu_seconds']:.0f} s",
                ]
            )
    head = [
        "T",
        "setting",
        "top-1 %",
        "points over the first, paired",
        "events per neuron and step",
        "operations / MACs",
        "conversion, CPU time",
    ]
    return table(head, lines) if lines else ""


def _fewer(base: Row, row: Row, name: str) -> str:
    return "" if row is base else f" ({100 * (row[name] / base[name] - 1):+.0f} %)"


def gain(base: Row, row: Row) -> str:
    """Return the paired gain in points, with its 95 % interval."""
    b, a = (_right(each) for each in (base, row))
    paired = Paired(int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum()))
    low, high = paired.interval
    return f"{100 * paired.drop:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def _right(row: Row) -> np.ndarray:
    packed = np.frombuffer(base64.b64decode(row["right"]), np.uint8)
    return np.unpackbits(packed)[: row["n"]].astype(bool)


def certificate_table(rows: Sequence[Row]) -> str:
    """Return where all counts were exact, and on how many other rows they were not."""
    lines = [
        [
            str(row["timesteps"]),
            str(row["spikes_per_step"]),
            str(row["settle_steps"]),
            str(row["latency_steps"]),
            row["basis"],
            str(row["proved_settle_steps"]),
            f"{row['synops'] / row['ann_macs']:.2f}",
            differing(row),
        ]
        for row in rows
    ]
    head = [
        "T",
        "spikes a step",
        "settle steps",
        "latency",
        "basis",
        "proved from",
        "operations / MACs",
        f"other rows that differ, found on {FINDING}",
    ]
    return table(head, lines) if lines else ""


def differing(row: Row) -> str:
    """Return on how many other rows a certificate does not hold, with the 95 % interval."""
    low, high = row["ci95"]
    return f"{row['differing']} of {row['others']} [{100 * low:.2f} %, {100 * high:.2f} %]"


def sections(folder: Path) -> list[str]:
    """Return the sections of docs/accuracy.md, without those of which nothing was measured."""
    parts = (
        ("## Learned thresholds\n", LEARNED, learned_table(read(folder / "learned.jsonl"))),
        ("## Certified exactness\n", CERTIFIED, certificate_table(read(folder / "certificates.jsonl"))),
    )
    return [text for head, words, shown in parts if shown for text in (head, words, shown)]


def searched(folder: Path) -> list[Row]:
    """Return the measurements of thresholds that a search has found, for the picture."""
    names = {f"l{T}-{name}" for T in LEARNED_STEPS for name in ("learn", "activity")}
    return [row for row in read(folder / "learned.jsonl") if row["setting"] in names]


CERTIFIED = """The fewest settle steps, for each number of spikes a step, at which all spike counts of
`balanced` are those of its quantised network on the rows that they were found on; see `snnc certify`.
"""


def _append(path: Path, row: Row) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
