"""The configuration file of ``snnc convert``: TOML, each key an option, unknown keys refused.

``python -m snnc.cli.config schema`` prints its JSON Schema, which is kept in ``docs/config.schema.json``, and
``python -m snnc.cli.config table`` the table of its keys in ``docs/cli.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snnc.option_files import check_keys, read_toml, tables_problem
from snnc.option_kinds import Kind, Option
from snnc.options import OPTIONS, input_and_file

KEYS: Mapping[str, Option] = {option.name: option for option in OPTIONS.values() if option.in_file}
"""The keys of the file; the option of the same name takes precedence."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of snnc convert",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _schema_of(option) for name, option in KEYS.items()},
    }


def _schema_of(option: Option) -> dict[str, Any]:
    facts = option.facts
    kind = "string" if option.kind is Kind.PATH else option.kind.value
    found: dict[str, Any] = {"type": kind, "description": facts.meaning}
    if facts.least is not None:
        found["exclusiveMinimum" if facts.beyond else "minimum"] = facts.least
    if facts.choices:
        found["enum"] = list(facts.choices)
    if facts.pattern:
        found["pattern"] = f"^({facts.pattern})$"
    if option.kind is Kind.ARRAY:
        found["items"] = {"type": "string"}
    if option.kind is Kind.OBJECT:
        options = {"type": ["string", "number", "boolean"]}
        found["additionalProperties"] = {"type": "object", "additionalProperties": options}
    return found


def table() -> str:
    """Return the keys of the file as a table in Markdown."""
    words = {Kind.PATH: "path", Kind.ARRAY: "strings", Kind.OBJECT: "tables"}
    lines = ["| option, and key of the file | value | meaning | default |", "|---|---|---|---|"]
    for name, option in KEYS.items():
        facts = option.facts
        value = ", ".join(f"`{each}`" for each in facts.choices) or words.get(option.kind, option.kind.value)
        if facts.least is not None:
            value += f" {'>' if facts.beyond else '≥'} {facts.least:g}"
        default = f"`{option.default}`" if facts.show_default else ""
        lines.append(f"| `{name}` | {value} | {facts.meaning} | {default} |")
    return "\n".join(lines)


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file; relative paths in it are resolved against its folder.

    Raises:
        InputError: it is missing, not TOML, or holds an unknown key or a value that does not fit.
    """
    values = read_toml(path, "the configuration")
    check_keys(values, KEYS, lambda name, value: _problem(KEYS[name], value), f"the configuration {path}")
    return {name: _resolved(value, KEYS[name], path.parent) for name, value in values.items()}


def _problem(option: Option, value: Any) -> str | None:
    """Say why a value of the file does not fit: a table of passes has a table for each of them."""
    if option.kind is Kind.OBJECT and isinstance(value, dict):
        return tables_problem(value)
    return option.problem(value)


def _resolved(value: Any, option: Option, folder: Path) -> Any:
    if option.kind is not Kind.PATH:
        return value
    name, file = input_and_file(folder / value) if option.name == "preprocess" else (None, folder / value)
    if name is None:
        return str(file)
    name, file = input_and_file(Path(value))
    return f"{name}={folder / file}"


if __name__ == "__main__":
    import sys

    import click

    click.echo(table() if sys.argv[1:] == ["table"] else json.dumps(schema(), indent=2))
