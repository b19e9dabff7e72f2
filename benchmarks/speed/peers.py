"""Other simulators, each in its own environment and process, which takes its turns when it is asked."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import helper, numpy_helper

PEERS = ("spikingjelly", "snntorch", "sinabs")
PROGRAM = Path(__file__).resolve().parent.parent / "peers" / "speed_peer.py"
QUIET = {"LOGURU_LEVEL": "ERROR", "TQDM_DISABLE": "1"}


def installed(environments: Path, peer: str) -> Path | None:
    """Return the interpreter of a peer's environment, or ``None`` if setup.sh has not made it."""
    python = environments / peer / "bin" / "python"
    return python if (environments / peer / ".installed").exists() else None


def write_job(model: onnx.ModelProto, path: Path) -> None:
    """Write a network's structure and weights so that they are read without ONNX."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim][1:]
    nodes: list[dict[str, Any]] = []
    for node in model.graph.node:
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        nodes.append(
            {
                "op": node.op_type,
                "name": node.output[0],
                "inputs": [name for name in node.input if name not in arrays],
                "constants": [name for name in node.input if name in arrays],
                "input_shape": shape,
                **attributes,
            }
        )
    stored: dict[str, Any] = {"nodes": json.dumps(nodes), **arrays}
    np.savez(path, **stored)


@contextmanager
def running(
    python: Path, peer: str, job: Path, *, timesteps: int, batch: int, threads: int
) -> Iterator[Callable[[], float]]:
    """Start a peer; what is given runs it once and returns the seconds."""
    options = [f"--timesteps={timesteps}", f"--batch={batch}", f"--threads={threads}"]
    command = [str(python), str(PROGRAM), peer, str(job), *options]
    environment = {**os.environ, **QUIET, "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:

        def once() -> float:
            if process.stdin is None or process.stdout is None:
                raise click.ClickException(f"{peer} has no pipes")
            try:
                process.stdin.write("\n")
                process.stdin.flush()
                return float(process.stdout.readline())
            except (BrokenPipeError, ValueError):
                raise click.ClickException(f"{peer} stopped; see the message above") from None

        try:
            yield once
        finally:
            if process.stdin is not None:
                process.stdin.close()
