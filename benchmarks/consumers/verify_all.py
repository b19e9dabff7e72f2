"""Every consumer, one after the other; the tables go into docs/consumers.md, with the date.

    python benchmarks/consumers/verify_all.py                 # all of them
    python benchmarks/consumers/verify_all.py sinabs norse    # these; the others' tables stay as they are

A consumer is a script verify_NAME.py beside this one: it makes its own environment, prints Markdown, and
exits with 1 if a result was wrong and with 2 if something that it needs is not installed. A line that it
begins a cell of with "left out:" could not run on this machine; the page keeps what was measured for it last,
with the versions and the day of that run.
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
different outputs. "Bit-exact" and "every spike equal" mean that not one number differed. A line with a day of
its own needs something that the last run's machine lacked; it stands as it was measured on that day.
"""

LEFT_OUT = "left out:"
"""How the cell of a table begins that could not be measured on this machine."""


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


def cells(line: str) -> list[str]:
    """Return the cells of one line of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def subject(line: str) -> tuple[str, ...]:
    """Return what a line is about: all but the consumer's version and the two last cells, the results."""
    first, *others = cells(line)
    return (re.sub(r" \([\d.]+\)$", "", first), *others[:-2])


def with_last_measured(output: str, before: str) -> str:
    """Return a consumer's output, each line that was left out as it was measured last.

    Args:
        output: what the consumer printed.
        before: its part of the page so far. A line that is left out there, too, is not taken.
    """
    day = next(iter(re.findall(r", run on (\d+ \w+ \d+)\.$", before, flags=re.MULTILINE)), "")
    measured = {
        subject(line): line
        for line in before.splitlines()
        if line.startswith("|") and not any(cell.startswith(LEFT_OUT) for cell in cells(line))
    }

    def kept(line: str) -> str:
        if not line.startswith("|") or not any(cell.startswith(LEFT_OUT) for cell in cells(line)):
            return line
        last = measured.get(subject(line))
        if last is None:
            return line
        *others, result = cells(last)
        dated = result if re.search(r" \(on \d+ \w+ \d+\)$", result) else f"{result} (on {day})"
        return f"| {' | '.join([*others, dated])} |"

    return "\n".join(map(kept, output.strip().splitlines()))


def section(path: Path, output: str, before: str) -> str:
    """Return a consumer's part of the page, given what it printed and its part so far."""
    title = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem).partition("\n")[0]
    today = datetime.datetime.now(datetime.UTC).date()
    head = f"## {title.rstrip('.')}\n\n`{path.name}`, run on {today:%-d %B %Y}."
    return f"{head}\n\n{with_last_measured(output, before)}"


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
            found[name] = section(known[name], result.stdout, found.get(name, ""))
            write(found)
        worst = max(worst, result.returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
