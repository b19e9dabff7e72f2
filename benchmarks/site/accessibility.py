"""Look at pages with axe-core in a headless Chromium, bright and dark, and print what is wrong.

    npm install axe-core
    python -m benchmarks.site.accessibility node_modules/axe-core/axe.min.js build/site/index.html ...

Exits with 1 if any page has a fault that axe-core calls serious or critical.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from html import unescape
from pathlib import Path
from typing import Any

from tests.browser import BROWSER, FLAGS

RUN = """
addEventListener('load', () => setTimeout(() => axe.run(document).then(found => {
  document.body.dataset.axe = JSON.stringify(found.violations.map(fault =>
    ({id: fault.id, impact: fault.impact, nodes: fault.nodes.map(node => node.html.slice(0, 200))})));
}), 500));
"""
WINDOW = ("--window-size=1300,1600", "--virtual-time-budget=20000", "--dump-dom")
DARK = "--blink-settings=preferredColorScheme=0"
GRAVE = ("serious", "critical")


def faults(page: Path, axe: str, *, dark: bool = False) -> list[dict[str, Any]]:
    """Return the faults of a page: the rule (`id`), its `impact`, and the `nodes` that break it.

    Args:
        page: an HTML file; a copy with axe-core in it lies beside it meanwhile.
        axe: the program text of axe-core.
        dark: whether the reader wants it dark.
    """
    if BROWSER is None:
        raise RuntimeError("Chromium is not installed: benchmarks/report/install_chromium.sh installs it")
    copy = page.resolve().with_name(f"{page.stem}.axe.html")
    program = axe.replace("</script", "<\\/script")
    policy = re.compile(r"<meta[^>]*Content-Security-Policy[^>]*>")  # which would forbid axe-core itself
    text = (
        policy.sub("", page.read_text(encoding="utf-8")) + f"<script>{program}</script><script>{RUN}</script>"
    )
    copy.write_text(text, encoding="utf-8")
    try:
        with tempfile.TemporaryDirectory() as profile:
            done = subprocess.run(
                [
                    BROWSER,
                    *FLAGS,
                    *([DARK] if dark else []),
                    f"--user-data-dir={profile}",
                    *WINDOW,
                    copy.as_uri(),
                ],
                capture_output=True,
                text=True,
                timeout=180,
                check=True,
            )
    finally:
        copy.unlink()
    found = re.search(r'data-axe="([^"]*)"', done.stdout)
    if found is None:
        raise RuntimeError(f"{page}: axe-core gave no answer: {done.stderr[-500:]}")
    answer: list[dict[str, Any]] = json.loads(unescape(found[1]))
    return answer


def main(arguments: list[str]) -> int:
    """Print the faults of every page; 1 if any is grave."""
    axe = Path(arguments[0]).read_text(encoding="utf-8")
    grave = 0
    for name in arguments[1:]:
        for dark in (False, True):
            for fault in faults(Path(name), axe, dark=dark):
                grave += fault["impact"] in GRAVE
                shade = "dark" if dark else "bright"
                print(f"{name} ({shade}): {fault['impact']}: {fault['id']}, {len(fault['nodes'])} times")
                print("\n".join(f"    {' '.join(node.split())}" for node in fault["nodes"][:5]))
    print(f"{len(arguments) - 1} pages: {grave} serious or critical faults")
    return int(grave > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
