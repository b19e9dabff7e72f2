"""SpikingJelly's STA on a transformer of `snnc train --arch vit`: its job, its process, its turns."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from snnc.backends import load_simulator
from snnc.ir import ann
from snnc.ir.graph import FloatArray, NumberArray
from snnc.passes import PASSES
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.source.ann_session import AnnSession
from snnc.source.calibration import Calibration

PROGRAM = Path(__file__).resolve().parent / "spikingjelly_transformer.py"
QUIET = {"LOGURU_LEVEL": "ERROR", "TQDM_DISABLE": "1"}
MAPS = 6
"""Linear maps of a block: queries, keys, values, their projection, and two with GELU between them."""

CHECKED_ROWS = 200
Row = dict[str, Any]


def write_job(
    path: Path, graph: ann.AnnGraph, calibration: NumberArray, x: NumberArray, y: NumberArray
) -> None:
    """Write the weights, what the first block reads, and the labels.

    Args:
        path: of the archive.
        graph: the network.
        calibration: (m, channels, height, width) float32.
        x: test rows, likewise.
        y: (n,) labels.

    Raises:
        click.ClickException: the network has another structure.
    """
    graph = _folded(graph, calibration)
    norms = list(graph.of_type(ann.Normalisation))
    softmax = next(iter(graph.of_type(ann.InnerSoftmax)), None)
    behind = [node.name for node in graph]
    if not norms or softmax is None or norms[0].epsilon is None:
        raise click.ClickException("the network is no transformer of `snnc train --arch vit`")
    start = behind.index(norms[0].name)
    maps = [node for node in list(graph)[start:] if isinstance(node, ann.Convolution)]
    classifier = next(iter(graph.of_type(ann.Linear)))
    heads = softmax.shape[0]
    arrays: dict[str, Any] = {"heads": heads, "epsilon": norms[0].epsilon, "y": y}
    for number, node in enumerate(maps):
        block, place = divmod(number, MAPS)
        # The network's queries are divided by the root of their length already; the peer's own are not.
        factor = np.float32(np.sqrt(node.channels / heads) if place == 0 else 1)
        arrays[f"{block}.{place}.weight"] = node.weight[:, :, 0, 0] * factor
        arrays[f"{block}.{place}.bias"] = node.bias * factor
    arrays |= {"classifier.weight": classifier.weight, "classifier.bias": classifier.bias}
    tokens = norms[0].inputs[0]
    arrays["calibration"], arrays["x"] = (_tokens(graph, tokens, rows) for rows in (calibration, x))
    arrays["expected"] = AnnSession(graph, graph.outputs).run(calibration[:CHECKED_ROWS])[graph.output]
    np.savez(path, **arrays)


def _folded(graph: ann.AnnGraph, calibration: NumberArray) -> ann.AnnGraph:
    """Return the network with constant factors in its weights."""
    context = Context(Calibration(calibration[:2]), 1, load_simulator("numba", 1))
    folded, _ = run_pipeline(Pipeline.parse("fold-batchnorm", PASSES), graph, context)
    if not isinstance(folded, ann.AnnGraph):
        raise TypeError("folding leaves no source network")
    return folded


def _tokens(graph: ann.AnnGraph, name: str, rows: NumberArray) -> FloatArray:
    """Return what a node gives, (n, places, channels)."""
    found = AnnSession(graph, [name]).run(rows)[name]
    return np.ascontiguousarray(found.reshape(*found.shape[:2], -1).transpose(0, 2, 1))


@contextmanager
def judged(
    python: Path, job: Path, timesteps: Sequence[int], threads: int
) -> Iterator[tuple[list[Row], Callable[[int], float]]]:
    """Judge the peer; give what it found, and what runs one batch of a T and returns the seconds."""
    options = [f"--timesteps={','.join(map(str, timesteps))}", f"--threads={threads}"]
    environment = {**os.environ, **QUIET, "OMP_NUM_THREADS": str(threads)}
    command = [str(python), str(PROGRAM), str(job), *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise click.ClickException("the peer has no pipes")
        given, answers = process.stdin, process.stdout

        def answered() -> str:
            if not (line := answers.readline()):
                raise click.ClickException("the peer stopped; see the message above")
            return line

        def once(T: int) -> float:
            given.write(f"{T}\n")
            given.flush()
            return float(answered())

        try:
            yield [json.loads(answered()) for _ in timesteps], once
        finally:
            given.close()
