"""One walk over an ONNX graph that collects all problems.

An operation that cannot be read gives a diagnostic, and the walk continues with tensors of the shapes of its
outputs. If these are unknown, too, the following operations are only checked for operators that are not
supported in any form.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from snnc.diagnostics import (
    DYNAMIC_SHAPE,
    NO_DOOR,
    OPSET,
    QUANTISED_GRAPH,
    UNSUPPORTED_ATTRIBUTE,
    UNSUPPORTED_STRUCTURE,
    Diagnostic,
)
from snnc.frontend.advice import advice, is_quantised
from snnc.frontend.builder import GraphBuilder
from snnc.frontend.call import Call, Value
from snnc.frontend.constants import spread_constants
from snnc.frontend.layout import layout_of
from snnc.frontend.operators import NEWEST_OPSET, OLDEST_OPSET, OPERATORS
from snnc.frontend.patterns import find_patterns, named
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
from snnc.frontend.tidy import tidy
from snnc.frontend.views import View, is_range
from snnc.ir import ann
from snnc.ir.graph import Shape
from snnc.ir.layout import InputLayout


@dataclass(frozen=True, slots=True)
class Given:
    """An ONNX input.

    Attributes:
        name: of the input.
        dtype: its type, as NumPy calls it.
        shape: of one sample.
    """

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a network.

    Attributes:
        inputs: the ONNX inputs, in order.
        batch: the batch size that the file fixes; ``None`` if it is free.
        outputs: names of the ONNX outputs, in order.
        opset: version of the default operator set.
    """

    inputs: tuple[Given, ...]
    batch: int | None
    outputs: tuple[str, ...]
    opset: int


@dataclass(frozen=True, slots=True)
class Network:
    """A graph, and how the caller's arrays fit it.

    Attributes:
        graph: the network.
        layouts: of each input, by its name.
        given: of each output, by its name.
        signature: what the ONNX model says.
    """

    graph: ann.AnnGraph
    layouts: dict[str, InputLayout]
    given: dict[str, InputLayout]
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
    reader = _Reader(model, where, signature, _layouts(model, where, signature))
    graph = reader.read(name)
    problems += named(reader.problems, find_patterns(model.graph))
    if graph is None or problems:
        return None, tuple(problems)
    graph = tidy(spread_constants(graph))
    graph.verify()
    return Network(graph, reader.builder.layouts, reader.given, signature), ()


def _mapped_shape(shape: Shape) -> Shape:
    """Return the shape of a node that holds the output, of this shape, in its own order."""
    long = [n for n in shape if n > 1]
    if len(long) < 2:
        return (math.prod(shape),)
    return (long[0], 1, long[1]) if len(long) == 2 else (long[0], long[1], math.prod(long[2:]))


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
    for values, what in ((inputs, "input"), (outputs, "output")):
        if not values:
            cure = f"export the network with its {what}s"
            problems.append(Diagnostic(NO_DOOR, f"the model has no {what}", "", cure))
    if not inputs or not outputs or any(problem.code is OPSET for problem in problems):
        return None
    found = [_given(value, problems) for value in inputs]
    names = [value.name for value in outputs]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        cure = "give each output of the model a name of its own"
        problems.append(Diagnostic(NO_DOOR, f"two outputs are called {name!r}", name, cure))
    batches = {value.name: size for value, size in zip(inputs, map(_batch, inputs), strict=True) if size}
    if len(set(batches.values())) > 1:
        listed = ", ".join(f"{name!r} {size}" for name, size in batches.items())
        message = f"the inputs fix different batch sizes, {listed}: the first size of each must be the batch"
        cure = "export the model with the batch as the first size of every input"
        problems.append(Diagnostic(DYNAMIC_SHAPE, message, "", cure))
    if problems:
        return None
    return Signature(
        inputs=tuple(value for value in found if value is not None),
        batch=next(iter(batches.values()), None),
        outputs=tuple(names),
        opset=opset,
    )


def _batch(value: onnx.ValueInfoProto) -> int | None:
    """Return the batch size that an input fixes; ``None`` if it is free."""
    dims = value.type.tensor_type.shape.dim
    return dims[0].dim_value if dims and dims[0].dim_value > 0 else None


