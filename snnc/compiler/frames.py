"""A converted network whose input is presented as frames that add up.

A still input adds ``q`` to the currents in each of T steps, ``T q`` in all. Frames ``x(t)`` that add up to a
row ``x`` of the source network give the same sum with ``q(t) = rint(T x(t) / s)``: a finer scale, and no
weight changes. So a network that was trained on accumulated frames is calibrated on these, as any other, and
only its encoder differs. All of a row may come in one frame, so that the still ``q`` has the range of the
encoder's by T.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snnc.data.decoding import Decoding
from snnc.data.preprocessing import Preprocessing
from snnc.errors import UsageError
from snnc.frontend import SourceModel
from snnc.ir.batch import Batch, Rows, joined
from snnc.ir.bounds import overflow, unproved
from snnc.ir.graph import FloatArray
from snnc.ir.operations import operations
from snnc.ir.snn import INPUT_LIMIT, Encode, Presented, SnnGraph


def require_frames(source: SourceModel, preprocessing: Preprocessing | None, named: str) -> None:
    """Refuse a network whose input cannot be frames.

    Raises:
        UsageError: a part of it runs as ordinary ONNX, or its rows are scaled.
    """
    if source.host is not None:
        first = source.host.nodes[0].name
        raise UsageError(
            f"{named}: {len(source.host.nodes)} nodes would run as ordinary ONNX, once for a row, and frames "
            f"come step by step, the first {first!r}: leave out --frames, or cut the network there"
        )
    if preprocessing is None:
        return
    if replace(preprocessing, files=Decoding(), rows_layout=None) != Preprocessing():
        raise UsageError(
            f"{named}: frames are given as the network takes them: the preprocessing may say how recordings "
            "become frames, and nothing else"
        )
    if preprocessing.files.events.frames is not None:
        raise UsageError(
            f"{named}: the calibration rows are accumulated, all events in one: leave out `frames` in the "
            "preprocessing; -T says how many frames the result takes"
        )


def preprocessing_of_frames(preprocessing: Preprocessing, timesteps: int) -> Preprocessing:
    """Return what makes T frames of a recording, where ``preprocessing`` makes one."""
    files = preprocessing.files
    return replace(preprocessing, files=replace(files, events=replace(files.events, frames=timesteps)))


def present_frames(graph: SnnGraph) -> SnnGraph:
    """Return a network whose rows are T frames that add up to the rows that it was made for.

    Raises:
        UsageError: an operation needs an input that is the same in each step, or an integer could overflow.
    """
    for node in operations(graph):
        if node.reads_constant:
            raise UsageError(
                f"{node.origin or node.name!r} needs an input that is the same in each step, and frames are "
                "not: put the maximum behind an activation in the source network"
            )

    def framed(node: Encode) -> Encode:
        limit = node.limit * graph.timesteps
        if limit > INPUT_LIMIT:
            raise UsageError(
                f"the input {node.name!r} has magnitudes up to {node.limit}, and {graph.timesteps} times as "
                f"much in a frame is beyond {INPUT_LIMIT}: ask for fewer steps"
            )
        low, high = node.range
        symmetric = (low, high) == (-node.limit, node.limit)
        return node.with_(
            presented=Presented.ACCUMULATED,
            scale=node.scale / graph.timesteps,
            limit=limit,
            low=None if symmetric else low * graph.timesteps,
            high=None if symmetric else high * graph.timesteps,
            offset=None if node.offset is None else (node.offset / graph.timesteps).astype(np.float32),
        )

    found = graph.map(Encode, framed)
    if graph.max_timesteps:
        if overflow(found, graph.timesteps) is not None:
            raise UsageError(unproved(found, 0))
        found = replace(found, max_timesteps=graph.timesteps)
    found.verify()
    return found


def spread(rows: Rows, timesteps: int) -> Rows:
    """Return rows of the source network as T equal frames each, (n, T, *shape) float32."""

    def frames(x: FloatArray) -> FloatArray:
        share = x / np.float32(timesteps)
        return np.broadcast_to(share[:, np.newaxis], (len(x), timesteps, *x.shape[1:]))

    if isinstance(rows, Batch):
        return joined({name: frames(x) for name, x in rows.arrays.items()})
    return frames(rows)
