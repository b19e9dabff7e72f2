"""Host sections: what no spike does, as ordinary ONNX before and behind the spiking network.

The prefix runs once before the encoders, the suffix once behind the read-outs. Both are models of their own,
run in onnxruntime on one thread without its optimisations, so that a value is the same bits on every run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from math import prod
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from snnc.errors import InputError, UsageError
from snnc.ir.graph import NumberArray, Shape
from snnc.metrics.ending import last_activation

if TYPE_CHECKING:
    from snnc.simulation.protocol import Trace

Values = dict[str, NDArray[Any]]
"""Tensors by their name in the source network, (rows, ...)."""

ONLY_FATAL = 4


class Section(Enum):
    """Where a node is computed; the value is its name in artefacts and JSON."""

    PREFIX = "prefix"
    BODY = "body"
    SUFFIX = "suffix"


HOST_SECTIONS = (Section.PREFIX.value, Section.SUFFIX.value)


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor that goes into a network or a section, or comes out.

    Attributes:
        name: as the source network calls it.
        dtype: its type, as NumPy calls it.
        shape: of one row; empty where it is not ``per_row``.
        per_row: whether it has one entry per row in front, and all other sizes are known.
    """

    name: str
    dtype: str
    shape: Shape
    per_row: bool = True

    @classmethod
    def declared(cls, value: onnx.ValueInfoProto) -> Port:
        """Return what a model says of a tensor; a size that is not known is 0."""
        tensor = value.type.tensor_type
        sizes = tuple(size.dim_value for size in tensor.shape.dim)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        return cls(value.name, dtype, sizes[1:], tensor.HasField("shape"))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Port:
        """Read the JSON form."""
        shape = tuple(map(int, values["shape"]))
        return cls(str(values["name"]), np.dtype(values["dtype"]).name, shape, bool(values["per_row"]))


@dataclass(frozen=True, slots=True)
class HostNode:
    """A node of the source network that runs as ordinary ONNX.

    Attributes:
        name: of the node.
        operator: what it is.
        section: ``prefix`` or ``suffix``.
        reason: why no spike does it.
        macs: multiply-accumulates per row.
        is_cause: whether it is refused itself, and not only stands beside what is.
        output: its first output, which tells nodes of one name apart.
    """

    name: str
    operator: str
    section: str
    reason: str
    macs: int
    is_cause: bool
    output: str

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HostNode:
        """Read the JSON form.

        Raises:
            TypeError, ValueError: it is not of that form.
        """
        node = cls(**values)
        texts = (node.name, node.operator, node.reason, node.output)
        if not all(isinstance(text, str) for text in texts) or node.section not in HOST_SECTIONS:
            raise ValueError(f"the host has no node such as {node.name!r}")
        return replace(node, macs=index(node.macs), is_cause=bool(node.is_cause))

    @property
    def text(self) -> str:
        """One line for people."""
        reason = self.reason.removeprefix(f"{self.operator}: ")
        return f"{self.section}: {self.operator} {self.name!r}: {reason}"


