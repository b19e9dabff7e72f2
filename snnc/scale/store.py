"""Finished results in files, by what they depend on: what is there is never computed again.

A result appears whole or not at all, and is checked when it is read: one that is damaged counts as missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnc.errors import InputError
from snnc.writing import replacing

FORMAT = "snnc-store-1"
DIGEST = 32


def key_of(kind: str, depends_on: Mapping[str, Any]) -> str:
    """Return the key of a result.

    Args:
        kind: what it is.
        depends_on: all that it depends on, in values that JSON holds.
    """
    text = json.dumps({"kind": kind, "depends_on": depends_on}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of results.

    Attributes:
        folder: where; it is made when it is opened.
    """

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Open a store, or begin one.

        Raises:
            InputError: the folder cannot be made, or holds something else.
        """
        mark = folder / "format"
        try:
            if not mark.exists():
                if folder.exists() and any(folder.iterdir()):
                    raise InputError(f"{folder} holds other files and no results: name another folder")
                folder.mkdir(parents=True, exist_ok=True)
                with replacing(mark) as stream:
                    stream.write(FORMAT.encode())
            found = mark.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise InputError(
                f"{folder} cannot hold results ({error.strerror}); name another folder"
            ) from None
        if found != FORMAT:
            raise InputError(f"{folder} holds results of another version: name another folder")
        return cls(folder)

    def get(self, key: str) -> bytes | None:
        """Return a result; ``None`` where there is none, or where it is damaged."""
        try:
            data = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{self._path(key)} cannot be read: {error.strerror}") from None
        content = data[DIGEST:]
        return content if hashlib.sha256(content).digest() == data[:DIGEST] else None

    def __contains__(self, key: str) -> bool:
        """Whether there is a whole result."""
        return self.get(key) is not None

    def put(self, key: str, content: bytes) -> None:
        """Keep a result.

        Raises:
            InputError: the disk is full, or the folder is gone.
        """
        path = self._path(key)
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{path.parent}: cannot be written ({error.strerror}); name another output"
            ) from None
        with replacing(path) as stream:
            stream.write(hashlib.sha256(content).digest())
            stream.write(content)

    def forget(self, key: str) -> None:
        """Take a result away, so that it is computed again."""
        with contextlib.suppress(FileNotFoundError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]
