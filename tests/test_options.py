"""The options of a conversion: one table, the same rules on the command line, in a file and in Python."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import snnc
from snnc.budget.candidates import Budget
from snnc.cli.config import read_config, table
from snnc.cli.convert import command
from snnc.cli.terminal import Terminal
from snnc.compiler import Options
from snnc.errors import InputError, SnncError, UsageError
from snnc.metrics import Task
from snnc.option_kinds import Kind, Option
from snnc.options import OPTIONS, TASKS, ConvertOptions
from snnc.passes import PRESETS

ROOT = Path(__file__).parent.parent

NUMBERS = [option for option in OPTIONS.values() if option.kind in (Kind.INTEGER, Kind.NUMBER)]
IN_BUDGET = {"max_latency": "latency", "max_synops": "synops", "max_drop": "drop"}

anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 10**400, -(10**5000), -0.0, 1e-300])
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.text(max_size=3) | st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3) | st.integers(), st.floats() | st.text(max_size=3), max_size=2)
)


def accepts(call: Callable[..., Any], **values: Any) -> bool:
    try:
        call(**values)
    except SnncError as error:
        told = str(error)
    else:
        return True
    assert "\n" not in told
    return False


@given(option=st.sampled_from(list(OPTIONS.values())), value=anything)
def test_a_value_is_accepted_by_all_of_python_or_by_none(option: Option, value: Any) -> None:
    fits = (value is None and option.default is None) or option.problem(value) is None
    assert accepts(ConvertOptions, **{option.field: value}) == fits
    if option.field in {item.name for item in fields(Options)}:
        assert accepts(Options, **{option.field: value}) == fits
    if option.field in IN_BUDGET:
        assert accepts(Budget, **{IN_BUDGET[option.field]: value}) == fits


@given(option=st.sampled_from(NUMBERS), value=st.floats() | st.integers())
def test_a_number_that_is_accepted_is_finite_and_in_range(option: Option, value: float) -> None:
    try:
        found = option.checked(value)
    except UsageError:
        return
    assert type(found) is (int if option.kind is Kind.INTEGER else float)
    assert math.isfinite(found)
    assert found == value
    assert option.facts.least is not None
    assert found >= option.facts.least
    assert found > option.facts.least or not option.facts.beyond


def asked(*arguments: str) -> tuple[str, dict[str, Any]]:
    """Return why the command line is refused, or else what it asks for."""
    terminal = Terminal()
    try:
        return "", command.make_context("convert", ["model.onnx", *arguments], obj=terminal).params
    except click.UsageError as error:
        return error.format_message(), {}
    finally:
        terminal.close()


def in_file(folder: Path, text: str) -> dict[str, Any]:
    path = folder / "snnc.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


@given(option=st.sampled_from(NUMBERS), value=st.floats() | st.integers(-(2**60), 2**60))
def test_command_line_and_file_follow_the_table(
    option: Option, value: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fits = option.problem(value) is None
    told, values = asked(f"--{option.name}={value}")
    assert fits != bool(told)
    if fits and option.field != "threads":  # of more threads than cores some would only wait
        assert values[option.field] == value
    folder = tmp_path_factory.getbasetemp()
    if fits:
        assert in_file(folder, f"{option.name} = {value!r}") == {option.name: value}
    else:
        with pytest.raises(InputError, match=f"'{option.name}' must be "):
            in_file(folder, f"{option.name} = {value!r}")


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, True, "4", [4]])
def test_what_is_no_number_in_range_is_refused_everywhere(option: Option, value: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{option.field} must be "):
        option.checked(value)
    with pytest.raises(UsageError, match=f"{option.field} must be "):
        ConvertOptions(**{option.field: value})
    with pytest.raises(InputError, match=f"'{option.name}' must be "):
        in_file(tmp_path, f"{option.name} = {json.dumps(value) if isinstance(value, bool | str) else value}")
    if isinstance(value, float | int) and not isinstance(value, bool):
        told, _ = asked(f"--{option.name}={value}")
        assert f"--{option.name}" in told


def test_numbers_of_numpy_are_numbers() -> None:
    found = ConvertOptions(timesteps=np.int64(4), max_drop=np.float32(0.5), seed=np.uint8(3))  # type: ignore[arg-type]
    assert (found.timesteps, found.max_drop, found.seed) == (4, 0.5, 3)
    assert (type(found.timesteps), type(found.max_drop), type(found.seed)) == (int, float, int)


SAMPLES = {Kind.INTEGER: "4", Kind.NUMBER: "0.5", Kind.STRING: "word", Kind.PATH: "file"}


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_an_option_given_twice_is_refused(option: Option, tmp_path: Path) -> None:
    if option.kind in SAMPLES:
        value = option.facts.choices[0] if option.facts.choices else SAMPLES[option.kind]
        spellings = [f"--{option.name}", *filter(None, [option.facts.short])]
        for first in spellings:
            for second in spellings:
                told, _ = asked(first, value, second, value)
                assert f"--{option.name} is given twice" in told
        assert asked(f"--{option.name}", value)[0] == ""
    if option.in_file:
        with pytest.raises(InputError, match="is not TOML"):
            in_file(tmp_path, f"{option.name} = 1\n{option.name} = 1")


def test_a_metric_limited_twice_is_refused() -> None:
    from snnc.cli.judging import floors

    with pytest.raises(UsageError, match="--min-metric r2 is given twice"):
        floors(["r2=0.5", "sqnr=3", "r2=0.6"])


def test_the_python_interface_has_the_defaults_of_the_table() -> None:
    for item in fields(Options):
        option = OPTIONS[item.name]
        assert (item.default == option.default) or option.kind is Kind.OBJECT
    given = inspect.signature(snnc.convert).parameters
    apart = {"model", "calibration", "preprocessing", "progress"}
    assert set(given) - apart == {item.name for item in fields(Options)} - {"journal"}
    for name in set(given) - apart:
        assert given[name].default == (None if name == "settings" else OPTIONS[name].default)
    assert {task.value for task in Task} == set(TASKS)


def test_the_documentation_has_the_table() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert table() in page, "put what python -m snnc.cli.config table prints into docs/cli.md"
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    arguments = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert set(inspect.signature(snnc.convert).parameters) - {"model", "calibration"} <= set(arguments)


def test_the_command_line_has_every_option_of_the_table() -> None:
    options = {param.name: param for param in command.params if isinstance(param, click.Option)}
    for option in OPTIONS.values():
        param = options[option.field]
        assert f"--{option.name}" in param.opts
        assert param.help == option.facts.help
        assert option.facts.help.endswith(".")
    for name in PRESETS:
        assert name in OPTIONS["preset"].facts.help or not PRESETS.is_own(name)
