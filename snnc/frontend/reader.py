"""One walk over an ONNX graph that collects all problems.

An operation that cannot be read gives a diagnostic, and the walk continues with tensors of the shapes of its
outputs. If these are unknown, too, the following operations are only checked for operators that are not
supported in any form.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from snnc.diagnostics import QUANTISED_GRAPH, UNSUPPORTED_ATTRIBUTE, UNSUPPORTED_STRUCTURE, Diagnostic
from snnc.frontend.advice import advice
from snnc.frontend.attention import attention, is_attention
from snnc.frontend.batch import Rows, mixed_rows
from snnc.frontend.builder import GraphBuilder
from snnc.frontend.call import Call
from snnc.frontend.constant_folding import ConstantFolder
from snnc.frontend.constants import spread_constants
from snnc.frontend.control_flow import ControlFlow
from snnc.frontend.environment import UNKNOWN, Environment, Tensor, Unknown
from snnc.frontend.functions import DEFAULT_DOMAINS
from snnc.frontend.legacy import aligned, modern, old
from snnc.frontend.masks import softmax_scale
from snnc.frontend.operators import UNROLLED, is_miscounted, operator_of, reads_codes
from snnc.frontend.outputs import finished
from snnc.frontend.patterns import find_patterns, named
from snnc.frontend.precision import precision_of, told
from snnc.frontend.quantised.codes import Coded
from snnc.frontend.quantised.qdq import MOVES
from snnc.frontend.recurrent.layer import RECURRENT
from snnc.frontend.recurrent.reading import RecurrentReader
from snnc.frontend.refusals import RefusalError, refuse
from snnc.frontend.region_reader import RegionReader, computed_of
from snnc.frontend.signature import Signature, signature_of
from snnc.frontend.simplify import NOT_DETERMINED, constants_of, label, reads
from snnc.frontend.stand_ins import stand_ins
from snnc.frontend.tensors import Constant
from snnc.frontend.tidy import tidy
from snnc.frontend.views import View
from snnc.ir import ann
from snnc.ir.layout import InputLayout


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
    signature = signature_of(model, problems)
    if signature is None:
        stored = (tensor.name for tensor in model.graph.initializer)
        unsupported = _unsupported(model.graph.node, stored)
        return None, (*problems, *named(unsupported, find_patterns(model.graph)))
    constants = constants_of(model.graph, where)
    rows = Rows(model)
    layouts = _layouts(model, where, signature, rows, constants)
    known = Environment(where, signature, rows, GraphBuilder(layouts), constants)
    graph, given = _Reader(model, known).read(name)
    problems += named(known.problems, find_patterns(model.graph))
    if not problems and signature.batch != 1 and (mixed := mixed_rows(model, rows)) is not None:
        problems.append(mixed)
    if graph is None and not problems:
        message = "the outputs cannot be followed through the network"
        problems.append(Diagnostic(UNSUPPORTED_STRUCTURE, message, "", "export the model again"))
    if graph is None or problems:
        return None, tuple(problems)
    graph = tidy(spread_constants(graph))
    graph.verify()
    return Network(graph, layouts, given, signature), (
        *old(signature.opset),
        *told(known.imprecise),
        *known.approximated,
    )


def _unsupported(nodes: Sequence[onnx.NodeProto], stored: Iterable[str]) -> list[Diagnostic]:
    """Return a diagnostic for every operator of activations that is not supported in any form."""
    sizes = {name for node in nodes if node.op_type in ("Shape", "Size") for name in node.output}
    constant = computed_of(nodes, {*stored, *sizes})
    unknown = [node for node in nodes if not _is_supported(node) and not constant.issuperset(node.output)]
    return [_not_supported(node) for node in unknown]


def _is_supported(node: onnx.NodeProto) -> bool:
    unrolled = node.domain in DEFAULT_DOMAINS and node.op_type in UNROLLED
    return unrolled or is_attention(node) or operator_of(node) is not None


def _not_supported(node: onnx.NodeProto) -> Diagnostic:
    code, message, cure = advice(node.op_type, "" if node.domain in DEFAULT_DOMAINS else node.domain)
    return Diagnostic(code, message, label(node), cure)


def _layouts(
    model: onnx.ModelProto,
    where: str,
    signature: Signature,
    rows: Rows,
    constants: Mapping[str, Constant],
) -> dict[str, InputLayout]:
    """Find the layout of each input that the first convolution, pooling or dense layer behind it wants."""
    layouts = {
        given.name: InputLayout.plain(given.shape, (math.prod(given.shape),)) for given in signature.inputs
    }
    pending = frozenset(layouts)
    while pending:
        builder = GraphBuilder(layouts, pending)
        _Reader(model, Environment(where, signature, rows, builder, constants)).read("probe")
        found = builder.wanted
        for name in pending if found is None else {found[0]}:
            wanted = None if found is None else found[1]
            shape = layouts[name].source_shape
            if wanted is None and len(shape) == 3:
                wanted = InputLayout.plain(shape, shape)
            layouts[name] = wanted or layouts[name]
            pending -= {name}
    return layouts


def _constants_first(nodes: Sequence[onnx.NodeProto], values: Mapping[str, object]) -> list[onnx.NodeProto]:
    """Return nodes in an order in which those that compute constants come first."""
    constant = computed_of(nodes, {name for name, v in values.items() if isinstance(v, np.ndarray)})
    first = [node for node in nodes if constant.issuperset(name for name in node.output if name)]
    return [
        *first,
        *(node for node in nodes if not constant.issuperset(name for name in node.output if name)),
    ]


def _grouped(problems: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Say once of each kind of operator of quantised networks why it is refused, and of how many."""
    kept: list[Diagnostic] = []
    first: dict[str, int] = {}
    more: Counter[str] = Counter()
    for problem in problems:
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
    return kept


