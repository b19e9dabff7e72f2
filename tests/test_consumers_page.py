"""The page of consumers: what could not run on this machine stands as it was measured last."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks" / "consumers"

BEFORE = """## The C bundle

`verify_c99.py`, run on 23 November 2026.

| consumer | bundle | network | compared | result |
|---|---|---|---|---|
| gcc -O2 (12) | c99 | residual | outputs on 8 images | bit-exact |
| clang -O2 (14.0.6) | c99 | residual | outputs on 8 images | bit-exact |
| gcc -m32 (12) | c99 | residual | | left out: no C library |

| network | RAM | flash | fits into |
|---|---|---|---|
| residual | 451,632 B | 182,680 B | STM32L4R5ZI |
| graded | 755,952 B | 187,732 B | none |"""

POORER = """
| consumer | bundle | network | compared | result |
|---|---|---|---|---|
| gcc -O2 (13.1) | c99 | residual | outputs on 8 images | WRONG |
| clang -O2 | c99 | residual | | left out: no clang |
| gcc -m32 | c99 | residual | | left out: no C library |
| clang -O2 | c99 | layerwise | | left out: no clang |

| network | RAM | flash | fits into |
|---|---|---|---|
| residual | 451,632 B | left out: no arm-none-eabi-gcc | STM32L4R5ZI |
| graded | 700,000 B | left out: no arm-none-eabi-gcc | none |
"""


@pytest.fixture(scope="module")
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_all", FOLDER / "verify_all.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_a_poorer_machine_keeps_what_was_measured(page: ModuleType) -> None:
    lines = page.with_last_measured(POORER, BEFORE).splitlines()
    assert "| gcc -O2 (13.1) | c99 | residual | outputs on 8 images | WRONG |" in lines
    exact = "bit-exact (on 23 November 2026)"
    assert f"| clang -O2 (14.0.6) | c99 | residual | outputs on 8 images | {exact} |" in lines
    assert "| gcc -m32 | c99 | residual | | left out: no C library |" in lines, "it never was measured"
    assert "| clang -O2 | c99 | layerwise | | left out: no clang |" in lines, "of another network"
    assert "| residual | 451,632 B | 182,680 B | STM32L4R5ZI (on 23 November 2026) |" in lines
    assert "| graded | 700,000 B | left out: no arm-none-eabi-gcc | none |" in lines, "of other code"


def test_the_day_stays_that_of_the_measurement(page: ModuleType) -> None:
    once = page.section(FOLDER / "verify_c99.py", POORER, BEFORE)
    again = page.section(FOLDER / "verify_c99.py", POORER, once)
    assert again == once
    assert page.section(FOLDER / "verify_c99.py", BEFORE, again).endswith(BEFORE)
