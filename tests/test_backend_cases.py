"""The test cases of the onnx package: of what `snnc ops` lists, none is read wrongly, and none crashes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.corpus import backend_cases
from snnc.diagnostics import CODES
from snnc.frontend import SourceModel
from snnc.frontend.operators import OPERATORS

ROOT = Path(__file__).parent.parent
FIRST, EVERY = 16, 5
"""Of an operator that `snnc ops` lists so many cases are judged here, and each fifth of those behind them."""
ALIKE = {"Attention": 20, "LayerNormalization": 8}
"""Of operators whose cases differ in axes and numbers alone, each of so many behind the first."""
OTHERS = 47
"""Of functions written out and of operators that are not supported, each of so many."""


def chosen() -> Iterator[backend_cases.Case]:
    """Yield the cases that are judged here; the page judges all."""
    seen: Counter[str] = Counter()

    def wanted(group: str) -> bool:
        claimed = group in backend_cases.CLAIMED or group in backend_cases.KINDS
        counted, every = (group, ALIKE.get(group, EVERY)) if claimed else ("", OTHERS)
        seen[counted] += 1
        return (claimed and seen[counted] <= FIRST) or seen[counted] % every == 0

    return backend_cases.cases(wanted)


@pytest.fixture(scope="module")
def kinds() -> dict[str, set[str]]:
    """The kinds of operations of the networks that were read, by the names of their cases."""
    return {}


@pytest.fixture(scope="module")
def verdicts(kinds: dict[str, set[str]]) -> list[backend_cases.Verdict]:
    def read(case: backend_cases.Case) -> SourceModel:
        source = backend_cases.read(case)
        kinds[case.name] = {type(item).__name__ for item in source.graph}
        return source

    return [backend_cases.judge(case, read) for case in chosen()]


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


def test_the_table_says_what_becomes_of_an_operator(
    verdicts: list[backend_cases.Verdict], kinds: dict[str, set[str]]
) -> None:
    """What is called exact makes no neurons."""
    neurons = {"exact": set[str](), "approximated": {"Relu"}, "host": {"Softmax"}}
    for verdict in verdicts:
        operator = OPERATORS.get(verdict.case.group)
        if operator is not None and verdict.result == backend_cases.PASSED:
            found = kinds[verdict.case.name] & {"Relu", "Softmax"}
            assert found <= neurons[operator.spiking], verdict.case.name
