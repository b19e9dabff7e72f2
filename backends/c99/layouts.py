"""Layouts of a bundle: where its C lies, and the files by which a build system or an editor takes it.

The C is the same in all of them. What belongs to no library, the self-test with a ``main``, lies apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from snnc.backends.c99 import selftest
from snnc.backends.c99.build_files import EXAMPLE, Contents, arduino, cmake, plain, platformio, zephyr
from snnc.backends.c99.learning import LEARN_PROGRAM
from snnc.errors import UsageError
from snnc.ir.snn import SnnGraph


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout.

    Attributes:
        summary: one line for people.
        sources: folder of the library's C.
        vectors: folder of the golden vectors, where the example finds them.
        selftest: folder of programs that compare everything.
        files: the other files, by their paths.
        guide: how to use it, Markdown.
    """

    summary: str
    sources: str
    vectors: str
    selftest: str
    files: Callable[[Contents], Mapping[str, str]]
    guide: str

    def arranged(self, texts: Mapping[str, str], graph: SnnGraph) -> dict[str, str]:
        """Return the C of a bundle, texts by their names, at its place and with the files beside it."""
        programs = dict.fromkeys((selftest.PROGRAM, LEARN_PROGRAM), self.selftest)
        folders = {**programs, selftest.VECTORS: self.vectors}
        placed = {folders.get(name, self.sources) + name: text for name, text in texts.items()}
        sources = tuple(sorted(name for name in texts if name.endswith(".c") and name not in folders))
        return placed | dict(self.files(Contents(graph, sources)))

    def arguments(self, program: str, *sources: str) -> list[str]:
        """What a compiler is told to build a self-test with sources of the library."""
        folders = [folder.rstrip("/") for folder in (self.sources, self.vectors) if folder]
        return [
            *(f"-I{folder}" for folder in folders),
            *(self.sources + name for name in sources),
            self.selftest + program,
        ]


def layout_named(name: str) -> Layout:
    """Return a layout.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in LAYOUTS:
        raise UsageError(f"the target c99 has no layout {name!r}; known: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


LAYOUTS: dict[str, Layout] = {
    "plain": Layout("all files in one folder", "", "", "", plain, ""),
    "cmake": Layout(
        "a static library for CMake, with an example",
        "src/",
        "example/",
        "extras/",
        cmake,
        f"""
`cmake -S . -B build && cmake --build build && ctest --test-dir build` builds the library, runs the example
(`build/snnc_{EXAMPLE}`) and the self-test. A project of yours says `add_subdirectory(THIS_FOLDER)` and
`target_link_libraries(your_program PRIVATE snnc::network)`. `-DSNNC_WEIGHTS_SECTION=.name` and
`-DSNNC_STATE_SECTION=.name` choose linker sections.
""",
    ),
    "arduino": Layout(
        "a library for the Arduino IDE, with a sketch",
        "src/",
        f"examples/{EXAMPLE}/",
        "extras/",
        arduino,
        f"""
Copy this folder into `libraries` of your sketchbook, then choose File, Examples, and `{EXAMPLE}`. It prints
to the serial monitor, at 115,200 baud. Boards that cannot read flash as ordinary memory (AVR) hold the
weights in RAM.
""",
    ),
    "zephyr": Layout(
        "a module for Zephyr, with a sample",
        "src/",
        f"samples/{EXAMPLE}/src/",
        "extras/",
        zephyr,
        f"""
`west build -b BOARD THIS_FOLDER/samples/{EXAMPLE}` builds the sample, in Zephyr 3.4 or later. An application
of yours gets the module by `-DEXTRA_ZEPHYR_MODULES=THIS_FOLDER`, or in its west manifest, and says
`CONFIG_SNNC_NETWORK=y`.
`CONFIG_SNNC_NETWORK_WEIGHTS_SECTION` and `CONFIG_SNNC_NETWORK_STATE_SECTION` choose linker sections.
""",
    ),
    "platformio": Layout(
        "a library for PlatformIO, with a project",
        "src/",
        f"examples/{EXAMPLE}/src/",
        "extras/",
        platformio,
        f"""
`pio run -d examples/{EXAMPLE} -t exec` builds the example for your own machine and runs it. A project
of yours has `lib_deps = symlink://THIS_FOLDER` in its `platformio.ini`.
""",
    ),
}
"""Name -> layout; the first is the default."""
