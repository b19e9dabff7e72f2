"""What only moves values: spikes or currents in other places."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from snnc.errors import InternalError
from snnc.ir import ann, snn
from snnc.ir.channels import per_channel
from snnc.ir.geometry import ABSENT, Window
from snnc.ir.graph import FloatArray, IntArray, Shape
from snnc.passes.lower.values import Current, Spikes, fields_of
from snnc.passes.lower.walk import Walk


def moved(walk: Walk, node: ann.Reshape | ann.Gather, before: ann.AnnNode, current: Current) -> Current:
    """Return a current in other places; a bias that then differs within a channel is a current, too."""
    index = _positions(node, before.shape)
    terms = []
    for number, chain in enumerate(current.terms):
        place = walk.part(node, number, chain[-1].name)
        if isinstance(node, ann.Gather):
            terms.append((*chain, snn.Gather(index=node.index, **place)))
        else:
            terms.append((*chain, snn.Reshape(**place)))
    if len(before.shape) == 1 and node.shape == (before.channels, 1, 1):
        return Current(tuple(terms), current.bias)
    spread = np.broadcast_to(per_channel(current.bias, len(before.shape)), before.shape).ravel()
    values = np.where(index == ABSENT, np.float32(0), spread[index])
    bias = values.reshape(node.channels, -1)[:, 0].copy()
    rest = values - per_channel(bias, values.ndim)
    if rest.any():
        name = walk.names.fresh(f"{node.name}.bias")
        terms.append((snn.ConstantCurrent(name=name, shape=node.shape, origin=node.origin, values=rest),))
    return Current(tuple(terms), bias)


def move(walk: Walk, node: ann.AnnNode, inputs: Sequence[Spikes]) -> Spikes:
    """Lower an operation that only moves values."""
    scales = ("spike_scale", "shift", "floor")
    vectors = {key: np.concatenate([getattr(value, key) for value in inputs]) for key in scales}
    place = fields_of(node, *(value.name for value in inputs))
    match node:
        case ann.Concat():
            walk.append(snn.Concat(**place))
        case ann.Pad():
            walk.append(snn.Pad(before=node.before, after=node.after, **place))
            more = (node.before[0], node.after[0])
            # Weights that read nothing must not make those coarse that share their scale.
            least = np.abs(inputs[0].spike_scale).min()
            zero = {"spike_scale": least, "shift": 0, "floor": 0}
            vectors = {k: np.pad(v, more, constant_values=zero[k]) for k, v in vectors.items()}
        case ann.Slice():
            walk.append(snn.Slice(start=node.start, stop=node.stop, step=node.step, **place))
            chosen = slice(node.start[0], node.stop[0], node.step[0])
            vectors = {key: values[chosen] for key, values in vectors.items()}
        case ann.Reshape() | ann.Gather():
            if isinstance(node, ann.Gather):
                walk.append(snn.Gather(index=node.index, **place))
            else:
                walk.append(snn.Reshape(**place))
            before = walk.graph[node.inputs[0]].shape
            least = np.abs(inputs[0].spike_scale).min()
            zero = {"spike_scale": least, "shift": 0, "floor": 0}
            vectors = {key: _carried(values, before, node, zero[key])[0] for key, values in vectors.items()}
        case _:
            raise InternalError(f"{node.name!r} moves nothing")
    return Spikes(node.name, **vectors, most=max(value.most for value in inputs))


def fits(node: ann.Reshape | ann.Gather, spikes: Spikes, graph: ann.AnnGraph) -> bool:
    """Whether spikes can be moved as they are: every new channel has one unit, and its zeros are silent."""
    before = graph[node.inputs[0]].shape
    if isinstance(node, ann.Gather) and (node.index == ABSENT).any() and spikes.silence.any():
        return False
    return all(
        _carried(values, before, node, 0)[1] for values in (spikes.spike_scale, spikes.shift, spikes.floor)
    )


def padding(node: ann.Pad, shape: Shape) -> ann.AnnNode:
    """Return a padding as weights that copy every value: where silence is not zero, spikes cannot pad it."""
    copied = np.pad(np.eye(shape[0], dtype=np.float32), ((node.before[0], node.after[0]), (0, 0)))
    bias = np.zeros(len(copied), np.float32)
    place = fields_of(node, *node.inputs)
    if len(shape) == 1:
        return ann.Linear(weight=copied, bias=bias, **place)
    pads = (node.before[1], node.before[2], node.after[1], node.after[2])
    if len(copied) == shape[0]:
        ones = np.ones((shape[0], 1, 1, 1), np.float32)
        return ann.Convolution(
            weight=ones, bias=bias, window=Window((1, 1), pads=pads), groups=shape[0], **place
        )
    return ann.Convolution(
        weight=copied[:, :, None, None], bias=bias, window=Window((1, 1), pads=pads), **place
    )


def padding_map(node: ann.Pad, shape: Shape) -> ann.Gather:
    """Return a padding of what is neither a vector nor an image as an index map."""
    sides = tuple(zip(node.before, node.after, strict=True))
    index = np.pad(np.arange(math.prod(shape), dtype=np.int32).reshape(shape), sides, constant_values=ABSENT)
    return ann.Gather(index=index, **fields_of(node, *node.inputs))


def _positions(node: ann.Reshape | ann.Gather, before: Shape) -> IntArray:
    """Return where each value of a node stands in what it reads."""
    return node.index if isinstance(node, ann.Gather) else np.arange(math.prod(before)).reshape(node.shape)


def _carried(
    values: FloatArray, before: Shape, node: ann.Reshape | ann.Gather, zero: float
) -> tuple[FloatArray, bool]:
    """Carry one number per channel through a move.

    Args:
        values: (channels,) of what is read.
        before: its shape.
        node: the move.
        zero: the number of a channel that holds nothing but zeros.

    Returns:
        The first number of each new channel, (channels,), and whether all its others are the same.
    """
    index = _positions(node, before).reshape(node.channels, -1)
    spread = np.broadcast_to(per_channel(values, len(before)), before).ravel()
    rows = np.where(index == ABSENT, -np.inf, spread[index])
    first = rows.max(axis=1)
    same = bool(((rows == first[:, None]) | (rows == -np.inf)).all())
    return np.where(first == -np.inf, zero, first).astype(np.float32), same
