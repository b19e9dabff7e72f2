"""One walk over an ONNX graph that collects all problems.

An operation that cannot be read gives a diagnostic, and the walk continues with tensors of the shapes of its
outputs. If these are unknown, too, the following operations are only checked for operators that are not
supported in any form.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NoReturn

import numpy as np
import onnx
from onnx import helper

from snnc.diagnostics import (
    APPROXIMATED,
    QUANTISED_GRAPH,
    UNSUPPORTED_ATTRIBUTE,
    UNSUPPORTED_STRUCTURE,
    Diagnostic,
)
from snnc.frontend import reshaping
from snnc.frontend.advice import advice, is_quantised
from snnc.frontend.batch import mixed_rows
from snnc.frontend.builder import GraphBuilder
from snnc.frontend.call import Call, Value
from snnc.frontend.choosing import READERS as CHOOSERS
from snnc.frontend.constants import spread_constants
from snnc.frontend.elementwise import affine
from snnc.frontend.functions import DEFAULT_DOMAINS
from snnc.frontend.layout import layout_of
from snnc.frontend.legacy import aligned, modern, old
from snnc.frontend.norm_chains import find_chains, without_parts_of
from snnc.frontend.norm_chains import recognise as recognise_chain
from snnc.frontend.norms import normalised
from snnc.frontend.operators import UNROLLED, number_of_inputs, operator_of, reads_codes
from snnc.frontend.patterns import find_patterns, named
from snnc.frontend.pointwise import Written, emit_function, find_functions, wired, written
from snnc.frontend.precision import precision_of, told
from snnc.frontend.quantised.codes import Coded, Codes
from snnc.frontend.quantised.operators import MOVES, as_integers, folded, scales_of
from snnc.frontend.quantised.staircases import emit, find_regions, recognise
from snnc.frontend.recurrent import RECURRENT, Operands, UnrollingError, unroll
from snnc.frontend.refusals import MAX_VALUES, RefusalError, refuse
from snnc.frontend.regions import Region
from snnc.frontend.scanning import scan_of
from snnc.frontend.signature import Signature, signature_of
from snnc.frontend.simplify import (
    NOT_DETERMINED,
    constants_of,
    evaluate,
    infer_shapes,
    label,
    reads,
    sort_nodes,
)
from snnc.frontend.tensors import MAX_MADE, Constant
from snnc.frontend.tidy import tidy
from snnc.frontend.views import View, is_range
from snnc.ir import ann
from snnc.ir.graph import FloatArray, Shape
from snnc.ir.layout import InputLayout

MOST_UNROLLED = 20_000
"""Most operations inside the branches and loops of a network, each trip counted."""

MOST_STEPPED = 200_000
"""Most operations of all steps of recurrent nodes."""

MOST_MADE = 2 * MAX_MADE
"""Most elements of all folded constants together, beside a few times what the file holds."""


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
        unsupported = _unsupported(model.graph.node)
        return None, (*problems, *named(unsupported, find_patterns(model.graph)))
    constants = constants_of(model.graph, where)
    reader = _Reader(model, where, signature, _layouts(model, where, signature, constants), constants)
    graph = reader.read(name)
    problems += named(reader.problems, find_patterns(model.graph))
    if not problems and signature.batch != 1 and (mixed := mixed_rows(model)) is not None:
        problems.append(mixed)
    if graph is None and not problems:
        message = "the outputs cannot be followed through the network"
        problems.append(Diagnostic(UNSUPPORTED_STRUCTURE, message, "", "export the model again"))
    if graph is None or problems:
        return None, tuple(problems)
    graph = tidy(spread_constants(graph))
    graph.verify()
    return Network(graph, reader.builder.layouts, reader.given, signature), (
        *old(signature.opset),
        *told(reader.imprecise),
        *reader.approximated,
    )


def _mapped_shape(sizes: Shape) -> Shape:
    """Return the shape of a node that holds an output of these sizes, without the batch, in its own order."""
    if sum(n > 1 for n in sizes) < 2:
        return (math.prod(sizes),)
    return (sizes[0], 1, sizes[1]) if len(sizes) == 2 else (sizes[0], sizes[1], math.prod(sizes[2:]))


def _unsupported(nodes: Iterable[onnx.NodeProto]) -> list[Diagnostic]:
    """Return a diagnostic for every operator that is not supported in any form."""
    unknown = [node for node in nodes if not _is_supported(node) and node.op_type != "Constant"]
    return [_not_supported(node) for node in unknown]


def _is_supported(node: onnx.NodeProto) -> bool:
    return operator_of(node) is not None or (node.domain in DEFAULT_DOMAINS and node.op_type in UNROLLED)


def _not_supported(node: onnx.NodeProto) -> Diagnostic:
    code, message, cure = advice(node.op_type, "" if node.domain in DEFAULT_DOMAINS else node.domain)
    return Diagnostic(code, message, label(node), cure)


def _layouts(
    model: onnx.ModelProto, where: str, signature: Signature, constants: Mapping[str, Constant]
) -> dict[str, InputLayout]:
    """Find the layout of each input that the first convolution, pooling or dense layer behind it wants."""
    layouts = {
        given.name: InputLayout.plain(given.shape, (math.prod(given.shape),)) for given in signature.inputs
    }
    pending = frozenset(layouts)
    while pending:
        probe = _Reader(model, where, signature, layouts, constants, pending=pending)
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


def is_unrolled(operands: Sequence[object]) -> bool:
    """Say whether trips and first condition of a Loop are known, and one of them ends it."""
    known = [value is None or (isinstance(value, np.ndarray) and value.size == 1) for value in operands[:2]]
    return len(known) == 2 and all(known)


def trips(value: object) -> float:
    """Return how often a Loop runs at most."""
    return int(value.ravel()[0]) if isinstance(value, np.ndarray) else math.inf


def _condition(node: onnx.NodeProto, value: object) -> bool:
    """Return a condition that is known; one that is left out holds.

    Raises:
        RefusalError: it depends on the input, or is not one value.
    """
    if value is None:
        return True
    if not isinstance(value, np.ndarray) or value.size != 1:
        message = f"{node.op_type}: its condition depends on the network's input"
        refuse(UNSUPPORTED_STRUCTURE, label(node), message, "export the model with fixed shapes")
    return bool(value.all())


def _shape_of(value: object) -> Shape | None:
    return value.shape if isinstance(value, View | np.ndarray) else None


def _entry(value: Value | _Unknown | None, place: int, axis: int) -> Value | _Unknown | None:
    """Return one entry along an axis."""
    if isinstance(value, View):
        return value.to(np.take(value.index, place, axis), value.origin)
    return np.take(value, place, axis) if isinstance(value, np.ndarray) else value


def _moved(node: onnx.NodeProto, value: Value | _Unknown, axis: int) -> Value | _Unknown:
    """Return a tensor whose first axis is moved to a place."""
    rank = len(_shape_of(value) or ())
    if rank <= axis and not isinstance(value, _Unknown):
        message = f"{node.op_type}: the axis {axis} does not fit the rank {rank}"
        refuse(UNSUPPORTED_ATTRIBUTE, label(node), message, "export the model again")
    if isinstance(value, View):
        return value.to(np.moveaxis(value.index, 0, axis), value.origin)
    return np.moveaxis(value, 0, axis) if isinstance(value, np.ndarray) else value


def _of_gate(found: Diagnostic, node: onnx.NodeProto, gates: Mapping[str, str]) -> Diagnostic:
    """Return a finding at an operation of a recurrent node as one of the node, with the gate's name."""
    message = f"{node.op_type}: {gates.get(found.node, 'result')}: {found.message}"
    return replace(found, message=message, node=label(node))


