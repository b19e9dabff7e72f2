"""Run what a page of the documentation says, block by block, as a reader would who follows it.

In an empty folder a walk takes the blocks of a page in their order:

- ``python`` runs, all blocks of a page in one namespace; a ``print`` may be followed by its ``text`` block;
- ``bash`` runs line by line, and every command must exit with 0, or with N after ``# exits with N``;
- a block with a ``title="NAME"`` becomes the file of that name;
- ``text`` must be what the block before it printed: its lines in their order, whatever numbers they
  hold; ``...`` stands for other lines, or for the rest of one.

A block of any other kind is an error, so that nothing is left out. Before a block, ``<!-- needs: NAME -->``
names programs and modules that it needs; where they are absent the walk passes over the block and says so.
Lines that install something would need the network: of these it is checked that the extras and the targets of
make exist. Only ``pip install .`` of what the page itself has written is done, beside the files of the page.

    python -m benchmarks.site.walks [PAGE.md ...]              # runs pages, and prints how long each took
    python -m benchmarks.site.walks --complete [PAGE.md ...]   # and fails where a block was passed over

`make walks` does the second with everything that blocks need.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile

ROOT = Path(__file__).parent.parent.parent
FOLDERS = ("tutorials", "how-to")
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
NEEDS = re.compile(r"<!-- needs: (?P<names>[^>]+) -->\s*\Z")
NUMBER = re.compile(r"[-−]?\d[\d,.]*")
SHELL = frozenset("|&;<>$`*?~")
INSTALLED = ".installed"
INSTALLERS = ("make", "pip", "python3", ".", "git", "apt")
"""First words of lines that prepare a machine."""

_CONVERTED: dict[tuple[str, ...], tuple[bytes, str]] = {}
"""Artefacts of conversions that were made on other pages, by the command, with what it said."""


class WalkError(Exception):
    """A page says something that does not come true."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: where it stands.
        line: of its fence, counted from 1.
        language: the first word of the fence.
        title: name of the file that it is; empty where it runs.
        needs: programs and modules without which it cannot run.
        code: what it holds.
    """

    page: Path
    line: int
    language: str
    title: str
    needs: tuple[str, ...]
    code: str

    @property
    def place(self) -> str:
        """Page and line, for messages."""
        return f"{self.page.name}:{self.line}"

    @property
    def missing(self) -> list[str]:
        """What it needs and what is not installed."""
        return [name for name in self.needs if not installed(name)]


@dataclass
class Walk:
    """What came of following a page.

    Attributes:
        page: which one.
        ran: number of the blocks that ran, were written or were compared.
        skipped: names that blocks need and that are not installed.
        seconds: in all.
        processor: seconds of processor time, those of programs that were called included.
    """

    page: Path
    ran: int = 0
    skipped: set[str] = field(default_factory=set)
    seconds: float = 0.0
    processor: float = 0.0


def pages() -> list[Path]:
    """Return the pages whose every block runs: the README, the front page, tutorials and how-tos."""
    docs = ROOT / "docs"
    return [ROOT / "README.md", docs / "index.md"] + [
        page for folder in FOLDERS for page in sorted((docs / folder).glob("*.md"))
    ]


def installed(name: str) -> bool:
    """Whether a program or a module of this name is there."""
    return shutil.which(name) is not None or (
        name.isidentifier() and importlib.util.find_spec(name) is not None
    )


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        before = NEEDS.search(text[: match.start()])
        names = () if before is None else tuple(name.strip() for name in before["names"].split(","))
        info = match["info"]
        title = re.search(r'title="([^"]+)"', info)
        language = info.split()[0] if info.split() else ""
        line = text.count("\n", 0, match.start()) + 1
        code = textwrap.dedent(match["code"])
        found.append(Block(page, line, language, "" if title is None else title[1], names, code))
    return found


def walk(page: Path, folder: Path) -> Walk:
    """Follow a page in an empty folder, which is the working directory meanwhile.

    Raises:
        WalkError: a block fails, prints something else, or is of a kind that does not run.
    """
    done = Walk(page)
    begun, worked = time.monotonic(), _processor()
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed: str | None = ""  # of the block before; None where that was passed over
    with _inside(folder) as environment:
        for block in blocks(page):
            if block.missing:
                done.skipped |= set(block.missing)
                printed = None
                continue
            if block.title:
                _write(block, folder)
            elif block.language == "text":
                if printed is None:
                    continue
                _compare(block, printed)
            elif block.language == "python":
                printed = _python(block, namespace)
            elif block.language == "bash":
                printed = _bash(block, environment)
            else:
                raise WalkError(
                    f"{block.place}: a block {block.language or 'without a language'!r} neither runs nor is "
                    "a file"
                )
            done.ran += 1
    done.seconds, done.processor = time.monotonic() - begun, _processor() - worked
    return done


def _processor() -> float:
    return sum(os.times()[:4])


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[dict[str, str]]:
    """Work in ``folder``; yields an environment in which ``snnc`` and ``python`` are this checkout's."""
    programs = folder / ".programs"
    programs.mkdir()
    for name, call in (("snnc", "-m snnc"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {call} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(folder / INSTALLED), str(ROOT), os.environ.get("PYTHONPATH", "")])
        ),
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }
    with contextlib.chdir(folder):
        sys.path.insert(0, str(folder))
        try:
            yield environment
        finally:
            sys.path.remove(str(folder))


