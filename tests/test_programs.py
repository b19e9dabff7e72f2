"""Compilers and consumers that do not come to an end."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from snnc.artefact import Artefact
from snnc.backends import load_backend
from snnc.backends.akida import backend as akida
from snnc.backends.c99 import backend as c99
from snnc.backends.deployment import deploy, verify
from snnc.backends.golden import read_golden
from snnc.backends.loihi import backend as loihi
from snnc.backends.spiking_onnx import backend as spiking_onnx
from snnc.errors import UsageError
from snnc.simulation.targets import Golden
from tests.spiking_graphs import random_graph


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
    bundle = tmp_path
    nothing = np.zeros((0, 1), np.int32)
    golden = Golden(nothing.astype(np.float32), nothing, nothing)
    if target == "c99":
        bundle = deploy(Artefact(random_graph(4)), load_backend(target), tmp_path / "bundle").directory
        golden = read_golden(bundle)
    # CC may hold options, so a blank in a path is quoted there; the others are one path.
    monkeypatch.setenv(variable, shlex.quote(str(slow)) if variable == "CC" else str(slow))
    monkeypatch.setattr(module, "MOST_SECONDS", 0.1)
    with pytest.raises(UsageError, match=r"slow did not finish within 0\.1 s .* --hashes-only"):
        load_backend(target).verify(bundle, golden)


def test_a_model_that_runs_for_ever_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = deploy(Artefact(random_graph(4)), load_backend("spiking-onnx"), tmp_path / "bundle").directory
    monkeypatch.setattr(spiking_onnx, "MOST_SECONDS", 0.01)
    with pytest.raises(UsageError, match=r"did not finish within 0\.01 s"):
        verify(bundle)