def _given(value: onnx.ValueInfoProto, problems: list[Diagnostic]) -> Given | None:
    """Read what an input takes, noting what keeps it from being read."""
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in dims]
    if not _is_numeric(tensor.elem_type):
        cure = "cut the graph with onnx.utils.extract_model after the nodes that read it"
        message = "the input is not a tensor of numbers"
        problems.append(Diagnostic(UNSUPPORTED_STRUCTURE, message, value.name, cure))
        return None
    if len(sizes) < 2 or min(sizes[1:]) < 1 or math.prod(sizes[1:]) > MAX_VALUES:
        shown = ", ".join(d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in dims)
        message = f"the input has the shape ({shown}): all sizes but the batch must be known"
        cure = "export the model with fixed height and width; only the batch may be free"
        problems.append(Diagnostic(DYNAMIC_SHAPE, message, value.name, cure))
        return None
    return Given(value.name, str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)), tuple(sizes[1:]))


def _is_numeric(element: int) -> bool:
    if element in (0, onnx.TensorProto.STRING) or element not in onnx.TensorProto.DataType.values():
        return False
    return helper.tensor_dtype_to_np_dtype(element).kind in "fiuV"  # V: bfloat16


def _unsupported(nodes: Iterable[onnx.NodeProto]) -> list[Diagnostic]:
    """Return a diagnostic for every operator that is not supported in any form."""
    unknown = [node for node in nodes if not _is_supported(node) and node.op_type != "Constant"]
    return [_not_supported(node) for node in unknown]


def _is_supported(node: onnx.NodeProto) -> bool:
    return node.domain in DEFAULT_DOMAINS and node.op_type in OPERATORS


def _not_supported(node: onnx.NodeProto) -> Diagnostic:
    code, message, cure = advice(node.op_type, "" if node.domain in DEFAULT_DOMAINS else node.domain)
    return Diagnostic(code, message, label(node), cure)


