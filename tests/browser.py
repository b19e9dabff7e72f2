"""A headless Chromium without network, which looks at a page and says what is wrong with it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (360, 768, 1440)
NARROWEST = 500
"""Pixels below which a headless browser makes no window."""

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9",
    "--enable-logging=stderr",
    "--allow-file-access-from-files",
)

# Runs in a frame of the wanted width: windows of a headless browser are at least 500 pixels wide.
MEASURE = """
const page = document.querySelector('iframe').contentDocument;
const width = page.documentElement.clientWidth;
const inside = node => node.closest('.scroll') !== null;
const name = node => node.tagName + ' ' + (node.textContent || '').trim().slice(0, 60);
const wide = [...page.body.querySelectorAll('*')].filter(
  node => !inside(node) && node.getBoundingClientRect().right > width + 1).map(name);
const cut = [...page.querySelectorAll('svg text')].filter(node => {
  const box = node.getBoundingClientRect(), all = node.closest('svg').getBoundingClientRect();
  return box.left < all.left - 1 || box.right > all.right + 1 || box.top < all.top - 1
    || box.bottom > all.bottom + 1;
}).map(name);
const scrolling = [...page.querySelectorAll('.scroll')].filter(
  node => node.getBoundingClientRect().width && node.scrollWidth > node.clientWidth + 1);
const style = node => page.defaultView.getComputedStyle(node);
const shaded = node => style(node).backgroundAttachment === 'local, local, scroll, scroll';
document.body.dataset.found = JSON.stringify({
  scrolling: scrolling.length, silent: scrolling.filter(node => !shaded(node)).map(name),
  width, scrolled: page.documentElement.scrollWidth, wide, cut,
  charts: page.querySelectorAll('svg').length, texts: page.querySelectorAll('svg text').length});
"""


@dataclass(frozen=True)
class Look:
    """What a browser sees.

    Attributes:
        width: of the page's window, in pixels.
        scrolled: width of the page; larger where it overflows.
        wide: elements that reach beyond the window, outside parts that scroll by themselves.
        cut: texts of charts that reach beyond their chart.
        scrolling: number of parts that scroll by themselves.
        silent: those of them that do not show at their edges that there is more.
        charts: number of charts.
        texts: number of their texts.
        console: messages of the console.
    """

    width: int
    scrolled: int
    wide: list[str]
    cut: list[str]
    scrolling: int
    silent: list[str]
    charts: int
    texts: int
    console: list[str]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(
            [BROWSER, *FLAGS, f"--user-data-dir={profile}", *arguments],
            capture_output=True,
            text=True,
            timeout=90,
            check=True,
        )


def look(page: Path, width: int) -> Look:
    """Open a page in a window of some width."""
    holder = page.with_name(f"{page.stem}.{width}.look.html")
    holder.write_text(
        f'<body><iframe src="{page.name}" width="{width}" height="2000" style="border:0"></iframe>'
        f"<script>onload = () => {{ {MEASURE} }}</script></body>",
        encoding="utf-8",
    )
    done = _run("--window-size=1600,2000", "--dump-dom", holder.as_uri())
    holder.unlink()
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found is not None, done.stdout[-500:] + done.stderr[-500:]
    values: dict[str, Any] = json.loads(unescape(found[1]))
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Look(**values, console=console)


def photograph(page: Path, width: int, height: int, target: Path, *, dark: bool = False) -> None:
    """Write a screenshot; narrower ones than 500 pixels show the page in a frame of their width."""
    dark_flags = ("--blink-settings=preferredColorScheme=0",) if dark else ()
    frame = page.with_name(f"{page.stem}.{width}.frame.html")
    frame.write_text(
        f'<body style="margin:0"><iframe src="{page.name}" width="{width}" height="{height}" '
        'style="border:0"></iframe>',
        encoding="utf-8",
    )
    shown = frame if width < NARROWEST else page
    _run(*dark_flags, f"--window-size={width},{height}", f"--screenshot={target}", shown.as_uri())
    frame.unlink()


def print_out(page: Path, target: Path) -> None:
    """Write the page as a printer would, in PDF."""
    _run("--no-pdf-header-footer", f"--print-to-pdf={target}", page.as_uri())
