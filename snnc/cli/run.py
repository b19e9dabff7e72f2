"""``snnc run``: an artefact on an array."""

from __future__ import annotations

from pathlib import Path

import click

from snnc.cli.artefacts import ArtefactPath
from snnc.cli.judging import outputs_of_artefact, task_of, task_option
from snnc.cli.layouts import rows_layout
from snnc.cli.quantities import Threads
from snnc.cli.terminal import Terminal, Verb


@click.command("run", cls=Verb)
@click.argument("artefact", type=ArtefactPath())
@click.option(
    "--input",
    "input_path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="X.npy",
    help="Rows: raw if ARTEFACT stores a preprocessing, else as the source network takes them.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="Y.npy",
    help="File for the outputs: (rows, classes).",
)
@click.option("--per-step", is_flag=True, help="Write the outputs after every step: (steps, rows, classes).")
@click.option(
    "--logits", is_flag=True, help="Scale the outputs to the units of the source network, in float32."
)
@click.option(
    "-T",
    "--timesteps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of time steps; as calibrated by default.",
)
@click.option(
    "--backend", default="numba", show_default=True, help="The simulator: numba, onnx or reference."
)
@rows_layout
@click.option("--threads", type=Threads(), metavar="N", help="Number of threads; all cores by default.")
@click.option("--force", is_flag=True, help="Replace Y.npy if it exists.")
@task_option
@click.pass_obj
def command(
    terminal: Terminal,
    artefact: Path,
    input_path: Path,
    output: Path,
    per_step: bool,
    logits: bool,
    timesteps: int | None,
    backend: str,
    rows_layout: str | None,
    threads: int | None,
    force: bool,
    task: str | None,
) -> None:
    """Run ARTEFACT on the rows in X.npy and write its outputs to Y.npy.

    The class of a row is the index of its largest output, or for one output whether it is above 0. --json
    prints the classes. Numbers have none.
    """
    import numpy as np

    from snnc.analysis.evaluation import outputs_of
    from snnc.artefact import load
    from snnc.backends import load_simulator
    from snnc.cli.artefacts import chosen_timesteps, warn_of_rows
    from snnc.cli.files import check_outputs, read_labelled
    from snnc.errors import UsageError
    from snnc.ir.snn import Readout
    from snnc.metrics import decisions
    from snnc.metrics.task import threshold_of
    from snnc.writing import replacing

    check_outputs(output, others=(artefact, input_path), force=force)
    if output.suffix == ".npz":
        raise UsageError(f"{output}: the outputs are one array, not an archive; name the file .npy")
    network = load(artefact).with_rows_layout(rows_layout)
    steps = chosen_timesteps(terminal, network, timesteps)
    found = read_labelled(input_path, network.preprocessing, is_fixed=True)
    x = found.x
    network.check_rows(x, found.name)
    simulator = load_simulator(backend, threads)
    warn_of_rows(terminal, network, x, simulator)
    outputs = outputs_of(
        network.graph,
        network.encode,
        x,
        simulator=simulator,
        timesteps=steps,
        per_step=per_step,
        progress=terminal.progress(),
        finish=network.finish,
    )
    if network.host is not None:  # the source network's output, in its units and its shape
        outputs = outputs.reshape(len(outputs), *network.host.outputs[0].shape)
    elif logits:
        (readout,) = network.graph.of_type(Readout)
        outputs = outputs.astype(np.float32) * np.float32(readout.scale / steps)
    with replacing(output) as file:
        np.save(file, outputs)
    last = outputs[-1] if per_step else outputs
    kind = outputs_of_artefact(network, None, len(last), None, task_of(task))
    threshold = 0.0 if network.host is None else threshold_of(network.metadata.ends)
    flat = last.reshape(len(last), -1)
    answers = decisions(flat, threshold).tolist() if kind.have_classes else None
    if terminal.json:
        terminal.data(
            {
                "output": str(output),
                "shape": list(outputs.shape),
                "dtype": str(outputs.dtype),
                "timesteps": steps,
                "task": None if kind.task is None else kind.task.value,
                "classes": answers,
            }
        )
    else:
        terminal.done(f"wrote {output}: {outputs.dtype} of shape {outputs.shape}, T = {steps}")
