"""Reading rows of data, and refusing outputs that could not be written before the work begins."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from snnc.data.labelled import Labelled as Labelled
from snnc.data.labelled import part_of as part_of
from snnc.data.labelled import read_named as read_named
from snnc.data.labelled import with_labels_told as with_labels_told
from snnc.errors import InputError, UsageError


def check_outputs(*outputs: Path | None, others: Iterable[Path | None] = (), force: bool) -> None:
    """Refuse outputs that could not be written, or would destroy something, before the work begins.

    Args:
        outputs: files to be written.
        others: what the same command reads, or writes beside them; ``force`` does not give it up.
        force: whether files that exist may be replaced.

    Raises:
        UsageError: an output is one of the others, or there is a file already that is not to be replaced.
        InputError: a folder is missing or closed.
    """
    taken = [path for path in others if path is not None]
    for output in outputs:
        if output is not None:
            if any(_same(output, other) for other in taken):
                raise UsageError(f"{output} is named twice, once as an output: name another file for it")
            _check_output(output, force)
            taken.append(output)


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def _check_output(path: Path, force: bool) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it")
    if path.exists() and not force:
        raise UsageError(f"{path} exists already: name another file, or replace it by --force")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"the folder {folder} does not exist: make it first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"the folder {folder} cannot be written: choose another")
