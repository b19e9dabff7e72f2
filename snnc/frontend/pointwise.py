"""Activations of any kind: regions that are functions of one number, read as one :class:`ann.Pointwise`.

Sigmoid, SiLU, GELU in any of its spellings, PRelu, a logarithm of an affine map: no pattern is matched. All
that lies between a tensor and a later one that depends on nothing else is written down as one program (see
:mod:`snnc.ir.function`). What a rectifier or an affine map says is left to them: regions of these alone are
no functions, and a region begins behind the affine maps at its head, which weights take in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from snnc.diagnostics import UNSUPPORTED_OPERATOR, UNSUPPORTED_STRUCTURE
from snnc.frontend.builder import GraphBuilder
from snnc.frontend.call import HUGE, Call, Comparison, Limited
from snnc.frontend.legacy import aligned, modern
from snnc.frontend.precision import CASTS
from snnc.frontend.quantised.staircases import MAGNITUDES
from snnc.frontend.regions import Region, Wiring
from snnc.frontend.simplify import Constant, label
from snnc.frontend.views import View
from snnc.ir import ann
from snnc.ir.function import COMPARISONS, OPERATORS, Function, composed
from snnc.ir.function import Call as FunctionCall
from snnc.ir.graph import FloatArray

FLOATS = (onnx.TensorProto.FLOAT, *CASTS)

AFFINE = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Sum", "Mean", "Identity", "Cast", "Dropout"})
"""Operators that are affine where all but one of their inputs are constants, and Div where the divisor is."""

SUMS = frozenset({"Add", "Sub", "Sum", "Mean"})
"""Operators that are read by themselves where several of their inputs are no constants, too."""

CHOICES = frozenset(
    {"Abs", "Max", "Min", "Where", "Not", "And", "Or", "Ceil", "Floor", "Round", *COMPARISONS}
)
"""Operators of which a region may be a plain rectifier all the same: its values tell."""

CLOSE = 1e-6
"""How far, relative, the values of a region may lie from those of the rectifier that it is taken for."""

MOST_COMPARED = 4096
"""Most channels whose values are compared with those of a rectifier."""

MICROSOFT = "com.microsoft"


class UntranslatableError(Exception):
    """A region holds what no program says."""


@dataclass(slots=True)
class _Program:
    """A program in the making.

    Attributes:
        calls: so far.
        constants: their rows, of shapes that broadcast over the argument.
    """

    calls: list[FunctionCall] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)

    def call(self, operator: str, *operands: str) -> str:
        self.calls.append(FunctionCall(operator, operands))
        return f"v{len(self.calls) - 1}"

    def constant(self, value: Constant | float) -> str:
        given = np.asarray(value, np.float32)
        for number, known in enumerate(self.constants):
            if np.array_equal(known, given):
                return f"c{number}"
        self.constants.append(given)
        return f"c{len(self.constants) - 1}"

    def text(self) -> tuple[str, tuple[Constant, ...]]:
        """Return the program as text, and the constants that it reads."""
        read = dict.fromkeys(name for call in self.calls for name in call.operands if name[0] == "c")
        names = {name: f"c{number}" for number, name in enumerate(read)}
        calls = [
            FunctionCall(call.operator, tuple(names.get(name, name) for name in call.operands))
            for call in self.calls
        ]
        return composed(calls), tuple(self.constants[int(name[1:])] for name in read)


Operands = Sequence[str]
Translation = Callable[[_Program, Call, Operands], str]


def _same(p: _Program, call: Call, x: Operands) -> str:
    return p.call(call.proto.op_type, *x)


def _folded(operator: str) -> Translation:
    """Return the translation of an operator of any number of inputs."""

    def fold(p: _Program, call: Call, x: Operands) -> str:
        found = x[0]
        for other in x[1:]:
            found = p.call(operator, found, other)
        return found

    return fold


def _mean(p: _Program, call: Call, x: Operands) -> str:
    return p.call("Mul", _folded("Add")(p, call, x), p.constant(1 / len(x)))


def _unchanged(p: _Program, call: Call, x: Operands) -> str:
    return x[0]


def _cast(p: _Program, call: Call, x: Operands) -> str:
    target = call.integer("to", onnx.TensorProto.FLOAT)
    if target == onnx.TensorProto.BOOL:
        return p.call("Sub", p.constant(1), p.call("Equal", x[0], p.constant(0)))
    if target not in FLOATS:
        raise UntranslatableError("casts to integers")
    return x[0]


def _not(p: _Program, call: Call, x: Operands) -> str:
    return p.call("Equal", x[0], p.constant(0))


def _clip(p: _Program, call: Call, x: Operands) -> str:
    low, high = call.number("min", -np.inf), call.number("max", np.inf)
    limits = [p.constant(low), p.constant(high)] if call.opset < 11 else [*x[1:], "", ""][:2]
    found = x[0]
    for operator, limit in zip(("Max", "Min"), limits, strict=True):
        if limit and not _is_endless(p, limit):
            found = p.call(operator, found, limit)
    return found


def _is_endless(p: _Program, name: str) -> bool:
    return name.startswith("c") and bool((np.abs(p.constants[int(name[1:])]) >= HUGE).all())


def _elu(p: _Program, call: Call, x: Operands) -> str:
    return p.call("Elu", x[0], p.constant(call.number("alpha", 1)))


def _selu(p: _Program, call: Call, x: Operands) -> str:
    below = p.call("Elu", x[0], p.constant(call.number("alpha", 1.67326319217681884765625)))
    return p.call("Mul", below, p.constant(call.number("gamma", 1.05070102214813232421875)))


def _celu(p: _Program, call: Call, x: Operands) -> str:
    alpha = p.constant(call.number("alpha", 1))
    return p.call("Mul", p.call("Elu", p.call("Div", x[0], alpha), p.constant(1)), alpha)


def _leaky(p: _Program, call: Call, x: Operands) -> str:
    return p.call("LeakyRelu", x[0], p.constant(call.number("alpha", 0.01)))


def _prelu(p: _Program, call: Call, x: Operands) -> str:
    return p.call("LeakyRelu", x[0], x[1])


def _hard_sigmoid(p: _Program, call: Call, x: Operands) -> str:
    slope, middle = call.number("alpha", 0.2), call.number("beta", 0.5)
    return p.call("HardSigmoid", x[0], p.constant(slope), p.constant(middle))


def _hard_swish(p: _Program, call: Call, x: Operands) -> str:
    return p.call("Mul", x[0], p.call("HardSigmoid", x[0], p.constant(1 / 6), p.constant(0.5)))


def _swish(p: _Program, call: Call, x: Operands) -> str:
    alpha = call.number("alpha", 1.702 if call.proto.op_type == "QuickGelu" else 1)
    return p.call("Mul", x[0], p.call("Sigmoid", p.call("Mul", x[0], p.constant(alpha))))


def _mish(p: _Program, call: Call, x: Operands) -> str:
    return p.call("Mul", x[0], p.call("Tanh", p.call("Softplus", x[0])))


def _thresholded(p: _Program, call: Call, x: Operands) -> str:
    above = p.call("Greater", x[0], p.constant(call.number("alpha", 1)))
    return p.call("Where", above, x[0], p.constant(0))


def _shrink(p: _Program, call: Call, x: Operands) -> str:
    bias, limit = p.constant(call.number("bias", 0)), call.number("lambd", 0.5)
    above = p.call("Greater", x[0], p.constant(limit))
    below = p.call("Less", x[0], p.constant(-limit))
    rest = p.call("Where", below, p.call("Add", x[0], bias), p.constant(0))
    return p.call("Where", above, p.call("Sub", x[0], bias), rest)


def _gelu(p: _Program, call: Call, x: Operands) -> str:
    """Translate all forms: by erf or tanh, and with a bias."""
    z = p.call("Add", *x[:2]) if len(x) > 1 else x[0]
    half = p.call("Mul", z, p.constant(0.5))
    if call.attribute("approximate") == "tanh" or call.proto.op_type == "FastGelu":
        cube = p.call("Mul", p.call("Mul", z, z), z)
        inner = p.call("Add", z, p.call("Mul", cube, p.constant(0.044715)))
        bent = p.call("Tanh", p.call("Mul", inner, p.constant(np.sqrt(2 / np.pi))))
    else:
        bent = p.call("Erf", p.call("Mul", z, p.constant(np.sqrt(0.5))))
    return p.call("Mul", half, p.call("Add", bent, p.constant(1)))


SAME = frozenset(OPERATORS) - {"Identity", "LeakyRelu", "Elu", "HardSigmoid", "Max", "Min"}
"""Operators that a program knows by the same name and inputs."""

TRANSLATED = SAME | frozenset(
    {"And", "Cast", "Celu", "Clip", "Dropout", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Identity"}
    | {"LeakyRelu", "Max", "Mean", "Min", "Mish", "Not", "Or", "PRelu", "Selu", "Shrink", "Sum", "Swish"}
    | {"ThresholdedRelu"}
)
"""Every operator of the default domain that a function of one number may hold."""

MICROSOFTS = frozenset({"BiasGelu", "FastGelu", "Gelu", "QuickGelu"})
"""Those of onnxruntime's own domain, which its optimiser writes."""


