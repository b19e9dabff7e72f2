"""What a sweep is about: networks, presets, steps, settings and rows, from a TOML file or from options.

``python -m snnc.sweep.plan schema`` prints the JSON Schema of the file, which is kept in
``docs/sweep.schema.json``, and ``python -m snnc.sweep.plan table`` the table of its keys in
``docs/cluster.md``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snnc.conversion_options import Options
from snnc.errors import InputError, UsageError
from snnc.metrics.task import as_task
from snnc.models import PREFIX
from snnc.option_files import check_keys, read_toml, settings_of, tables_problem
from snnc.options import OPTIONS

STRING: Mapping[str, Any] = {"type": "string"}
STRINGS: Mapping[str, Any] = {"type": "array", "items": STRING, "minItems": 1}
TABLE: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "additionalProperties": {"type": ["string", "number", "boolean"]},
    },
}

KEYS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "models": (STRINGS, "the networks: paths, or `zoo:NAME`"),
    "network": (
        {"type": "array", "items": {"type": "object"}, "minItems": 1},
        "networks with rows of their own: tables with `model`, and `calib`, `data` or `preprocess`",
    ),
    "presets": (STRINGS, "names of fixed pipelines; without, preset and steps are chosen for each network"),
    "pipelines": (STRINGS, "text forms of pipelines, beside the presets"),
    "timesteps": (
        {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1},
        "values of T; without, the number of steps is chosen, or 4 with a pipeline",
    ),
    "set": (
        {"type": "array", "items": TABLE, "minItems": 1},
        "variants of the options of single passes: tables as for `convert`; an empty one for none",
    ),
    "calib": (STRING, "the calibration rows, as for `convert`"),
    "data": (STRINGS, "labelled rows to measure on; for a network of the zoo, its own test rows by default"),
    "limit": ({"type": "integer", "minimum": 1}, "use only so many rows of each"),
    "metrics": (STRINGS, "metrics beside those of the task: see docs/metrics.md"),
    "backend": ({"type": "string", "enum": ["numba", "onnx", "reference"]}, "the simulator"),
    "preprocess": (STRING, "the preprocessing of raw rows: a JSON file, or a preset of them"),
    "precision": ({"type": "string", "enum": list(OPTIONS["precision"].facts.choices)}, "of the weights"),
    "seed": ({"type": "integer", "minimum": 0}, "of every random choice"),
    "task": ({"type": "string", "enum": list(OPTIONS["task"].facts.choices)}, "the kind of the outputs"),
    "host": ({"type": "string", "enum": list(OPTIONS["host"].facts.choices)}, "where ordinary ONNX may run"),
    "rows-layout": ({"type": "string", "enum": list(OPTIONS["rows_layout"].facts.choices)}, "of the rows"),
}
"""The keys of the file: what a value may be, and what it means."""

OWN: Mapping[str, Mapping[str, Any]] = {
    "model": STRING,
    "calib": STRING,
    "data": STRINGS,
    "preprocess": STRING,
}
"""The keys of a table `network`."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the file."""
    properties = {name: {**form, "description": meaning} for name, (form, meaning) in KEYS.items()}
    properties["network"]["items"] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["model"],
        "properties": OWN,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A sweep of snnc",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def table() -> str:
    """Return the keys of the file as a table in Markdown."""
    lines = ["| key of the file | value | meaning |", "|---|---|---|"]
    for name, (form, meaning) in KEYS.items():
        lines.append(f"| `{name}` | {_said_form(form)} | {meaning} |")
    return "\n".join(lines)


def _said_form(form: Mapping[str, Any]) -> str:
    if "enum" in form:
        return ", ".join(f"`{each}`" for each in form["enum"])
    if form["type"] == "array":
        return {"string": "strings", "integer": "integers ≥ 1"}.get(form["items"]["type"], "tables")
    return f"{form['type']} ≥ {form['minimum']}" if "minimum" in form else str(form["type"])


