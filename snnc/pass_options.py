"""The text form of one pass: its name and its options, ``clip-activations{method=mse,levels=2}``."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from snnc.errors import SnncError, UsageError

if TYPE_CHECKING:
    from snnc.pipeline import AnyPass

    Table: TypeAlias = Mapping[str, Callable[[], type[AnyPass]]]
    """Pass name -> loader of its class."""

_V = TypeVar("_V")

RENAMED = {("compensate", "spread"): "variance-restoration"}
"""Former names of options, by pass: they work for one release, with a warning where a user writes them."""

RENAMED_VALUES = {("set-schedule", "kind", "barrier"): "layerwise"}
"""Former words for values of options, by pass and option, likewise."""


def once(items: Iterable[tuple[str, _V]], what: str) -> dict[str, _V]:
    """Return names with their values, and refuse a name that is given twice, hyphens and underscores alike.

    Raises:
        UsageError: naming it.
    """
    found: dict[str, _V] = {}
    for name, value in items:
        plain = name.replace("_", "-")
        if plain in found:
            raise UsageError(f"{what} {plain} is given twice: leave one of them out")
        found[plain] = value
    return found


def format_pass(item: AnyPass) -> str:
    """Return the text form of one pass: its name, and the options that differ from the default."""
    options = []
    for option in dataclasses.fields(item):  # type: ignore[arg-type]
        value = getattr(item, option.name)
        if value != option.default:
            options.append(f"{option.name.replace('_', '-')}={_format_value(value)}")
    return f"{item.name}{{{','.join(options)}}}" if options else item.name


def make_pass(name: str, options: Mapping[str, str], table: Table) -> AnyPass:
    """Make one pass from its name and the text of its options.

    Raises:
        UsageError: unknown pass or option, or a value of the wrong type.
    """
    if name not in table:
        raise UsageError(f"unknown pass {name!r}; known: {', '.join(sorted(table))}")
    kind = table[name]()
    given = once(options.items(), f"the option {name}")
    arguments = dict(_option(kind, key, value) for key, value in given.items())
    return checked(name, lambda: kind(**arguments))


def with_text(item: AnyPass, option: str, text: str) -> AnyPass:
    """Return a pass with another value of an option, as its text form has it.

    Raises:
        UsageError: the pass has no such option, or it does not take the value.
    """
    name, value = _option(type(item), option, text)
    return with_values(item, {name: value})


def with_values(item: AnyPass, values: Mapping[str, Any]) -> AnyPass:
    """Return a pass with other values of options, by the names of its fields.

    Raises:
        UsageError: the pass has no such option, or it does not take a value.
    """
    known = [option.name for option in dataclasses.fields(item)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise _unknown(type(item), name, known)
    return checked(item.name, lambda: dataclasses.replace(item, **values))  # type: ignore[type-var]


def checked(name: str, make: Callable[[], AnyPass]) -> AnyPass:
    """Make a pass, and name it in the error where its options are refused.

    Raises:
        UsageError: they are.
    """
    try:
        return make()
    except (SnncError, ValueError) as error:
        raise UsageError(f"pass {name!r}: {error}") from error


def read_options(name: str, text: str) -> dict[str, str]:
    """Read what stands in the braces behind a pass.

    Args:
        name: of the pass, for the error.
        text: options separated by commas, ``key=value``.

    Raises:
        UsageError: it cannot be read, or an option is given twice.
    """
    return once((_split_option(o) for o in text.split(",") if o.strip()), f"the option {name}")


def _split_option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"cannot read the option {text!r}: write key=value")
    return key.strip(), value.strip()


def _option(kind: type[AnyPass], key: str, text: str) -> tuple[str, Any]:
    key = key.replace("_", "-")
    key = RENAMED.get((kind.name, key), key)
    text = RENAMED_VALUES.get((kind.name, key, text), text)
    name = key.replace("-", "_")
    known = [option.name for option in dataclasses.fields(kind)]  # type: ignore[arg-type]
    if name not in known:
        raise _unknown(kind, key, known)
    return name, _parse_value(f"{kind.name}.{key}", typing.get_type_hints(kind)[name], text)


def former_names(pipeline: object, settings: Iterable[tuple[str, str]]) -> list[str]:
    """Return what a user should write instead of former names.

    Args:
        pipeline: text form of a pipeline; one that is none holds no former names.
        settings: single options, ``("compensate.spread", "0.7")``.
    """
    written = [
        (name, *(part.strip() for part in option.partition("=")[::2]))
        for name, options in re.findall(
            r"([a-z0-9-]+)\s*\{([^{}]*)\}", pipeline if isinstance(pipeline, str) else ""
        )
        for option in options.split(",")
    ]
    written += [(*key.partition(".")[::2], text) for key, text in settings]
    found = []
    for name, option, text in written:
        key = option.replace("_", "-")
        if (new := RENAMED.get((name, key))) is not None:
            found.append(f"the option {name}.{key} is now called {name}.{new}")
        if (word := RENAMED_VALUES.get((name, key, text))) is not None:
            found.append(f"{name}.{key}={text} is now called {name}.{key}={word}")
    return found


def _unknown(kind: type[AnyPass], option: str, known: Iterable[str]) -> UsageError:
    options = ", ".join(sorted(name.replace("_", "-") for name in known)) or "none"
    return UsageError(f"pass {kind.name!r} has no option {option!r}; it has {options}")


def _parse_value(where: str, kind: Any, text: str) -> Any:
    choices = [c for c in typing.get_args(kind) if c is not type(None)]
    if type(None) in typing.get_args(kind):
        if text == "none":
            return None
        kind = choices[0]
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if isinstance(kind, type) and issubclass(kind, Enum):
            return kind(text)
        value = kind(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(text)
        return value
    except (KeyError, ValueError, OverflowError):
        expected = (
            "|".join(m.value for m in kind)
            if isinstance(kind, type) and issubclass(kind, Enum)
            else {bool: "true|false", float: "a finite number", int: "an integer"}.get(kind, kind.__name__)
        )
        raise UsageError(f"{where}={text}: expected {expected}") from None


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    return "none" if value is None else str(value)
