"""The ONNX local functions of the spiking operations: one for each node type, or for each kind of neuron.

A call holds what the node of the intermediate representation holds: parameters as inputs, settings
as attributes. So the network can be read back from the calls alone.

All values between functions have one element type, the *carrier*: int32 in an integer network,
float32 before quantisation. Convolutions, products and sums over windows compute in float32, which
holds integers exactly up to 2^24. Where more is needed (see :mod:`snnc.artefact.precision`), the
input is split into *digits* of some radix ``r``, ``x = d_0 + r d_1 + r^2 d_2 ...`` with
``0 <= d_i < r`` but for the last, signed one; each digit goes through the operation by itself, and
the results are put together in int32.

Maxima compute in float64, which holds every int32, and padding never wins. Integer division rounds
toward minus infinity as ``(m - Mod(m, Theta)) / Theta``, because ``Div`` truncates.

In the layerwise schedule only final counts flow from population to population, so the functions work
on counts and run once: ``N = clip(floor(v / Theta), 0, C)`` is what T steps of firing amount to.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from string import Template

from onnx import FunctionProto, TensorProto, parser

from snnc.artefact.count_functions import count_function_texts
from snnc.artefact.leaky_functions import leaky_texts
from snnc.errors import InternalError
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Firing, unmatched

DOMAIN = "snnc"
DOMAIN_VERSION = 1
OPSET = 18

SEARCHED_BITS = 8
"""Halvings of the search for a potential among breakpoints, of which a channel has up to 255."""

DIGITS = (1, 2, 3, 4)
"""Numbers of digits that the operations of :data:`BY_DIGITS` have a function for."""


class Carrier(IntEnum):
    """Element type of all values between functions."""

    INTEGER = TensorProto.INT32
    FLOAT = TensorProto.FLOAT


_HEADER = f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>'
_SLIDE = "strides: ints = @strides, pads: ints = @pads, dilations: ints = @dilations"
_MAX_POOL = f"MaxPool<kernel_shape: ints = @kernel_shape, {_SLIDE}>"

_ENCODE = """<scale, limit$range> (x$parameters) => (q) {
    scale64 = Constant<value: tensor = @scale>()
    scale32 = Cast<to = 1>(scale64)
    $ends
    $normalise
    divided = Div(normalised, scale32)
    rounded = Round(divided)
    clipped = Clip(rounded, low, high)
    q = Cast<to = $carrier>(clipped)
}"""

_SYMMETRIC = {
    "range": "",
    "ends": """whole = Constant<value_int: int = @limit>()
    high = Cast<to = 1>(whole)
    low = Neg(high)""",
}
_BETWEEN = {
    "range": ", low, high",
    "ends": """least = Constant<value_int: int = @low>()
    low = Cast<to = 1>(least)
    most = Constant<value_int: int = @high>()
    high = Cast<to = 1>(most)""",
}
_AS_IT_IS = {"parameters": "", "normalise": "normalised = Identity(x)"}
_NORMALISED = {
    "parameters": ", gain, offset",
    "normalise": "scaled = Mul(x, gain)\n    normalised = Add(scaled, offset)",
}

_PLAIN = {
    "Encode": Template(_ENCODE).safe_substitute(_SYMMETRIC | _AS_IT_IS),
    "EncodeNormalised": Template(_ENCODE).safe_substitute(_SYMMETRIC | _NORMALISED),
    "EncodeBetween": Template(_ENCODE).safe_substitute(_BETWEEN | _AS_IT_IS),
    "EncodeNormalisedBetween": Template(_ENCODE).safe_substitute(_BETWEEN | _NORMALISED),
    "ChannelWeight": """(s, weight) => (current) {
    w = Cast<to = $carrier>(weight)
    current = Mul(s, w)
}""",
    "ConstantCurrent": """<shape> (values, batch) => (current) {
    sample = Constant<value_ints: ints = @shape>()
    sizes = Concat<axis = 0>(batch, sample)
    typed = Cast<to = $carrier>(values)
    current = Expand(typed, sizes)
}""",
    "CurrentMaxPool": f"""<kernel_shape, strides, pads, dilations> (current) => (highest) {{
    exact = Cast<to = 11>(current)
    maximum = {_MAX_POOL}(exact)
    highest = Cast<to = $carrier>(maximum)
}}""",
    "Reshape": """<shape> (x) => (y) {
    sizes = Constant<value_ints: ints = @shape>()
    y = Reshape(x, sizes)
}""",
    "Pad": """<pads> (x) => (y) {
    added = Constant<value_ints: ints = @pads>()
    y = Pad(x, added)
}""",
    "Slice": """<start, stop, step> (x) => (y) {
    starts = Constant<value_ints: ints = @start>()
    ends = Constant<value_ints: ints = @stop>()
    steps = Constant<value_ints: ints = @step>()
    y = Slice(x, starts, ends, , steps)
}""",
    "Gather": """(x, index) => (y) {
    rows = Constant<value_ints = [0, -1]>()
    flat = Reshape(x, rows)
    ends = Constant<value_ints = [0, 0, 0, 1]>()
    padded = Pad(flat, ends)
    y = Gather<axis = 1>(padded, index)
}""",
    # Of what is held, (batch, steps, *shape), the oldest is sent, and the newest is put behind the rest.
    "Delay": """<source, steps> (held) => (sent) {
    oldest = Constant<value_int = 0>()
    sent = Gather<axis = 1>(held, oldest)
}""",
    "Hold": """(held, newest) => (new_held) {
    second = Constant<value_ints = [1]>()
    end = Constant<value_ints = [1024]>()
    rest = Slice(held, second, end, second)
    step = Unsqueeze(newest, second)
    new_held = Concat<axis = 1>(rest, step)
}""",
    "Readout": """<scale> (current, total) => (new_total) {
    new_total = Add(total, current)
}""",
    "ReadoutPerChannel": """<scale, gain> (current, total) => (new_total) {
    new_total = Add(total, current)
}""",
    "Rest": """<shape> (values, batch) => (state) {
    sample = Constant<value_ints: ints = @shape>()
    sizes = Concat<axis = 0>(batch, sample)
    typed = Cast<to = $carrier>(values)
    state = Expand(typed, sizes)
}""",
    # A run of more or fewer steps than there are frames fails here: there is but one offset.
    "LastFrame": """(frames, steps) => (last) {
    sizes = Shape<start = 1, end = 2>(frames)
    first = Constant<value_int = 0>()
    count = Gather(sizes, first)
    over = Sub(count, steps)
    apart = Abs(over)
    offsets = Constant<value_ints = [-1]>()
    offset = Gather(offsets, apart)
    last = Add(count, offset)
}""",
    "Frame": """(frames, step, last) => (frame) {
    place = Min(step, last)
    frame = Gather<axis = 1>(frames, place)
}""",
    "Present": """(value, times) => (presented) {
    typed = Cast<to = $carrier>(value)
    presented = Mul(typed, times)
}""",
}

_COUNT_MAX_POOL = {
    Schedule.SYNCHRONOUS: f"""<kernel_shape, strides, pads, dilations>
    (s, N, highest) => (y, new_N, new_highest) {{
    new_N = Add(N, s)
    exact = Cast<to = 11>(new_N)
    maximum = {_MAX_POOL}(exact)
    new_highest = Cast<to = $carrier>(maximum)
    y = Sub(new_highest, highest)
}}""",
    Schedule.LAYERWISE: f"""<kernel_shape, strides, pads, dilations> (N) => (highest) {{
    exact = Cast<to = 11>(N)
    maximum = {_MAX_POOL}(exact)
    highest = Cast<to = $carrier>(maximum)
}}""",
}

BY_DIGITS = {
    "Convolution": (
        "strides, pads, dilations, group",
        ", weight",
        "w = Cast<to = 1>(weight)",
        f"Conv<{_SLIDE}, group: int = @group>",
    ),
    "Linear": ("", ", weight", "w = Cast<to = 1>(weight)", "Gemm<transB = 1>"),
    "SumPool": (
        "kernel_shape, strides, pads, dilations, group",
        "",
        # A depthwise convolution with ones: the average would round.
        """channels = Constant<value_int: int = @group>()
    single = Constant<value_ints = [1]>()
    vector = Reshape(channels, single)
    kernel = Constant<value_ints: ints = @kernel_shape>()
    sizes = Concat<axis = 0>(vector, single, kernel)
    w = ConstantOfShape<value = float[1] {1}>(sizes)""",
        f"Conv<{_SLIDE}, group: int = @group>",
    ),
}
"""Operations in float32: attributes, further inputs, preparation of the weight ``w``, the operator."""


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


def by_digits(operation: str, digits: int) -> str:
    """Return the name of an operation's function for a number of digits."""
    return operation if digits == 1 else f"{operation}Of{digits}Digits"


