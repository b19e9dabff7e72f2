"""The ONNX functions of populations: one for each rule of firing, in both schedules, as texts.

A synchronous population has the function of one step. In the layerwise schedule only final counts flow from
population to population, so its function works on counts and runs once: ``N = clip(floor(v / Theta), 0, C)``
is what T steps of firing amount to. Integer division rounds toward minus infinity as
``(m - Mod(m, Theta)) / Theta``, because ``Div`` truncates.
"""

from __future__ import annotations

from collections.abc import Sequence

from snnc.errors import InternalError
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Firing, unmatched

SEARCHED_BITS = 8
"""Halvings of the search for a potential among breakpoints, of which a channel has up to 255."""


def firing_function(rule: Firing) -> str:
    """Return the name of the function of a population that fires so."""
    match rule:
        case Firing.PLAIN:
            return "IntegrateFireMemoryless"
        case Firing.LIMITED:
            return "IntegrateFire"
        case Firing.HESITANT:
            return "IntegrateFireNegative"
        case Firing.GRADED:
            return "IntegrateFireGraded"
        case Firing.STEPS:
            return "IntegrateFireSteps"
        case Firing.LEAKY:
            return "IntegrateFireLeaky"
        case _:
            raise unmatched(rule)


def neuron_texts(schedule: Schedule, integer: bool) -> dict[str, str]:
    """Return the functions of populations by name, with ``$carrier`` for the type of all values.

    Leaky populations have theirs in :mod:`snnc.artefact.leaky_functions`.

    Args:
        schedule: when populations fire.
        integer: whether the carrier is int32, not float32.
    """
    found = {}
    synchronous = schedule is Schedule.SYNCHRONOUS
    for kind in Firing:
        if kind is Firing.LEAKY:
            continue
        if kind is Firing.STEPS:
            made = _step_function_text() if synchronous else _layerwise_step_function_text()
        else:
            made = (_steps_text if synchronous else _layerwise_text)(kind, integer)
        found[firing_function(kind)] = made
    return found


def _steps_text(kind: Firing, integer: bool) -> str:
    """Return the function of one population in one step."""
    lines = [
        "theta = Cast<to = $carrier>(threshold)",
        "steady = Cast<to = $carrier>(bias)",
        "driven = Add(v, current)",
        "m = Add(driven, steady)",
        *floor_divide(integer),
        *_settings(kind),
    ]
    wanted = "floored"
    if kind is Firing.HESITANT:
        wanted = "willing"
        lines += [
            "typed = Cast<to = $carrier>(negative_threshold)",
            "lowest = Neg(typed)",
            "backwards = Less(floored, zero)",
            "below = Less(m, lowest)",
            "above = Not(below)",
            "quiet = And(backwards, above)",
            "willing = Where(quiet, zero, floored)",
        ]
    match kind:
        case Firing.LIMITED | Firing.HESITANT:
            lines += [
                "C = Mul(T, M)",
                "room = Sub(C, N)",
                "high = Min(room, limit)",
                "sent = Min(N, limit)",
                "low = Neg(sent)",
            ]
        case Firing.GRADED:
            lines += ["C = Mul(T, M)", "high = Sub(C, N)", "low = Neg(N)"]
        case Firing.PLAIN:
            lines += ["high = Identity(limit)", "low = Identity(zero)"]
        case Firing.STEPS:
            raise InternalError("a step function has a function of its own")
        case Firing.LEAKY:
            raise InternalError("leaky neurons have a function of their own")
        case _:
            raise unmatched(kind)
    lines += [
        f"raised = Max({wanted}, low)",
        "s = Min(raised, high)",
        "spent = Mul(s, theta)",
        "new_v = Sub(m, spent)",
        "new_N = Add(N, s)",
    ]
    return written(f"{_signature(kind)}, T, v, N) => (s, new_v, new_N)", lines)


def _layerwise_text(kind: Firing, integer: bool) -> str:
    """Return the function of one population from the whole of its input to its final count."""
    lines = [
        "theta = Cast<to = $carrier>(threshold)",
        "steady = Cast<to = $carrier>(bias)",
        "biases = Mul(steady, T)",
        "charged = Add(v, biases)",
        "m = Add(charged, current)",
        *floor_divide(integer),
        *_settings(kind),
        "C = Mul(T, limit)" if kind is Firing.PLAIN else "C = Mul(T, M)",
        "raised = Max(floored, zero)",
        "N = Min(raised, C)",
        "spent = Mul(N, theta)",
        "new_v = Sub(m, spent)",
    ]
    return written(f"{_signature(kind)}, T, v) => (N, new_v)", lines)


