"""Leaky populations and read-outs in the artefact: their ONNX functions, and what a call of them holds.

All parameters stand in every call, those that a node does without at the value that changes nothing. The
attribute ``leaks`` names those that the node has, so that it is read back as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from snnc.artefact.neuron_functions import floor_divide, written
from snnc.ir.graph import NumberArray
from snnc.ir.leak import WHOLE
from snnc.ir.snn import IntegrateFire, Readout

GAIN = "gain"
DECAYS = ("decay", "synapse_decay")
RESETS = ("reset_to", "reset_by")

_POPULATION = """<levels, spikes_per_step, code, unit, floor, leaks, refractory, finer, to_value>
    (current, threshold, bias, decay, synapse_decay, reset_to, reset_by, v, N, i, r)
    => (s, new_v, new_N, new_i, new_r)"""

_READOUT = """<scale, gain, leaks, finer>
    (current, bias, decay, synapse_decay, y, i) => (new_y, new_i)"""


def leaky_call(node: IntegrateFire | Readout) -> tuple[dict[str, Any], dict[str, NumberArray]]:
    """Return the attributes and the further parameters of the call of a leaky node."""
    kind = node.bias.dtype
    whole = np.full(node.channels, WHOLE if kind.kind == "i" else 1, kind)
    none = np.zeros(node.channels, kind)
    neutral = {"decay": whole, "synapse_decay": none}
    attributes: dict[str, Any] = {"finer": 1 << node.fraction_bits}
    names: tuple[str, ...] = DECAYS
    if isinstance(node, IntegrateFire):
        names += RESETS
        neutral |= {"reset_to": none, "reset_by": node.threshold}
        attributes |= {"refractory": node.refractory, "to_value": int(node.reset_to is not None)}
    given = {name: getattr(node, name) for name in names}
    told = [name for name, values in given.items() if values is not None]
    if isinstance(node, Readout) and node.gain is not None:
        told.append(GAIN)
    attributes["leaks"] = " ".join(told)
    return attributes, {name: neutral[name] if values is None else values for name, values in given.items()}


def read_leak(
    settings: dict[str, Any], parameters: Sequence[NumberArray]
) -> tuple[frozenset[str], dict[str, Any]]:
    """Return which parameters a leaky node has, and the fields that its call tells of.

    Args:
        settings: the attributes of the call.
        parameters: of the call, in its order.
    """
    told = frozenset(settings["leaks"].decode().split())
    names = (*DECAYS, *RESETS)
    fields: dict[str, Any] = {
        name: values.reshape(-1) if name in told else None
        for name, values in zip(names, parameters, strict=False)
    }
    fields["fraction_bits"] = int(settings["finer"]).bit_length() - 1
    if "refractory" in settings:
        fields["refractory"] = int(settings["refractory"])
    return told, fields


def leaky_texts(integer: bool) -> dict[str, str]:
    """Return the functions by name, in ONNX's text form, for integers or for floats."""
    population = [
        *_charge("v", integer),
        "theta = Cast<to = $carrier>(threshold)",
        *floor_divide(integer),
        "nothing = Constant<value_int = 0>()",
        "zero = Cast<to = $carrier>(nothing)",
        "levels = Constant<value_int: int = @levels>()",
        "spikes = Constant<value_int: int = @spikes_per_step>()",
        "most = Mul(levels, spikes)",
        "limit = Cast<to = $carrier>(most)",
        "raised = Max(floored, zero)",
        "fired = Min(raised, limit)",
        "resting = Greater(r, zero)",
        "s = Where(resting, zero, fired)",
        "sent = Greater(s, zero)",
        "by = Cast<to = $carrier>(reset_by)",
        "spent = Mul(s, by)",
        "lowered = Sub(m, spent)",
        "way = Constant<value_int: int = @to_value>()",
        "by_value = Cast<to = 9>(way)",
        "set = And(sent, by_value)",
        "target = Cast<to = $carrier>(reset_to)",
        "after = Where(set, target, lowered)",
        "new_v = Where(resting, v, after)",
        "steps = Constant<value_int: int = @refractory>()",
        "rest = Cast<to = $carrier>(steps)",
        "unit_step = Constant<value_int = 1>()",
        "one = Cast<to = $carrier>(unit_step)",
        "fewer = Sub(r, one)",
        "left = Max(fewer, zero)",
        "new_r = Where(sent, rest, left)",
        "new_N = Add(N, s)",
    ]
    readout = [*_charge("y", integer), "new_y = Identity(m)"]
    return {
        "IntegrateFireLeaky": written(_POPULATION, population),
        "ReadoutLeaky": written(_READOUT, readout),
    }


def _charge(potential: str, integer: bool) -> list[str]:
    """Return the lines for the filtered current ``new_i`` and the potential ``m`` that it reaches."""
    return [
        *_leak("i", "synapse_decay", integer),
        "times = Constant<value_int: int = @finer>()",
        "factor = Cast<to = $carrier>(times)",
        "arriving = Mul(current, factor)",
        "new_i = Add(kept_i, arriving)",
        *_leak(potential, "decay", integer),
        f"driven = Add(kept_{potential}, new_i)",
        "steady = Cast<to = $carrier>(bias)",
        "m = Add(driven, steady)",
    ]


def _leak(value: str, decay: str, integer: bool) -> list[str]:
    """Return the lines for what remains of a value after a step; ``Div`` truncates."""
    if not integer:
        return [
            f"{value}_share = Cast<to = $carrier>({decay})",
            f"kept_{value} = Mul({value}, {value}_share)",
        ]
    return [
        f"{value}_wide = Cast<to = 7>({value})",
        f"{value}_share = Cast<to = 7>({decay})",
        f"{value}_product = Mul({value}_wide, {value}_share)",
        f"{value}_whole = Constant<value_int = {WHOLE}>()",
        f"{value}_kept = Div({value}_product, {value}_whole)",
        f"kept_{value} = Cast<to = $carrier>({value}_kept)",
    ]