@cache
def texts(schedule: Schedule, carrier: Carrier) -> dict[str, str]:
    """Return every function by name, in ONNX's text form, without its header."""
    found = dict(_PLAIN)
    found["CountMaxPool"] = _COUNT_MAX_POOL[schedule]
    found |= count_function_texts(schedule)
    for operation in BY_DIGITS:
        for digits in DIGITS:
            found[by_digits(operation, digits)] = _digit_text(operation, digits)
    for kind in Firing:
        neuron = _steps_text if schedule is Schedule.SYNCHRONOUS else _layerwise_text
        if kind is Firing.LEAKY:
            continue
        if kind is Firing.STEPS:
            neuron = (
                _step_function_text if schedule is Schedule.SYNCHRONOUS else _layerwise_step_function_text
            )
        found[firing_function(kind)] = neuron(kind, carrier)
    if schedule is Schedule.SYNCHRONOUS:
        found |= leaky_texts(carrier is Carrier.INTEGER)
    return {name: Template(text).substitute(carrier=carrier.value) for name, text in found.items()}


def function(name: str, schedule: Schedule, carrier: Carrier) -> FunctionProto:
    """Return one function."""
    text = texts(schedule, carrier)[name]
    return parser.parse_function(f"{_HEADER} {name} {text}")


