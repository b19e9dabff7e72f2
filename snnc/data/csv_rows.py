"""Tables of features as rows: a line each, numbers in every column but that of the label."""

from __future__ import annotations

import csv
import math
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from snnc.data.stored import stored
from snnc.errors import InputError, NonFiniteError
from snnc.ir.graph import FloatArray, NumberArray

SUFFIXES = (".csv", ".tsv")
LABELS = ("label", "y")
"""What the column of labels is called where no name is given; case does not count."""
SEPARATORS = (",", ";", "\t")
FEWEST_NUMBERED = 3
"""Columns from which on a first line 0, 1, 2 ... is taken for their numbers, as pandas writes them."""


@dataclass(frozen=True, slots=True)
class Table:
    """Features and labels.

    Attributes:
        x: (n, features) float32.
        y: (n,) whole numbers or numbers; ``None`` without a column of labels.
        told: what was chosen, one line; empty where nothing was.
    """

    x: FloatArray
    y: NumberArray | None
    told: str


def read_table(path: Path, label: str | None, limit: int | None) -> Table:
    """Read a table. It is read twice, so that only the rows themselves are ever held.

    The first line is a header if any of its cells is no number.

    Args:
        path: a text of UTF-8, whose cells are parted by commas, semicolons or tabs.
        label: the column with the labels; ``None`` for one that is called ``label`` or ``y``.
        limit: read so many rows.

    Raises:
        InputError: it is no such table.
        NonFiniteError: a cell is NaN or infinite.
    """
    with _opened(path) as file:
        separator, header = _format(path, file)
        column = _label_column(path, header, label)
        count = sum(1 for _ in _rows(file, separator, header is not None))
        count = count if limit is None else min(count, limit)
        if count == 0:
            raise InputError(f"{path} holds no rows")
        columns = len(_first(file, separator, header is not None))
        if header is not None and len(header) != columns:
            raise InputError(
                f"{path}: the header has {len(header)} cells, and the first row {columns}: name every column"
            )
        width = columns - (column is not None)
        if width < 1:
            raise InputError(f"{path} holds no features: give at least one column beside the label")
        x = stored((count, width), np.float32)
        labels: list[str] = []
        for index, (line, cells) in enumerate(_rows(file, separator, header is not None)):
            if index >= count and column is None:
                break
            if len(cells) != columns:
                raise InputError(
                    f"{path}, line {line}: {len(cells)} cells where the first row has {columns}: "
                    "complete it, or leave it out"
                )
            if column is not None:  # of all rows: the number of a class must not depend on the limit
                labels.append(cells.pop(column).strip())
            if index < count:
                x[index] = [_number(path, line, cell) for cell in cells]
    if header is None or column is None:
        return Table(x, None, "")
    y, classes = labels_of(path, labels)
    listed = ", ".join(f"{number} {text}" for number, text in enumerate(classes))
    told = f"labels of {path}, column {header[column]!r}, by sorted names: {listed}" if classes else ""
    return Table(x, y[:count], told)


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: check the path of the data") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def _format(path: Path, file: TextIO) -> tuple[str, list[str] | None]:
    """Return what parts the cells, and the header if there is one.

    Raises:
        InputError: it is no text, or the first line may be a header or a row.
    """
    empty = "".join(SEPARATORS) + string.whitespace
    try:
        first = next((line for line in file if line.strip(empty)), "")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a table: write it as text in UTF-8") from None
    separator = max(SEPARATORS, key=first.count)
    cells = [cell.strip() for cell in _first(file, separator, header=False)]
    if len(cells) >= FEWEST_NUMBERED and cells == [str(index) for index in range(len(cells))]:
        raise InputError(
            f"{path}: the first line, {', '.join(cells[:3])} ..., may be a header or a row: put a header of "
            "names before the rows"
        )
    return separator, (None if all(map(_is_number, cells)) else cells)


def _label_column(path: Path, header: list[str] | None, label: str | None) -> int | None:
    if header is None:
        if label is not None:
            raise InputError(f"{path} has no header, so no column is called {label!r}: add one")
        return None
    wanted = LABELS if label is None else (label,)
    found = [
        index
        for index, name in enumerate(header)
        if name in wanted or (label is None and name.lower() in wanted)
    ]
    if len(found) > 1:
        raise InputError(f"{path} has several columns of labels: {', '.join(header[i] for i in found)}")
    if label is not None and not found:
        raise InputError(f"{path} has no column {label!r}; it has {', '.join(header[:12])}")
    return found[0] if found else None


def _rows(file: TextIO, separator: str, header: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield every row with the number of its line, from the first."""
    file.seek(0)
    reader = csv.reader(file, delimiter=separator)
    seen = False
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header and not seen:
                seen = True
                continue
            yield reader.line_num, cells
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{file.name}, line {reader.line_num}: {error}: mend the table") from None


def _first(file: TextIO, separator: str, header: bool) -> list[str]:
    """Return the cells of the first row; none where there is no row."""
    return next(_rows(file, separator, header), (0, []))[1]


def _number(path: Path, line: int, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        shown = "an empty cell" if not cell.strip() else f"{cell[:30]!r}, which is no number"
        raise InputError(
            f"{path}, line {line}: {shown}: fill it, or name the column of labels (FILE.csv#COLUMN)"
        ) from None
    if not math.isfinite(value):
        raise NonFiniteError(f"{path}, line {line}: {cell.strip()}: leave that row out")
    return value


def labels_of(path: Path, cells: list[str]) -> tuple[NumberArray, tuple[str, ...]]:
    """Return labels as numbers, and what the classes are called where they were names.

    Args:
        path: of the file that holds them, for messages.
        cells: numbers alone, or names alone, which are numbered in their order.

    Returns:
        (n,) int64, or float64 where a number is not whole; and the names by number.

    Raises:
        InputError: one is empty, or some are numbers and some are names.
        NonFiniteError: one is NaN or infinite.
    """
    if "" in cells:
        raise InputError(f"{path}: row {cells.index('') + 1} has no label: give it one, or leave it out")
    numbers = [_is_number(cell) for cell in cells]
    if all(numbers):
        values = np.array([float(cell) for cell in cells])
        if not np.isfinite(values).all():
            raise NonFiniteError(f"the labels in {path} hold NaN or infinity: leave those rows out")
        whole = bool((values == np.floor(values)).all() and (np.abs(values) < 2**53).all())
        return (values.astype(np.int64) if whole else values), ()
    if any(numbers):
        row = numbers.index(False)
        raise InputError(
            f"{path}: the label of row {row + 1} is {cells[row][:30]!r}, and others are numbers: "
            "give numbers alone, or names"
        )
    classes = tuple(sorted(set(cells)))
    place = {name: index for index, name in enumerate(classes)}
    return np.array([place[cell] for cell in cells], np.int64), classes


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
