"""Collections of files, one row each: a folder, a folder of class folders, or a list of paths.

The order never depends on the file system: a folder's files come in the order of their names, class folders
in that of theirs, and a list's in its own. Names are compared character by character.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnc import events
from snnc.data import pictures, sounds
from snnc.data.csv_rows import labels_of
from snnc.errors import InputError
from snnc.ir.graph import NumberArray

LISTS = (".lst", ".txt")
"""Endings of files that list paths."""

IGNORED = (".json", ".md", ".txt")
"""Endings of files that may lie beside the rows: preprocessing, notices."""
ALSO_IGNORED = ("Thumbs.db", "desktop.ini")

KINDS: Mapping[str, str] = {
    **dict.fromkeys(pictures.SUFFIXES, "picture"),
    **dict.fromkeys(sounds.SUFFIXES, "sound"),
    **dict.fromkeys(events.SUFFIXES, "recording"),
}


@dataclass(frozen=True, slots=True)
class Collection:
    """Files that become rows.

    Attributes:
        where: the folder or the list.
        files: in order.
        kind: ``picture``, ``sound``, or ``recording`` of an event camera.
        labels: (n,) the class of each file, or its number; ``None`` where there are none.
        classes: what the classes are called, by number; empty where labels are numbers already.
    """

    where: Path
    files: tuple[Path, ...]
    kind: str
    labels: NumberArray | None = None
    classes: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """How the labels were made, one line; empty where nothing had to be chosen."""
        if not self.classes:
            return ""
        shown = [f"{number} {name}" for number, name in enumerate(self.classes[:MOST_SHOWN])]
        rest = f" ... {len(self.classes) - 1} {self.classes[-1]}" if len(self.classes) > MOST_SHOWN else ""
        return f"labels of {self.where}, by sorted names: {', '.join(shown)}{rest}"


MOST_SHOWN = 10
"""Classes that are named where labels are told."""


def collected(where: Path) -> Collection:
    """List the files of a folder or of a list; a recording is a list of one.

    Raises:
        InputError: there are none, or they are not all of one kind.
    """
    if is_recording(where):
        return Collection(where, (where,), "recording")
    return _folder(where) if where.is_dir() else _list(where)


def is_recording(where: Path) -> bool:
    """Whether a path names one recording; ``.npy`` files hold rows."""
    suffix = where.suffix.lower()
    return suffix in events.SUFFIXES and suffix != ".npy" and not where.is_dir()


def _folder(where: Path) -> Collection:
    files, folders = _entries(where)
    if files and folders:
        raise InputError(
            f"{where} holds files, such as {files[0].name}, and folders, such as {folders[0].name}: give a "
            "folder of files, or one of class folders alone"
        )
    if not folders:
        if not files:
            raise InputError(
                f"{where} holds no pictures, sounds or recordings: give a folder that does, or an .npz file"
            )
        return Collection(where, tuple(files), _kind_of(files))
    found: list[Path] = []
    labels: list[int] = []
    names = [folder.name for folder in folders]
    _check_numbers(where, names)
    for number, folder in enumerate(folders):
        inner, deeper = _entries(folder)
        if deeper:
            raise InputError(f"{folder} holds the folder {deeper[0].name}: class folders hold files alone")
        if not inner:
            raise InputError(f"the class folder {folder} is empty: fill it, or take it away")
        found += inner
        labels += [number] * len(inner)
    return Collection(where, tuple(found), _kind_of(found), np.array(labels, np.int64), tuple(names))


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files and the folders in a folder that count, by name."""
    try:
        inside = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read: {error.strerror}") from None
    seen = [path for path in inside if not path.name.startswith(".") and path.name not in ALSO_IGNORED]
    folders = [path for path in seen if path.is_dir()]
    files = [path for path in seen if not path.is_dir() and path.suffix.lower() not in IGNORED]
    return files, folders


def _kind_of(files: list[Path]) -> str:
    """Return what all files are.

    Raises:
        InputError: one is no picture, sound or recording, or they differ.
    """
    for path in files:
        kind = KINDS.get(path.suffix.lower())
        if kind is None:
            known = " ".join(KINDS)
            raise InputError(f"{path} is no picture, sound or recording by its name ({known}): take it away")
        if kind != KINDS[files[0].suffix.lower()]:
            raise InputError(f"{files[0]} and {path} are of different kinds: give files of one kind alone")
    return KINDS[files[0].suffix.lower()]


def _check_numbers(where: Path, names: list[str]) -> None:
    """Refuse folders called by numbers whose order as text is another.

    Raises:
        InputError: such as 1, 10, 2: which class is the third?
    """
    numbers = [int(name) for name in names if name.isascii() and name.isdigit()]
    if len(numbers) == len(names) and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise InputError(
            f"the class folders of {where} are called by numbers that are not in order as text "
            f"({', '.join(names[:3])} ...): fill them up with zeros, such as 00{numbers[0]}, or give "
            "a list of paths and labels"
        )


def _list(where: Path) -> Collection:
    """Read a list: a path a line, and its label after it."""
    files: list[Path] = []
    labels: list[str] = []
    for number, line in enumerate(_lines(where), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        path, label = _split(where, text, number)
        files.append(path)
        labels += [] if label is None else [label]
        if labels and len(labels) < len(files):
            raise InputError(
                f"{where}, line {number}: {text[:60]!r} has no label, and others have: give it one"
            )
    if not files:
        raise InputError(f"{where} lists no files: write a path a line, with its label after it")
    kind = _kind_of(files)
    if not labels:
        return Collection(where, tuple(files), kind)
    y, classes = labels_of(where, labels)
    return Collection(where, tuple(files), kind, y, classes)


def _lines(where: Path) -> list[str]:
    try:
        return where.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"{where} does not exist: check the path of the data") from None
    except OSError as error:
        raise InputError(f"{where} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{where} is not a text of paths: write a path a line, in UTF-8") from None


def _split(where: Path, text: str, number: int) -> tuple[Path, str | None]:
    """Return the path and the label of a line; a line that is a path as a whole has no label."""
    try:
        whole = where.parent / text
        if whole.is_file():
            return whole, None
        name, _, label = text.rpartition("\t") if "\t" in text else text.rpartition(" ")
        path = where.parent / name.strip()
        if name and path.is_file():
            return path, label.strip()
    except (OSError, ValueError):  # what no file can be called
        pass
    raise InputError(f"{where}, line {number}: {text[:60]!r} names no file: write PATH or PATH LABEL")