def _step_function_text() -> str:
    """Return the function of one step of a population whose count follows a step function."""
    lines = [
        "steady = Cast<to = $carrier>(bias)",
        "driven = Add(v, current)",
        "new_v = Add(driven, steady)",
        *_look_up("new_v"),
        "change = Sub(K, N)",
        "spikes = Constant<value_int: int = @most>()",
        "limit = Cast<to = $carrier>(spikes)",
        "lowest = Neg(limit)",
        "raised = Max(change, lowest)",
        "s = Min(raised, limit)",
        "new_N = Add(N, s)",
    ]
    return written(f"{_steps_signature()}, T, v, N) => (s, new_v, new_N)", lines)


def _layerwise_step_function_text() -> str:
    """Return the function of one such population from the whole of its input to its final count."""
    lines = [
        "steady = Cast<to = $carrier>(bias)",
        "biases = Mul(steady, T)",
        "charged = Add(v, biases)",
        "new_v = Add(charged, current)",
        *_look_up("new_v"),
        "N = Identity(K)",
    ]
    return written(f"{_steps_signature()}, T, v) => (N, new_v)", lines)


def _steps_signature() -> str:
    """Return the attributes and the parameters that a population with a step function is read back from."""
    attributes = "levels, spikes_per_step, code, unit, floor, most, v_unit, v_zero"
    return f"<{attributes}> (current, threshold, bias, breakpoints, step_values, first"


def _look_up(potential: str) -> list[str]:
    """Return the lines for ``K``: a binary search among the breakpoints of each channel.

    The breakpoints of all channels lie in one row, those of a channel filled up to 255 by numbers that no
    potential reaches; ``first`` says where those of each channel begin.
    """
    lines = [
        f"whole = Cast<to = 6>({potential})",
        "nothing = Sub(whole, whole)",
        "nowhere = Cast<to = 7>(nothing)",
        "begin = Add(nowhere, first)",
        f"at{SEARCHED_BITS} = Identity(begin)",
    ]
    for bit in reversed(range(SEARCHED_BITS)):
        lines += [
            f"ahead{bit} = Constant<value_int = {(1 << bit) - 1}>()",
            f"step{bit} = Constant<value_int = {1 << bit}>()",
            f"probe{bit} = Add(at{bit + 1}, ahead{bit})",
            f"point{bit} = Gather(breakpoints, probe{bit})",
            f"reached{bit} = LessOrEqual(point{bit}, whole)",
            f"taken{bit} = Cast<to = 7>(reached{bit})",
            f"gained{bit} = Mul(taken{bit}, step{bit})",
            f"at{bit} = Add(at{bit + 1}, gained{bit})",
        ]
    return [
        *lines,
        "interval = Sub(at0, begin)",
        "wanted = Gather(step_values, interval)",
        "K = Cast<to = $carrier>(wanted)",
    ]


def _signature(kind: Firing) -> str:
    """Return the attributes and the parameters that a population is read back from."""
    limit = "" if kind is Firing.GRADED else "spikes_per_step, "
    attributes = f"levels, {limit}code, unit, floor"
    negative = ", negative_threshold" if kind is Firing.HESITANT else ""
    return f"<{attributes}> (current, threshold, bias{negative}"


def _settings(kind: Firing) -> list[str]:
    """Return the lines that make ``zero``, ``M`` and, where there is one, ``limit`` from the attributes."""
    lines = [
        "whole_zero = Constant<value_int = 0>()",
        "zero = Cast<to = $carrier>(whole_zero)",
        "levels = Constant<value_int: int = @levels>()",
        "M = Cast<to = $carrier>(levels)",
    ]
    if kind is not Firing.GRADED:
        lines += [
            "spikes = Constant<value_int: int = @spikes_per_step>()",
            "most = Mul(levels, spikes)",
            "limit = Cast<to = $carrier>(most)",
        ]
    return lines


def floor_divide(integer: bool) -> list[str]:
    """Return the lines for ``floored = floor(m / theta)``."""
    if not integer:
        # The quotient of two float32 is not rounded across an integer in float64.
        return [
            "numerator = Cast<to = 11>(m)",
            "denominator = Cast<to = 11>(theta)",
            "quotient = Div(numerator, denominator)",
            "whole = Floor(quotient)",
            "floored = Cast<to = $carrier>(whole)",
        ]
    return ["remainder = Mod(m, theta)", "multiple = Sub(m, remainder)", "floored = Div(multiple, theta)"]


def written(signature: str, lines: Sequence[str]) -> str:
    """Return a function as ONNX writes it."""
    body = "\n    ".join(lines)
    return f"{signature} {{\n    {body}\n}}"
