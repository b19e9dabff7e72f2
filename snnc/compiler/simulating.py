"""An artefact, run on rows."""

from __future__ import annotations

import os
from typing import Any

from snnc.arguments import as_artefact, whole
from snnc.artefact import Artefact
from snnc.backends import load_simulator
from snnc.errors import InternalError
from snnc.simulation.protocol import Simulator, Trace


def simulate(
    artefact: Artefact | str | os.PathLike[str],
    x: Any,
    *,
    timesteps: int | None = None,
    backend: str = "numba",
    threads: int | None = None,
) -> Trace:
    """Run an artefact on a batch.

    Args:
        artefact: the spiking network, or the path of its file.
        x: (batch, *input shape): raw where the artefact holds a preprocessing, else as the source
            network takes it. An array, lists, a tensor, or the path of a ``.npy`` or ``.npz`` file; of
            several inputs a mapping of these by the inputs' names, or a ``.npz`` file of such arrays.
        timesteps: T; the calibrated value by default.
        backend: ``numba``, ``onnx`` or ``reference``.
        threads: at most this many.

    Returns:
        The trace; ``trace.logits.argmax(axis=1)`` are the classes, ``artefact.decode(trace)`` the values of
        every output.
    """
    artefact = as_artefact(artefact)
    if threads is not None:
        threads = whole(threads, "threads", 1)
    if timesteps is not None:
        timesteps = whole(timesteps, "T")
    simulator: Simulator = load_simulator(backend, threads)
    graph = artefact.graph
    q = artefact.encode(x)
    if graph.integer and graph.max_timesteps < 1:
        raise InternalError("an integer network without proved bounds")
    return artefact.simulator(simulator).run(graph, q, graph.timesteps if timesteps is None else timesteps)
