"""The ONNX local functions of the functions of spike counts: :mod:`snnc.ir.counts` in standard operators.

All that is computed is int64. ``Div`` truncates, so a quotient that may be negative is taken of
``m - Mod(m, d)``, which is a multiple of ``d``; ``Mod`` has the sign of the divisor. The integer square root
is that of float64, which is off by one at most below 2^62, mended by a step in each direction.

In the synchronous schedule the counts of what is read and the last value of ``G`` are states of the loop. In
the layerwise schedule, which works on counts, a function is one call.
"""

from __future__ import annotations

from snnc.ir.counts import ROOT_BITS
from snnc.ir.neuron import Schedule

_TWO = "two = Constant<value_int = 2>()"

_REQUANTISED = [
    "m = Constant<value_int: int = @multiplier>()",
    "divisor = Constant<value_int: int = @divisor>()",
    "half = Div(divisor, two)",
    "scaled = Mul(X, m)",
    "raised = Add(scaled, half)",
    "rest = Mod(raised, divisor)",
    "multiple = Sub(raised, rest)",
    "quotient = Div(multiple, divisor)",
]
_CLIPPED = [
    "least = Constant<value_int: int = @lowest>()",
    "most = Constant<value_int: int = @highest>()",
    "enough = Max(quotient, least)",
    "wanted = Min(enough, most)",
]
_REQUANTISER = "multiplier, divisor, lowest, highest"

_NORM = [
    "along = Constant<value_ints: ints = @axes>()",
    "sizes = Shape(N0)",
    "chosen = Gather(sizes, along)",
    "n = ReduceProd<keepdims = 0>(chosen)",
    "nN = Mul(n, N0)",
    "squares = Mul(N0, N0)",
    "S2 = ReduceSum(squares, along)",
    "nS2 = Mul(n, S2)",
]
_CENTRED = [
    "S1 = ReduceSum(N0, along)",
    "S1S1 = Mul(S1, S1)",
    "spread = Sub(nS2, S1S1)",
    "centred = Sub(nN, S1)",
]
_UNCENTRED = ["spread = Identity(nS2)", "centred = Identity(nN)"]
_ROOT = [
    "added = Constant<value_int: int = @epsilon>()",
    "D = Add(spread, added)",
    f"scale = Constant<value_int = {4**ROOT_BITS}>()",
    "whole = Mul(D, scale)",
    "real = Cast<to = 11>(whole)",
    "real_root = Sqrt(real)",
    "about = Cast<to = 7>(real_root)",
    "about_squared = Mul(about, about)",
    "above = Greater(about_squared, whole)",
    "down = Cast<to = 7>(above)",
    "low = Sub(about, down)",
    "one = Constant<value_int = 1>()",
    "next = Add(low, one)",
    "next_squared = Mul(next, next)",
    "below = LessOrEqual(next_squared, whole)",
    "up = Cast<to = 7>(below)",
    "d = Add(low, up)",
    "k = Constant<value_int: int = @factor>()",
    "scaled = Mul(centred, k)",
    "half = Div(d, two)",
    "raised = Add(scaled, half)",
    "rest = Mod(raised, d)",
    "multiple = Sub(raised, rest)",
    "quotient = Div(multiple, d)",
]

_BODIES: dict[str, tuple[int, str, str, list[str]]] = {
    "CountProduct": (2, "", _REQUANTISER, [_TWO, "X = Mul(N0, N1)", *_REQUANTISED, *_CLIPPED]),
    "CountMatrixProduct": (2, "", _REQUANTISER, [_TWO, "X = MatMul(N0, N1)", *_REQUANTISED, *_CLIPPED]),
    "CountMatrixProductTransposed": (
        2,
        "",
        f"{_REQUANTISER}, perm",
        [
            _TWO,
            "turned = Transpose<perm: ints = @perm>(N1)",
            "X = MatMul(N0, turned)",
            *_REQUANTISED,
            *_CLIPPED,
        ],
    ),
    "CountSoftmax": (
        1,
        ", table",
        "axes, levels",
        [
            _TWO,
            "along = Constant<value_ints: ints = @axes>()",
            "ones = Constant<value_int: int = @levels>()",
            "highest = ReduceMax(N0, along)",
            "apart = Sub(highest, N0)",
            "length = Shape(table)",
            "one = Constant<value_int = 1>()",
            "last = Sub(length, one)",
            "place = Min(apart, last)",
            "found = Gather(table, place)",
            "e = Cast<to = 7>(found)",
            "S = ReduceSum(e, along)",
            "scaled = Mul(e, ones)",
            "half = Div(S, two)",
            "raised = Add(scaled, half)",
            "wanted = Div(raised, S)",
        ],
    ),
    "CountNormalisation": (
        1,
        "",
        "axes, epsilon, factor, lowest, highest",
        [_TWO, *_NORM, *_CENTRED, *_ROOT, *_CLIPPED],
    ),
    "CountNormalisationUncentred": (
        1,
        "",
        "axes, epsilon, factor, lowest, highest",
        [_TWO, *_NORM, *_UNCENTRED, *_ROOT, *_CLIPPED],
    ),
    "CountMaximum": (
        1,
        "",
        "axes",
        ["along = Constant<value_ints: ints = @axes>()", "wanted = ReduceMax(N0, along)"],
    ),
}
"""Name -> number of inputs, further parameters, attributes, and lines from ``N0``, ``N1`` to ``wanted``."""


def count_function_texts(schedule: Schedule) -> dict[str, str]:
    """Return every function of counts by name, as ONNX's text; ``$carrier`` stands for the element type."""
    return {name: _text(schedule, *body) for name, body in _BODIES.items()}


def _text(schedule: Schedule, inputs: int, parameters: str, attributes: str, body: list[str]) -> str:
    read = range(inputs)
    values = ", ".join(f"s{i}" for i in read)
    looped = schedule is Schedule.SYNCHRONOUS
    lines = [f"new{i} = Add(sum{i}, s{i})" for i in read] if looped else []
    counted = "new" if looped else "s"
    lines += [f"N{i} = Cast<to = 7>({counted}{i})" for i in read]
    lines += body
    if looped:
        sums, now = (", ".join(f"{part}{i}" for i in read) for part in ("sum", "new"))
        head = f"<{attributes}> ({values}{parameters}, {sums}, before) => (y, {now}, G)"
        lines += ["G = Cast<to = $carrier>(wanted)", "y = Sub(G, before)"]
    else:
        head = f"<{attributes}> ({values}{parameters}) => (G)"
        lines += ["G = Cast<to = $carrier>(wanted)"]
    joined = "\n    ".join(lines)
    return f"{head} {{\n    {joined}\n}}"
