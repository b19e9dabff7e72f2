"""The direction of imports that `docs/architecture.md` draws, read from the source text."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A room may import from the lines above its own: neither from its own line nor from those below.
LAYERS = (
    ("errors",),
    ("option_kinds", "progress"),
    ("cores", "diagnostics", "notebook", "options", "pass_options", "plugins", "writing"),
    ("option_files",),
    ("bars", "ir", "models", "scale"),
    ("encoders", "events", "metrics"),
    ("data", "numerics"),
    ("simulation", "source"),
    ("analysis", "artefact", "frontend"),
    ("compensation", "backends", "sources"),
    ("pipeline",),
    ("search", "trial"),
    ("passes",),
    ("report", "arguments"),
    ("conversion_options",),
    ("compiler",),
    ("budget", "training"),
    ("adaptation", "remote"),
    ("sweep",),
    ("converted_network",),
    ("network",),
    ("cli",),
)
SIMULATOR = ("machine", "codegen", "kernels", "layout", "planning", "execution")
"""The rooms of the CPU simulator, in which the same holds; the rest of its package stands above them."""

HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}
FOLDERS = {"snnc": "snnc", "passes": "snnc.passes", "backends": "snnc.backends", "models": "snnc.models"}


@dataclass(frozen=True)
class Import:
    """One name that one module takes from another, both dotted."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}: imports {self.imported}"


