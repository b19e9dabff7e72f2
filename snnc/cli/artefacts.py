"""Functions for artefacts that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.terminal import Terminal

if TYPE_CHECKING:
    from snnc.analysis.early_exit import Exits
    from snnc.artefact import Artefact
    from snnc.ir.batch import Rows
    from snnc.metrics import Task
    from snnc.metrics.outputs import Labels
    from snnc.simulation.protocol import Simulator


def holds_artefact(path: Path) -> bool:
    """Say whether a file is an artefact, not an ordinary network; where it is damaged, its name decides."""
    import onnx
    from google.protobuf.message import DecodeError

    from snnc.artefact.metadata import SCHEMA, properties_of
    from snnc.frontend.loading import MAX_BYTES

    try:
        if (
            path.is_file() and path.stat().st_size <= MAX_BYTES
        ):  # a pipe can be read once, a device without end
            return SCHEMA in properties_of(onnx.load_model(path, load_external_data=False))
    except (DecodeError, OSError):
        pass
    return path.name.endswith(".snn.onnx")


class ArtefactPath(click.Path):
    """The path of an artefact, or ``zoo:NAME`` of one; another network of the zoo is called what it is."""

    def __init__(self) -> None:
        """Give paths as such."""
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a path."""
        from snnc.models import PREFIX, resolve

        if str(value).startswith(PREFIX):
            entry = resolve(str(value))
            if entry.timesteps is not None:
                return entry.path
            self.fail(
                f"{value} is not an artefact: convert it first with snnc convert {value} -o OUT", param, ctx
            )
        return super().convert(value, param, ctx)


def require_network(path: Path, name: str) -> None:
    """Refuse an artefact where a network is to be converted.

    Raises:
        UsageError: it is one.
    """
    from snnc.errors import UsageError

    if holds_artefact(path):
        raise UsageError(
            f"{name} is an artefact already: see snnc eval, snnc inspect, or snnc check --target T for it"
        )


def chosen_timesteps(terminal: Terminal, artefact: Artefact, wanted: int | None) -> int:
    """Return the T to run with, and warn where the network was not calibrated for it."""
    from snnc.diagnostics import OTHER_TIMESTEPS, Diagnostic

    calibrated = artefact.graph.timesteps
    if wanted is None or wanted == calibrated:
        return calibrated
    if artefact.graph.integer and wanted > artefact.graph.max_timesteps:
        return wanted  # it will be refused, which needs no warning before
    found = Diagnostic(
        OTHER_TIMESTEPS,
        f"not calibrated for T = {wanted}, but for {calibrated}",
        help=f"convert again with --timesteps {wanted}"
        + " --precision float32" * (not artefact.graph.integer),
    )
    terminal.warn(found)
    return wanted


def exits_of(
    artefact: Artefact,
    x: Rows,
    confidence: float,
    simulator: Simulator,
    *,
    timesteps: int,
    labels: Labels = None,
    task: Task | None = None,
) -> Exits:
    """Return when rows may stop; see :func:`snnc.analysis.early_exit.early_exits`.

    Args:
        artefact: the network.
        x: rows as it takes them.
        confidence: from which on they stop.
        simulator: one that records spikes.
        timesteps: T.
        labels: classes, if they are known.
        task: what the user says that the outputs are.

    Raises:
        UsageError: the network cannot stop early.
    """
    import numpy as np

    from snnc.analysis.artefacts import stored_tasks
    from snnc.analysis.early_exit import early_exits
    from snnc.errors import UsageError
    from snnc.metrics import Task
    from snnc.metrics.outputs import recognise_outputs

    if artefact.host is not None:
        raise UsageError("a part of this artefact runs behind the spikes: leave out --exit-confidence")
    given = stored_tasks(artefact) if task is None else task
    ends = artefact.source_ends
    outputs = recognise_outputs(artefact.gives, rows=len(x), labels=labels, ends=ends, given=given)
    if any(each.task in (Task.BINARY, Task.REGRESSION) for each in outputs.values()):
        raise UsageError(
            "the outputs are no scores of classes, of which one becomes sure: leave out --exit-confidence"
        )
    classes = labels if isinstance(labels, np.ndarray) else None
    return early_exits(
        artefact.graph, artefact.encode, x, confidence, simulator, labels=classes, timesteps=timesteps
    )


def warn_of_rows(terminal: Terminal, artefact: Artefact, x: Rows, simulator: Simulator) -> None:
    """Warn where rows are not scaled, centred or ordered as the calibration rows were.

    Args:
        terminal: where to warn.
        artefact: the spiking network.
        x: (n, ...) rows as the artefact takes them.
        simulator: see :func:`snnc.analysis.artefacts.unlike_calibration`.
    """
    from snnc.analysis.artefacts import unlike_calibration

    found = unlike_calibration(artefact, x, simulator)
    if found is not None:
        terminal.warn(found)
