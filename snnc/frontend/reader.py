"""One walk over an ONNX graph, which finds every problem on the way.

An operation that cannot be read gives a diagnostic, and the walk goes on with tensors of the shapes that
it would have made. Where even those are not known, the operations after it are only checked for operators
that are not supported in any form.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from snnc.diagnostics import (
    DYNAMIC_SHAPE,
    OPSET,
    QUANTISED_GRAPH,
    SEVERAL_INPUTS,
    UNSUPPORTED_ATTRIBUTE,
    UNSUPPORTED_STRUCTURE,
    Diagnostic,
)
from snnc.frontend.advice import advice, is_quantised
from snnc.frontend.builder import GraphBuilder
from snnc.frontend.call import Call, Value
from snnc.frontend.codes import Coded, Codes
from snnc.frontend.constants import spread_constants
from snnc.frontend.operators import NEWEST_OPSET, OLDEST_OPSET, operator_of, reads_codes
from snnc.frontend.patterns import find_patterns, named
from snnc.frontend.quantised import MOVES, folded, scales_of
from snnc.frontend.refusals import MAX_VALUES, RefusalError, refuse
from snnc.frontend.simplify import (
    DEFAULT_DOMAINS,
    NOT_DETERMINED,
    constants_of,
    evaluate,
    infer_shapes,
    label,
    reads,
)
from snnc.frontend.staircases import Region, emit, find_regions, recognise
from snnc.frontend.tidy import tidy
from snnc.frontend.views import View, is_range
from snnc.ir import ann
from snnc.ir.graph import FloatArray, Shape
from snnc.ir.layout import InputLayout


@dataclass(frozen=True, slots=True)
class Signature:
    """What a network takes and gives.

    Attributes:
        input_name: name of the ONNX input.
        input_dtype: its type, as NumPy calls it.
        shape: shape of one sample.
        batch: the batch size that the file fixes; ``None`` if it is free.
        output_name: name of the ONNX output.
        opset: version of the default operator set.
    """

    input_name: str
    input_dtype: str
    shape: Shape
    batch: int | None
    output_name: str
    opset: int


@dataclass(frozen=True, slots=True)
class Network:
    """A graph, and how the caller's arrays fit it."""

    graph: ann.AnnGraph
    layout: InputLayout
    signature: Signature


def read_graph(
    model: onnx.ModelProto, name: str, where: str
) -> tuple[Network | None, tuple[Diagnostic, ...]]:
    """Read a simplified model.

    Args:
        model: as :func:`snnc.frontend.simplify.simplify` returns it.
        name: what the network is to be called.
        where: the file, for messages.

    Returns:
        The network, ``None`` if it cannot be read, and all diagnostics.

    Raises:
        InputError: a constant is damaged.
    """
    problems: list[Diagnostic] = []
    signature = _signature(model, problems)
    if signature is None:
        unsupported = _unsupported(model.graph.node)
        return None, (*problems, *named(unsupported, find_patterns(model.graph)))
    reader = _Reader(model, where, signature, _first_layout(model, where, signature))
    graph = reader.read(name)
    problems += named(reader.problems, find_patterns(model.graph))
    if graph is None or problems:
        return None, tuple(problems)
    graph = tidy(spread_constants(graph))
    graph.verify()
    return Network(graph, reader.builder.layout, signature), ()


def _signature(model: onnx.ModelProto, problems: list[Diagnostic]) -> Signature | None:
    """Read what the model takes and gives, noting what keeps it from being read at all."""
    opset = max((o.version for o in model.opset_import if o.domain in DEFAULT_DOMAINS), default=0)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        cure = (
            "upgrade it with onnx.version_converter, or export again with opset 13 or newer"
            if opset < OLDEST_OPSET
            else f"install a newer onnx package, or export with opset {NEWEST_OPSET} or older"
        )
        message = f"the model uses opset {opset}, but {OLDEST_OPSET} to {NEWEST_OPSET} are supported"
        problems.append(Diagnostic(OPSET, message, "", cure))
    inputs, outputs = model.graph.input, model.graph.output
    for values, what in ((inputs, "inputs"), (outputs, "outputs")):
        if len(values) != 1:
            listed = ", ".join(repr(value.name) for value in values) or "none"
            cure = "cut the graph with onnx.utils.extract_model to one input and one output"
            problems.append(
                Diagnostic(SEVERAL_INPUTS, f"the model has {len(values)} {what}: {listed}", "", cure)
            )
    if not inputs or not outputs or any(problem.code is OPSET for problem in problems):
        return None
    tensor = inputs[0].type.tensor_type
    dims = tensor.shape.dim
    sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in dims]
    if not _is_numeric(tensor.elem_type):
        cure = "cut the graph with onnx.utils.extract_model behind what reads it"
        message = "the input is no tensor of numbers"
        problems.append(Diagnostic(UNSUPPORTED_STRUCTURE, message, inputs[0].name, cure))
        return None
    if len(sizes) < 2 or min(sizes[1:]) < 1 or math.prod(sizes[1:]) > MAX_VALUES:
        shown = ", ".join(d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in dims)
        message = f"the input has the shape ({shown}): all sizes but the batch must be known"
        cure = "export the model with fixed height and width; only the batch may be free"
        problems.append(Diagnostic(DYNAMIC_SHAPE, message, inputs[0].name, cure))
        return None
    return Signature(
        input_name=inputs[0].name,
        input_dtype=str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)),
        shape=tuple(sizes[1:]),
        batch=sizes[0] if sizes[0] > 0 else None,
        output_name=outputs[0].name,
        opset=opset,
    )


