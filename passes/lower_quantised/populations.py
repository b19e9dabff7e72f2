"""What becomes a population: rectifiers that round."""

from __future__ import annotations

import numpy as np

from snnc.ir import ann, snn
from snnc.ir.neuron import Neuron
from snnc.numerics.integer_sums import Counts, IntegerSum
from snnc.numerics.levels import level_of
from snnc.passes.lower_quantised.walk import Value, Walk


def population(walk: Walk, node: ann.Relu, value: Value) -> Counts:
    """Give a rounding rectifier its population."""
    scale = np.asarray(node.scale, np.float64)
    name = node.inputs[0]
    if isinstance(value, Counts) and _same_levels(walk, node, value):
        return value
    total = walk.as_sum(value, walk.graph[name])
    walk.levels[node.name] = node.steps
    integers = IntegerSum(node, total, walk.timesteps, most=walk.most)
    inputs = walk.write(integers)
    points = integers.points()
    if integers.ties:
        walk.ties[node.name] = integers.ties
    if integers.reason:
        walk.approximated[node.name] = integers.reason
    ones = np.ones(node.channels, np.int32)
    walk.append(
        snn.IntegrateFire(
            name=node.name,
            inputs=inputs,
            shape=node.shape,
            origin=node.origin,
            threshold=ones,
            bias=0 * ones,
            v_init=0 * ones,
            spike_scale=(scale * walk.timesteps).astype(np.float32),
            neuron=Neuron(
                levels=max(1, -(-node.steps // walk.timesteps)), spikes_per_step=1 if walk.limited else None
            ),
            stands_for=node.name,
            breakpoints=points,
            step_values=np.arange(node.lowest, node.highest + 1, dtype=np.int32),
            potential_unit=integers.step.astype(np.float32),
            potential_zero=total.bias.astype(np.float32),
        )
    )
    none = np.zeros(node.channels)
    return Counts(node.name, scale, none, node.lowest, node.highest, zero=node.zero)


def _same_levels(walk: Walk, node: ann.Relu, value: Counts) -> bool:
    """Say whether rounding changes nothing: the value has these levels, and no others, already."""
    levels = np.arange(value.low, value.high + 1)
    if len(levels) > 2 * snn.MOST_BREAKPOINTS or value.offset.any() or value.times != 1:
        return False
    given = level_of(node, np.broadcast_to(levels, (node.channels, len(levels))), value.unit, value.offset)
    scale = np.asarray(node.scale, np.float64)
    return bool((given == levels).all() and np.allclose(value.unit, scale, rtol=1e-6))
