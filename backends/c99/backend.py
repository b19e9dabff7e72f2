"""Target ``c99``: the network as source code for any C compiler, verified by compiling and running it."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

from snnc import __version__
from snnc.artefact import Artefact, load, save
from snnc.backends import manifest
from snnc.backends.c99 import selftest
from snnc.backends.c99.functions import MOST_AXES
from snnc.backends.c99.learning import LEARN_PROGRAM, LEARN_SOURCE, learner
from snnc.backends.c99.learning import guide as learning_guide
from snnc.backends.c99.learning import texts as learning_texts
from snnc.backends.c99.lowering import lower
from snnc.backends.c99.source import (
    HEADER,
    SOURCE,
    WEIGHTS,
    Memory,
    comment,
    has_classes,
    header,
    memory,
    sides,
    source,
    weights,
)
from snnc.backends.c99.widths import longest, widths
from snnc.backends.golden import replay
from snnc.backends.programs import foreign, program, run
from snnc.errors import ArtefactError, UsageError
from snnc.ir.operations import Firing
from snnc.ir.snn import Function, Gather, Pad, Slice, SnnGraph
from snnc.simulation.targets import (
    COMMON_KINDS,
    COMMON_RULES,
    Capabilities,
    Emission,
    Golden,
    Unsupported,
    VerificationResult,
    unknown_operations,
)

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-O2")
MADE_BY = "compiled by snnc {}."
MOST_SECONDS = 600

NETWORK = "network.snn.onnx"
"""The artefact: all C of a bundle is a function of it and of the golden vectors, and is checked as such."""

DEVICES = {
    "STM32L4R5ZI, Cortex-M4": (640, 2048),
    "STM32F746NG, Cortex-M7": (320, 1024),
    "nRF52840, Cortex-M4": (256, 1024),
    "Apollo3 Blue, Cortex-M4": (384, 1024),
}
"""RAM and flash in KiB, from the data sheets: microcontrollers of the class that MLPerf Tiny measures."""

CAPABILITIES = Capabilities(
    summary="freestanding C99 for microcontrollers: integers only, no allocation",
    exact=True,
    verified_by="compiled and run; outputs, counts and potentials compared bit for bit, on random "
    "networks and on every bundle",
    profiles={"int8": "int8 weights, int32 potentials, the narrowest type for every spike and count"},
    takes="every integer network",
    every_integer_network=True,
)


class C99:
    """Writes C, and compiles and runs it."""

    name: ClassVar[str] = "c99"
    capabilities: ClassVar[Capabilities] = CAPABILITIES

    def __init__(self, profile: str | None = None) -> None:
        """Choose the form; there is one.

        Raises:
            UsageError: there is no such form.
        """
        self.profile = CAPABILITIES.chosen(self.name, profile)

    def check(self, graph: SnnGraph) -> tuple[Unsupported, ...]:
        """Return what C's integers cannot express."""
        kinds = COMMON_KINDS | {Gather} | set(get_args(Function))
        found = list(unknown_operations(graph, kinds, COMMON_RULES | {Firing.STEPS}))
        for node in graph:
            if not getattr(node, "integer", True):
                reason = "float32 parameters: the C source has integers only"
                found.append(Unsupported(node.name, node.origin, reason, "convert with --precision int8"))
            shapes = [node.shape, *(graph[name].shape for name in node.inputs)]
            axes = MOST_AXES if isinstance(node, Function) else 3 if isinstance(node, Pad | Slice) else None
            wide = next((shape for shape in shapes if axes is not None and len(shape) > axes), None)
            if wide is not None:
                reason = f"{type(node).__name__} of the shape {wide}, which has more than {axes} axes"
                found.append(Unsupported(node.name, node.origin, reason, "reshape it in the source network"))
        return tuple(found)

    def emit(self, artefact: Artefact, golden: Golden, directory: Path) -> Emission:
        """Write header, source, weights and the self-test, and the network that they were made of."""
        graph = artefact.graph
        _write(_texts(artefact, golden), directory)
        save(artefact, directory / NETWORK)
        most = longest(graph)
        lowered = lower(graph, widths(graph, most))
        taken = memory(lowered, lowered.places())
        facts: dict[str, Any] = {
            "ram_bytes": taken.state,
            "ram_of_states_bytes": taken.states,
            "ram_of_values_within_a_step_bytes": taken.buffers,
            "constant_bytes": taken.constants,
            "max_timesteps": most,
            "fit": _fit(taken),
        }
        found = learner(artefact)
        if found is not None:
            facts["learning_ram_bytes"], facts["learning_ram_bytes_with_products"] = found.memory()
        guide_ = _guide(graph, taken, most) + ("" if found is None else learning_guide(found))
        return Emission(guide_, facts)

    def verify(self, directory: Path, golden: Golden) -> VerificationResult:
        """Write the C of the bundle's network anew, compare it byte for byte, compile the new one and run it.

        The compiler is the one named by ``CC``, else cc, gcc or clang.
        """
        compiler = _compiler()
        content = manifest.read(directory)
        if NETWORK not in content["files"]:
            raise UsageError(
                f"{directory}: the files are as the manifest says, but this bundle of an earlier snnc has no "
                f"{NETWORK}: its C cannot be compared with the network and was not run; deploy again, or "
                "check only the files by --hashes-only"
            )
        artefact = load(directory / NETWORK)
        graph = artefact.graph
        for problem in self.check(graph):
            raise ArtefactError(f"{directory / NETWORK}: no network for C, {problem.reason}; deploy again")
        texts = _texts(artefact, replay(graph, golden, directory))
        other = foreign(directory, content, _as_written_by(texts, content.get("snnc_version")))
        if other:
            raise UsageError(
                f"{directory}: {', '.join(other)} of snnc {content.get('snnc_version')}, not what this "
                f"version makes of {NETWORK}, and so not run: verify with that version, or deploy again"
            )
        with tempfile.TemporaryDirectory(prefix="snnc-") as name:
            folder = Path(name)
            _write(texts, folder)
            built = folder / "selftest"
            command = [*compiler, *FLAGS, SOURCE, selftest.PROGRAM, "-o", built.name]
            compiled = run(command, MOST_SECONDS, folder)
            if compiled.returncode:
                first = compiled.stderr.strip().partition("\n")[0]
                raise UsageError(f"{compiler[0]} does not compile it: {first}; name another one by CC")
            result = run([str(built)], MOST_SECONDS, folder)
            learned = _learned(compiler, folder) if LEARN_SOURCE in texts else True
            version = run([*compiler, "--version"], MOST_SECONDS, folder).stdout.partition("\n")[0].strip()
        lines = result.stdout.splitlines()
        agreed = sum(line.endswith("as expected") for line in lines)
        rows = len(golden.y)
        wrong = rows - agreed
        if lines[-1:] != ["PASSED"] or result.returncode:
            wrong = max(wrong, 1)
        if not learned:
            wrong = max(wrong, 1)
        compared = "outputs y, counts N and potentials v, bit for bit"
        return VerificationResult(version or compiler[0], rows, wrong, compared)


