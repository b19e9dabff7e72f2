"""Simulates in onnxruntime: what an artefact computes wherever its ONNX model is run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import onnx
import onnxruntime

from snnc.artefact.file import EXTERNAL_ABOVE, write_model
from snnc.artefact.model_builder import tensor_names
from snnc.artefact.weights import weight_bytes
from snnc.artefact.writer import build_model
from snnc.errors import UsageError
from snnc.ir.batch import Given
from snnc.ir.graph import NumberArray
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.simulation.protocol import RecordOptions, Trace, check_run

WORKING_BYTES = 256 * 2**20
"""Batches are run in chunks whose spikes, currents and states take about this much memory."""

BYTES_PER_NEURON = 64
"""Potential, count, current and the intermediate values of one population, in int32 and float32."""

ONLY_ERRORS = 3


class OnnxSimulator:
    """Runs the ONNX model of a network, with the quantised input in place of the analogue one.

    The layerwise schedule runs as one pass over counts, the synchronous schedule step by step. What
    happens inside a run cannot be recorded.
    """

    name: ClassVar[str] = "onnx"

    def __init__(self, threads: int | None = None) -> None:
        """Use at most ``threads`` threads, by default all cores. No result depends on it."""
        self._threads = threads
        self._sessions: WeakKeyDictionary[SnnGraph, dict[bool, onnxruntime.InferenceSession]] = (
            WeakKeyDictionary()
        )

    def run(
        self,
        graph: SnnGraph,
        inputs: Given,
        timesteps: int,
        record: RecordOptions = RecordOptions(),
        /,
        given: Mapping[str, NumberArray] | None = None,
    ) -> Trace:
        """Simulate; see :class:`snnc.simulation.protocol.Simulator`.

        Raises:
            UsageError: spike trains or activity are to be recorded, or a part of the network is to
                be run: all that the model gives is its outputs.
        """
        if given or record.activity or record.trains or record.until:
            raise UsageError(
                "the onnx simulator gives outputs and final states only, and runs the whole network; "
                "use the numba or the reference simulator"
            )
        batch, _ = check_run(graph, inputs, timesteps, given)
        session = self._session(graph, record.states)
        kind = np.int32 if graph.integer else np.float32
        names = tensor_names(graph, "q")
        carried = dict(zip(names.inputs, (a.astype(kind) for a in batch.arrays.values()), strict=True))
        steps = np.asarray(timesteps, np.int64)
        rows = max(1, WORKING_BYTES // (BYTES_PER_NEURON * sum(prod(node.shape) for node in graph)))
        chunks = [
            session.run(
                None, {name: q[start : start + rows] for name, q in carried.items()} | {names.steps: steps}
            )
            for start in range(0, max(len(batch), 1), rows)
        ]
        found = [np.concatenate(parts) for parts in zip(*chunks, strict=True)]
        states = found[len(graph.outputs) :]
        trace = Trace(timesteps=timesteps, samples=len(batch))
        trace.add_outputs(graph, dict(zip(graph.outputs, found, strict=False)))
        populations = graph.of_type(IntegrateFire) if record.states else ()
        for node, count, v in zip(populations, states[::2], states[1::2], strict=True):
            trace.counts[node.name] = count
            trace.potentials[node.name] = v.astype(np.int32 if node.integer else np.float32, copy=False)
        return trace

    def _session(self, graph: SnnGraph, states: bool) -> onnxruntime.InferenceSession:
        """Return the session of a network, which is built once."""
        sessions = self._sessions.setdefault(graph, {})
        if states not in sessions:
            model = build_model(graph, states=states, encoded=True)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = min(self._threads or 0, os.cpu_count() or 1)
            options.log_severity_level = ONLY_ERRORS
            sessions[states] = _open(model, options)
        return sessions[states]


def _open(model: onnx.ModelProto, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Return a session; a model too large for one message goes through a file."""
    providers = ["CPUExecutionProvider"]
    if weight_bytes(model) <= EXTERNAL_ABOVE:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    with tempfile.TemporaryDirectory(prefix="snnc-") as folder:
        path = Path(folder, "model.onnx")
        write_model(model, path, EXTERNAL_ABOVE)
        return onnxruntime.InferenceSession(path, options, providers=providers)
