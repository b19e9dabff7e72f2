"""Networks of smooth activations that `snnc train` made: what conversion costs them, and another tool.

    snnc train --arch vit --data cifar10_train.npz ... -o vit.onnx
    python -m benchmarks.accuracy.smooth vit.onnx --train cifar10_train.npz --test cifar10_test.npz
    python -m benchmarks.accuracy --report docs/accuracy.md       # writes the table

Each setting is a line of benchmarks/measured/smooth.jsonl. Conversion sees 1,000 training images, drawn by
seed, without labels. With `--sta`, for a transformer, SpikingJelly's recipe for transformers gets the same
images (`benchmarks/peers/setup.sh spikingjelly` first). Times are those of batches of 50 images, all in turns
in one run, the least of all rounds.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
import numpy as np

from benchmarks.accuracy.measure import CALIBRATION_ROWS, MEASURED, ROOT, SEED
from benchmarks.common import digests
from benchmarks.common.tables import Row, percent, read, table
from benchmarks.peers import transformer
from benchmarks.speed.peers import installed
from snnc.analysis.answers import Source
from snnc.analysis.evaluation import Share, evaluate
from snnc.analysis.speed import clock
from snnc.backends import load_simulator
from snnc.compiler import Options, convert
from snnc.data.preprocessing import prepared_rows
from snnc.frontend import read_onnx
from snnc.ir.graph import NumberArray
from snnc.passes import PRESETS
from snnc.source.source_session import SourceSession

CACHE = MEASURED / "smooth.jsonl"
SETTINGS = (("one-step", 1), ("precise", 1), ("low-latency", 4), ("low-latency", 8))
STA_STEPS = (4, 8)
BATCH = 50
ROUNDS = 5


def measured(
    network: Path, calibration: NumberArray, x: NumberArray, y: NumberArray, threads: int, sta: Path | None
) -> list[Row]:
    """Return a line for each setting, and for the other tool.

    Args:
        network: the ONNX file; it takes pixels.
        calibration: (m, channels, height, width).
        x: test images, likewise.
        y: their labels.
        threads: of every contestant.
        sta: interpreter that has SpikingJelly; ``None`` without.
    """
    session = SourceSession(network, threads)
    source = Source(session, lambda rows: prepared_rows(rows, session.takes, None))
    simulator = load_simulator("numba", threads)
    common = {"network": network.stem, "sources": digests.compiler(), "threads": threads}
    now = clock(threads)
    some = x[:BATCH]
    rows: dict[str, Row] = {}
    turns: dict[str, Callable[[], float]] = {}

    def timed(run: Callable[[], object]) -> Callable[[], float]:
        def turn() -> float:
            start = now()
            run()
            return now() - start

        return turn

    for preset, timesteps in SETTINGS:
        options = Options(
            timesteps=timesteps, pipeline=PRESETS[preset].pipeline.text, seed=SEED, threads=threads
        )
        artefact = convert(network, calibration, options).artefact
        judged = evaluate(artefact.graph, artefact.encode, x, y, simulator=simulator, source=source).as_dict()
        del judged["layers"]
        name = f"`{preset}`"
        rows[f"{name} {timesteps}"] = {**common, "tool": f"snnc, {name}", **judged}
        print(f"{name}, T = {timesteps}: {percent(judged)}", flush=True)
        encoded = artefact.encode(some)
        turns[f"{name} {timesteps}"] = timed(partial(simulator.run, artefact.graph, encoded, timesteps))
    prepared = source.prepare(some)
    turns["source"] = timed(partial(session.run, prepared))
    with ExitStack() as opened:
        if sta is not None:
            job = Path(opened.enter_context(tempfile.TemporaryDirectory())) / "job.npz"
            learned, seen = (each.astype(np.float32) for each in (calibration, x))
            transformer.write_job(job, read_onnx(network).graph, learned, seen, y)
            found, once = opened.enter_context(transformer.judged(sta, job, STA_STEPS, threads))
            for each in found:
                share = Share(each.pop("hits"), each["n"])
                name = f"{each['tool']} {each['timesteps']}"
                rows[name] = {**common, **each, "top1": share.value, "top1_ci95": list(share.interval)}
                print(f"{each['tool']}, T = {each['timesteps']}: {percent(rows[name])}", flush=True)
                turns[name] = partial(once, each["timesteps"])
        best = {name: min(turn() for _ in range(2)) for name, turn in turns.items()}
        for _ in range(ROUNDS):
            best = {name: min(best[name], turn()) for name, turn in turns.items()}
    for name, row in rows.items():
        row["ms"] = best[name] / BATCH * 1e3
        row["source_ms"] = best["source"] / BATCH * 1e3
    return list(rows.values())


def section(measurements: Path) -> str:
    """Return the table of the last measurement of each network and setting; nothing without any."""
    latest = {(row["network"], row["tool"], row["timesteps"]): row for row in read(measurements / CACHE.name)}
    sources = {network: row["ann"] for (network, _, _), row in latest.items() if "ann" in row}
    lines = []
    for network, source in sources.items():
        lines.append([network, "source", "", percent(source), "", f"{source['n']:,}", "", "1"])
        lines += [
            [
                network,
                tool,
                str(timesteps),
                percent(row),
                f"{100 * (row['top1'] - source['top1']):+.2f}",
                f"{row['n']:,}",
                row["payload"],
                f"{row['ms'] / row['source_ms']:.2f}",
            ]
            for (of, tool, timesteps), row in latest.items()
            if of == network
        ]
    head = ("network", "tool", "T", "top-1 in % [95 %]", "change", "n", "payload", "time / onnxruntime fp32")
    return "\n".join(["## Smooth activations\n", _TEXT, table(head, lines)]) if lines else ""


_TEXT = """Networks that `snnc train` made of the training images ([training](training.md#from-nothing)):
`vit`, a transformer of 1.9 million weights, and `mobilenetv3`, with HardSwish and squeeze-and-excitation.
STA (Jiang et al., ICLR 2024), as SpikingJelly's own example sets it, puts encoders behind normalisations,
GELU and attention, and leaves everything else in floats; what stands in front of the first block is given to
it in floats, and is no part of its time. Its payload is the most thresholds that one neuron sent at once.
Time is that of batches of 50 images, all in turns in one run, the least of several rounds.
`python -m benchmarks.accuracy.smooth NETWORK.onnx --train ROWS.npz --test ROWS.npz` measures it.
"""


@click.command(help=__doc__)
@click.argument("network", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--train", type=click.Path(exists=True, path_type=Path), required=True, help="Rows, .npz with x."
)
@click.option("--test", type=click.Path(exists=True, path_type=Path), required=True, help="With labels, y.")
@click.option("--limit", default=0, help="Test rows at most; 0 for all.")
@click.option("--threads", default=1)
@click.option("--sta", is_flag=True, help="Measure SpikingJelly's recipe for transformers, too.")
@click.option("--environments", type=click.Path(path_type=Path), default=ROOT / "build" / "peers")
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE)
def main(
    network: Path,
    train: Path,
    test: Path,
    limit: int,
    threads: int,
    sta: bool,
    environments: Path,
    cache: Path,
) -> None:
    """Measure all settings of a network."""
    python = installed(environments, "spikingjelly") if sta else None
    if sta and python is None:
        raise click.ClickException(
            "SpikingJelly is not installed: run benchmarks/peers/setup.sh spikingjelly"
        )
    with np.load(train) as stored:
        drawn = np.sort(np.random.default_rng(SEED).permutation(len(stored["x"]))[:CALIBRATION_ROWS])
        calibration = _channels_first(stored["x"][drawn])
    with np.load(test) as stored:
        x, y = _channels_first(stored["x"][: limit or None]), stored["y"][: limit or None]
    for row in measured(network, calibration, x, y, threads, python):
        with cache.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _channels_first(x: NumberArray) -> NumberArray:
    """Return images, (n, channels, height, width), of images in either layout."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.shape[-1] in {1, 3} else x


if __name__ == "__main__":
    main()
