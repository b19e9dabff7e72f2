"""Two readings of a step function, compared: the activation of the current so far, or of its mean.

``python -m benchmarks.accuracy.readings`` prints the figures of docs/method.md. A population with a step
function `K` sends changes of `K(P(t))` (*sum*, which snnc uses), or of `t / T K(P(t) T / t)`, rounded
(*mean*). Both end at the same counts where no limit of spikes per step holds them back, and differ in how
many spikes they send on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from unittest.mock import patch

import click
import numpy as np

from benchmarks.common.corpus_data import DEFAULT, networks, sets
from snnc.compiler import Options, convert
from snnc.ir import snn
from snnc.ir.channels import per_channel
from snnc.ir.graph import NumberArray
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Firing, firing
from snnc.ir.snn import SnnGraph
from snnc.simulation import reference
from snnc.simulation.protocol import RecordOptions

CHOSEN = ("vnn20_matlab_tansig_256_100_50", "marabou_mnist5x20_leaky", "marabou_self_attention_mnist")
STEPS = (4, 8)
ROWS, CALIBRATION = 200, 500

_fire = reference.fire


def fire_by_mean(
    node: snn.IntegrateFire, current: NumberArray, timesteps: int, schedule: Schedule
) -> tuple[NumberArray, NumberArray]:
    """Run a population as :func:`snnc.simulation.reference.fire`, but read the mean current."""
    if firing(node) is not Firing.STEPS or schedule is Schedule.LAYERWISE:
        return _fire(node, current, timesteps, schedule)
    rank, limit = len(node.shape), node.neuron.limit
    start, bias = (per_channel(each, rank).astype(np.int64) for each in (node.v_init, node.bias))
    v = np.broadcast_to(start, current.shape[1:])
    count = np.zeros(current.shape[1:], np.int64)
    spikes = np.zeros_like(current)
    for t in range(len(current)):
        v = v + current[t] + (bias if t < timesteps else 0)
        passed = min(t + 1, timesteps)
        whole = reference.step_function(node, (v - start) * timesteps // passed + start)
        change = (2 * passed * whole + timesteps) // (2 * timesteps) - count
        s = change if limit is None else np.clip(change, -limit, limit)
        count, spikes[t] = count + s, s
    return spikes, v.astype(current.dtype)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reading gives.

    Attributes:
        events: spikes per row of populations with a step function.
        levels: sum of their magnitudes, per row.
        outputs: (rows, classes) after `T` steps.
    """

    events: float
    levels: float
    outputs: NumberArray


def run(graph: SnnGraph, q: NumberArray) -> Reading:
    """Run a network, and count what populations with a step function send."""
    names = tuple(node.name for node in graph.of_type(snn.IntegrateFire) if node.breakpoints is not None)
    trace = reference.ReferenceSimulator().run(graph, q, graph.timesteps, RecordOptions(trains=names))
    trains = [trace.trains[name] for name in names]
    return Reading(
        sum(np.count_nonzero(train) for train in trains) / len(q),
        sum(int(np.abs(train.astype(np.int64)).sum()) for train in trains) / len(q),
        trace.logits,
    )


def rows(shared: str) -> Iterator[str]:
    """Yield the rows of the table."""
    known = {network.name: network for network in networks(type(DEFAULT)(shared))}
    for name in CHOSEN:
        network = known[name]
        data = sets(type(DEFAULT)(shared), network, CALIBRATION)
        for timesteps in STEPS:
            options = Options(preset="balanced", timesteps=timesteps)
            made = convert(network.path, data.calibration, options, preprocessing=data.preprocessing)
            graph, q = made.artefact.graph, made.artefact.encode(data.x[:ROWS])
            by_sum = run(graph, q)
            with patch.object(reference, "fire", fire_by_mean):
                by_mean = run(graph, q)
            same = np.mean(by_sum.outputs.argmax(axis=1) == by_mean.outputs.argmax(axis=1))
            right = [np.mean(each.outputs.argmax(axis=1) == data.y[:ROWS]) for each in (by_sum, by_mean)]
            yield (
                f"| {name} | {timesteps} | {by_sum.events:.0f} | {by_mean.events:.0f} | {by_sum.levels:.0f} "
                f"| {by_mean.levels:.0f} | {same:.1%} | {right[0]:.1%} | {right[1]:.1%} |"
            )


@click.command()
@click.option("--shared", default=str(DEFAULT), show_default=True, help="The folder of networks and data.")
def main(shared: str) -> None:
    """Print the table."""
    click.echo("| network | T | spikes, sum | mean | levels, sum | mean | same answers | right, sum | mean |")
    click.echo("|---|---|---|---|---|---|---|---|---|")
    for row in rows(shared):
        click.echo(row)


if __name__ == "__main__":
    main()
