"""Draw how data flow through the rooms: the picture of `docs/architecture.md`.

    python -m benchmarks.site.diagram > docs/pictures/architecture.svg

Boxes and arrows stand where this file says. The picture follows the reader's choice of light or dark, and
says in words what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

STYLE = (
    ":root{color-scheme:light dark;color:#1a1a1a;background:#fff;--soft:#eef1f5;--line:#5a6472}"
    ":root{--room:#d6e6f5}"
    "@media(prefers-color-scheme:dark){:root{color:#e8e8e8;background:#15181c;--soft:#1f242a;--line:#9aa5b1}"
    ":root{--room:#1f3a55}}"
    "text{font:14px system-ui,'DejaVu Sans',sans-serif;fill:currentColor;text-anchor:middle}"
    ".small{font-size:12px}.panel{fill:var(--soft)}.room{fill:var(--room)}.file{fill:none}"
    ".room,.file{stroke:var(--line)}.flow{stroke:var(--line);fill:none;stroke-width:1.5}"
    ".uses{stroke-dasharray:4 4}"
    "marker path{fill:var(--line)}"
)
WIDTH, HEIGHT = 1000, 500
LINE = 17
DESCRIPTION = (
    "A network.onnx goes to frontend, which gives an AnnGraph to passes and to source. Calibration rows go "
    "through data to source, which gives activation statistics to passes. Passes give an SnnGraph to "
    "artefact, which writes and reads network.snn.onnx. Simulators run the artefact and give a Trace to "
    "analysis: accuracy, spikes and operations. Emitters make a Bundle for another runtime or chip."
)


@dataclass(frozen=True)
class Box:
    """A room, a rectangle, or a file, which is round."""

    text: str
    x: int
    y: int
    width: int = 140
    height: int = 44
    kind: str = "room"

    def svg(self) -> str:
        """Return its rectangle and its lines of text."""
        round_ = 4 if self.kind == "room" else self.height // 2
        lines = self.text.split("\n")
        top = self.y + self.height / 2 + 5 - LINE * (len(lines) - 1) / 2
        middle, kinds = f"{self.x + self.width / 2:g}", ("name", "small")
        texts = "".join(
            f'<text class="{kinds[k > 0]}" x="{middle}" y="{top + LINE * k:g}">{escape(line)}</text>'
            for k, line in enumerate(lines)
        )
        box = f'x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="{round_}"'
        return f'<rect class="{self.kind}" {box}/>{texts}'


@dataclass(frozen=True)
class Flow:
    """An arrow along points, with words beside it."""

    points: tuple[tuple[int, int], ...]
    text: str = ""
    at: tuple[int, int] = (0, 0)
    uses: bool = False
    both: bool = False

    def svg(self) -> str:
        """Return its line and its words."""
        line = "M" + "L".join(f"{x} {y}" for x, y in self.points)
        kind = "flow uses" if self.uses else "flow"
        start = ' marker-start="url(#tip)"' if self.both else ""
        told = f'<text class="small" x="{self.at[0]}" y="{self.at[1]}">{escape(self.text)}</text>'
        return f'<path class="{kind}" d="{line}" marker-end="url(#tip)"{start}/>{told if self.text else ""}'


PANELS = (
    (205, 14, 585, 216, "compiler/, driven by cli/ or import snnc", 497),
    (565, 256, 225, 196, "backends/", 608),
)
"""Left, top, width, height, words and where these stand."""

ROOMS = (
    Box("frontend/", 230, 50, 120),
    Box("source/", 430, 150),
    Box("passes/", 430, 50, 120),
    Box("artefact/", 630, 50),
    Box("simulators", 590, 290),
    Box("emitters", 590, 385),
    Box("data/", 230, 280, 120),
    Box("analysis/", 840, 290),
    Box("ir/\nboth dialects, their rules", 215, 350, 190, 48),
    Box("simulation/\nwhat every operation means", 215, 420, 220, 48),
    Box("models/\nthe bundled zoo", 15, 420, 140, 48),
)
FILES = (
    Box("network.onnx", 15, 50, kind="file"),
    Box("calibration rows", 15, 250, kind="file"),
    Box("test rows", 15, 315, kind="file"),
    Box("network.snn.onnx", 840, 50, 150, kind="file"),
    Box("accuracy, spikes,\noperations", 840, 190, 150, 48, kind="file"),
    Box("another runtime\nor chip", 840, 383, 150, 48, kind="file"),
)
FLOWS = (
    Flow(((155, 72), (224, 72))),
    Flow(((350, 72), (424, 72)), "AnnGraph", (387, 64)),
    Flow(((290, 94), (290, 172), (424, 172)), "AnnGraph", (350, 164)),
    Flow(((500, 150), (500, 100)), "activation statistics", (565, 128)),
    Flow(((550, 72), (624, 72)), "SnnGraph", (589, 64)),
    Flow(((776, 72), (834, 72)), both=True),
    Flow(((155, 272), (224, 294))),
    Flow(((155, 337), (224, 310))),
    Flow(((350, 302), (500, 302), (500, 200)), "inputs", (425, 294)),
    Flow(((660, 94), (660, 284))),
    Flow(((760, 94), (760, 400), (736, 400))),
    Flow(((730, 312), (834, 312)), "Trace", (800, 304)),
    Flow(((915, 290), (915, 244))),
    Flow(((730, 414), (834, 414)), "Bundle", (802, 406)),
    Flow(((310, 350), (310, 328), (390, 328), (390, 236)), uses=True),
    Flow(((435, 444), (530, 444), (530, 322), (584, 322)), uses=True),
    Flow(((85, 420), (85, 365)), uses=True),
)


def picture() -> str:
    """Return the picture as the text of an SVG file."""
    panels = "".join(
        f'<rect class="panel" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'
        f'<text class="small" x="{at}" y="{y + 20}">{escape(text)}</text>'
        for x, y, width, height, text, at in PANELS
    )
    tip = (
        '<marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0L8 4L0 8z"/></marker>'
    )
    parts = "\n".join(part.svg() for part in (*FLOWS, *ROOMS, *FILES))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-labelledby="title description">\n'
        f'<title id="title">How data flow through snnc</title>\n<desc id="description">{DESCRIPTION}</desc>\n'
        f"<style>{STYLE}</style>\n<defs>{tip}</defs>\n{panels}\n{parts}\n</svg>"
    )


if __name__ == "__main__":
    print(picture())
