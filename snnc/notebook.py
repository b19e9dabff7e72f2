"""What a notebook shows of a result: a small table, and a row of bars. No script, no style of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

BAR, GAP, HEIGHT = 8, 2, 32
"""Width of a bar, room between two, height of the tallest: pixels."""


def table(caption: str, rows: Iterable[Sequence[str]], heads: Sequence[str] = ()) -> str:
    """Return a table whose first column names the rows.

    Args:
        caption: what it shows.
        rows: of texts.
        heads: of the columns; none by default.
    """
    lines = [f'<tr><th scope="row">{escape(first)}</th>{_cells(cells)}</tr>' for first, *cells in rows]
    if heads:
        lines.insert(0, "<tr>" + "".join(f'<th scope="col">{escape(head)}</th>' for head in heads) + "</tr>")
    return f"<table><caption>{escape(caption)}</caption>{''.join(lines)}</table>"


def _cells(texts: Sequence[str]) -> str:
    return "".join(f"<td>{escape(text)}</td>" for text in texts)


def sparkline(title: str, values: Sequence[tuple[str, float, str]]) -> str:
    """Return bars beside each other as an SVG picture; each tells its name and value where it is pointed at.

    Args:
        title: what it shows, for those who do not see it.
        values: name, size of the bar, and value in words, of each; empty for no picture.
    """
    if not values:
        return ""
    most = max(size for _, size, _ in values) or 1.0
    bars = []
    for index, (name, size, told) in enumerate(values):
        high = max(1.0, HEIGHT * size / most)
        bars.append(
            f'<rect x="{index * (BAR + GAP)}" y="{HEIGHT - high:.1f}" width="{BAR}" height="{high:.1f}">'
            f"<title>{escape(name)}: {escape(told)}</title></rect>"
        )
    width = len(values) * (BAR + GAP) - GAP
    highest = max(values, key=lambda value: value[1])
    words = f"{title}. {len(values)} bars; the highest, {highest[0]}: {highest[2]}."
    return (
        f'<svg role="img" aria-label="{escape(words)}" width="{width}" height="{HEIGHT}" fill="currentColor">'
        f"{''.join(bars)}</svg>"
    )
