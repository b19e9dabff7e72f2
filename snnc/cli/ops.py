"""``snnc ops``: the table of supported operators."""

from __future__ import annotations

import click

from snnc.cli.terminal import Terminal, Verb


@click.command("ops", cls=Verb)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    help="How to write the table.",
)
@click.pass_obj
def command(terminal: Terminal, form: str) -> None:
    """List the ONNX operators that can be converted, and in which forms."""
    from snnc.frontend import supported_operators

    rows = supported_operators()
    if terminal.json or form == "json":
        operators = [
            {"name": row.name, "domain": row.domain, "opsets": row.opsets, "forms": row.forms} for row in rows
        ]
        terminal.data({"operators": operators})
    elif form == "markdown":
        lines = ["| operator | opsets | supported |", "|---|---|---|"]
        lines += [f"| {row.name} | {row.opsets} | {row.forms} |" for row in rows]
        terminal.listing("\n".join(lines))
    else:
        terminal.table(("operator", "opsets", "supported"), [(r.name, r.opsets, r.forms) for r in rows])
