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
from snnc.backends.c99.guide import guide
from snnc.backends.c99.layouts import LAYOUTS, Layout, layout_named
from snnc.backends.c99.learning import LEARN_PROGRAM, LEARN_SOURCE, learner
from snnc.backends.c99.learning import guide as learning_guide
from snnc.backends.c99.learning import texts as learning_texts
from snnc.backends.c99.look_up import look_up_bytes, look_up_guide, look_up_texts, look_ups
from snnc.backends.c99.lowering import lower
from snnc.backends.c99.source import (
    HEADER,
    SOURCE,
    WEIGHTS,
    Memory,
    header,
    memory,
    source,
    weights,
)
from snnc.backends.c99.widths import longest, widths
from snnc.backends.golden import replay
from snnc.backends.programs import foreign, program, run
from snnc.errors import ArtefactError, UsageError
from snnc.ir.operations import Firing
from snnc.ir.snn import Delay, Function, Gather, Pad, Slice, SnnGraph
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

PLAIN = next(iter(LAYOUTS))
"""The default layout."""

SMALL = "int8-small"

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
    profiles={
        "int8": "int8 weights, int32 potentials, the narrowest type for every spike and count",
        SMALL: "the same in less memory: int16 potentials where they are proved to fit up to the calibrated "
        "T, and the current of a constant input computed anew in each step",
    },
    takes="every integer network",
    every_integer_network=True,
)


class C99:
    """Writes C, and compiles and runs it."""

    name: ClassVar[str] = "c99"
    capabilities: ClassVar[Capabilities] = CAPABILITIES

    def __init__(self, profile: str | None = None, layout: str = PLAIN) -> None:
        """Choose the form and the layout of the files.

        Raises:
            UsageError: there is no such form or layout.
        """
        self.profile = CAPABILITIES.chosen(self.name, profile)
        layout_named(layout)
        self.layout = layout

    def laid_out(self, layout: str) -> C99:
        """Return the same for another layout of the files.

        Raises:
            UsageError: there is no such layout.
        """
        return C99(self.profile, layout)

    def check(self, graph: SnnGraph) -> tuple[Unsupported, ...]:
        """Return what C's integers cannot express."""
        kinds = COMMON_KINDS | {Delay, Gather} | set(get_args(Function))
        rules = COMMON_RULES | {Firing.STEPS, Firing.LEAKY}
        found = list(unknown_operations(graph, kinds, rules, over_time=True))
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
        small = self.profile == SMALL
        _write(_texts(artefact, golden, self.layout, small), directory)
        save(artefact, directory / NETWORK)
        most = longest(graph, small)
        lowered = lower(graph, widths(graph, most, small))
        taken = memory(lowered, lowered.places())
        found = look_ups(artefact)
        facts: dict[str, Any] = {
            "ram_bytes": taken.state,
            "ram_of_states_bytes": taken.states,
            "ram_of_values_within_a_step_bytes": taken.buffers,
            "constant_bytes": taken.constants,
            "max_timesteps": most,
            "layout": self.layout,
            **({"look_up_bytes": look_up_bytes(found)} if found else {}),
            "fit": _fit(taken),
        }
        learning = learner(artefact)
        if learning is not None:
            facts["learning_ram_bytes"], facts["learning_ram_bytes_with_products"] = learning.memory()
        told = guide(graph, taken, most, facts["fit"], self.layout) + look_up_guide(found)
        if learning is not None:
            arguments = LAYOUTS[self.layout].arguments(LEARN_PROGRAM, SOURCE, LEARN_SOURCE)
            told += learning_guide(learning, graph, arguments)
        return Emission(told, facts)

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
        graph, layout = artefact.graph, _layout(directory, content)
        for problem in self.check(graph):
            raise ArtefactError(f"{directory / NETWORK}: no network for C, {problem.reason}; deploy again")
        small = content.get("profile") == SMALL
        texts = _texts(artefact, replay(graph, golden, directory), layout, small)
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
            command = [
                *compiler,
                *FLAGS,
                *LAYOUTS[layout].arguments(selftest.PROGRAM, SOURCE),
                "-o",
                built.name,
            ]
            compiled = run(command, MOST_SECONDS, folder)
            if compiled.returncode:
                raise _uncompiled(compiler, compiled.stderr)
            result = run([str(built)], MOST_SECONDS, folder)
            learned = learner(artefact) is None or _learned(compiler, folder, LAYOUTS[layout])
            version = run([*compiler, "--version"], MOST_SECONDS, folder).stdout.partition("\n")[0].strip()
        lines = result.stdout.splitlines()
        agreed = sum(line.endswith("as expected") for line in lines)
        rows = len(golden.y)
        wrong = rows - agreed
        if lines[-1:] != ["PASSED"] or result.returncode:
            wrong = max(wrong, 1)
        if not learned:
            wrong = max(wrong, 1)
        compared = f"outputs y, counts N and potentials v{' that are kept' if small else ''}, bit for bit"
        return VerificationResult(version or compiler[0], rows, wrong, compared)


