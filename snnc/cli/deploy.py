"""``snnc deploy``: an artefact as a bundle for something else to run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.artefact import Artefact
    from snnc.ir.graph import NumberArray


@click.command("deploy", cls=Verb)
@click.argument("artefact", type=click.Path(path_type=Path))
@click.option("--target", required=True, metavar="T", help="Where it will run: see snnc targets.")
@click.option(
    "--profile",
    "--export",
    "profile",
    metavar="NAME",
    help="The form to write; the target's first by default.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="The folder to make.",
)
@click.option(
    "--golden",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Rows `x` for the golden vectors; by default the zoo's, where the source is from the zoo, "
    "else made-up ones.",
)
@click.option("--force", is_flag=True, help="Replace DIR if it is an earlier bundle.")
@click.pass_obj
def command(
    terminal: Terminal,
    artefact: Path,
    target: str,
    profile: str | None,
    output: Path,
    golden: Path | None,
    force: bool,
) -> None:
    """Write ARTEFACT for a target: its files, a manifest with hashes, a guide, and golden vectors.

    Exits with 6 if the network does not fit the target; then nothing is written.
    """
    from snnc.artefact import load
    from snnc.backends import load_backend
    from snnc.backends.deployment import check_directory, deploy
    from snnc.backends.manifest import read
    from snnc.cli.files import read_rows

    check_directory(output, force=force)
    backend = load_backend(target, profile)
    network = load(artefact)
    rows = _zoo_rows(network) if golden is None else read_rows(golden)
    bundle = deploy(network, backend, output, rows=rows, source=artefact, force=force)
    content = read(output)
    if content["golden"]["distinct_outputs"] < 2:
        terminal.warn("all golden outputs are the same, which proves little: name other rows by --golden")
    if terminal.json:
        terminal.data(
            {
                "output": str(output),
                "target": backend.name,
                "profile": backend.profile,
                "files": list(bundle.files),
                "facts": content["facts"],
                "golden": {k: content["golden"][k] for k in ("rows", "distinct_outputs")},
            }
        )
        return
    terminal.text(
        f"wrote {output}: {len(bundle.files)} files for {backend.name}, profile {backend.profile}; "
        f"{content['golden']['rows']} golden inputs, {content['golden']['distinct_outputs']} distinct outputs"
    )
    for name, value in content["facts"].items():
        if isinstance(value, str | int | float):
            terminal.text(
                f"{name.replace('_', ' ')}: {value:,}" if isinstance(value, int) else f"{name}: {value}"
            )
    terminal.text(f"check it by: snnc verify {output}")


def _zoo_rows(network: Artefact) -> NumberArray | None:
    """Return test rows of the zoo where the source network is from there."""
    from snnc.cli.models import zoo_entry
    from snnc.models import test_data

    entry = zoo_entry(network.metadata.source_sha256)
    return None if entry is None or network.metadata.preprocessing is None else test_data(entry)[0]