def _is_numeric(element: int) -> bool:
    if element in (0, onnx.TensorProto.STRING) or element not in onnx.TensorProto.DataType.values():
        return False
    return helper.tensor_dtype_to_np_dtype(element).kind in "fiuV"  # V: bfloat16


def _unsupported(nodes: Iterable[onnx.NodeProto]) -> list[Diagnostic]:
    """Return a diagnostic for every operator that is not supported in any form."""
    unknown = [node for node in nodes if not _is_supported(node) and node.op_type != "Constant"]
    return [_not_supported(node) for node in unknown]


def _is_supported(node: onnx.NodeProto) -> bool:
    return operator_of(node) is not None


def _not_supported(node: onnx.NodeProto) -> Diagnostic:
    code, message, cure = advice(node.op_type, "" if node.domain in DEFAULT_DOMAINS else node.domain)
    return Diagnostic(code, message, label(node), cure)


def _first_layout(model: onnx.ModelProto, where: str, signature: Signature) -> InputLayout:
    """Find the layout of the input that the first convolution, pooling or dense layer wants."""
    flat = InputLayout.plain(signature.shape, (math.prod(signature.shape),))
    probe = _Reader(model, where, signature, flat, probing=True)
    probe.read("probe")
    if probe.builder.wanted is not None:
        return probe.builder.wanted
    return InputLayout.plain(signature.shape, signature.shape) if len(signature.shape) == 3 else flat


KEEP_SHAPE = frozenset(
    {
        "BipolarQuant",
        "DequantizeLinear",
        "FloatQuant",
        "IntQuant",
        "MultiThreshold",
        "Quant",
        "QuantizeLinear",
        "Trunc",
    }
)
"""Operators of quantised networks that give a tensor of the shape of their first input."""


def _computed_of(nodes: Iterable[onnx.NodeProto], known: set[str]) -> set[str]:
    """Return what nodes compute of constants alone."""
    found: set[str] = set()
    for node in nodes:
        if all(name in known or name in found for name in reads(node)) and node.op_type not in NOT_DETERMINED:
            found.update(name for name in node.output if name)
    return found


def _constants_first(nodes: Sequence[onnx.NodeProto], values: Mapping[str, object]) -> list[onnx.NodeProto]:
    """Return nodes in an order in which those that compute constants come first."""
    constant = _computed_of(nodes, {name for name, v in values.items() if isinstance(v, np.ndarray)})
    first = [node for node in nodes if constant.issuperset(name for name in node.output if name)]
    return [
        *first,
        *(node for node in nodes if not constant.issuperset(name for name in node.output if name)),
    ]


@dataclass(frozen=True, slots=True)
class _Unknown:
    """What an operation gives that could not be read."""


