"""The page of the networks beyond classifiers, made from the records."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import onnxruntime as ort

from benchmarks.corpus.wild import rival
from benchmarks.corpus.wild.measuring import STEPS, Subject
from snnc import __version__

Record = dict[str, Any]
Told = Mapping[tuple[Subject, str], Record | None]
Records = Mapping[Subject, Mapping[str, Record | None]]
HOLDS = {True: ": holds", False: ": **fails**", None: ""}

FEW = 10
"""Nodes of ordinary ONNX that the page names of one network."""

TARGETS = {"precise": (30.0, 20.0), "one-step": (15.0, None)}
"""Least median and least worst SQNR over the networks, in dB, that are aimed at."""

INTRODUCTION = """\
SQNR in dB is that of an output with the source's mean removed,
`10 log10(sum (s - mean s)^2 / sum (y - s)^2)`, on rows that were not calibrated on; a network counts with its
worst output. *Density* is the share of neurons that send anything in a step, *ratio* the CPU time of the
spiking network over that of onnxruntime's fp32 on the same rows, one thread each; both, like the check of the
task and the seconds of the conversion (CPU, one thread), are of `precise`. Calibration rows are other images,
sounds, files or states than those judged by; what they are is told below, with their number: where it is
small, as for large maps, an activation that the judged rows need may never have been seen. Networks of a
single real input are listed apart, and count in no median. An output that hardly varies on few rows has a
low SQNR whatever it is. *onnxruntime int8* is the worst output of the same network with onnxruntime's own
static 8-bit quantisation (weights per channel, ranges of activations), calibrated and judged on the same
rows, 200 calibration rows at most; it leaves recurrent cells in floats, which is said.
"""


def report(told: Told, command: str) -> str:
    """Return the page.

    Args:
        told: the record of every network at every preset; ``None`` where there is none.
        command: that prints it.
    """
    subjects = list(dict.fromkeys(subject for subject, _ in told))
    records = {s: {p: told[s, p] for p in STEPS} for s in subjects}
    rivals = {s: told.get((s, rival.NAME)) for s in subjects}
    any_of = {s: next((r for r in records[s].values() if r is not None), None) for s in subjects}
    measured = [s for s in subjects if any_of[s] is not None]
    can = [s for s in measured if "share" in (any_of[s] or {})]
    most = [s for s in can if _of(any_of[s])["share"] >= 0.9]
    single = [s for s in can if _of(any_of[s])["single"]]
    several = [s for s in can if s not in single]
    sources = sorted({str(r["code"]) for each in records.values() for r in each.values() if r})
    lines = [
        "# Networks beyond classifiers",
        "",
        "Trained networks of others that are no plain ReLU classifiers, checked and, where possible,",
        "converted. Printed by",
        "",
        f"    {command}",
        "",
        f"snnc {__version__} (sources {', '.join(sources)}), Python {platform.python_version()}, onnxruntime",
        f"{ort.__version__}, {platform.machine()}; int8.",
        "",
        f"Of {len(subjects)} networks {len(measured)} have been looked at, and {len(can)} of these can be",
        f"converted, {len(most)} of them with at least 90 % of their multiply-accumulates in spikes.",
        "",
        INTRODUCTION,
        *_summary(records, several),
        "",
        *_beside(records, can, rivals),
        *_table(records, several, rivals),
        "",
        "## Networks of a single real input",
        "",
        *_table(records, single, rivals),
        "",
        "## Every output",
        "",
        "SQNR in dB and cosine, the source's mean removed from both; `-` for an output that never varies.",
        "",
        *_outputs(records, can),
        "",
        "## What they are calibrated on",
        "",
        *(f"- `{s.name}`: {_of(any_of[s])['said']}; {_rows(any_of[s])}" for s in can),
        "",
        "## What runs as ordinary ONNX",
        "",
        *_host(any_of, can),
        "",
        "## What cannot be converted",
        "",
        *_refused(any_of, [s for s in measured if s not in can]),
    ]
    missing = [
        f"- `{s.name}`: {', '.join(f'`{p}`' for p in STEPS if records[s][p] is None)}"
        for s in subjects
        if any(record is None for record in records[s].values())
    ]
    if missing:
        lines += ["", "## What has not been run", "", *missing]
    return "\n".join(lines) + "\n"


def _of(record: Record | None) -> Record:
    return {} if record is None else record


def _rows(record: Record | None) -> str:
    found = _of(record)
    return f"{found.get('rows', 0)} rows, judged by {found.get('judged', 0)}"


def worst(record: Record | None) -> float | None:
    """Return the SQNR of a record's worst output, in dB; ``None`` where nothing was measured or varies."""
    found = [sqnr for sqnr, _ in _of(record).get("near", {}).values() if sqnr is not None]
    return min(found, default=None)


