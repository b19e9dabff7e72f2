"""From the spiking network to the calls of C kernels.

Synchronous networks run step by step. A layerwise network is one pass over the counts of the whole run, which
equal the sums of its T steps of firing, so one call of ``snnc_step`` runs it completely. Values that are
constant in time are computed once; ``times`` is their factor in the current step: 1, or 0 in settle steps,
or T in the layerwise schedule.
"""

from __future__ import annotations

from snnc.backends.c99.lowering.builder import CodeBuilder
from snnc.backends.c99.lowering.counts import count_function, count_max_pool, pool
from snnc.backends.c99.lowering.currents import direct, synapse
from snnc.backends.c99.lowering.delays import held, hold
from snnc.backends.c99.lowering.neurons import integrate_fire, readout
from snnc.backends.c99.lowering.reshaping import encode, rearrange, reshape, route
from snnc.backends.c99.program import Program, channels_last
from snnc.backends.c99.widths import Width, Widths
from snnc.errors import InternalError
from snnc.ir.snn import (
    Concat,
    ConstantCurrent,
    CountMatrixProduct,
    CountMaximum,
    CountMaxPool,
    CountNormalisation,
    CountProduct,
    CountSoftmax,
    CurrentMaxPool,
    Delay,
    Encode,
    Gather,
    IntegrateFire,
    Pad,
    Readout,
    Reshape,
    Slice,
    SnnGraph,
    SnnNode,
    SumPool,
    Weighted,
)


def lower(graph: SnnGraph, widths: Widths) -> Program:
    """Return the program of a network."""
    code = CodeBuilder(graph, widths)
    for node in graph:
        _lower(code, node)
    for delay in graph.of_type(Delay):
        hold(code, delay)
    return code.program


def _lower(code: CodeBuilder, node: SnnNode) -> None:
    match node:
        case Encode():
            encode(code, node)
        case Delay():
            held(code, node)
        case ConstantCurrent():
            note = "constant current"
            code.values[node.name] = code.table(node, "c", channels_last(node.values), note, Width.I32)
        case Weighted() if direct(code, node):
            pass  # added where its only reader sums
        case Weighted():
            out = code.allocate(node)
            code.call(node, "zero", (Width.I32,), out, out.size)
            synapse(code, node, out, node.name in code.constant)
        case IntegrateFire():
            integrate_fire(code, node)
        case Readout():
            readout(code, node)
        case SumPool():
            source, out = code.read(node), code.allocate(node)
            code.call(node, "sum_pool", (source.width, out.width), source, pool(code, node), out)
        case CurrentMaxPool():
            source, out = code.read(node), code.allocate(node)
            code.call(node, "max_pool", (source.width,), source, pool(code, node), out)
        case CountMaxPool():
            count_max_pool(code, node)
        case CountProduct() | CountMatrixProduct() | CountSoftmax() | CountNormalisation() | CountMaximum():
            count_function(code, node)
        case Concat() | Pad() | Slice():
            rearrange(code, node)
        case Gather():
            route(code, node)
        case Reshape():
            reshape(code, node)
        case _:
            raise InternalError(f"no C for {type(node).__name__} {node.name!r}")
