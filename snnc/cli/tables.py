"""Tables for terminals of any width: words stay whole, and no line is longer than the screen."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

INDENT = "  "
GAP = 3
"""Columns between two columns of a table, or more than that."""
LEAST = 20
"""Columns that a value has at least, beside its name, before it goes to lines of its own."""


def layout(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Lay a table out, without a head where no column has a name. Numbers are set to the right.

    Where not even the longest words of all columns fit side by side, columns of numbers go to several tables,
    each with the first column; and every row of other tables becomes a paragraph, with the name of a column
    before each value.

    Args:
        columns: their names.
        rows: a cell for each column.
        width: of the screen; only a word that is longer is broken.
    """
    cells = [[column, *(row[index] for row in rows)] for index, column in enumerate(columns)]
    natural = [max(map(_length, column)) for column in cells]
    least = [max(map(_longest, column)) for column in cells]
    console = Console(width=10**6, highlight=False, markup=False, emoji=False)
    around = Measurement.get(console, console.options, _table(columns, rows, natural)).maximum - sum(natural)
    if sum(least) + around > width:
        shares = _side_by_side(columns, rows, least, width)
        if shares:
            tables = [
                layout([columns[i] for i in s], [[row[i] for i in s] for row in rows], width) for s in shares
            ]
            return [line for table in tables for line in ("", *table)][1:]
        return [line for row in rows for line in _paragraph(columns, row, width)]
    widths = _shared(natural, least, width - around)
    with console.capture() as written:
        console.print(_table(columns, rows, widths))
    return "\n".join(line.rstrip() for line in written.get().split("\n")).strip("\n").split("\n")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD if any(columns) else None, show_header=any(columns), pad_edge=False)
    for index, (name, width) in enumerate(zip(columns, widths, strict=True)):
        numbers = all(_is_number(row[index]) for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold", width=width)
    for row in rows:
        table.add_row(*row)
    return table


def _side_by_side(
    columns: Sequence[str], rows: Sequence[Sequence[str]], least: Sequence[int], width: int
) -> list[list[int]]:
    """Return which columns fit beside the first one at a time; nothing where some hold words."""
    numbers = all(not cell or _is_number(cell) for row in rows for cell in row[1:])
    widest = max(least[1:], default=0)
    if not numbers or len(columns) < 3 or least[0] + widest + GAP > width - GAP:
        return []
    shares = [[0]]
    for index in range(1, len(columns)):
        if sum(least[i] + GAP for i in (*shares[-1], index)) > width:
            shares.append([0])
        shares[-1].append(index)
    return shares


def _shared(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return widths that fill the room: the column that would have the most lines gets the next place.

    The first one, which names the row, comes before all others unless it is long.
    """
    widths = list(least)
    if natural[0] <= room // 3:
        widths[0] = min(natural[0], room - sum(least[1:]))
    for _ in range(min(room, sum(natural)) - sum(widths)):
        needy = max(
            range(len(widths)), key=lambda i: (natural[i] > widths[i], natural[i] / max(widths[i], 1))
        )
        widths[needy] += 1
    return widths


def _paragraph(columns: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    """Return the first cell as a heading, and the others below it, each after the name of its column."""
    names = max(map(_length, columns[1:]), default=0)
    beside = names + len(INDENT) + 2 + LEAST <= width
    lines = _wrapped(row[0], width, "")
    for name, value in zip(columns[1:], row[1:], strict=True):
        label = f"{INDENT}{name}{' ' * (names - _length(name))}  " if names else INDENT
        if beside:
            first, *others = _wrapped(value, width - _length(label), "")
            lines += [(label + first).rstrip(), *(" " * _length(label) + line for line in others)]
        else:
            lines += [*_wrapped(name, width, INDENT), *_wrapped(value, width, 2 * INDENT)]
    return lines


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    lines = textwrap.wrap(
        text,
        max(width, len(indent) + 1),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return lines or [indent.rstrip()]


def _longest(cell: str) -> int:
    """Return how long the longest part of a cell is that stays whole: a number with its unit, or a word."""
    return _length(cell) if _is_number(cell) else max(map(_length, cell.split()), default=0)


def _length(text: str) -> int:
    return cell_len(text)


def _is_number(cell: str) -> bool:
    return bool(cell) and (cell[0].isdigit() or cell[0] in "-+.") and cell.strip("-+.0123456789,%kMG ") == ""
