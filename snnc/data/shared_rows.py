"""Rows for tasks: sent with them, or read by the workers where they lie in a file.

Rows that a worker reads itself are checked by their SHA-256, so that another file under the same path is
refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.errors import ClusterError
from snnc.ir.batch import Batch, Rows, joined
from snnc.scale.plain import packed, unpacked
from snnc.scale.tasks import Blob, Shared

PREFIX = "rows:"
"""Put before the name of an array of rows among those of a task."""


@dataclass(frozen=True, slots=True)
class SharedRows:
    """Rows that tasks are about.

    Attributes:
        rows: all of them, mapped from a file where they are many.
        path: an ``.npy`` file that holds just these, for workers that see it; ``None`` to send rows.
    """

    rows: Rows
    path: Path | None = None

    @classmethod
    def of(cls, rows: Rows, path: Path | None, *, reads_paths: bool) -> SharedRows:
        """Return rows, with the file that they are mapped from where workers can read it.

        Args:
            rows: an array, or a batch of several inputs.
            path: where they come from.
            reads_paths: whether workers see it.
        """
        mapped = isinstance(rows, np.memmap) and path is not None and path.suffix == ".npy"
        return cls(rows, path.resolve() if mapped and reads_paths and path is not None else None)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def part(self, rows: slice) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return consecutive rows as values and arrays of a task."""
        start, stop, _ = rows.indices(len(self.rows))
        if self.path is not None:
            digest = _sha256(self.rows[start:stop])
            return {"path": str(self.path), "start": start, "stop": stop, "sha256": digest}, {}
        arrays = self.rows.arrays if isinstance(self.rows, Batch) else {"": self.rows}
        names = list(arrays)
        return (
            {"names": names, "several": isinstance(self.rows, Batch), "start": start, "stop": stop},
            {PREFIX + name: np.ascontiguousarray(array[start:stop]) for name, array in arrays.items()},
        )

    def shared(self, rows: slice) -> Shared:
        """Return consecutive rows as what many tasks share; they are read again when they are sent."""
        data = packed(*self.part(rows))
        return Shared(hashlib.sha256(data).hexdigest(), lambda: packed(*self.part(rows)))


def _sha256(rows: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data).hexdigest()


def rows_of_task(values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Rows:
    """Return the rows of a task in a worker; see :meth:`SharedRows.part`.

    Raises:
        ClusterError: the file is missing here, or holds other rows.
    """
    if "path" not in values:
        found = {name: arrays[PREFIX + name] for name in values["names"]}
        return Batch(found) if values["several"] else joined(found)
    path, part = Path(values["path"]), slice(values["start"], values["stop"])
    try:
        read = np.ascontiguousarray(np.load(path, mmap_mode="r", allow_pickle=False)[part])
    except (OSError, ValueError, EOFError) as error:
        raise ClusterError(
            f"a worker cannot read {path} ({' '.join(str(error).split())[:120]}): put it where all nodes see "
            'it, or send rows by rows = "send"'
        ) from None
    if _sha256(read) != values["sha256"]:
        raise ClusterError(f"{path} holds other rows on a worker than here: copy it again, or send the rows")
    return read


def rows_of_blob(blob: Blob) -> Rows:
    """Return rows that many tasks share; see :meth:`SharedRows.shared`."""
    return rows_of_task(*unpacked(blob.data()))
