"""What becomes a function of spike counts: products, softmax, normalisation, maxima."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.errors import UsageError
from snnc.ir import ann
from snnc.numerics.counting import Operand, counted
from snnc.numerics.requantisation import UnboundedError
from snnc.passes.lower.values import RECTIFIED, Spikes, Value, unsupported
from snnc.passes.lower.walk import Walk


def count_function(walk: Walk, node: ann.Levelled, inputs: Sequence[Value]) -> Spikes:
    """Write a function of spike counts down."""
    if node.step is None and not isinstance(node, ann.Maximum):
        raise UsageError(f"{node.name!r} has no levels: put `clip-activations` before `lower`")
    operands = []
    for name, value in zip(node.inputs, inputs, strict=True):
        apart = not isinstance(node, ann.Product)
        if not isinstance(value, Spikes) or value.silence.any() or (apart and np.ptp(value.spike_scale)):
            what = f"it reads {name!r}, which is not carried by spikes of one unit that are silent at zero"
            raise unsupported(node, what, RECTIFIED)
        step = value.spike_scale.astype(np.float64) / walk.timesteps
        if step.min() < 0 and isinstance(node, ann.InnerSoftmax | ann.Maximum):
            raise unsupported(node, f"it reads {name!r}, whose sign was turned", RECTIFIED)
        operands.append(Operand(value.name, walk.graph[name].shape, step, value.most))
    try:
        made = counted(node, operands, exact_step=node.name in walk.shared)
    except UnboundedError as error:
        cure = "convert with fewer levels or steps, or leave it to the host"
        raise unsupported(node, str(error), cure) from error
    units = np.broadcast_to(made.step, node.channels).astype(np.float32)
    walk.append(made.node.with_(unit=units))
    none = np.zeros(node.channels, np.float32)
    unit = (made.step * walk.timesteps).astype(np.float32)
    return Spikes(node.name, unit, none, none, made.most)
