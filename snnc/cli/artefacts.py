"""Functions for artefacts that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.terminal import Terminal

if TYPE_CHECKING:
    from snnc.artefact import Artefact
    from snnc.ir.batch import Rows
    from snnc.ir.graph import FloatArray, NumberArray
    from snnc.simulation.protocol import Simulator


def holds_artefact(path: Path) -> bool:
    """Say whether a file is an artefact, not an ordinary network; where it is damaged, its name decides."""
    import onnx
    from google.protobuf.message import DecodeError

    from snnc.artefact.metadata import SCHEMA, properties_of

    try:
        return SCHEMA in properties_of(onnx.load_model(path, load_external_data=False))
    except (DecodeError, OSError):
        return path.name.endswith(".snn.onnx")


class ArtefactPath(click.Path):
    """The path of an artefact; a network of the zoo is told apart from a file that is missing."""

    def __init__(self) -> None:
        """Give paths as such."""
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a path."""
        if str(value).startswith("zoo:"):
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


def warn_of_rows(terminal: Terminal, artefact: Artefact, x: Rows, simulator: Simulator) -> None:
    """Warn where rows are not scaled, centred or ordered as the calibration rows were.

    Args:
        terminal: where to warn.
        artefact: the spiking network; nothing is said of one without the statistics of its calibration rows.
        x: (n, ...) rows as the artefact takes them; some hundreds of them are looked at.
        simulator: runs the network on a few rows whose channels and axes are in other orders.
    """
    import numpy as np

    from snnc.data import normalisation
    from snnc.data.input_statistics import MOST_ROWS, InputStatistics
    from snnc.diagnostics import UNLIKE_CALIBRATION, Diagnostic
    from snnc.simulation.reference import encode

    seen = InputStatistics.stored(artefact.metadata.calibration)
    if seen is None or len(x) == 0:
        return
    chosen = x if len(x) <= MOST_ROWS else x[np.linspace(0, len(x) - 1, MOST_ROWS).astype(np.int64)]
    rows = artefact.canonical(chosen)
    foreign = seen.foreign(rows, chosen)
    if foreign is not None:
        terminal.warn(foreign.diagnostic())
        return
    graph = artefact.graph
    if len(graph.outputs) > 1 or graph.readout.shape[1:] not in ((), (1, 1)):
        return  # of several outputs, or of a map, no confidence tells

    def run(values: FloatArray) -> NumberArray:
        return simulator.run(graph, encode(graph.encoder, values), graph.timesteps).logits

    task = artefact.metadata.stored_task
    # The distribution of the values says little of the order of colours, or of height and width.
    misread = normalisation.judge(run, rows, task=task, order_only=True)
    if misread is not None:
        terminal.warn(Diagnostic(UNLIKE_CALIBRATION, misread.text, help=misread.cure))
