"""The test cases of the onnx package: of what `snnc ops` lists, none is read wrongly, and none crashes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.corpus import backend_cases
from snnc.diagnostics import CODES
from snnc.frontend.operators import OPERATORS

ROOT = Path(__file__).parent.parent
EVERY = 12
"""Of functions written out and of operators that are not supported, each twelfth case is judged here."""

MANY = frozenset({"Attention"})
"""Operators of more than a thousand cases, of which each twelfth is judged here, too."""


@pytest.fixture(scope="module")
def verdicts() -> list[backend_cases.Verdict]:
    found = []
    others = 0
    for case in backend_cases.cases():
        known = case.group in backend_cases.CLAIMED or case.group in backend_cases.KINDS
        if not known or case.group in MANY:
            others += 1
            if others % EVERY:
                continue
        found.append(backend_cases.judge(case))
    return found


def test_every_case_is_right_or_refused_with_a_code(verdicts: list[backend_cases.Verdict]) -> None:
    faults = [f"{verdict.case.name}: {verdict.reason}" for verdict in verdicts if verdict.is_fault]
    assert not faults
    assert {verdict.result for verdict in verdicts} <= {backend_cases.PASSED, *CODES}


def test_that_means_something(verdicts: list[backend_cases.Verdict]) -> None:
    passed = {verdict.case.group for verdict in verdicts if verdict.result == backend_cases.PASSED}
    assert {"Conv", "MaxPool", "AveragePool", "Gemm", "Relu", "Split", "Transpose", "ReduceSum"} <= passed
    (relu,) = [v.case for v in verdicts if v.case.group == "Relu" and v.case.name.endswith("one row")]
    wrong = replace(relu, expected=relu.expected + 1)
    assert backend_cases.judge(wrong).result == backend_cases.WRONG


def test_the_page_lists_every_operator() -> None:
    page = (ROOT / "docs" / "backend_cases.md").read_text(encoding="utf-8")
    cure = "run python -m benchmarks.corpus.backend_cases --report docs/backend_cases.md"
    missing = [name for name in backend_cases.CLAIMED if f"| {name} |" not in page and f" {name}" not in page]
    assert not missing, cure


def test_the_table_says_what_becomes_of_an_operator(verdicts: list[backend_cases.Verdict]) -> None:
    """What is called exact makes no neurons."""
    neurons = {"exact": set[str](), "approximated": {"Relu"}, "host": {"Softmax"}}
    for verdict in verdicts:
        operator = OPERATORS.get(verdict.case.group)
        if operator is None or verdict.result != backend_cases.PASSED:
            continue
        kinds = {type(item).__name__ for item in backend_cases.read(verdict.case).graph}
        assert kinds & {"Relu", "Softmax"} <= neurons[operator.spiking], verdict.case.name
