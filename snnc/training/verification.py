"""Whether a spiking network counts what was trained, bit for bit."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import numpy as np
import torch

from snnc.errors import InternalError
from snnc.ir.batch import Batch, joined
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.simulation.protocol import RecordOptions, Simulator
from snnc.simulation.reference import encode_all
from snnc.training.judge import AT_ONCE, Judge
from snnc.training.spiking_network import SpikingNetwork

VERIFIED_ROWS = 1000
"""Rows held back on which the counts of the simulator and of the module are compared."""


def verified(network: SpikingNetwork, graph: SnnGraph, judge: Judge, simulator: Simulator) -> int:
    """Compare the counts of a spiking network with its module's, and return on how many rows they are equal.

    Raises:
        InternalError: a count differs: what was trained is not what is deployed.
    """
    count = min(len(judge), VERIFIED_ROWS)
    names = [node.name for node in graph.of_type(IntegrateFire)]
    network.quantise()
    for start in range(0, count, AT_ONCE):
        rows = slice(start, min(start + AT_ONCE, count))
        q = encode_all(graph, joined({name: x[rows] for name, x in judge.rows.items()}))
        trace = simulator.run(graph, q, graph.timesteps, RecordOptions(states=True))
        arrays = q.arrays if isinstance(q, Batch) else {graph.encoders[0].name: q}
        device = next(network.parameters()).device
        given = {name: torch.from_numpy(x.astype(np.float64)).to(device) for name, x in arrays.items()}
        with torch.no_grad():
            found = network(given, exact=True).counts
        for name in names:
            if not np.array_equal(found[name].cpu().numpy(), trace.counts[name]):
                raise InternalError(f"the counts of {name!r} are not those that were trained")
    return count
