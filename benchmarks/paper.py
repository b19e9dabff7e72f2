"""The paper's method on networks of one's own, part by part, beside published figures.

    python -m benchmarks.paper --network net.onnx --train ROWS.npz --test ROWS.npz --name "ResNet-18, L = 4"
    python -m benchmarks.paper --network resnet20.onnx ... --source float.onnx --preprocess images.json
    python -m benchmarks.paper --print --report docs/ablation.md

For the network, and for its float source if there is one: its own accuracy; the spiking network at T = 1, 2,
4, 8 with plain integrate-and-fire neurons, with a dual threshold, with two signed spikes a step and with
graded spikes; of a quantised network, such as `snnc train` writes, that of its own integers too. The
ablation takes the three parts of
error compensation learning away in all combinations: thresholds by least squares or the maximum, dual
threshold, initial potential. Each measurement is a line of benchmarks/measured/paper.jsonl, and is not
repeated on the same sources, network and rows. Accuracy is that of the bit-exact integer network on all test
rows.

Published figures are the authors' own, for networks that they trained, and measured by them: they are no
measurement of this project.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import digests
from benchmarks.common.corpus_data import Network, Sets
from benchmarks.common.source import source_of
from benchmarks.common.tables import percent, read, table, write_between
from benchmarks.learning.__main__ import rows_of
from snnc.analysis.evaluation import evaluate
from snnc.arguments import read_source
from snnc.backends import load_simulator
from snnc.compiler import Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.ir import ann

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "benchmarks" / "measured" / "paper.jsonl"
TIMESTEPS = (1, 2, 4, 8)
CALIBRATED = 1000
FRONT = "fold-batchnorm,exact-max-pool,compose-linear,rectify-linear"
Row = dict[str, Any]

PUBLISHED = (
    ("QCFS, ICLR 2022", "CIFAR-10 ResNet-18", 96.04, {2: 75.44, 4: 90.43, 8: 94.82}),
    ("QCFS, ICLR 2022", "CIFAR-10 VGG-16", 95.52, {2: 91.18, 4: 93.96, 8: 94.95}),
    ("QCFS, ICLR 2022", "CIFAR-10 ResNet-20", 91.77, {2: 73.20, 4: 83.75, 8: 89.55}),
    ("error compensation learning", "CIFAR-10 ResNet-18", None, {2: 94.75}),
    ("SRP, AAAI 2023 (T = 4, and 4 more before)", "CIFAR-10 ResNet-18", None, {4: 95.25}),
    ("SlipReLU, ICML 2023", "CIFAR-10 ResNet-18", None, {1: 93.11}),
    ("QCFS, ICLR 2022", "CIFAR-100 ResNet-20", 69.94, {4: 34.14, 8: 55.37}),
    (
        "COS, ICLR 2023 (and 4 steps more)",
        "CIFAR-100 ResNet-20",
        None,
        {1: 59.22, 2: 64.21, 4: 65.18, 8: 67.17},
    ),
)
"""Method, network, accuracy of its source, and by T, in percent, as published."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One conversion.

    Attributes:
        table: where it stands.
        label: its line.
        timesteps: T.
        pipeline: its passes, or the name of a preset.
    """

    table: str
    label: str
    timesteps: int
    pipeline: str


def settings(*, quantised: bool) -> Iterator[Setting]:
    """Yield all conversions of a network."""
    neurons = {
        "plain IF": f"{FRONT},clip-activations,lower{{signed=false}},init-membrane,quantise-weights",
        "dual threshold": f"{FRONT},clip-activations,lower,dual-threshold,init-membrane,quantise-weights",
        "two spikes a step": "balanced",
        "graded": "graded",
    }
    if quantised:
        neurons["its own integers, graded"] = "exact"
    for (label, pipeline), T in itertools.product(neurons.items(), TIMESTEPS):
        yield Setting("neurons", label, T, pipeline)
    for learned, dual, start in itertools.product((True, False), repeat=3):
        parts = [
            FRONT,
            f"clip-activations{{granularity=layer,method={'mse' if learned else 'max'}}}",
            "lower" if dual else "lower{signed=false}",
            *(["dual-threshold"] if dual else []),
            f"init-membrane{{fraction={0.5 if start else 0}}}",
            "quantise-weights",
        ]
        names = ("thresholds", learned), ("dual threshold", dual), ("initialisation", start)
        label = ", ".join(name for name, there in names if there) or "none of them"
        for T in TIMESTEPS:
            yield Setting("parts", label, T, ",".join(parts))


def converted(network: Path, sets: Sets, setting: Setting, threads: int) -> Any:
    """Return the spiking network."""
    named = "," not in setting.pipeline
    options = Options(
        setting.timesteps,
        preset=setting.pipeline if named else None,
        pipeline=None if named else setting.pipeline,
        threads=threads,
    )
    return convert(network, sets.calibration, options, preprocessing=sets.preprocessing).artefact


def measure(network: Path, sets: Sets, setting: Setting, threads: int) -> Row:
    """Convert, and judge on all test rows."""
    artefact = converted(network, sets, setting, threads)
    found = evaluate(
        artefact.graph,
        artefact.encode,
        sets.x,
        sets.y,
        simulator=load_simulator("numba", threads),
        source=source_of(Network("", network, "", {}), sets),
    ).as_dict()
    found.pop("layers", None)
    return {"table": setting.table, "label": setting.label, "pipeline": setting.pipeline, **found}


def is_quantised(network: Path) -> bool:
    """Whether every rectifier rounds to levels of its own."""
    rectifiers = read_source(network)[0].graph.of_type(ann.Relu)
    return bool(rectifiers) and all(node.scale is not None for node in rectifiers)


def run(name: str, network: Path, sets: Sets, measured: Path, threads: int, only: str = "") -> None:
    """Measure what is missing of one network."""
    identity = hashlib.sha256(digests.compiler().encode() + network.read_bytes())
    for array in (sets.calibration, sets.x, sets.y):
        identity.update(np.ascontiguousarray(array).tobytes())
    key = identity.hexdigest()[:16]
    done = {(r["table"], r["label"], r["timesteps"]) for r in read(measured) if r["identity"] == key}
    for setting in settings(quantised=is_quantised(network)):
        if (setting.table, setting.label, setting.timesteps) in done or only not in setting.label:
            continue
        row = measure(network, sets, setting, threads)
        with measured.open("a", encoding="utf-8") as stream:
            line = {"network": name, "identity": key, "sources": digests.compiler(), **row}
            stream.write(json.dumps(line) + "\n")
        print(f"{name}, {setting.label}, T = {setting.timesteps}: {percent(row)}", flush=True)


def pages(rows: Sequence[Row]) -> list[str]:
    """Return the tables of what was measured last."""
    latest = {(row["network"], row["table"], row["label"], row["timesteps"]): row for row in rows}
    found = []
    for name in dict.fromkeys(row["network"] for row in rows):
        mine = {key[1:]: row for key, row in latest.items() if key[0] == name}
        first = next(iter(mine.values()))
        source = first.get("ann")
        told = "" if source is None else f" ({percent(source)}, n = {first['n']:,})"
        for kind in ("neurons", "parts"):
            labels = dict.fromkeys(label for table_, label, _ in mine if table_ == kind)
            lines = [
                [
                    label,
                    *(percent(mine[kind, label, T]) if (kind, label, T) in mine else "-" for T in TIMESTEPS),
                ]
                for label in labels
            ]
            if lines:
                head = (kind, *(f"T = {T}" for T in TIMESTEPS))
                found.append(f"## {name}{told}: {kind}\n\n{table(head, lines)}")
    published = [
        [method, network, "-" if source_ is None else f"{source_:.2f}", *_by_steps(values)]
        for method, network, source_, values in PUBLISHED
    ]
    head = ("method", "network", "source", *(f"T = {T}" for T in TIMESTEPS))
    found.append(f"## Published, by their authors\n\n{table(head, published)}")
    return found


def _by_steps(values: dict[int, float]) -> list[str]:
    return [f"{values[T]:.2f}" if T in values else "-" for T in TIMESTEPS]


@click.command(help=__doc__)
@click.option("--network", type=click.Path(path_type=Path), help="The network.")
@click.option("--source", type=click.Path(path_type=Path), help="The float network that it came from.")
@click.option("--name", default="", help="What it is called in the tables.")
@click.option("--train", type=click.Path(path_type=Path), help="Training rows, .npz with x and y.")
@click.option("--test", type=click.Path(path_type=Path), help="Test rows, likewise.")
@click.option("--preprocess", type=click.Path(path_type=Path), help="From rows to what both take, JSON.")
@click.option("--limit", default=0, help="Test rows at most; 0 for all.")
@click.option("--only", default="", help="Only settings whose label holds this.")
@click.option("--threads", default=2)
@click.option("--measured", type=click.Path(path_type=Path), default=MEASURED)
@click.option("--print", "only_print", is_flag=True, help="Print the tables of what was measured, and stop.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the tables into this page.")
def main(
    network: Path | None,
    source: Path | None,
    name: str,
    train: Path | None,
    test: Path | None,
    preprocess: Path | None,
    limit: int,
    only: str,
    threads: int,
    measured: Path,
    only_print: bool,
    report: Path | None,
) -> None:
    """Measure, and print the tables."""
    if not only_print:
        if network is None or train is None or test is None:
            raise click.UsageError("give --network, --train and --test, or --print")
        (x, y), most = rows_of(test), limit or None
        drawn = rows_of(train)[0]
        chosen = np.sort(np.random.default_rng(0).permutation(len(drawn))[:CALIBRATED])
        preprocessing = None if preprocess is None else Preprocessing.read(preprocess)
        sets = Sets(drawn[chosen], x[:most], y[:most], preprocessing)
        measured.parent.mkdir(parents=True, exist_ok=True)
        for label, path in (
            (name or network.stem, network),
            (f"{name or network.stem}, float source", source),
        ):
            if path is not None:
                run(label, path, sets, measured, threads, only)
    found = "\n".join(pages(read(measured)))
    print(found)
    if report is not None:
        write_between(report, "paper", found)


if __name__ == "__main__":
    main()
