"""The configuration file of ``snnc convert``: TOML, each key an option, unknown keys refused.

``python -m snnc.cli.config`` prints its JSON Schema, which is kept in ``docs/config.schema.json``.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnc.errors import InputError
from snnc.pass_options import once


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file.

    Attributes:
        name: as in the file; the option of the same name takes precedence.
        kind: JSON type.
        meaning: one line.
        least: lower bound of a number, if it has one.
        choices: allowed words, if they are few.
        is_path: whether a relative value starts at the file's own folder.
    """

    name: str
    kind: str
    meaning: str
    least: float | None = None
    choices: tuple[str, ...] = ()
    is_path: bool = False

    def schema(self) -> dict[str, Any]:
        """Return the key's JSON Schema."""
        found: dict[str, Any] = {"type": self.kind, "description": self.meaning}
        if self.least is not None:
            found["minimum"] = self.least
        if self.choices:
            found["enum"] = list(self.choices)
        if self.kind == "array":
            found["items"] = {"type": "string"}
        if self.kind == "object":
            options = {"type": ["string", "number", "boolean"]}
            found["additionalProperties"] = {"type": "object", "additionalProperties": options}
        return found

    def problem(self, value: Any) -> str | None:
        """Say why a value does not fit."""
        kinds: dict[str, tuple[type, ...]] = {
            "integer": (int,),
            "number": (int, float),
            "string": (str,),
            "object": (dict,),
            "array": (list,),
        }
        if type(value) not in kinds[self.kind]:  # true and false are no numbers here
            return f"must be of type {self.kind}, not {value!r}"
        if self.kind == "number" and not math.isfinite(value):
            return f"must be a finite number, not {value!r}"
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            return f"must be a list of strings, not {value!r}"
        if self.least is not None and not isinstance(value, list) and value < self.least:
            return f"must be at least {self.least:g}, not {value}"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}, not {value!r}"
        return _table_problem(value) if isinstance(value, dict) else None


def _table_problem(table: Mapping[str, Any]) -> str | None:
    """Say why a table is not one of passes and their options."""
    for name, options in table.items():
        if not isinstance(options, dict):
            return f"needs a table for the pass {name!r}: write {name}.OPTION = value"
        for option, item in options.items():
            if not isinstance(item, str | int | float | bool):
                return f"holds {name}.{option}, which must be a string, a number, true or false"
    return None


KEYS = (
    Key("calib", "string", "an .npz file with calibration rows `x`", is_path=True),
    Key("timesteps", "integer", "T, the number of steps", least=1),
    Key("preset", "string", "name of a fixed pipeline"),
    Key("pipeline", "string", "text of a pipeline, instead of a preset"),
    Key("set", "object", "options of single passes: PASS.OPTION = value"),
    Key("preprocess", "string", "a JSON file with the preprocessing of raw rows", is_path=True),
    Key("rows-layout", "string", "layout of the rows", choices=("NCHW", "NHWC", "NCL", "NLC")),
    Key("precision", "string", "precision of weights and potentials", choices=("int8", "float32")),
    Key("seed", "integer", "seed of every random choice", least=0),
    Key("max-drop", "number", "largest loss in points that is accepted", least=0),
    Key("min-metric", "array", "the least of metrics: NAME=VALUE, such as r2=0.99"),
    Key("task", "string", "what the outputs are", choices=("classes", "binary", "regression")),
    Key("max-latency", "integer", "a budget: steps from input to answer"),
    Key("max-synops", "number", "a budget: synaptic operations divided by the source network's MACs"),
    Key("payload", "string", "a budget: binary, signed or levels:M"),
    Key("threads", "integer", "threads at most", least=1),
)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of snnc convert",
        "type": "object",
        "additionalProperties": False,
        "properties": {key.name: key.schema() for key in KEYS},
    }


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file; relative paths in it are resolved against its folder.

    Raises:
        InputError: it is missing, not TOML, or holds an unknown key or a value that does not fit.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"the configuration {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"the configuration {path} is not TOML: {error}") from None
    known = {key.name: key for key in KEYS}
    for name, value in values.items():
        if name not in known:
            raise InputError(
                f"the configuration {path} has the unknown key {name!r}; known: {', '.join(known)}"
            )
        problem = known[name].problem(value)
        if problem is not None:
            raise InputError(f"the configuration {path}: {name!r} {problem}")
    return {name: _resolved(value, known[name], path.parent) for name, value in values.items()}


def _resolved(value: Any, key: Key, folder: Path) -> Any:
    return str(folder / value) if key.is_path else value


def settings_of(table: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the ``set`` table as ``--set`` would give it: ``{"PASS.OPTION": "value"}``."""
    texts = (
        (f"{name}.{option}", str(value).lower() if isinstance(value, bool) else str(value))
        for name, options in table.items()
        for option, value in options.items()
    )
    return once(texts, "the configuration's option")


if __name__ == "__main__":
    import click

    click.echo(json.dumps(schema(), indent=2))
