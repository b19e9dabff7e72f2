"""`verify` of bundles of C source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from snnc import __version__
from snnc.artefact import Artefact
from snnc.backends import manifest
from snnc.backends.c99 import C99, backend, selftest
from snnc.backends.c99.source import SOURCE
from snnc.backends.deployment import verify
from snnc.backends.golden import read_golden, replay
from snnc.errors import ArtefactError, UsageError
from tests.c99_bundles import (
    SMALL,
    emitted,
    needs_gcc,
)


@needs_gcc
def test_verify_names_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = emitted(SMALL, tmp_path)
    verdict = verify(bundle).verdict
    assert verdict is not None
    assert (verdict.rows, verdict.wrong) == (8, 0)
    monkeypatch.setenv("CC", "no-such-compiler -O3")
    with pytest.raises(UsageError, match="no-such-compiler"):
        verify(bundle)
    monkeypatch.setenv("CC", "'no such compiler")
    with pytest.raises(UsageError, match=r"CC=.* cannot be read: No closing quotation"):
        verify(bundle)
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no C compiler"):
        verify(bundle)


@needs_gcc
def test_verify_finds_a_wrong_potential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that gives other C than the reference, as a new version may."""
    bundle = emitted(SMALL, tmp_path)
    golden = read_golden(bundle)
    assert C99().verify(bundle, golden).wrong == 0
    monkeypatch.setattr(selftest, "fnv", lambda values: 1)
    texts = backend._texts(Artefact(SMALL), replay(SMALL, golden, bundle), "plain")  # pyright: ignore[reportPrivateUsage]
    for name, text in texts.items():
        (bundle / name).write_text(text, encoding="ascii")
    assert C99().verify(bundle, golden).wrong == 1
    (bundle / SOURCE).write_text("#error broken\n", encoding="ascii")
    with pytest.raises(ArtefactError, match=r"snnc_network\.c altered"):
        C99().verify(bundle, golden)


@needs_gcc
def test_verify_of_a_bundle_by_another_version(tmp_path: Path) -> None:
    bundle = emitted(SMALL, tmp_path)
    for path in bundle.glob("*.[ch]"):
        path.write_text(
            path.read_text("ascii").replace(f"snnc {__version__}.", "snnc 0.0.9."), encoding="ascii"
        )
    rewrite(bundle, snnc_version="0.0.9")
    verdict = verify(bundle).verdict
    assert verdict is not None
    assert (verdict.wrong, verdict.foreign) == (0, ())
    (bundle / SOURCE).write_text("#error another C\n", encoding="ascii")
    rewrite(bundle)
    with pytest.raises(UsageError, match=r"snnc_network\.c of snnc 0\.0\.9, .* verify with that version"):
        verify(bundle)
    (bundle / backend.NETWORK).unlink()
    rewrite(bundle)
    with pytest.raises(UsageError, match=r"the files are as the manifest says, .* no network\.snn\.onnx"):
        verify(bundle)
    assert verify(bundle, run=False).verdict is None


def rewrite(bundle: Path, **changes: Any) -> None:
    content = {k: v for k, v in manifest.read(bundle).items() if k not in ("files", manifest.OWN_HASH)}
    manifest.write(bundle, {**content, **changes})