def _translation(kind: str) -> Translation:
    """Return what writes an operator down."""
    if kind in ("And", "Max", "Min", "Or", "Sum"):
        return _folded({"And": "Mul", "Or": "Max", "Sum": "Add"}.get(kind, kind))
    found: dict[str, Translation] = {
        "BiasGelu": _gelu,
        "Cast": _cast,
        "Celu": _celu,
        "Clip": _clip,
        "Dropout": _unchanged,
        "Elu": _elu,
        "FastGelu": _gelu,
        "Gelu": _gelu,
        "HardSigmoid": _hard_sigmoid,
        "HardSwish": _hard_swish,
        "Identity": _unchanged,
        "LeakyRelu": _leaky,
        "Mean": _mean,
        "Mish": _mish,
        "Not": _not,
        "PRelu": _prelu,
        "QuickGelu": _swish,
        "Selu": _selu,
        "Shrink": _shrink,
        "Swish": _swish,
        "ThresholdedRelu": _thresholded,
    }
    return found.get(kind, _same)


CURVES = TRANSLATED - AFFINE - CHOICES - {"Clip", "LeakyRelu", "PRelu", "Relu"}
"""Operators with which a region is no rectifier and no affine map, whatever its constants are."""


def wired(nodes: Sequence[onnx.NodeProto], constants: Collection[str]) -> Wiring:
    """Return how nodes hang together; see :class:`Wiring` for the arguments."""
    return Wiring.of(nodes, constants, TRANSLATED, {MICROSOFT: MICROSOFTS})


