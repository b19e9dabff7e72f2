"""What becomes a population: rectifiers and functions of one value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snnc.errors import UsageError
from snnc.ir import ann, snn
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray
from snnc.ir.neuron import Neuron
from snnc.ir.operations import channel_links, classified
from snnc.passes.lower.values import Current, Spikes, unsupported
from snnc.passes.lower.walk import Walk


def population(walk: Walk, node: ann.Relu, current: Current) -> Spikes:
    """Write the population of a rectifier down."""
    threshold = node.threshold if node.threshold is not None else node.ceiling
    if threshold is None:
        raise UsageError(f"{node.name!r} has no threshold: put `clip-activations` before `lower`")
    none = np.zeros(node.channels, np.float32)
    shift = none if node.shift is None else node.shift
    floor = none if node.floor is None else node.floor
    threshold = threshold - floor
    dead = threshold <= 0
    if dead.any():
        walk.dead[node.name] = int(dead.sum())
        current = _silence(walk, current, dead, floor - shift)
        # Any positive threshold will do; the layer's largest gives the tamest integers.
        threshold = np.where(dead, threshold.max() if threshold.max() > 0 else 1, threshold)
    unit = (threshold / np.float32(node.levels)).astype(np.float32)
    walk.append(
        snn.IntegrateFire(
            name=node.name,
            inputs=walk.emit(current),
            shape=node.shape,
            origin=node.origin,
            threshold=unit,
            bias=current.bias + shift - floor,
            v_init=np.zeros_like(unit),
            spike_scale=unit,
            floor=floor if floor.any() else None,
            neuron=Neuron(levels=node.levels, count_memory=False),
            stands_for=node.name,
        )
    )
    most = node.levels * walk.timesteps
    return Spikes(node.name, np.where(dead, np.float32(0), unit), shift, floor, most)


def stepped(walk: Walk, node: ann.Pointwise, current: Current) -> Spikes:
    """Write the population of a function down: a step function of all that arrives in T steps."""
    if node.step is None or node.breakpoints is None or node.step_values is None:
        raise UsageError(f"{node.name!r} has no levels: put `clip-activations` before `lower`")
    if not walk.signed:
        raise unsupported(
            node,
            "its count may fall while its input arrives, and these neurons take nothing back",
            "choose another preset, whose neurons send signed spikes",
        )
    T = walk.timesteps
    unit = (node.step * np.float32(T)).astype(np.float32)
    none = np.zeros(node.channels, np.float32)
    walk.append(
        snn.IntegrateFire(
            name=node.name,
            inputs=walk.emit(current),
            shape=node.shape,
            origin=node.origin,
            threshold=np.ones_like(unit),
            bias=current.bias,
            v_init=none,
            spike_scale=unit,
            neuron=Neuron(levels=node.levels),
            stands_for=node.name,
            breakpoints=(node.breakpoints * np.float32(T)).astype(np.float32),
            step_values=node.step_values,
            potential_unit=np.full_like(unit, 1 / T),
            potential_zero=none,
        )
    )
    most = max(-node.lowest, node.highest)
    return Spikes(node.name, unit, none, none, most)


def _silence(walk: Walk, current: Current, dead: np.ndarray, value: FloatArray) -> Current:
    """Fold channels that are never active to the constant that their silence stands for."""
    if any(chain[0].name in walk.written for chain in current.terms):
        return current  # other populations read this current
    terms = []
    for chain in current.terms:
        first = chain[0]
        mute = ~_read_by(chain, ~dead)
        if isinstance(first, snn.ConstantCurrent):
            mask = per_channel(~mute, first.values.ndim)
            first = first.with_(values=np.where(mask, first.values, np.float32(0)))
        elif isinstance(first, snn.Weighted):
            mask = per_channel(~mute, first.weight.ndim)
            first = first.with_(weight=np.where(mask, first.weight, np.float32(0)))
        terms.append((first, *chain[1:]))
    return Current(tuple(terms), np.where(dead, value, current.bias))


def _read_by(chain: tuple[snn.SnnNode, ...], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which channels of the first node of a chain reach channels that are wanted of its last."""
    for node, before in zip(reversed(chain[1:]), reversed(chain[:-1]), strict=True):
        links = channel_links(classified(node), before.shape)
        if links is not None:
            outputs, inputs = links
            reached = np.zeros(before.channels, np.bool_)
            reached[inputs[wanted[outputs]]] = True
            wanted = reached
    return wanted
