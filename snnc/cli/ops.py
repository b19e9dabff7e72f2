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
    """List the ONNX operators that can be converted, in which forms, and what spikes make of them."""
    from snnc.frontend import supported_operators

    rows = supported_operators()
    if terminal.json or form == "json":
        terminal.data({"operators": [row.as_dict() for row in rows]})
        return
    head = ("operator", "opsets", "attributes", "spiking", "supported")
    cells = [(row.name, row.opsets, ", ".join(row.attributes), row.spiking, row.forms) for row in rows]
    if form == "markdown":
        lines = [head, ["---"] * len(head), *cells]
        terminal.listing("\n".join(f"| {' | '.join(line)} |" for line in lines))
    else:
        terminal.table(head, cells)