def find_functions(wiring: Wiring) -> dict[int, list[Region]]:
    """Return what may be a function of one number, by the number of its first node, the largest first."""
    nodes = wiring.nodes
    found: dict[int, list[Region]] = {}
    plain = [each.op_type in AFFINE | {"Relu"} and not _bends(wiring, each) for each in nodes]
    others = np.cumsum([0, *(not each for each in plain)])
    for number, node in enumerate(nodes):
        end = node.output[0] if node.output else ""
        roots = wiring.roots.get(end, frozenset()) - {end}
        if not roots or _only_scales(wiring, number):
            continue
        for root in roots:
            if others[number + 1] == others[wiring.place.get(root, -1) + 1]:
                continue  # nothing between them but rectifiers and affine maps
            region = wiring.region(root, end)
            if all(plain[place] for place in region.places):
                continue
            if not _begins_affine(wiring, region, roots):
                found.setdefault(region.places[0], []).append(region)
    return {
        first: sorted(regions, key=lambda region: len(region.places), reverse=True)
        for first, regions in found.items()
    }


def _bends(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether an operator that may be affine is not: a product of two values, a division by one."""
    varying = [name for name in node.input if name and name not in wiring.constants]
    if node.op_type == "Div" and node.input[0] in wiring.constants:
        return True
    return len(varying) > 1 and node.op_type not in SUMS


def _only_scales(wiring: Wiring, number: int) -> bool:
    """Whether a node is an affine map of a value that others read, too: each may scale it as it likes."""
    node, varying = wiring.nodes[number], wiring.varying(number)
    affine = node.op_type in AFFINE and not _bends(wiring, node) and len(varying) == 1
    return affine and len(wiring.readers[varying[0]]) > 1


def _begins_affine(wiring: Wiring, region: Region, roots: frozenset[str]) -> bool:
    """Whether a smaller region with the same end leaves out affine maps at the head alone."""
    if wiring.nodes[region.places[0]].op_type not in AFFINE:
        return False  # the first node is in every head
    for root in roots - {region.root}:
        if wiring.place.get(root) in region.places:
            head = wiring.region(region.root, root)
            inside = [wiring.nodes[place] for place in head.places]
            if all(
                each.op_type in AFFINE
                and not _bends(wiring, each)
                and len([name for name in each.input if name and name not in wiring.constants]) == 1
                for each in inside
            ):
                return True
    return False


@dataclass(frozen=True, slots=True)
class Written:
    """A region as a function.

    Attributes:
        program: of :class:`snnc.ir.function.Function`.
        constants: of shapes that broadcast over the argument.
        is_identity: whether it changes nothing.
        is_rectifier: whether it is a rectifier, with or without an upper limit.
        is_curved: whether it holds an operator with which it is neither, whatever the constants are.
    """

    program: str
    constants: tuple[Constant, ...]
    is_identity: bool
    is_rectifier: bool
    is_curved: bool


def written(
    region: Region, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Constant], view: View, opset: int
) -> Written | None:
    """Return the function that a region is; ``None`` where no program says it.

    Args:
        region: the region.
        nodes: its nodes, in order.
        constants: those that it reads, by name.
        view: the tensor that it reads.
        opset: version of the default domain.
    """
    program = _Program()
    known: dict[str, str] = {region.root: "x"}
    values: dict[str, Any] = {region.root: view, **constants}
    try:
        for node in nodes:
            now = modern(node, opset)
            operands = aligned(now, [values.get(name) if name else None for name in now.input], opset)
            call = Call(now, opset, operands, GraphBuilder({}), None, ((),) * len(now.output))
            read = [
                program.constant(_number(value)) if isinstance(value, np.ndarray) else known.get(name, "")
                for name, value in zip(now.input, operands, strict=True)
            ]
            if any(name and not operand for name, operand in zip(now.input, read, strict=True)):
                raise UntranslatableError("a constant is not known yet")
            known[now.output[0]] = _translation(now.op_type)(program, call, read)
            values[now.output[0]] = view
        if np.broadcast_shapes(view.shape, *(each.shape for each in program.constants)) != view.shape:
            return None
    except (UntranslatableError, ValueError):
        return None
    last = known[region.end]
    if not program.calls or last != f"v{len(program.calls) - 1}":
        program.call("Identity", last)
    kinds = {node.op_type for node in nodes if node.domain != MICROSOFT}
    products = any(node.op_type in ("Mul", "Div") and _several(node, constants) for node in nodes)
    curved = bool(CURVES & kinds) or products or len(kinds) < len({node.op_type for node in nodes})
    text, rows = program.text()
    if not all(np.isfinite(each).all() for each in rows):
        return None
    identity, rectifier = (False, False) if curved else _simple(text, rows)
    return Written(text, rows, identity, rectifier, curved)


def _several(node: onnx.NodeProto, constants: Mapping[str, Constant]) -> bool:
    """Whether several inputs are no constants, or the divisor is none."""
    varying = [name for name in node.input if name and name not in constants]
    return len(varying) > 1 or (node.op_type == "Div" and node.input[0] in constants)


def _number(value: Constant) -> Constant:
    if value.dtype.kind not in "fiub":
        raise UntranslatableError("a constant is no number")
    same = value.size == 1 or (value.size > 1 and (value == value.flat[0]).all())
    return value.flat[0].reshape(()) if same else value


def _simple(program: str, given: Sequence[Constant]) -> tuple[bool, bool]:
    """Say whether values show that a function changes nothing, and whether it is a rectifier."""
    magnitudes = np.concatenate([-MAGNITUDES[::-1], [0], MAGNITUDES]).astype(np.float32)
    limits = np.unique(np.concatenate([np.ravel(each) for each in (*given, np.zeros(1))]))
    x = np.concatenate([magnitudes, limits, limits - 1e-3, limits + 1e-3]).astype(np.float32)
    whole = np.broadcast_shapes(*(each.shape for each in given))
    rows = int(np.prod(whole))
    if rows > MOST_COMPARED:
        return False, False
    spread = [np.broadcast_to(each, whole).ravel() for each in given]
    constants = np.stack(spread).astype(np.float32) if spread else np.zeros((0, 1), np.float32)
    y = Function(program, constants)(np.broadcast_to(x, (rows, len(x))))
    if not np.isfinite(y).all():
        return False, False
    highest = y.max(axis=1, keepdims=True)
    limited = (highest > 0).all() and np.allclose(y, np.clip(x, 0, highest), CLOSE, 0)
    return bool(np.allclose(y, x, CLOSE, 0)), bool(limited)


def emit_function(builder: GraphBuilder, view: View, found: Written, last: onnx.NodeProto) -> View:
    """Add the activation that a region is.

    Args:
        builder: the network in the making.
        view: what the region reads.
        found: what it is.
        last: its last node, whose name the activation bears.

    Raises:
        RefusalError: a constant differs within a channel.
    """
    origin = label(last)
    if found.is_identity:
        return view.to(view.index, origin)
    rows: list[FloatArray]
    common = all(each.size == 1 for each in found.constants)
    padded = (view.index < 0).any()  # a function of the zeros beside the values need not be zero
    if padded or not common or not builder.repeats(view):  # what is repeated is computed once
        view = builder.settle(view, origin)
    shape = builder.shape(view.node)
    if common:
        rows = [each.reshape(1) for each in found.constants]
    else:
        view, vectors = builder.channel_values(view, found.constants, origin)
        rows = list(vectors)
    node = ann.Pointwise(
        name=last.name or f"{last.op_type}_{origin}",
        inputs=(view.node,),
        shape=builder.shape(view.node),
        origin=origin,
        program=found.program,
        constants=np.stack(rows).astype(np.float32) if rows else np.zeros((0, 1), np.float32),
    )
    name = builder.emit(node)
    if len(node.shape) == 1 < len(shape):  # constants for each value: what follows reads a map again
        name = builder.reshape(name, shape, origin)
    return View(name, view.index, origin)


def alone(call: Call) -> View:
    """Read an operator as a function of its own, where it belongs to no larger one.

    Raises:
        RefusalError: it computes in integers, or is no function of one value per channel.
    """
    if call.whole:
        call.refuse("computes in integers", "cast the network's input to floats first")
    views = [value for value in call.operands if isinstance(value, View)]
    constants = [value for value in call.operands if isinstance(value, np.ndarray)]
    if len(views) != 1 or len(views) + len(constants) < sum(value is not None for value in call.operands):
        call.refuse(
            "combines two tensors that both depend on the input",
            "use a function of one value, with constants beside it",
            UNSUPPORTED_STRUCTURE,
        )
    program = _Program()
    try:
        read = [
            "x" if isinstance(value, View) else program.constant(_number(value)) if value is not None else ""
            for value in (value for value in call.operands if not isinstance(value, Comparison | Limited))
        ]
        last = _translation(call.proto.op_type)(program, call, read)
    except UntranslatableError as error:
        call.refuse(str(error), "cast to floats only", UNSUPPORTED_OPERATOR)
    if last != f"v{len(program.calls) - 1}":
        program.call("Identity", last)
    text, rows = program.text()
    return emit_function(call.builder, views[0], Written(text, rows, False, False, True), call.proto)
