"""Which nodes of a network run as spikes, and which as ordinary ONNX before and behind them.

Every node that is refused goes into the prefix, with all that it depends on, or into the suffix, with all
that depends on it. Of all such divisions the one is taken that leaves most multiply-accumulates to spikes,
and of several, fewest nodes to the host: a closed set of greatest weight (:mod:`snnc.frontend.host.closure`).
Then nodes without products that nothing but the host feeds or reads go with the host, where no tensor and
no value more goes over the border.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from math import prod

import onnx

from snnc.frontend.functions import DEFAULT_DOMAINS
from snnc.frontend.host.closure import greatest_closure
from snnc.frontend.host.macs import macs
from snnc.frontend.simplify import NOT_DETERMINED, label, reads
from snnc.frontend.tensor_shapes import Tensors
from snnc.source.host import HostNode, Section

Sections = tuple[Section | None, ...]
"""Where each node is computed; ``None`` for one that depends on constants and shapes alone."""


class Wiring:
    """How the nodes of a model hang together.

    Attributes:
        nodes: in topological order.
        tensors: their shapes and types.
        macs: multiply-accumulates of each node, per row.
        moves: whether a node depends on the values of an input, and not only on shapes and constants.
        makers: by tensor, the node that makes it and moves.
        before: by node, the moving nodes that make what it reads.
        after: by node, the moving nodes that read what it makes.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Tensors) -> None:
        """Walk over the nodes once."""
        self.nodes: Sequence[onnx.NodeProto] = list(model.graph.node)
        self.tensors = tensors
        self.macs = [macs(node, tensors.shapes) // (tensors.batch or 1) for node in self.nodes]
        self.inputs = frozenset(value.name for value in model.graph.input)
        self.outputs = frozenset(value.name for value in model.graph.output)
        self.moves: list[bool] = []
        self.makers: dict[str, int] = {}
        self.before: list[tuple[int, ...]] = []
        self.after: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            read = tuple(dict.fromkeys(reads(node)))
            moving = any(name in self.makers or name in self.inputs for name in read)
            moving = (moving and not self.is_known(node)) or node.op_type in NOT_DETERMINED
            self.moves.append(moving)
            found = tuple(dict.fromkeys(self.makers[name] for name in read if name in self.makers))
            self.before.append(found if moving else ())
            if moving:
                self.makers.update((name, index) for name in node.output if name)
                for other in found:
                    self.after[other].append(index)

    def is_known(self, node: onnx.NodeProto) -> bool:
        """Say whether a node gives the shape of a tensor that is known but for the batch."""
        if node.op_type != "Shape" or node.domain not in DEFAULT_DOMAINS:
            return False
        return node.input[0] in self.tensors.rows | self.tensors.still

    def index_of(self) -> dict[str, list[int]]:
        """Return the moving nodes by what they are called, those by what lies within them included."""
        found: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for name in _labels(node) if self.moves[index] else ():
                found.setdefault(name, []).append(index)
        return found

    def crossing(self, sections: Sequence[Section | None], start: Section, end: Section) -> list[str]:
        """Return the tensors that are made in one section, or are inputs, and read in another, in order.

        Args:
            sections: of the nodes.
            start: where they are made; the prefix stands for the network's inputs, too.
            end: where they are read; the suffix stands for the network's outputs, too.
        """
        made = [] if start is not Section.PREFIX else sorted(self.inputs)
        for index, node in enumerate(self.nodes):
            if sections[index] is start:
                made += [name for name in node.output if name]
        read: set[str] = set()
        for index, node in enumerate(self.nodes):
            if sections[index] is end:
                read.update(reads(node))
        if end is Section.SUFFIX:
            read |= self.outputs
        return [name for name in dict.fromkeys(made) if name in read]


def _labels(node: onnx.NodeProto) -> Iterable[str]:
    yield label(node)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                yield from _labels(inner)


def divide(wiring: Wiring, refused: frozenset[int]) -> Sections:
    """Return where each node is computed; see the head of this file.

    Args:
        wiring: the network.
        refused: the nodes that cannot run as spikes.
    """
    if not refused:
        return tuple(Section.BODY if moving else None for moving in wiring.moves)
    places = {node: place for place, node in enumerate(n for n, m in enumerate(wiring.moves) if m)}
    size = len(places)
    weights = [0] * (2 * size)  # behind the size stand the nodes that are not in the suffix
    requires: list[tuple[int, int]] = []
    for node, place in places.items():
        if node in refused:
            requires.append((size + place, place))
        else:
            worth = wiring.macs[node] * (size + 1) + 1
            weights[place], weights[size + place] = -worth, worth
        requires.append((place, size + place))
        for other in wiring.before[node]:
            requires += [(place, places[other]), (size + place, size + places[other])]
    chosen = greatest_closure(weights, requires)
    sections: list[Section | None] = [None] * len(wiring.nodes)
    for node, place in places.items():
        if place in chosen:
            sections[node] = Section.PREFIX
        else:
            sections[node] = Section.BODY if size + place in chosen else Section.SUFFIX
    _leave_idle(wiring, sections)
    _trim(wiring, sections, Section.SUFFIX)
    _trim(wiring, sections, Section.PREFIX)
    return tuple(sections)


def _leave_idle(wiring: Wiring, sections: list[Section | None]) -> None:
    """Move nodes of the body that neither depend on products nor feed any to the suffix."""
    behind = [section is Section.BODY and wiring.macs[n] > 0 for n, section in enumerate(sections)]
    for index, before in enumerate(wiring.before):
        behind[index] |= any(behind[other] for other in before)
    for index in reversed(range(len(sections))):
        read_there = all(sections[other] is Section.SUFFIX for other in wiring.after[index])
        if sections[index] is Section.BODY and not behind[index] and read_there:
            sections[index] = Section.SUFFIX


def borders(wiring: Wiring, sections: Sections) -> tuple[list[str], list[str]]:
    """Return the tensors that the body takes, and those that it gives."""
    return (
        wiring.crossing(sections, Section.PREFIX, Section.BODY),
        wiring.crossing(sections, Section.BODY, Section.SUFFIX),
    )


def unfit(wiring: Wiring, sections: Sections) -> dict[int, str]:
    """Return the nodes of the body at tensors that cannot be encoded or read out, and why."""
    tensors, found = wiring.tensors, dict[int, str]()
    entries, exits = borders(wiring, sections)
    for name in (*entries, *exits):
        if name in tensors.rows and name in tensors.types:
            continue
        known = "has no entry per row in front" if name in tensors.shapes else "has a shape that is not known"
        for index, node in enumerate(wiring.nodes):
            if sections[index] is Section.BODY and (name in reads(node) or name in node.output):
                found.setdefault(index, f"the tensor {name!r} {known}")
    return found


def _trim(wiring: Wiring, sections: list[Section | None], host: Section) -> None:
    """Move nodes without products from the border of the body to the host; see the head of this file."""
    order = range(len(wiring.nodes))
    for index in reversed(order) if host is Section.SUFFIX else order:
        if sections[index] is not Section.BODY or wiring.macs[index]:
            continue
        node = wiring.nodes[index]
        around = wiring.after[index] if host is Section.SUFFIX else wiring.before[index]
        alone = bool(around) and all(sections[other] is host for other in around)
        if host is Section.SUFFIX:
            alone = alone and not wiring.outputs.intersection(node.output)
        else:
            alone = alone and not wiring.inputs.intersection(reads(node))
        if not alone:
            continue
        tried = list(sections)
        tried[index] = host
        if _border(wiring, tried, host) <= _border(wiring, sections, host):
            sections[index] = host


def _border(wiring: Wiring, sections: Sequence[Section | None], host: Section) -> tuple[int, int]:
    """Return how many values and tensors go between body and host."""
    ends = (Section.BODY, host) if host is Section.SUFFIX else (host, Section.BODY)
    names = wiring.crossing(sections, *ends)
    return sum(prod(wiring.tensors.shapes.get(name, ())) for name in names), len(names)


def host_nodes(wiring: Wiring, sections: Sections, reasons: Mapping[int, str]) -> tuple[HostNode, ...]:
    """Return the nodes of the host with their reasons, in order.

    Args:
        wiring: the network.
        sections: of its nodes.
        reasons: why nodes are refused.
    """
    found = []
    for index, node in enumerate(wiring.nodes):
        section = sections[index]
        if section is None or section is Section.BODY:
            continue
        reason = reasons.get(index) or _beside(wiring, sections, reasons, index)
        found.append(
            HostNode(
                name=label(node),
                operator=node.op_type,
                section=section.value,
                reason=reason,
                macs=wiring.macs[index],
                is_cause=index in reasons,
                output=first_output(node),
            )
        )
    return tuple(found)


def first_output(node: onnx.NodeProto) -> str:
    """Return the name of the first output that a node gives."""
    return next((name for name in node.output if name), "")


def _beside(wiring: Wiring, sections: Sections, reasons: Mapping[int, str], index: int) -> str:
    """Say beside what a node stands that is not refused itself."""
    section = sections[index]
    behind = section is Section.SUFFIX
    back: Sequence[Sequence[int]] = wiring.before
    ahead: Sequence[Sequence[int]] = wiring.after
    ways = (back, ahead) if behind else (ahead, back)
    for way, words in zip(ways, ("depends on" if behind else "is needed by", "is next to"), strict=True):
        cause = _nearest(way, index, reasons, sections)
        if cause is not None:
            return f"{words} {label(wiring.nodes[cause])!r}"
    return "stands beside the host's nodes"


def _nearest(
    way: Sequence[Sequence[int]], start: int, reasons: Mapping[int, str], sections: Sections
) -> int | None:
    waiting, seen = deque([start]), {start}
    while waiting:
        for other in way[waiting.popleft()]:
            if other in seen or sections[other] is not sections[start]:
                continue
            if other in reasons:
                return other
            seen.add(other)
            waiting.append(other)
    return None
