"""Reading a network of which the host keeps a part: what cannot be read goes there, until the rest can."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import onnx

from snnc.diagnostics import (
    DYNAMIC_SHAPE,
    HOST_SHARE,
    OPSET,
    QUANTISED_GRAPH,
    UNSUPPORTED_STRUCTURE,
    Diagnostic,
    Severity,
)
from snnc.errors import InputError, UnsupportedModelError
from snnc.frontend.advice import is_quantised, special_advice
from snnc.frontend.host.cutting import body_of, cut, ports, segments_by_entry
from snnc.frontend.host.macs import is_counted
from snnc.frontend.host.partition import (
    Sections,
    Wiring,
    divide,
    first_output,
    host_nodes,
    in_segments,
    unfit,
)
from snnc.frontend.patterns import find_patterns
from snnc.frontend.reader import Network, read_graph
from snnc.frontend.simplify import label
from snnc.frontend.tensor_shapes import tensors_of
from snnc.ir import ann
from snnc.ir.segments import segments_of
from snnc.metrics.ending import final_activation
from snnc.source.host import Host
from snnc.source.host_sections import HostNode, Section

LEAST_SHARE = 0.5
"""Least share of the multiply-accumulates that spikes must do: with less it is the source network, with a
spiking layer in it."""

MOST_ROUNDS = 24
"""How often a network is divided anew because reading the rest showed more that cannot be read."""

BESIDE_WEIGHTS = (
    ann.Input,
    ann.Constant,
    ann.ChannelAffine,
    ann.Add,
    ann.Concat,
    ann.Reshape,
    ann.Gather,
    ann.Slice,
    ann.Pad,
    ann.Pointwise,
)
"""What stands between an input and the first weights."""

MOST_ISLANDS = 8
"""Most sections between spikes: each costs the steps of a run, and a network in small pieces is its source,
encoded and read out again and again."""

Check = Callable[[ann.AnnGraph], Sequence[Diagnostic]]
"""What finds, in a network that could be read, what cannot be converted all the same."""


class HostMode(Enum):
    """Where the host may keep a part of a network; the value is that of ``--host``."""

    NONE = "none"
    EDGES = "edges"
    ANY = "any"

    @property
    def most_islands(self) -> int:
        """How many sections may stand between spikes."""
        return MOST_ISLANDS if self is HostMode.ANY else 0


@dataclass(frozen=True)
class Reading:
    """A network as it was read.

    Attributes:
        network: the spiking part; ``None`` where the model cannot be converted.
        host: the rest; ``None`` where there is none.
        diagnostics: why it cannot be converted, and warnings.
    """

    network: Network | None
    host: Host | None
    diagnostics: tuple[Diagnostic, ...]


def read_divided(
    model: onnx.ModelProto,
    name: str,
    where: str,
    mode: HostMode = HostMode.NONE,
    check: Check = lambda graph: (),
    kept: Sequence[HostNode] = (),
) -> Reading:
    """Read a simplified model, and divide it where that is allowed and needed.

    Args:
        model: as :func:`snnc.frontend.simplify.simplify` returns it.
        name: what the network is to be called.
        where: the file, for messages.
        mode: where the host may keep a part.
        check: what else must be refused; its findings name nodes of the model.
        kept: the host's nodes as an earlier reading found them; nothing else is tried then.
    """
    if not kept:
        network, diagnostics = _read(model, name, where, check)
        if mode is HostMode.NONE or not _is_judged(model, diagnostics):
            return Reading(network, None, diagnostics)
        if network is not None:
            return _without_outer_functions(Reading(network, None, diagnostics), model, name, where, check)
    else:
        network, diagnostics = None, ()
    divided = _Divided(model, name, where, check)
    try:
        found = divided.again(kept) if kept else divided.search(diagnostics, mode.most_islands)
    except UnsupportedModelError as error:
        return Reading(None, None, error.diagnostics)
    if isinstance(found, str):
        cure = "replace what cannot be read in the middle of the network, and fine-tune"
        if mode is HostMode.EDGES and _has_islands(model, name, where, check, diagnostics):
            cure = f"--host any lets it stand between spikes, for the steps of a run each; or {cure}"
        place = next((each.node for each in diagnostics if each.node), "")
        return Reading(None, None, (*diagnostics, Diagnostic(HOST_SHARE, found, place, cure)))
    return Reading(*found)


def _is_judged(model: onnx.ModelProto, diagnostics: Iterable[Diagnostic]) -> bool:
    """Whether nodes could be judged at all: its operator set and the sizes of its inputs are known."""
    given = {"", *(value.name for value in model.graph.input)}
    return not any(
        each.code is OPSET or (each.code is DYNAMIC_SHAPE and each.node in given) for each in diagnostics
    )


def _no_tensors(model: onnx.ModelProto, wiring: Wiring) -> tuple[Diagnostic, ...]:
    """Return a finding for each output that is a sequence or a map, which the host does not give either."""
    found = []
    for value in model.graph.output:
        kind = str(value.type.WhichOneof("value") or "").removesuffix("_type")
        if kind in ("sequence", "map", "optional") and value.name in wiring.makers:
            maker = wiring.nodes[wiring.makers[value.name]]
            message = f"{maker.op_type} makes the output {value.name!r} a {kind}, and outputs are tensors"
            cure = special_advice(maker.op_type) or "keep another output by --keep-output"
            found.append(Diagnostic(UNSUPPORTED_STRUCTURE, message, label(maker), cure))
    return tuple(found)


def _has_islands(
    model: onnx.ModelProto, name: str, where: str, check: Check, diagnostics: Iterable[Diagnostic]
) -> bool:
    """Whether the network can be divided with sections between spikes."""
    try:
        found = _Divided(model, name, where, check).search(diagnostics, MOST_ISLANDS)
    except UnsupportedModelError:
        return False
    return not isinstance(found, str)


def _without_outer_functions(
    whole: Reading, model: onnx.ModelProto, name: str, where: str, check: Check
) -> Reading:
    """Return a network whose host computes functions of the inputs, and those that make the outputs.

    Spikes would round them to levels, while an encoder takes 12 bits of them, and a read-out gives what they
    are functions of. Where the rest cannot be divided from them, the network stays whole.
    """
    outer = [] if whole.network is None else _outer_functions(whole.network.graph)
    if not outer:
        return whole
    try:
        found = _Divided(model, name, where, check).search(outer)
    except UnsupportedModelError:
        return whole
    return whole if isinstance(found, str) else Reading(*found)


def _outer_functions(graph: ann.AnnGraph) -> list[Diagnostic]:
    """Return a finding for each function of inputs alone, and for each that makes an output and no more."""
    found = []
    outside: set[str] = set()
    for node in graph:
        if isinstance(node, BESIDE_WEIGHTS) and outside.issuperset(node.inputs):
            outside.add(node.name)
            if isinstance(node, ann.Pointwise):
                message = "is computed of the input as it is, which spikes would round"
                found.append(Diagnostic(UNSUPPORTED_STRUCTURE, message, node.origin))
    for name in graph.outputs:
        node = graph[name]
        alone = not graph.consumers[name] and graph.outputs.count(name) == 1
        while alone and isinstance(node, ann.Reshape | ann.Gather | ann.Slice):
            node = graph[node.inputs[0]]
            alone = graph.read_once(node.name)
        if alone and isinstance(node, ann.Pointwise) and node.name not in outside:
            message = "makes an output as it is in the source network, where spikes would round it"
            found.append(Diagnostic(UNSUPPORTED_STRUCTURE, message, node.origin))
    return found


def _read(
    model: onnx.ModelProto, name: str, where: str, check: Check
) -> tuple[Network | None, tuple[Diagnostic, ...]]:
    network, diagnostics = read_graph(model, name, where)
    if network is not None:
        diagnostics = (*diagnostics, *check(network.graph))
    refused = any(found.severity is Severity.ERROR for found in diagnostics)
    return (None if refused else network), diagnostics


Divided = tuple[Network, Host, tuple[Diagnostic, ...]]
"""The spiking part, the host's part, and warnings."""


