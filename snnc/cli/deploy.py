"""``snnc deploy``: an artefact as a bundle for something else to run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from snnc.cli.artefacts import ArtefactPath
from snnc.cli.given import refuse
from snnc.cli.layouts import rows_layout
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.artefact import Artefact
    from snnc.backends.semantics import Semantics
    from snnc.ir.batch import Rows
    from snnc.ir.graph import IntArray, NumberArray

ROWS = 256
"""Rows to measure on: a simulation of another's rules takes its time."""


@click.command("deploy", cls=Verb)
@click.argument("artefact", type=ArtefactPath())
@click.option("--target", required=True, metavar="T", help="The target: see snnc targets.")
@click.option(
    "--profile",
    "--export",
    "profile",
    metavar="NAME",
    help="Profile of the target; its first by default.",
)
@click.option(
    "--layout",
    metavar="NAME",
    help="How the files of c99 are laid out: plain (by default), cmake, arduino, zephyr or platformio.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="The folder to write.",
)
@click.option(
    "--golden",
    type=click.Path(path_type=Path),
    metavar="ROWS",
    help="Rows `x` for the golden vectors; by default the zoo's, where the source is from the zoo, "
    "else made-up ones.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="ROWS",
    help="Rows `x`, and labels `y` if there are any, to measure what a target costs that follows other "
    "rules than the artefact; by default the zoo's, else the golden ones.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=ROWS,
    show_default=True,
    metavar="N",
    help="Measure on at most this many rows.",
)
@rows_layout
@click.option(
    "--accept-semantics",
    is_flag=True,
    help="Write the bundle although the target computes something else than the artefact.",
)
@click.option("--force", is_flag=True, help="Replace DIR if it is an earlier bundle.")
@click.pass_obj
def command(
    terminal: Terminal,
    artefact: Path,
    target: str,
    profile: str | None,
    layout: str | None,
    output: Path,
    golden: Path | None,
    data: Path | None,
    limit: int,
    rows_layout: str | None,
    accept_semantics: bool,
    force: bool,
) -> None:
    """Write ARTEFACT for a target: its files, a manifest with hashes, a guide, and golden vectors.

    If the target computes something else than the artefact, the difference is measured and reported first.
    Exits with 6, and writes nothing, if the network does not fit the target, or if such a difference was not
    accepted.
    """
    from snnc.artefact import load
    from snnc.backends import load_backend
    from snnc.backends.deployment import check_directory, deploy, require_fit
    from snnc.backends.golden import make_golden
    from snnc.backends.manifest import read
    from snnc.backends.semantics import judge
    from snnc.cli.files import read_named, with_labels_told
    from snnc.data.material import read_material
    from snnc.simulation.targets import Emulating

    check_directory(output, force=force)
    backend = load_backend(target, profile, layout)
    network = load(artefact)
    require_fit(backend, network)
    if not isinstance(backend, Emulating):
        refuse(
            f"measures targets that follow other rules than the artefact, and {target} follows the same",
            "--data",
            "--limit",
        )
    zoo = _zoo_rows(network)
    reading = network.with_rows_layout(rows_layout)  # the bundle's own network keeps what it says of rows
    rows: Rows = None if zoo is None else zoo[0]
    if golden is not None:
        given = read_named(golden, list(network.takes), [], reading.preprocessing, is_fixed=True)
        rows = given.x
        reading.check_rows(rows, given.name)
    vectors = make_golden(reading, rows)
    semantics = None
    if isinstance(backend, Emulating):
        x: NumberArray | None
        y: NumberArray | None
        x, y = zoo or (rows, None)
        if data is not None:
            found = with_labels_told(read_material(data, reading.preprocessing, limit=limit, is_fixed=True))
            x, y = found.x, found.y
            reading.check_rows(x, found.name)
        q = vectors.q if x is None else reading.encode(x[:limit])
        semantics = judge(network, backend, q, None if y is None else y[:limit])
        _tell(terminal, backend.name, backend.profile, semantics)
    bundle = deploy(
        network,
        backend,
        output,
        rows=vectors,
        source=artefact,
        force=force,
        semantics=semantics,
        accept_semantics=accept_semantics,
    )
    content = read(output)
    if content["golden"]["distinct_outputs"] < 2:
        terminal.warn("all golden outputs are equal, so they prove little: give other rows by --golden")
    if terminal.json:
        terminal.data(
            {
                "output": str(output),
                "target": backend.name,
                "profile": backend.profile,
                "files": list(bundle.files),
                "facts": content["facts"],
                "semantics": content["semantics"],
                "golden": {k: content["golden"][k] for k in ("rows", "distinct_outputs")},
            }
        )
        return
    terminal.done(
        f"wrote {output}: {len(bundle.files)} files, the manifest among them, for {backend.name}, "
        f"profile {backend.profile}; {content['golden']['rows']} golden inputs, "
        f"{content['golden']['distinct_outputs']} distinct outputs"
    )
    for name, value in content["facts"].items():
        if isinstance(value, str | int | float):
            terminal.done(_fact(name, value))
    terminal.done(f"check it by: snnc verify {output}")


def _tell(terminal: Terminal, target: str, profile: str, semantics: Semantics) -> None:
    """Say what the target computes, before anything is written."""
    if terminal.json:
        return
    if semantics.equal:
        terminal.done(f"{target}, profile {profile}: computes what the artefact computes")
        return
    terminal.done(f"{target}, profile {profile}, differs from the artefact:")
    for difference in semantics.differences:
        terminal.done(f"  - {difference}")
    terminal.done(f"measured: {semantics.cost}")


def _fact(name: str, value: str | float) -> str:
    """Write a figure of the manifest, such as ``ram_bytes``, for people."""
    words = ["RAM" if word == "ram" else word for word in name.removesuffix("_bytes").split("_")]
    unit = " bytes" if name.endswith("_bytes") else ""
    return f"{' '.join(words)}: {f'{value:,}' if isinstance(value, int) else value}{unit}"


def _zoo_rows(network: Artefact) -> tuple[NumberArray, IntArray] | None:
    """Return test rows of the zoo, and their labels, where the source network is from there."""
    from snnc.cli.models import zoo_entry
    from snnc.models import test_data

    entry = zoo_entry(network.metadata.source_sha256)
    if entry is None or entry.dataset.path is None or network.metadata.preprocessing is None:
        return None
    return test_data(entry)
