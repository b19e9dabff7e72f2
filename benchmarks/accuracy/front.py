"""Accuracy against operations, size and energy of sparse conversions: the front of docs/sparsity.md.

    python -m benchmarks.accuracy.front                            # every setting: hours on two cores
    python -m benchmarks.accuracy.front --settings n4-d50,t4-d50   # some of them
    python -m benchmarks.accuracy.front --tuned d10=net.snn.onnx   # an artefact that `snnc tune` made
    python -m benchmarks.accuracy.front --report docs/sparsity.md  # only write the table and the picture

One network, `chenyaofo_cifar10_resnet20`, converted after training with 1,000 training images and no labels;
accuracy is that of the bit-exact integer network on all 5,000 rows of `cifar10_test_dev`. An operation is an
event at a synapse whose weight is not zero. Networks of one step and many levels are quantised networks that
skip the zeros of activations and weights, so they stand for their rivals: 255, 15 and 3 levels for int8, int4
and int2 activations, with weights of as many bits, made by the same passes on the same images. Their first
layer and classifier have weights of int8. Each measurement is one line of benchmarks/measured/sparsity.jsonl.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.accuracy.choices import FRONT
from benchmarks.accuracy.front_page import TUNED, FrontSetting
from benchmarks.accuracy.measure import MEASURED, NETWORKS, drawn, judged, measure
from benchmarks.common import corpus_data, digests
from benchmarks.common.tables import read
from snnc.artefact import load

CACHE = "sparsity.jsonl"


def _setting(name: str, kind: str, point: str, timesteps: int, pipeline: str) -> FrontSetting:
    return FrontSetting(name, f"{kind}, {point}", timesteps, pipeline, kind, point)


def _one_step(
    name: str, kind: str, point: str, levels: int, fine: int, compensate: str = "", prune: str = ""
) -> FrontSetting:
    skip = f"fine-skip{{levels={fine}}}," if fine else ""
    clip = f"clip-activations{{levels={levels},floor=true}}"
    back = f"{skip}init-membrane,{prune}compensate{compensate},quantise-weights"
    return _setting(name, kind, point, 1, f"{FRONT},{clip},lower,multi-threshold,{back}")


def _unary(
    name: str, point: str, timesteps: int, density: str = "", operations: float = 1, fine: bool = False
) -> FrontSetting:
    skip = "fine-skip," if fine else ""
    back = (
        f"{skip}init-membrane{{fraction=0.25}},"
        f"compensate{{ramp=true,variance-restoration=0.7{density}}},quantise-weights"
    )
    mixed = f",operations={operations}" if operations < 1 else ""
    clip = f"clip-activations{{floor=true{mixed}}}"
    spikes = "dual-threshold{spikes-per-step=2}"
    kind = f"T={timesteps} unary" + (", fine skips" if fine else "")
    return _setting(name, kind, point, timesteps, f"{FRONT},{clip},lower,{spikes},{back}")


def _four(name: str, point: str, compensate: str = "", prune: str = "") -> FrontSetting:
    return _one_step(name, "T=1, 15 levels", point, 15, 63, compensate, prune)


def _rival(name: str, bits: int, levels: int, fine: int, density: str = "") -> FrontSetting:
    """Return a quantised network whose weights have as few bits as its activations."""
    compensate = f"{{bits={bits}{density and f',density={density}'}}}"
    point = f"int{bits}" + (density and f", density {density}")
    return _one_step(name, "quantised rival", point, levels, fine, compensate if bits < 8 else "")


SETTINGS = (
    _four("n4", "dense"),
    _four("n4-d50", "density 0.5", "{density=0.5}"),
    _four("n4-d48", "density 0.48, rounded in turn", "{density=0.48,fit-rounding=true}"),
    _four("n4-d30", "density 0.3", "{density=0.3}"),
    _rival("n4w4", 4, 15, 63),
    _rival("n4w4-d50", 4, 15, 63, "0.5"),
    _four("n4-c75", "channels, 0.75 of the weights", "", "prune-channels{max-weights=0.75},"),
    _four("n4-d20", "density 0.2", "{density=0.2}"),
    _four("n4-2of4", "2:4", "{pattern=2:4}"),
    _rival("n2w2", 2, 3, 15),
    _four("n4-d10", "density 0.1", "{density=0.1}"),
    _one_step("n2-d50", "T=1, 3 levels", "density 0.5", 3, 15, "{density=0.5}"),
    _unary("t4-d50", "density 0.5", 4, ",density=0.5"),
    _one_step("n2", "T=1, 3 levels", "dense", 3, 15),
    _rival("n8w8", 8, 255, 0),
    _unary("t4", "dense", 4),
    _unary("t4-fine", "dense", 4, fine=True),
    _unary("t4-mixed", "steps mixed by layer", 4, operations=0.6, fine=True),
    _unary("t8-mixed", "steps mixed by layer", 8, operations=0.5, fine=True),
    _unary("t8-mixed-d50", "steps mixed by layer, density 0.5", 8, ",density=0.5", 0.5, fine=True),
    _four("n4-share25", "channels, 25 % of each layer out", "", "prune-channels{share=0.25},"),
)
"""The most telling first."""


def rows_of(measured: Path) -> dict[str, dict[str, Any]]:
    """Return the latest measurement of each setting on all rows."""
    return {row["setting"]: row for row in read(measured / CACHE) if not row["limit"]}


def artefacts(named: Sequence[str]) -> dict[str, Path]:
    """Return the files of artefacts by their labels, from ``LABEL=FILE``.

    Raises:
        click.BadParameter: one is written otherwise, missing, or has the label of another.
    """
    found: dict[str, Path] = {}
    for each in named:
        label, equals, file = each.partition("=")
        if not (label and equals and Path(file).is_file()):
            raise click.BadParameter(f"--tuned {each}: write LABEL=FILE, with a file that is there")
        if label in found:
            raise click.BadParameter(f"--tuned {each}: {label} is the label of {found[label]}, too")
        found[label] = Path(file)
    return found


@click.command(help=__doc__)
@click.option("--settings", default="", help="Names of settings; all by default, none beside --tuned.")
@click.option(
    "--tuned",
    multiple=True,
    metavar="LABEL=FILE",
    help="An artefact of `snnc tune` to be judged on the same rows; may be given several times.",
)
@click.option("--limit", default=0, help="Rows at most; 0 for all.")
@click.option("--threads", default=1)
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT)
@click.option("--measured", type=click.Path(path_type=Path), default=MEASURED, help="Folder of the lines.")
@click.option("--keep", is_flag=True, help="Do not repeat what was measured on other sources.")
@click.option("--report", type=click.Path(path_type=Path), help="Write table and picture, and stop.")
def main(
    settings: str,
    tuned: tuple[str, ...],
    limit: int,
    threads: int,
    shared: Path,
    measured: Path,
    keep: bool,
    report: Path | None,
) -> None:
    """Measure what is missing, or write the page."""
    if report is not None:
        from benchmarks.accuracy.front_page import write

        rows = rows_of(measured)
        if not rows:
            raise click.ClickException(f"{measured / CACHE} holds no measurement on all rows")
        write(rows, SETTINGS, measured, report)
        return
    measured.mkdir(exist_ok=True)
    known = {setting.name: setting for setting in SETTINGS}
    files = artefacts(tuned)
    wanted = settings.split(",") if settings else [] if tuned else list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise click.ClickException(f"no setting is called {unknown[0]!r}; known: {', '.join(known)}")
    code = digests.compiler()
    done = {
        row["setting"]
        for row in read(measured / CACHE)
        if row["limit"] == limit and (keep or row["sources"] == code)
    }
    network = {each.name: each for each in corpus_data.networks(shared)}[NETWORKS[0]]
    sets = drawn(shared, network)
    missing = [known[name] for name in wanted if name not in done]
    for row in _tuned(network, sets, files, limit, threads):
        _keep(row, measured)
    for setting in missing:
        _keep(measure(network, sets, setting, limit, threads), measured)


def _tuned(
    network: corpus_data.Network, sets: corpus_data.Sets, files: dict[str, Path], limit: int, threads: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows of artefacts that were tuned, each with the recipe that it records.

    Raises:
        click.ClickException: one was made otherwise, or of another network.
    """
    source = hashlib.sha256(network.path.read_bytes()).hexdigest()
    for label, path in files.items():
        artefact = load(path)
        learned = next((each for each in artefact.metadata.records if each["pass"] == "tune"), None)
        if learned is None:
            raise click.ClickException(f"{path} was not made by snnc tune")
        if artefact.metadata.source_sha256 != source:
            raise click.ClickException(f"{path} was made of another network than {network.path.name}")
        pipeline = artefact.metadata.pipeline
        row = judged(network, sets, artefact, f"{TUNED}{label}", pipeline, limit, threads)
        yield {**row, "recipe": learned["recipe"], "rows": learned["rows"], "labels": learned["labels"]}


def _keep(row: dict[str, Any], measured: Path) -> None:
    """Write a measurement down, and say what it is."""
    with (measured / CACHE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(
        f"{row['setting']}: {100 * row['top1']:.2f} % (n = {row['n']}), "
        f"{row['effective_synops'] / row['ann_macs']:.3f} operations / MACs, "
        f"{row['weight_bytes'] / 1000:.1f} kB of weights",
        flush=True,
    )


if __name__ == "__main__":
    main()