@dataclass(frozen=True, slots=True)
class Network:
    """A network of a sweep.

    Attributes:
        model: its path, or ``zoo:NAME``.
        calib: file of its calibration rows; ``None`` for the zoo's own.
        data: files of rows to measure on; empty for the zoo's own.
        preprocess: of raw rows; ``None`` for what the zoo or the rows bring.
    """

    model: str
    calib: Path | None = None
    data: tuple[Path, ...] = ()
    preprocess: Path | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One conversion, measured on one set of rows.

    Attributes:
        network: what is converted.
        options: how.
        data: the rows to measure on; ``None`` for the zoo's own.
    """

    network: Network
    options: Options
    data: Path | None

    @property
    def label(self) -> str:
        """What it is called beside others of the same network and rows."""
        options = self.options
        words = [options.preset or (str(options.pipeline) if options.pipeline else "chosen")]
        if options.timesteps is not None:
            words.append(f"T = {options.timesteps}")
        words += [f"{key} = {value}" for key, value in options.settings.items()]
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Plan:
    """A sweep: the product of all that it spans.

    Attributes:
        networks: what is converted.
        presets, pipelines: how; ``None`` among the presets where one is chosen.
        timesteps: T; ``None`` where it is chosen.
        settings: of single passes, one mapping for each variant.
        common: other options, by the names of :class:`snnc.conversion_options.Options`.
        limit: of the rows.
        metrics: that are measured beside those of the task.
        backend: the simulator.
        rows_layout: of the rows.
    """

    networks: tuple[Network, ...]
    presets: tuple[str | None, ...] = (None,)
    pipelines: tuple[str, ...] = ()
    timesteps: tuple[int | None, ...] = (None,)
    settings: tuple[Mapping[str, str], ...] = ({},)
    common: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    metrics: tuple[str, ...] = ()
    backend: str = "numba"
    rows_layout: str | None = None

    def __post_init__(self) -> None:
        """Refuse what spans nothing, or the same twice.

        Raises:
            UsageError: naming it.
        """
        if not self.networks:
            raise UsageError("a sweep needs networks: name them by `models`, or as MODEL on the command line")
        spans: Mapping[str, Sequence[Any]] = {
            "networks": [repr(each) for each in self.networks],
            "presets": self.presets,
            "pipelines": self.pipelines,
            "timesteps": self.timesteps,
            "set": [tuple(sorted(each.items())) for each in self.settings],
            "metrics": self.metrics,
        }
        for name, values in spans.items():
            twice = next((each for each in values if list(values).count(each) > 1), None)
            if twice is not None:
                raise UsageError(f"`{name}` of the sweep names {twice} twice: leave one of them out")
        for cell in self.cells():
            cell.options.alternatives()  # refuses what no network could be converted by

    def cells(self) -> Iterator[Cell]:
        """Yield all cells, in the order in which they are told."""
        ways: list[dict[str, Any]] = [{"preset": preset} for preset in self.presets]
        ways += [{"pipeline": pipeline} for pipeline in self.pipelines]
        for network in self.networks:
            for data in network.data or (None,):
                for way, steps, settings in itertools.product(ways, self.timesteps, self.settings):
                    options = Options(**way, timesteps=steps, settings=settings, **self.common)
                    yield Cell(network, options, data)


def read_plan(path: Path) -> dict[str, Any]:
    """Read the file of a sweep; relative paths in it are resolved against its folder.

    Raises:
        InputError: it is missing, not TOML, or holds an unknown key or a value that does not fit.
    """
    values = read_toml(path, "the sweep")
    _checked(values, {name: form for name, (form, _) in KEYS.items()}, f"the sweep {path}")
    for number, own in enumerate(values.get("network", [])):
        _checked(own, OWN, f"the sweep {path}, network {number + 1}")
        if "model" not in own:
            raise InputError(f"the sweep {path}, network {number + 1}: has no `model`")
    folder = path.parent
    for tables in (values, *values.get("network", [])):
        for name in ("calib", "preprocess"):
            if name in tables:
                tables[name] = _resolved(tables[name], folder)
        if "data" in tables:
            tables["data"] = [_resolved(each, folder) for each in tables["data"]]
        if "model" in tables:
            tables["model"] = _resolved(tables["model"], folder)
    if "models" in values:
        values["models"] = [_resolved(each, folder) for each in values["models"]]
    return values


def _resolved(name: str, folder: Path) -> str:
    return name if name.startswith((PREFIX, "preset:")) else str(folder / name)


def plan_of(values: Mapping[str, Any]) -> Plan:
    """Return the plan that the values of a file, or of options, describe.

    Raises:
        UsageError: they contradict each other, or name something twice.
    """

    def path(name: str | None) -> Path | None:
        return None if name is None else Path(name)

    def network(own: Mapping[str, Any]) -> Network:
        data = own.get("data", values.get("data", ()))
        return Network(
            own["model"],
            path(own.get("calib", values.get("calib"))),
            tuple(map(Path, data)),
            path(own.get("preprocess", values.get("preprocess"))),
        )

    networks = [network({"model": name}) for name in values.get("models", ())]
    networks += [network(own) for own in values.get("network", ())]
    variants = [settings_of(each, "the sweep's option") for each in values.get("set", ({},))]
    common = {name: values[name] for name in ("precision", "seed", "host") if name in values}
    if "task" in values:
        common["task"] = as_task(values["task"])
    pipelines = tuple(values.get("pipelines", ()))
    default: tuple[str | None, ...] = () if pipelines else (None,)
    return Plan(
        networks=tuple(networks),
        presets=tuple(values["presets"]) if "presets" in values else default,
        pipelines=pipelines,
        timesteps=tuple(values.get("timesteps", (None,))),
        settings=tuple(variants),
        common=common,
        limit=values.get("limit"),
        metrics=tuple(values.get("metrics", ())),
        backend=values.get("backend", "numba"),
        rows_layout=values.get("rows-layout"),
    )


_PLAIN: Mapping[str, tuple[tuple[type, ...], str]] = {
    "string": ((str,), "a string"),
    "integer": ((int,), "a whole number"),
    "object": ((dict,), "a table"),
    "array": ((list,), "a list"),
}


def _checked(values: Mapping[str, Any], forms: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Refuse unknown keys, and values that do not fit."""
    check_keys(values, forms, lambda name, value: _problem(value, forms[name]), where)


def _problem(value: Any, form: Mapping[str, Any]) -> str | None:
    """Say why a value does not have a form."""
    types, what = _PLAIN[form["type"]]
    if not _is_a(value, types):
        return f"must be {what}, not {value!r}"
    if "enum" in form and value not in form["enum"]:
        return f"must be one of {', '.join(form['enum'])}, not {value!r}"
    if "minimum" in form and value < form["minimum"]:
        return f"must be at least {form['minimum']}, not {value}"
    if form["type"] == "array":
        if not value:
            return "is empty: leave it out"
        found = (_problem(each, form["items"]) for each in value)
        return next((f"holds what {problem}" for problem in found if problem), None)
    return tables_problem(value) if form is TABLE else None


def _is_a(value: object, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)


if __name__ == "__main__":
    import sys

    import click

    click.echo(table() if sys.argv[1:] == ["table"] else json.dumps(schema(), indent=2))
