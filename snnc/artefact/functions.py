"""The ONNX local functions of the spiking operations: one for each node type, or for each kind of neuron.

A call holds what the node of the intermediate representation holds: parameters as inputs, settings
as attributes. So the network can be read back from the calls alone.

All values between functions have one element type, the *carrier*: int32 in an integer network,
float32 before quantisation. Convolutions, products and sums over windows compute in float32, which
holds integers exactly up to 2^24. Where more is needed (see :mod:`snnc.artefact.precision`), the
input is split into *digits* of some radix ``r``, ``x = d_0 + r d_1 + r^2 d_2 ...`` with
``0 <= d_i < r`` but for the last, signed one; each digit goes through the operation by itself, and
the results are put together in int32.

Maxima compute in float64, which holds every int32, and padding never wins. The functions of populations
stand in :mod:`snnc.artefact.neuron_functions`.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from string import Template

from onnx import FunctionProto, TensorProto, parser

from snnc.artefact.count_functions import count_function_texts
from snnc.artefact.leaky_functions import leaky_texts
from snnc.artefact.neuron_functions import neuron_texts, written
from snnc.artefact.sparse_weights import SPARSE_WEIGHT
from snnc.ir.neuron import Schedule

DOMAIN = "snnc"
DOMAIN_VERSION = 1
OPSET = 18

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
    "SparseWeight": SPARSE_WEIGHT,
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
    integer = carrier is Carrier.INTEGER
    found |= neuron_texts(schedule, integer)
    if schedule is Schedule.SYNCHRONOUS:
        found |= leaky_texts(integer)
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
    return written(f"{head}(x{inputs}) => (y)", lines)