def _digit_text(operation: str, digits: int) -> str:
    """Return the function that splits its input into ``digits``, the lowest first."""
    attributes, inputs, weight, operator = BY_DIGITS[operation]
    lines = [weight]
    if digits > 1:
        attributes = f"{attributes}, radix".removeprefix(", ")
        lines += ["whole = Constant<value_int: int = @radix>()", "r = Cast<to = $carrier>(whole)"]
    rest = "x"
    for i in range(digits - 1):
        lines += [f"d{i} = Mod({rest}, r)", f"above{i} = Sub({rest}, d{i})", f"x{i + 1} = Div(above{i}, r)"]
        rest = f"x{i + 1}"
    parts = [*(f"d{i}" for i in range(digits - 1)), rest]
    for i, part in enumerate(parts):
        result = "y" if digits == 1 else f"c{i}"
        lines += [
            f"f{i} = Cast<to = 1>({part})",
            f"g{i} = {operator}(f{i}, w)",
            f"{result} = Cast<to = $carrier>(g{i})",
        ]
    total = f"c{digits - 1}"
    for i in reversed(range(digits - 1)):
        result = f"sum{i}" if i else "y"
        lines += [f"shifted{i} = Mul({total}, r)", f"{result} = Add(shifted{i}, c{i})"]
        total = result
    head = f"<{attributes}> " if attributes else ""
    return _text(f"{head}(x{inputs}) => (y)", lines)


def _steps_text(kind: Firing, carrier: Carrier) -> str:
    """Return the function of one population in one step."""
    lines = [
        "theta = Cast<to = $carrier>(threshold)",
        "steady = Cast<to = $carrier>(bias)",
        "driven = Add(v, current)",
        "m = Add(driven, steady)",
        *_divide(carrier),
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
    return _text(f"{_signature(kind)}, T, v, N) => (s, new_v, new_N)", lines)


def _layerwise_text(kind: Firing, carrier: Carrier) -> str:
    """Return the function of one population from the whole of its input to its final count."""
    lines = [
        "theta = Cast<to = $carrier>(threshold)",
        "steady = Cast<to = $carrier>(bias)",
        "biases = Mul(steady, T)",
        "charged = Add(v, biases)",
        "m = Add(charged, current)",
        *_divide(carrier),
        *_settings(kind),
        "C = Mul(T, limit)" if kind is Firing.PLAIN else "C = Mul(T, M)",
        "raised = Max(floored, zero)",
        "N = Min(raised, C)",
        "spent = Mul(N, theta)",
        "new_v = Sub(m, spent)",
    ]
    return _text(f"{_signature(kind)}, T, v) => (N, new_v)", lines)


def _step_function_text(kind: Firing, carrier: Carrier) -> str:
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
    return _text(f"{_steps_signature()}, T, v, N) => (s, new_v, new_N)", lines)


def _layerwise_step_function_text(kind: Firing, carrier: Carrier) -> str:
    """Return the function of one such population from the whole of its input to its final count."""
    lines = [
        "steady = Cast<to = $carrier>(bias)",
        "biases = Mul(steady, T)",
        "charged = Add(v, biases)",
        "new_v = Add(charged, current)",
        *_look_up("new_v"),
        "N = Identity(K)",
    ]
    return _text(f"{_steps_signature()}, T, v) => (N, new_v)", lines)


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


def _divide(carrier: Carrier) -> list[str]:
    """Return the lines for ``floored = floor(m / theta)``."""
    if carrier is Carrier.FLOAT:
        # The quotient of two float32 is not rounded across an integer in float64.
        return [
            "numerator = Cast<to = 11>(m)",
            "denominator = Cast<to = 11>(theta)",
            "quotient = Div(numerator, denominator)",
            "whole = Floor(quotient)",
            "floored = Cast<to = $carrier>(whole)",
        ]
    return ["remainder = Mod(m, theta)", "multiple = Sub(m, remainder)", "floored = Div(multiple, theta)"]


def _text(signature: str, lines: list[str]) -> str:
    body = "\n    ".join(lines)
    return f"{signature} {{\n    {body}\n}}"
