"""External programs that check a bundle: compilers, and interpreters with a consumer.

They run in a temporary folder that contains only files of snnc, with a time limit and without the user's
environment. Nothing in a bundle is ever executed; :func:`foreign` compares its programs with those of snnc.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snnc import __version__
from snnc.errors import ArtefactError, UsageError

KEPT = ("SYSTEMROOT", "SDKROOT", "DEVELOPER_DIR")
"""What compilers and interpreters of some systems cannot start without."""

_WITH_OUR_LIBRARIES = """\
import sys
sys.path[:] = {path!r}
"""


def run(command: Sequence[str], seconds: float, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it wrote, whatever its exit status.

    Args:
        command: the program, as :func:`program` finds it, and its arguments.
        seconds: how long it may take, with all that it starts.
        folder: where it runs, and puts its temporary files.

    Raises:
        UsageError: it took longer, and was stopped.
    """
    apart = os.name == "posix"
    with subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=apart,
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException as error:
            # A compiler is several processes: they all end, and so do their pipes.
            if apart:
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise UsageError(
                f"{command[0]} did not finish within {seconds:g} s and was stopped; verify on a faster "
                "machine, or check the files alone by --hashes-only"
            ) from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def run_python(text: str, seconds: float, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a text of snnc's own in this interpreter, with the libraries that this process has.

    Args:
        text: of the program; it runs in ``folder``, where it is written to ``snnc_check.py``.
        seconds: how long it may take.
        folder: where it runs.

    Raises:
        UsageError: it took longer, and was stopped.
    """
    path = [entry for entry in sys.path if Path(entry).is_absolute()]
    script = folder / "snnc_check.py"
    script.write_text(_WITH_OUR_LIBRARIES.format(path=path) + text, encoding="utf-8")
    return run([sys.executable, "-I", script.name], seconds, folder)


def program(name: str) -> str | None:
    """Return the absolute path of a program, or ``None``.

    Relative entries of ``PATH`` are not searched: the current folder may be a bundle.
    """
    found = shutil.which(name, path=_search_path())
    return None if found is None else str(Path(found).absolute())


def copy(directory: Path, names: Sequence[str], folder: Path) -> None:
    """Copy data of a bundle to where a program will read it.

    Raises:
        ArtefactError: a file is missing.
    """
    for name in names:
        try:
            shutil.copyfile(directory / name, folder / name)
        except OSError as error:
            raise ArtefactError(
                f"{directory}: {name} cannot be read ({error.strerror}); deploy again"
            ) from None


def foreign(directory: Path, content: Mapping[str, Any], expected: Mapping[str, str]) -> tuple[str, ...]:
    """Compare the programs of a bundle, which are not run, with those that this snnc writes.

    Args:
        directory: the bundle.
        content: its manifest.
        expected: name and text of each program.

    Returns:
        The names of those that differ, in the bundle of another version of snnc.

    Raises:
        ArtefactError: some differ, and this version is said to have written them.
    """
    found = tuple(name for name, text in expected.items() if _bytes(directory / name) != text.encode())
    if found and content.get("snnc_version") == __version__:
        raise ArtefactError(
            f"{directory}: {', '.join(found)} altered: not what snnc {__version__} writes for this network, "
            "and so not run; deploy again"
        )
    return found


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _search_path() -> str:
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if Path(entry).is_absolute())


def _environment(folder: Path) -> dict[str, str]:
    """Return the little that programs need of the environment."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    return {"PATH": _search_path(), "LC_ALL": "C.UTF-8", **temporary, **kept}