def _texts(artefact: Artefact, golden: Golden, layout: str, small: bool = False) -> dict[str, str]:
    """Return all texts of a bundle that are made of the network, by the paths of their files."""
    graph = artefact.graph
    found = learner(artefact)
    most = longest(graph, small)
    lowered = lower(graph, widths(graph, most, small))
    places = lowered.places()
    texts = {
        HEADER: header(graph, lowered, places, most),
        SOURCE: source(graph, lowered, places),
        WEIGHTS: weights(lowered),
        selftest.PROGRAM: selftest.program(graph, golden, lowered),
        selftest.VECTORS: selftest.vectors(golden),
        **look_up_texts(look_ups(artefact)),
        **({} if found is None else learning_texts(found, graph, golden)),
    }
    return LAYOUTS[layout].arranged(texts, graph)


def _layout(directory: Path, content: manifest.Json) -> str:
    """Return the layout that a manifest tells; bundles from before there were any are plain.

    Raises:
        ArtefactError: this version knows no such layout.
    """
    facts = content.get("facts")
    layout = facts.get("layout", PLAIN) if isinstance(facts, dict) else PLAIN
    if not isinstance(layout, str) or layout not in LAYOUTS:
        raise ArtefactError(
            f"{directory / manifest.NAME}: the layout {layout!r} is unknown to this snnc; deploy again"
        )
    return layout


def _learned(compiler: Sequence[str], folder: Path, layout: Layout) -> bool:
    """Compile what learns on the device and run it; say whether all sums and weights are as expected."""
    built = folder / "selftest_learn"
    arguments = layout.arguments(LEARN_PROGRAM, SOURCE, LEARN_SOURCE)
    command = [*compiler, *FLAGS, "-DSNNC_LEARN_GRAM", *arguments, "-o", built.name]
    compiled = run(command, MOST_SECONDS, folder)
    if compiled.returncode:
        raise _uncompiled(compiler, compiled.stderr)
    result = run([str(built)], MOST_SECONDS, folder)
    return result.returncode == 0 and result.stdout.splitlines()[-1:] == ["PASSED"]


def _write(texts: Mapping[str, str], folder: Path) -> None:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii", newline="\n")


def _as_written_by(texts: Mapping[str, str], version: object) -> dict[str, str]:
    """Return texts with the version of snnc, which their comments tell, replaced by another."""
    if not isinstance(version, str) or not re.fullmatch(r"[0-9A-Za-z.+-]+", version):
        return dict(texts)
    return {
        name: text.replace(MADE_BY.format(__version__), MADE_BY.format(version))
        for name, text in texts.items()
    }


def _uncompiled(compiler: Sequence[str], told: str) -> UsageError:
    """Return what is said where a compiler refuses the program: its first error, not where that stands."""
    lines = told.strip().splitlines() or [""]
    first = next((line for line in lines if "error" in line), lines[0])
    return UsageError(f"{compiler[0]} does not compile it: {first}; name another one by CC")


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