class _Reader:
    """The state of the walk."""

    def __init__(
        self,
        model: onnx.ModelProto,
        where: str,
        signature: Signature,
        layout: InputLayout,
        *,
        probing: bool = False,
    ) -> None:
        self._where = where
        self.signature = signature
        self.problems: list[Diagnostic] = []
        self.builder = GraphBuilder(layout, probing)
        self._nodes = list(model.graph.node)
        self._values: dict[str, Value | _Unknown] = {}
        self._codes: dict[str, Codes] = {}
        self._scales: dict[str, FloatArray] = {}
        self._readers: dict[str, list[onnx.NodeProto | None]] = {}
        integers = np.dtype(signature.input_dtype).kind in "iu"
        self._whole = {signature.input_name} if integers else set()
        self._constants(model.graph)
        self._note_readers(self._nodes)
        self._readers.setdefault(signature.output_name, []).append(None)

    def read(self, name: str) -> ann.AnnGraph | None:
        """Walk over the nodes; return the network if all could be read."""
        layout = self.builder.layout
        given = self.signature.input_name
        node = self.builder.emit(ann.Input(name=given, shape=layout.shape))
        index = np.empty(layout.index.size, np.int64)
        index[layout.index.ravel()] = np.arange(index.size)
        self._values[given] = View(node, index.reshape(1, *layout.source_shape), given)
        if self._walk(self._nodes) and not self.problems:
            return self._finish(name)
        self._group_quantised()
        return None

    def _constants(self, graph: onnx.GraphProto) -> None:
        self._values.update(constants_of(graph, self._where))
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            cure = "store it as a dense tensor"
            self.problems.append(Diagnostic(UNSUPPORTED_ATTRIBUTE, "the constant is sparse", name, cure))

    def _note_readers(self, nodes: Iterable[onnx.NodeProto]) -> None:
        for node in nodes:
            for name in dict.fromkeys(reads(node)):
                self._readers.setdefault(name, []).append(node)

    def _walk(self, given: Iterable[onnx.NodeProto]) -> bool:
        """Read nodes in order; return whether the walk came to its end."""
        nodes = _constants_first(list(given), self._values)
        known = {name for name, value in self._values.items() if isinstance(value, np.ndarray)}
        regions = find_regions(nodes, known | _computed_of(nodes, known))
        done: set[int] = set()
        for number, node in enumerate(nodes):
            if number not in done:
                done |= self._read_region(nodes, regions.get(number, []))
            if number in done:
                continue
            try:
                results = self._read_node(node)
            except RefusalError as refusal:
                if refusal.diagnostic is None:
                    return False
                self.problems.append(refusal.diagnostic)
                results = self._stand_ins(node)
            self._values.update(
                (name, value) for name, value in zip(node.output, results, strict=False) if name
            )
            if node.op_type != "Cast" and self._whole.intersection(node.input):
                self._whole.update(node.output)
        return True

    def _read_region(self, nodes: Sequence[onnx.NodeProto], regions: Sequence[Region]) -> set[int]:
        """Read the largest of some regions that is a staircase or a clip; return the nodes that are done."""
        for region in regions:
            view = self._values.get(region.root)
            inside = [nodes[place] for place in region.places]
            read = {name for node in inside for name in node.input if name}
            constants = {name: v for name in read if isinstance(v := self._values.get(name), np.ndarray)}
            if not isinstance(view, View) or region.root in self._codes:
                continue
            found = recognise(region, inside, constants, view.shape, self.signature.opset)
            if found is None:
                continue
            try:
                self._values[region.end] = emit(self.builder, view, found, inside[-1])
            except RefusalError as refusal:
                if refusal.diagnostic is None:
                    raise
                continue
            written = {name for node in inside for name in node.output} - {region.end}
            others = [node for node in (*nodes, None) if node is not None and node not in inside]
            needed = {name for node in others for name in reads(node)} & written
            # What is read elsewhere, too, is read once more by itself.
            return {p for p in region.places if not needed.intersection(nodes[p].output)}
        return set()

    def _read_node(self, node: onnx.NodeProto) -> tuple[Value | _Unknown, ...]:
        """Return the values of a node's outputs.

        Raises:
            RefusalError: it cannot be read.
        """
        operands = tuple(self._values.get(name, _Unknown()) if name else None for name in node.input)
        standard = node.domain in DEFAULT_DOMAINS
        if node.op_type == "If" and standard and isinstance(operands[0], np.ndarray):
            return self._branch(node, bool(operands[0].all()))
        if all(value is None or isinstance(value, np.ndarray) for value in operands):
            inner = [name for name in reads(node) if not isinstance(self._values.get(name), np.ndarray)]
            if not inner and (quantised := self._folded_quantiser(node, operands)) is not None:
                return (quantised,)
            if standard and not inner and node.op_type not in NOT_DETERMINED:
                return self._fold(node)
        operator = operator_of(node)
        if operator is None:
            raise RefusalError(_not_supported(node))
        known = tuple(value for value in operands if not isinstance(value, _Unknown))
        if len(known) < len(operands):
            return (_Unknown(),) * len(node.output)
        call = Call(
            proto=node,
            opset=self.signature.opset,
            operands=known,
            builder=self.builder,
            batch=self.signature.batch,
            readers=tuple(tuple(self._readers.get(name, ())) for name in node.output),
            whole=bool(self._whole.intersection(node.input)),
            codes=tuple(self._codes.get(name) for name in node.input),
            scales=tuple(self._scales.get(name) for name in node.input),
        )
        coded = [code for code in call.codes if code is not None]
        if coded:
            operator = reads_codes(call, operator)
        result = operator.read(call)
        if isinstance(result, Coded):
            self._codes[node.output[0]] = result.codes
            return (result.view,)
        if coded and node.op_type in (*MOVES, "Concat"):
            self._codes.update((name, coded[0]) for name in node.output)
        return result if isinstance(result, tuple) else (result,)

    def _stand_ins(self, node: onnx.NodeProto) -> tuple[View | _Unknown, ...]:
        """Return what goes on in the place of a node that could not be read: tensors of the right shapes."""
        values = {name: self._values.get(name, _Unknown()) for name in node.input if name}
        shapes = {name: value.shape for name, value in values.items() if isinstance(value, View)}
        if not shapes or any(isinstance(value, _Unknown) for value in values.values()):
            return (_Unknown(),) * len(node.output)
        if is_quantised(node.op_type):
            # Only these keep the shape of what they read; of the others nothing is known here.
            kept = shapes.get(node.input[0]) if node.op_type in KEEP_SHAPE else None
            found: list[Shape | None] = [kept] * len(node.output)
        else:
            constants = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
            found = infer_shapes(node, shapes, constants, self.signature.opset)
        return tuple(
            self.builder.stand_in_view(shape, label(node))
            if shape is not None and math.prod(shape) <= MAX_VALUES
            else _Unknown()
            for shape in found
        )

    def _folded_quantiser(
        self, node: onnx.NodeProto, operands: Sequence[Value | _Unknown | None]
    ) -> Value | None:
        """Compute an operator of another domain that quantises constants; ``None`` for another node."""
        constants = [value if isinstance(value, np.ndarray) else None for value in operands]
        try:
            found = folded(node, constants)
        except ValueError as error:
            refuse(QUANTISED_GRAPH, label(node), f"{node.op_type}: {error}", "train with another rounding")
        if found is None:
            return None
        self._scales[node.output[0]], value = found
        return value

    def _fold(self, node: onnx.NodeProto) -> tuple[Value, ...]:
        """Compute a node from constants alone."""
        given = {
            name: value for name in node.input if isinstance(value := self._values.get(name), np.ndarray)
        }
        try:
            values = tuple(evaluate(node, given, self.signature.opset))
            self._scales.update(scales_of(node, given, self._scales, self.signature.opset))
            return values
        except ValueError as error:
            refuse(
                UNSUPPORTED_ATTRIBUTE,
                label(node),
                f"{node.op_type} of constants cannot be computed: {error}",
                "store its result in the file as a constant",
            )

    def _branch(self, node: onnx.NodeProto, condition: bool) -> tuple[Value | _Unknown, ...]:
        """Read the one branch of an If that is taken."""
        wanted = "then_branch" if condition else "else_branch"
        graph = next(a.g for a in node.attribute if a.name == wanted)
        self._constants(graph)
        self._note_readers(graph.node)
        if not self._walk(graph.node):
            raise RefusalError(None)
        return tuple(self._values.get(value.name, _Unknown()) for value in graph.output)

    def _group_quantised(self) -> None:
        """Say once of each kind of operator of quantised networks why it is refused, and of how many."""
        kept: list[Diagnostic] = []
        first: dict[str, int] = {}
        more: Counter[str] = Counter()
        for problem in self.problems:
            kind = problem.message.partition(":")[0].partition(" ")[0]
            if problem.code is not QUANTISED_GRAPH or kind not in first:
                first[kind] = len(kept)
                kept.append(problem)
            else:
                more[kind] += 1
        for kind, count in more.items():
            one = kept[first[kind]]
            told = f"{one.message}; and {count} more {kind}"
            kept[first[kind]] = Diagnostic(one.code, told, one.node, one.help)
        self.problems = kept

    def _finish(self, name: str) -> ann.AnnGraph | None:
        """Return the network that ends with the output."""
        output = self._values.get(self.signature.output_name)
        if isinstance(output, _Unknown):
            return None  # it depends on what has been refused, or on a second input, which has been told
        try:
            if not isinstance(output, View):
                message = "the output does not depend on the input"
                refuse(
                    UNSUPPORTED_STRUCTURE, self.signature.output_name, message, "check the exported outputs"
                )
            view = self.builder.settle(output, output.origin)
            if not is_range(view.index):
                refuse(
                    UNSUPPORTED_STRUCTURE,
                    output.origin,
                    "the output's values stand in another order than the last layer computes them",
                    "remove the transpose at the end of the network",
                )
        except RefusalError as refusal:
            if refusal.diagnostic is not None:
                self.problems.append(refusal.diagnostic)
            return None
        shape = self.builder.shape(view.node)
        long = tuple(n for n in view.shape if n > 1)
        node = view.node
        if len(long) < 2 and len(shape) > 1:  # one value per class
            node = self.builder.reshape(node, long or (1,), output.origin)
        return ann.AnnGraph(name=name, nodes=tuple(self.builder.nodes.values()), output=node)
