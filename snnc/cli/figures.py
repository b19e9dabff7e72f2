"""Comparison of two reports that `report --json-file` wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnc.cli.quantities import lost, points


@dataclass(frozen=True)
class Figures:
    """What is compared of a report.

    Attributes:
        measured: ``accuracy``, ``agreement with the ANN`` where there are no labels, or a metric of numbers.
        value: of it.
        errors: squared error of every layer in the running network, relative to its power.
        verdict: cause and layer.
    """

    measured: str
    value: float
    errors: dict[str, float]
    verdict: str


def compare_reports(first: Path, second: Path) -> dict[str, Any]:
    """Return what both say, in the form of ``compare``.

    Raises:
        InputError: one is no report, or they measured different things.
    """
    from snnc.errors import InputError

    a, b = _report(first), _report(second)
    if a.measured != b.measured:
        raise InputError(
            f"one report measured {a.measured}, the other {b.measured}: make both on the same rows"
        )
    rows = [[name, 100 * error, 100 * b.errors[name]] for name, error in a.errors.items() if name in b.errors]
    shares = a.measured in SHARES
    drop = points(a.value - b.value) if shares else None
    text = f"{a.measured}: A {a.value:.4f}, B {b.value:.4f}."
    if drop is not None:
        text = f"{a.measured}: A {a.value:.2%}, B {b.value:.2%}, {lost(drop)}."
    return {
        "compared": "reports",
        "measured": a.measured,
        "a": a.value,
        "b": b.value,
        "drop_points": drop,
        "columns": ["error in A, %", "error in B, %"],
        "rows": rows,
        "text": f"{text} A: {a.verdict}; B: {b.verdict}.",
    }


SHARES = ("accuracy", "agreement with the ANN")
"""What is counted in points."""


def _report(path: Path) -> Figures:
    from snnc.errors import InputError
    from snnc.report.document import SCHEMA_VERSION

    try:
        found: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (RecursionError, ValueError):
        raise InputError(f"{path} is not JSON: write it by snnc report --json-file") from None
    try:
        if (version := found["schema_version"]) != SCHEMA_VERSION:
            raise InputError(f"{path} has the schema {version}, not {SCHEMA_VERSION}: upgrade snnc")
        verdict = found["verdict"]
        measured, value = _headline(found)
        figures = Figures(
            measured=measured,
            value=value,
            errors={layer["name"]: float(layer["cumulative"]["total"]) for layer in found["layers"]},
            verdict=f"{verdict['cause']} in {verdict['layer']}",
        )
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} is not a report, or damaged: write it by snnc report --json-file") from None
    if figures.measured in SHARES and not 0 <= figures.value <= 1:
        raise InputError(
            f"{path}: {figures.value} is not a share of rows; write it by snnc report --json-file"
        )
    return figures


def _headline(report: Any) -> tuple[str, float]:
    """Return what a report measured first, and its value."""
    accuracy = report["accuracy"]
    for name, key in (("accuracy", "snn"), ("agreement with the ANN", "agreement")):
        if accuracy[key] is not None:
            return name, float(accuracy[key]["value"])
    found = report["metrics"]["r2"]
    return f"r2 against the {found['against']}", float(found["value"])
