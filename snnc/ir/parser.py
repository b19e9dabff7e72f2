"""Parser of the exact text form of a graph, so that a pass can be tested text in, text out.

The text of :func:`snnc.ir.text.print_exact` is read back without loss. It contains small arrays in full and
larger ones as hashes, which are looked up in the table that :func:`snnc.ir.text.arrays_of` makes of the
graph.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from snnc.errors import InputError
from snnc.ir.ann import AnnGraph
from snnc.ir.geometry import Window
from snnc.ir.graph import NumberArray, Shape
from snnc.ir.neuron import TEXT, Neuron, Schedule
from snnc.ir.operations import ANN_KINDS, KINDS
from snnc.ir.snn import Presented, SnnGraph

NAME = r'"(?:[^"\\]|\\.)*"|[\w./:+-]+'
SHAPE = r"\([\d, ]*\)"

SPIKING = {kind.__name__: kind for kind in KINDS}
ORDINARY = {kind.__name__: kind for kind in ANN_KINDS}


def parse_graph(text: str, arrays: Mapping[str, NumberArray] = {}) -> AnnGraph | SnnGraph:
    """Return the graph that a text describes; it is not verified.

    Args:
        text: the exact form, one operation a line; empty lines do not count.
        arrays: those that the text names by their hash.

    Raises:
        InputError: naming the line that is not of that form, or an array that is not in the table.
    """
    lines = [_Line(n, line, arrays) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) < 2:
        raise InputError("a text form has a heading, operations, and a last line `return NAME`")
    try:
        return _graph(*lines)
    except (OverflowError, TypeError, ValueError) as error:
        number = max(line.number for line in lines if line.at)
        raise InputError(f"line {number} of the text form: {error}") from error


def _graph(heading: _Line, *lines: _Line) -> AnnGraph | SnnGraph:
    spiking = heading.skips("spiking ")
    heading.take("network ")
    name = heading.name(": T = " if spiking else "")
    settings = _settings(heading) if spiking else {}
    heading.end()
    if spiking and lines[0].skips("density: "):
        settings["density"] = lines[0].shares()
        lines = lines[1:]
    nodes: Any = tuple(line.node(SPIKING if spiking else ORDINARY) for line in lines[:-1])
    lines[-1].take("return ")
    outputs, names = lines[-1].outputs()
    if spiking:
        return SnnGraph(name=name, nodes=nodes, outputs=outputs, output_names=names, **settings)
    return AnnGraph(name=name, nodes=nodes, outputs=outputs, output_names=names)


def _settings(heading: _Line) -> dict[str, Any]:
    """Read what the heading says of a whole spiking network."""
    found: dict[str, Any] = {}
    heading.take(": T = ")
    found["timesteps"] = int(heading.match(r"\d+"))
    heading.take(", K = ")
    found["settle_steps"] = int(heading.match(r"\d+"))
    heading.take(", ")
    found["schedule"] = Schedule(heading.match("|".join(kind.value for kind in Schedule)))
    if not heading.skips(", bounds not proved"):
        heading.take(", proved up to T = ")
        found["max_timesteps"] = int(heading.match(r"\d+"))
    return found


class _Line:
    """One line, read from left to right."""

    def __init__(self, number: int, text: str, arrays: Mapping[str, NumberArray]) -> None:
        self.number, self.text, self.at = number, text.strip(), 0
        self.arrays = arrays

    def fail(self, what: str) -> NoReturn:
        raise InputError(f"line {self.number} of the text form: {what} at {self.text[self.at :]!r}")

    def match(self, pattern: str) -> str:
        found = re.compile(pattern).match(self.text, self.at)
        if found is None:
            self.fail("not of that form")
        self.at = found.end()
        return found.group()

    def take(self, text: str) -> None:
        if not self.skips(text):
            self.fail(f"{text!r} is missing")

    def skips(self, text: str) -> bool:
        """Skip ``text`` if it comes next, and say whether it did."""
        found = self.text.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def end(self) -> None:
        if self.at < len(self.text):
            self.fail("there is more")

    def name(self, before: str = "") -> str:
        """Read a name; a plain one may hold colons, so it ends where the pattern ``before`` follows."""
        found = self.match(rf"(?:{NAME})(?={before})")
        return str(json.loads(found)) if found.startswith('"') else found

    def listed(self, close: str) -> Iterator[None]:
        """Step over the commas of a list up to its closing bracket."""
        while not self.skips(close):
            yield
            if not self.skips(", ") and not self.text.startswith(close, self.at):
                self.fail(f"{close!r} is missing")

    def node(self, kinds: Mapping[str, type]) -> Any:
        """Read ``NAME: Kind(inputs) -> shape {field=value, ...}  # origin``."""
        values: dict[str, Any] = {"name": self.name(r": \w+(?:\(| -> )")}
        self.take(": ")
        kind = kinds.get(self.match(r"\w+"))
        if kind is None:
            self.fail("an unknown operation ends")
        if self.skips("("):
            values["inputs"] = tuple(self.name() for _ in self.listed(")"))
        self.take(" -> ")
        values["shape"] = _shape(self.match(SHAPE))
        types = {field.name: str(field.type) for field in dataclasses.fields(kind)}
        if self.skips(" {"):
            for _ in self.listed("}"):
                field = self.match(r"\w+")
                if field not in types or field in values:
                    self.fail(f"{kind.__name__} has no field {field!r}, or has it twice,")
                self.take("=")
                values[field] = self.value(types[field].removesuffix(" | None"))
        if self.skips("  # "):
            values["origin"] = self.name()
        self.end()
        missing = [f.name for f in dataclasses.fields(kind) if f.name not in values and not _optional(f)]
        if missing:
            self.fail(f"{kind.__name__} needs {', '.join(missing)}")
        return kind(**values)

    def value(self, kind: str) -> Any:
        if kind in ("FloatArray", "IntArray", "NumberArray"):
            return self.array()
        if kind == "str":
            return self.name()
        if kind not in VALUES:
            self.fail(f"there is no text form of {kind}")
        pattern, made = VALUES[kind]
        return made(self.match(pattern))

    def array(self) -> NumberArray:
        kind, bits = self.match("[fiu]"), int(self.match(r"\d+"))
        shape = _shape(self.match(SHAPE))
        dtype = np.dtype(f"{kind}{bits // 8}")
        if self.skips("@"):
            key = self.match("[0-9a-f]+")
            if key not in self.arrays:
                self.fail(f"the array @{key} is in no table that was given")
            found = self.arrays[key]
        else:
            found = np.array(self.match(r"<[^<>]*>")[1:-1].split(), dtype)
            if found.size != np.prod(shape):
                self.fail(f"{found.size} values do not fill {shape}")
            found = found.reshape(shape)
        if (found.dtype, found.shape) != (dtype, shape):
            self.fail(f"the array is {found.dtype}{found.shape}")
        return found

    def outputs(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Read ``NODE, NODE as NAME, ...``: the nodes, and what the outputs are called."""
        nodes, names = [], []
        while True:
            nodes.append(self.name())
            names.append(self.name() if self.skips(" as ") else nodes[-1])
            if not self.skips(", "):
                self.end()
                return tuple(nodes), tuple(names)

    def shares(self) -> dict[str, float]:
        """Read ``NAME=share, ...``."""
        found = {}
        while True:
            name = self.name()
            self.take("=")
            found[name] = float(self.match(FLOAT))
            if not self.skips(", "):
                self.end()
                return found


def _optional(field: dataclasses.Field[Any]) -> bool:
    return not (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)


def _shape(text: str) -> Shape:
    return tuple(int(size) for size in text.strip("()").split(",") if size.strip())


def _window(text: str) -> Window:
    kernel, *parts = text.split(" ")
    values: dict[str, Any] = {"kernel": tuple(map(int, kernel.split("x")))}
    for part in parts:
        key, _, numbers = part.partition("=")
        values[key] = tuple(map(int, numbers.split(",")))
    return Window(**values)


FLOAT = r"-?(?:inf|nan|[\d.]+(?:e[+-]?\d+)?)"
VALUES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "bool": ("true|false", lambda text: text == "true"),
    "int": (r"-?\d+", int),
    "float": (FLOAT, float),
    "Shape": (SHAPE, _shape),
    "Window": (r"\d+x\d+(?: (?:strides|pads|dilations)=\d+(?:,\d+)*)*", _window),
    "Neuron": (TEXT, Neuron.from_text),
    "Presented": ("|".join(kind.value for kind in Presented), Presented),
}
"""Types of fields, with the pattern of their text and what reads it."""
