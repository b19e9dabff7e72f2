"""``snnc explain``: what a diagnostic means."""

from __future__ import annotations

import textwrap

import click

from snnc.cli.terminal import Terminal, Verb


@click.command("explain", cls=Verb)
@click.argument("code", required=False)
@click.pass_obj
def command(terminal: Terminal, code: str | None) -> None:
    """Explain CODE, such as SNN101; without CODE, list them all."""
    from snnc.diagnostics import CODES
    from snnc.errors import UsageError

    if code is not None and code.upper() not in CODES:
        raise UsageError(f"unknown code {code!r}; known: {', '.join(CODES)}")
    found = list(CODES.values()) if code is None else [CODES[code.upper()]]
    if terminal.json:
        rows = [
            {
                "code": item.number,
                "severity": item.severity.value,
                "title": item.title,
                "explanation": item.explanation,
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
