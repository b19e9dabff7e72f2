"""Every consumer, one after the other; the tables go into docs/consumers.md, with the date.

    python benchmarks/consumers/verify_all.py                 # all of them
    python benchmarks/consumers/verify_all.py sinabs norse    # these; the others' tables stay as they are

A consumer is a script verify_NAME.py beside this one: it makes its own environment, prints Markdown, and
exits with 1 if a result was wrong and with 2 if something that it needs is not installed.
"""

from __future__ import annotations

import ast
import datetime
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "consumers.md"

HEAD = """# Bundles in software of others

Written by `make verify-consumers`. Each consumer runs in an environment of its own, on images that all give
different outputs. "Bit-exact" and "every spike equal" mean that not one number differed.
"""


def scripts() -> dict[str, Path]:
    """Return all consumers, by name."""
    found = {path.stem.removeprefix("verify_"): path for path in sorted(HERE.glob("verify_*.py"))}
    del found["all"]
    return found


def sections() -> dict[str, str]:
    """Return what the page says of each consumer."""
    if not PAGE.exists():
        return {}
    parts = re.split(r"^<!-- (\w+) -->\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


def section(path: Path, output: str) -> str:
    """Return a consumer's part of the page."""
    title = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem).partition("\n")[0]
    today = datetime.datetime.now(datetime.UTC).date()
    return f"## {title.rstrip('.')}\n\n`{path.name}`, run on {today:%-d %B %Y}.\n\n{output.strip()}"


def write(found: dict[str, str]) -> None:
    """Write the page."""
    parts = [f"<!-- {name} -->\n{found[name]}\n" for name in scripts() if name in found]
    PAGE.write_text("\n".join([HEAD, *parts]), encoding="utf-8")


def main(names: Sequence[str]) -> int:
    """Run the consumers; the page is written after each, so that a run cut short leaves its tables."""
    known = scripts()
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no such consumer: {', '.join(unknown)}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    found, worst = sections(), 0
    for name in names or known:
        print(f"{name} ...", flush=True)
        result = subprocess.run(
            [sys.executable, str(known[name])], stdout=subprocess.PIPE, text=True, check=False
        )
        print(result.stdout, flush=True)
        if result.returncode in (0, 1):
            found[name] = section(known[name], result.stdout)
            write(found)
        worst = max(worst, result.returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
