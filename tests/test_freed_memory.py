"""Memory of freed arrays stays with a process that asks for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from snnc.cli.freed_memory import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from snnc.cli.freed_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(50):
    np.zeros(1 << 20).fill(1)
    array = np.empty(6 << 20)
    array.fill(1)
    del array
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise ValueError(name)

    monkeypatch.setattr(os, "confstr", unknown)
    assert not keep_freed_memory()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has these settings")
def test_arrays_come_back_without_being_cleared() -> None:
    if not os.confstr("CS_GNU_LIBC_VERSION"):
        pytest.skip("glibc alone has these settings")
    found = {}
    for how in ("keep", "leave"):
        run = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        found[how] = int(run.stdout)
    assert found["keep"] < 0.5 * found["leave"]
