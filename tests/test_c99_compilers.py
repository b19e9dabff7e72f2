"""The C source in compilers: on bare metal, in 32 bits, beside C++."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from snnc.backends.c99.source import HEADER, SOURCE, WEIGHTS, comment
from snnc.backends.golden import read_golden
from snnc.ir.neuron import Schedule
from tests.c99_bundles import (
    compile_as_cpp,
    compile_strictly,
    emitted,
    needs_gcc,
    run_selftest,
)
from tests.spiking_graphs import random_graph


@needs_gcc
def test_it_is_freestanding_and_has_no_floats(tmp_path: Path) -> None:
    bundle = emitted(random_graph(7, blocks=4), tmp_path)
    compile_strictly(bundle, "-ffreestanding", "-fno-pie", "-O2", "-c", SOURCE, "-o", "network.o")
    symbols = subprocess.run(["nm", bundle / "network.o"], capture_output=True, text=True, check=True).stdout
    kinds = set(re.findall(r"^[ 0-9a-f]{16} (\w) \w+$", symbols, re.MULTILINE))
    assert kinds <= {"T", "t", "r"}, "no variables, only functions and constants"
    undefined = set(re.findall(r"^ {16} U (\w+)$", symbols, re.MULTILINE))
    assert undefined <= {"memset", "memcpy", "memmove", "__stack_chk_fail"}
    text = "".join((bundle / name).read_text(encoding="ascii") for name in (SOURCE, HEADER, WEIGHTS))
    assert set(re.findall(r"#include [<\"](.*)[>\"]", text)) == {"stdint.h", HEADER, WEIGHTS}
    assert not re.search(
        r"\b(float|double|malloc|static int)\b", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    )


@needs_gcc
def test_the_stated_memory_is_checked_by_the_compiler(tmp_path: Path) -> None:
    bundle = emitted(random_graph(8), tmp_path)
    compile_strictly(bundle, "-c", SOURCE, "-o", "network.o")
    path = bundle / HEADER
    text = re.sub(r"(SNNC_RAM_BYTES) (\d+)", lambda m: f"{m[1]} {int(m[2]) + 4}", path.read_text("ascii"))
    path.write_text(text, encoding="ascii")
    result = subprocess.run(["gcc", "-c", SOURCE], cwd=bundle, capture_output=True, text=True, check=False)
    assert "snnc_ram_is_as_stated" in result.stderr


@needs_gcc
@pytest.mark.skipif(shutil.which("clang") is None, reason="clang is not installed")
def test_clang(tmp_path: Path) -> None:
    run_selftest(emitted(random_graph(9), tmp_path), compiler="clang")


SKETCH = """\
#include "snnc_network.h"
#include "golden.h"

static snnc_state state;
static int32_t y[SNNC_OUTPUTS];
static int32_t row;
int32_t classes[GOLDEN_ROWS];

void setup() { row = 0; }

void loop()
{
    if (snnc_infer(&state, golden_q + row * SNNC_INPUTS, SNNC_TIMESTEPS, y)) {
        classes[row] = snnc_class(y);
    }
    row++;
}
"""
"""As the Arduino IDE compiles it: C++, beside the C of the network."""


CORE = """\
#include <cstdio>
#include <cstdint>
#include "golden.h"

void setup();
void loop();
extern int32_t classes[GOLDEN_ROWS];

int main()
{
    setup();
    for (int i = 0; i < GOLDEN_ROWS; i++) {
        loop();
        std::printf("%ld\\n", static_cast<long>(classes[i]));
    }
    (void)golden_q;
    (void)golden_y;
}
"""


@needs_gcc
@pytest.mark.parametrize(
    ("c", "cpp"), [("gcc", "g++"), ("clang", "clang++"), ("arm-none-eabi-gcc", "arm-none-eabi-g++")]
)
@pytest.mark.parametrize("network_as_cpp", [False, True], ids=["C", "C++"])
def test_a_sketch_in_cpp(c: str, cpp: str, network_as_cpp: bool, tmp_path: Path) -> None:
    if shutil.which(c) is None or shutil.which(cpp) is None:
        pytest.skip(f"{cpp} is not installed")
    bundle = emitted(random_graph(14), tmp_path)
    golden = read_golden(bundle)
    (bundle / "sketch.ino").write_text(SKETCH, encoding="ascii")
    (bundle / "core.cpp").write_text(CORE, encoding="ascii")
    if network_as_cpp:
        compile_as_cpp(bundle, cpp, "-c", "-x", "c++", SOURCE, "-o", "network.o")
    else:
        compile_strictly(bundle, "-c", SOURCE, "-o", "network.o", compiler=c)
    compile_as_cpp(bundle, cpp, "-Wno-unused-variable", "-c", "-x", "c++", "sketch.ino", "-o", "sketch.o")
    compile_as_cpp(bundle, cpp, "-c", "core.cpp", "-o", "core.o")
    bare = ["--specs=nosys.specs"] if cpp.startswith("arm") else []
    linked = subprocess.run(
        [cpp, *bare, "network.o", "sketch.o", "core.o", "-o", "program"],
        cwd=bundle,
        capture_output=True,
        text=True,
        check=False,
    )
    assert linked.returncode == 0, linked.stderr
    if not bare:
        told = subprocess.run([bundle / "program"], capture_output=True, text=True, check=True).stdout
        np.testing.assert_array_equal(list(map(int, told.split())), golden.y.argmax(axis=1))


@needs_gcc
def test_32_bits(tmp_path: Path) -> None:
    bundle = emitted(random_graph(10, schedule=Schedule.LAYERWISE), tmp_path)
    (bundle / "probe.c").write_text("#include <stdio.h>\nint main(void) { return 0; }\n", encoding="ascii")
    probe = ["gcc", "-m32", "probe.c", "-o", "probe"]
    if subprocess.run(probe, cwd=bundle, capture_output=True, check=False).returncode:
        pytest.skip("gcc has no 32-bit libraries here")
    run_selftest(bundle, "-m32")


@needs_gcc
def test_names_cannot_leave_their_comments(tmp_path: Path) -> None:
    evil = "*/ #error out /* ??/ \\\n é \x00"
    graph = random_graph(12, flat=True, blocks=0)
    graph = graph.with_nodes([node.with_(origin=evil) for node in graph])
    run_selftest(emitted(replace(graph, name=evil), tmp_path))
    assert "*/" not in comment(evil + "/*/")
    assert "/*" not in comment(evil + "/*/")
