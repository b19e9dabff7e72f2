"""What the C source does: calls of kernels on values, and the memory and constants that they need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from snnc.backends.c99.kernels import Types, kernel_name
from snnc.backends.c99.memory import Buffer, Life, Places, place
from snnc.backends.c99.widths import Width
from snnc.ir.geometry import Window
from snnc.ir.graph import NumberArray, Shape

STATE = "state->"


@dataclass(frozen=True, slots=True)
class Field:
    """An array of the state that keeps its value from step to step.

    Attributes:
        name: in C.
        width: type of an element.
        size: number of elements.
        note: what it is, for people.
    """

    name: str
    width: Width
    size: int
    note: str


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A constant array.

    Attributes:
        name: in C.
        width: type of an element.
        values: as they lie in memory.
        note: what it is, for people.
    """

    name: str
    width: Width
    values: NumberArray
    note: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self.values.size)


@dataclass(frozen=True, slots=True)
class Parameter:
    """An input: an argument of the C function that begins a run, or of the one that runs a step."""

    name: str
    width: Width
    size: int


Place = Buffer | Field | Table | Parameter


@dataclass(frozen=True, slots=True)
class At:
    """An element of a place from which on a kernel reads or writes."""

    place: Place
    offset: int


Argument = Place | At | str | int


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a kernel, or a comment.

    Attributes:
        kernel: name of its template; empty for a comment.
        types: what stands for ``$`` in it.
        arguments: in C's order.
        note: comment before it.
    """

    kernel: str
    types: Types
    arguments: tuple[Argument, ...]
    note: str = ""

    def buffers(self) -> list[Buffer]:
        """Return the buffers that it reads or writes."""
        places = [a.place if isinstance(a, At) else a for a in self.arguments]
        return [item for item in places if isinstance(item, Buffer)]


@dataclass
class Program:
    """Everything that the source is written from.

    Attributes:
        once: calls at the beginning of a run.
        step: calls in every step.
        fields: arrays of the state.
        tables: constants.
        structures: constant structures, ``type name = {...}`` by name.
    """

    once: list[Call] = field(default_factory=list)
    step: list[Call] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    structures: dict[str, str] = field(default_factory=dict)

    def table(self, name: str, values: NumberArray, note: str, width: Width | None = None) -> Table:
        """Add a constant array."""
        found = Table(name, width or Width.of(values), np.ascontiguousarray(values), note)
        self.tables.append(found)
        return found

    def keep(self, name: str, width: Width, size: int, note: str) -> Field:
        """Add an array to the state."""
        found = Field(name, width, size, note)
        self.fields.append(found)
        return found

    def structure(self, kind: str, values: Sequence[int | str]) -> str:
        """Return a pointer to a constant structure; equal ones are written once."""
        text = f"{{{', '.join(map(str, values))}}}"
        for name, known in self.structures.items():
            if known == f"{kind} {text}":
                return f"&{name}"
        name = f"{kind}_{len(self.structures)}"
        self.structures[name] = f"{kind} {text}"
        return f"&{name}"

    def kernels(self) -> set[tuple[str, Types]]:
        """Return the kernels that are called, with their types."""
        return {(call.kernel, call.types) for call in (*self.once, *self.step) if call.kernel}

    def places(self) -> Places:
        """Place the buffers. One that is written once and read in every step lives until the end."""
        calls = [*self.once, *self.step]
        lives: dict[Buffer, Life] = {}
        for index, call in enumerate(calls):
            for buffer in call.buffers():
                first = lives[buffer].first if buffer in lives else index
                crosses = first < len(self.once) <= index
                last = len(calls) if crosses else max(index, lives[buffer].last if buffer in lives else index)
                lives[buffer] = Life(first, last)
        return place(list(lives.items()))


def render(call: Call, places: Places) -> str:
    """Return a call in C."""
    arguments = ", ".join(_argument(argument, places) for argument in call.arguments)
    return f"{kernel_name(call.kernel, call.types)}({arguments});"


def _argument(argument: Argument, places: Places) -> str:
    if isinstance(argument, At):
        text = _argument(argument.place, places)
        return f"{text} + {argument.offset}" if argument.offset else text
    if isinstance(argument, Buffer):
        offset = places.offsets[argument]
        name = f"{STATE}{arena(argument.width)}"
        return f"{name} + {offset}" if offset else name
    if isinstance(argument, Field):
        return f"{STATE}{argument.name}"
    if isinstance(argument, Table | Parameter):
        return argument.name
    return str(argument)


def arena(width: Width) -> str:
    """Return the name of the array that holds the buffers of a type."""
    return f"values{8 * width.value}"


@dataclass(frozen=True, slots=True)
class Extent:
    """Rows, columns and channels of a value; a vector is one pixel."""

    rows: int
    columns: int
    channels: int

    @classmethod
    def of(cls, shape: Shape) -> Extent:
        """Return the extent of a shape, channels first; more than two axes beside them count as two."""
        channels, *sides = shape
        return cls(sides[0] if sides else 1, prod(sides[1:]), channels)

    @property
    def pixels(self) -> int:
        """Rows times columns."""
        return self.rows * self.columns

    @property
    def size(self) -> int:
        """Number of values."""
        return self.pixels * self.channels

    @property
    def strides(self) -> tuple[int, int, int]:
        """Distance of neighbours down, right and among channels, as values lie in C."""
        return self.columns * self.channels, self.channels, 1

    @property
    def channels_first(self) -> tuple[int, int, int]:
        """The same for the order of the network's arrays."""
        return self.columns, 1, self.pixels

    @property
    def ordered(self) -> bool:
        """Whether both orders are the same."""
        return self.pixels == 1 or self.channels == 1


def channels_last(values: NumberArray) -> NumberArray:
    """Return an array (channels, ...) as it lies in C."""
    return np.moveaxis(values, 0, -1)


def slide(window: Window, source: Extent, target: Extent, groups: int = 1) -> list[int]:
    """Return the members of C's ``window``."""
    sizes = [source.rows, source.columns, target.rows, target.columns]
    channels = [groups, source.channels // groups, target.channels // groups]
    return [*sizes, *channels, *window.kernel, *window.strides, *window.dilations, *window.pads[:2]]


def bytes_of(parts: Sequence[Field | Table]) -> int:
    """Return the memory of arrays."""
    return sum(part.width.value * part.size for part in parts)


def elements(shape: Shape) -> int:
    """Return the number of values of a shape."""
    return prod(shape)


def uses(names: Sequence[tuple[str, ...]]) -> Counter[str]:
    """Count how often each node is read."""
    return Counter(name for read in names for name in read)
