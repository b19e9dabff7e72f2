"""Code planted in a bundle whose hashes were renewed: `snnc verify` runs none of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from snnc.artefact import Artefact
from snnc.backends import BACKENDS, load_backend, manifest, programs
from snnc.backends.deployment import deploy, verify
from snnc.errors import SnncError, UsageError
from snnc.ir.snn import SnnGraph
from tests.c99_bundles import SMALL
from tests.nir_networks import BARRIER, residual
from tests.spiking_graphs import random_graph
from tests.test_akida import network as akida_network
from tests.test_loihi import chained, small

PROGRAMS = (".c", ".h", ".py")

needs_posix = pytest.mark.skipif(os.name != "posix", reason="the stand-ins are shell scripts")

STAND_IN = """\
#!{python}
import sys
if sys.argv[1] == "-c":
    print("0.10.0")
    sys.exit()
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec") if "planted" in open(sys.argv[1]).read() else "")
for row in range(8):
    print(f"row {{row}}: as expected")
print("PASSED")
"""
"""What `verify` takes for an interpreter with akida or lava. It runs what was planted, and nothing else."""


def planted(kind: str, mark: Path) -> str:
    """Return a text that makes the file `mark` once it is run, or compiled into what is run."""
    if kind in (".c", ".h"):
        path = str(mark).replace("\\", "\\\\")
        return (
            "\n#include <stdio.h>\n"
            f'__attribute__((constructor)) static void planted(void) {{ fopen("{path}", "w"); }}\n'
        )
    return f"\nopen({str(mark)!r}, 'w')  # planted\n"


def graph_for(target: str) -> SnnGraph:
    if target == "akida":
        return akida_network()
    if target == "fpga":
        return random_graph(5, flat=True, blocks=1)  # simulated anew for every file that does not matter
    if target == "loihi":
        return small(chained())
    if target == "c99":
        return SMALL  # compiled for every file that does not matter
    return residual(BARRIER) if target == "nir" else random_graph(4)


def renew(bundle: Path, **changes: str) -> None:
    """Let the manifest hold the hashes of the files as they are."""
    content = {k: v for k, v in manifest.read(bundle).items() if k not in ("files", manifest.OWN_HASH)}
    manifest.write(bundle, {**content, **changes})


@pytest.fixture(scope="module", params=BACKENDS)
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    target = request.param
    if target in ("loihi", "nir"):
        pytest.importorskip("h5py", reason="h5py is not installed")
    if target == "c99" and shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    if target == "fpga" and not (shutil.which("iverilog") or shutil.which("verilator")):
        pytest.skip("neither Icarus nor Verilator is installed")
    folder = tmp_path_factory.mktemp(target)
    stand_in = folder / "python"
    stand_in.write_text(STAND_IN.format(python=sys.executable), encoding="ascii")
    stand_in.chmod(0o700)
    backend, artefact = load_backend(target), Artefact(graph_for(target))
    bundle = deploy(artefact, backend, folder / "bundle", accept_semantics=True).directory
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AKIDA_PYTHON", str(stand_in))
        patch.setenv("LAVA_PYTHON", str(stand_in))
        patch.setenv("PATH", f".{os.pathsep}{os.environ['PATH']}")
        yield bundle


def plant(path: Path, mark: Path) -> None:
    """Put code into a file; the self-test becomes one that passes."""
    text = planted(path.suffix, mark)
    if path.name == "selftest.c":
        path.write_text(f'{text}\nint main(void) {{ printf("PASSED\\n"); return 0; }}\n', encoding="ascii")
    else:
        path.write_bytes(path.read_bytes() + text.encode())


@needs_posix
def test_nothing_of_a_bundle_is_run(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = verify(original).verdict
    assert verdict is not None
    assert verdict.wrong == 0
    mark = tmp_path / "mark"
    for name in manifest.read(original)["files"]:
        bundle = tmp_path / name.replace(".", "_")
        shutil.copytree(original, bundle)
        plant(bundle / name, mark)
        renew(bundle)
        monkeypatch.chdir(bundle)
        outcome = ""
        try:
            verify(bundle)
        except SnncError as error:
            outcome = str(error)
        assert not mark.exists(), f"{name} ran: {outcome}"
        if (bundle / name).suffix in PROGRAMS:
            assert f"{name} altered" in outcome


@needs_posix
def test_nothing_of_a_bundle_by_another_version_is_run(original: Path, tmp_path: Path) -> None:
    bundle, mark = tmp_path / "bundle", tmp_path / "mark"
    shutil.copytree(original, bundle)
    programs = {path.name for path in bundle.iterdir() if path.suffix in PROGRAMS}
    for name in programs:
        plant(bundle / name, mark)
    renew(bundle, snnc_version="0.0.9")
    with contextlib.suppress(UsageError):
        verdict = verify(bundle).verdict
        assert verdict is not None
        assert set(verdict.foreign) == programs
    assert not mark.exists()


@needs_posix
def test_nothing_beside_the_files_of_a_bundle_is_run(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modules, headers and programs by the names that are looked for, in the folder where `verify` runs."""
    bundle, mark = tmp_path / "bundle", tmp_path / "mark"
    shutil.copytree(original, bundle)
    for name in ("akida", "lava", "h5py", "numpy", "onnxruntime", "nir", "norse", "torch", "sitecustomize"):
        (bundle / f"{name}.py").write_text(planted(".py", mark), encoding="ascii")
    (bundle / "stdint.h").write_text(planted(".h", mark), encoding="ascii")
    for name in ("cc", "gcc", "python3.10"):
        (bundle / name).write_text(f"#!/bin/sh\ntouch {mark}\n", encoding="ascii")
        (bundle / name).chmod(0o700)
    monkeypatch.chdir(bundle)
    with contextlib.suppress(SnncError):
        verify(bundle)
    assert not mark.exists()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-m", "snnc", "verify", "."], env=environment, check=False, timeout=120)
    assert not mark.exists()


def test_programs_get_little_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the user")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told = programs.run_python("import os; print(os.getcwd(), sorted(os.environ))", 60, tmp_path).stdout
    assert str(tmp_path) in told
    assert "PATH" in told
    assert "SECRET" not in told
    assert "PYTHONPATH" not in told


@needs_posix
def test_a_program_that_is_stopped_leaves_none_behind(tmp_path: Path) -> None:
    """A compiler is several processes; each of them holds the pipe."""
    mark = tmp_path / "mark"
    text = f"(sleep 0.5; touch {mark}) & sleep 60"
    with pytest.raises(UsageError, match="did not finish"):
        programs.run(["/bin/sh", "-c", text], 0.2, tmp_path)
    subprocess.run(["sleep", "0.6"], check=True)
    assert not mark.exists()
