"""Convert every network of the corpus in ../shared/models and compare it with its source on the same rows.

    python -m benchmarks.corpus --limit 1000                   # half an hour on two cores
    python -m benchmarks.corpus --networks cntk_mnist_winml --settings balanced@4,fast@8 --limit 500
    python -m benchmarks.corpus --limit 1000 --only-report --report docs/corpus.md

Each measurement is one line of benchmarks/measured/corpus.jsonl, and is not repeated as long as the
compiler's sources stay the same. Everything is converted in int8, on the first 1,000 training rows, without
labels; accuracy is measured on the rows of `*_test_dev`, the source network in onnxruntime.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import corpus_data, digests
from benchmarks.common.corpus_data import Network
from benchmarks.common.source import source_of
from benchmarks.corpus.page import report
from snnc.analysis.answers import outputs_of
from snnc.analysis.evaluation import evaluate, evaluate_ann
from snnc.backends import load_simulator
from snnc.cli.bars import Bars
from snnc.compiler import Conversion, Options, convert
from snnc.diagnostics import Severity
from snnc.errors import SnncError
from snnc.frontend import SourceModel, check_onnx, read_onnx
from snnc.ir.graph import NumberArray
from snnc.passes import PRESETS
from snnc.progress import Progress, Silent
from snnc.source.ann_session import AnnSession
from snnc.source.calibration import Calibration
from snnc.source.source_session import SourceSession

ROOT = Path(__file__).resolve().parent.parent.parent
CALIBRATION_ROWS = 1000
SYNTHETIC_ROWS = 256


DEFAULTS = "one-step@1,balanced@4,fast@32"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a measurement depends on, beside the network.

    Attributes:
        code: hash of the compiler's sources.
        preset: the pipeline; empty for the source network alone.
        timesteps: T; 0 for the source network alone.
        limit: rows at most; 0 for all.
    """

    code: str
    preset: str
    timesteps: int
    limit: int


@dataclass(slots=True)
class Cache:
    """Measurements by what they depend on, one JSON object a line."""

    path: Path
    rows: dict[tuple[Any, ...], dict[str, Any]]

    @classmethod
    def open(cls, path: Path) -> Cache:
        """Read what was measured so far."""
        rows = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            row = json.loads(line)
            rows[cls.key(row)] = row
        return cls(path, rows)

    @staticmethod
    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        """Return what distinguishes a measurement."""
        return tuple(row[name] for name in ("network", "sha256", "code", "preset", "timesteps", "limit"))

    def add(self, row: dict[str, Any]) -> None:
        """Keep a measurement, at once and for good."""
        self.rows[self.key(row)] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def measure(network: Network, settings: Sequence[Setting], shared: Path, cache: Cache) -> None:
    """Measure what the cache does not hold yet of one network, and print each result."""
    digest = hashlib.sha256(network.path.read_bytes()).hexdigest()
    common = {"network": network.name, "sha256": digest, "data": network.data}
    wanted = [each for each in settings if Cache.key({**common, **asdict(each)}) not in cache.rows]
    problem = unsupported(network)
    for setting in wanted:
        alone = setting.timesteps == 0
        start = time.perf_counter()
        try:
            if alone:
                found = source_accuracy(network, shared, setting) if network.data else {}
                found["unsupported"] = problem
            elif problem:
                continue
            elif network.data:
                found = accuracy(network, shared, setting)
            else:
                found = agreement(network, setting)
        except Exception as error:  # noqa: BLE001 - the table says so, and the other networks go on
            kind = "" if isinstance(error, SnncError) else f"{type(error).__name__}: "
            found = {"failed": kind + str(error).replace(str(network.path), network.path.name)}
            if alone:
                found["unsupported"] = problem
        row = {**common, **asdict(setting), **found, "seconds": round(time.perf_counter() - start, 1)}
        cache.add(row)
        print(line_of(row), flush=True)


