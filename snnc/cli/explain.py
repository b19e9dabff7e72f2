"""``snnc explain``: what a diagnostic means."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snnc.errors import SnncError


@click.command("explain", cls=Verb)
@click.argument("code", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    help="How to write it; markdown is the page of all codes and exit codes.",
)
@click.pass_obj
def command(terminal: Terminal, code: str | None, form: str) -> None:
    """Explain CODE, such as SNN101; without CODE, list them all."""
    from snnc.diagnostics import CODES
    from snnc.errors import UsageError

    if code is not None and code.upper() not in CODES:
        raise UsageError(f"unknown code {code!r}; known: {', '.join(CODES)}")
    if form == "markdown":
        if code is not None:
            raise UsageError("--format markdown is the page of all codes: leave out CODE")
        terminal.listing("\n".join(_page()))
        return
    found = list(CODES.values()) if code is None else [CODES[code.upper()]]
    if terminal.json or form == "json":
        rows = [
            {
                "code": item.number,
                "severity": item.severity.value,
                "title": item.title,
                "explanation": item.explanation,
                "page": item.page,
            }
            for item in found
        ]
        terminal.data({"codes": rows} if code is None else rows[0])
    elif code is None:
        terminal.table(
            ("code", "severity", "meaning"),
            [(item.number, item.severity.value, item.title) for item in found],
        )
    else:
        (item,) = found
        terminal.text(f"{item.number} ({item.severity.value}): {item.title}\n")
        terminal.text(textwrap.fill(item.explanation, 78))
        terminal.text(f"\nIn the documentation: {item.page}")


def _page() -> Iterator[str]:
    """Yield the lines of the page of all codes."""
    from snnc.diagnostics import CODES, GROUPS

    yield "# Diagnostics\n"
    yield "Written by `snnc explain --format markdown`; a test compares it.\n"
    yield (
        "A mistake is one line that says what is wrong, where, and how to mend it. A finding about a\n"
        "network, its rows or its conversion has a code as well, which never changes its meaning.\n"
        "`snnc explain CODE` shows its paragraph of this page.\n"
    )
    yield "## Exit codes\n"
    yield "| code | error | when |\n|---|---|---|"
    yield "| 0 | | done; warnings alone leave it so |"
    for kind in _errors():
        said = str(kind.__doc__).partition("\n")[0].removesuffix(".")
        yield f"| {kind.exit_code} | `{kind.__name__}` | {said[0].lower()}{said[1:]} |"
    for digit, title in GROUPS.items():
        yield f"\n## {title}"
        for item in CODES.values():
            if item.number[3] == digit:
                yield f"\n### {item.number}: {item.title} {{ #{item.number.lower()} }}\n"
                yield f"*{item.severity.value.capitalize()}.* {item.explanation}"


def _errors() -> Iterator[type[SnncError]]:
    """Yield the kinds of errors by their exit codes."""
    from snnc import errors

    yield from sorted(errors.SnncError.__subclasses__(), key=lambda kind: kind.exit_code)
