"""Break three trained networks on purpose in ten ways each, and count how often the verdict sees through it.

    python -m benchmarks.report.verdicts [--shared FOLDER] [--seed N ...] [--rows N] [--report FILE.md]

The networks and their data are those of the optional folder `../shared`. Layer and size of every mistake are
drawn by the seed. A verdict is right if its first finding names the cause, and the layer or, for mistakes
that concern all of it, the whole network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.common.corpus_data import DEFAULT, Network, networks, sets
from snnc.backends import load_simulator
from snnc.data.preprocessing import prepared_rows
from snnc.data.readings import NetworkInput
from snnc.frontend import read_onnx
from snnc.writing import replacing
from tests.breakages import BREAKAGES, Setting, is_right

NETWORKS = ("chenyaofo_cifar10_resnet20", "mlperf_resnet8_keras", "chenyaofo_cifar100_resnet20")


@dataclass(frozen=True, slots=True)
class Case:
    """One network with one mistake.

    Attributes:
        seed: that drew layer and size.
        network: its name.
        mistake: what was done to it.
        where: the layer; empty where the whole network is concerned.
        said: the verdict.
        right: whether it names cause and place.
    """

    seed: int
    network: str
    mistake: str
    where: str
    said: str
    right: bool


@click.command()
@click.option("--shared", type=click.Path(path_type=Path), default=DEFAULT, help="The optional folder.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(0,), show_default=True)
@click.option("--calibration", default=200, show_default=True, help="Calibration rows.")
@click.option("--rows", default=96, show_default=True, help="Rows that are measured.")
@click.option("--network", "chosen", multiple=True, default=NETWORKS, show_default=True)
@click.option("--report", type=click.Path(path_type=Path), help="Write the verdicts as Markdown.")
def main(
    shared: Path,
    seeds: tuple[int, ...],
    calibration: int,
    rows: int,
    chosen: tuple[str, ...],
    report: Path | None,
) -> None:
    """Print every verdict and their number."""
    known = {network.name: network for network in networks(shared)}
    cases = []
    for number, name in enumerate(chosen):
        setting = _setting(shared, known[name], calibration, rows)
        for case in _cases(setting, name, number, seeds):
            click.echo(
                f"{_mark(case)}  {name}, seed {case.seed}: {case.mistake} ({case.where or 'all of it'})"
            )
            click.echo(f"       {case.said}")
            cases.append(case)
    for line in _counts(cases):
        click.echo(line)
    if report is not None:
        with replacing(report) as file:
            file.write(_markdown(cases, calibration, rows).encode())


def _setting(shared: Path, network: Network, calibration: int, rows: int) -> Setting:
    source = read_onnx(network.path)
    data = sets(shared, network, calibration)

    def prepared(x: np.ndarray) -> np.ndarray:
        x = prepared_rows(x, NetworkInput.of(source.layout), data.preprocessing)
        return source.layout.to_canonical(x).astype(np.float32)

    simulator = load_simulator("numba")
    return Setting(
        source.graph, prepared(data.calibration), prepared(data.x[:rows]), data.y[:rows], simulator
    )


def _cases(setting: Setting, name: str, number: int, seeds: tuple[int, ...]) -> Iterator[Case]:
    for seed in seeds:
        for index, (mistake, plant) in enumerate(BREAKAGES.items()):
            made, layer, causes = plant(setting, np.random.default_rng([seed, number, index]))
            found = made.verdict()[1]
            yield Case(seed, name, mistake, layer or "", found.text, is_right(found, layer, causes))


def _mark(case: Case) -> str:
    return "right" if case.right else "WRONG"


def _counts(cases: list[Case]) -> list[str]:
    lines = []
    for seed in dict.fromkeys(case.seed for case in cases):
        same = [case.right for case in cases if case.seed == seed]
        lines.append(f"seed {seed}: {sum(same)} of {len(same)} verdicts name the right layer and cause first")
    return lines


def _markdown(cases: list[Case], calibration: int, rows: int) -> str:
    lines = [
        "# The verdict, put to the test",
        "",
        "Trained networks, broken on purpose in ten ways each (`tests/breakages.py`), and the first sentence",
        "of `snnc report` about them. Layer and size of every mistake are drawn by the seed; the rules of",
        "`snnc/report/rules.py` know nothing of them. Printed by",
        "",
        "    python -m benchmarks.report.verdicts --report docs/verdicts.md",
        "",
        f"{calibration} calibration rows, {rows} test rows.",
        "",
    ]
    lines.extend(f"- {count}" for count in _counts(cases))
    for seed in dict.fromkeys(case.seed for case in cases):
        lines += [
            "",
            f"## Seed {seed}",
            "",
            "| network | mistake | where | verdict | |",
            "|---|---|---|---|---|",
        ]
        for case in cases:
            if case.seed == seed:
                where = f"`{case.where}`" if case.where else "all of it"
                cells = (case.network, case.mistake, where, case.said.replace("|", "\\|"), _mark(case))
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