def unsupported(network: Network) -> str:
    """Return why a network is out of scope; empty if it is not."""
    try:
        found = [item for item in check_onnx(network.path) if item.severity is Severity.ERROR]
    except SnncError as error:
        return str(error).replace(str(network.path), network.path.name)
    if not found:
        return ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    where = f", at {found[0].node!r}" if found[0].node else ""
    return f"{found[0].code.number}: {found[0].message}{where}{more}"


def source_accuracy(network: Network, shared: Path, setting: Setting) -> dict[str, Any]:
    """Judge the source network alone, in onnxruntime."""
    rows = corpus_data.sets(shared, network, CALIBRATION_ROWS)
    limit = setting.limit or None
    source = source_of(network, rows)
    (scores,) = evaluate_ann(source, rows.x[:limit], rows.y[:limit], progress()).values()  # one output
    return {"ann": scores.as_dict()}


def accuracy(network: Network, shared: Path, setting: Setting) -> dict[str, Any]:
    """Convert a network and judge it beside its source."""
    rows = corpus_data.sets(shared, network, CALIBRATION_ROWS)
    limit = setting.limit or None
    start = time.perf_counter()
    options = Options(timesteps=setting.timesteps, preset=setting.preset)
    conversion = convert(
        network.path, rows.calibration, options, preprocessing=rows.preprocessing, progress=progress()
    )
    converted = time.perf_counter()
    found = evaluate(
        conversion.artefact.graph,
        conversion.artefact.encode,
        rows.x[:limit],
        rows.y[:limit],
        simulator=load_simulator("numba"),
        source=source_of(network, rows),
        progress=progress(),
    ).as_dict()
    del found["layers"]
    return {
        **found,
        **conditions(conversion),
        "note": rows.note,
        "calibration_rows": len(rows.calibration),
        "convert_seconds": round(converted - start, 1),
        "evaluate_seconds": round(time.perf_counter() - converted, 1),
    }


