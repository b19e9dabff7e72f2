"""Where compiled kernels are kept, and how a function becomes one.

Numba compiles a kernel on its first call and can keep the machine code on disk. By itself it keeps
it beside the source, which a read-only installation forbids, and it looks only at the one file that
holds the kernel, so that an edit of a function inlined from another file would go unnoticed. So the
code lies in the user's cache directory, in a folder named after everything that it depends on: the
sources of this package, the versions of Numba and of llvmlite, and the CPU.

The environment variable ``SNNC_CACHE_DIR`` names another place than ``~/.cache/snnc``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import numba
from llvmlite import binding
from numba.core import config

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger("snnc")

F = TypeVar("F", bound=Callable[..., object])


def cache_root() -> Path | None:
    """Return the directory that holds all that snnc keeps between runs; ``None`` if the user has no home."""
    chosen = os.environ.get("SNNC_CACHE_DIR")
    if chosen:
        return Path(chosen)
    windows = sys.platform == "win32"
    caches = os.environ.get("LOCALAPPDATA" if windows else "XDG_CACHE_HOME")
    if caches:
        return Path(caches) / "snnc"
    try:
        home = Path.home()
    except RuntimeError:  # a user that the system does not know, as containers have them
        return None
    return home / "snnc" if windows else home / ".cache" / "snnc"


@cache
def kernel_directory() -> Path | None:
    """Return the folder for the kernels of this version on this CPU; ``None`` if none can be written.

    Without such a folder every process compiles anew: slower, but right.
    """
    root = cache_root()
    if root is None:
        return None
    digest = hashlib.sha256()
    digest.update(sources_hash(Path(__file__).parent.parent).encode())
    settings = config.__dict__
    cpu = (settings["CPU_NAME"] or binding.get_host_cpu_name(), settings["CPU_FEATURES"] or "")
    for part in (numba.__version__, version("llvmlite"), *cpu):
        digest.update(part.encode())
    folder = root / f"kernels-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def sources_hash(package: Path) -> str:
    """Return the SHA-256 of a package's sources, those of its sub-packages included, and of their names."""
    digest = hashlib.sha256()
    for source in sorted(package.rglob("*.py")):
        content = source.read_bytes()
        digest.update(f"{source.relative_to(package).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def announce() -> None:
    """Say that what comes next takes longer than it will take ever again, where no kernels are kept yet."""
    folder = kernel_directory()
    if folder is None:
        _log.info(
            "compiling kernels takes about half a minute and is not kept: no cache folder can be written"
        )
    elif next(folder.rglob("*.nbi"), None) is None:
        _log.info("compiling kernels for this machine, once: about half a minute")


def kernel(function: F) -> F:
    """Compile ``function`` on its first call, without the interpreter's lock, and keep the result."""
    folder = kernel_directory()
    with _numba_cache_in(folder):
        compiled = numba.njit(nogil=True, cache=folder is not None)(function)
    return cast(F, compiled)


@contextmanager
def _numba_cache_in(folder: Path | None) -> Iterator[None]:
    """Point Numba's process-wide setting at ``folder`` while one function is decorated."""
    settings = config.__dict__
    before = settings["CACHE_DIR"]
    settings["CACHE_DIR"] = "" if folder is None else str(folder)
    try:
        yield
    finally:
        settings["CACHE_DIR"] = before
