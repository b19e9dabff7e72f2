"""Leaky populations and read-outs."""

from __future__ import annotations

from snnc.backends.c99.lowering.builder import NULL, CodeBuilder
from snnc.backends.c99.lowering.currents import gather
from snnc.backends.c99.memory import Buffer
from snnc.backends.c99.program import Extent, Place
from snnc.backends.c99.widths import Width
from snnc.ir.graph import NumberArray
from snnc.ir.snn import IntegrateFire, Readout


def leaky_population(code: CodeBuilder, node: IntegrateFire, v: Place, sent: Place) -> None:
    """Write the call of a leaky population, whose potentials and counts are placed."""
    extent, counts = Extent.of(node.shape), code.widths.counts[node.name]
    resting: Place | str = NULL
    if node.refractory:
        resting = code.keep(node, "r", Width.I16, extent.size, "steps of rest")
        code.once(node, "zero", (Width.I16,), resting, resting.size)
    settings = _settings(code, node)
    constant, current = _currents(code, node)
    filtered = _filtered(code, node)
    out = code.allocate(node)
    arguments = (settings, constant, current, v, filtered, resting, sent, out)
    code.call(node, "fire_leaky", (out.width, counts), *arguments)


def leaky_readout(code: CodeBuilder, node: Readout) -> None:
    """Write the calls of a leaky read-out."""
    extent = Extent.of(node.shape)
    y = code.program.keep(code.ports[node.name].argument, Width.I32, extent.size, f"read-out {node.name}")
    code.once(node, "zero", (Width.I32,), y, y.size)
    settings = _settings(code, node)
    constant, current = _currents(code, node)
    code.call(node, "leaky_readout", (), settings, constant, current, _filtered(code, node), y)


def _currents(code: CodeBuilder, node: IntegrateFire | Readout) -> tuple[Place | str, Buffer]:
    """Sum the currents that a node reads: those that are constant, and those of the step."""
    current = Buffer(Width.I32, Extent.of(node.shape).size)
    code.call(node, "zero", (Width.I32,), current, current.size)
    return gather(code, node, current) or NULL, current


def _filtered(code: CodeBuilder, node: IntegrateFire | Readout) -> Place | str:
    if node.synapse_decay is None:
        return NULL
    found = code.keep(node, "i", Width.I32, Extent.of(node.shape).size, "filtered currents")
    code.once(node, "zero", (Width.I32,), found, found.size)
    return found


def _settings(code: CodeBuilder, node: IntegrateFire | Readout) -> str:
    extent = Extent.of(node.shape)

    def table(role: str, values: NumberArray | None, note: str) -> str:
        return NULL if values is None else code.table(node, role, values, note, Width.I32).name

    bias = node.bias if node.bias.any() else None
    shared = (
        table("b", bias, "bias"),
        table("d", node.decay, "decay"),
        table("ds", node.synapse_decay, "decay of the synapse"),
    )
    threshold = to = by = NULL
    limit = refractory = 0
    if isinstance(node, IntegrateFire):
        threshold = table("theta", node.threshold, "threshold")
        to = table("to", node.reset_to, "potential after a spike")
        by = table("by", node.reset_by, "what a spike takes")
        limit, refractory = node.neuron.limit or 0, node.refractory
    numbers = (extent.pixels, extent.channels, limit, refractory, 1 << node.fraction_bits)
    return code.program.structure("leaky_population", (threshold, *shared, to, by, *numbers))
