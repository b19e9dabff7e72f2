"""Which nodes of a network run as spikes, and which as ordinary ONNX before, between and behind them.

Every node gets a place in time: the prefix, a segment of the spiking network, an island, the next segment
and so on, and the suffix. No node stands before one that it depends on, and none that is refused in a
segment. Without islands, what is refused goes into the prefix, with all that it depends on, or into the
suffix, with all that depends on it. Of all divisions with so many islands the one is taken that leaves most
multiply-accumulates to spikes, and of several, fewest nodes to the host: a closed set of greatest weight
(:mod:`snnc.frontend.host.closure`). Then nodes without products that nothing but the host feeds or reads go
with the host, where no tensor and no value more goes over the border.
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
from snnc.source.host_sections import HostNode, Section

Sections = tuple[Section | None, ...]
"""Where each node is computed; ``None`` for one that depends on constants and shapes alone."""

LEAST_GAIN = 0.01
"""Share of the multiply-accumulates that an island must bring to spikes, for it costs the steps of a run."""


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

    def entering(self, sections: Sequence[Section | None], section: Section) -> list[str]:
        """Return the tensors that a section reads and does not make, inputs of the network first."""
        read: set[str] = set()
        for index, node in enumerate(self.nodes):
            if sections[index] == section:
                read.update(reads(node))
        made = sorted(self.inputs)
        for index, node in enumerate(self.nodes):
            if sections[index] not in (section, None):
                made += [name for name in node.output if name]
        return [name for name in dict.fromkeys(made) if name in read]

    def leaving(self, sections: Sequence[Section | None], section: Section) -> list[str]:
        """Return the tensors that a section makes, and that others read or the network gives, in order."""
        made: list[str] = []
        read = set(self.outputs)
        for index, node in enumerate(self.nodes):
            if sections[index] == section:
                made += [name for name in node.output if name]
            elif sections[index] is not None:
                read.update(reads(node))
        return [name for name in dict.fromkeys(made) if name in read]


def _labels(node: onnx.NodeProto) -> Iterable[str]:
    yield label(node)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                yield from _labels(inner)


def divide(wiring: Wiring, refused: frozenset[int], most_islands: int = 0) -> Sections:
    """Return where each node is computed; see the head of this file.

    Args:
        wiring: the network.
        refused: the nodes that cannot run as spikes.
        most_islands: how many there may be; each must bring :data:`LEAST_GAIN` to spikes.
    """
    if not refused:
        return tuple(Section.BODY if moving else None for moving in wiring.moves)
    best, highest = _divided(wiring, refused, 0), 0.0
    whole = max(sum(wiring.macs), 1)
    possible = sum(macs for node, macs in enumerate(wiring.macs) if node not in refused) / whole
    highest = _spiking(wiring, best) / whole
    for islands in range(1, most_islands + 1):
        if possible - LEAST_GAIN * islands <= highest:
            break
        found = _divided(wiring, refused, islands)
        reached = _spiking(wiring, found) / whole - LEAST_GAIN * islands
        if reached > highest:
            best, highest = found, reached
    return best


def _spiking(wiring: Wiring, sections: Sections) -> int:
    """Return the multiply-accumulates that spikes do."""
    given = zip(wiring.macs, sections, strict=True)
    return sum(macs for macs, section in given if section is not None and not section.is_host)


def _divided(wiring: Wiring, refused: frozenset[int], islands: int) -> Sections:
    """Return the best division with as many islands, or fewer."""
    places = {node: place for place, node in enumerate(n for n, m in enumerate(wiring.moves) if m)}
    size, last = len(places), 2 * islands + 2
    # The element (k, place) says that a node stands at k or before, 0 being the prefix and `last` the suffix.
    weights = [0] * (last * size)
    requires: list[tuple[int, int]] = []
    for node, place in places.items():
        worth = wiring.macs[node] * (size + 1) + 1
        for k in range(last):
            here = k * size + place
            if k + 1 < last:
                requires.append((here, here + size))
            requires += [(here, k * size + places[other]) for other in wiring.before[node]]
            if node not in refused:
                weights[here] = worth if k % 2 else -worth
            elif k % 2:
                requires.append((here, here - size))
    chosen = greatest_closure(weights, requires)
    sections: list[Section | None] = [None] * len(wiring.nodes)
    for node, place in places.items():
        found = next((k for k in range(last) if k * size + place in chosen), last)
        sections[node] = Section.SUFFIX if found == last else Section(found)
    for segment in range(1, last, 2):
        _leave_idle(wiring, sections, Section(segment), _behind(segment, last))
    for segment in range(1, last, 2):
        _trim(wiring, sections, Section(segment), _behind(segment, last), before=False)
        _trim(wiring, sections, Section(segment), Section(segment - 1), before=True)
    return _closed_up(in_segments(wiring, sections))


def _behind(segment: int, last: int) -> Section:
    return Section.SUFFIX if segment + 1 == last else Section(segment + 1)


def in_segments(wiring: Wiring, sections: Sequence[Section | None]) -> Sections:
    """Return where each node is computed, where it is known what the host does.

    Spikes stand in the first segment in which all that they read is known. Those that together give nothing
    but to later segments stand in the first of these: so what they read of the host is encoded there once.
    """
    found: list[Section | None] = []
    for index, section in enumerate(sections):
        if section is not None and not section.is_host:
            before = [place.place for other in wiring.before[index] if (place := found[other]) is not None]
            last = max(before, default=0)
            section = Section(last if last % 2 else last + 1)
        found.append(section)
    for segment in reversed(segments(found)):
        for group in _groups(wiring, found, segment):
            after = [found[other] for index in group for other in wiring.after[index] if other not in group]
            places = [section.place for section in after if section is not None]
            given = any(wiring.outputs.intersection(wiring.nodes[index].output) for index in group)
            first = min(places, default=0)
            if not given and first % 2 and first > segment.place:
                for index in group:
                    found[index] = Section(first)
    return tuple(found)


def _groups(wiring: Wiring, sections: Sequence[Section | None], segment: Section) -> list[set[int]]:
    """Return the nodes of a segment, those together that hang together in it."""
    groups: list[set[int]] = []
    seen: set[int] = set()
    for index, section in enumerate(sections):
        if section != segment or index in seen:
            continue
        group, waiting = {index}, [index]
        while waiting:
            here = waiting.pop()
            for other in (*wiring.before[here], *wiring.after[here]):
                if sections[other] == segment and other not in group:
                    group.add(other)
                    waiting.append(other)
        seen |= group
        groups.append(group)
    return groups


def _closed_up(sections: Sequence[Section | None]) -> Sections:
    """Return sections without those in which nothing is left, and without the borders between equal ones."""
    places: dict[int, int] = {}
    now = 0
    found = {section.place for section in sections if section is not None and section != Section.SUFFIX}
    for place in sorted(found):
        now += (place - now) % 2
        places[place] = now
    # An island behind which no spikes are left is a part of the suffix.
    suffix = {place for place, new in places.items() if now and new == now and now % 2 == 0}
    return tuple(
        section
        if section is None or section == Section.SUFFIX
        else Section.SUFFIX
        if section.place in suffix
        else Section(places[section.place])
        for section in sections
    )


def _leave_idle(wiring: Wiring, sections: list[Section | None], segment: Section, following: Section) -> None:
    """Move nodes of a segment that neither depend on its products nor feed any to the host behind it."""
    behind = [section == segment and wiring.macs[n] > 0 for n, section in enumerate(sections)]
    for index, before in enumerate(wiring.before):
        behind[index] |= any(behind[other] for other in before if sections[other] == segment)
    for index in reversed(range(len(sections))):
        after = wiring.after[index]
        host = following if after else Section.SUFFIX
        read_there = all(sections[other] == host for other in after)
        if sections[index] == segment and not behind[index] and read_there:
            sections[index] = host


def segments(sections: Sequence[Section | None]) -> list[Section]:
    """Return the segments of the spiking network, in order."""
    return sorted({section for section in sections if section is not None and not section.is_host})


def borders(wiring: Wiring, sections: Sections) -> tuple[list[str], list[str]]:
    """Return the tensors that spikes take, and those that they give, one segment after the other."""
    entries, exits = list[str](), list[str]()
    for segment in segments(sections):
        entries += wiring.entering(sections, segment)
        exits += wiring.leaving(sections, segment)
    return entries, exits


def unfit(wiring: Wiring, sections: Sections) -> dict[int, str]:
    """Return the nodes of the body at tensors that cannot be encoded or read out, and why."""
    tensors, found = wiring.tensors, dict[int, str]()
    entries, exits = borders(wiring, sections)
    for name in (*entries, *exits):
        if name in tensors.rows and name in tensors.types:
            continue
        known = "has no entry per row in front" if name in tensors.shapes else "has a shape that is not known"
        for index, node in enumerate(wiring.nodes):
            section = sections[index]
            spiking = section is not None and not section.is_host
            if spiking and (name in reads(node) or name in node.output):
                found.setdefault(index, f"the tensor {name!r} {known}")
    return found


def _trim(
    wiring: Wiring, sections: list[Section | None], segment: Section, host: Section, *, before: bool
) -> None:
    """Move nodes without products from the border of a segment to the host; see the head of this file.

    Args:
        wiring: of the network.
        sections: of its nodes; changed.
        segment: that they leave.
        host: the section next to it.
        before: whether the host's section stands before it.
    """
    order = range(len(wiring.nodes))
    for index in order if before else reversed(order):
        if sections[index] != segment or wiring.macs[index]:
            continue
        node = wiring.nodes[index]
        around = wiring.before[index] if before else wiring.after[index]
        alone = bool(around) and all(sections[other] == host for other in around)
        if before:
            alone = alone and not wiring.inputs.intersection(reads(node))
        else:
            alone = alone and not wiring.outputs.intersection(node.output)
        if not alone:
            continue
        tried = list(sections)
        tried[index] = host
        if _border(wiring, tried, segment, before) <= _border(wiring, sections, segment, before):
            sections[index] = host


def _border(
    wiring: Wiring, sections: Sequence[Section | None], segment: Section, before: bool
) -> tuple[int, int]:
    """Return how many values and tensors go between a segment and the host."""
    names = wiring.entering(sections, segment) if before else wiring.leaving(sections, segment)
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
        if section is None or not section.is_host:
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
    behind = sections[index] != Section.PREFIX
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
            if other in seen or sections[other] != sections[start]:
                continue
            if other in reasons:
                return other
            seen.add(other)
            waiting.append(other)
    return None