def _texts(artefact: Artefact, golden: Golden) -> dict[str, str]:
    """Return all C of a bundle, by the names of its files."""
    graph = artefact.graph
    found = learner(artefact)
    most = longest(graph)
    lowered = lower(graph, widths(graph, most))
    places = lowered.places()
    return {
        HEADER: header(graph, lowered, places, most),
        SOURCE: source(graph, lowered, places),
        WEIGHTS: weights(lowered),
        selftest.PROGRAM: selftest.program(graph, golden),
        selftest.VECTORS: selftest.vectors(golden),
        **({} if found is None else learning_texts(found, graph, golden)),
    }


def _learned(compiler: Sequence[str], folder: Path) -> bool:
    """Compile what learns on the device and run it; say whether all sums and weights are as expected."""
    built = folder / "selftest_learn"
    sources = (SOURCE, LEARN_SOURCE, LEARN_PROGRAM)
    command = [*compiler, *FLAGS, "-DSNNC_LEARN_GRAM", *sources, "-o", built.name]
    compiled = run(command, MOST_SECONDS, folder)
    if compiled.returncode:
        first = compiled.stderr.strip().partition("\n")[0]
        raise UsageError(f"{compiler[0]} does not compile it: {first}; name another one by CC")
    result = run([str(built)], MOST_SECONDS, folder)
    return result.returncode == 0 and result.stdout.splitlines()[-1:] == ["PASSED"]


