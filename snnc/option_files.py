"""Files of options in TOML: reading one, refusing what does not belong, and tables of options of passes."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from snnc.errors import InputError
from snnc.option_kinds import setting_problem, setting_text
from snnc.pass_options import once


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a file of TOML.

    Args:
        path: of the file.
        what: it is, for the message.

    Raises:
        InputError: it is missing, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{what} {path} is not TOML: {error}") from None


def check_keys(
    values: Mapping[str, Any],
    known: Collection[str],
    problem: Callable[[str, Any], str | None],
    where: str,
) -> None:
    """Refuse unknown keys, and values that do not fit.

    Args:
        values: of a file or of a table in it.
        known: the keys that may be there.
        problem: says why the value of a key does not fit, in words that follow the key.
        where: they stand, for the message.

    Raises:
        InputError: naming the first.
    """
    for name, value in values.items():
        if name not in known:
            raise InputError(f"{where} has the unknown key {name!r}; known: {', '.join(known)}")
        if (found := problem(name, value)) is not None:
            raise InputError(f"{where}: {name!r} {found}")


def tables_problem(tables: Mapping[str, Any]) -> str | None:
    """Say why a table of passes, each with a table of its options, does not fit."""
    for name, options in tables.items():
        if not isinstance(options, dict):
            return f"needs a table for the pass {name!r}: write {name}.OPTION = value"
        for key, value in options.items():
            if (problem := setting_problem(value)) is not None:
                return f"holds {name}.{key}, which {problem}"
    return None


def settings_of(tables: Mapping[str, Any], what: str) -> dict[str, str]:
    """Return a table of passes as ``--set`` would give it, ``{"PASS.OPTION": "value"}``; flat keys stay.

    Args:
        tables: of passes.
        what: an option of them is called in the message.

    Raises:
        UsageError: an option is given twice.
    """
    pairs: list[tuple[str, Any]] = []
    for name, options in tables.items():
        if isinstance(options, Mapping):
            pairs += [(f"{name}.{option}", value) for option, value in options.items()]
        else:
            pairs.append((name, options))
    return once(((key, setting_text(value)) for key, value in pairs), what)
