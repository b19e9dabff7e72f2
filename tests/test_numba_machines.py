"""Other processors than this one, and places where kernels cannot be kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.backends.numba_cpu.machine import cache, tiles
from snnc.backends.numba_cpu.machine.cpu import detect
from snnc.cli import main

X86 = platform.machine().lower() in ("x86_64", "amd64")
AVX2 = "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2"

# In another process, for what the CPU is said to be must be known before anything is compiled.
PROGRAM = """
import sys
import numpy as np
from snnc.backends.numba_cpu import NumbaSimulator
from snnc.backends.numba_cpu.machine.cpu import detect
from snnc.ir.neuron import Neuron
from snnc.ir.snn import IntegrateFire
from snnc.simulation.reference import ReferenceSimulator
from snnc.simulation.protocol import RecordOptions
from tests.spiking_graphs import as_float, random_graph, random_inputs, wide_graph

graphs = [wide_graph(seed, neuron=Neuron(spikes_per_step=1 + seed % 2)) for seed in range(4)]
# With neurons of every kind, and without pools: plain loops, which choose nothing by the processor.
graphs += [random_graph(seed) for seed in (6, 10, 12, 24, 31, 38)]
graphs += [as_float(wide_graph(seed)) for seed in range(2)]
for graph in graphs:
    q = random_inputs(graph, 2, 3)
    record = RecordOptions(states=True)
    expected = ReferenceSimulator().run(graph, q, 4, record)
    names = [node.name for node in graph.of_type(IntegrateFire)]
    for share in (0.01, 1.0):
        found = NumbaSimulator(2, dict.fromkeys(names, share)).run(graph, q, 4, record)
        np.testing.assert_array_equal(expected.logits, found.logits)
        for name in names:
            np.testing.assert_array_equal(expected.counts[name], found.counts[name])
            np.testing.assert_array_equal(expected.potentials[name], found.potentials[name])
print(detect().summary)
"""


WIDE = ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
PROCESSORS = {
    "generic": "",
    "haswell": AVX2,
    "skylake-avx512": AVX2 + WIDE,
    "icelake-server": AVX2 + WIDE + ",+avx512vnni,+avx512vbmi,+avx512vbmi2",
}
"""LLVM's names of processors, and the features that they are said to have."""


def wanted() -> tuple[str, ...]:
    """Return the processors that this one can stand for, but for itself: all other tests run so."""
    host = detect()
    wider = ("haswell", "skylake-avx512") if X86 and host.avx512 else ()
    without_tiles = ("icelake-server",) if tiles.usable() and host.vbmi2 else ()
    return ("generic", *wider, *without_tiles)


@pytest.fixture(scope="module")
def machines() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """One process for each processor, all at once: each compiles every kernel that it runs."""
    started = {}
    for name in wanted():
        started[name] = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": PROCESSORS[name]},
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


def told(machines: dict[str, subprocess.Popen[str]], name: str) -> str:
    if name not in machines:
        pytest.skip(f"this processor cannot stand for {name}, or is one, and all other tests run so")
    output, errors = machines[name].communicate(timeout=1200)
    assert machines[name].returncode == 0, errors
    return output.strip()


def test_a_processor_without_anything(machines: dict[str, subprocess.Popen[str]]) -> None:
    """On x86-64 that is SSE2, which LLVM never goes below; elsewhere what its vectors become."""
    assert told(machines, "generic") == "generic (generic)"


def test_a_processor_with_avx2_alone(machines: dict[str, subprocess.Popen[str]]) -> None:
    assert told(machines, "haswell") == "haswell (avx2)"


def test_a_processor_with_avx512_but_without_products_of_bytes(
    machines: dict[str, subprocess.Popen[str]],
) -> None:
    """The first processors with vectors of 512 bits move no lanes together, either."""
    assert told(machines, "skylake-avx512") == "skylake-avx512 (avx512bw)"


