"""Compilers and consumers that do not come to an end."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from snnc.backends import load_backend
from snnc.backends.akida import backend as akida
from snnc.backends.c99 import backend as c99
from snnc.backends.loihi import backend as loihi
from snnc.errors import UsageError
from snnc.target import Golden


@pytest.mark.skipif(os.name != "posix", reason="the program is a shell script")
@pytest.mark.parametrize(
    ("target", "module", "variable"),
    [("c99", c99, "CC"), ("akida", akida, "AKIDA_PYTHON"), ("loihi", loihi, "LAVA_PYTHON")],
)
def test_a_program_that_takes_too_long_is_stopped(
    target: str, module: ModuleType, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n", encoding="ascii")
    slow.chmod(0o700)
    monkeypatch.setenv(variable, str(slow))
    monkeypatch.setattr(module, "MOST_SECONDS", 0.1)
    nothing = np.zeros((0, 1), np.int32)
    with pytest.raises(UsageError, match=r"slow had not finished after 0\.1 s .* --hashes-only"):
        load_backend(target).verify(tmp_path, Golden(nothing.astype(np.float32), nothing, nothing))
