"""``snnc tune`` of a network over time: a NIR file, or an artefact of leaky neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snnc.cli import nir
from snnc.cli.given import given, refuse

if TYPE_CHECKING:
    from pathlib import Path

    from snnc.artefact import Artefact
    from snnc.cli.terminal import Terminal
    from snnc.cli.tune import Request

EPOCHS, BATCH, RATE = 10, 50, 3e-2
"""What networks over time take where nothing is given."""

CONVERSIONS_ALONE = (
    *("--minutes", "--loss", "--augment", "--rounded", "--checkpoints", "--metrics", "--precision"),
    *("--temperature", "--density", "--regrow", "--learn", "--fine-skip", "--preset", "--pipeline", "--set"),
    *("--preprocess", "--rows-layout", "--task", "--shape", "--keep-output", "--host", "--timesteps"),
)
"""Options of networks that are converted."""


def over_time(path: Path, name: str) -> Artefact | None:
    """Return the artefact of a network over time; ``None`` where a file is an ordinary network.

    Raises:
        UsageError: it is another artefact.
    """
    from snnc.artefact import load
    from snnc.cli.artefacts import holds_artefact, require_network

    if not holds_artefact(path):
        return None
    artefact = load(path)
    if artefact.graph.changing is None:
        require_network(path, name)
    return artefact


def tune_over_time(
    terminal: Terminal, path: Path, artefact: Artefact | None, request: Request, said: dict[str, Any]
) -> None:
    """Tune a network over time, and write it.

    Args:
        terminal: where to tell.
        path: of the network.
        artefact: what it holds; ``None`` for a NIR file.
        request: the options.
        said: what is said of a NIR file.

    Raises:
        UsageError: an option makes no sense here, or one is missing.
    """
    from pathlib import Path

    from snnc.artefact import save
    from snnc.cli.files import check_outputs, read_named
    from snnc.compiler.importing import import_nir
    from snnc.diagnostics import FALLBACK, Diagnostic
    from snnc.errors import UsageError
    from snnc.frontend.nir import Convention
    from snnc.training.leaky_tuning import tune_leaky

    refuse("is for networks that are converted, and this one runs over time already", *CONVERSIONS_ALONE)
    if artefact is not None:
        nir.refuse_without_nir(said)
    if request.device != "cpu":
        refuse("is not for networks over time, which are tuned on the CPU", "--device")
    if request.finish == "cycles":
        raise UsageError("--finish cycles is not for networks over time: give bptt, rate or tssl")
    if request.train is None:
        raise UsageError("no training rows: give frames, (rows, T, ...), with their classes by --train ROWS")
    if not request.labels:
        raise UsageError("a network over time is tuned on labels alone: give --labels")
    output = Path(request.output)
    check_outputs(output, others=(path, request.train), force=request.force)
    rows = read_named(request.train, ("x",), ("y",))
    if rows.y is None:
        raise UsageError(f"--labels: {rows.name} come without labels `y`")
    if artefact is None:
        convention = Convention.chosen(**said)
        artefact = import_nir(path, rows.x, convention, "float32", request.threads).artefact
    found = tune_leaky(
        artefact,
        rows.x,
        rows.y,
        method=request.finish or "bptt",
        epochs=request.epochs or EPOCHS,
        batch=request.batch if given("--batch") else BATCH,
        rate=request.rate if given("--rate") and request.rate is not None else RATE,
        held_back=request.held_back,
        seed=request.seed,
        threads=request.threads,
        progress=terminal.progress(),
    )
    if not found.is_tuned:
        why = "what was learned is no better on the rows held back, and the network stays as it was"
        terminal.warn(Diagnostic(FALLBACK, why, help="tune for longer, on more rows, or at another --rate"))
    save(found.artefact, output)
    if terminal.json:
        terminal.data({"output": str(output), "bytes": output.stat().st_size, **found.as_dict()})
        return
    kept = "tuned" if found.is_tuned else "kept as it was, in int8"
    terminal.done(
        f"wrote {output}: {kept}; on rows held back {found.begun.text} before, {found.tuned.text} tuned; "
        f"counts equal on {found.equal_rows} of {found.equal_rows} rows"
    )
