"""Host sections: what no spike does, as ordinary ONNX before, between and behind the spiking network.

The prefix runs once before the encoders, the suffix once behind the read-outs. An island stands between two
segments of the spiking network: it waits until the read-outs before it have all steps, and then feeds the
encoders behind it, so that each island costs the steps of one more run. All are models of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from snnc.ir.graph import NumberArray
from snnc.metrics.ending import last_activation
from snnc.source.host_sections import HostNode, HostSection, Port, Section, Values, as_taken, island_name


@dataclass(frozen=True, eq=False)
class Host:
    """What of a network runs as ordinary ONNX, and how the spiking network is joined to it.

    Attributes:
        inputs: what the source network takes.
        outputs: what it gives.
        entries: the tensors that the spiking network encodes.
        exits: those that its read-outs stand for.
        prefix: before the encoders; ``None`` for nothing.
        suffix: behind the read-outs; ``None`` for nothing.
        nodes: all nodes of all sections, in the order of the network.
        macs: multiply-accumulates per row of the whole source network.
        batch: the number of rows that the source takes at once; ``None`` for any.
        activations: the softmax or sigmoid that makes each output, as an ONNX operator; empty for none.
        islands: between the segments of the spiking network, in order. An entry that an island makes belongs
            to the segment behind it, every other entry to the first.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    entries: tuple[Port, ...]
    exits: tuple[Port, ...]
    prefix: HostSection | None
    suffix: HostSection | None
    nodes: tuple[HostNode, ...]
    macs: int
    batch: int | None
    activations: Mapping[str, str] = field(default_factory=dict)
    islands: tuple[HostSection, ...] = ()

    @property
    def sections(self) -> dict[str, HostSection | None]:
        """All sections by their names, in the order of time."""
        islands = {island_name(n): island for n, island in enumerate(self.islands, 1)}
        return {Section.PREFIX.value: self.prefix, **islands, Section.SUFFIX.value: self.suffix}

    @property
    def runs(self) -> int:
        """Segments of the spiking network: runs of T and the settle steps, one after the other."""
        return 1 + len(self.islands)

    @property
    def mode(self) -> str:
        """The option of a conversion that allows it."""
        return "any" if self.islands else "edges"

    @property
    def segments(self) -> dict[str, int]:
        """The number of the segment that each entry belongs to, by the entry's name; empty for no islands."""
        made = {name: n for n, island in enumerate(self.islands, 1) for name in island.outputs}
        return {port.name: made.get(port.name, 0) for port in self.entries} if self.islands else {}

    @property
    def beside(self) -> tuple[str, ...]:
        """The tensors that go past spikes to an island: inputs, and what the prefix makes."""
        before = {port.name for port in self.inputs}
        before |= set() if self.prefix is None else set(self.prefix.outputs)
        read = dict.fromkeys(name for island in self.islands for name in island.inputs)
        return tuple(name for name in read if name in before)

    @property
    def activation(self) -> str:
        """The activation that makes the one output; empty for none, and of several."""
        return self.activations.get(self.outputs[0].name, "") if len(self.outputs) == 1 else ""

    @property
    def host_macs(self) -> int:
        """Multiply-accumulates per row that no spike does."""
        return sum(node.macs for node in self.nodes)

    @property
    def share(self) -> float:
        """Share of the multiply-accumulates that spikes do, 0 to 1; of none, 0."""
        return 1 - self.host_macs / self.macs if self.macs else 0.0

    @property
    def line(self) -> str:
        """One line for people: what runs as ordinary ONNX, and how much that leaves to spikes."""
        count = len(self.nodes)
        nodes = "1 node runs" if count == 1 else f"{count} nodes run"
        sections = [s for s in self.sections if any(node.section == s for node in self.nodes)]
        causes = list(dict.fromkeys(node.operator for node in self.nodes if node.is_cause))
        named = ", ".join(causes[:4]) + (f" and {len(causes) - 4} more" if len(causes) > 4 else "")
        return (
            f"{nodes} as ordinary ONNX ({' and '.join(sections)}: {named}); spikes do {self.share_text} of "
            f"the {self.macs:,} multiply-accumulates"
        )

    @property
    def latency(self) -> str:
        """What the sections cost in steps, in words."""
        if not self.islands:
            return "the host's nodes add no steps"
        if len(self.islands) == 1:
            return f"the island waits for the read-outs before it: the latency is {self.runs} (T + K) steps"
        return (
            f"each of {len(self.islands)} islands waits for the read-outs before it: the latency is "
            f"{self.runs} (T + K) steps"
        )

    @property
    def share_text(self) -> str:
        """The share that spikes do, in words; never rounded to all where it is not all."""
        return "all" if not self.host_macs else f"{min(self.share, 0.9999):.2%}"

    def told(self, latencies: Sequence[int] | None = None) -> dict[str, Any]:
        """Return what verbs say of it in JSON: the share, and every node with its reason and its latency.

        An island adds the steps of the segment behind it, which waits for it.

        Args:
            latencies: steps of each segment, in order; ``None`` where T is not known, and then the latency of
                islands is not, either.
        """

        def added(section: str) -> int | None:
            number = Section.named(section).place // 2 if section in islands else 0
            return 0 if not number else None if latencies is None else latencies[number]

        islands = tuple(map(island_name, range(1, self.runs)))
        whole = [added(section) for section in islands]
        return {
            "spiking_share": self.share,
            "macs": self.macs,
            "host_macs": self.host_macs,
            "islands": len(self.islands),
            "latency_steps": None if None in whole else sum(filter(None, whole)),
            "nodes": [
                {
                    "name": node.name,
                    "operator": node.operator,
                    "section": node.section,
                    "reason": node.reason,
                    "macs": node.macs,
                    "latency_steps": added(node.section),
                    "cause": node.is_cause,
                }
                for node in self.nodes
            ],
        }

    def before(self, rows: Mapping[str, NumberArray]) -> Values:
        """Return the inputs of the source network and what the prefix makes of them.

        Args:
            rows: the source network's inputs, (rows, ...) each.

        Raises:
            InputError: rows for an input of whole numbers hold others; or see :meth:`HostSection.run`.
        """
        known = {port.name: as_taken(rows[port.name], port.name, port.dtype) for port in self.inputs}
        return known if self.prefix is None else known | self.prefix.run(known)

    def through(
        self, known: Mapping[str, NumberArray], run: Callable[[int, Values], Mapping[str, NumberArray]]
    ) -> Values:
        """Run the segments and the islands between them, up to the read-outs of the last segment.

        Args:
            known: what :meth:`before` returns.
            run: from the number of a segment, and the tensors that are known before it, to the exits of this
                segment by name, in the source network's units.

        Returns:
            All tensors that are known then: what was, the exits, and what the islands made.
        """
        values: Values = dict(known)
        for segment in range(self.runs):
            if segment:
                values |= self.islands[segment - 1].run(values)
            values |= self._exits(run(segment, values))
        return values

    def _exits(self, given: Mapping[str, NumberArray]) -> Values:
        ports = [port for port in self.exits if port.name in given]
        return {
            port.name: given[port.name].reshape(len(given[port.name]), *port.shape).astype(port.dtype)
            for port in ports
        }

    def behind(self, known: Mapping[str, NumberArray], exits: Sequence[NumberArray]) -> Values:
        """Return the outputs of the source network.

        Args:
            known: what :meth:`before` returns for these rows; where :attr:`reads_beside` is false, nothing.
            exits: what the read-outs say, in the order of :attr:`exits`, in the source network's units.
        """
        values: Values = dict(known) | self._exits(
            {port.name: value for port, value in zip(self.exits, exits, strict=True)}
        )
        for island in self.islands if self.reads_islands else ():
            values |= island.run(values)
        if self.suffix is not None:
            values |= self.suffix.run(values)
        return {port.name: values[port.name] for port in self.outputs}

    @property
    def ends(self) -> dict[str, str]:
        """The activation behind those exits of which an output is nothing else, as an ONNX operator."""
        if self.suffix is None:
            return {}
        found = {}
        for name in self.suffix.outputs:
            activation, tensor = last_activation(self.suffix.model, name)
            found[tensor] = activation
        return {port.name: found[port.name] for port in self.exits if found.get(port.name)}

    @property
    def reads_islands(self) -> bool:
        """Whether the outputs need what islands make, beside what they give to the spikes."""
        made = {name for island in self.islands for name in island.outputs}
        return bool(made & self._read_behind)

    @property
    def reads_beside(self) -> bool:
        """Whether the outputs need more than the read-outs: inputs, or what the prefix makes."""
        read, made = set(self._read_behind), {port.name for port in self.exits}
        for section in (*(self.islands if self.reads_islands else ()), self.suffix):
            if section is not None:
                read |= set(section.inputs)
                made |= set(section.outputs)
        return bool(read - made)

    @property
    def _read_behind(self) -> frozenset[str]:
        read = frozenset() if self.suffix is None else frozenset(self.suffix.inputs)
        return read | {port.name for port in self.outputs}

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form of all but the sections' models."""
        return {
            **{
                key: [asdict(port) for port in getattr(self, key)]
                for key in ("inputs", "outputs", "entries", "exits")
            },
            "nodes": [asdict(node) for node in self.nodes],
            "macs": self.macs,
            "host_macs": self.host_macs,
            "spiking_share": self.share,
            "batch": self.batch,
            "activations": dict(self.activations),
            "sections": {
                name: None if section is None else section.border for name, section in self.sections.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], sections: Mapping[str, HostSection | None]) -> Host:
        """Read the JSON form.

        Args:
            values: the JSON form.
            sections: what it leaves out, by their names, in the order of time.

        Raises:
            KeyError, TypeError, ValueError: it is not of that form.
        """
        inputs, outputs, entries, exits = (
            tuple(map(Port.from_dict, values[key])) for key in ("inputs", "outputs", "entries", "exits")
        )
        nodes = tuple(map(HostNode.from_dict, values["nodes"]))
        macs, batch = int(values["macs"]), values["batch"]
        activations = {str(name): str(value) for name, value in values["activations"].items()}
        prefix, *between, suffix = sections.values()
        islands = tuple(island for island in between if island is not None)
        names = [Section.PREFIX.value, *map(island_name, range(1, 1 + len(islands))), Section.SUFFIX.value]
        if list(sections) != names or not {node.section for node in nodes} <= set(names):
            raise ValueError(f"the sections {list(sections)} of the host are not {names}")
        return cls(inputs, outputs, entries, exits, prefix, suffix, nodes, macs, batch, activations, islands)
