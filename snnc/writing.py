"""Files and folders that appear whole or not at all: made under another name, renamed once complete."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from snnc.errors import InputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name, and the place of an older one, only once it is complete.

    Raises:
        InputError: it cannot be written; an older file is left as it was.
    """
    target = Path(os.path.realpath(path))
    temporary = target.parent / f".{secrets.token_hex(8)}.part"
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: cannot be written, it is not a regular file; name another output")
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name another output") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def replacing_folder(directory: Path) -> Iterator[Path]:
    """Make a folder that takes its name, and the place of an older one, only once it is complete.

    Raises:
        InputError: it cannot be written; an older folder is left as it was.
    """
    target = directory.absolute()
    mark = secrets.token_hex(8)
    temporary, old = target.with_name(f".{mark}.part"), target.with_name(f".{mark}.old")
    try:
        temporary.mkdir()
        yield temporary
        if target.exists():
            target.rename(old)
        temporary.rename(target)
    except OSError as error:
        raise InputError(f"{directory}: cannot be written ({error.strerror}); name another output") from error
    finally:
        # Whatever came between, an interrupt included: the older one goes only once another has its name.
        with contextlib.suppress(OSError):
            if old.exists() and not target.exists():
                old.rename(target)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)
