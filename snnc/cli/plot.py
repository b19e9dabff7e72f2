"""``snnc plot``: pictures of spikes, potentials and answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from snnc.cli.artefacts import ArtefactPath
from snnc.cli.class_names import class_names, classes_option
from snnc.cli.layouts import rows_layout
from snnc.cli.run_options import data_option, limit_option, threads_option, timesteps_option
from snnc.cli.terminal import Terminal, Verb

KINDS = ("raster", "potentials", "answers", "walk", "counts", "activity")


@click.command("plot", cls=Verb)
@click.argument("artefact", type=ArtefactPath())
@data_option()
@click.option(
    "--kind", type=click.Choice(KINDS), default="raster", show_default=True, help="What the picture shows."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PICTURE.svg",
    help="The picture; PICTURE.html has its data as a table, too.",
)
@click.option("--row", type=click.IntRange(min=0), default=0, show_default=True, help="Which row is drawn.")
@limit_option
@click.option("--layer", "layers", multiple=True, metavar="NAME", help="Draw this layer. May be repeated.")
@click.option(
    "--neuron",
    "neurons",
    multiple=True,
    metavar="LAYER:INDEX",
    help="Draw this neuron's potential: a flat index, or one on each axis. May be repeated.",
)
@classes_option
@timesteps_option
@rows_layout
@threads_option
@click.option("--force", is_flag=True, help="Replace the picture if it exists.")
@click.pass_obj
def command(
    terminal: Terminal,
    artefact: Path,
    data: Path | None,
    kind: str,
    output: Path,
    row: int,
    limit: int | None,
    layers: tuple[str, ...],
    neurons: tuple[str, ...],
    classes: str | None,
    timesteps: int | None,
    rows_layout: str | None,
    threads: int | None,
    force: bool,
) -> None:
    """Draw the spikes, potentials or answers of ARTEFACT.

    raster, potentials, answers and walk are of one row; counts and activity are of all rows.
    """
    from snnc.artefact import load
    from snnc.backends import load_simulator
    from snnc.cli.artefacts import chosen_timesteps, warn_of_rows
    from snnc.cli.files import check_outputs
    from snnc.cli.subjects import rows_of
    from snnc.errors import UsageError
    from snnc.report.plotting import Plot, draw
    from snnc.writing import replacing

    if output.suffix not in (".svg", ".html"):
        raise UsageError(f"{output}: pictures are .svg, or .html with their data; name the file so")
    check_outputs(output, others=(artefact, data), force=force)
    plot = Plot(kind, row, layers, neurons, class_names(classes))  # refuses options before the work begins
    network = load(artefact).with_rows_layout(rows_layout)
    steps = chosen_timesteps(terminal, network, timesteps)
    x, y, _ = rows_of(
        data,
        network.metadata.source_sha256,
        limit,
        network.check_rows,
        inputs=tuple(network.takes),
        outputs=tuple(network.gives),
        preprocessing=network.preprocessing,
    )
    simulator = load_simulator("numba", threads)
    warn_of_rows(terminal, network, x, simulator)
    made = draw(network, x, y, replace(plot, timesteps=steps), simulator, terminal.progress())
    text = made.page() if output.suffix == ".html" else made.file()
    with replacing(output) as file:
        file.write(text.encode())
    if terminal.json:
        terminal.data(
            {
                "output": str(output),
                "kind": kind,
                "timesteps": steps,
                "title": made.title,
                "description": made.description,
                "columns": list(made.columns),
                "rows": [list(each) for each in made.rows],
            }
        )
        return
    terminal.done(f"wrote {output}: {made.title}. {made.description}")