def _layouts(model: onnx.ModelProto, where: str, signature: Signature) -> dict[str, InputLayout]:
    """Find the layout of each input that the first convolution, pooling or dense layer behind it wants."""
    layouts = {
        given.name: InputLayout.plain(given.shape, (math.prod(given.shape),)) for given in signature.inputs
    }
    pending = frozenset(layouts)
    while pending:
        probe = _Reader(model, where, signature, layouts, pending=pending)
        probe.read("probe")
        found = probe.builder.wanted
        for name in pending if found is None else {found[0]}:
            wanted = None if found is None else found[1]
            shape = layouts[name].source_shape
            if wanted is None and len(shape) == 3:
                wanted = InputLayout.plain(shape, shape)
            layouts[name] = wanted or layouts[name]
            pending -= {name}
    return layouts


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
        layouts: dict[str, InputLayout],
        *,
        pending: frozenset[str] = frozenset(),
    ) -> None:
        self._where = where
        self.signature = signature
        self.problems: list[Diagnostic] = []
        self.given: dict[str, InputLayout] = {}
        self.builder = GraphBuilder(layouts, pending)
        self._nodes = list(model.graph.node)
        self._values: dict[str, Value | _Unknown] = {}
        self._readers: dict[str, list[onnx.NodeProto | None]] = {}
        self._whole = {given.name for given in signature.inputs if np.dtype(given.dtype).kind in "iu"}
        self._constants(model.graph)
        self._note_readers(self._nodes)
        for output in signature.outputs:
            self._readers.setdefault(output, []).append(None)

    def read(self, name: str) -> ann.AnnGraph | None:
        """Walk over the nodes; return the network if all could be read."""
        for given in self.signature.inputs:
            layout = self.builder.layouts[given.name]
            node = self.builder.emit(ann.Input(name=given.name, shape=layout.shape))
            index = np.empty(layout.index.size, np.int64)
            index[layout.index.ravel()] = np.arange(index.size)
            self._values[given.name] = View(node, index.reshape(1, *layout.source_shape), given.name)
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

    def _walk(self, nodes: Iterable[onnx.NodeProto]) -> bool:
        """Read nodes in order; return whether the walk came to its end."""
        for node in nodes:
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
            if standard and not inner and node.op_type not in NOT_DETERMINED:
                return self._fold(node)
        if not _is_supported(node):
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
        )
        result = OPERATORS[node.op_type].read(call)
        return result if isinstance(result, tuple) else (result,)

    def _stand_ins(self, node: onnx.NodeProto) -> tuple[View | _Unknown, ...]:
        """Return what goes on in the place of a node that could not be read: tensors of the right shapes."""
        values = {name: self._values.get(name, _Unknown()) for name in node.input if name}
        shapes = {name: value.shape for name, value in values.items() if isinstance(value, View)}
        if not shapes or any(isinstance(value, _Unknown) for value in values.values()):
            return (_Unknown(),) * len(node.output)
        if is_quantised(node.op_type) and node.input[0] in shapes:
            found: list[Shape | None] = [shapes[node.input[0]]]
        else:
            constants = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
            found = infer_shapes(node, shapes, constants, self.signature.opset)
        return tuple(
            self.builder.stand_in_view(shape, label(node))
            if shape is not None and math.prod(shape) <= MAX_VALUES
            else _Unknown()
            for shape in found
        )

    def _fold(self, node: onnx.NodeProto) -> tuple[Value, ...]:
        """Compute a node from constants alone."""
        given = {
            name: value for name in node.input if isinstance(value := self._values.get(name), np.ndarray)
        }
        try:
            return tuple(evaluate(node, given, self.signature.opset))
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
        """Say once, not for each of its nodes, that a network is quantised."""
        marks = [problem for problem in self.problems if problem.code is QUANTISED_GRAPH]
        if len(marks) < 2:
            return
        kinds = Counter(node.op_type for node in self._nodes if is_quantised(node.op_type))
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        message = f"the network is quantised ({counts}); this is the first such node"
        first = Diagnostic(QUANTISED_GRAPH, message, marks[0].node, marks[0].help)
        self.problems = [
            first if p is marks[0] else p for p in self.problems if p is marks[0] or p not in marks
        ]

    def _finish(self, name: str) -> ann.AnnGraph | None:
        """Return the network that ends with the outputs."""
        nodes = []
        for output in self.signature.outputs:
            try:
                nodes.append(self._output(output))
            except RefusalError as refusal:
                if refusal.diagnostic is not None:
                    self.problems.append(refusal.diagnostic)
        if len(nodes) < len(self.signature.outputs):
            return None
        return ann.AnnGraph(
            name=name,
            nodes=tuple(self.builder.nodes.values()),
            outputs=tuple(nodes),
            output_names=self.signature.outputs,
        )

    def _output(self, name: str) -> str:
        """Return the node that an output holds, and note how its values become those of the source.

        Raises:
            RefusalError: there is none; without a diagnostic where the output depends on what was refused.
        """
        output = self._values.get(name)
        if isinstance(output, _Unknown):
            raise RefusalError(None)
        several = len(self.signature.outputs) > 1
        cure = "convert with --keep-output and the names of the others" if several else "check the exports"
        if not isinstance(output, View):
            message = (
                "the output does not depend on the input" if name in self._values else "nothing makes it"
            )
            refuse(UNSUPPORTED_STRUCTURE, name, message, cure)
        view = self.builder.settle(output, output.origin)
        if isinstance(self.builder.nodes[view.node], ann.Input):
            refuse(UNSUPPORTED_STRUCTURE, name, "the output is an input as it is", cure)
        shape = self.builder.shape(view.node)
        long = tuple(n for n in view.shape if n > 1)
        node = view.node
        if len(long) < 2 and len(shape) > 1 and is_range(view.index):  # one value per class
            shape = long or (1,)
            node = self.builder.reshape(node, shape, output.origin)
        sizes = view.shape[1:] if view.shape[:1] == (1,) else view.shape  # some files drop the batch
        layout: InputLayout | None = InputLayout.plain(sizes, shape)
        if not is_range(view.index):
            order = np.empty(view.index.size, np.int64)
            order[view.index.ravel()] = np.arange(order.size)
            layout = layout_of(order.reshape(shape), sizes)
        if layout is None:
            shape = _mapped_shape(view.shape)
            node = self.builder.ordered(view, shape).node
            layout = InputLayout.plain(sizes, shape)
        self.given[name] = layout
        return node