def _summary(records: Records, subjects: Sequence[Subject]) -> list[str]:
    lines = ["| preset | T | networks | median SQNR | worst SQNR | aimed at |", "|---|---|---|---|---|---|"]
    for preset, steps in STEPS.items():
        found = {s.name: sqnr for s in subjects if (sqnr := worst(records[s][preset])) is not None}
        if not found:
            lines.append(f"| `{preset}` | {steps} | 0 | - | - | {_aim(preset)} |")
            continue
        least = min(found, key=lambda name: found[name])
        lines.append(
            f"| `{preset}` | {steps} | {len(found)} | {median(found.values()):.1f} dB | "
            f"{found[least]:.1f} dB ({least}) | {_aim(preset)} |"
        )
    return lines


def _aim(preset: str) -> str:
    if preset not in TARGETS:
        return "within 2 dB of `one-step`"
    middle, least = TARGETS[preset]
    return f"median {middle:.0f} dB" + ("" if least is None else f", worst {least:.0f} dB")


def _beside(
    records: Records, subjects: Sequence[Subject], rivals: Mapping[Subject, Record | None]
) -> list[str]:
    """Say of how many networks `precise` is nearer to the source than onnxruntime's 8 bits."""
    both = [(worst(records[s]["precise"]), worst(rivals[s])) for s in subjects]
    pairs = [(own, other) for own, other in both if own is not None and other is not None]
    if not pairs:
        return []
    ahead = sum(own > other for own, other in pairs)
    return [
        f"Of {len(pairs)} networks that onnxruntime quantises, too, `precise` is nearer to {ahead}.",
        "",
    ]


def _table(
    records: Records, subjects: Sequence[Subject], rivals: Mapping[Subject, Record | None]
) -> list[str]:
    presets = " | ".join(f"`{preset}`, T = {steps}" for preset, steps in STEPS.items())
    costs = "task check | seconds | density | ratio"
    lines = [
        f"| network | task | in spikes | host nodes | {presets} | onnxruntime int8 | {costs} |",
        "|---|---|---|---|" + "---|" * len(STEPS) + "---|---|---|---|---|",
    ]
    for subject in subjects:
        found = _of(next(r for r in records[subject].values() if r is not None))
        cells = [_quality(records[subject][preset]) for preset in STEPS]
        lines.append(
            f"| {subject.name} | {subject.task} | {100 * found['share']:.1f} % | {found['host_nodes']} | "
            f"{' | '.join([*cells, _rival(rivals[subject]), *_cost(records[subject]['precise'])])} |"
        )
    return lines


def _quality(record: Record | None) -> str:
    if record is None:
        return "not run"
    if "failed" in record:
        return f"failed: {record['failed']}"
    found = worst(record)
    return "-" if found is None else f"{found:.1f} dB"


def _rival(record: Record | None) -> str:
    if record is None:
        return "-"
    if "failed" in record:
        return "is int8" if "near" in record else "refused"
    found = worst(record)
    floats = f" ({', '.join(record['floats'])} in floats)" if record["floats"] else ""
    return "-" if found is None else f"{found:.1f} dB{floats}"


def _cost(record: Record | None) -> list[str]:
    """Return the cells of task, seconds, density and ratio."""
    if record is None or "near" not in record:
        return ["-"] * 4
    check = record["check"]
    task = "-" if check is None else check["said"] + HOLDS[check["holds"]]
    return [task, f"{record['seconds']:.0f}", f"{record['density']:.3f}", f"{record['ratio']:.1f}"]


def _outputs(records: Records, subjects: Sequence[Subject]) -> list[str]:
    presets = " | ".join(f"`{preset}`" for preset in STEPS)
    lines = [f"| network | output | {presets} |", "|---|---|" + "---|" * len(STEPS)]
    for subject in subjects:
        near = {preset: _of(records[subject][preset]).get("near", {}) for preset in STEPS}
        names = dict.fromkeys(name for each in near.values() for name in each)
        for name in names:
            cells = [_near(*near[p][name]) if name in near[p] else "-" for p in STEPS]
            lines.append(f"| {subject.name} | {name} | {' | '.join(cells)} |")
    return lines


def _near(sqnr: float | None, cosine: float | None) -> str:
    return f"{'-' if sqnr is None else f'{sqnr:.1f} dB'}, {'-' if cosine is None else f'{cosine:.4f}'}"


def _host(any_of: Mapping[Subject, Record | None], subjects: Sequence[Subject]) -> list[str]:
    lines = []
    for subject in subjects:
        record = _of(any_of[subject])
        if not record["host"]:
            continue
        between = " (`--host any`)" if record["host_mode"] == "any" else ""
        lines.append(f"- `{subject.name}`{between}: {record['host_line']}")
        lines += [f"  - {text}" for text in record["host"][:FEW]]
        if len(record["host"]) > FEW:
            lines.append(f"  - and {len(record['host']) - FEW} more; `snnc check` lists them all")
    return lines or ["Nothing."]


def _refused(any_of: Mapping[Subject, Record | None], subjects: Sequence[Subject]) -> list[str]:
    lines = ["| network | task | reasons |", "|---|---|---|"]
    for subject in subjects:
        told = "<br>".join(reason["text"].replace("|", "\\|") for reason in _of(any_of[subject])["reasons"])
        lines.append(f"| {subject.name} | {subject.task} | {told} |")
    return lines if subjects else ["All can."]
