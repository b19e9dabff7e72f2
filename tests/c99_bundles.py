"""Bundles of C source, compiled strictly."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from snnc.artefact import Artefact
from snnc.backends.c99 import C99
from snnc.backends.c99.source import SOURCE
from snnc.backends.deployment import deploy
from snnc.ir.snn import SnnGraph
from tests.spiking_graphs import random_graph

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")


SANE = ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
"""Unoptimised: compiling takes the time, not running."""


SMALL = random_graph(13, flat=True, blocks=0)
"""For what holds of a bundle whatever its network."""


needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def emitted(graph: SnnGraph, folder: Path, profile: str | None = None) -> Path:
    return deploy(Artefact(graph), C99(profile), folder / "bundle").directory


def compile_strictly(bundle: Path, *flags: str, compiler: str = "gcc") -> None:
    result = subprocess.run(
        [compiler, *STRICT, *flags], cwd=bundle, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr


def compile_as_cpp(bundle: Path, compiler: str, *flags: str) -> None:
    options = ["-std=c++11", *STRICT[1:], *flags]
    result = subprocess.run(
        [compiler, *options], cwd=bundle, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr


def run_selftest(bundle: Path, *flags: str, compiler: str = "gcc") -> None:
    if shutil.which("g++") is not None:
        compile_as_cpp(bundle, "g++", "-fsyntax-only", "-x", "c++", SOURCE, "selftest.c")
    compile_strictly(bundle, "-O1", *flags, SOURCE, "selftest.c", "-o", "selftest", compiler=compiler)
    result = subprocess.run([bundle / "selftest"], capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "PASSED"), result.stdout + result.stderr
