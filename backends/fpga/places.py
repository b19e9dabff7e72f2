"""Bits of the core's numbers, as proved for a network, and where inputs and maps of spikes lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from snnc.backends.fpga.units import ONE, Unit, Units
from snnc.backends.fpga.views import Volume
from snnc.ir.bounds import count_bounds, run_bounds
from snnc.ir.operations import largest_spike, operations
from snnc.ir.snn import CountMaxPool, CurrentMaxPool, Encode, IntegrateFire, Readout, SnnGraph


@dataclass(frozen=True, slots=True)
class Widths:
    """Bits of each kind of number; all have a sign."""

    potential: int
    spike: int
    count: int
    input: int


def signed_bits(bound: int) -> int:
    """Return the bits of a two's complement number that holds ``-bound .. bound``."""
    return int(bound).bit_length() + 1


def widths(found: Units, bounds: Mapping[str, int], room: Mapping[str, int]) -> Widths:
    """Return the bits that a network needs.

    Args:
        found: its units.
        bounds: the largest magnitude of what each node gives in a step.
        room: the least bits, of a core that exists already; empty if there is none.
    """
    graph = found.graph
    steps = graph.timesteps
    run, sums = run_bounds(graph, steps), count_bounds(graph, steps)
    senders = [unit.node for unit in found.units if not isinstance(unit.node, Readout)]
    potentials = [*run.values(), 2]
    for node in graph:
        if isinstance(node, CurrentMaxPool):
            potentials.append(bounds[node.inputs[0]])
        elif isinstance(node, CountMaxPool):
            potentials += [sums[node.inputs[0]], bounds[node.name]]
        elif isinstance(node, IntegrateFire) and node.step_values is not None:
            # Changes are formed, and compared with the limit, in as many bits as potentials have.
            potentials += [2 * node.furthest(), largest_spike(node, steps, graph.settle_steps)]
    most = [sums[node.name] for node in senders]
    most += [bounds[node.name] for node in senders]
    most += [n.neuron.capacity(steps) for n in senders if isinstance(n, IntegrateFire)]
    ends = [max(-low, high + 1) for low, high in (node.range for node in graph.encoders)]
    return Widths(
        # One bit more than the bound needs, so that what lies beyond it can be cut off.
        potential=min(32, max(signed_bits(max(potentials) + 1), room.get("potential", 8))),
        spike=max([room.get("spike", 2), *(signed_bits(bounds[node.name]) for node in senders)]),
        count=max([room.get("count", 2), *map(signed_bits, most)]),
        input=max([room.get("input", 2), *(int(end - 1).bit_length() + 1 for end in ends)]),
    )


def input_places(graph: SnnGraph) -> dict[str, int]:
    """Return where the values of each input lie, and the one behind them."""
    places: dict[str, int] = {}
    at = 0
    for node in operations(graph):
        if isinstance(node, Encode):
            places[node.name] = at
            at += prod(node.shape)
    places[ONE] = at
    return places


def map_places(
    units: Sequence[Unit], steps: int, words: Callable[[Volume], int]
) -> tuple[dict[str, int], int]:
    """Give each map a place in the memory of spikes that no other has at the same time: first fit.

    Args:
        units: in the order of execution.
        steps: for each of which a map is kept.
        words: that a map takes for one step.

    Returns:
        The places, and the words of the memory.
    """
    last = dict.fromkeys((unit.node.name for unit in units), -1)
    for place, unit in enumerate(units):
        for name in unit.sources():
            if name in last:
                last[name] = place
    places: dict[str, int] = {}
    spikes = 1
    live: list[tuple[int, int, str]] = []
    for place, unit in enumerate(units):
        if isinstance(unit.node, Readout):
            continue
        live = sorted(item for item in live if last[item[2]] >= place)
        size, at = steps * words(unit.volume), 0
        for start, end, _ in live:
            if at + size <= start:
                break
            at = max(at, end)
        live.append((at, at + size, unit.node.name))
        places[unit.node.name] = at
        spikes = max(spikes, at + size)
    return places, spikes
