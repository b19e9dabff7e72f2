"""Write what a peer needs: the network, calibration rows and test rows, in one NumPy archive.

A peer runs in an environment of its own, which knows neither snnc nor ONNX. So the network is written as
snnc's frontend read it, batch normalisation and all, and the peer's side makes PyTorch layers of it; the
source network's own answers on some rows go along, and the peer checks that its layers give the same.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import corpus_data
from benchmarks.common.source import source_of
from snnc.analysis import costs, node_costs
from snnc.analysis.node_costs import fan_outs
from snnc.backends import load_simulator
from snnc.data.preprocessing import prepared_rows
from snnc.data.readings import NetworkInput
from snnc.errors import SnncError
from snnc.frontend import SourceModel, read_onnx
from snnc.ir import ann
from snnc.ir.geometry import Window
from snnc.ir.snn import SnnGraph
from snnc.passes import PASSES
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.source.calibration import Calibration

CHECKED_ROWS = 200
PLAIN = "fold-batchnorm,clip-activations{method=max},lower"
"""Enough to count synapses as snnc's own networks are counted; which thresholds, does not matter."""


def write(path: Path, network: corpus_data.Network, sets: corpus_data.Sets, limit: int | None) -> int:
    """Write the job of one network.

    Args:
        path: of the archive.
        network: the trained network.
        sets: calibration and test rows.
        limit: test rows at most; ``None`` for all.

    Returns:
        The source network's multiply-accumulates per image.

    Raises:
        click.ClickException: the peers' side does not know something in the network.
    """
    try:
        source = read_onnx(network.path)
        judge = source_of(network, sets)
        calibration = _prepared(source, sets, sets.calibration)
        expected = judge.session.run(judge.prepare(sets.calibration[:CHECKED_ROWS]))
        reach = _reach(source.graph, Calibration(calibration[:CHECKED_ROWS]))
    except SnncError as error:
        raise click.ClickException(f"{network.name}: {error}") from error
    numbers = {node.name: number for number, node in enumerate(source.graph)}
    nodes: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for number, node in enumerate(source.graph):
        if isinstance(node, ann.Relu) and node.ceiling is not None:
            raise click.ClickException(
                f"{network.name}: {node.name!r} is a rectifier with a ceiling, which the peers do not convert"
            )
        nodes.append({"kind": type(node).__name__, "name": node.name, "shape": node.shape, **_plain(node)})
        nodes[-1]["inputs"] = [numbers[name] for name in node.inputs]
        arrays |= {f"{number}.{name}": value for name, value in _arrays(node).items()}
        if node.name in reach:
            arrays[f"{number}.reach"] = reach[node.name]
    stored: dict[str, Any] = {
        "network": json.dumps({"nodes": nodes, "output": numbers[source.graph.output]}),
        "calibration": calibration,
        "x": _prepared(source, sets, sets.x[:limit]),
        "y": sets.y[:limit],
        "expected": expected,
        **arrays,
    }
    np.savez(path, **stored)
    return sum(costs.macs_of_ann(source.graph).values())


def _prepared(source: SourceModel, sets: corpus_data.Sets, rows: corpus_data.Rows) -> corpus_data.Rows:
    """Return rows as the network takes them, channels first, (n, *shape) float32."""
    rows = prepared_rows(rows, NetworkInput.of(source.layout), sets.preprocessing)
    return source.layout.to_canonical(rows).astype(np.float32)


def _reach(graph: ann.AnnGraph, calibration: Calibration) -> dict[str, node_costs.CountMap]:
    """Return how many synapses an event of each neuron reaches, by the name of the spiking node."""
    context = Context(calibration=calibration, timesteps=1, simulator=load_simulator("numba"))
    lowered, _ = run_pipeline(Pipeline.parse(PLAIN, PASSES), graph, context)
    if not isinstance(lowered, SnnGraph):
        raise TypeError(f"{PLAIN} does not end in a spiking network")
    found = fan_outs(lowered)
    missing = [node.name for node in graph.of_type(ann.Relu) if node.name not in found]
    if missing:
        raise click.ClickException(f"no spiking population stands for {missing[0]!r}")
    return found


def _arrays(node: ann.AnnNode) -> dict[str, np.ndarray]:
    values = ((item.name, getattr(node, item.name)) for item in fields(node))
    return {name: value for name, value in values if isinstance(value, np.ndarray)}


def _plain(node: ann.AnnNode) -> dict[str, Any]:
    """Return a node's numbers, and those of its window."""
    found: dict[str, Any] = {}
    for item in fields(node):
        value = getattr(node, item.name)
        if isinstance(value, Window):
            found |= {each.name: getattr(value, each.name) for each in fields(value)}
        elif item.name != "origin" and not isinstance(value, np.ndarray):
            found[item.name] = value
    return found
