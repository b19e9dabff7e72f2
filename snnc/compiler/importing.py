"""From a NIR file to an artefact: read, lowered by a convention, quantised, measured on rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from snnc import __version__
from snnc.artefact import Artefact, Metadata
from snnc.backends import load_simulator
from snnc.data.leakage import row_hashes
from snnc.errors import InputError, NonFiniteError, UsageError
from snnc.frontend.nir import Convention, lowered, read_nir
from snnc.ir.bounds import provable_timesteps, unproved
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.layout import InputLayout
from snnc.ir.snn import INPUT_LIMIT, SnnGraph
from snnc.numerics.quantisation import quantise_all
from snnc.simulation.reference import encode

MEASURED_ROWS = 256
"""Rows by which the integers are compared with float32."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A network that was read.

    Attributes:
        artefact: the network and how it was made.
        scale: real value of one unit of its input; 1 where the rows hold integers, which stay exact.
        rows: how many were compared.
        same: rows whose largest output is the same in float32; ``None`` of a network in float32.
        correlation: between the outputs of both; ``None`` likewise, or where one is constant.
    """

    artefact: Artefact
    scale: float
    rows: int
    same: int | None = None
    correlation: float | None = None


def import_nir(
    path: Path,
    frames: NumberArray,
    convention: Convention,
    precision: str = "int8",
    threads: int | None = None,
) -> Imported:
    """Read a NIR file as a spiking network.

    Args:
        path: the file.
        frames: (n, T, *input shape) rows that are like its input: they give T and the range of the input.
        convention: how its neurons run.
        precision: ``int8`` or ``float32``.
        threads: for the simulator.

    Raises:
        InputError: the file is damaged, or the rows do not fit.
        UnsupportedModelError: the network has no form here.
        UsageError: what a spike does is left open, or the integers cannot be proved to fit for T steps.
    """
    network = read_nir(path)
    shape = next(node.values["shape"] for node in network.nodes.values() if node.kind == "Input")
    wanted = tuple(np.atleast_1d(shape).astype(int).tolist())
    if frames.ndim != len(wanted) + 2 or frames.shape[2:] != wanted or not len(frames):
        listed = ", ".join(map(str, ("rows", "steps", *wanted)))
        raise InputError(f"{path} takes frames, ({listed}), and the rows are of the shape {frames.shape}")
    if not np.isfinite(frames).all():
        raise NonFiniteError("the rows hold NaN or infinity: leave those out")
    scale = _scale(frames)
    real = lowered(network, convention, frames.shape[1], scale)
    graph = real
    if precision == "int8":
        graph = quantise_all(real)
        proved = provable_timesteps(graph)
        if proved < graph.timesteps:
            raise UsageError(unproved(graph, proved))
        graph = replace(graph, max_timesteps=proved)
    q = encode(graph.encoder, frames.astype(np.float32))
    layouts = [InputLayout.plain(node.shape, node.shape).as_dict() for node in (graph.encoder, graph.readout)]
    metadata = Metadata(
        snnc_version=__version__,
        pipeline="",
        input_layout=layouts[0],
        source_path=str(path),
        source_sha256=network.sha256,
        calibration={"rows": len(frames), "row_hashes": row_hashes([q])},
        task="classes",
        inputs=({"name": graph.encoder.name, "dtype": "float32", "layout": layouts[0]},),
        outputs=({"name": graph.output_names[0], "layout": layouts[1], "task": "classes", "ends": ""},),
    )
    found = Imported(Artefact(graph, metadata), scale, min(len(q), MEASURED_ROWS))
    return found if graph is real else _compared(found, real, q[:MEASURED_ROWS], threads)


def _scale(frames: NumberArray) -> float:
    """Return the unit in which the input is quantised."""
    largest = float(np.abs(frames).max())
    if largest <= INPUT_LIMIT and np.array_equal(frames, np.rint(frames)):
        return 1.0
    return largest / INPUT_LIMIT


def _compared(found: Imported, real: SnnGraph, q: IntArray, threads: int | None) -> Imported:
    """Compare the outputs of the integer network with those in float32."""
    outputs = []
    for graph in (found.artefact.graph, real):
        trace = load_simulator("numba", threads).run(graph, q, graph.timesteps)
        outputs.append(graph.readout.decoded(trace.logits, graph.timesteps).reshape(len(q), -1))
    integer, exact = outputs
    same = int((integer.argmax(axis=1) == exact.argmax(axis=1)).sum())
    varies = integer.std() > 0 and exact.std() > 0
    correlation = float(np.corrcoef(integer.ravel(), exact.ravel())[0, 1]) if varies else None
    return replace(found, same=same, correlation=correlation)
