"""docs/scale.md, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.scale.model import checks, latest, predictions

Found = Sequence[Mapping[str, Any]]


def text(found: Found) -> str:
    """Return the page."""
    return "\n".join(
        [
            "# What work on many workers costs",
            "",
            (
                "Printed by `python -m benchmarks.scale page` from `benchmarks/measured/scale.jsonl`; the "
                "commands that"
            ),
            (
                "measure are at the head of `benchmarks/scale/__main__.py`. How to use a cluster: "
                "[cluster.md](cluster.md)."
            ),
            (
                "A time is the fastest of the runs; *load* is that of the machine in the minute before the "
                "end of the run,"
            ),
            "with its cores: figures made beside other work are lower bounds of efficiency, not more.",
            "",
            *_overhead(found),
            *_bytes(found),
            *_efficiency(found),
            *_kills(found),
            *_memory(found),
            *_growth(found),
        ]
    )


def _load(one: Mapping[str, Any]) -> str:
    return f"{one['load'][0]:.1f} of {one['cores']} cores"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["Not measured yet.", ""]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _overhead(found: Found) -> list[str]:
    rows = []
    for where in dict.fromkeys(m["cluster"] for m in found if m["kind"] == "overhead"):
        for size in (10, 1_000_000):
            one = latest(found, "overhead", cluster=where, bytes=size)
            if one is not None:
                shown = "a dask scheduler on loopback" if "://" in where or where.endswith(".toml") else where
                rows.append(
                    (shown, f"{size:,}", f"{1e3 * one['seconds']:.1f}", f"{one['start']:.1f}", _load(one))
                )
    head = ("workers", "bytes there and back", "ms per task", "s to start", "load")
    return ["## An empty task", "", *_table(head, rows)]


def _bytes(found: Found) -> list[str]:
    one = latest(found, "bytes")
    if one is None:
        return []
    rows, tasks = one["rows"], one["tasks"]
    return [
        "## Bytes",
        "",
        (
            f"`eval` of `zoo:fashion-resnet` beside its source, {rows:,} rows of {one['row']} bytes in "
            f"{tasks} tasks: "
            f"{one['sent'] / rows:,.0f} bytes go with a row, {one['came'] / rows:,.0f} come back, of which "
            f"most is "
            f"that of the events of every neuron, once a task ({one['came'] / tasks / 1e3:,.0f} kB). The two "
            f"networks, "
            f"files of {one['files'] / 1e3:,.0f} kB, are {one['shared'] / 1e3:,.0f} kB once for each worker. "
            f"Rows that "
            "workers read by their path are not sent."
        ),
        "",
    ]


def _efficiency(found: Found) -> list[str]:
    lines = ["## Efficiency with one and two workers", ""]
    rows = []
    for kind in ("eval", "sweep"):
        cases = list(dict.fromkeys(m["case"] for m in found if m["kind"] == kind))
        pair = latest(found, kind, case="two processes")
        for case in cases:
            one = latest(found, kind, case=case)
            if one is None:
                continue
            share = ""
            if case == "local:2" and pair is not None:
                share = f"{pair['seconds'] / one['seconds']:.2f} of two processes"
            alone = latest(found, kind, case="one process")
            if case == "local:1" and alone is not None:
                share = f"{one['seconds'] / alone['seconds'] - 1:+.1%} beside one process"
            what = f"{kind}, {one['rows']:,} rows" + (f", {one['cells']} cells" if kind == "sweep" else "")
            rows.append((what, case, f"{one['seconds']:.1f}", share, _load(one)))
    lines += _table(("work", "done by", "s", "", "load"), rows)
    return [
        *lines,
        (
            "The targets are 0.92 of two independent processes with two workers, and at most 5 % more than "
            "one process "
            "with one worker on 60 s of work."
        ),
        "",
    ]


def _kills(found: Found) -> list[str]:
    one = latest(found, "kills")
    if one is None:
        return []
    return [
        "## Killed workers",
        "",
        (
            f"{one['sweeps']} sweeps of three cells on two processes, a random one of which is killed at a "
            f"random time: "
            f"{one['killed']} were killed at work, {one['identical']} of {one['sweeps']} files of "
            f"results are "
            f"identical "
            f"to that of one process ({one['seconds'] / one['sweeps']:.1f} s a sweep, load {_load(one)})."
        ),
        "",
    ]


def _memory(found: Found) -> list[str]:
    rows = []
    for size in sorted({m["megabytes"] for m in found if m["kind"] == "memory"}):
        one = latest(found, "memory", megabytes=size)
        if one is not None:
            rows.append((f"{size:,}", f"{one['rows']:,}", f"{one['resident']:,}", f"{one['anonymous']:,}"))
    if not rows:
        return []
    head = ("MB of calibration rows", "rows", "peak MB resident", "of it not of files")
    return [
        "## Memory of the client",
        "",
        (
            "`convert --cluster local:1` of a small network on float32 rows of 3x224x224 in an `.npy` file. "
            "What is not of files is what the client itself holds; the rest are pages of libraries and of "
            "the rows."
        ),
        "",
        *_table(head, rows),
        (
            "What the client holds does not grow with the rows: they are read in blocks, whose pages are "
            "given back. The target was 300 MB in all. Of the peak about 150 MB are Python and its "
            "libraries, code included; the rest are calls of 32 rows, 19 MB each, of which three are on "
            "their way to the worker."
        ),
        "",
    ]


def _growth(found: Found) -> list[str]:
    lines = [
        "## More workers",
        "",
        (
            "A simulation of one client that hands out tasks (`benchmarks/scale/model.py`), with "
            "the measured "
            "time of an "
            "empty task and a network of 10 Gbit/s. First beside the two points that were measured:"
        ),
        "",
    ]
    rows = [
        (
            str(each["workers"]),
            f"{each['rows']:,}",
            f"{each['computed']:.1f}",
            f"{each['measured']:.1f}",
            f"{each['computed'] / each['measured'] - 1:+.0%}",
        )
        for each in checks(found)
    ]
    lines += _table(("workers", "rows", "s computed", "s measured", "difference"), rows)
    lines += ["Then 50,000 rows of ImageNet's size, 150 kB each:", ""]
    rows = [
        (
            f"{each['row_seconds']:g}",
            each["rows"],
            str(each["shard"]),
            f"{each['most_workers']:,.0f}",
            *(f"{each[f'efficiency_{n}']:.2f}" for n in (10, 100, 1000)),
        )
        for each in predictions(found)
    ]
    head = ("s per row", "rows", "rows of a task", "workers kept busy", "10 workers", "100", "1,000")
    lines += _table(head, rows)
    return [
        *lines,
        (
            "The client saturates where the time that a task takes it, times the workers, is that of a task "
            "at a worker: "
            "*workers kept busy*. Larger tasks move that point up as long as rows are not sent, "
            "and leave the "
            "last tasks "
            "to few workers; where rows are sent, the network decides, and workers should read them by their "
            "path "
            '(`rows = "path"`). `eval` and `sweep` have tasks of 500 rows: with 1,000 workers there are only '
            "100 of them "
            "in 50,000 rows, so that one evaluation uses 100 workers, and a sweep of ten cells or "
            "more uses all."
        ),
        "",
    ]
