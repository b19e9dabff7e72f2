"""``snnc targets``: what an artefact can be deployed to."""

from __future__ import annotations

import click

from snnc.cli.terminal import Terminal, Verb


@click.command("targets", cls=Verb)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    help="How to write the table.",
)
@click.pass_obj
def command(terminal: Terminal, form: str) -> None:
    """List the targets of `snnc deploy`: what each takes, and how its results were verified."""
    from snnc.backends import NOT_OFFERED, usable_backends

    known = {backend.name: backend.capabilities for backend in usable_backends()}
    if terminal.json or form == "json":
        rows = [
            {
                "name": name,
                "summary": target.summary,
                "profiles": dict(target.profiles),
                "takes": target.takes,
                "exact": target.exact,
                "sometimes_exact": target.sometimes_exact,
                "every_integer_network": target.every_integer_network,
                "agreement": target.agreement,
                "verified_by": target.verified_by,
            }
            for name, target in known.items()
        ]
        terminal.data({"targets": rows, "not_offered": NOT_OFFERED})
        return
    columns = ("target", "what it is", "profiles", "takes", "exact", "verified by")
    cells = [
        (
            name,
            target.summary,
            ", ".join(target.profiles),
            target.takes,
            target.agreement,
            target.verified_by,
        )
        for name, target in known.items()
    ]
    if form == "markdown":
        lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        lines += [f"| {' | '.join(row)} |" for row in cells]
        lines += ["", "| chip without a target | why |", "|---|---|"]
        lines += [f"| {name} | {why} |" for name, why in NOT_OFFERED.items()]
        terminal.listing("\n".join(lines))
    else:
        terminal.table(columns, cells)
        terminal.table(("chip without a target", "why"), list(NOT_OFFERED.items()))
