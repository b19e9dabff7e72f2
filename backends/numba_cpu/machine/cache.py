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
import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
from llvmlite import binding
from numba import types
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
        _log.info("compiling kernels takes some seconds and is not kept: no cache folder can be written")
    elif next(folder.rglob("*.nbi"), None) is None:
        _log.info("compiling kernels for this machine, once: some seconds")


def kernel(function: F) -> F:
    """Compile ``function`` on its first call, without the interpreter's lock, and keep the result."""
    return cast(F, _compiled(function))


def _compiled(function: Callable[..., object], **options: object) -> Any:
    folder = kernel_directory()
    with _numba_cache_in(folder):
        decorate: Any = numba.njit  # its types know fewer options than it has
        # As in C, nothing looks whether a divisor is zero: strides and sizes never are.
        return decorate(nogil=True, error_model="numpy", cache=folder is not None, **options)(function)


_LOCK = Lock()
"""One routine is compiled at a time: threads would write the lists of what is kept over each other's."""


class Routine:
    """A function that kernels call by its address.

    What a kernel calls by name, Numba links into it and optimises again, in each kernel on the way up. A
    routine is compiled once, by itself, and not before its address is asked for.
    """

    def __init__(
        self,
        function: Callable[..., None],
        *constants: int | str,
        kinds: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Compile nothing yet.

        Args:
            function: takes 64-bit integers, and whatever ``kinds`` names.
            constants: what it closes over. They become part of its name, by which the linker tells the kept
                machine code of one closure from that of another: by itself, Numba counts the closures of a
                process.
            kinds: Numba's types of the arguments that are no integers, by their annotations.
        """
        function.__qualname__ += "".join(f"_{constant}" for constant in constants)
        self._function = function
        self._kinds = [
            kinds.get(parameter.annotation, types.int64)
            for parameter in inspect.signature(function).parameters.values()
        ]
        self._compiled: Any = None

    @property
    def compiled(self) -> bool:
        """Whether this process has its code."""
        return self._compiled is not None

    @property
    def address(self) -> int:
        """Where its code lies while the process lives; Numba's functions call each other in this way."""
        with _LOCK:
            if self._compiled is None:
                kinds = tuple(self._kinds)
                # Nothing but machine code calls it.
                compiled = _compiled(self._function, no_cpython_wrapper=True, no_cfunc_wrapper=True)
                compiled.compile(types.void(*kinds))
                self._compiled = compiled.overloads[kinds]
            code = self._compiled
            return int(code.library.get_pointer_to_function(code.fndesc.llvm_func_name))


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
