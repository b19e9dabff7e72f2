"""What weighs spikes: weights and means, with the units of the spikes folded in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snnc.errors import InternalError
from snnc.ir import ann, snn
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray, Shape
from snnc.passes.lower.values import RECTIFIED, Current, Spikes, Value, fields_of, unsupported
from snnc.passes.lower.walk import Walk
from snnc.simulation.arrays import convolve


def weigh(walk: Walk, node: ann.AnnNode, spikes: Spikes) -> Current:
    """Fold unit, shift and floor of the spikes into weight and bias."""
    place = fields_of(node, spikes.name)
    match node:
        case ann.Linear():
            weight = node.weight * spikes.spike_scale[None, :]
            synapse: snn.SnnNode = snn.Linear(weight=weight, **place)
            return Current(((synapse,),), node.bias + node.weight @ spikes.silence)
        case ann.Convolution():
            weight = node.weight * _spread(spikes.spike_scale, node)[:, :, None, None]
            synapse = snn.Convolution(weight=weight, window=node.window, groups=node.groups, **place)
            inside, border = _shifted(walk, node, spikes)
            raised = np.einsum("oikl,oi->o", node.weight, _spread(spikes.floor, node)).astype(np.float32)
            return Current(((synapse,), *border), node.bias - inside + raised)
        case _:
            raise InternalError(f"{node.name!r} has no weights")


def _shifted(
    walk: Walk, node: ann.Convolution, spikes: Spikes
) -> tuple[FloatArray, tuple[tuple[snn.SnnNode, ...], ...]]:
    """Return what the weights make of the spikes' shift: inside, and the difference at the border.

    Padding is zero in model space, but silent neurons stand for ``-shift``: where a window overlaps
    the padding, it must lose less than inside.
    """
    shape = walk.graph[node.inputs[0]].shape
    inside = np.einsum("oikl,oi->o", node.weight, _spread(spikes.shift, node)).astype(np.float32)
    if not spikes.shift.any() or not any(node.window.pads):
        return inside, ()
    return inside, (_border(walk, node, -spikes.shift, shape, node.weight, node.window, node.groups),)


def _border(
    walk: Walk,
    node: ann.AnnNode,
    constant: FloatArray,
    shape: Shape,
    weight: FloatArray,
    window: Window,
    groups: int,
) -> tuple[snn.SnnNode, ...]:
    """Return what a constant value, (channels,), gives less than inside where the window is padded."""
    inside = np.einsum(
        "oikl,oi->o", weight, np.repeat(constant.reshape(groups, -1), len(weight) // groups, axis=0)
    )
    spread = np.broadcast_to(constant[:, None, None], shape).astype(np.float32)
    values = convolve(spread[None], weight, window, groups)[0] - inside[:, None, None]
    name = walk.names.fresh(f"{node.name}.border")
    border = values.astype(np.float32)
    return (snn.ConstantCurrent(name=name, shape=node.shape, origin=node.origin, values=border),)


def average(walk: Walk, node: ann.AveragePool, value: Value) -> Value:
    """Lower a mean: the sum of a window, whose area goes into units or weights."""
    area = np.float32(node.window.area)
    padded = any(node.window.pads)
    if isinstance(value, Spikes) and not (padded and value.shift.any()):
        walk.append(snn.SumPool(window=node.window, **fields_of(node, value.name)))
        most = value.most * node.window.area
        return replace(value, name=node.name, spike_scale=value.spike_scale / area, most=most)
    value = walk.as_current(value, node)  # where a shift is padded, the border loses less of it
    terms = []
    for index, chain in enumerate(value.terms):
        first = chain[0]
        if isinstance(first, snn.ConstantCurrent):
            scaled: snn.SnnNode = first.with_(values=first.values / area)
        elif isinstance(first, snn.Weighted):
            scaled = first.with_(weight=first.weight / area)
        else:
            raise unsupported(node, "the pooled sum holds more than weighted spikes", RECTIFIED)
        pool = snn.SumPool(window=node.window, **walk.part(node, index, chain[-1].name))
        terms.append((scaled, *chain[1:], pool))
    if padded and value.bias.any():
        shape = walk.graph[node.inputs[0]].shape
        kernel = np.full((node.channels, 1, *node.window.kernel), 1 / area, np.float32)
        terms.append(_border(walk, node, value.bias, shape, kernel, node.window, node.channels))
    return Current(tuple(terms), value.bias)


def _spread(values: FloatArray, node: ann.Convolution) -> FloatArray:
    """Spread one value per input channel over the weights of a convolution, (outputs, channels a group)."""
    return np.repeat(values.reshape(node.groups, -1), node.channels // node.groups, axis=0)