def _write(block: Block, folder: Path) -> None:
    path = folder / block.title
    if not path.resolve().is_relative_to(folder.resolve()):
        raise WalkError(f"{block.place}: {block.title} lies outside the folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.code, encoding="utf-8")


def _python(block: Block, namespace: dict[str, Any]) -> str:
    told = io.StringIO()
    try:
        code = compile("\n" * block.line + block.code, str(block.page), "exec")
        with contextlib.redirect_stdout(told):
            exec(code, namespace)
    except Exception as error:
        raise WalkError(f"{block.place}: {type(error).__name__}: {error}") from error
    return told.getvalue()


def _bash(block: Block, environment: Mapping[str, str]) -> str:
    told = ""
    for line in commands(block.code):
        words = shlex.split(line, comments=True)
        if not words:
            continue
        wanted = re.search(r"# exits with (\d+)$", line)
        if words[0] in INSTALLERS:
            _installs(block, words, environment)
            continue
        plain = words[0] == "snnc" and not SHELL & set(line) and not Path(INSTALLED).is_dir()
        code, said = _snnc(words[1:]) if plain else _run(line, environment)
        if code != (0 if wanted is None else int(wanted[1])):
            raise WalkError(f"{block.place}: {line} exits with {code}:\n{said[-2000:]}")
        told += said
    return told


def commands(code: str) -> list[str]:
    """Return the commands of a block: its lines, joined where a backslash ends one."""
    found: list[str] = []
    open_line = ""
    for line in code.splitlines():
        open_line += line
        if open_line.endswith("\\"):
            open_line = open_line[:-1]
            continue
        found.append(open_line)
        open_line = ""
    return [line.strip() for line in found if line.strip()]


def _snnc(arguments: Sequence[str]) -> tuple[int, str]:
    """Run a command of snnc in this process, which has its kernels already.

    A conversion of the zoo that reads no file gives the same bytes on every page: it is made once.
    """
    from snnc.cli import main

    output = artefact_of_the_zoo(arguments)
    kept = None if output is None else _CONVERTED.get(tuple(arguments))
    if output is not None and kept is not None and not Path(output).exists():
        Path(output).write_bytes(kept[0])
        return 0, kept[1]
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = main(list(arguments))
    if output is not None and code == 0:
        _CONVERTED[tuple(arguments)] = (Path(output).read_bytes(), told.getvalue())
    return code, told.getvalue()


def artefact_of_the_zoo(arguments: Sequence[str]) -> str | None:
    """Return the one file that a conversion writes, where it reads none and writes no other."""
    known = {"--preset", "-T", "-o"}
    options, values = arguments[2::2], arguments[3::2]
    if arguments[0] != "convert" or not arguments[1].startswith("zoo:") or set(options) - known:
        return None
    return dict(zip(options, values, strict=True)).get("-o") if len(options) == len(values) else None


def _run(line: str, environment: Mapping[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    return done.returncode, done.stdout


def _installs(block: Block, words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Hold a line that installs something against what there is to install."""
    if list(words) == ["pip", "install", "."]:
        _install_here(block, environment)
        return
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    if words[0] == "make":
        done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, check=False)
        if done.returncode:
            raise WalkError(f"{block.place}: the Makefile has no {' '.join(words[1:])}")
    if words[0] == "pip":
        named = re.findall(r"\[([^\]]+)\]", " ".join(words))
        unknown = {extra.strip() for name in named for extra in name.split(",")} - set(extras)
        if words[1] != "install" or unknown:
            raise WalkError(f"{block.place}: there is no extra {', '.join(sorted(unknown))}")


def _install_here(block: Block, environment: Mapping[str, str]) -> None:
    """Build the distribution of the working directory as pip does, and unpack it where snnc will look."""
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, "dist"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise WalkError(f"{block.place}: it cannot be built:\n{done.stderr[-2000:]}")
    (wheel,) = Path("dist").glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(INSTALLED)


def _compare(block: Block, printed: str) -> None:
    """Look for the lines of a block in what was printed, in their order."""
    rest = iter([_plain(line) for line in printed.splitlines()])
    for line in block.code.splitlines():
        if line.strip() in ("", "..."):
            continue
        pattern = re.compile(".*".join(re.escape(_plain(part)) for part in line.split("...")))
        if not any(pattern.fullmatch(said) for said in rest):
            raise WalkError(
                f"{block.place}: {line.strip()!r} was not printed, or not here:\n{printed[-3000:]}"
            )


def _plain(line: str) -> str:
    return " ".join(NUMBER.sub("#", line).split())


def main(arguments: Sequence[str]) -> int:
    """Walk the named pages, or all, and print how long each took; 1 where --complete is missed."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE.md", help="all by default")
    parser.add_argument(
        "--complete", action="store_true", help="fail where a block needs what is not installed"
    )
    asked = parser.parse_args(arguments)
    chosen = [page.resolve() for page in asked.pages] or pages()
    skipped = False
    print("| page | blocks | not installed here | seconds | of processor |\n|---|---|---|---|---|")
    for page in chosen:
        with tempfile.TemporaryDirectory(prefix="snnc-walk-") as folder:
            done = walk(page, Path(folder))
        skipped |= bool(done.skipped)
        missing = ", ".join(sorted(done.skipped)) or "–"
        name = page.relative_to(ROOT) if page.is_relative_to(ROOT) else page
        row = (name, done.ran, missing, f"{done.seconds:.0f}", f"{done.processor:.1f}")
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    return int(asked.complete and skipped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
