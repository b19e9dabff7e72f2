"""Measure the accuracy of other converters on the rows and calibration images of benchmarks/accuracy.

    benchmarks/peers/setup.sh                 # once: an environment for each peer, under build/peers
    python -m benchmarks.peers.accuracy       # all of it, which takes hours
    python -m benchmarks.peers.accuracy --networks chenyaofo_cifar10_resnet20 --limit 1000

Each measurement is one line of benchmarks/measured/peers_accuracy.jsonl and is not repeated. What the peers
do, and with which settings, stands in benchmarks/peers/README.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.accuracy.measure import NETWORKS, drawn
from benchmarks.common import corpus_data
from benchmarks.peers.job import write as write_job
from snnc.analysis.evaluation import Share

ROOT = Path(__file__).resolve().parent.parent.parent
MEASURED = ROOT / "benchmarks" / "measured"
QUIET = {"TQDM_DISABLE": "1", "LOGURU_LEVEL": "WARNING"}
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Peer:
    """A converter in an environment of its own.

    Attributes:
        name: of its environment.
        modes: that it is measured in.
    """

    name: str
    modes: tuple[str, ...]

    def command(self, environments: Path) -> list[str]:
        """Return the start of the command that measures it.

        Raises:
            click.ClickException: there is no environment.
        """
        python = environments / self.name / "bin" / "python"
        if not python.exists():
            raise click.ClickException(
                f"{self.name} is not installed in {environments}: run benchmarks/peers/setup.sh {self.name}"
            )
        return [str(python), str(ROOT / "benchmarks" / "peers" / f"{self.name}_accuracy.py")]

    def measure(
        self, environments: Path, job: Path, modes: Sequence[str], timesteps: Sequence[int], threads: int
    ) -> Iterator[Row]:
        """Yield what the peer's program prints."""
        options = (f"--modes={','.join(modes)}", f"--timesteps={','.join(map(str, timesteps))}")
        command = [*self.command(environments), str(job), *options, f"--threads={threads}"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, encoding="utf-8", env={**os.environ, **QUIET}
        ) as process:
            for line in process.stdout or ():
                yield json.loads(line)
        if process.returncode:
            raise click.ClickException(f"{self.name} stopped; see the message above")


PEERS = {
    peer.name: peer
    for peer in (
        Peer("spikingjelly", ("99.9%", "robust", "robust delayed", "LTB")),
        Peer("sinabs", ("99%",)),
    )
}


@click.command(help=__doc__)
@click.option("--networks", default=",".join(NETWORKS), help="Names, separated by commas.")
@click.option("--tools", default=",".join(PEERS), help="Names, separated by commas.")
@click.option("--timesteps", default="1,2,4,8,16", help="Values of T, separated by commas.")
@click.option("--limit", default=0, help="Rows at most; 0 for all.")
@click.option("--threads", default=1)
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT)
@click.option("--environments", type=click.Path(path_type=Path), default=ROOT / "build" / "peers")
@click.option("--cache", type=click.Path(path_type=Path), default=MEASURED / "peers_accuracy.jsonl")
def main(
    networks: str,
    tools: str,
    timesteps: str,
    limit: int,
    threads: int,
    shared: Path,
    environments: Path,
    cache: Path,
) -> None:
    """Measure what is missing."""
    corpus = {network.name: network for network in corpus_data.networks(shared)}
    for kind, names, known in (("network", networks, corpus), ("tool", tools, PEERS)):
        if unknown := [name for name in names.split(",") if name not in known]:
            raise click.ClickException(f"no {kind} is called {unknown[0]!r}; known: {', '.join(known)}")
    chosen = [PEERS[name] for name in tools.split(",")]
    for peer in chosen:
        peer.command(environments)  # says now what would stop the work later
    wanted = sorted({int(text) for text in timesteps.split(",")})
    done = {_key(row) for row in _read(cache)}
    for name in networks.split(","):
        missing = {
            peer: modes
            for peer in chosen
            if (
                modes := [
                    m for m in peer.modes if any((name, peer.name, m, T, limit) not in done for T in wanted)
                ]
            )
        }
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as folder:
            job = Path(folder) / "job.npz"
            macs = write_job(job, corpus[name], drawn(shared, corpus[name]), limit or None)
            for peer, modes in missing.items():
                for line in peer.measure(environments, job, modes, wanted, threads):
                    row = _row(line, name, peer, limit, macs)
                    if _key(row) not in done:
                        cache.parent.mkdir(parents=True, exist_ok=True)
                        with cache.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(row) + "\n")
                        print(_text(row), flush=True)


def _read(cache: Path) -> list[Row]:
    lines = cache.read_text(encoding="utf-8").splitlines() if cache.exists() else []
    return [json.loads(line) for line in lines]


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("network", "peer", "mode", "timesteps", "limit"))


def _row(line: Row, network: str, peer: Peer, limit: int, macs: int) -> Row:
    """Return what the cache keeps of a line that a peer printed."""
    share = Share(line.pop("hits"), line["n"])
    return {
        "network": network,
        "peer": peer.name,
        "limit": limit,
        **line,
        "top1": share.value,
        "top1_ci95": list(share.interval),
        "synops_ratio": line["synops"] / macs,
    }


def _text(row: Row) -> str:
    return (
        f"{row['network']} {row['tool']}, {row['mode']}, T={row['timesteps']}: {100 * row['top1']:.2f} % "
        f"(n = {row['n']}), {row['payload']}, {row['spikes_per_neuron_per_step']:.3f} spikes, "
        f"operations / MACs {row['synops_ratio']:.2f}, {row['evaluate_seconds']:.0f} s"
    )


if __name__ == "__main__":
    main()
