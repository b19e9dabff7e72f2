"""``snnc zoo``: the bundled networks."""

from __future__ import annotations

from collections.abc import Sequence

import click

from snnc.cli.terminal import Terminal, Verb


@click.command("zoo", cls=Verb)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    help="How to write the list.",
)
@click.pass_obj
def command(terminal: Terminal, form: str) -> None:
    """List the bundled networks, with accuracy, size and licence.

    Each is called zoo:NAME wherever MODEL stands; one with a T is a spiking network, and
    called so wherever ARTEFACT stands.
    """
    from snnc.models import PREFIX, list_models

    entries = list_models()
    if terminal.json or form == "json":
        models = [
            {
                "name": entry.name,
                "kind": entry.kind,
                "timesteps": entry.timesteps,
                "source": entry.source,
                "dataset": entry.dataset.name,
                "top1": entry.accuracy.top1,
                "top1_ci95": list(entry.accuracy.ci95),
                "n": entry.accuracy.n,
                "rows": entry.accuracy.rows,
                "bytes": entry.path.stat().st_size,
                "sha256": entry.sha256,
                "licence": entry.licence,
                "parameters": entry.parameters,
                "macs": entry.macs,
                "summary": entry.summary,
                "training": entry.training,
            }
            for entry in entries
        ]
        terminal.data({"models": models})
        return
    rows = [
        (
            PREFIX + entry.name,
            entry.kind,
            "" if entry.timesteps is None else str(entry.timesteps),
            entry.dataset.name,
            f"{entry.accuracy.top1:.2%}",
            str(entry.accuracy.n),
            f"{entry.parameters:,}",
            f"{entry.macs / 1e6:.1f} M",
            f"{entry.path.stat().st_size / 1e3:,.0f} kB",
            entry.licence,
            entry.summary,
        )
        for entry in entries
    ]
    columns = (
        "name",
        "kind",
        "T",
        "data set",
        "top-1",
        "n",
        "parameters",
        "MACs",
        "file",
        "licence",
        "network",
    )
    if form == "markdown":
        lines = []
        # Two tables, since one that is wider than a page scrolls, where the keyboard does not reach it.
        for title, shown in (
            ("Networks", ("name", "kind", "T", "top-1", "n", "parameters", "MACs", "file")),
            ("What they are", ("name", "network", "data set", "licence")),
        ):
            places = [columns.index(column) for column in shown]
            lines += [f"## {title}\n", _line(shown), _line(["---"] * len(shown))]
            lines += [*(_line([row[place] for place in places]) for row in rows), ""]
        lines += ["## Measured on, and made by\n", "| name | measured on | made by |", "|---|---|---|"]
        for entry in entries:
            low, high = (f"{end:.1%}" for end in entry.accuracy.ci95)
            measured = f"{entry.accuracy.rows}: 95 % interval {low} to {high}"
            lines.append(_line((PREFIX + entry.name, measured, f"`{entry.training}`")))
        terminal.listing("\n".join(lines))
        return
    terminal.table(columns, rows)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
