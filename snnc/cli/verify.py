"""``snnc verify``: a bundle, checked and run."""

from __future__ import annotations

from pathlib import Path

import click

from snnc.cli.terminal import Terminal, Verb


@click.command("verify", cls=Verb)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--hashes-only", is_flag=True, help="Check only the files; run nothing.")
@click.pass_obj
def command(terminal: Terminal, bundle: Path, hashes_only: bool) -> None:
    """Check the files of BUNDLE against its manifest, and run its network on its golden vectors.

    Nothing in BUNDLE is executed: programs are generated again from its data, and compared with its own.

    Exits with 5 if a file is damaged, 4 if the results differ, 2 if nothing is installed to run it.
    """
    from snnc.backends.deployment import verify

    found = verify(bundle, run=not hashes_only)
    files, verdict = len(found.content["files"]), found.verdict
    if terminal.json:
        told = None
        if verdict is not None:
            told = {
                "runner": verdict.runner,
                "rows": verdict.rows,
                "compared": verdict.compared,
                "not_verified": list(verdict.foreign),
            }
        names = ("target", "profile", "snnc_version", "schema_version")
        terminal.data(
            {"bundle": str(bundle), "files": files, **{n: found.content[n] for n in names}, "run": told}
        )
        return
    terminal.text(f"{bundle}: the manifest and {files} files as it says, for {found.content['target']}")
    if verdict is not None:
        terminal.text(f"{verdict.rows} golden inputs agree in {verdict.runner}: {verdict.compared}")
        if verdict.foreign:
            version = found.content["snnc_version"]
            terminal.warn(
                f"not verified: {', '.join(verdict.foreign)}, by snnc {version} and not as this version "
                "writes it; what ran was made anew"
            )
