"""The sections of a host: models of ordinary ONNX, their places, their nodes, and what goes in and out.

They run in onnxruntime on one thread without its optimisations, so that a value is the same bits on every
run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from operator import index
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from snnc.errors import InputError
from snnc.ir.graph import NumberArray, Shape
from snnc.source.exact_session import exact_session, multiplies_bytes

Values = dict[str, NDArray[Any]]
"""Tensors by their name in the source network, (rows, ...)."""

ONLY_FATAL = 4


@dataclass(frozen=True, slots=True, order=True)
class Section:
    """Where a node is computed.

    Attributes:
        place: in the order of time. Even ones are the host's: 0 the prefix, :data:`LAST` the suffix, and
            those between the islands; odd ones are segments of the spiking network.
    """

    place: int

    PREFIX: ClassVar[Section]
    BODY: ClassVar[Section]
    SUFFIX: ClassVar[Section]

    @property
    def is_host(self) -> bool:
        """Whether it is computed by ordinary ONNX."""
        return self.place % 2 == 0

    @property
    def value(self) -> str:
        """Its name in artefacts and JSON."""
        if self.place == 0:
            return "prefix"
        if self.place == LAST:
            return "suffix"
        return island_name(self.place // 2) if self.is_host else f"segment {self.place // 2}"

    @classmethod
    def named(cls, name: Any) -> Section:
        """Return the host's section of a name.

        Raises:
            ValueError: it is none.
        """
        if name in (cls.PREFIX.value, cls.SUFFIX.value):
            return cls.PREFIX if name == cls.PREFIX.value else cls.SUFFIX
        number = name.removeprefix(ISLAND) if isinstance(name, str) else ""
        if not number.isascii() or not number.isdecimal() or name != island_name(int(number[:4])):
            raise ValueError(f"the host has no section {name!r}")
        return cls(2 * int(number))


LAST = 2**20
"""Place of the suffix, behind all islands that there may be."""

ISLAND = "island "
Section.PREFIX, Section.BODY, Section.SUFFIX = Section(0), Section(1), Section(LAST)


def island_name(number: int) -> str:
    """Return what an island is called, the first of which is number 1."""
    return f"{ISLAND}{number}"


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
        section: ``prefix``, ``suffix`` or ``island 1`` and so on.
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
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"the host has no node such as {node.name!r}")
        Section.named(node.section)
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
            if any(map(multiplies_bytes, self.model.graph.node)):  # exact in this form alone
                options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.log_severity_level = ONLY_FATAL
            options.intra_op_num_threads = 1
            try:
                model = self.model.SerializeToString()
                session = exact_session(model, options)
            except Exception as error:  # as above
                reason = " ".join(str(error).split())[:200]
                raise InputError(f"onnxruntime cannot run a host section: {reason}") from error
            self._sessions.append(session)
        return self._sessions[0]


def as_taken(rows: NumberArray, name: str, dtype: str) -> NumberArray:
    """Return rows in the type that an input of a network takes.

    Raises:
        InputError: it takes whole numbers, and others are among the rows.
    """
    with np.errstate(invalid="ignore"):  # what does not fit is told in one line
        found: NumberArray = rows.astype(dtype, copy=False)
    if found.dtype.kind in "iub" and not np.array_equal(found, rows):
        raise InputError(
            f"the input {name!r} takes {dtype}, and other values are among the rows: check --preprocess"
        )
    return found
