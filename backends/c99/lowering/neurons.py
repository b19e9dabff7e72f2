"""Populations and read-outs."""

from __future__ import annotations

import numpy as np

from snnc.backends.c99.lowering.builder import BEFORE, NULL, STEPS, TIMES, CodeBuilder
from snnc.backends.c99.lowering.currents import charged_anew, gather, synapse_by_rows
from snnc.backends.c99.lowering.leaky import leaky_population, leaky_readout
from snnc.backends.c99.memory import Buffer
from snnc.backends.c99.program import At, Extent, Field, Place
from snnc.backends.c99.widths import Width
from snnc.errors import InternalError
from snnc.ir.graph import NumberArray
from snnc.ir.operations import Firing, firing, largest_spike
from snnc.ir.snn import Convolution, IntegrateFire, Readout

ROW = 64
"""Neurons that fire in one loop, if the channels of a pixel are fewer: thresholds are stored as often."""

KERNELS = {
    Firing.PLAIN: "fire_plain",
    Firing.GRADED: "fire_graded",
    Firing.HESITANT: "fire_negative",
}
"""Kernels of the rules that have one, whatever the limit."""


def integrate_fire(code: CodeBuilder, node: IntegrateFire) -> None:
    """Write the calls of a population."""
    extent = Extent.of(node.shape)
    counts = code.widths.counts[node.name]
    source = charged_anew(code, node)
    if source is not None:
        _fire_by_rows(code, node, source)
        return
    width = Width.I32 if node.leaky else code.widths.potentials[node.name]
    v = code.keep(node, "v", width, extent.size, "potentials")
    sent = code.keep(node, "n", counts, extent.size, "counts")
    start = code.table(node, "v0", node.v_init, "initial potential", Width.I32)
    code.once(node, "rest", (v.width,), start, 1, extent.pixels, extent.channels, v)
    code.once(node, "zero", (counts,), sent, sent.size)
    if node.leaky:
        leaky_population(code, node, v, sent)
        return
    constant = gather(code, node, v)
    if node.breakpoints is not None and node.step_values is not None:
        _follow_steps(code, node, node.breakpoints, node.step_values, constant, v, sent)
        return
    settings = _settings(code, node, extent, pixels_together(extent))
    rest = (settings, constant or NULL, TIMES, STEPS, v, sent)
    if code.barrier:
        code.values[node.name] = sent
        code.call(node, "fire_after_all", (counts, counts, v.width), *rest)
        return
    out = code.allocate(node)
    code.call(node, _rule(node), (out.width, counts, v.width), *rest, out)


def _settings(code: CodeBuilder, node: IntegrateFire, extent: Extent, together: int) -> str:
    """Write down the constants of a population, ``together`` pixels as if they were one."""
    neuron = node.neuron
    limit = neuron.limit or 0
    whole_run = limit if code.barrier and not firing(node).remembers else neuron.levels
    bias, low = NULL, NULL
    threshold = code.table(node, "theta", np.tile(node.threshold, together), "threshold", Width.I32).name
    if node.bias.any():
        bias = code.table(node, "b", np.tile(node.bias, together), "bias", Width.I32).name
    if node.negative_threshold is not None and not code.barrier:
        negative = np.tile(node.negative_threshold, together)
        low = code.table(node, "low", negative, "negative threshold", Width.I32).name
    numbers = (extent.pixels // together, extent.channels * together, whole_run, limit)
    return code.program.structure("population", (threshold, bias, low, *numbers))


def _fire_by_rows(code: CodeBuilder, node: IntegrateFire, source: Convolution) -> None:
    """Run a population whose current is the same in each step, and keep nothing of it but its counts.

    With a constant current I, the potential before step t is ``v0 + min(t, T) (I + B) - Theta N``. So one row
    of the map at a time, I is computed anew, and the potential from it.
    """
    extent, counts = Extent.of(node.shape), code.widths.counts[node.name]
    row = Extent(1, extent.columns, extent.channels)
    sent = code.keep(node, "n", counts, extent.size, "counts")
    code.once(node, "zero", (counts,), sent, sent.size)
    together = pixels_together(row)
    settings = _settings(code, node, row, together)
    start = code.table(node, "v0", np.tile(node.v_init, together), "initial potential", Width.I32)
    current, v = Buffer(Width.I32, row.size), Buffer(code.widths.potentials[node.name], row.size)
    out = code.allocate(node)
    for y in synapse_by_rows(code, source, current):
        here, there = At(sent, y * row.size), At(out, y * row.size)
        code.call(node, "charged", (counts, v.width), settings, start, current, BEFORE, here, v)
        types = (out.width, counts, v.width)
        code.call(node, _rule(node), types, settings, current, TIMES, STEPS, v, here, there)


def _follow_steps(
    code: CodeBuilder,
    node: IntegrateFire,
    points: NumberArray,
    values: NumberArray,
    constant: Place | None,
    v: Field,
    sent: Place,
) -> None:
    """Write the call of a population whose count follows a step function."""
    extent, counts = Extent.of(node.shape), code.widths.counts[node.name]
    bias = NULL
    if node.bias.any():
        bias = code.table(node, "b", node.bias, "bias", Width.I32).name
    limit = min(largest_spike(node, code.graph.timesteps, code.graph.settle_steps), 2**30)
    rows, n = points.shape
    settings = code.program.structure(
        "step_population",
        (
            code.table(node, "points", points, "breakpoints", Width.I32).name,
            bias,
            code.table(node, "steps", values, "counts between the breakpoints", Width.I32).name,
            *(extent.pixels, extent.channels, limit, n, n if rows > 1 else 0),
        ),
    )
    rest = (constant or NULL, TIMES, STEPS, v, sent)
    if code.barrier:
        code.values[node.name] = sent
        code.call(node, "fire_steps_after_all", (counts, counts, v.width), settings, *rest)
        return
    out = code.allocate(node)
    code.call(node, "fire_steps", (out.width, counts, v.width), settings, *rest, out)


def readout(code: CodeBuilder, node: Readout) -> None:
    """Write the calls of a read-out."""
    if node.leaky:
        leaky_readout(code, node)
        return
    extent = Extent.of(node.shape)
    y = code.program.keep(code.ports[node.name].argument, Width.I32, extent.size, f"read-out {node.name}")
    bias = code.table(node, "b", node.bias, "bias", Width.I32)
    code.once(node, "rest", (y.width,), bias, STEPS, extent.pixels, extent.channels, y)
    constant = gather(code, node, y)
    if constant is not None:
        code.call(node, "add", (constant.width, y.width), constant, TIMES, extent.size, y)


def pixels_together(extent: Extent) -> int:
    """Return how many pixels fire as if they were one, so that a short row of channels fills the vectors."""
    most = max(1, ROW // extent.channels)
    return max(n for n in range(1, most + 1) if extent.pixels % n == 0)


def _rule(node: IntegrateFire) -> str:
    """Return the kernel of a population in the synchronous schedule."""
    rule = firing(node)
    if rule is Firing.LIMITED:
        return {1: "fire_once", 2: "fire_twice"}.get(node.neuron.limit or 0, "fire_several")
    if rule not in KERNELS:
        raise InternalError(f"no C for a neuron that fires by {rule.value!r}: `check` refuses it")
    return KERNELS[rule]
