"""``snnc run``: an artefact on an array."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.artefacts import ArtefactPath
from snnc.cli.given import refuse
from snnc.cli.judging import task_of, task_option, tasks_of_artefact
from snnc.cli.layouts import rows_layout
from snnc.cli.quantities import FiniteRange
from snnc.cli.run_options import threads_option, timesteps_option
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.analysis.early_exit import Exits
    from snnc.artefact import Artefact
    from snnc.ir.batch import Rows
    from snnc.ir.graph import NumberArray
    from snnc.metrics import Task

OF_ROWS = ("--per-step", "--logits", "--timesteps", "--rows-layout", "--task")
"""Options that `--stream` does not go with."""


@click.command("run", cls=Verb)
@click.argument("artefact", type=ArtefactPath())
@click.option(
    "--input",
    "given",
    multiple=True,
    required=True,
    metavar="[NAME=]X.npy",
    help="Rows: raw if ARTEFACT stores a preprocessing, else as the source network takes them.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="Y.npy",
    help="File for the outputs: (rows, classes). With --stream, for its lines; else it is needed.",
)
@click.option("--per-step", is_flag=True, help="Write the outputs after every step: (steps, rows, classes).")
@click.option(
    "--logits", is_flag=True, help="Scale the outputs to the units of the source network, in float32."
)
@timesteps_option
@click.option(
    "--backend", default="numba", show_default=True, help="The simulator: numba, onnx or reference."
)
@click.option(
    "--stream",
    is_flag=True,
    help="X.npy holds frames, (n, *shape), or is `-`, standard input: write a line of JSON for each frame, "
    "with the class so far and its confidence.",
)
@click.option(
    "--every",
    type=click.IntRange(1),
    metavar="MICROSECONDS",
    help="With --stream: X is a recording of an event camera, and each frame holds its events of that long.",
)
@click.option(
    "--exit-confidence",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Answer a row as soon as its largest softmax probability reaches SHARE; needs --logits. With "
    "--stream: end a window of T frames with the first answer of this confidence.",
)
@click.option(
    "--keep-state",
    is_flag=True,
    help="With --stream: never begin anew behind T frames. For networks whose frames do not add up.",
)
@rows_layout
@threads_option
@click.option("--force", is_flag=True, help="Replace Y.npy if it exists.")
@task_option
@click.pass_obj
def command(
    terminal: Terminal,
    artefact: Path,
    given: tuple[str, ...],
    output: Path | None,
    per_step: bool,
    logits: bool,
    timesteps: int | None,
    backend: str,
    stream: bool,
    every: int | None,
    exit_confidence: float | None,
    keep_state: bool,
    rows_layout: str | None,
    threads: int | None,
    force: bool,
    task: str | None,
) -> None:
    """Run ARTEFACT on the rows in X.npy and write its outputs to Y.npy.

    The class of a row is the index of its largest output, or for one output whether it is above 0, and
    above a half behind a sigmoid that is not left out. --json prints the classes. Numbers have none.
    """
    import numpy as np

    from snnc.analysis.answers import all_outputs_of
    from snnc.artefact import load
    from snnc.backends import load_simulator
    from snnc.cli.artefacts import chosen_timesteps, exits_of, warn_of_rows
    from snnc.cli.files import check_outputs
    from snnc.cli.streaming import answer_stream
    from snnc.errors import UsageError
    from snnc.writing import replacing

    network = load(artefact).with_rows_layout(rows_layout)
    if stream:
        refuse("has no meaning with --stream: leave out one of the two", *OF_ROWS)
        refuse(
            "has no meaning with --stream, which runs a step at a time on one core", "--backend", "--threads"
        )
        if len(given) != 1:
            raise UsageError("a stream has one --input: a file of frames, or `-` for standard input")
        if output is not None:
            check_outputs(output, others=(artefact, Path(given[0])), force=force)
        answer_stream(
            network,
            given[0],
            output,
            every=every,
            exit_confidence=exit_confidence,
            keep_state=keep_state,
        )
        return
    refuse("belongs to --stream: give that, too", "--every", "--keep-state")
    if exit_confidence is not None:
        _check_exit(exit_confidence, backend, per_step=per_step, logits=logits)
    if output is None:
        raise UsageError("the outputs need a file: name it by --output Y.npy")
    paths = _paths(given, list(network.takes), network.graph.name)
    check_outputs(output, others=(artefact, *paths.values()), force=force)
    several = len(network.gives) > 1
    _check_suffix(output, list(network.gives))
    steps = chosen_timesteps(terminal, network, timesteps)
    x, called = _rows(paths, network)
    network.check_rows(x, called)
    simulator = load_simulator(backend, threads)
    warn_of_rows(terminal, network, x, simulator)
    if exit_confidence is not None:
        told_task = task_of(task)
        exits = exits_of(network, x, exit_confidence, simulator, timesteps=steps, task=told_task)
        _answer_when_sure(terminal, network, exits, output, steps, told_task)
        return
    found = all_outputs_of(
        network.graph,
        network.encode,
        x,
        simulator=simulator,
        timesteps=steps,
        per_step=per_step,
        progress=terminal.progress(),
        finish=network.finish,
    )
    written, told = {}, {}
    for name, values in found.items():
        y = _laid_out(network, name, values, steps, per_step=per_step, logits=logits)
        written[name] = y
        told[name] = {"shape": list(y.shape), "dtype": str(y.dtype)} | _answers(
            network, name, values[-1] if per_step else values, steps, task_of(task)
        )
    with replacing(output) as file:
        if several:
            arrays: dict[str, Any] = written
            np.savez(file, **arrays)
        else:
            np.save(file, next(iter(written.values())))
    if terminal.json:
        shown = {"outputs": told} if several else next(iter(told.values()))
        terminal.data({"output": str(output), **shown, "timesteps": steps})
        return
    listed = ", ".join(
        f"{f'{name}: ' if several else ''}{y.dtype} of shape {y.shape}" for name, y in written.items()
    )
    terminal.done(f"wrote {output}: {listed}, T = {steps}")


def _check_exit(confidence: float, backend: str, *, per_step: bool, logits: bool) -> None:
    """Refuse options with which rows cannot stop early."""
    from snnc.analysis.early_exit import check_confidence
    from snnc.errors import UsageError

    check_confidence(confidence)
    if per_step:
        raise UsageError("--exit-confidence gives one answer a row: leave out --per-step")
    if not logits:
        raise UsageError(
            "--exit-confidence needs --logits: rows stop after different steps, and sums over these cannot "
            "be compared"
        )
    if backend == "onnx":
        raise UsageError("--exit-confidence looks at every step, and --backend onnx gives none of them")


def _answer_when_sure(
    terminal: Terminal, network: Artefact, exits: Exits, output: Path, timesteps: int, task: Task | None
) -> None:
    """Write what rows answer as soon as they are sure, and tell what that takes."""
    import numpy as np

    from snnc.cli.evaluation_tables import when_sure
    from snnc.writing import replacing

    ((name, layout),) = network.output_layouts.items()
    y = exits.values.reshape(len(exits.values), *layout.source_shape)
    with replacing(output) as file:
        np.save(file, y)
    if terminal.json:
        terminal.data(
            {
                "output": str(output),
                "shape": list(y.shape),
                "dtype": str(y.dtype),
                "task": _answers(network, name, exits.values, timesteps, task)["task"],
                "classes": exits.answers.tolist(),
                "timesteps": timesteps,
                "latency_steps": exits.latency.tolist(),
                "early_exit": exits.as_dict(),
            }
        )
        return
    terminal.table(("answers when sure", f"from {exits.confidence:g} on"), when_sure(exits))
    terminal.done(f"wrote {output}: {y.dtype} of shape {y.shape}, T up to {timesteps}")


def _paths(given: Sequence[str], names: Sequence[str], network: str) -> dict[str, Path]:
    """Return the file of each input, by its name; one file for all of them as it is.

    Raises:
        UsageError: an input is missing, unknown or given twice.
    """
    from snnc.errors import UsageError
    from snnc.pass_options import once

    listed = ", ".join(map(repr, names))
    if len(given) == 1 and (len(names) == 1 or given[0].endswith(".npz")):
        name, equals, path = given[0].rpartition("=")
        named = equals and name in names and not Path(given[0]).exists()
        return {names[0]: Path(path if named else given[0])}
    pairs = []
    for text in given:
        name, equals, path = text.rpartition("=")
        if not equals or name not in names:
            raise UsageError(
                f"--input {text}: {network} has {len(names)} input{'s' * (len(names) > 1)}, {listed}: write "
                "NAME=X.npy for each"
            )
        pairs.append((name, Path(path)))
    found = once(pairs, "--input")
    missing = [name for name in names if name not in found]
    if missing:
        raise UsageError(f"the input {missing[0]!r} of {network} is missing: give --input {missing[0]}=X.npy")
    return found


def _rows(paths: dict[str, Path], network: Artefact) -> tuple[Rows, str]:
    """Read the rows of every input, and say what they are called."""
    from snnc.cli.files import read_named
    from snnc.data.row_files import read_rows
    from snnc.ir.batch import Batch

    names = list(network.takes)
    if len(paths) == 1:
        path = next(iter(paths.values()))
        found = read_named(path, names, [], network.preprocessing, is_fixed=True)
        return found.x, found.name
    called = " and ".join(dict.fromkeys(map(str, paths.values())))
    return Batch({name: read_rows(paths[name]) for name in names}), called


def _check_suffix(output: Path, names: Sequence[str]) -> None:
    """Refuse a file whose name says another form than it will have."""
    from snnc.errors import UsageError

    if len(names) == 1 and output.suffix == ".npz":
        raise UsageError(f"{output}: the outputs are one array, not an archive; name the file .npy")
    if len(names) > 1 and output.suffix != ".npz":
        listed = ", ".join(map(repr, names))
        raise UsageError(f"{output}: there are {len(names)} outputs, {listed}; name an archive, NAME.npz")


def _laid_out(
    network: Artefact, name: str, values: NumberArray, steps: int, *, per_step: bool, logits: bool
) -> NumberArray:
    """Return the values of an output, (rows, ...) or (steps, rows, ...), as the source lays them out."""
    if network.host is not None:  # the source network's output, in its units and its shape
        return values
    readout, layout = network.graph.readouts[name], network.output_layouts[name]
    flat = values.reshape(-1, *readout.shape)
    flat = layout.to_source(readout.decoded(flat, steps) if logits else flat)
    return flat.reshape(*values.shape[: 1 + per_step], *layout.source_shape)


def _answers(
    network: Artefact, name: str, values: NumberArray, steps: int, given: Task | None
) -> dict[str, Any]:
    """Return what an output is, and the classes that it names, if it does."""
    from snnc.metrics import Task, decisions
    from snnc.metrics.outputs import recognise_output
    from snnc.metrics.task import threshold_of

    several = len(network.gives) > 1
    stored = tasks_of_artefact(None, network)
    kind = recognise_output(
        name if several else "",
        network.gives[name],
        rows=len(values),
        ends=network.source_ends[name],
        given=given,
        stored=stored.get(name) if isinstance(stored, dict) else stored,
    )
    classes = kind.have_classes and kind.task is not Task.REGRESSION
    threshold = threshold_of("" if network.ends[name] else network.source_ends[name])
    if threshold and network.host is None:  # of a value, not of a sum of spikes
        readout = network.graph.readouts[name]
        values = readout.real(values.reshape(-1, *readout.shape), steps)
    answers = decisions(values.reshape(len(values), -1), threshold).tolist() if classes else None
    return {"task": None if kind.task is None else kind.task.value, "classes": answers}
