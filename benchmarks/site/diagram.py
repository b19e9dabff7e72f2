"""Draw the diagrams of the documentation: the architecture, and the core of FPGA designs.

    python -m benchmarks.site.diagram

writes them into `docs/pictures`. Boxes and arrows stand where this file says. A picture follows the reader's
choice of light or dark, and says in words what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent.parent.parent / "docs" / "pictures"
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
LINE = 17
TIP = (
    '<marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto-start-reverse"><path d="M0 0L8 4L0 8z"/></marker>'
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


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        title: what it shows.
        description: the same in sentences, for those who do not see it.
        size: width and height.
        boxes: rooms and files.
        flows: arrows.
        panels: left, top, width, height, words and where these stand.
    """

    title: str
    description: str
    size: tuple[int, int]
    boxes: tuple[Box, ...]
    flows: tuple[Flow, ...]
    panels: tuple[tuple[int, int, int, int, str, int], ...] = ()

    def svg(self) -> str:
        """Return the text of an SVG file."""
        panels = "".join(
            f'<rect class="panel" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'
            f'<text class="small" x="{at}" y="{y + 20}">{escape(text)}</text>'
            for x, y, width, height, text, at in self.panels
        )
        drawn = [each.svg() for each in self.flows] + [each.svg() for each in self.boxes]
        parts = "\n".join(drawn)
        width, height = self.size
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-labelledby="title description">\n'
            f'<title id="title">{escape(self.title)}</title>\n'
            f'<desc id="description">{escape(self.description)}</desc>\n'
            f"<style>{STYLE}</style>\n<defs>{TIP}</defs>\n{panels}\n{parts}\n</svg>\n"
        )


ARCHITECTURE = Picture(
    "How data flow through snnc",
    (
        "A network.onnx goes to frontend, which gives an AnnGraph to passes and to source. Calibration rows "
        "go through data to source, which gives activation statistics to passes. Passes give an SnnGraph to "
        "artefact, which writes and reads network.snn.onnx. Simulators run the artefact and give a Trace to "
        "analysis: accuracy, spikes and operations. Emitters make a Bundle for another runtime or chip."
    ),
    (1000, 500),
    (
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
        Box("network.onnx", 15, 50, kind="file"),
        Box("calibration rows", 15, 250, kind="file"),
        Box("test rows", 15, 315, kind="file"),
        Box("network.snn.onnx", 840, 50, 150, kind="file"),
        Box("accuracy, spikes,\noperations", 840, 190, 150, 48, kind="file"),
        Box("another runtime\nor chip", 840, 383, 150, 48, kind="file"),
    ),
    (
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
    ),
    (
        (205, 14, 585, 216, "compiler/, driven by cli/ or import snnc", 497),
        (565, 256, 225, 196, "backends/", 608),
    ),
)

FPGA_CORE = Picture(
    "The core of an FPGA design",
    (
        "q goes into the memory of inputs. scan reads inputs, the maps of spikes and the heads, a word of "
        "LANES neurons a cycle, and puts words in which somebody fired into a list. taps walk over the "
        "fan-out of each spike by tables of rows and columns, address the weights, and give addresses and "
        "payloads to lanes, which multiply and add into the potentials. fire reads potentials, counts, "
        "thresholds, biases and tables, and writes the maps of spikes. send gives the potentials of the "
        "read-out as y. A program in a memory starts scan, fire and send through a sequencer. Weights that "
        "do not fit come from an SDRAM into the memory of weights."
    ),
    (1000, 440),
    (
        Box("scan\na word of LANES a cycle", 210, 90, 180, 48),
        Box("list\na queue", 450, 90, 110, 48),
        Box("taps\nfan-out of a spike", 430, 200, 150, 48),
        Box("lanes\nLANES multiply and add", 640, 200, 170, 48),
        Box("fire\nLANES neurons", 640, 320, 170, 48),
        Box("send", 860, 90, 120, 44),
        Box("sequencer\nstarts scan, fire, send", 210, 378, 170, 48),
        Box("q, valid/ready", 15, 15, 140, 44, kind="file"),
        Box("inputs", 240, 15, 120, 44, kind="file"),
        Box("heads", 15, 90, 140, 44, kind="file"),
        Box("spikes\na map per step", 15, 200, 140, 48, kind="file"),
        Box("rows, columns", 270, 200, 130, 44, kind="file"),
        Box("weights, int8", 640, 90, 150, 44, kind="file"),
        Box("SDRAM, where needed", 640, 15, 170, 44, kind="file"),
        Box("potentials", 860, 202, 120, 44, kind="file"),
        Box("y, valid/ready", 850, 15, 140, 44, kind="file"),
        Box("counts", 860, 322, 120, 44, kind="file"),
        Box("thresholds,\nbiases, tables", 430, 318, 150, 52, kind="file"),
        Box("program", 15, 380, 140, 44, kind="file"),
    ),
    (
        Flow(((155, 37), (234, 37))),
        Flow(((300, 59), (300, 84))),
        Flow(((155, 112), (204, 112))),
        Flow(((85, 200), (85, 160), (225, 160), (225, 144))),
        Flow(((390, 114), (444, 114)), "words that fired", (417, 80)),
        Flow(((505, 138), (505, 194))),
        Flow(((400, 222), (424, 222))),
        Flow(((571, 200), (571, 112), (634, 112)), "address", (601, 104)),
        Flow(((715, 134), (715, 194))),
        Flow(((715, 59), (715, 84))),
        Flow(((580, 224), (634, 224)), "payload", (607, 242)),
        Flow(((816, 224), (854, 224)), both=True),
        Flow(((900, 252), (900, 290), (760, 290), (760, 314)), both=True),
        Flow(((816, 344), (854, 344)), both=True),
        Flow(((580, 344), (634, 344))),
        Flow(((725, 368), (725, 400), (400, 400), (400, 280), (85, 280), (85, 254))),
        Flow(((920, 202), (920, 140))),
        Flow(((920, 90), (920, 65))),
        Flow(((155, 402), (204, 402))),
        Flow(((250, 378), (250, 144)), uses=True),
    ),
)

PICTURES = {"architecture": ARCHITECTURE, "fpga-core": FPGA_CORE}

if __name__ == "__main__":
    for name, each in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(each.svg(), encoding="utf-8")
