"""The measurements of a long search, in a file, so that an interrupted search can be continued.

A search whose next step depends only on earlier measurements continues exactly where it stopped: it is run
again from its start, and measurements in the journal are not repeated. Each measurement is one line of JSON
that is written to disk before the search continues; a truncated last line is measured again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snnc.errors import InputError

FORMAT = "snnc-journal-1"


class Journal:
    """Measurements by key.

    Attributes:
        path: the file; ``None`` to keep them in memory alone.
    """

    def __init__(self, path: Path | None, search: str) -> None:
        """Open a journal, or begin it.

        Args:
            path: where.
            search: what identifies the search: all that its measurements depend on.

        Raises:
            InputError: the file is none, or belongs to another search.
        """
        self.path = path
        self._found: dict[str, Any] = {}
        if path is None:
            return
        head = {"format": FORMAT, "search": search}
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
        whole = lines[:-1]
        begun = json.dumps(head) + "\n"
        # An interruption may have cut off the very first line.
        if not whole and begun.encode().startswith(lines[0]):
            path.write_text(begun, encoding="utf-8")
            return
        try:
            first, *measured = (json.loads(line) for line in whole or lines)
            self._found = {line["key"]: line["value"] for line in measured}
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path} is not a journal, or damaged: remove it, or give another file"
            ) from error
        if not isinstance(first, dict) or first.get("format") != FORMAT:
            raise InputError(f"{path} is not a journal: give another file")
        if first != head:
            raise InputError(
                f"{path} belongs to another search, with other rows or options: remove it, or name another"
            )
        if lines[-1]:
            with path.open("r+b") as file:
                file.truncate(sum(len(line) + 1 for line in whole))

    def __len__(self) -> int:
        """Return the number of measurements."""
        return len(self._found)

    def __contains__(self, key: str) -> bool:
        """Whether something was measured under ``key``."""
        return key in self._found

    def value(self, key: str, measure: Callable[[], Any]) -> Any:
        """Return what was measured under ``key``, or measure and keep it; JSON values."""
        if key not in self._found:
            # A value goes through its text form, so that a resumed search sees the same bits.
            text = json.dumps({"key": key, "value": measure()})
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(text + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            self._found[key] = json.loads(text)["value"]
        return self._found[key]
