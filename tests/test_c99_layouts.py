"""Layouts of the C bundle: each is taken by the tool that it is for, or by what stands for it here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from snnc.artefact import Artefact, Metadata, save
from snnc.backends import load_backend, manifest
from snnc.backends.c99.backend import NETWORK
from snnc.backends.c99.layouts import LAYOUTS
from snnc.backends.c99.learning import LEARN_HEADER, LEARN_PROGRAM, LEARN_SOURCE
from snnc.backends.c99.look_up import LOOK_UP_HEADER, LOOK_UP_SOURCE
from snnc.backends.c99.source import HEADER, SOURCE, WEIGHTS
from snnc.backends.deployment import deploy, verify
from snnc.cli import main
from snnc.data.preprocessing import Preprocessing
from snnc.errors import ArtefactError, UsageError
from tests.c99_bundles import STRICT
from tests.spiking_graphs import random_graph
from tests.test_c99_verify import rewrite

C = {
    *(HEADER, SOURCE, WEIGHTS, LOOK_UP_HEADER, LOOK_UP_SOURCE, LEARN_HEADER, LEARN_SOURCE),
    *("selftest.c", LEARN_PROGRAM, "golden.h"),
}
"""All C of a bundle whose pixels are bytes and that learns on the device."""

ARM = "arm-none-eabi-gcc"


def missing(*programs: str) -> list[str]:
    return [name for name in programs if shutil.which(name) is None]


def need(*programs: str) -> None:
    if found := missing(*programs):
        pytest.skip(f"{', '.join(found)} is not installed")


def need_cpp(compiler: str) -> None:
    """Skip where a compiler for C++ has no standard library, as Debian packs that for ARM by itself."""
    probe = subprocess.run(
        [compiler, "-x", "c++", "-fsyntax-only", "-"],
        input="#include <cstdio>\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        pytest.skip(f"{compiler} has no standard library of C++")


@pytest.fixture(scope="module")
def made() -> Artefact:
    stored = Preprocessing(divide=255.0).as_dict()
    return Artefact(random_graph(14, flat=True, blocks=1), Metadata(preprocessing=stored))


@pytest.fixture(scope="module")
def bundles(made: Artefact, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("layouts")
    return {name: deploy(made, load_backend("c99", layout=name), folder / name).directory for name in LAYOUTS}


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, folder: Path, *options: str) -> None:
    # A build without optimisation is faster.
    fast = ("-DCMAKE_BUILD_TYPE=Debug",)
    run(
        "cmake",
        "-S",
        source,
        "-B",
        folder,
        "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror",
        *fast,
        *options,
        folder=source,
    )
    run("cmake", "--build", folder, folder=source)


def test_plain_is_the_default_and_the_c_is_the_same_in_all(bundles: dict[str, Path], made: Artefact) -> None:
    assert next(iter(LAYOUTS)) == load_backend("c99").layout == "plain"  # type: ignore[attr-defined]
    for name, bundle in bundles.items():
        for file in C:
            (found,) = bundle.rglob(file)
            assert found.read_bytes() == (bundles["plain"] / file).read_bytes(), name
    told = {path.name for path in bundles["plain"].iterdir()}
    assert told == C | {"MANIFEST.json", "README.md", "golden.npz", NETWORK}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_verify_covers_all_files_and_runs_none(layout: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    need("gcc")
    bundle = shutil.copytree(bundles[layout], tmp_path / "bundle")
    verdict = verify(bundle).verdict
    assert verdict is not None
    assert (verdict.rows, verdict.wrong) == (8, 0)
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    content = manifest.read(bundle)
    assert set(content["files"]) == files - {manifest.NAME}
    assert content["facts"]["layout"] == layout
    unchecked = {manifest.NAME, NETWORK, "golden.npz", "README.md"}
    c = {name for name in files if name.startswith(("src/", "snnc_")) and not name.endswith(LOOK_UP_SOURCE)}
    for name in sorted(files - unchecked - c):  # the network's C is altered in tests/test_c99_verify.py
        before = (bundle / name).read_bytes()
        (bundle / name).write_bytes(before + b"\n")
        with pytest.raises(ArtefactError, match="altered"):
            verify(bundle, run=False)
        rewrite(bundle)  # its hashes renewed, as anyone can
        with pytest.raises(ArtefactError, match=f"{name} altered"):
            verify(bundle)
        (bundle / name).write_bytes(before)
    rewrite(bundle)
    forged = {**content["facts"], "layout": "no-such"}
    rewrite(bundle, facts=forged)
    with pytest.raises(ArtefactError, match="the layout 'no-such' is unknown"):
        verify(bundle)


@pytest.mark.parametrize("layout", ["plain", "zephyr"])
def test_the_guide_builds_the_selftest(layout: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    need("cc")
    bundle = shutil.copytree(bundles[layout], tmp_path / "bundle")
    guide = (bundle / "README.md").read_text("utf-8")
    whole, learning = (part for part in guide.split("`") if part.startswith("cc -std=c99"))
    assert run("sh", "-c", whole, folder=bundle).endswith("PASSED\n")
    command = f"{learning} -o learn && ./learn".replace("\n", " ")
    assert run("sh", "-c", command, folder=bundle).endswith("PASSED\n")


def test_cmake(bundles: dict[str, Path], tmp_path: Path) -> None:
    need("cmake", "gcc")
    bundle, folder = bundles["cmake"], tmp_path / "build"
    build(bundle, folder, "-DSNNC_WEIGHTS_SECTION=.my_weights", "-DSNNC_STATE_SECTION=.my_state")
    told = run(folder / "snnc_golden", folder=folder).splitlines()
    assert (len(told), told[-1]) == (9, "PASSED")
    assert all(line.endswith(", as expected") for line in told[:-1])
    assert "0 tests failed out of 2" in run("ctest", folder=folder)
    sections = run("objdump", "-h", folder / "snnc_golden", folder=folder)
    assert ".my_weights" in sections
    assert ".my_state" in sections


def test_a_project_that_takes_the_library(bundles: dict[str, Path], tmp_path: Path) -> None:
    need("cmake", "gcc")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(mine C)\n"
        f"add_subdirectory({bundles['cmake'].as_posix()} network)\nadd_executable(mine mine.c)\n"
        "target_link_libraries(mine PRIVATE snnc::network)\n",
        encoding="utf-8",
    )
    (tmp_path / "mine.c").write_text(
        '#include "snnc_network.h"\nSNNC_STATE_SECTION static snnc_state state;\n'
        "int main(void) { return (int)snnc_step(&state) * 0; }\n",
        encoding="utf-8",
    )
    build(tmp_path, tmp_path / "build")
    assert not list((tmp_path / "build").rglob("snnc_golden")), "examples are built where it is the project"


ARDUINO = """\
#include <cstdio>
#include <cstdint>
struct Monitor {
    void begin(long) {}
    void print(const char *text) { std::printf("%s", text); }
    void print(long value) { std::printf("%ld", value); }
    void println(const char *text) { std::printf("%s\\n", text); }
};
static Monitor Serial;
"""
"""What the sketch needs of the Arduino core."""


def sources(bundle: Path) -> Iterable[Path]:
    return sorted((bundle / "src").glob("*.c"))


@pytest.mark.parametrize("prefix", ["", "arm-none-eabi-"], ids=["host", "arm"])
def test_arduino(prefix: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    need(f"{prefix}gcc", f"{prefix}g++")
    need_cpp(f"{prefix}g++")
    bundle = bundles["arduino"]
    lines = (bundle / "library.properties").read_text("ascii").splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    assert {"name", "version", "sentence", "architectures", "includes"} <= set(properties)
    assert (bundle / "src" / properties["includes"]).is_file()
    sketch = bundle / "examples" / "golden" / "golden.ino"
    (tmp_path / "Arduino.h").write_text(ARDUINO, encoding="ascii")
    (tmp_path / "core.cpp").write_text(
        f'#include "Arduino.h"\n#include "{sketch}"\n'
        "int main() { setup(); for (int i = 0; i < GOLDEN_ROWS + 3; i++) loop(); }\n",
        encoding="ascii",
    )
    run(f"{prefix}gcc", *STRICT, "-O1", "-c", *sources(bundle), folder=tmp_path)
    objects = [f"{path.stem}.o" for path in sources(bundle)]
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", f"-I{bundle / 'src'}", f"-I{sketch.parent}"]
    bare = ["--specs=nosys.specs"] if prefix else []
    run(f"{prefix}g++", *flags, "core.cpp", *objects, *bare, "-o", "sketch", folder=tmp_path)
    if not prefix:
        told = run(tmp_path / "sketch", folder=tmp_path).splitlines()
        assert (len(told), told[-1]) == (9, "PASSED")
        assert told[0].startswith("row 0: class ")
        assert told[0].endswith(", as expected")


ZEPHYR = """\
set(CMAKE_C_STANDARD 99)
enable_language(C)
file(STRINGS ${CMAKE_CURRENT_SOURCE_DIR}/prj.conf settings)
foreach(setting ${settings})
  string(REGEX MATCH "^(.*)=(.*)$" all ${setting})
  set(${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
endforeach()
set(CONFIG_SNNC_NETWORK_STATE_SECTION .my_state)
include_directories(${STANDS_FOR})
function(zephyr_include_directories folder)
  include_directories(${folder})
  target_include_directories(app PRIVATE ${folder})
endfunction()
function(zephyr_library_named name)
  add_library(${name} STATIC)
  target_link_libraries(app PRIVATE ${name})
endfunction()
function(zephyr_library_sources)
  target_sources(snnc_network PRIVATE ${ARGN})
endfunction()
function(zephyr_compile_definitions)
  target_compile_definitions(app PRIVATE ${ARGN})
endfunction()
add_executable(app)
foreach(module ${EXTRA_ZEPHYR_MODULES})
  add_subdirectory(${module} module)
endforeach()
"""
"""The few functions of Zephyr's build that a module calls."""


def test_zephyr(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Zephyr itself is in no package registry: its functions have stand-ins."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    need("cmake", "gcc")
    bundle = bundles["zephyr"]
    module = yaml.safe_load((bundle / "zephyr" / "module.yml").read_text("ascii"))
    assert (bundle / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert (bundle / module["build"]["kconfig"]).is_file()
    samples = [bundle / folder for folder in module["samples"]]
    (sample,) = (path.parent for folder in samples for path in folder.rglob("sample.yaml"))
    assert yaml.safe_load((sample / "sample.yaml").read_text("ascii"))["tests"]
    options = {line.split("=")[0] for line in (sample / "prj.conf").read_text("ascii").splitlines()}
    kconfig = (bundle / "Kconfig").read_text("ascii")
    assert {f"config {name.removeprefix('CONFIG_')}" for name in options if "SNNC" in name} <= set(
        kconfig.splitlines()
    )
    (tmp_path / "zephyr" / "sys").mkdir(parents=True)
    (tmp_path / "ZephyrConfig.cmake").write_text(ZEPHYR, encoding="ascii")
    (tmp_path / "zephyr" / "sys" / "printk.h").write_text("#include <stdio.h>\n#define printk printf\n")
    build(sample, tmp_path / "build", f"-DZephyr_DIR={tmp_path}", f"-DSTANDS_FOR={tmp_path}")
    assert run(tmp_path / "build" / "app", folder=tmp_path).endswith("PASSED\n")
    assert ".my_state" in run("objdump", "-h", tmp_path / "build" / "app", folder=tmp_path)


def test_platformio(bundles: dict[str, Path], tmp_path: Path) -> None:
    """PlatformIO fetches its compilers when it builds: here the host's takes the files that it would."""
    need("gcc")
    bundle = bundles["platformio"]
    library = json.loads((bundle / "library.json").read_text("ascii"))
    assert all((bundle / library["build"]["srcDir"] / name).is_file() for name in library["headers"])
    (example,) = library["examples"]
    project = bundle / example["base"]
    assert all((project / name).is_file() for name in example["files"])
    assert (
        (project / "platformio.ini").read_text("ascii").count(f"symlink://{os.path.relpath(bundle, project)}")
    )
    files = [*sources(bundle), *(project / "src").glob("*.c")]
    run("gcc", *STRICT, "-O1", f"-I{bundle / 'src'}", *files, "-o", "program", folder=tmp_path)
    assert run(tmp_path / "program", folder=tmp_path).endswith("PASSED\n")


def test_a_cortex_m_compiler_takes_it_with_sections(bundles: dict[str, Path], tmp_path: Path) -> None:
    need(ARM, "arm-none-eabi-objdump")
    bundle = bundles["zephyr"]
    flags = [
        "-mcpu=cortex-m4",
        "-mthumb",
        "-O2",
        '-DSNNC_WEIGHTS_SECTION=__attribute__((section(".my_weights")))',
    ]
    (source,) = bundle.rglob(SOURCE)
    (look_up,) = bundle.rglob(LOOK_UP_SOURCE)
    run(ARM, *STRICT, *flags, "-ffreestanding", "-c", source, look_up, folder=tmp_path)
    for name in (SOURCE, LOOK_UP_SOURCE):
        told = run("arm-none-eabi-objdump", "-h", Path(name).with_suffix(".o"), folder=tmp_path)
        assert ".my_weights" in told


def test_layouts_that_there_are_not(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no layout 'make'; known: plain, cmake, arduino, zephyr"):
        load_backend("c99", layout="make")
    with pytest.raises(UsageError, match="the target nir has one layout of its files"):
        load_backend("nir", layout="cmake")
    file = tmp_path / "a.snn.onnx"
    save(Artefact(random_graph(4)), file)
    out = tmp_path / "out"
    arguments = ["deploy", str(file), "--target", "c99", "-o", str(out), "--layout"]
    assert main([*arguments, "make"]) == 2
    assert "no layout 'make'" in capsys.readouterr().err
    assert not out.exists()
    assert main([*arguments, "arduino"]) == 0
    assert (out / "library.properties").is_file()
