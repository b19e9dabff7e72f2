"""``snnc adapt``: learning after the conversion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.artefacts import ArtefactPath
from snnc.cli.given import refuse
from snnc.cli.layouts import rows_layout
from snnc.cli.quantities import FiniteRange
from snnc.cli.run_options import threads_option
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.adaptation import Adapted
    from snnc.artefact import Artefact
    from snnc.ir.batch import Rows
    from snnc.ir.graph import IntArray

LEARNING = (
    "--data",
    "--labels",
    "--cut",
    "--head",
    "--ridge",
    "--improve",
    "--route",
    "--name",
    "--replay",
    "--replay-bytes",
    "--replay-window",
    "--epochs",
    "--rate",
    "--seed",
)
"""Options that say how to learn."""


@click.command("adapt", cls=Verb)
@click.argument("artefact", type=ArtefactPath())
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="ROWS",
    help="Rows `x` of the new classes and labels `y`, which are numbered on from the last class.",
)
@click.option(
    "--labels", type=click.Path(path_type=Path), metavar="Y.npy", help="The labels, where ROWS hold none."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT",
    help="The artefact to write, NAME.snn.onnx.",
)
@click.option("--revoke", metavar="ID", help="Take an edit back, instead of learning.")
@click.option("--cut", metavar="LAYER", help="Learn behind this layer alone; by default the classifier.")
@click.option(
    "--head",
    type=click.Choice(["linear", "prototype", "gradient"]),
    help="What is learned: linear (ridge regression; the default), prototype (cosine, from one row on), or "
    "gradient (all layers behind the cut; needs PyTorch).",
)
@click.option(
    "--ridge",
    type=FiniteRange(min=0, min_open=True),
    metavar="X",
    help="Penalty of the linear head on large weights, in units of the mean variance of a count; 0.001 by "
    "default.",
)
@click.option("--improve", is_flag=True, help="Allow rows of classes that exist: learn more of them.")
@click.option("--route", is_flag=True, help="A head for each edit; rows go to the most similar edit.")
@click.option(
    "--name", "names", multiple=True, metavar="NAME", help="Name of a new class, in order. May be repeated."
)
@click.option(
    "--replay",
    type=click.Path(path_type=Path),
    metavar="BUFFER.npz",
    help="Rows of earlier classes, rehearsed beside the new ones; with --replay-bytes the buffer is written "
    "anew, the new rows among them.",
)
@click.option(
    "--replay-bytes", type=click.IntRange(min=1), metavar="N", help="Largest size of the buffer, in bytes."
)
@click.option(
    "--replay-window",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Keep spike trains in the buffer, N steps OR-ed to one; counts by default.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    metavar="N",
    help="Passes over the rows, of --head gradient.",
)
@click.option(
    "--rate",
    type=FiniteRange(min=0, min_open=True),
    default=0.05,
    show_default=True,
    metavar="X",
    help="Learning rate of --head gradient, in units of the mean weight.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the random choices of --head gradient.",
)
@click.option(
    "--test",
    type=click.Path(path_type=Path),
    metavar="ROWS",
    help="Rows and labels to measure old and new classes on, before and after.",
)
@rows_layout
@click.option(
    "--backend", metavar="NAME", default="numba", show_default=True, help="The simulator: numba or reference."
)
@threads_option
@click.option("--force", is_flag=True, help="Replace OUT if it exists; it may be ARTEFACT.")
@click.pass_obj
def command(terminal: Terminal, /, artefact: Path, **options: Any) -> None:
    """Teach a converted network new classes from a few labelled ROWS, and write it.

    Only what stands behind a layer, the cut, learns: by default the classifier. Nothing before it changes.

    Every edit is recorded in the artefact, and --revoke takes it back: byte for byte what the artefact would
    be if it had never learned it. `snnc inspect` lists the edits.
    """
    from snnc.adaptation import require_fit
    from snnc.artefact import load
    from snnc.cli.files import check_outputs
    from snnc.errors import UsageError

    output, revoked = options["output"], options["revoke"]
    # Only a buffer that is written must not be replaced by accident: it is named on purpose.
    others = [options[key] for key in ("data", "labels", "replay", "test")]
    if not (options["force"] and output.exists() and output.samefile(artefact)):
        others.append(artefact)
    check_outputs(output, others=others, force=options["force"])
    if options["replay_bytes"] is not None:  # written anew: it may be there, and is read before
        check_outputs(options["replay"], force=True)
    network = load(artefact)
    require_fit(network)
    if revoked is not None:
        refuse("is for learning, and --revoke takes an edit back", *LEARNING)
        _revoke(terminal, network, artefact, options)
        return
    if options["data"] is None:
        raise UsageError("nothing to learn: give --data ROWS, or --revoke ID")
    if options["head"] != "gradient":
        refuse("is for --head gradient", "--epochs", "--rate", "--seed")
    _learn(terminal, network, artefact, options)


def _learn(terminal: Terminal, network: Artefact, path: Path, options: dict[str, Any]) -> None:
    from snnc.adaptation import Options, adapt, head_of, read_buffer
    from snnc.artefact import save
    from snnc.backends import load_simulator
    from snnc.cli.artefacts import warn_of_rows
    from snnc.errors import UsageError

    _warn_of_form(terminal, network, path)
    simulator = load_simulator(options["backend"], options["threads"])
    reader = network.with_rows_layout(options["rows_layout"])  # which is not the artefact's to remember
    x, y = _labelled(reader, options["data"], options["labels"])
    warn_of_rows(terminal, reader, x, simulator)
    file: Path | None = options["replay"]
    buffer = None
    if file is not None and (file.exists() or options["replay_bytes"] is None):
        buffer = read_buffer(file)
    if file is None and options["replay_bytes"] is not None:
        raise UsageError("--replay-bytes is of a buffer: name its file by --replay BUFFER.npz")
    found = adapt(
        network,
        x,
        y,
        Options(
            cut=options["cut"],
            head=head_of(options["head"]),
            ridge=options["ridge"],
            improve=options["improve"],
            route=True if options["route"] else None,
            names=options["names"],
            rows_layout=options["rows_layout"],
            replay_bytes=options["replay_bytes"],
            replay_window=options["replay_window"],
            epochs=options["epochs"],
            rate=options["rate"],
            seed=options["seed"],
        ),
        simulator,
        buffer,
        progress=terminal.progress(),
    )
    for note in found.notes:
        terminal.warn(note)
    judged = _judged(terminal, network, found.artefact, options, simulator)
    save(found.artefact, options["output"])
    if file is not None and found.buffer is not None:
        found.buffer.save(file)
    _tell(terminal, found, options, path, judged)


def _revoke(terminal: Terminal, network: Artefact, path: Path, options: dict[str, Any]) -> None:
    from snnc.adaptation import adaptation_of, revoke
    from snnc.artefact import save
    from snnc.backends import load_simulator

    _warn_of_form(terminal, network, path)
    found, edit = revoke(network, options["revoke"])
    simulator = load_simulator(options["backend"], options["threads"])
    judged = _judged(terminal, network, found, options, simulator)
    save(found, options["output"])
    left = adaptation_of(found)
    edits = [] if left is None else [each.id for each in left.edits]
    size = options["output"].stat().st_size
    if terminal.json:
        terminal.data(
            {
                "output": str(options["output"]),
                "bytes": size,
                "revoked": edit.id,
                "classes": list(edit.classes),
                "edits": edits,
                "test": None if judged is None else judged.as_dict(),
            }
        )
        return
    if judged is not None:
        terminal.table(("", "accuracy"), judged.lines)
    rest = f"{len(edits)} edits are left" if edits else "the artefact is as it was converted"
    terminal.done(f"wrote {options['output']} ({size / 1e3:,.0f} kB): without edit {edit.id}; {rest}")


def _judged(
    terminal: Terminal, before: Artefact, after: Artefact, options: dict[str, Any], simulator: Any
) -> Any:
    from snnc.adaptation.outcome import outcome
    from snnc.analysis.artefacts import calibrated_on

    if options["test"] is None:
        return None
    before, after = (each.with_rows_layout(options["rows_layout"]) for each in (before, after))
    x, y = _labelled(after, options["test"], None)
    seen = calibrated_on(after, x)
    if seen is not None:
        terminal.warn(seen)
    return outcome(before, after, x, y, simulator)


def _labelled(network: Artefact, data: Path, labels: Path | None) -> tuple[Rows, IntArray]:
    """Return rows and their classes."""
    import numpy as np

    from snnc.cli.files import read_named
    from snnc.data.row_files import read_rows
    from snnc.errors import InputError, UsageError

    found = read_named(data, list(network.takes), list(network.gives), network.preprocessing, is_fixed=True)
    network.check_rows(found.x, found.name)
    y = found.y
    if labels is not None:
        if y is not None:
            raise UsageError(f"--labels: {data} brings its labels `y`: leave one of them out")
        y = read_rows(labels)
    if y is None or not isinstance(y, np.ndarray):
        raise InputError(f"{found.name} come without labels `y`: add them, or give --labels Y.npy")
    if y.dtype.kind == "f" and (np.abs(y) < 2**53).all() and (y == np.rint(y)).all():  # NaN is neither
        y = y.astype(np.int64)
    if y.dtype.kind not in "iu":
        raise InputError(f"labels of type {y.dtype} for {found.name}: give one class, an integer, for each")
    return found.x, y.astype(np.int64)


def _warn_of_form(terminal: Terminal, network: Artefact, path: Path) -> None:
    """Warn where the file is of an earlier version, whose bytes nothing can restore."""
    if network.model().SerializeToString(deterministic=True) != path.read_bytes():
        terminal.warn(
            f"{path} was written by another version of snnc, or its weights lie in a file beside it: what "
            "--revoke restores is the same network in the form of today"
        )


def _tell(terminal: Terminal, found: Adapted, options: dict[str, Any], path: Path, judged: Any) -> None:
    output: Path = options["output"]
    edit, size = found.edit, output.stat().st_size
    if terminal.json:
        terminal.data(
            {
                "output": str(output),
                "bytes": size,
                "bytes_before": path.stat().st_size if not output.samefile(path) else None,
                "id": edit.id,
                "classes": list(edit.classes),
                "rows": edit.rows,
                "weights_added": found.weights_added,
                "cut": found.cut.name,
                "counts_per_row": found.features,
                "replayed_rows": edit.replay_rows,
                "kept_classes": list(found.kept),
                "notes": list(found.notes),
                "buffer": None if found.buffer is None else found.buffer.as_dict(),
                "test": None if judged is None else judged.as_dict(),
            }
        )
        return
    rows = [
        ("edit", edit.id),
        ("classes", ", ".join(map(str, edit.classes))),
        ("rows", f"{edit.rows:,}" + (f", {edit.replay_rows:,} replayed" if edit.replay_rows else "")),
        ("cut", f"{found.cut.name}, {found.features:,} counts a row"),
        ("weights added", f"{found.weights_added:,}"),
    ]
    if found.buffer is not None:
        rows.append(
            ("buffer", f"{options['replay']}, {len(found.buffer):,} rows, {found.buffer.size:,} bytes")
        )
    terminal.table(("", ""), rows)
    if judged is None:
        terminal.text("No accuracy was measured: give --test ROWS.")
    else:
        terminal.table(("", "accuracy"), judged.lines)
    terminal.done(f"wrote {output} ({size / 1e3:,.0f} kB); take it back by --revoke {edit.id}")