@dataclass(frozen=True, eq=False)
class HostSection:
    """Ordinary ONNX that runs once per row.

    Attributes:
        model: what is computed.
        batch: the number of rows that it takes at once; ``None`` for any.
    """

    model: onnx.ModelProto
    batch: int | None
    _sessions: list[ort.InferenceSession] = field(default_factory=list, repr=False)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What it reads."""
        return tuple(value.name for value in self.model.graph.input)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What it makes."""
        return tuple(value.name for value in self.model.graph.output)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Those outputs that are not known to have one entry per row."""
        ports = map(Port.declared, self.model.graph.output)
        return tuple(port.name for port in ports if not port.per_row)

    @property
    def border(self) -> dict[str, Any]:
        """The JSON form of what goes in and out."""
        graph = self.model.graph
        return {
            key: [asdict(Port.declared(value)) for value in values]
            for key, values in (("inputs", graph.input), ("outputs", graph.output))
        }

    def run(self, values: Mapping[str, NumberArray]) -> Values:
        """Return what it makes of rows.

        Args:
            values: what it reads, (rows, ...) each.

        Raises:
            InputError: onnxruntime stops, or an output has another number of rows.
        """
        read = {name: np.ascontiguousarray(values[name]) for name in self.inputs}
        rows = len(next(iter(read.values())))
        size = self.batch or max(rows, 1)
        # Of a single row it may be as long as it likes, such as the boxes that are left of all; of several
        # it could have as many entries as rows by chance.
        if size > 1 and self.uncounted:
            raise InputError(
                f"the host section gives {self.uncounted[0]!r} for {size} rows at once, and it is not known "
                "to have one entry per row: run one row at a time, or cut that output off"
            )
        parts = []
        for start in range(0, max(rows, 1), size):
            part = self._call({name: value[start : start + size] for name, value in read.items()}, size)
            here = min(size, rows - start)
            for name, value in part.items() if rows > 1 else ():
                if value.shape[:1] != (here,):
                    raise InputError(
                        f"the host section gives {name!r} of shape {value.shape} for {here} of {rows} rows, "
                        "which is not one entry per row: run one row at a time, or cut that output off"
                    )
            parts.append(part)
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def _call(self, values: Values, size: int) -> Values:
        """Run one batch, filled up with zeros where a larger one is fixed."""
        rows = len(next(iter(values.values())))
        missing = size - rows if self.batch else 0
        if missing:
            values = {
                name: np.concatenate([value, np.zeros((missing, *value.shape[1:]), value.dtype)])
                for name, value in values.items()
            }
        session = self.open()
        try:
            found = session.run(list(self.outputs), values)
        except Exception as error:  # onnxruntime's exceptions have no root of their own
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"onnxruntime stopped in a host section: {reason}") from error
        made = dict(zip(self.outputs, map(np.asarray, found), strict=True))
        for name, value in made.items() if missing else ():
            if value.shape[:1] != (size,):
                raise InputError(
                    f"the host section gives {name!r} of shape {value.shape} for a batch of {size}, of which "
                    f"{rows} were asked for: give a whole batch, or cut that output off"
                )
        return {name: value[:rows] for name, value in made.items()} if missing else made

    def open(self) -> ort.InferenceSession:
        """Return it as onnxruntime runs it, made once.

        Raises:
            InputError: onnxruntime does not take it.
        """
        if not self._sessions:
            options = ort.SessionOptions()
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.log_severity_level = ONLY_FATAL
            options.intra_op_num_threads = 1
            try:
                model = self.model.SerializeToString()
                session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # as above
                reason = " ".join(str(error).split())[:200]
                raise InputError(f"onnxruntime cannot run a host section: {reason}") from error
            self._sessions.append(session)
        return self._sessions[0]


@dataclass(frozen=True, slots=True)
class Finish:
    """What ordinary ONNX makes of a run of a spiking network.

    Attributes:
        shapes: of the answer to one row, by the output's name.
        answers: from a run and its rows to (rows, *shape) of the source network's outputs, by name.
        uncounted: names of those that have another number of entries than rows, such as the boxes that are
            left of all.
    """

    shapes: Mapping[str, Shape]
    answers: Callable[[Trace, Any], Mapping[str, NDArray[Any]]]
    uncounted: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Values of the one answer.

        Raises:
            UsageError: there are several outputs.
        """
        return prod(self.shapes[self._name])

    def only(self, trace: Trace, x: Any) -> NDArray[Any]:
        """Return the one answer, flat, (rows, size).

        Raises:
            UsageError: there are several outputs.
        """
        found = self.answers(trace, x)[self._name]
        return found.reshape(len(found), -1)

    @property
    def _name(self) -> str:
        if len(self.shapes) != 1:
            names = ", ".join(map(repr, self.shapes))
            raise UsageError(f"there are {len(self.shapes)} outputs, {names}, and this takes one")
        return next(iter(self.shapes))


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
        nodes: all nodes of both, in the order of the network.
        macs: multiply-accumulates per row of the whole source network.
        batch: the number of rows that the source takes at once; ``None`` for any.
        activations: the softmax or sigmoid that makes each output, as an ONNX operator; empty for none.
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
        sections = [s for s in HOST_SECTIONS if any(node.section == s for node in self.nodes)]
        causes = list(dict.fromkeys(node.operator for node in self.nodes if node.is_cause))
        named = ", ".join(causes[:4]) + (f" and {len(causes) - 4} more" if len(causes) > 4 else "")
        return (
            f"{nodes} as ordinary ONNX ({' and '.join(sections)}: {named}); spikes do {self.share_text} of "
            f"the {self.macs:,} multiply-accumulates"
        )

    @property
    def share_text(self) -> str:
        """The share that spikes do, in words; never rounded to all where it is not all."""
        return "all" if not self.host_macs else f"{min(self.share, 0.9999):.2%}"

    def told(self) -> dict[str, Any]:
        """Return what verbs say of it in JSON: the share, and every node with its reason and its latency."""
        return {
            "spiking_share": self.share,
            "macs": self.macs,
            "host_macs": self.host_macs,
            "latency_steps": 0,
            "nodes": [
                {
                    "name": node.name,
                    "operator": node.operator,
                    "section": node.section,
                    "reason": node.reason,
                    "macs": node.macs,
                    "latency_steps": 0,
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
        known: Values = {}
        for port in self.inputs:
            with np.errstate(invalid="ignore"):  # what does not fit is told in one line
                known[port.name] = rows[port.name].astype(port.dtype, copy=False)
            whole = known[port.name].dtype.kind in "iub"
            if whole and not np.array_equal(known[port.name], rows[port.name]):
                raise InputError(
                    f"the input {port.name!r} takes {port.dtype}, and other values are among the rows: check "
                    "--preprocess"
                )
        return known if self.prefix is None else known | self.prefix.run(known)

    def behind(self, known: Mapping[str, NumberArray], exits: Sequence[NumberArray]) -> Values:
        """Return the outputs of the source network.

        Args:
            known: what :meth:`before` returns for these rows; where :attr:`reads_beside` is false, nothing.
            exits: what the read-outs say, in the order of :attr:`exits`, in the source network's units.
        """
        values: Values = dict(known)
        for port, value in zip(self.exits, exits, strict=True):
            values[port.name] = value.reshape(len(value), *port.shape).astype(port.dtype)
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
    def reads_beside(self) -> bool:
        """Whether the outputs need more than the read-outs: inputs, or what the prefix makes."""
        read = {port.name for port in self.outputs}
        read |= set() if self.suffix is None else set(self.suffix.inputs)
        made = {port.name for port in self.exits}
        made |= set() if self.suffix is None else set(self.suffix.outputs)
        return bool(read - made)

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
                name: None if section is None else section.border
                for name, section in zip(HOST_SECTIONS, (self.prefix, self.suffix), strict=True)
            },
        }

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], prefix: HostSection | None, suffix: HostSection | None
    ) -> Host:
        """Read the JSON form.

        Raises:
            KeyError, TypeError, ValueError: it is not of that form.
        """
        inputs, outputs, entries, exits = (
            tuple(map(Port.from_dict, values[key])) for key in ("inputs", "outputs", "entries", "exits")
        )
        nodes = tuple(map(HostNode.from_dict, values["nodes"]))
        macs, batch = int(values["macs"]), values["batch"]
        activations = {str(name): str(value) for name, value in values["activations"].items()}
        return cls(inputs, outputs, entries, exits, prefix, suffix, nodes, macs, batch, activations)
