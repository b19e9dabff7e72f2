"""Bytes chosen by coverage, where atheris is installed: ``python -m benchmarks.fuzz --atheris``."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path

from benchmarks.fuzz.networks import made
from snnc.errors import InternalError, SnncError
from snnc.frontend import check_onnx


def fuzz() -> None:
    """Let atheris look for bytes that end in anything but a refusal; it runs until it finds some.

    Raises:
        SystemExit: atheris is not installed.
    """
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        raise SystemExit("atheris is not installed: pip install atheris") from None
    folder = Path(tempfile.mkdtemp())
    corpus = folder / "corpus"
    corpus.mkdir()
    for seed in made():
        (corpus / seed.name).write_bytes(seed.data)
    path = folder / "model.onnx"

    def try_bytes(data: bytes) -> None:
        path.write_bytes(data)
        try:
            check_onnx(path)
        except InternalError:
            raise
        except SnncError:
            return

    atheris.instrument_all()
    atheris.Setup(["fuzz", str(corpus)], try_bytes)
    atheris.Fuzz()
