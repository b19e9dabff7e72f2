"""Simulation of some rows in a worker: the other half of :mod:`snnc.simulation.remote`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from snnc.backends import load_simulator
from snnc.ir.batch import Batch
from snnc.ir.graph import NumberArray
from snnc.scale.tasks import Arrays, Blob, Found, ready
from snnc.simulation.protocol import RecordOptions, Simulator
from snnc.simulation.remote import EVENTS, FIELDS, graph_of, narrow


def simulated(values: dict[str, Any], arrays: Arrays, blobs: Sequence[Blob]) -> Found:
    """Simulate some rows, in a worker."""
    graph = ready("graph", blobs[0], graph_of)
    simulator: Simulator = ready("simulator", blobs[0], lambda data: load_simulator("numba", 1))
    inputs = Batch({name: arrays[f"input:{name}"].astype(np.int32) for name in values["inputs"]})
    given = {name: arrays[f"given:{name}"].astype(kind) for name, kind in values["given"].items()}
    record = RecordOptions(
        values["states"],
        values["activity"],
        tuple(values["trains"]),
        tuple(values["until"]),
        values["potentials"],
    )
    trace = simulator.run(graph, inputs, int(values["timesteps"]), record, given=given)
    told: dict[str, Any] = {"samples": trace.samples, "activity": list(trace.activity)}
    made: Arrays = {}
    for field in FIELDS:
        found: Mapping[str, NumberArray] = getattr(trace, field)
        told[field] = {name: array.dtype.str for name, array in found.items()}
        made |= {f"{field}:{index}": narrow(array) for index, array in enumerate(found.values())}
    for index, counted in enumerate(trace.activity.values()):
        made |= {f"{event}:{index}": getattr(counted, event) for event in EVENTS}
    return told, made
