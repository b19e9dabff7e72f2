"""``snnc check``: everything that keeps a network from being converted, at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from snnc import __version__
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.diagnostics import Diagnostic

SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
UNSUPPORTED = 3


@click.command("check", cls=Verb)
@click.argument("model")
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text", help="How to report."
)
@click.pass_obj
def command(terminal: Terminal, model: str, form: str) -> int:
    """List everything in MODEL that cannot be converted, with node names and a cure for each.

    Exits with 3 if there is anything.
    """
    from snnc.cli.models import locate
    from snnc.diagnostics import Severity
    from snnc.frontend import check_onnx

    located = locate(model)
    found = check_onnx(located.path)
    supported = all(item.severity is not Severity.ERROR for item in found)
    if form == "sarif":
        terminal.data(sarif(found, str(located.path)))
    elif terminal.json or form == "json":
        rows = [item.as_dict() for item in found]
        terminal.data({"model": model, "supported": supported, "diagnostics": rows})
    else:
        for item in found:
            terminal.text(str(item))
        if supported:
            terminal.text(f"{model}: can be converted")
        else:
            errors = sum(item.severity is Severity.ERROR for item in found)
            terminal.text(f"{model}: cannot be converted, for {errors} reason{'s' if errors > 1 else ''}")
    return 0 if supported else UNSUPPORTED


def sarif(found: Sequence[Diagnostic], path: str) -> dict[str, Any]:
    """Return findings in the Static Analysis Results Interchange Format 2.1.0, which editors and CI read."""
    codes = {item.code.number: item.code for item in found}
    return {
        "$schema": SARIF,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "snnc",
                        "version": __version__,
                        "rules": [
                            {
                                "id": code.number,
                                "shortDescription": {"text": code.title},
                                "fullDescription": {"text": code.explanation},
                            }
                            for code in codes.values()
                        ],
                    }
                },
                "results": [
                    {
                        "ruleId": item.code.number,
                        "level": item.severity.value,
                        "message": {"text": f"{item.message}. {item.help}" if item.help else item.message},
                        "locations": [
                            {
                                "physicalLocation": {"artifactLocation": {"uri": path}},
                                "logicalLocations": [{"name": item.node, "kind": "object"}]
                                if item.node
                                else [],
                            }
                        ],
                    }
                    for item in found
                ],
            }
        ],
    }