def agreement(network: Network, setting: Setting) -> dict[str, Any]:
    """Convert a network on synthetic rows and compare its answers with its source's on others of the kind."""
    source = read_onnx(network.path)
    calibration, x = (corpus_data.synthetic(source.layout.source_shape, SYNTHETIC_ROWS, s) for s in (1, 2))
    start = time.perf_counter()
    options = Options(timesteps=setting.timesteps, preset=setting.preset)
    conversion = convert(network.path, calibration, options, progress=progress())
    converted = time.perf_counter()
    graph = conversion.artefact.graph
    readout = graph.readout
    outputs = outputs_of(
        graph,
        conversion.artefact.encode,
        x,
        simulator=load_simulator("numba"),
        timesteps=setting.timesteps,
        progress=progress(),
    )
    logits = readout.real(outputs.reshape(-1, *readout.shape), setting.timesteps).reshape(len(x), -1)
    expected, judge = answers(network, source, x)
    error = float(np.linalg.norm(logits - expected) / np.linalg.norm(expected))
    alike = int((logits.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return {
        **conditions(conversion),
        "relative_error": error,
        "alike": alike,
        "n": len(x),
        "outputs": expected.shape[1],
        "judge": judge,
        "convert_seconds": round(converted - start, 1),
        "evaluate_seconds": round(time.perf_counter() - converted, 1),
    }


def answers(network: Network, source: SourceModel, x: NumberArray) -> tuple[NumberArray, str]:
    """Return the source's answers before a final softmax, (n, outputs), and what they were compared with."""
    rows = source.layout.to_canonical(x)
    logits = Calibration(rows).logits(source.graph)
    name = source.graph.output
    read = AnnSession(source.graph, [name]).run(rows)[name].reshape(len(x), -1)
    try:
        original = SourceSession(network.path).run(x)
    except SnncError:
        return logits, "the graph as it was read; onnxruntime cannot run the file"
    error = np.abs(read - original).max() / np.abs(original).max()
    return logits, f"the graph as it was read; the file itself differs by {error:.0e} in onnxruntime"


def conditions(conversion: Conversion) -> dict[str, Any]:
    """Return how a network was converted."""
    return {
        "pipeline": conversion.artefact.metadata.pipeline,
        "warnings": [item.code.number for item in conversion.diagnostics],
    }


def progress() -> Progress:
    """Return bars where someone watches."""
    return Bars(lambda text: None) if sys.stderr.isatty() else Silent()


def line_of(row: dict[str, Any]) -> str:
    """Return one line for the terminal."""
    head = f"{row['network']:34} {row['preset']:11} T={row['timesteps']:<3}"
    if row.get("failed"):
        return f"{head} failed: {row['failed']}"
    if row["timesteps"] == 0:
        ann = row.get("ann")
        known = f"ANN {100 * ann['top1']:.2f} %" if ann else "no labelled rows"
        return f"{head} {known}  {row['unsupported']}"
    if "relative_error" in row:
        return f"{head} relative error {row['relative_error']:.3f}, alike {row['alike']} of {row['n']}"
    return (
        f"{head} SNN {100 * row['top1']:.2f} %, ANN {100 * row['ann']['top1']:.2f} % on {row['n']}, "
        f"{row['spikes_per_neuron_per_step']:.3f} spikes, {row['payload']}, {row['seconds']:.0f} s"
    )


def parsed(text: str, code: str, limit: int) -> list[Setting]:
    """Read settings, ``PRESET@T`` separated by commas; the source network alone comes first.

    Raises:
        click.UsageError: one is written otherwise.
    """
    found = [Setting(code, "", 0, limit)]
    for part in text.split(","):
        preset, _, steps = part.strip().partition("@")
        if preset not in PRESETS or not steps.isdecimal() or int(steps) < 1:
            raise click.UsageError(f"{part!r} is no setting: write PRESET@T, such as balanced@4")
        found.append(Setting(code, preset, int(steps), limit))
    return found


@click.command()
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT, show_default=True)
@click.option("--networks", default="", metavar="A,B", help="Only these; all by default.")
@click.option("--settings", default=DEFAULTS, show_default=True, metavar="PRESET@T,...")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="Rows per network; 0 for all.")
@click.option("--cache", type=click.Path(path_type=Path), default=ROOT / "benchmarks/measured/corpus.jsonl")
@click.option(
    "--report", "page", type=click.Path(path_type=Path), help="Write what is measured to this page."
)
@click.option("--only-report", is_flag=True, help="Measure nothing.")
@click.option("--any-code", is_flag=True, help="Use measurements of other versions of the sources, too.")
def main(
    shared: Path,
    networks: str,
    settings: str,
    limit: int,
    cache: Path,
    page: Path | None,
    only_report: bool,
    any_code: bool,
) -> None:
    """Convert every network of the corpus and compare it with its source."""
    corpus = corpus_data.networks(shared)
    chosen = [name.strip().removesuffix(".onnx") for name in networks.split(",") if name.strip()]
    unknown = sorted(set(chosen) - {network.name for network in corpus})
    if unknown:
        raise click.UsageError(f"not in the corpus: {', '.join(unknown)}")
    known = Cache.open(cache)
    code = digests.compiler()
    wanted = parsed(settings, code, limit)
    if any_code:
        # The newest measurement of each kind stands for this version.
        for row in list(known.rows.values()):
            known.rows[Cache.key({**row, "code": code})] = row
    for network in corpus:
        if not only_report and (not chosen or network.name in chosen):
            measure(network, wanted, shared, known)
    if page is not None:
        keys = {tuple(asdict(setting).values()) for setting in wanted}
        rows = [row for key, row in known.rows.items() if key[2:] in keys]
        options = f" --settings {settings}" if settings != DEFAULTS else ""
        options += f" --limit {limit}" if limit else ""
        command = f"python -m benchmarks.corpus{options} --report docs/corpus.md"
        columns = [(setting.preset, setting.timesteps) for setting in wanted[1:]]
        text = report(rows, [network.name for network in corpus], columns, command)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
