"""What an option is: the kind of its value, what is said of it, and which values fit.

A table of options is a dataclass whose fields :func:`option` makes; :func:`options_of` reads it.
"""

from __future__ import annotations

import math
import operator
import re
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any

from snnc.errors import UsageError


class Kind(Enum):
    """What the value of an option is; the value is its type in a JSON Schema."""

    INTEGER = "integer"
    NUMBER = "number"
    STRING = "string"
    PATH = "path"
    FLAG = "boolean"
    ARRAY = "array"
    OBJECT = "object"


_KINDS: dict[object, Kind] = {
    int: Kind.INTEGER,
    float: Kind.NUMBER,
    str: Kind.STRING,
    Path: Kind.PATH,
    bool: Kind.FLAG,
    tuple: Kind.ARRAY,
    Mapping: Kind.OBJECT,
}

_TYPES: dict[Kind, tuple[tuple[type, ...], str]] = {
    Kind.STRING: ((str,), "a string"),
    Kind.PATH: ((str, Path), "a path"),
    Kind.FLAG: ((bool,), "true or false"),
    Kind.ARRAY: ((list, tuple), "a list of strings"),
}
"""What a value of a kind is, beside numbers and settings, and what it is called."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is said of an option beside its name, type and default.

    Attributes:
        help: for ``--help``.
        meaning: one line for the configuration file; empty where only the command line has the option.
        short: a second spelling, such as ``-T``.
        name: as it is written, where it is not that of the field.
        metavar: what stands for the value in the help.
        least: the least that a number may be, or, where only what lies ``beyond`` it is, the bound.
        beyond: whether ``least`` itself is refused.
        because: why a number below is refused.
        choices: the words that are allowed.
        pattern: a regular expression that a text must match as a whole; empty for any text.
        form: how such a text is written, for the user.
        show_default: whether the help tells the default.
    """

    help: str
    meaning: str = ""
    short: str = ""
    name: str = ""
    metavar: str | None = None
    least: int | None = None
    beyond: bool = False
    because: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""
    form: str = ""
    show_default: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a conversion.

    Attributes:
        field: its name in Python.
        kind: what its value is.
        default: what it is where it is not given.
        facts: everything else.
    """

    field: str
    kind: Kind
    default: Any
    facts: Facts

    @property
    def name(self) -> str:
        """As it is written on the command line, behind two hyphens, and in a file."""
        return self.facts.name or self.field.replace("_", "-")

    @property
    def in_file(self) -> bool:
        """Whether a configuration file may give it."""
        return bool(self.facts.meaning)

    def problem(self, value: Any) -> str | None:
        """Say why a value does not fit, in words that follow the option's name; ``None`` where it does."""
        if self.kind in (Kind.INTEGER, Kind.NUMBER):
            return self._number_problem(value)
        if self.kind is Kind.OBJECT:
            return _settings_problem(value)
        types, what = _TYPES[self.kind]
        items: Any = value if isinstance(value, list | tuple) else ()
        if not isinstance(value, types) or not all(isinstance(item, str) for item in items):
            return f"must be {what}, not {_said(value)}"
        if self.facts.choices and value not in self.facts.choices:
            return f"must be one of {', '.join(self.facts.choices)}, not {value!r}"
        if self.facts.pattern and not re.fullmatch(self.facts.pattern, str(value)):
            return f"{value!r:.60}: write {self.facts.form}"
        return None

    def checked(self, value: Any, name: str = "") -> Any:
        """Return a value as Python's own kind; ``None`` stays where that is the default.

        Args:
            value: given.
            name: what the option is called in the error; that of its field otherwise.

        Raises:
            UsageError: it does not fit.
        """
        if value is None and self.default is None:
            return None
        problem = self.problem(value)
        if problem is not None:
            raise UsageError(f"{name or self.field} {problem}")
        return self._plain(value)

    def _plain(self, value: Any) -> Any:
        """Return a value that fits as Python's own kind."""
        match self.kind:
            case Kind.INTEGER:
                return operator.index(value)
            case Kind.NUMBER:
                return float(value)
            case Kind.PATH:
                return Path(value)
            case Kind.ARRAY:
                return tuple(value)
            case Kind.OBJECT:
                return {key: setting_text(item) for key, item in value.items()}
            case _:
                return value

    def _number_problem(self, value: Any) -> str | None:
        whole = self.kind is Kind.INTEGER
        # Numbers of NumPy are numbers, too; a truth value is none, and 4.0 is no whole one.
        if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
            return f"must be {'a whole number' if whole else 'a number'}, not {_said(value)}"
        if not whole and not _is_finite(value):
            return f"must be a finite number, not {_said(value)}"
        low, beyond, because = self.facts.least, self.facts.beyond, self.facts.because
        if low is not None and (value <= low if beyond else value < low):
            bound = f"{'more than' if beyond else 'at least'} {low:g}"
            return f"must be {bound}, not {_said(value)}" + (f": {because}" if because else "")
        return None


def setting_text(value: str | float) -> str:
    """Return the value of an option of a pass as a pipeline writes it: ``true`` for ``True``, ``8`` for 8."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def setting_problem(value: object) -> str | None:
    """Say why a value is none of an option of a pass."""
    if not isinstance(value, str | int | float):
        return f"must be a string, a number, true or false, not {_said(value)}"
    return None if isinstance(value, str) or _is_finite(value) else f"must be a finite number, not {value}"


def _settings_problem(values: object) -> str | None:
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        return f"must be a dictionary, {{'PASS.OPTION': value}}, not {_said(values)}"
    problems = ((key, setting_problem(value)) for key, value in values.items())
    return next((f"hold {key}, which {problem}" for key, problem in problems if problem), None)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _said(value: object) -> str:
    """Return a short form of anything."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # a whole number of thousands of digits
        return f"this {type(value).__name__}"
    return text if len(text) <= 40 else f"this {type(value).__name__}"


def option(default: Any, text: str, meaning: str = "", **facts: Any) -> Any:
    """Return a field of a table of options.

    Args:
        default: what the option is where it is not given.
        text: for ``--help``.
        meaning: one line for files; see :class:`Facts`, as for everything else.
        **facts: of the same.
    """
    metadata = {"facts": Facts(text, meaning, **facts)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def options_of(table: type[Any]) -> dict[str, Option]:
    """Return every option of a table by the name of its field, in order."""
    hints = typing.get_type_hints(table)
    return {
        item.name: Option(
            item.name,
            _kind(hints[item.name]),
            item.default if item.default_factory is MISSING else item.default_factory(),
            item.metadata["facts"],
        )
        for item in fields(table)
    }


def _kind(hint: Any) -> Kind:
    """Return the kind of a type, with or without ``None``."""
    if isinstance(hint, UnionType):
        (hint,) = (each for each in typing.get_args(hint) if each is not type(None))
    return _KINDS[typing.get_origin(hint) or hint]
