"""Look at pages with axe-core in a headless Chromium, bright and dark, wide and narrow.

    benchmarks/report/install_chromium.sh
    pip install playwright
    npm install axe-core
    python -m benchmarks.site.accessibility node_modules/axe-core/axe.min.js build/site report.html ...

Of a folder it is every page. Prints every fault. Exits with 1 if any is one that axe-core calls serious or
critical, or if a page is wider than its window.
"""

# Playwright is needed for this alone, and installed by hand.
# pyright: reportMissingImports=false

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from tests.browser import BROWSER, FLAGS, WIDTHS

AXE = """
async () => (await axe.run(document, {resultTypes: ['violations']})).violations.map(fault =>
  ({rule: fault.id, impact: fault.impact, nodes: fault.nodes.map(node => node.html)}))
"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
HEIGHT = 900
SLOWEST = 300_000
"""Milliseconds that a page may take."""
LOOKS = tuple(product(("light", "dark"), (WIDTHS[-1], WIDTHS[0])))
"""What the reader wants, and the width of the window in pixels."""
GRAVE = ("serious", "critical")


def faults(page: Path, browser: Any, axe: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the faults of a page in every look: what is wrong, its impact, and the parts that are so.

    Args:
        page: an HTML file.
        browser: a running one of Playwright.
        axe: the program text of axe-core.
    """
    for shade, width in LOOKS:
        context = browser.new_context(
            color_scheme=shade, viewport={"width": width, "height": HEIGHT}, bypass_csp=True
        )
        window = context.new_page()
        window.set_default_timeout(SLOWEST)
        window.goto(page.resolve().as_uri())
        where = f"{shade}, {width} pixels"
        if (beyond := window.evaluate(OVERFLOW)) > 1:
            yield f"({where}) it is {beyond} pixels wider than its window", "serious", []
        window.evaluate(axe)
        for fault in window.evaluate(AXE):
            yield f"({where}) {fault['rule']}", fault["impact"], fault["nodes"]
        context.close()


def pages(name: str) -> list[Path]:
    """Return a file, or every page of a folder but 404.html, whose links begin at the root of a server."""
    path = Path(name)
    if not path.is_dir():
        return [path]
    return [page for page in sorted(path.rglob("*.html")) if page.name != "404.html"]


def main(arguments: list[str]) -> int:
    """Print the faults of every page; 1 if any is grave, or 2 where there is no browser."""
    from playwright.sync_api import sync_playwright

    if BROWSER is None:
        print("Chromium is not installed: benchmarks/report/install_chromium.sh installs it", file=sys.stderr)
        return 2
    axe = Path(arguments[0]).read_text(encoding="utf-8")
    found = [page for name in arguments[1:] for page in pages(name)]
    grave = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        for page in found:
            for what, impact, nodes in faults(page, browser, axe):
                grave += impact in GRAVE
                print(f"{page} {what}: {impact}, {len(nodes)} times", flush=True)
                print(
                    "".join(f"    {' '.join(node.split())[:200]}\n" for node in nodes[:5]), end="", flush=True
                )
    print(f"{len(found)} pages in {len(LOOKS)} looks each: {grave} serious or critical faults")
    return int(grave > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