def _refuse_unrolling(origin: str, kind: str = "Loop") -> NoReturn:
    message = f"{kind}: more than {MOST_UNROLLED} operations are left when it is unrolled"
    refuse(UNSUPPORTED_STRUCTURE, origin, message, "export the model without loops")


def _raised(node: onnx.NodeProto, value: Value) -> View:
    """Return activations with a new first axis."""
    if not isinstance(value, View):
        message = f"{node.op_type}: it gives no activations"
        refuse(UNSUPPORTED_STRUCTURE, label(node), message, "export it without loops")
    return value.to(value.index[None], value.origin)


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


def _sizes(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Return the names of the tensors that are sizes of others."""
    return {name for node in nodes if node.op_type in ("Shape", "Size") for name in node.output}


def _numbers_by_tensor(nodes: Iterable[onnx.NodeProto]) -> dict[str, set[int]]:
    """Return the numbers of the nodes that read each tensor."""
    found: dict[str, set[int]] = {}
    for number, node in enumerate(nodes):
        for name in reads(node):
            found.setdefault(name, set()).add(number)
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
        layouts: dict[str, InputLayout],
        constants: Mapping[str, Constant],
        *,
        pending: frozenset[str] = frozenset(),
    ) -> None:
        self._where = where
        self.signature = signature
        self.problems: list[Diagnostic] = []
        self.given: dict[str, InputLayout] = {}
        self.imprecise: list[tuple[str, str]] = []
        self.approximated: list[Diagnostic] = []
        self.builder = GraphBuilder(layouts, pending)
        self._nodes = list(model.graph.node)
        self._values: dict[str, Value | _Unknown] = dict(constants)
        self._codes: dict[str, Codes] = {}
        self._scales: dict[str, FloatArray] = {}
        self._readers: dict[str, list[onnx.NodeProto | None]] = {}
        self._whole = {given.name for given in signature.inputs if np.dtype(given.dtype).kind in "iu"}
        self._unrolled = 0
        self._stepped = 0
        self._made = 0
        self._most_made = MOST_MADE + 4 * sum(value.size for value in constants.values())
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

    def _note_readers(self, nodes: Iterable[onnx.NodeProto]) -> None:
        for node in nodes:
            for name in dict.fromkeys(reads(node)):
                self._readers.setdefault(name, []).append(node)

    def _walk(self, given: Iterable[onnx.NodeProto]) -> bool:
        """Read nodes in order; return whether the walk came to its end."""
        nodes = _constants_first(list(given), self._values)
        known = {name for name, value in self._values.items() if isinstance(value, np.ndarray)}
        constant = known | _computed_of(nodes, known)
        regions = find_regions(nodes, constant)
        # Sizes of tensors are constants, too, once these are read.
        sized = constant | _computed_of(nodes, constant | _sizes(nodes))
        chains = find_chains(nodes, sized)
        readers = _numbers_by_tensor(nodes)
        wiring = wired(nodes, constant)
        functions = without_parts_of(chains, find_functions(wiring))
        done: set[int] = set()
        plain: set[int] = set()
        for number, node in enumerate(nodes):
            try:
                if number not in done:
                    done |= self._read_region(nodes, regions.get(number, []), self._staircase)
                if number not in done:
                    if chains.get(number):
                        done |= self._read_sizes(nodes, number, chains[number], sized)
                    done |= self._read_region(nodes, chains.get(number, []), self._normalisation)
                if number not in done | plain:
                    done |= self._read_function(nodes, number, functions, readers, wiring.roots, plain)
            except RefusalError as refusal:
                if refusal.diagnostic is None:
                    return False  # what reads the input has told its layout
                raise
            if number in done:
                continue
            if not self._read(node):
                return False
        return True

    def _read(self, node: onnx.NodeProto) -> bool:
        """Read one node, or note why it cannot be read; return whether the walk may go on."""
        try:
            results = self._read_node(node)
        except RefusalError as refusal:
            if refusal.diagnostic is None:
                return False
            self.problems.append(refusal.diagnostic)
            results = self._stand_ins(node)
        self._values.update((name, value) for name, value in zip(node.output, results, strict=False) if name)
        if node.op_type != "Cast" and self._whole.intersection(node.input):
            self._whole.update(node.output)
        return True

    def _read_function(
        self,
        nodes: Sequence[onnx.NodeProto],
        number: int,
        functions: Mapping[int, Sequence[Region]],
        readers: Mapping[str, set[int]],
        roots: Mapping[str, frozenset[str]],
        plain: set[int],
    ) -> set[int]:
        """Read the largest region from a node on that is a function of one number; return what is done.

        What is read elsewhere of the values within is a function of its own, or is read node by node.
        """
        regions = functions.get(number, ())
        for region in regions:
            found = self._written(nodes, region)
            if found is None:
                continue
            if not found.is_curved:
                behind = self._readers.get(region.end, ())
                if behind and all(node is not None and node.op_type in CHOOSERS for node in behind):
                    continue  # part of a choice that no program says
                # What limits and comparisons say of a rectifier is left to these.
                heads = [
                    each for each in regions if region.root == each.root and each.end in roots[region.end]
                ]
                for head in heads:
                    known = found if head is region else self._written(nodes, head)
                    if known is not None and known.is_rectifier:
                        plain.update(head.places)
                        return set()
            if not self._emit(nodes, region, found):
                continue
            done = set(region.places)
            for place in region.places[:-1]:
                name = nodes[place].output[0]
                outside = None in self._readers.get(name, ()) or not done.issuperset(readers.get(name, ()))
                if not outside or name in self._values:
                    continue
                smaller = [
                    each
                    for part in region.places
                    for each in functions.get(part, ())
                    if (each.root, each.end) == (region.root, name)
                ]
                if any(
                    (known := self._written(nodes, each)) and self._emit(nodes, each, known)
                    for each in smaller
                ):
                    continue
                for inner in region.places:
                    if nodes[inner].output[0] not in self._values and inner <= place:
                        self._read(nodes[inner])
            return done
        return set()

    def _written(self, nodes: Sequence[onnx.NodeProto], region: Region) -> Written | None:
        """Return the function that a region is; ``None`` where it is none, or cannot be read as one."""
        view = self._values.get(region.root)
        if not isinstance(view, View) or region.root in self._codes or region.root in self._whole:
            return None
        inside = [nodes[place] for place in region.places]
        if isinstance(self.builder.nodes[view.node], ann.Softmax) and len(inside) == 1:
            return None  # its logarithm, if any, is left out with it
        if any(self._miscounted(node) for node in inside):
            return None
        names = {name for node in inside for name in node.input if name}
        constants = {name: v for name in names if isinstance(v := self._values.get(name), np.ndarray)}
        try:
            return written(region, inside, constants, view, self.signature.opset)
        except RefusalError as refusal:
            if refusal.diagnostic is None:
                raise
            return None

    def _emit(self, nodes: Sequence[onnx.NodeProto], region: Region, found: Written) -> bool:
        """Add the activation that a region is; return whether its constants fit the tensor."""
        view = self._values.get(region.root)
        if not isinstance(view, View):
            return False
        inside = [nodes[place] for place in region.places]
        try:
            self._values[region.end] = emit_function(self.builder, view, found, inside[-1])
        except RefusalError as refusal:
            if refusal.diagnostic is None:
                raise
            return False
        for node in inside:
            if kind := precision_of(node, (self._values.get(name) for name in node.input)):
                self.imprecise.append((kind, label(node)))
        return True

    def _read_sizes(
        self, nodes: Sequence[onnx.NodeProto], number: int, regions: Sequence[Region], sized: set[str]
    ) -> set[int]:
        """Read what regions need of sizes before its turn, as far as these are known; return those nodes."""
        inside = {place for region in regions for place in region.places}
        wanted = {name for place in inside for name in nodes[place].input} & sized
        chosen = []
        for place in range(len(nodes) - 1, number, -1):
            if wanted.intersection(nodes[place].output) and place not in inside:
                chosen.append(place)
                wanted |= sized.intersection(nodes[place].input)
        done = set()
        for place in reversed(chosen):
            node = nodes[place]
            if any(name in self._values for name in node.output):
                continue
            if all(name in self._values for name in node.input if name):
                self._values.update(zip(node.output, self._read_node(node), strict=False))
                done.add(place)
        return done

    def _read_region(
        self,
        nodes: Sequence[onnx.NodeProto],
        regions: Sequence[Region],
        read: Callable[[Region, Sequence[onnx.NodeProto], Mapping[str, Constant], View], View | None],
    ) -> set[int]:
        """Read the first of some regions that is what is looked for; return the nodes that are done.

        Args:
            nodes: of the graph.
            regions: parts of it.
            read: from a region, its nodes, its constants and what it reads to what it gives; ``None`` where
                it is something else.
        """
        for region in regions:
            view = self._values.get(region.root)
            inside = [nodes[place] for place in region.places]
            if any(self._miscounted(node) for node in inside):
                continue
            given = {name for node in inside for name in node.input if name}
            constants = {name: v for name in given if isinstance(v := self._values.get(name), np.ndarray)}
            if not isinstance(view, View) or region.root in self._codes:
                continue
            if any(name in self._values for node in inside for name in node.output if name):
                continue  # a part of it is read as another region
            try:
                found = read(region, inside, constants, view)
            except RefusalError as refusal:
                if refusal.diagnostic is None:
                    raise
                continue
            if found is None:
                continue
            self._values[region.end] = found
            written = {name for node in inside for name in node.output} - {region.end}
            others = [node for node in (*nodes, None) if node is not None and node not in inside]
            needed = (
                {name for node in others for name in reads(node)} | set(self.signature.outputs)
            ) & written
            # What is read elsewhere, too, is read once more by itself, and all that it is made of.
            done = set(region.places)
            for place in reversed(region.places):
                if needed.intersection(nodes[place].output):
                    done.remove(place)
                    needed.update(nodes[place].input)
            return done
        return set()

    def _staircase(
        self,
        region: Region,
        inside: Sequence[onnx.NodeProto],
        constants: Mapping[str, Constant],
        view: View,
    ) -> View | None:
        """Read a region that rounds or clips."""
        found = recognise(region, inside, constants, view.shape, self.signature.opset)
        return None if found is None else emit(self.builder, view, found, inside[-1])

    def _normalisation(
        self,
        region: Region,
        inside: Sequence[onnx.NodeProto],
        constants: Mapping[str, Constant],
        view: View,
    ) -> View | None:
        """Read a region that normalises."""
        chain = recognise_chain(region, inside, constants, view.shape, self.signature.opset)
        if chain is None:
            return None
        last = inside[-1]
        call = Call(last, self.signature.opset, (view,), self.builder, self.signature.batch, ((),))
        made = normalised(call, view, chain.axes, chain.epsilon, centred=chain.centred)
        if not chain.exact:
            message = "the epsilon of a normalisation does not stand beside the variance"
            cure = "compare the converted network with the source by `snnc eval`"
            self.approximated.append(Diagnostic(APPROXIMATED, message, label(last), cure))
        return affine(call, made, chain.scale, chain.shift)

    def _miscounted(self, node: onnx.NodeProto) -> bool:
        """Whether a node has a number of inputs that its operator never has."""
        if node.domain not in DEFAULT_DOMAINS:
            return False
        wanted = number_of_inputs(node.op_type, self.signature.opset)
        return wanted is not None and len(node.input) not in wanted

    def _read_node(self, node: onnx.NodeProto) -> tuple[Value | _Unknown, ...]:
        """Return the values of a node's outputs.

        Raises:
            RefusalError: it cannot be read.
        """
        operands = tuple(self._values.get(name, _Unknown()) if name else None for name in node.input)
        standard = node.domain in DEFAULT_DOMAINS
        if standard and node.op_type == "If" and isinstance(operands[0], np.ndarray):
            return self._branch(node, _condition(node, operands[0]))
        if standard and node.op_type == "Loop" and is_unrolled(operands):
            return self._loop(node, operands)
        if standard and node.op_type == "Scan" and self.signature.opset >= 9:
            return self._scan(node, operands)
        if all(value is None or isinstance(value, np.ndarray) for value in operands):
            inner = [name for name in reads(node) if not isinstance(self._values.get(name), np.ndarray)]
            if not inner and (quantised := self._folded_quantiser(node, operands)) is not None:
                return (quantised,)
            if standard and not inner and node.op_type not in NOT_DETERMINED:
                node = modern(node, self.signature.opset)
                return self._fold(node)
        if standard and node.op_type in RECURRENT:
            return self._recurrent(node, operands)
        operator = operator_of(node)
        if operator is None:
            raise RefusalError(_not_supported(node))
        if self._miscounted(node) and not operator.refused:
            message = f"{node.op_type}: has {len(node.input)} inputs, and such an operator never has"
            refuse(UNSUPPORTED_ATTRIBUTE, label(node), message, "export the model again")
        known = tuple(value for value in operands if not isinstance(value, _Unknown))
        if len(known) < len(operands) and not operator.refused:
            return (_Unknown(),) * len(node.output)
        if kind := precision_of(node, operands):
            self.imprecise.append((kind, label(node)))
        call = Call(
            proto=modern(node, self.signature.opset),
            opset=self.signature.opset,
            operands=aligned(node, known, self.signature.opset),
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
            values = evaluate(node, given, self.signature.opset)
            self._scales.update(scales_of(node, given, self._scales, self.signature.opset))
            if node.op_type != "Identity":
                self._made += sum(value.size for value in values)
            if self._made > self._most_made:
                raise ValueError("all of these together would fill the memory")
            return tuple(values)
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
        if len(graph.output) != len(node.output):
            refuse(UNSUPPORTED_ATTRIBUTE, label(node), "If: its branch does not fit it", "export it again")
        for outer, inner in zip(node.output, graph.output, strict=False):
            self._hand_readers(outer, inner.name)
        return self._subgraph(graph, {})

    def _loop(
        self, node: onnx.NodeProto, operands: Sequence[Value | _Unknown | None]
    ) -> tuple[Value | _Unknown, ...]:
        """Read a Loop whose number of trips is known, once for each trip."""
        body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
        state: list[Value | _Unknown | None] = list(operands[2:])
        if len(body.input) != len(state) + 2 or len(body.output) != len(node.output) + 1:
            refuse(UNSUPPORTED_ATTRIBUTE, label(node), "Loop: its body does not fit it", "export it again")
        self._note_readers(body.node)
        for outer, given, made in zip(node.output, body.input[2:], body.output[1:], strict=False):
            self._hand_readers(outer, made.name)
            self._hand_readers(given.name, made.name)
        if trips(operands[0]) != math.inf and trips(operands[0]) * len(body.node) > MOST_UNROLLED:
            _refuse_unrolling(label(node))
        scanned: list[list[Value | _Unknown]] = [[] for _ in node.output[len(state) :]]
        trip, going = 0, _condition(node, operands[1])
        while going and trip < trips(operands[0]):
            entered = (np.array(trip, np.int64), np.array(True), *state)
            given = {value.name: value_ for value, value_ in zip(body.input, entered, strict=True)}
            again, *results = self._subgraph(body, given)
            going = _condition(node, again)
            state = list(results[: len(state)])
            for rows, row in zip(scanned, results[len(state) :], strict=True):
                rows.append(row)
            trip += 1
        ended = (_Unknown() if value is None else value for value in state)
        return (*ended, *(self._stacked(node, rows) for rows in scanned))

    def _scan(
        self, node: onnx.NodeProto, operands: Sequence[Value | _Unknown | None]
    ) -> tuple[Value | _Unknown, ...]:
        """Read a Scan once for each entry of what it goes through."""
        form = scan_of(node, [_shape_of(value) for value in operands])
        if form is None or any(isinstance(value, _Unknown | None) for value in operands):
            return (_Unknown(),) * len(node.output)
        if form.trips * len(form.body.node) > MOST_UNROLLED:
            _refuse_unrolling(label(node), "Scan")
        self._note_readers(form.body.node)
        for outer, made in zip(node.output, form.body.output, strict=True):
            self._hand_readers(outer, made.name)
        state: list[Value | _Unknown | None] = list(operands[: form.states])
        rows: list[list[Value | _Unknown]] = [[] for _ in form.gives]
        for trip in range(form.trips):
            parts = [
                _entry(value, form.place(way, trip), way.axis)
                for value, way in zip(operands[form.states :], form.takes, strict=True)
            ]
            entered = dict(zip((value.name for value in form.body.input), (*state, *parts), strict=True))
            results = self._subgraph(form.body, entered)
            state = list(results[: form.states])
            for row, result in zip(rows, results[form.states :], strict=True):
                row.append(result)
        ended = (_Unknown() if value is None else value for value in state)
        given = (
            _moved(node, self._stacked(node, row[::-1] if way.is_reversed else row), way.axis)
            for row, way in zip(rows, form.gives, strict=True)
        )
        return (*ended, *given)

    def _recurrent(
        self, node: onnx.NodeProto, operands: Sequence[Value | _Unknown | None]
    ) -> tuple[Value | _Unknown, ...]:
        """Read an LSTM, GRU or RNN step by step, up to the first that cannot be read."""
        sequence, origin = operands[0] if operands else None, label(node)
        if any(isinstance(value, _Unknown) for value in operands):
            return (_Unknown(),) * len(node.output)
        if not isinstance(sequence, View):
            message = f"{node.op_type}: its sequence does not depend on the network's input"
            refuse(UNSUPPORTED_STRUCTURE, origin, message, "export the model again")
        known = {place: value for place, value in enumerate(operands) if isinstance(value, np.ndarray)}
        given = frozenset(place for place, value in enumerate(operands) if isinstance(value, View) and place)
        try:
            found = unroll(node, Operands(sequence.shape, known, given), self.signature.opset, origin)
            if found.batch != 1:
                raise UnrollingError(f"its batch of {found.batch} is not that of the network")
            self._stepped += sum(map(len, found.steps))
            if self._stepped > MOST_STEPPED:
                raise UnrollingError(f"more than {MOST_STEPPED} operations are left of recurrent nodes")
        except UnrollingError as error:
            cure = "export it with constant weights, and with a short sequence of known length"
            refuse(UNSUPPORTED_ATTRIBUTE, origin, f"{node.op_type}: {error}", cure)
        entered = {name: operands[place] for place, name in found.inputs.items()}
        inside = {name for step in found.steps for each in step for name in each.output}
        inside |= found.constants.keys() | entered.keys()
        hidden = {name: self._values[name] for name in inside if name in self._values}
        self._values |= found.constants
        self._values |= {name: value for name, value in entered.items() if value is not None}
        first, problems = len(self.builder.nodes), len(self.problems)
        for outer, inner in zip(node.output, found.outputs, strict=False):
            self._hand_readers(outer, inner)
        for step, done in zip(found.steps, found.done, strict=True):
            self._note_readers(step)
            if not self._walk(step):
                raise RefusalError(None)
            if len(self.problems) > problems:
                break
            for name in done:
                self._values.pop(name, None)
        for name in list(islice(self.builder.nodes, first, None)):
            self.builder.nodes[name] = self.builder.nodes[name].with_(origin=origin)
        results = [self._values.get(name, _Unknown()) if name else _Unknown() for name in found.outputs]
        for name in inside:
            self._values.pop(name, None)
        self._values |= hidden
        if len(self.problems) > problems:
            told = (_of_gate(each, node, found.gates) for each in self.problems[problems:])
            self.problems[problems:] = dict.fromkeys(told)
            return self._stand_ins(node)
        return tuple(value.to(value.index, origin) if isinstance(value, View) else value for value in results)

    def _subgraph(
        self, graph: onnx.GraphProto, given: Mapping[str, Value | _Unknown | None]
    ) -> tuple[Value | _Unknown, ...]:
        """Read a graph inside a node once, and return its outputs; its names are gone afterwards."""
        self._unrolled += len(graph.node)
        if self._unrolled > MOST_UNROLLED:
            _refuse_unrolling(graph.name)
        inside = {name for node in graph.node for name in node.output}
        stored = constants_of(graph, self._where)
        hidden = {
            name: self._values[name] for name in inside | stored.keys() | given.keys() if name in self._values
        }
        self._values.update(stored)
        self._values.update({name: value for name, value in given.items() if value is not None})
        if not given:
            self._note_readers(graph.node)
        if not self._walk(sort_nodes(graph.node, self._where)):
            raise RefusalError(None)
        results = tuple(self._values.get(value.name, _Unknown()) for value in graph.output)
        for name in inside | stored.keys() | given.keys():
            self._values.pop(name, None)
        self._values.update(hidden)
        return results

    def _hand_readers(self, outer: str, inner: str) -> None:
        """Note that what reads a tensor reads also the one inside that it is made from."""
        if outer and inner != outer:
            self._readers.setdefault(inner, []).extend(self._readers.get(outer, ()))

    def _stacked(self, node: onnx.NodeProto, rows: Sequence[Value | _Unknown]) -> Value | _Unknown:
        """Return the values of all trips of a Loop, one behind the other along a new first axis."""
        if not rows:
            refuse(
                UNSUPPORTED_STRUCTURE,
                label(node),
                f"{node.op_type}: an output is empty",
                "export the model without loops",
            )
        known = [row for row in rows if not isinstance(row, _Unknown)]
        if len(known) < len(rows):
            return _Unknown()
        constants = [row for row in known if isinstance(row, np.ndarray)]
        if len(constants) == len(known) and len({row.shape for row in constants}) == 1:
            return np.stack(constants)
        parts = tuple(row[None] if isinstance(row, np.ndarray) else _raised(node, row) for row in known)
        joined = helper.make_node("Concat", [], [label(node)], label(node), axis=0)
        return reshaping.concat(Call(joined, self.signature.opset, parts, self.builder, None, ((),)))

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
        if name in self.builder.layouts:
            refuse(UNSUPPORTED_STRUCTURE, name, "the output is an input as it is", cure)
        codes = self._codes.get(name)
        if codes is not None and not isinstance(self.builder.nodes[output.node], ann.Softmax):
            last = helper.make_node("QuantizeLinear", [], [name], output.origin)
            call = Call(last, self.signature.opset, (), self.builder, self.signature.batch, ((),))
            output = as_integers(call, output, codes)
        view = self.builder.settle(output, output.origin)
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
            shape = _mapped_shape(sizes)
            node = self.builder.ordered(view, shape).node
            layout = InputLayout.plain(sizes, shape)
        self.given[name] = layout
        return node