class _Divided:
    """A model that is divided anew until the body can be read."""

    def __init__(self, model: onnx.ModelProto, name: str, where: str, check: Check) -> None:
        self.model, self.name, self.where, self.check = model, name, where, check
        self.wiring = Wiring(model, tensors_of(model))
        self.labels = self.wiring.index_of()
        self.reasons: dict[int, str] = {}
        self.patterns = find_patterns(model.graph)
        self.made = frozenset(first_output(node) for node in self.wiring.nodes)

    def again(self, kept: Sequence[HostNode]) -> Divided | str:
        """Divide as an earlier reading did."""
        places = {node.output: node for node in kept}
        sections: list[Section | None] = []
        for index, node in enumerate(self.wiring.nodes):
            found = places.get(first_output(node))
            moving = self.wiring.moves[index]
            section = Section.BODY if found is None else Section.named(found.section)
            sections.append(section if moving else None)
            if found is not None and found.is_cause:
                self.reasons[index] = found.reason
        sections = list(in_segments(self.wiring, sections))
        missing = [node.name for node in kept if node.output not in self.made]
        if missing:
            raise InputError(
                f"{self.where} has no node {missing[0]!r}: it is not what the artefact was made of"
            )
        network, diagnostics = _read(
            body_of(self.model, self.wiring, tuple(sections)), self.name, self.where, self.check
        )
        if network is None:
            raise UnsupportedModelError("", diagnostics)
        return network, self.host(tuple(sections)), diagnostics

    def search(self, diagnostics: Iterable[Diagnostic], most_islands: int = 0) -> Divided | str:
        """Return the network, its host and warnings, or why there is no division.

        Args:
            diagnostics: why the whole cannot be read.
            most_islands: how many sections there may be between spikes.
        """
        for value in self.model.graph.input:
            if value.name not in self.wiring.tensors.rows:
                return f"the input {value.name!r} has no entry per row in front, or a size that is not known"
        if others := _no_tensors(self.model, self.wiring):
            raise UnsupportedModelError("", others)
        for value in self.model.graph.output:
            known = value.name in self.wiring.tensors.shapes
            if known and self.wiring.tensors.batch is None and value.name not in self.wiring.tensors.rows:
                return f"the output {value.name!r} has no entry per row in front"
        body: tuple[int, ...] = tuple(index for index, moves in enumerate(self.wiring.moves) if moves)
        # An output that is constant is none of the body's.
        still = {value.name for value in self.model.graph.output} - self.wiring.makers.keys()
        given = list(diagnostics)
        diagnostics = [each for each in given if each.node not in still]
        for tried in range(MOST_ROUNDS):
            if not self.refuse(diagnostics, body) and (tried or len(diagnostics) == len(given)):
                return "what cannot be read is no node of its own"
            sections = divide(self.wiring, frozenset(self.reasons), most_islands)
            while more := unfit(self.wiring, sections):
                self.reasons = more | self.reasons
                sections = divide(self.wiring, frozenset(self.reasons), most_islands)
            body = tuple(
                index for index, section in enumerate(sections) if section is not None and not section.is_host
            )
            if (loose := self.loose(sections)) is not None:
                return f"the tensor {loose!r}, which goes past spikes to an island, has no entry per row"
            if (unknown := self.uncounted(sections)) is not None:
                return (
                    f"how many multiply-accumulates {unknown!r} takes is not known, and so the share of the "
                    "spikes is not"
                )
            share = sum(self.wiring.macs[index] for index in body) / max(sum(self.wiring.macs), 1)
            if share < LEAST_SHARE:
                return (
                    f"with what cannot be read in the host, spikes would do {share:.1%} of the "
                    f"multiply-accumulates; at least {LEAST_SHARE:.0%} are asked for"
                )
            network, diagnostics = _read(
                body_of(self.model, self.wiring, sections), self.name, self.where, self.check
            )
            if network is None:
                continue
            warnings, diagnostics = diagnostics, self.ends(network)
            if diagnostics:
                continue
            if not self.reasons:
                return "nothing is left for the host that could give a constant output"
            if not any(isinstance(node, ann.Activation) for node in network.graph):
                return "with what cannot be read in the host, no activation is left that spikes could carry"
            if diagnostics := self.idle(network.graph, sections):
                continue
            return network, self.host(sections), tuple(warnings)
        return f"{MOST_ROUNDS} divisions left something that cannot be read"

    def uncounted(self, sections: Sections) -> str | None:
        """Return the first of the host's nodes of which not all multiply-accumulates are counted."""
        for node, section in zip(self.wiring.nodes, sections, strict=True):
            host = section is not None and section.is_host
            if host and not is_counted(node, self.wiring.tensors.shapes):
                return label(node)
        return None

    def idle(self, graph: ann.AnnGraph, sections: Sections) -> list[Diagnostic]:
        """Return a finding for each node of a segment without an activation, in which no spikes would run."""
        numbers = segments_by_entry(self.model, self.wiring, sections)
        if len(set(numbers.values())) < 2:
            return []
        places = segments_of(graph, numbers)
        carried = (node for node in graph if isinstance(node, ann.Activation))
        spiking = {number for node in carried for number in places[node.name]}
        names = [
            label(node)
            for node, section in zip(self.wiring.nodes, sections, strict=True)
            if section is not None and not section.is_host and section.place // 2 not in spiking
        ]
        message = "no activation that spikes could carry is left around it"
        return [Diagnostic(UNSUPPORTED_STRUCTURE, message, name) for name in names]

    def loose(self, sections: Sections) -> str | None:
        """Return the first tensor that an island reads and that is not known to have one entry per row."""
        among = {section for section in sections if section is not None and section.is_host}
        for section in sorted(among - {Section.PREFIX, Section.SUFFIX}):
            for name in self.wiring.entering(sections, section):
                if name not in self.wiring.tensors.rows or name not in self.wiring.tensors.types:
                    return name
        return None

    def refuse(self, diagnostics: Iterable[Diagnostic], among: Sequence[int]) -> bool:
        """Note the nodes that findings name; return whether there are any new ones."""
        before, possible = len(self.reasons), set(among)
        for found in diagnostics:
            if found.severity is not Severity.ERROR:
                continue
            pattern = self.patterns.get(found.node)
            names = pattern.nodes if pattern is not None else (found.node,)
            indices = {index for name in names for index in self.labels.get(name, ())}
            if found.code is QUANTISED_GRAPH:
                indices |= {index for index in possible if is_quantised(self.wiring.nodes[index].op_type)}
            for index in sorted(indices & possible):
                self.reasons.setdefault(index, found.message)
        return len(self.reasons) > before

    def ends(self, network: Network) -> list[Diagnostic]:
        """Return findings for what the host computes of the outputs, as a network without one does not."""
        message = "keeps the outputs what they are in the source network"
        softmaxes = network.graph.of_type(ann.Softmax)
        found = [Diagnostic(UNSUPPORTED_STRUCTURE, message, node.origin) for node in softmaxes]
        return found + _outer_functions(network.graph)

    def host(self, sections: Sections) -> Host:
        """Return the host's part."""
        parts = cut(self.model, self.wiring, sections)
        nodes = host_nodes(self.wiring, sections, self.reasons)
        return Host(
            inputs=ports(self.wiring, (value.name for value in self.model.graph.input)),
            outputs=ports(self.wiring, (value.name for value in self.model.graph.output)),
            entries=ports(parts.wiring, parts.entries),
            exits=ports(parts.wiring, parts.exits),
            prefix=parts.prefix,
            suffix=parts.suffix,
            nodes=nodes,
            macs=sum(self.wiring.macs),
            batch=self.wiring.tensors.batch,
            activations={
                value.name: final_activation(self.model, value.name) for value in self.model.graph.output
            },
            islands=parts.islands,
        )