def modules(root: Path) -> dict[str, Path]:
    """Return every module of the tree by its dotted name. The links in ``snnc/`` are not followed."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((root / folder).rglob("*.py")):
            inside = path.relative_to(root / folder)
            if folder == "snnc" and inside.parts[0] in FOLDERS:
                continue  # rglob follows links before Python 3.13
            parts = (package, *inside.with_suffix("").parts)
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def imports(name: str, path: Path) -> tuple[Import, ...]:
    """Return what a module imports when it runs, also inside functions, but not for type checkers alone."""
    found: list[Import] = []
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"), str(path))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending.extend(node.orelse)
        elif isinstance(node, ast.Import):
            found += [Import(name, alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [Import(name, f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
        else:
            pending.extend(ast.iter_child_nodes(node))
    return tuple(found)


def own_imports(root: Path) -> list[Import]:
    """Return all imports of one part of snnc by another, but for the version, which everyone may read."""
    found = [i for name, path in modules(root).items() for i in imports(name, path)]
    inside = [i for i in found if i.imported.split(".")[0] == "snnc"]
    return [i for i in inside if i.imported != "snnc.__version__"]


def room(module: str) -> str:
    """Return the room of a dotted module, ``"snnc"`` for the package itself and for ``python -m snnc``."""
    names = module.removesuffix(".__main__").split(".")
    return names[1] if len(names) > 1 else names[0]


def against_the_direction(root: Path) -> list[Import]:
    """Return the imports between rooms that do not lead from a higher to a lower layer.

    The package itself stands above every room, so that none may import a public name from it.
    """
    top = len(LAYERS)
    between = [i for i in own_imports(root) if room(i.importer) != room(i.imported)]
    apart = ("passes", "backends")  # a pass that must simulate is given a simulator by its context
    return [
        i
        for i in between
        if HEIGHT.get(room(i.imported), top) >= HEIGHT.get(room(i.importer), top)
        or (room(i.importer), room(i.imported)) == apart
    ]


def between_passes(root: Path) -> list[Import]:
    """Return the imports of one pass by another. The table in ``passes/__init__.py`` may import all."""
    own = [i for i in own_imports(root) if i.importer.startswith("snnc.passes.")]
    to_passes = [i for i in own if room(i.imported) == "passes"]
    return [i for i in to_passes if i.imported.split(".")[:3] != i.importer.split(".")[:3]]


def lines(found: list[Import]) -> str:
    return "\n".join(map(str, found))


def test_every_module_has_a_room() -> None:
    homeless = {name for name in modules(ROOT) if room(name) not in {*HEIGHT, "snnc"}}
    assert not homeless, f"give {sorted(homeless)} a place in LAYERS and in docs/architecture.md"


def test_the_architecture_page_draws_these_layers() -> None:
    drawn = " <- ".join(rooms[0] if len(rooms) == 1 else f"{{{', '.join(rooms)}}}" for rooms in LAYERS)
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert drawn in " ".join(page.split())


def test_rooms_import_downwards() -> None:
    found = against_the_direction(ROOT)
    assert not found, lines(found)


def test_the_rooms_of_the_cpu_simulator_import_downwards() -> None:
    package = "snnc.backends.numba_cpu."
    height = {name: number for number, name in enumerate(SIMULATOR)}

    def inside(module: str) -> str:
        return module.removeprefix(package).split(".")[0] if module.startswith(package) else ""

    found = [
        i
        for i in own_imports(ROOT)
        if inside(i.importer) in height
        and inside(i.imported)
        and height.get(inside(i.imported), len(SIMULATOR)) > height[inside(i.importer)]
    ]
    assert not found, lines(found)


def test_no_files_import_each_other_in_a_circle() -> None:
    known = modules(ROOT)
    reads: dict[str, set[str]] = {name: set() for name in known}
    for i in own_imports(ROOT):
        target = i.imported if i.imported in known else i.imported.rpartition(".")[0]
        if target in known and target != i.importer and known[target].name != "__init__.py":
            reads[i.importer].add(target)
    while free := [name for name, read in reads.items() if not read]:
        for name in free:
            del reads[name]
        for read in reads.values():
            read.difference_update(free)
    assert not reads, f"in circles, or above one: {sorted(reads)}"


def test_passes_do_not_know_each_other() -> None:
    found = between_passes(ROOT)
    assert not found, lines(found)


def test_the_lowest_rooms_need_only_the_standard_library() -> None:
    low = [
        i
        for name, path in modules(ROOT).items()
        if room(name) in LAYERS[0] + LAYERS[1] + LAYERS[2]
        for i in imports(name, path)
    ]
    foreign = [i for i in low if i.imported.split(".")[0] not in {*sys.stdlib_module_names, "snnc"}]
    assert not foreign, lines(foreign)


@pytest.mark.parametrize(
    ("module", "text", "upward", "sideways"),
    [
        ("snnc/ir/graph.py", "from snnc.errors import SnncError", 0, 0),
        ("snnc/ir/graph.py", "from snnc.ir.ann import Conv", 0, 0),
        ("snnc/ir/graph.py", "from snnc import __version__", 0, 0),
        ("snnc/ir/graph.py", "from snnc import compile_model", 1, 0),
        ("snnc/ir/graph.py", "from snnc import data", 1, 0),
        ("snnc/ir/graph.py", "import snnc", 1, 0),
        ("snnc/ir/graph.py", "def late():\n    import snnc.compiler", 1, 0),
        ("snnc/ir/graph.py", "if TYPE_CHECKING:\n    import snnc.compiler\nelse:\n    import numpy", 0, 0),
        ("snnc/data/rows.py", "from snnc.artefact import load", 1, 0),
        ("snnc/unplaced.py", "from snnc.cli import main", 0, 0),
        ("passes/lower.py", "from snnc.backends import BACKENDS", 1, 0),
        ("passes/lower.py", "from snnc.passes.fold import Fold", 0, 1),
        ("passes/lower.py", "from snnc.passes import fold", 0, 1),
        ("passes/clip/mse.py", "from snnc.passes.clip.curve import fit", 0, 0),
        ("passes/__init__.py", "def table():\n    from snnc.passes.fold import Fold", 0, 0),
        ("backends/numba_cpu/kernel.py", "from snnc.passes.fold import Fold", 1, 0),
    ],
)
def test_the_rules_themselves(tmp_path: Path, module: str, text: str, upward: int, sideways: int) -> None:
    path = tmp_path / module
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    assert (len(against_the_direction(tmp_path)), len(between_passes(tmp_path))) == (upward, sideways)
