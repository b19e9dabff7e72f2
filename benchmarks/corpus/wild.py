"""Networks that are no plain ReLU classifiers: what spikes do of them, and how near the outputs come.

    python -m benchmarks.corpus.wild --report docs/wild.md            # some minutes on two cores
    python -m benchmarks.corpus.wild --networks ultraface_rfb320_nopost

Each network of ../shared/wild is checked; those that can be converted are, with `one-step` at T = 1 and with
`balanced` at T = 8, and their outputs are held to the source's in onnxruntime on other rows than those that
were calibrated on. Each network is one line of benchmarks/measured/wild.jsonl, and is not measured again as
long as the compiler's sources stay the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime as ort

from benchmarks.common import digests
from snnc import __version__, simulate
from snnc.compiler import Options, convert, examine
from snnc.diagnostics import causes
from snnc.errors import SnncError, UsageError
from snnc.frontend import SourceModel
from snnc.metrics import Case, Task
from snnc.metrics import measure as measured
from snnc.source.host import Host

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / "benchmarks/measured/wild.jsonl"
SETTINGS = (("one-step", 1), ("balanced", 8))
MOST_ROWS = 64
"""Calibration rows at most."""

MOST_VALUES = 120_000_000
"""Values of all activations of all calibration rows at most: large maps get fewer rows."""

TEST_ROWS = 16
FEW = 10
"""Nodes of ordinary ONNX that the page names of one network."""

ENOUGH = 48
"""Rows of their own from which on none are made by varying others."""

Rows = dict[str, np.ndarray]


def feeds_of(folder: Path, name: str) -> list[Rows]:
    """Return the inputs that come with a network, one row each."""
    path = folder / "data/inputs.py"
    spec = importlib.util.spec_from_file_location("wild_inputs", path)
    if spec is None or spec.loader is None:
        raise click.ClickException(f"{path} cannot be read")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[Rows] = module.feeds(name, 2 * MOST_ROWS)
    return found


def varied(feed: Rows, generator: np.random.Generator) -> Rows:
    """Return a row like another: moved along its axes, brighter or darker, with a little noise."""
    found = {}
    for name, value in feed.items():
        axes = [axis for axis in range(1, value.ndim) if value.shape[axis] >= 16]
        moved = np.roll(value, [int(generator.integers(value.shape[a])) for a in axes], axes)
        if value.dtype.kind == "f":
            noise = generator.normal(0, 0.02 * float(value.std()) + 1e-9, value.shape)
            moved = (moved * generator.uniform(0.8, 1.2) + noise).astype(value.dtype)
        found[name] = moved
    return found


def rows_of(feeds: Sequence[Rows], count: int) -> tuple[Rows, Rows, str]:
    """Return rows to calibrate on, others to judge by, and how they were made."""
    if len(feeds) >= ENOUGH:
        used, others = feeds[0::2][:count], feeds[1::2][:TEST_ROWS]
        return _joined(used), _joined(others), f"{len(used)}"
    first = feeds[0::2]
    second = feeds[1::2] or feeds
    generator = np.random.default_rng(0)
    used = [varied(first[index % len(first)], generator) for index in range(count)]
    generator = np.random.default_rng(1)
    others = [*second, *(varied(second[index % len(second)], generator) for index in range(TEST_ROWS))]
    return _joined(used), _joined(others[:TEST_ROWS]), f"{count}, varied from {len(first)}"


def _joined(feeds: Sequence[Rows]) -> Rows:
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


def open_shapes(path: Path, feed: Rows) -> tuple[str, ...]:
    """Return ``--shape`` of the inputs whose sizes a file leaves open, beside the batch."""
    found = []
    for value in onnx.load(path, load_external_data=False).graph.input:
        sizes = value.type.tensor_type.shape.dim
        if value.name in feed and any(size.dim_value < 1 for size in sizes[1:]):
            found.append(f"{value.name}={','.join(map(str, feed[value.name].shape))}")
    return tuple(found)


def outputs_of(path: Path, rows: Rows) -> Rows:
    """Return what the source gives, row by row."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    count = len(next(iter(rows.values())))
    found = [session.run(names, {k: v[i : i + 1] for k, v in rows.items()}) for i in range(count)]
    return {name: np.concatenate([each[index] for each in found]) for index, name in enumerate(names)}


