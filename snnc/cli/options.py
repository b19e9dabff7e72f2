"""Options of the command line, made from the table of the options of a conversion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from snnc.cli.quantities import FiniteRange, Threads
from snnc.errors import UsageError
from snnc.option_kinds import Kind, Option
from snnc.options import OPTIONS

Command = TypeVar("Command", bound=Callable[..., Any])


def parameters() -> list[click.Parameter]:
    """Return all options of the table, in its order."""
    return [click.Option(_spellings(option), **_attributes(option)) for option in OPTIONS.values()]


def option_of(field: str, text: str | None = None) -> Callable[[Command], Command]:
    """Return the decorator that adds one option of the table to another verb, which has it too.

    Args:
        field: its name in Python.
        text: its help, where the verb does something else than a conversion.
    """
    option = OPTIONS[field]
    attributes = _attributes(option)
    return click.option(*_spellings(option), **(attributes if text is None else {**attributes, "help": text}))


def setting(text: str) -> tuple[str, str]:
    """Read ``PASS.OPTION=VALUE``.

    Raises:
        UsageError: it is of another form.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: write PASS.OPTION=VALUE")
    return key.strip(), value.strip()


def _spellings(option: Option) -> list[str]:
    return [*filter(None, (option.facts.short,)), f"--{option.name}", option.field]


def _attributes(option: Option) -> dict[str, Any]:
    facts = option.facts
    found: dict[str, Any] = {
        "help": facts.help,
        "metavar": facts.metavar,
        "show_default": facts.show_default,
    }
    if option.kind is Kind.FLAG:
        return {**found, "is_flag": True}
    if option.kind in (Kind.ARRAY, Kind.OBJECT):
        return {**found, "multiple": True}
    return {**found, "type": _type(option), "default": option.default}


def _type(option: Option) -> click.ParamType[Any]:
    match option.kind:
        case Kind.INTEGER:
            return Threads() if option.field == "threads" else _Whole(option)
        case Kind.NUMBER:
            return _Number(option)
        case Kind.PATH:
            return click.Path(path_type=Path)
        case _:
            return click.Choice(option.facts.choices) if option.facts.choices else click.STRING


class _Whole(click.IntRange):
    """A whole number that the table allows; click's range tells it in the help."""

    def __init__(self, option: Option) -> None:
        super().__init__(option.facts.least, min_open=option.facts.beyond)
        self.option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return _allowed(self, click.INT.convert(value, param, ctx), param, ctx)


class _Number(FiniteRange):
    """The same for any finite number."""

    def __init__(self, option: Option) -> None:
        super().__init__(option.facts.least, min_open=option.facts.beyond)
        self.option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return _allowed(self, click.FLOAT.convert(value, param, ctx), param, ctx)


def _allowed(
    kind: _Whole | _Number, number: Any, param: click.Parameter | None, ctx: click.Context | None
) -> Any:
    problem = kind.option.problem(number)
    if problem is not None:
        kind.fail(problem, param, ctx)
    return number
