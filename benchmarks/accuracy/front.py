"""Accuracy against operations, size and energy of sparse conversions: the front of docs/sparsity.md.

    python -m benchmarks.accuracy.front                            # every setting: an hour on two cores
    python -m benchmarks.accuracy.front --settings n4-d50,t4-d50   # some of them
    python -m benchmarks.accuracy.front --report docs/sparsity.md  # only write the table and the picture

One network, `chenyaofo_cifar10_resnet20`, converted after training with 1,000 training images and no labels;
accuracy is that of the bit-exact integer network on all 5,000 rows of `cifar10_test_dev`. An operation is an
event at a synapse whose weight is not zero. Networks of one step and many levels are quantised networks that
skip the zeros of activations and weights, so they stand for these: 3, 15 and 255 levels for int2, int4 and
int8 activations, with weights of int8, made by the same passes. Each measurement is one line of
benchmarks/measured/sparsity.jsonl.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from benchmarks.accuracy.choices import FRONT, Setting
from benchmarks.accuracy.measure import MEASURED, NETWORKS, drawn, measure
from benchmarks.common import corpus_data, digests
from benchmarks.common.tables import read

CACHE = "sparsity.jsonl"


def _one_step(name: str, label: str, levels: int, fine: int, compensate: str, prune: str = "") -> Setting:
    skip = f"fine-skip{{levels={fine}}}," if fine else ""
    clip = f"clip-activations{{levels={levels},floor=true}}"
    back = f"{skip}init-membrane,{prune}compensate{compensate},quantise-weights"
    return Setting(name, label, 1, f"{FRONT},{clip},lower,multi-threshold,{back}")


def _unary(name: str, label: str, timesteps: int, density: str, prune: str = "") -> Setting:
    back = (
        f"init-membrane{{fraction=0.25}},{prune}"
        f"compensate{{ramp=true,variance-restoration=0.7{density}}},quantise-weights"
    )
    clip = "clip-activations{floor=true}"
    spikes = "dual-threshold{spikes-per-step=2}"
    return Setting(name, label, timesteps, f"{FRONT},{clip},lower,{spikes},{back}")


def _four(name: str, label: str, compensate: str, prune: str = "") -> Setting:
    return _one_step(name, f"T=1, 15 levels, {label}", 15, 63, compensate, prune)


SETTINGS = (
    _four("n4", "dense", ""),
    _four("n4-d50", "density 0.5", "{density=0.5}"),
    _four("n4-d30", "density 0.3", "{density=0.3}"),
    _four("n4-c75", "channels pruned to 0.75 of the weights", "", "prune-channels{max-weights=0.75},"),
    _four("n4-d20", "density 0.2", "{density=0.2}"),
    _four("n4-2of4", "2:4", "{pattern=2:4}"),
    _four("n4-d10", "density 0.1", "{density=0.1}"),
    _one_step("n2-d50", "T=1, 3 levels, density 0.5", 3, 15, "{density=0.5}"),
    _unary("t4-d50", "T=4 unary, density 0.5", 4, ",density=0.5"),
    _one_step("n2", "T=1, 3 levels, dense", 3, 15, ""),
    _one_step("n8", "T=1, 255 levels, dense", 255, 0, ""),
    _unary("t4", "T=4 unary, dense", 4, ""),
    _four("n4-share25", "25 % of the channels of every layer pruned", "", "prune-channels{share=0.25},"),
)
"""The most telling first."""


def rows_of(measured: Path) -> dict[str, dict[str, Any]]:
    """Return the latest measurement of each setting."""
    return {row["setting"]: row for row in read(measured / CACHE)}


@click.command(help=__doc__)
@click.option("--settings", default="", help="Names of settings; all by default.")
@click.option("--limit", default=0, help="Rows at most; 0 for all.")
@click.option("--threads", default=1)
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT)
@click.option("--measured", type=click.Path(path_type=Path), default=MEASURED, help="Folder of the lines.")
@click.option("--keep", is_flag=True, help="Do not repeat what was measured on other sources.")
@click.option("--report", type=click.Path(path_type=Path), help="Write table and picture, and stop.")
def main(
    settings: str, limit: int, threads: int, shared: Path, measured: Path, keep: bool, report: Path | None
) -> None:
    """Measure what is missing, or write the page."""
    if report is not None:
        from benchmarks.accuracy.front_page import write

        write(rows_of(measured), SETTINGS, report)
        return
    known = {setting.name: setting for setting in SETTINGS}
    wanted = settings.split(",") if settings else list(known)
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
    for name in wanted:
        if name in done:
            continue
        row = measure(network, sets, known[name], limit, threads)
        with (measured / CACHE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"{known[name].label}: {100 * row['top1']:.2f} % (n = {row['n']}), "
            f"{row['effective_synops'] / row['ann_macs']:.3f} operations / MACs",
            flush=True,
        )


if __name__ == "__main__":
    main()
