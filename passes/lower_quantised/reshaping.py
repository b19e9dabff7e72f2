"""What only moves values."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from snnc.ir import ann, snn
from snnc.ir.channels import per_channel
from snnc.ir.geometry import ABSENT
from snnc.ir.graph import Shape
from snnc.numerics.integer_sums import Counts, Sum
from snnc.numerics.levels import Real
from snnc.passes.lower_quantised.walk import Walk, fields_of, unsupported


def flattened(walk: Walk, node: ann.Reshape, total: Sum) -> Sum:
    """Return a sum as a vector, row by row."""
    before = walk.graph[node.inputs[0]].shape
    repeated = math.prod(before) // before[0]
    terms = []
    for term in total.terms:
        flat = snn.Reshape(
            name=walk.names.fresh(f"{node.name}.flat"),
            shape=node.shape,
            origin=node.origin,
            inputs=((term.chain or (term.node,))[-1].name,),
        )
        if repeated > 1:
            raise unsupported(node, "flattens a sum that is not rounded", "quantise it before")
        terms.append(replace(term, chain=(*term.chain, flat)))
    place = None if total.place is None else total.place.reshape(node.shape)
    return Sum(tuple(terms), total.bias, place)


def move(walk: Walk, node: ann.AnnNode, inputs: list[Counts]) -> Counts:
    """Lower an operation that only moves counts."""
    first, place = inputs[0], fields_of(node, *(value.name for value in inputs))
    unit = np.concatenate([value.unit for value in inputs])
    offset = np.concatenate([value.offset for value in inputs])
    low, high = min(value.low for value in inputs), max(value.high for value in inputs)
    if any(value.times != first.times for value in inputs) and walk.timesteps > 1:
        raise unsupported(node, "joins the input with spikes", "use T = 1")
    match node:
        case ann.Concat():
            walk.append(snn.Concat(**place))
        case ann.Pad():
            if offset.any():
                raise unsupported(node, "pads an input whose zero is not silent", "pad in the convolution")
            walk.append(snn.Pad(before=node.before, after=node.after, **place))
            unit = np.pad(unit, (node.before[0], node.after[0]), mode="edge")
            offset = np.zeros(len(unit))
        case ann.Slice():
            walk.append(snn.Slice(start=node.start, stop=node.stop, step=node.step, **place))
            chosen = slice(node.start[0], node.stop[0], node.step[0])
            unit, offset = unit[chosen], offset[chosen]
        case ann.Gather():
            if offset.any() and (node.index == ABSENT).any():
                raise unsupported(node, "pads an input whose zero is not silent", "pad in the convolution")
            walk.append(snn.Gather(index=node.index, **place))
            before = walk.graph[node.inputs[0]].shape
            unit, offset = (_picked(values, before, node) for values in (unit, offset))
        case _:
            walk.append(snn.Reshape(**place))
            before = walk.graph[node.inputs[0]].shape
            unit, offset = (_reshaped(values, before, node) for values in (unit, offset))
    exact = all(value.exact for value in inputs)
    zeros = {value.zero for value in inputs}
    zero = zeros.pop() if len(zeros) == 1 else 0
    return Counts(node.name, unit, offset, low, high, first.times, exact, zero)


def _reshaped(values: Real, before: Shape, node: ann.AnnNode) -> Real:
    """Carry one value per channel through a reshape."""
    spread = np.broadcast_to(per_channel(values, len(before)), before).reshape(node.shape[0], -1)
    if (spread != spread[:, :1]).any():
        raise unsupported(
            node, "values of different scales fold back into a map", "use one scale for the activation"
        )
    return np.ascontiguousarray(spread[:, 0])


def _picked(values: Real, before: Shape, node: ann.Gather) -> Real:
    """Carry one value per channel through an index map."""
    spread = np.broadcast_to(per_channel(values, len(before)), before).ravel()
    rows = spread[node.index].reshape(node.shape[0], -1)
    absent = (node.index == ABSENT).reshape(rows.shape)
    low = np.where(absent, np.inf, rows).min(axis=1)
    high = np.where(absent, -np.inf, rows).max(axis=1)
    nothing = absent.all(axis=1)
    if (low != high)[~nothing].any():
        raise unsupported(
            node, "values of different scales share a channel", "use one scale for the activation"
        )
    return np.where(nothing, values[0], low)