def nearness(wanted: np.ndarray, found: np.ndarray) -> list[float | None]:
    """Return SQNR in dB and cosine of an output; ``None`` where one cannot be computed."""
    answers, source = (each.reshape(len(each), -1).astype(np.float64) for each in (found, wanted))
    case = Case(answers, Task.REGRESSION, source)
    return [_value(name, case) for name in ("sqnr", "cosine")]


def _value(name: str, case: Case) -> float | None:
    try:
        return measured(name, case).value
    except UsageError:  # no signal, or nothing that varies
        return None


def measure(folder: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Check a network and, where it can be, convert and judge it."""
    name = str(entry["file"]).removesuffix(".onnx")
    path = folder / "models" / entry["file"]
    row: dict[str, Any] = {
        "network": name,
        "task": entry["task"],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "code": digests.compiler(),
    }
    feeds = feeds_of(folder, name)
    shape = open_shapes(path, feeds[0])
    row["shape"] = list(shape)
    start = time.perf_counter()
    source, found = examine(path, Options(shape=shape))
    row["check_seconds"] = time.perf_counter() - start
    if source is None:
        row["reasons"] = [{"text": str(cause), "places": len(cause.findings)} for cause in causes(found)]
        return row
    row |= _told(source.host)
    values = sum(int(np.prod(node.shape)) for node in source.graph)
    count = int(np.clip(MOST_VALUES // values, 4, MOST_ROWS))
    used, others, row["rows"] = rows_of(feeds, count)
    wanted = outputs_of(path, others)
    row["settings"] = {}
    for preset, steps in SETTINGS:
        row["settings"][f"{preset}@{steps}"] = _converted(
            path, source, Options(steps, preset, shape=shape), used, others, wanted
        )
    return row


def _told(host: Host | None) -> dict[str, Any]:
    if host is None:
        return {"share": 1.0, "host": [], "host_nodes": 0}
    causes = [node.text for node in host.nodes if node.is_cause]
    return {"share": host.share, "host": causes, "host_nodes": len(host.nodes), "host_line": host.line}


def _converted(
    path: Path, source: SourceModel, options: Options, used: Rows, others: Rows, wanted: Rows
) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        artefact = convert(path, _given(used), options).artefact
        seconds = time.perf_counter() - start
        answers = artefact.decode(simulate(artefact, _given(others)), _given(others))
    except SnncError as error:
        return {"failed": str(error)}
    ends = {output.name: output.ends for output in source.outputs if source.host is None}
    quality = {
        output: None if ends.get(output) else nearness(value, answers[output].reshape(value.shape))
        for output, value in wanted.items()
    }
    classes = {
        output: float((answers[output].reshape(value.shape).argmax(-1) == value.argmax(-1)).mean())
        for output, value in wanted.items()
        if ends.get(output)
    }
    return {"seconds": seconds, "near": quality, "agreement": classes}


def _given(rows: Rows) -> Any:
    return next(iter(rows.values())) if len(rows) == 1 else rows


def report(rows: Sequence[Mapping[str, Any]], command: str) -> str:
    """Return the page."""
    can = [row for row in rows if "settings" in row]
    sources = ", ".join(sorted({str(row["code"]) for row in rows}))
    most = [row for row in can if row["share"] >= 0.9]
    lines = [
        "# Networks beyond classifiers",
        "",
        "Trained networks of others that are no plain ReLU classifiers, checked and, where possible,",
        "converted. Printed by",
        "",
        f"    {command}",
        "",
        f"snnc {__version__} (sources {sources}), Python {platform.python_version()}, onnxruntime",
        f"{ort.__version__}, {platform.machine()}; int8.",
        "",
        f"Of {len(rows)} networks {len(can)} can be converted, {len(most)} of them with at least 90 % of",
        "their multiply-accumulates in spikes. What has no spiking form runs as ordinary ONNX before or",
        "behind them (`--host edges`).",
        "",
        "SQNR in dB and cosine (docs/metrics.md) are held to the source on rows that were not calibrated on,",
        "for each output; where the spiking network leaves a final softmax out, the share of equal classes",
        "instead. Calibration rows are the network's own, or varied from few: moved, brighter or darker,",
        "with noise.",
        "",
        "| network | task | in spikes | host nodes | rows | "
        + " | ".join(f"`{preset}`, T = {steps}" for preset, steps in SETTINGS)
        + " | check, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "settings" not in row:
            continue
        cells = [_quality(row["settings"][f"{preset}@{steps}"]) for preset, steps in SETTINGS]
        lines.append(
            f"| {row['network']} | {row['task']} | {100 * row['share']:.1f} % | {row['host_nodes']} | "
            f"{row['rows']} | {' | '.join(cells)} | {row['check_seconds']:.2f} |"
        )
    lines += ["", "## What runs as ordinary ONNX", ""]
    for row in can:
        if row["host"]:
            lines.append(f"- `{row['network']}`: {row['host_line']}")
            lines += [f"  - {text}" for text in row["host"][:FEW]]
            if len(row["host"]) > FEW:
                lines.append(f"  - and {len(row['host']) - FEW} more; `snnc check` lists them all")
    lines += [
        "",
        "## What cannot be converted",
        "",
        "| network | task | reasons | check, s |",
        "|---|---|---|---|",
    ]
    for row in rows:
        if "settings" not in row:
            told = "<br>".join(reason["text"].replace("|", "\\|") for reason in row["reasons"])
            lines.append(f"| {row['network']} | {row['task']} | {told} | {row['check_seconds']:.2f} |")
    return "\n".join(lines) + "\n"


def _quality(found: Mapping[str, Any]) -> str:
    if "failed" in found:
        return f"failed: {found['failed']}"
    told = [_near(*values) for values in found["near"].values() if values is not None]
    told += [f"{100 * value:.1f} % equal" for value in found["agreement"].values()]
    return f"{'; '.join(told)} ({found['seconds']:.0f} s)"


def _near(sqnr: float | None, cosine: float | None) -> str:
    return f"{'-' if sqnr is None else f'{sqnr:.1f} dB'}, {'-' if cosine is None else f'{cosine:.4f}'}"


@click.command(help=__doc__)
@click.option("--shared", type=click.Path(path_type=Path), default=ROOT.parent / "shared")
@click.option("--networks", default="", help="Only these, separated by commas.")
@click.option("--report", "page", type=click.Path(path_type=Path), help="Write the page there.")
@click.option("--only-report", is_flag=True, help="Measure nothing.")
def main(shared: Path, networks: str, page: Path | None, only_report: bool) -> None:
    """Measure and report."""
    folder = shared / "wild"
    if not (folder / "index.json").exists():
        click.echo(f"{folder} is not there: nothing to measure")
        return
    entries = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in CACHE.read_text().splitlines()] if CACHE.exists() else []
    known = {(row["network"], row["sha256"], row["code"]): row for row in rows}
    latest = {row["network"]: row for row in rows}
    wanted = set(filter(None, networks.split(",")))
    for entry in entries:
        name = entry["file"].removesuffix(".onnx")
        digest = hashlib.sha256((folder / "models" / entry["file"]).read_bytes()).hexdigest()
        if only_report or (wanted and name not in wanted) or (name, digest, digests.compiler()) in known:
            continue
        row = measure(folder, entry)
        latest[name] = row
        with CACHE.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        click.echo(f"{name}: {json.dumps(row.get('settings', row.get('reasons')))[:300]}")
    if page is not None:
        order = [entry["file"].removesuffix(".onnx") for entry in entries]
        told = [latest[name] for name in order if name in latest]
        page.write_text(report(told, f"python -m benchmarks.corpus.wild --report {page}"), encoding="utf-8")


if __name__ == "__main__":
    main()
