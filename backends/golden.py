"""Golden vectors: a few inputs with the outputs that every run of the network has to give."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from snnc.artefact import Artefact
from snnc.data.numpy_files import UNREADABLE, check_sizes
from snnc.errors import ArtefactError, InputError
from snnc.ir.batch import Batch, Given, Rows, arrays_by_name, joined, rows_of
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.snn import Encode, SnnGraph
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator, encode_all
from snnc.simulation.targets import Golden

FILE = "golden.npz"
ROWS = 8


def make_golden(artefact: Artefact, rows: Given = None) -> Golden:
    """Run the reference on a few rows.

    Args:
        artefact: the network, quantised.
        rows: (n, ...), as :meth:`Artefact.encode` takes them; the first :data:`ROWS` are used.
            ``None`` for made-up, structured ones.

    Raises:
        InputError: there are none, or they do not fit the network.
    """
    graph = artefact.graph
    if rows is not None:
        rows = joined(arrays_by_name(rows, tuple(artefact.takes), graph.name))
        if not len(rows):
            raise InputError("no rows for the golden vectors: give at least one")
    if rows is None:
        x = joined(
            {node.name: _structured(node, 20 + k, graph.timesteps) for k, node in enumerate(graph.encoders)}
        )
    else:
        x = artefact.canonical(rows[:ROWS])
    q = encode_all(graph, x)
    trace = ReferenceSimulator().run(graph, q, graph.timesteps, RecordOptions(states=True))
    potentials = {name: v.astype(np.int32) for name, v in trace.potentials.items()}
    return Golden(x, q, joined(trace.outputs), trace.counts, potentials)


def _structured(node: Encode, seed: int, timesteps: int) -> FloatArray:
    """Return rows whose answers differ, float32: blots of several sizes and colours, or frames of them."""
    random = np.random.default_rng(seed)
    shape = node.shape
    rows = ROWS * timesteps if node.varies else ROWS
    signal = random.normal(size=(rows, *shape)) * 0.2
    if len(shape) == 3:
        down, right = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
        for _ in range(4):
            middle = random.uniform(0, shape[1:], size=(rows, 2))
            width = random.uniform(0.05, 0.3, size=(rows, 1, 1)) * max(shape[1:])
            distance = (down - middle[:, :1, None]) ** 2 + (right - middle[:, 1:, None]) ** 2
            colour = random.normal(size=(rows, shape[0], 1, 1))
            signal += colour * np.exp(-distance / (2 * width**2))[:, None]
    x = np.clip(signal * 0.5, -1, 1) * node.limit * node.scale
    if node.gain is not None and node.offset is not None:
        gain = per_channel(np.where(node.gain == 0, 1, node.gain), len(node.shape))
        x = (x - per_channel(node.offset, len(node.shape))) / gain
    return x.astype(np.float32).reshape(ROWS, *node.row_shape(timesteps))


def write_golden(golden: Golden, directory: Path) -> None:
    """Write inputs and outputs to :data:`FILE`; what the populations did goes into the manifest as hashes.

    Arrays are called ``x``, ``q`` and ``y``; where there are several, ``x:NAME`` and so on.
    """
    arrays: dict[str, Any] = {}
    for key, rows in (("x", golden.x), ("q", golden.q), ("y", golden.y)):
        if isinstance(rows, Batch):
            arrays |= {f"{key}:{name}": array for name, array in rows.arrays.items()}
        else:
            arrays[key] = rows
    np.savez(directory / FILE, **arrays)


def read_golden(directory: Path) -> Golden:
    """Read what :func:`write_golden` wrote.

    Raises:
        ArtefactError: the file is missing or damaged.
    """
    path = directory / FILE
    try:
        with path.open("rb") as stream:
            check_sizes(stream)
        with np.load(path, allow_pickle=False) as arrays:
            x, q, y = (_stored(arrays, key) for key in ("x", "q", "y"))
        if not 0 < len(x) == len(q) == len(y):
            raise ValueError(f"{len(x)}, {len(q)} and {len(y)} rows of x, q and y")
        return Golden(x, q, y)
    except (OSError, *UNREADABLE) as error:
        raise ArtefactError(f"{path}: missing or damaged ({error}); deploy again") from None


def _stored(arrays: np.lib.npyio.NpzFile, key: str) -> Rows:
    """Return an array, or all of those that are called like it with a name behind."""
    if key in arrays.files:
        return arrays[key]
    found = {name.partition(":")[2]: arrays[name] for name in arrays.files if name.startswith(f"{key}:")}
    if len(found) < 2:
        raise KeyError(key)
    return Batch(found)


def replay(graph: SnnGraph, golden: Golden, directory: Path) -> Golden:
    """Run the reference on golden inputs that were read back, for the counts and potentials as well.

    Args:
        graph: the network.
        golden: inputs, and the outputs that somebody expects; these stay as they are.
        directory: where they were read, for messages.

    Raises:
        ArtefactError: the inputs are not of the network's form.
    """
    try:
        outputs = arrays_by_name(golden.y, graph.output_names, graph.name)
        for name, readout in graph.readouts.items():
            y = outputs[name]
            if y.shape != (len(golden.q), *readout.shape) or y.dtype != np.int32:
                raise InputError(f"outputs of shape {y.shape} and type {y.dtype}")
        trace = ReferenceSimulator().run(graph, golden.q, graph.timesteps, RecordOptions(states=True))
        for node in graph.encoders:
            q, (low, high) = rows_of(golden.q, node.name), node.range
            if q.min() < low or q.max() > high:
                raise InputError(f"an input beyond {low} to {high}")
    except InputError as error:
        raise ArtefactError(
            f"{directory / FILE}: does not fit the bundle's network ({error}); deploy again"
        ) from None
    potentials = {name: v.astype(np.int32) for name, v in trace.potentials.items()}
    return Golden(golden.x, golden.q, golden.y, trace.counts, potentials)


def state_hashes(golden: Golden, graph: SnnGraph) -> list[dict[str, Any]]:
    """Return for each population the SHA-256 of its final ``N`` and ``v`` over all golden rows.

    Hashed is the array (rows, *shape), channels first, as little-endian int32.
    """
    return [
        {
            "population": name,
            "onnx_node": graph[name].origin,
            "N_sha256": _hash(counts),
            "v_sha256": _hash(golden.potentials[name]),
        }
        for name, counts in golden.counts.items()
    ]


def _hash(values: IntArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, "<i4").tobytes()).hexdigest()
