"""Certificates in tasks: on how many of some rows a network has other counts than its quantised network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from snnc.analysis.certificate import INPUT, differing_rows
from snnc.backends import load_simulator
from snnc.ir.batch import Batch, joined
from snnc.scale.tasks import Arrays, Blob, Found, ready
from snnc.simulation.protocol import Simulator
from snnc.simulation.remote import graph_of


def differing(values: dict[str, Any], arrays: Arrays, blobs: Sequence[Blob]) -> Found:
    """Count rows that differ, in a worker."""
    graph, reference = (ready("graph", blob, graph_of) for blob in blobs)
    simulator: Simulator = ready("simulator", blobs[1], lambda data: load_simulator("numba", 1))
    inputs = {name.removeprefix(INPUT): array.astype(np.int32) for name, array in arrays.items()}
    rows = Batch(inputs) if values["several"] else joined(inputs)
    return {"differing": differing_rows(graph, reference, rows, simulator)}, {}