def _write(texts: Mapping[str, str], folder: Path) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="ascii", newline="\n")


def _as_written_by(texts: Mapping[str, str], version: object) -> dict[str, str]:
    """Return texts with the version of snnc, which their comments tell, replaced by another."""
    if not isinstance(version, str) or not re.fullmatch(r"[0-9A-Za-z.+-]+", version):
        return dict(texts)
    return {
        name: text.replace(MADE_BY.format(__version__), MADE_BY.format(version))
        for name, text in texts.items()
    }


def _compiler() -> list[str]:
    """Return the command of a C compiler.

    Raises:
        UsageError: none is installed, or CC cannot be read.
    """
    given = os.environ.get("CC", "")
    try:
        named = shlex.split(given, posix=os.name == "posix")  # quotes hold a path with blanks
    except ValueError as error:
        raise UsageError(f"CC={given!r} cannot be read: {error}; quote it as in a shell") from None
    if named and (path := program(named[0])):
        return [path, *named[1:]]
    if named:
        raise UsageError(f"the C compiler {named[0]!r} named by CC is not installed; install or unset it")
    found = next(filter(None, map(program, COMPILERS)), None)
    if found is None:
        raise UsageError(
            f"no C compiler to run the bundle with: install one of {', '.join(COMPILERS)}, or name it by CC; "
            "--hashes-only checks the files alone"
        )
    return [found]


def _fit(taken: Memory) -> list[dict[str, Any]]:
    """Return for each known device whether data and constants fit; code and stack come on top."""
    return [
        {
            "device": name,
            "ram_bytes": ram * 1024,
            "flash_bytes": flash * 1024,
            "fits": taken.state < ram * 1024 and taken.constants < flash * 1024,
        }
        for name, (ram, flash) in DEVICES.items()
    ]


_YES = {True: "yes", False: "no"}


def _guide(graph: SnnGraph, taken: Memory, most: int) -> str:
    """Return what an integrator has to know of the source."""
    inputs, outputs = sides(graph)
    declared = "\n".join(f"int32_t {port.argument}[SNNC_OUTPUTS{port.suffix}];" for port in outputs)
    given = ", ".join(port.argument for port in inputs)
    results = ", ".join(port.argument for port in outputs)
    taken_in = "\n".join(
        f"/* {port.argument}: int16_t, {' x '.join(map(str, port.node.shape))}, channels first"
        f"{f': the input {comment(port.name)}' if port.suffix else ''} */"
        for port in inputs
    )
    named = "".join(
        f"\n/* {port.argument} holds the output {comment(port.name)} */" for port in outputs if port.suffix
    )
    answer = "\nint32_t answer = snnc_class(y);" if has_classes(graph) else named
    rows = "\n".join(
        f"| {row['device']} | {row['ram_bytes']:,} | {row['flash_bytes']:,} | {_YES[row['fits']]} |"
        for row in _fit(taken)
    )
    return f"""## Build and run it

Compile `{SOURCE}` with any C99 compiler; it includes `{HEADER}`, `{WEIGHTS}` and `<stdint.h>`, and nothing
else. It allocates nothing and has no global variables: the caller keeps a `snnc_state`, best a static one.

```c
#include "{HEADER}"

static snnc_state state;
{declared}

{taken_in}
snnc_infer(&state, {given}, SNNC_TIMESTEPS, {results});{answer}
```

`snnc_begin()` and `snnc_step()` run it step by step, so that an answer can be read early. `timesteps` may be
1 to {most}. Compilers may call `memset` and `memcpy`, also freestanding ones. C++ may include the header (an
Arduino sketch does), and compile the source as C++11.

`cc -std=c99 -O2 {SOURCE} {selftest.PROGRAM} -o selftest && ./selftest` compares outputs, counts and
potentials with those of the reference on the golden inputs; `{selftest.PROGRAM}` needs `printf`.

## Memory

`sizeof(snnc_state)` is {taken.state:,} bytes, checked when compiled: {taken.states:,} for states and
{taken.buffers:,} for values within a step. Constants take {taken.constants:,} bytes. Code and about 1 kB of
stack come on top.

| device | RAM | flash | data and constants fit |
|---|---|---|---|
{rows}
"""
