"""Patterns of several operators that are known by one name: SiLU, GELU, LayerNorm, attention.

A pattern is searched around its characteristic operator. Patterns are only used for messages: they name the
cause if one of their operations cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from snnc.diagnostics import UNSUPPORTED_OPERATOR, UNSUPPORTED_STRUCTURE, Code, Diagnostic
from snnc.frontend.advice import RELU
from snnc.frontend.simplify import label

SCALINGS = frozenset({"Mul", "Div", "Add", "Sub", "Cast", "Identity"})
MASKS = SCALINGS | {"Where", "Dropout", "Clip", "Reshape", "Transpose"}
MEANS = frozenset({"ReduceMean", "ReduceSum"})
REACH = 8
"""Most operators between the one that gives a pattern away and its ends."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Several operators that are known by one name.

    Attributes:
        name: as people know it.
        formula: what it computes, which has no spiking form; empty where it has one, so that something else
            is wrong.
        code: of the diagnostic.
        cure: for the user.
        nodes: labels of the operators that spell it; the first gives it away.
    """

    name: str
    formula: str
    code: Code
    cure: str
    nodes: tuple[str, ...]

    def diagnostic(self, first: Diagnostic) -> Diagnostic:
        """Return the finding that stands for those at its operators, of which one is given."""
        if not self.formula:
            return Diagnostic(first.code, f"{self.name}: {first.message}", self.nodes[0], first.help)
        message = f"{self.name}: {self.formula} has no spiking form"
        return Diagnostic(self.code, message, self.nodes[0], self.cure)


@dataclass(slots=True)
class _Net:
    """Who makes and who reads each tensor; constants are made by nobody.

    Attributes:
        nodes: the operators, in topological order.
        inputs: names of the network's inputs.
    """

    nodes: Sequence[onnx.NodeProto]
    inputs: frozenset[str]
    maker: dict[str, onnx.NodeProto] = field(default_factory=dict)
    readers: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.nodes:
            if not any(name in self.maker or name in self.inputs for name in node.input):
                continue
            self.maker.update((name, node) for name in node.output if name)
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def before(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return what makes a node's inputs, as far as they depend on anything."""
        return [self.maker[name] for name in node.input if name in self.maker]

    def after(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return what reads a node's first output."""
        return self.readers.get(node.output[0], [])

    def back(
        self, node: onnx.NodeProto, through: Iterable[str], wanted: Callable[[onnx.NodeProto], bool]
    ) -> list[onnx.NodeProto] | None:
        """Return the way to the nearest node of a kind before this one; ``None`` where there is none."""
        return _way(node, self.before, frozenset(through), wanted)

    def ahead(
        self, node: onnx.NodeProto, through: Iterable[str], wanted: Callable[[onnx.NodeProto], bool]
    ) -> list[onnx.NodeProto] | None:
        """Return the way to the nearest node of a kind behind this one; ``None`` where there is none."""
        return _way(node, self.after, frozenset(through), wanted)


def _way(
    start: onnx.NodeProto,
    step: Callable[[onnx.NodeProto], list[onnx.NodeProto]],
    through: frozenset[str],
    wanted: Callable[[onnx.NodeProto], bool],
) -> list[onnx.NodeProto] | None:
    ways = [[node] for node in step(start)]
    for _ in range(REACH):
        for way in ways:
            if wanted(way[-1]):
                return way
        ways = [[*way, node] for way in ways if way[-1].op_type in through for node in step(way[-1])][:64]
    return None


def find_patterns(graph: onnx.GraphProto) -> Mapping[str, Pattern]:
    """Return for each operator of a pattern, by its label, the pattern.

    Args:
        graph: as :func:`snnc.frontend.simplify.simplify` returns it.
    """
    net = _Net(graph.node, frozenset(value.name for value in graph.input))
    found: dict[str, Pattern] = {}
    for node in graph.node:
        finder = _FINDERS.get(node.op_type)
        pattern = None if finder is None else finder(net, node)
        if pattern is not None:
            for name in pattern.nodes:
                found.setdefault(name, pattern)
    return found


def named(problems: Sequence[Diagnostic], patterns: Mapping[str, Pattern]) -> list[Diagnostic]:
    """Return the findings with those at the operators of one pattern told once, by its name."""
    told: set[tuple[str, ...]] = set()
    result = []
    for problem in problems:
        pattern = patterns.get(problem.node)
        if pattern is None:
            result.append(problem)
        elif pattern.nodes not in told:
            told.add(pattern.nodes)
            result.append(pattern.diagnostic(problem))
    return result


def _pattern(name: str, formula: str, code: Code, cure: str, *nodes: onnx.NodeProto) -> Pattern:
    return Pattern(name, formula, code, cure, tuple(dict.fromkeys(label(node) for node in nodes)))


def _readable(name: str, *nodes: onnx.NodeProto) -> Pattern:
    return _pattern(name, "", UNSUPPORTED_STRUCTURE, "", *nodes)


def _activation(name: str, formula: str, *nodes: onnx.NodeProto) -> Pattern:
    return _pattern(name, formula, UNSUPPORTED_OPERATOR, RELU, *nodes)


def _is_mul(node: onnx.NodeProto) -> bool:
    return node.op_type == "Mul"


def _product(net: _Net, node: onnx.NodeProto) -> tuple[list[onnx.NodeProto], bool] | None:
    """Return the way to the product of two activations that a node takes part in.

    Returns:
        The way, and whether the other factor is what the node itself is computed from.
    """
    way = net.ahead(node, SCALINGS, lambda n: _is_mul(n) and _factors(net, n) == 2)
    if way is None:
        return None
    seen = {name for n in (node, *way[:-1]) for name in n.output}
    other = next((name for name in way[-1].input if name not in seen), "")
    return way, any(other in n.input for n in _upstream(net, node))


def _factors(net: _Net, node: onnx.NodeProto) -> int:
    """Count the inputs that are no constants."""
    return sum(name in net.maker or name in net.inputs for name in node.input)


def _upstream(net: _Net, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yield a node and what is scaled and shifted for it."""
    yield node
    for before in net.before(node):
        if before.op_type in SCALINGS | {"Pow", "Softplus"}:
            yield from _upstream(net, before)


def _sigmoid(net: _Net, node: onnx.NodeProto) -> Pattern | None:
    product = _product(net, node)
    if product is None:
        return None
    way, of_itself = product
    hard = node.op_type == "HardSigmoid"
    if not of_itself:
        return _readable("gate", node, *way)
    if hard:
        return _activation("HardSwish", "x * hard_sigmoid(x)", node, *way)
    return _activation("SiLU", "x * sigmoid(x)", node, *way)


def _gelu(net: _Net, node: onnx.NodeProto) -> Pattern | None:
    product = _product(net, node)
    if product is None:
        return None
    way, _ = product
    around = [n for n in _upstream(net, node) if n is not node]
    if any(n.op_type == "Softplus" for n in around):
        return _activation("Mish", "x * tanh(softplus(x))", node, *way, *around)
    if node.op_type == "Tanh" and not any(n.op_type == "Pow" for n in around) and len(way) < 2:
        return _readable("gate", node, *way)
    form = "x * (1 + erf(x / sqrt(2))) / 2" if node.op_type == "Erf" else "x * (1 + tanh(...)) / 2"
    half = [n for n in net.after(way[-1]) if _is_mul(n) and _factors(net, n) == 1]
    return _activation("GELU", form, node, *way, *around, *half)


def _hard_swish(net: _Net, node: onnx.NodeProto) -> Pattern | None:
    shift = [n for n in net.before(node) if n.op_type == "Add"]
    product = _product(net, node) if shift else None
    if product is None or not product[1]:
        return None
    return _activation("HardSwish", "x * clip(x + 3, 0, 6) / 6", node, *product[0])


def _norm(net: _Net, node: onnx.NodeProto) -> Pattern | None:
    """Find a normalisation by the root of a mean of squares."""
    between = SCALINGS | {"Max", "Relu", "Clip", "Reshape", "Expand"}  # one form has mean(x^2) - mean(x)^2
    mean = net.back(node, between, lambda n: n.op_type in MEANS and bool(_squares(net, n)))
    if mean is None:
        return None
    square = _squares(net, mean[-1])
    around = [*mean, *square]
    centred = [n for n in (*mean, *net.before(square[0])) if n.op_type == "Sub"]
    first = [n for sub in centred for n in _upstream(net, sub) if n.op_type in MEANS]
    first += [n for sub in centred for n in net.before(sub) if n.op_type in MEANS | {"Pow", "Mul"}]
    last = net.ahead(node, {"Reciprocal", "Cast"}, lambda n: n.op_type in ("Div", "Mul")) or []
    name = "LayerNorm" if centred else "RMSNorm"
    return _readable(name, node, *around, *centred, *first, *last)


def _squares(net: _Net, mean: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [n for n in net.before(mean) if n.op_type == "Pow" or (_is_mul(n) and len(set(n.input)) == 1)]


def _attention(net: _Net, node: onnx.NodeProto) -> Pattern | None:
    """Find the softmax between two products of activations."""

    def product(other: onnx.NodeProto) -> bool:
        return other.op_type in ("MatMul", "Einsum") and _factors(net, other) > 1

    front = net.back(node, MASKS, product)
    behind = net.ahead(node, MASKS, product)
    if front is None or behind is None:
        return None
    return _readable("attention", node, *front, *behind)


_FINDERS: Mapping[str, Callable[[_Net, onnx.NodeProto], Pattern | None]] = {
    "Sigmoid": _sigmoid,
    "HardSigmoid": _sigmoid,
    "Erf": _gelu,
    "Tanh": _gelu,
    "Clip": _hard_swish,
    "Sqrt": _norm,
    "Softmax": _attention,
}
