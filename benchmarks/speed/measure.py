"""Time spiking networks beside their sources, in onnxruntime and in other simulators.

    python -m benchmarks.speed                          # the whole grid: some hours on a quiet machine
    python -m benchmarks.speed --quick                  # the rows of the targets, and all at T = 4
    python -m benchmarks.speed --networks resnet18 --timesteps 4 --batches 1 --threads 1
    python -m benchmarks.speed --report docs/performance.md      # only write what was measured so far
    python -m benchmarks.speed --report docs/performance.md --machine Intel     # about this processor
    NUMBA_CPU_NAME=generic NUMBA_CPU_FEATURES= python -m benchmarks.speed       # as if it had no vectors

Each measurement is one line of benchmarks/measured/speed.jsonl and is not repeated while the simulator's
sources and the processor stay the same. Contestants take turns in rounds; what counts is the shortest
round. ResNet-18, VGG-16, a MobileNet and a ResNet-20 have random weights and thresholds set to a stated
density: see benchmarks/speed/networks.py. `zoo:fashion-resnet` and, where ../shared/models is there,
ResNet-20 and -56 for CIFAR-10 are trained networks, converted with the default preset, at their own
density.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

import click

from benchmarks.common import digests
from benchmarks.speed import limits, peers
from benchmarks.speed.contests import HEAVIEST, Row, Setting, measured, memory, profile
from benchmarks.speed.page import TARGETS, report
from snnc.backends.numba_cpu.machine.cpu import detect

ROOT = Path(__file__).resolve().parent.parent.parent
LINES = ROOT / "benchmarks" / "measured" / "speed.jsonl"
FUNCTIONS = LINES.with_name("functions.jsonl")
TIMESTEPS = (1, 2, 4, 8, 16, 32)
BATCHES = (1, 64)
THREADS = (1, 2)
DENSITIES = {"resnet18": (0.15, 0.2, 0.3), "vgg16": (0.15,), "mobilenet": (0.15,), "resnet20": (0.15,)}
TRAINED = ("zoo:fashion-resnet", "chenyaofo_cifar10_resnet20", "akamaster_resnet56_legacy")
PEER_STEPS = 4
PEERS_ON = ("resnet18, 15%", "vgg16, 15%", "resnet20, 15%", "mobilenet, 15%")
"""Other simulators run all shapes at the same speed, whatever the density."""

MANY_LEVELS = "resnet18, M = 15"
MOST_STEPS = {f"{MANY_LEVELS}, graded": 16}
"""Beyond so many steps the sums of a network are not proved to fit 32 bits."""


class Lines:
    """Measurements by what they depend on, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        """Read what was measured so far."""
        self.path = path
        self.rows: list[Row] = []
        if path.exists():
            self.rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def has(self, **key: object) -> bool:
        """Say whether there is a row with these values."""
        return any(all(row.get(name) == value for name, value in key.items()) for row in self.rows)

    def add(self, row: Row) -> None:
        """Append a row."""
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


@cache
def machine() -> str:
    """Return what the figures were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model
        )
    return f"{model}, {detect().summary}"


def settings(
    networks: tuple[str, ...], timesteps: tuple[int, ...], batches: tuple[int, ...], threads: tuple[int, ...]
) -> Iterator[Setting]:
    """Yield the grid, what is compared with onnxruntime first."""
    for network in networks:
        for T in timesteps:
            if MOST_STEPS.get(network, T) < T:
                continue
            for batch in batches:
                for n in threads:
                    yield Setting(network, T, batch, n)
                    if network.endswith("graded"):
                        yield Setting(network, T, batch, n, mode="counts")
                    if network in TRAINED:
                        yield Setting(network, T, batch, n, mode="float32")
    for network in networks:
        if network in PEERS_ON:
            for peer in peers.PEERS:
                for batch in batches:
                    yield Setting(network, PEER_STEPS, batch, 1, peer)


def of_targets(setting: Setting) -> bool:
    """Say whether a row is needed to judge the targets."""
    if setting.against != "onnxruntime":
        return setting.batch == 1 and setting.network in PEERS_ON[:3]
    if setting.timesteps == PEER_STEPS:
        return True
    if setting.mode == "float32":
        return False
    judged = setting.batch == 1 or (setting.network, setting.batch) in TARGETS
    return setting.timesteps < 16 and setting.threads == 1 and judged


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers separated by commas."""
    return tuple(map(int, text.split(",")))


@click.command()
@click.option("--networks", default="", help="Names separated by semicolons; all by default.")
@click.option("--timesteps", default=",".join(map(str, TIMESTEPS)), show_default=True)
@click.option("--batches", default=",".join(map(str, BATCHES)), show_default=True)
@click.option("--threads", default=",".join(map(str, THREADS)), show_default=True)
@click.option("--quick", is_flag=True, help="Only the rows of the targets.")
@click.option("--peers/--no-peers", default=True, help="Whether to time other simulators, too.")
@click.option("--report", "page", type=click.Path(path_type=Path), help="Only write this page.")
@click.option(
    "--machine",
    "about",
    default="",
    help="With --report: beginning of the name of the processor; the last one by default.",
)
def main(
    networks: str,
    timesteps: str,
    batches: str,
    threads: str,
    quick: bool,
    peers: bool,
    page: Path | None,
    about: str,
) -> None:
    """Measure what is missing, and write docs/performance.md."""
    lines = Lines(LINES)
    known = {"code": digests.compiler(), "machine": machine()}
    if page is not None:
        try:
            report(lines.rows, page, Lines(FUNCTIONS).rows, about)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
        return
    shapes = tuple(f"{name}, {d:.0%}" for name, densities in DENSITIES.items() for d in densities)
    chosen = tuple(part.strip() for part in networks.split(";") if part.strip())
    chosen = chosen or (*shapes, MANY_LEVELS, f"{MANY_LEVELS}, graded", *TRAINED)
    grid = [
        setting
        for setting in settings(chosen, numbers(timesteps), numbers(batches), numbers(threads))
        if (not quick or of_targets(setting)) and (peers or setting.against == "onnxruntime")
    ]
    if not lines.has(limits=True, **known):
        lines.add({**known, "limits": True, **asdict(limits.measure())})
    for number, setting in enumerate(grid):
        key = {**known, **asdict(setting)}
        if lines.has(**key):
            continue
        row = measured(setting)
        if row is None:
            click.echo(
                f"{setting.against} is not installed: benchmarks/peers/setup.sh {setting.against}", err=True
            )
            continue
        lines.add({**key, **row})
        told = row.get("ratio", row.get("times_faster"))
        click.echo(f"{number + 1}/{len(grid)} {setting}: {told} at density {row['density']:.1%}", err=True)
    for network in chosen:
        if not lines.has(profile=network, timesteps=4, **known):
            lines.add({**known, **profile(network, 4)})
    if not lines.has(memory=HEAVIEST, **known):
        lines.add({**known, **memory()})
    report(lines.rows, ROOT / "docs" / "performance.md", Lines(FUNCTIONS).rows)


if __name__ == "__main__":
    main()