class _Reader:
    """The walk."""

    def __init__(self, model: onnx.ModelProto, environment: Environment) -> None:
        """Begin with the model, and what is known of it."""
        self._env = environment
        self._nodes = list(model.graph.node)
        self._folder = ConstantFolder(environment)
        self._control = ControlFlow(environment, self._walk)
        self._recurrent = RecurrentReader(environment, self._walk)
        environment.note_readers(self._nodes)
        for output in environment.signature.outputs:
            environment.readers.setdefault(output, []).append(None)

    def read(self, name: str) -> tuple[ann.AnnGraph | None, dict[str, InputLayout]]:
        """Walk over the nodes; return the network if all could be read, and the layouts of its outputs."""
        builder = self._env.builder
        for given in self._env.signature.inputs:
            layout = builder.layouts[given.name]
            node = builder.emit(ann.Input(name=given.name, shape=layout.shape))
            index = np.empty(layout.index.size, np.int64)
            index[layout.index.ravel()] = np.arange(index.size)
            self._env.values[given.name] = View(node, index.reshape(1, *layout.source_shape), given.name)
        if self._walk(self._nodes) and not self._env.problems:
            return finished(self._env, name)
        self._env.problems = _grouped(self._env.problems)
        return None, {}

    def _walk(self, given: Iterable[onnx.NodeProto]) -> bool:
        """Read nodes in order; return whether the walk came to its end."""
        nodes = _constants_first(list(given), self._env.values)
        regions = RegionReader(self._env, nodes, self._read)
        done: set[int] = set()
        for number, node in enumerate(nodes):
            try:
                if number not in done:
                    done |= regions.read_from(number)
            except RefusalError as refusal:
                if refusal.diagnostic is None:
                    return False  # what reads the input has told its layout
                raise
            if number not in done and not self._read(node):
                return False
        return True

    def _read(self, node: onnx.NodeProto) -> bool:
        """Read one node, or note why it cannot be read; return whether the walk may go on."""
        try:
            results = self._results(node)
        except RefusalError as refusal:
            if refusal.diagnostic is None:
                return False
            self._env.problems.append(refusal.diagnostic)
            results = stand_ins(self._env, node)
        named_results = zip(node.output, results, strict=False)
        self._env.values.update((name, value) for name, value in named_results if name)
        if node.op_type != "Cast" and self._env.whole.intersection(node.input):
            self._env.whole.update(node.output)
        return True

    def _results(self, node: onnx.NodeProto) -> tuple[Tensor, ...]:
        """Return the values of a node's outputs.

        Raises:
            RefusalError: it cannot be read.
        """
        operands = tuple(self._env.values.get(name, UNKNOWN) if name else None for name in node.input)
        standard = node.domain in DEFAULT_DOMAINS
        if standard and (found := self._control.read(node, operands)) is not None:
            return found
        if all(value is None or isinstance(value, np.ndarray) for value in operands):
            inner = [name for name in reads(node) if self._env.constant(name) is None]
            if not inner and (quantised := self._folder.quantised(node, operands)) is not None:
                return (quantised,)
            if standard and not inner and node.op_type not in NOT_DETERMINED:
                return self._folder.fold(modern(node, self._env.opset))
        if standard and node.op_type in RECURRENT:
            return self._recurrent.read(node, operands)
        if is_attention(node):
            if any(isinstance(value, Unknown) for value in operands):
                return (UNKNOWN,) * len(node.output)
            return self._recurrent.walked(node, operands, attention(node, operands))
        return self._operator(node, operands)

    def _operator(self, node: onnx.NodeProto, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Read a node by the table of operators.

        Raises:
            RefusalError: it cannot be read.
        """
        env = self._env
        operator = operator_of(node)
        if operator is None:
            raise RefusalError(_not_supported(node))
        if is_miscounted(node, env.opset) and not operator.refused:
            message = f"{node.op_type}: has {len(node.input)} inputs, and such an operator never has"
            refuse(UNSUPPORTED_ATTRIBUTE, label(node), message, "export the model again")
        known = tuple(value for value in operands if not isinstance(value, Unknown))
        if len(known) < len(operands) and not operator.refused:
            return (UNKNOWN,) * len(node.output)
        if kind := precision_of(node, operands):
            env.imprecise.append((kind, label(node)))
        call = Call(
            proto=modern(node, env.opset),
            opset=env.opset,
            operands=aligned(node, known, env.opset),
            builder=env.builder,
            batch=env.signature.batch,
            rows_along=env.rows.may_lie_along,
            readers=tuple(tuple(env.readers.get(name, ())) for name in node.output),
            whole=bool(env.whole.intersection(node.input)),
            codes=tuple(env.codes.get(name) for name in node.input),
            scales=tuple(env.scales.get(name) for name in node.input),
            softmax_scale=softmax_scale(env, node.output[0]),
        )
        coded = [code for code in call.codes if code is not None]
        if coded:
            operator = reads_codes(call, operator)
        result = operator.read(call)
        if isinstance(result, Coded):
            env.codes[node.output[0]] = result.codes
            return (result.view,)
        if coded and node.op_type in (*MOVES, "Concat"):
            env.codes.update((name, coded[0]) for name in node.output)
        return result if isinstance(result, tuple) else (result,)