def test_a_processor_without_tile_registers(machines: dict[str, subprocess.Popen[str]]) -> None:
    assert told(machines, "icelake-server") == "icelake-server (avx512vnni)"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let kernels be kept in another folder while a test runs."""

    def choose(folder: Path) -> None:
        monkeypatch.setenv("SNNC_CACHE_DIR", str(folder))
        cache.kernel_directory.cache_clear()

    yield choose
    monkeypatch.undo()
    cache.kernel_directory.cache_clear()


def double(x: Any) -> Any:
    return 2 * x


def kept(folder: Path) -> list[str]:
    """Return the files that Numba would read."""
    return sorted(path.suffix for path in folder.rglob("*.nb[ic]"))


def test_kernels_are_kept(elsewhere: Any, tmp_path: Path) -> None:
    elsewhere(tmp_path)
    assert cache.kernel(double)(4) == 8
    assert kept(tmp_path) == [".nbc", ".nbi"]


def test_routines_that_several_processes_compiled_are_told_apart(tmp_path: Path) -> None:
    """Numba names closures by a count of its own in each process: two of them could have the same name."""

    def states(*kinds: str) -> str:
        """Return what neurons of some kinds make of a current of 7 thresholds in one step."""
        program = """
import sys
import numpy as np
from numba import njit
from snnc.backends.numba_cpu.codegen.vector import call_of
from snnc.backends.numba_cpu.kernels.firing import firing
from snnc.backends.numba_cpu.machine.memory import aligned
call = call_of(17)
run = njit(lambda fire, c, v, n, out, parameters, settings: call(
    fire, c, 64, 64, v, n, v, n, 64, out, 16, 16, 1, 1, 1, parameters, 64, settings))
for kind in sys.argv[1:]:
    firing(kind).address  # a name is looked up among all that was read so far
for kind in sys.argv[1:]:
    current, v, n = (aligned(np.full(16, fill, np.int32)) for fill in (70, 0, 0))
    out = aligned(np.zeros(16, np.int8))
    reciprocal = np.full(16, 1 / 10, np.float32).view(np.int32)
    rows = [np.full(16, fill, np.int32) for fill in (10, 0, 0)]
    parameters = aligned(np.stack([*rows, reciprocal, rows[1]]))
    settings = aligned(np.array([100, 5, 0], np.int64))
    run(firing(kind).address, *(x.ctypes.data for x in (current, v, n, out, parameters, settings)))
    print(kind, out[0], v[0])
"""
        done = subprocess.run(
            [sys.executable, "-c", program, *kinds],
            env={**os.environ, "SNNC_CACHE_DIR": str(tmp_path)},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    alone = [states(kind) for kind in ("units", "bytes")]
    assert alone == ["units 1 60\n", "bytes 5 20\n"]
    assert states("bytes", "units") == "".join(alone[::-1])


def test_a_place_where_nothing_can_be_written(elsewhere: Any, tmp_path: Path) -> None:
    closed = tmp_path / "file"
    closed.write_text("no folder can be made in here", encoding="utf-8")
    elsewhere(closed / "cache")
    assert cache.kernel_directory() is None
    assert cache.kernel(double)(4) == 8
    assert list(tmp_path.iterdir()) == [closed]


def test_a_user_without_a_home(
    elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere(tmp_path)

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    for name in ("SNNC_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert cache.kernel_directory() is None
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cache"] == {"folder": None, "writable": False}
    assert main(["doctor"]) == 0
    assert "no home (cannot be written" in capsys.readouterr().out
    for system, name in (("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA")):
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setenv(name, str(tmp_path))
        assert cache.cache_root() == tmp_path / "snnc"


def test_an_interrupt_leaves_no_half_written_kernel(
    elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(tmp_path)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.kernel(double)(4)
    assert kept(tmp_path) == []
    assert cache.kernel(double)(np.int64(4)) == 8
    assert kept(tmp_path) == [".nbc", ".nbi"]


def test_the_first_compilation_is_announced(
    elsewhere: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere(tmp_path)
    with caplog.at_level("INFO", "snnc"):
        cache.announce()
        (record,) = caplog.records
        assert record.getMessage().startswith("compiling kernels")
        caplog.clear()
        cache.kernel(double)(4)
        cache.announce()
        assert caplog.records == []


def test_kernels_are_compiled_anew_after_an_edit_anywhere_in_the_package(tmp_path: Path) -> None:
    folder = tmp_path / "package" / "below"
    folder.mkdir(parents=True)
    (folder.parent / "kernels.py").write_text("x = 1", encoding="utf-8")
    seen = {cache.sources_hash(folder.parent)}
    for name, text in (("a.py", "x = 1"), ("a.py", "x = 2"), ("b.py", "x = 2")):
        (folder / name).write_text(text, encoding="utf-8")
        seen.add(cache.sources_hash(folder.parent))
    (folder / "b.py").rename(folder.parent / "b.py")
    seen.add(cache.sources_hash(folder.parent))
    assert len(seen) == 5
