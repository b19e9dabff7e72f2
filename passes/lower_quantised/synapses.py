"""Inputs, weights, sums and means, in real numbers until a rectifier rounds them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snnc.ir import ann, snn
from snnc.numerics.integer_sums import Counts, Sum, Term
from snnc.numerics.levels import as_multiples
from snnc.passes.lower_quantised.walk import Value, Walk, fields_of, unsupported
from snnc.simulation.arrays import convolve, windows


def encode(walk: Walk, node: ann.Input) -> Counts:
    """Give the input the levels that the source rounds it to, or those on which its rows lie."""
    grid = walk.grids[node.name]
    walk.append(
        snn.Encode(
            name=node.name,
            shape=node.shape,
            origin=node.origin,
            scale=grid.scale,
            limit=max(grid.high, -grid.low),
            low=grid.low,
            high=grid.high,
            gain=grid.gain,
            offset=grid.offset,
        )
    )
    unit = np.broadcast_to(grid.unit, node.channels).astype(np.float64) / walk.timesteps
    offset = np.broadcast_to(grid.silence, node.channels).astype(np.float64)
    if not grid.exact:
        walk.approximated[node.name] = "the source takes any real number, and 12 bits of it are sent"
    rounded = [walk.graph[name] for name in grid.nodes]
    zero = next((each.zero for each in rounded if isinstance(each, ann.Relu)), 0)
    return Counts(node.name, unit, offset, grid.low, grid.high, walk.timesteps, grid.exact, zero)


def weigh(walk: Walk, node: ann.Convolution | ann.Linear, counts: Counts) -> Sum:
    """Fold the units of what is read into the weights, and what silence stands for into the bias."""
    place = fields_of(node, counts.name)
    scale = None if node.weight_scale is None else node.weight_scale.astype(np.float64)
    weight = as_multiples(node.weight.astype(np.float64), scale)
    one = (counts.unit == counts.unit[0]).all()
    hint = None if scale is None or not one else scale * abs(counts.unit[0])
    if isinstance(node, ann.Linear):
        synapse: snn.Weighted = snn.Linear(weight=np.zeros(0, np.int8), **place)
        term = Term(counts, synapse, weight * counts.unit, hint)
        return Sum((term,), node.bias + weight @ counts.offset)
    groups = node.groups
    spread = np.repeat(counts.unit.reshape(groups, -1), node.channels // groups, axis=0)[:, :, None, None]
    synapse = snn.Convolution(weight=np.zeros(0, np.int8), window=node.window, groups=groups, **place)
    term = Term(counts, synapse, weight * spread, hint)
    bias = node.bias.astype(np.float64)
    if not counts.offset.any():
        return Sum((term,), bias)
    shape = walk.graph[node.inputs[0]].shape
    silent = np.broadcast_to(counts.offset[:, None, None], shape)
    given = convolve(silent[None], weight, node.window, groups)[0]
    if not any(node.window.pads):
        return Sum((term,), bias + given[:, 0, 0])
    return Sum((term,), bias, given)


def added(walk: Walk, node: ann.Add, inputs: list[Value]) -> Sum:
    """Return the sum of several values."""
    parts = [walk.as_sum(value, walk.graph[name]) for value, name in zip(inputs, node.inputs, strict=True)]
    places = [part.place for part in parts if part.place is not None]
    return Sum(
        tuple(term for part in parts for term in part.terms),
        np.sum([part.bias for part in parts], axis=0),
        np.sum(places, axis=0) if places else None,
    )


def average(walk: Walk, node: ann.AveragePool, value: Value) -> Value:
    """Lower a mean: the sum of a window, whose area goes into units or weights."""
    area = node.window.area
    padded = any(node.window.pads)
    if isinstance(value, Counts) and not (padded and value.offset.any()):
        walk.append(snn.SumPool(window=node.window, **fields_of(node, value.name)))
        low, high = min(value.low, 0) * area, max(value.high, 0) * area
        return replace(value, name=node.name, unit=value.unit / area, low=low, high=high)
    total = walk.as_sum(value, node)
    if padded and total.bias.any():
        raise unsupported(node, "a sum with a bias is pooled over padding", "quantise it before the pool")
    place = total.place
    if place is not None:
        place = np.asarray(windows(place[None], node.window, 0).mean(axis=(4, 5))[0])
    terms = []
    for term in total.terms:
        pool = snn.SumPool(
            window=node.window,
            name=walk.names.fresh(f"{node.name}.pooled"),
            shape=node.shape,
            origin=node.origin,
            inputs=((term.chain or (term.node,))[-1].name,),
        )
        hint = None if term.hint is None else term.hint / area
        terms.append(replace(term, weight=term.weight / area, hint=hint, chain=(*term.chain, pool)))
    return Sum(tuple(terms), total.bias, place)
