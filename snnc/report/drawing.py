"""Drawing for the report: SVG text that takes its ink from the page, so that a style sheet can darken it.

Names of layers are broken into lines and stand whole beside their bars; the height of a chart grows with the
number of layers, and its edges with the longest label. The colours are those of Okabe and Ito, which
colour-blind readers tell apart. Nothing depends on the clock: equal figures give equal bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snnc import notebook
from snnc.report.layers import LayerReport

INK = "#010203"
"""A colour that nothing else has; it becomes the page's own text colour."""

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
LINE = 26
"""Characters of a layer's name on one line."""

STYLE = (
    ":root{color-scheme:light dark;color:#1a1a1a;background:#fff}"
    "@media(prefers-color-scheme:dark){:root{color:#e8e8e8;background:#15181c}}"
)
"""Ink and paper of a picture by itself, in light and in the dark."""

PAGE = (
    "body{margin:1rem auto;max-width:60rem;padding:0 1rem;font:1rem/1.5 system-ui,sans-serif}"
    "figure{margin:0}figcaption{font-weight:600;font-size:1.2rem}svg{max-width:100%;height:auto}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem}"
    "caption{text-align:left;font-weight:600}"
    "th,td{border-bottom:1px solid #8888;padding:.25rem .6rem;text-align:right}"
    "th:first-child{text-align:left}"
)
"""The rest of a page with one picture."""

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "snnc",
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#8888884d",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture with all that a reader needs who does not see it.

    Attributes:
        key: unique in the page.
        title: what it shows.
        description: what there is to see, in a sentence.
        svg: the picture.
        width: of the picture as drawn, in pixels.
        columns: heads of its data table.
        rows: the data, as text.
    """

    key: str
    title: str
    description: str
    svg: str
    width: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def file(self) -> str:
        """Return the picture as a file of its own, dark where the reader wants it."""
        end = self.svg.index(">") + 1
        styled = f"{self.svg[:end]}<style>{STYLE}</style>{self.svg[end:]}"
        return f'<?xml version="1.0" encoding="utf-8"?>\n{styled}\n'

    def html(self) -> str:
        """Return picture and data for a page."""
        data = notebook.table(self.title, self.rows, self.columns)
        region = '<div class="scroll" role="region" tabindex="0" aria-label="Data of the chart">'
        return (
            f"<figure><figcaption>{_escaped(self.title)}</figcaption>{self.svg}"
            f"<p>{_escaped(self.description)}</p>"
            f"<details><summary>Data</summary>{region}{data}</div></details></figure>"
        )

    def page(self) -> str:
        """Return a page of its own."""
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{_escaped(self.title)}</title><style>{STYLE}{PAGE}</style></head>"
            f"<body><main>{self.html()}</main></body></html>\n"
        )

    def _repr_html_(self) -> str:
        """Return picture and data, for notebooks."""
        return self.html()


def wrapped(name: str, width: int = LINE) -> str:
    """Break a name into lines, behind a separator where there is one."""
    lines, line = [], ""
    for part in re.findall(r"[^/._:\-]*[/._:\-]?", name):
        while len(part) > width:
            room = width - len(line)
            lines.append(line + part[:room])
            line, part = "", part[room:]
        if len(line) + len(part) > width:
            lines.append(line)
            line = ""
        line += part
    return plain("\n".join([*lines, line] if line else lines))


def plain(text: str) -> str:
    """Return a text of the user's so that Matplotlib draws it as it stands: no dollar begins a formula."""
    return text.replace("$", r"\$")


@contextmanager
def figure_of(width: float, height: float) -> Iterator[Figure]:
    """Draw in the report's style; the size is in inches."""
    with mpl.rc_context(SETTINGS):
        # What stands outside the axes widens the picture when it is saved; a layout engine would shrink them.
        yield Figure(figsize=(width, height))


def svg_of(figure: Figure, key: str) -> str:
    """Return a figure as SVG to be put into a page: its own identifiers, the page's ink."""
    buffer = io.StringIO()
    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        # The browser draws the text, in fonts of its own; Matplotlib only measures it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{key}-\1"', text)
    text = text.replace(INK, "currentColor")
    named = f'<svg role="img" aria-labelledby="{key}-title {key}-description" '
    return text.replace("<svg ", named, 1).strip()


def _labelled(svg: str, key: str, title: str, description: str) -> str:
    """Put title and description into a picture."""
    head = f'<title id="{key}-title">{_escaped(title)}</title>'
    head += f'<desc id="{key}-description">{_escaped(description)}</desc>'
    end = svg.index(">") + 1
    return svg[:end] + head + svg[end:]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def finished(
    figure: Figure,
    key: str,
    title: str,
    description: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> Chart:
    """Return a finished chart; see :class:`Chart` for the arguments."""
    svg = _labelled(svg_of(figure, key), key, title, description)
    width = round(4 / 3 * float(re.findall(r'<svg [^>]*?width="([0-9.]+)pt"', svg)[0]))
    return Chart(key, title, description, svg, width, tuple(columns), tuple(tuple(row) for row in rows))


def label(layer: LayerReport) -> str:
    """Return what a layer is called: by its population, since several may stand for one ONNX node."""
    return layer.name


def height_of(names: Sequence[str]) -> float:
    """Return the height of a bar chart in inches: room for every line of every name."""
    return 0.9 + sum(max(0.26, 0.155 * (name.count("\n") + 1) + 0.06) for name in names)


def bars(ax: Axes, names: Sequence[str]) -> np.ndarray:
    """Prepare horizontal bars, first layer on top, with a place for every line of its name."""
    heights = [max(1.0, 0.6 * (name.count("\n") + 1)) for name in names]
    edges = np.concatenate([[0.0], np.cumsum(heights)])
    centres = (edges[:-1] + edges[1:]) / 2
    ax.set_yticks(centres, names, fontsize=8)
    ax.set_ylim(edges[-1], 0)
    ax.grid(axis="y", visible=False)
    return centres


def percent(value: float, digits: int = 1) -> str:
    """Return a share as text; what rounds to nothing has no sign."""
    return f"{100 * value:z.{digits}f}\N{NO-BREAK SPACE}%"
