"""Measure the accuracy of post-training conversion on real networks, setting by setting.

    python -m benchmarks.accuracy                            # all of it, which takes hours on two cores
    python -m benchmarks.accuracy --tables main --networks chenyaofo_cifar10_resnet20 --limit 1000
    python -m benchmarks.accuracy --report docs/accuracy.md  # only write what was measured so far

Each measurement is one line of benchmarks/measured/accuracy.jsonl, with the digest of the sources that made
it, and is not repeated: take lines out to make them anew. Conversion sees 1,000 training images, drawn by
seed, and no labels; accuracy is that of the bit-exact integer network on the rows of `*_test_dev`. The
networks and the data lie in ../shared, which is not part of the project.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.accuracy import choices, learned, page
from benchmarks.accuracy.choices import Setting
from benchmarks.accuracy.weight_size import weight_bytes
from benchmarks.common import corpus_data, digests
from benchmarks.common.source import source_of
from benchmarks.common.tables import read
from snnc.analysis.costs import macs_of_ann
from snnc.analysis.evaluation import evaluate
from snnc.artefact import Artefact
from snnc.backends import load_simulator
from snnc.compiler import Options, convert
from snnc.frontend import read_onnx
from snnc.numerics.quantisation import widest_layer

ROOT = Path(__file__).resolve().parent.parent.parent
MEASURED = ROOT / "benchmarks" / "measured"
NETWORKS = (
    "chenyaofo_cifar10_resnet20",
    "akamaster_resnet56_legacy",
    "chenyaofo_cifar100_resnet20",
    "mlperf_resnet8_keras",
)
CALIBRATION_ROWS = 1000
SEED = 0


def drawn(folder: Path, network: corpus_data.Network, rows: int = CALIBRATION_ROWS) -> corpus_data.Sets:
    """Return the test rows, and so many training rows drawn by seed."""
    sets = corpus_data.sets(folder, network, 10**9)
    order = np.random.default_rng(SEED).permutation(len(sets.calibration))[:rows]
    return replace(sets, calibration=sets.calibration[np.sort(order)])


def measure(
    network: corpus_data.Network, sets: corpus_data.Sets, setting: Setting, limit: int, threads: int
) -> dict[str, Any]:
    """Convert with one setting and judge the result."""
    options = Options(
        timesteps=setting.timesteps,
        pipeline=setting.pipeline,
        precision=setting.precision,
        seed=SEED,
        threads=threads,
    )
    start, used = time.perf_counter(), time.process_time()
    conversion = convert(network.path, sets.calibration, options, preprocessing=sets.preprocessing)
    converted, used = time.perf_counter() - start, time.process_time() - used
    kept = [
        {"divergence": record.findings["divergence"], "kept": record.findings["kept"]}
        for record in conversion.records
        if "divergence" in record.findings
    ]
    return {
        **judged(network, sets, conversion.artefact, setting.name, setting.pipeline, limit, threads),
        "compensation": kept,
        "convert_seconds": round(converted, 1),
        "convert_cpu_seconds": round(used, 1),
    }


def judged(
    network: corpus_data.Network,
    sets: corpus_data.Sets,
    artefact: Artefact,
    name: str,
    pipeline: str,
    limit: int,
    threads: int,
) -> dict[str, Any]:
    """Judge a converted network beside its source on the test rows; ``name`` and ``pipeline`` are its own."""
    start = time.perf_counter()
    found = evaluate(
        artefact.graph,
        artefact.encode,
        sets.x[: limit or None],
        sets.y[: limit or None],
        simulator=load_simulator("numba", threads),
        source=source_of(network, sets),
    ).as_dict()
    del found["layers"]
    widest = widest_layer(artefact.graph) if artefact.graph.integer else None
    return {
        "network": network.name,
        "setting": name,
        "sources": digests.compiler(),
        "pipeline": pipeline,
        "limit": limit,
        "ann_macs": sum(macs_of_ann(read_onnx(network.path).graph).values()),
        **found,
        "weight_bits": None if widest is None else widest[1],
        "weight_bytes": weight_bytes(artefact.graph),
        "evaluate_seconds": round(time.perf_counter() - start, 1),
    }


@click.command(help=__doc__)
@click.option("--networks", default=",".join(NETWORKS), help="Names, separated by commas.")
@click.option(
    "--tables", default="main,binary,ablation", help="Which tables: main, binary, ablation, learned, certify."
)
@click.option("--settings", default="", help="Single settings by name, instead of tables.")
@click.option("--limit", default=0, help="Rows at most; 0 for all.")
@click.option("--threads", default=2)
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT)
@click.option("--measured", type=click.Path(path_type=Path), default=MEASURED, help="Folder of the lines.")
@click.option("--keep", is_flag=True, help="Do not repeat what was measured on other sources.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the tables and pictures, and stop.")
def main(
    networks: str,
    tables: str,
    settings: str,
    limit: int,
    threads: int,
    shared: Path,
    measured: Path,
    keep: bool,
    report: Path | None,
) -> None:
    """Measure what is missing, or write the report."""
    cache = measured / "accuracy.jsonl"
    measured.mkdir(exist_ok=True)
    if report is not None:
        page.write(measured, report)
        return
    rows = read(cache)
    code = digests.compiler()
    done = {
        (row["network"], row["pipeline"], row["timesteps"], row["limit"])
        for row in rows
        if keep or row["sources"] == code
    }
    corpus = {network.name: network for network in corpus_data.networks(shared)}
    wanted = tables.split(",")
    for table, job in (("learned", learned.measure_all), ("certify", learned.certify_all)):
        if table in wanted:
            first = corpus[NETWORKS[0]]
            job(first, drawn(shared, first, learned.ROWS), measured, threads)
    for name in networks.split(","):
        if name not in corpus:
            raise click.ClickException(f"no network is called {name!r}; known: {', '.join(corpus)}")
        chosen = _chosen(settings, tables, first=name == NETWORKS[0])
        missing = [s for s in chosen if (name, s.pipeline, s.timesteps, limit) not in done]
        sets = drawn(shared, corpus[name]) if missing else None
        for setting in missing:
            if sets is None:
                break
            row = measure(corpus[name], sets, setting, limit, threads)
            with cache.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{name} {setting.label}: {100 * row['top1']:.2f} % (n = {row['n']}), "
                f"converted in {row['convert_seconds']:.0f} s",
                flush=True,
            )


def _chosen(settings: str, tables: str, *, first: bool) -> list[Setting]:
    """Return the settings asked for; binary spikes and the ablation are measured on the first network."""
    known = choices.known()
    if settings:
        unknown = [name for name in settings.split(",") if name not in known]
        if unknown:
            raise click.ClickException(f"no setting is called {unknown[0]!r}; known: {', '.join(known)}")
        return [known[name] for name in settings.split(",")]
    found = [*choices.MAIN, *choices.LOW_LATENCY] if "main" in tables else []
    if first and "binary" in tables:
        found += choices.BINARY
    if first and "ablation" in tables:
        found += [s for T in choices.ABLATION_STEPS for s in choices.ablation(T)]
    return found


if __name__ == "__main__":
    main()
