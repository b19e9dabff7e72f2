"""The source network in the form that a conversion gave it before it was lowered.

Every population bears the name of a rectifier of that form. It follows from the file and the recorded
passes; only the shifts of raised linear values were measured, and those the artefact remembers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from snnc.artefact import Artefact
from snnc.errors import InputError, UsageError
from snnc.frontend import read_onnx
from snnc.ir.ann import AnnGraph, Relu
from snnc.ir.batch import joined
from snnc.ir.counts import Function
from snnc.ir.graph import Graph
from snnc.ir.snn import IntegrateFire
from snnc.passes import PASSES
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.simulation.protocol import Simulator
from snnc.source.calibration import Calibration
from snnc.source.kept_channels import with_kept_channels

LOWERING = frozenset({"lower", "lower-quantised"})
CLIP = "clip-activations"
RAISE = "rectify-linear"
PRUNE = "prune-channels"


def prepared_source(artefact: Artefact, path: Path, simulator: Simulator) -> AnnGraph:
    """Return the source network as it was lowered, without clips.

    Args:
        artefact: what was made from it.
        path: its ONNX file.
        simulator: what passes may measure with.

    Raises:
        InputError: the artefact does not say how it was made.
        UsageError: its neurons follow step functions whose potentials it tells nothing of, or something in it
            depends on the order of steps.
    """
    if (what := artefact.graph.changing) is not None:
        raise UsageError(
            f"{artefact.graph.name}: {what}, and errors are split for an input that stays the same and for "
            "neurons that keep what they receive: report on the network as it is converted without --frames"
        )
    kept = () if artefact.host is None else artefact.host.nodes
    source = read_onnx(path, kept=kept, selection=artefact.selection).graph
    text = artefact.metadata.pipeline
    passes = Pipeline.parse(text, PASSES) if text else Pipeline(())
    for node in artefact.graph.of_type(IntegrateFire):
        if node.breakpoints is not None and node.potential_unit is None:
            raise UsageError(
                f"{node.name!r} follows a step function and does not tell what its potential stands for: "
                "convert the network again with this version of snnc"
            )
    for function in artefact.graph.nodes:
        if isinstance(function, Function) and function.unit is None:
            raise UsageError(
                f"{function.name!r} does not tell what its counts stand for: convert the network again with "
                "this version of snnc"
            )
    lowering = next((name for name in passes.names if name in LOWERING), None)
    if lowering is None:
        raise InputError(
            f"the artefact does not record the passes that made it from {path.name}: convert it again"
        )
    chosen = [item for item in passes[: passes.names.index(lowering)] if item.name != CLIP]
    rows = joined({node.name: np.zeros((1, *node.shape), np.float32) for node in artefact.graph.encoders})
    context = Context(Calibration(rows), artefact.graph.timesteps, simulator)
    graph: Graph[Any] = source
    if chosen:
        graph, _ = run_pipeline(chosen, source, context)
    if not isinstance(graph, AnnGraph):
        raise InputError(f"the recorded passes of {path.name} end in no source network: convert it again")
    return _with_kept_channels(_with_shifts(graph, artefact), artefact)


def _with_shifts(graph: AnnGraph, artefact: Artefact) -> AnnGraph:
    """Put the recorded shifts in the place of those of a run without calibration rows."""
    # Those of a quantised source stand in its file.
    raised = {node.name for node in graph.of_type(Relu) if node.shift is not None and node.scale is None}
    if not raised:
        return graph
    records = [r for r in artefact.metadata.records if str(r.get("pass", "")).startswith(RAISE)]
    shifts = {name: values for record in records for name, values in record.get("shifts", {}).items()}
    missing = sorted(raised - set(shifts))
    if missing:
        raise InputError(
            f"the artefact does not store the shift of {missing[0]}: convert it again with "
            "this version of snnc"
        )

    def shifted(node: Relu) -> Relu:
        found = shifts.get(node.name)
        return node if found is None else node.with_(shift=np.array(found, np.float32))

    return graph.map(Relu, shifted)


def _with_kept_channels(graph: AnnGraph, artefact: Artefact) -> AnnGraph:
    """Divide rectifiers of which channels were taken out, as the artefact records them."""
    for record in artefact.metadata.records:
        if str(record.get("pass", "")).startswith(PRUNE) and "kept" in record:
            graph = with_kept_channels(graph, record["kept"])
    return graph
