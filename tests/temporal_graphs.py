"""Random networks over time: populations and read-outs that leak, and inputs that are frames."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from snnc.ir.batch import Rows, joined
from snnc.ir.bounds import provable_timesteps
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.leak import WHOLE
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import (
    CurrentMaxPool,
    Delay,
    Encode,
    IntegrateFire,
    Linear,
    Presented,
    Readout,
    Reshape,
    SnnGraph,
    SnnNode,
)
from tests.spiking_graph_builder import random_rows
from tests.spiking_graphs import NEURONS, as_float, random_graph


def with_leaks(graph: SnnGraph, seed: int, fraction_bits: int | None = None) -> SnnGraph:
    """Return a network all of whose populations, and most of whose read-outs, leak, filter, rest or are
    reset.

    Args:
        graph: a synchronous network without settle steps.
        seed: everything random follows from it.
        fraction_bits: of all of them; drawn by default, and none where the bounds forbid it.
    """
    rng = np.random.default_rng(seed)
    bits = int(rng.integers(0, 5)) if fraction_bits is None else fraction_bits

    def decays(node: SnnNode, share: float) -> IntArray | None:
        if rng.random() > share:
            return None
        return rng.integers(WHOLE // 3, WHOLE + 1, node.channels).astype(np.int32)

    def leaking(node: IntegrateFire) -> IntegrateFire:
        threshold = node.threshold.astype(np.int64) << bits
        to = by = None
        spikes = int(rng.integers(1, 4))
        reset = rng.integers(0, 3)
        if reset == 0:
            to, spikes = rng.integers(-threshold // 2, threshold // 2).astype(np.int32), 1
        elif reset == 1:
            by = (threshold * rng.uniform(0.5, 1.5)).astype(np.int32)
        return node.with_(
            neuron=Neuron(spikes_per_step=spikes, count_memory=False),
            threshold=threshold.astype(np.int32),
            bias=(node.bias.astype(np.int64) << bits).astype(np.int32),
            v_init=(node.v_init.astype(np.int64) << bits).astype(np.int32),
            negative_threshold=None,
            floor=None,
            decay=decays(node, 0.9),
            synapse_decay=decays(node, 0.5),
            reset_to=to,
            reset_by=by,
            refractory=int(rng.integers(0, 4)) if rng.random() < 0.5 else 0,
            fraction_bits=bits,
        )

    def read(node: Readout) -> Readout:
        if rng.random() < 0.3:
            return node
        decay, synapse_decay = decays(node, 0.9), decays(node, 0.4)
        return node.with_(decay=decay, synapse_decay=synapse_decay, fraction_bits=bits)

    leaky = replace(graph.map(IntegrateFire, leaking).map(Readout, read), max_timesteps=0)
    proved = provable_timesteps(leaky, at_most=max(64, graph.timesteps))
    if proved < graph.timesteps:
        return with_leaks(graph, seed, 0)
    leaky = replace(leaky, max_timesteps=proved)
    leaky.verify()
    return leaky


def with_frames(graph: SnnGraph, presented: Presented, *, first_only: bool = False) -> SnnGraph:
    """Return a network whose inputs, or the first of them, are frames."""
    first = graph.encoders[0].name

    def framed(node: Encode) -> Encode:
        return node.with_(presented=presented) if node.name == first or not first_only else node

    found = replace(graph.map(Encode, framed), max_timesteps=0)
    proved = provable_timesteps(found, at_most=max(64, graph.timesteps))
    found = replace(found, max_timesteps=proved)
    found.verify()
    return found


def with_delays(graph: SnnGraph, seed: int) -> SnnGraph:
    """Return a network in which some populations read what others, itself or an input, sent before.

    Args:
        graph: a synchronous network without settle steps, in integers.
        seed: everything random follows from it.
    """
    rng = np.random.default_rng(seed)
    senders = [node for node in graph if isinstance(node, IntegrateFire | Encode)]
    nodes: list[SnnNode] = []
    for node in graph:
        if isinstance(node, IntegrateFire) and rng.random() < 0.7:
            source = senders[int(rng.integers(0, len(senders)))]
            name, size = f"{node.name}.late", prod(node.shape)
            delay = Delay(name=name, shape=source.shape, source=source.name, steps=int(rng.integers(1, 4)))
            flat = Reshape(name=f"{name}.flat", inputs=(name,), shape=(prod(source.shape),))
            weight = rng.integers(-3, 4, (size, *flat.shape)).astype(np.int8)
            linear = Linear(name=f"{name}.w", inputs=(flat.name,), shape=(size,), weight=weight)
            back = Reshape(name=f"{name}.back", inputs=(linear.name,), shape=node.shape)
            nodes += [delay, flat, linear, back]
            node = node.with_(inputs=(*node.inputs, back.name))
        nodes.append(node)
    found = replace(graph, nodes=tuple(nodes), max_timesteps=0)
    found = replace(found, max_timesteps=provable_timesteps(found, at_most=max(64, graph.timesteps)))
    found.verify()
    return found


def random_frames(graph: SnnGraph, batch: int, seed: int, timesteps: int | None = None) -> Rows:
    """Return distinct quantised rows of a network, int32; of frames (batch, T, *shape), some silent."""
    steps = timesteps or graph.timesteps
    rng = np.random.default_rng(seed)
    found = {}
    for number, node in enumerate(graph.encoders):
        rows = random_rows((node,), batch * steps if node.varies else batch, seed + 1000 * number)
        if node.varies:
            rows = rows * (rng.random((len(rows), *(1,) * len(node.shape))) < 0.8)
        found[node.name] = rows.reshape(batch, *node.row_shape(steps)).astype(np.int32)
    return joined(found)


def leaky_as_float(graph: SnnGraph, unit: float = 1 / 64) -> SnnGraph:
    """Return a leaky network before quantisation; decays round otherwise there, so that spikes may differ."""

    def scaled(values: NumberArray | None, bits: int) -> NumberArray | None:
        return None if values is None else (values * np.float32(unit / 2**bits)).astype(np.float32)

    def convert(node: SnnNode) -> SnnNode:
        if not isinstance(node, IntegrateFire | Readout) or not node.leaky:
            return node
        decays = (
            None if each is None else (each / np.float32(WHOLE)).astype(np.float32)
            for each in (node.decay, node.synapse_decay)
        )
        bits, (decay, synapse_decay) = node.fraction_bits, decays
        made = node.with_(
            bias=scaled(node.bias, bits), decay=decay, synapse_decay=synapse_decay, fraction_bits=0
        )
        if isinstance(made, IntegrateFire) and isinstance(node, IntegrateFire):
            made = made.with_(
                threshold=scaled(node.threshold, bits),
                v_init=scaled(node.v_init, bits),
                reset_to=scaled(node.reset_to, bits),
                reset_by=scaled(node.reset_by, bits),
            )
        return made

    plain = as_float(graph, unit)
    return plain.with_nodes([convert(graph[n.name]) if _leaky(graph[n.name]) else n for n in plain])


def _leaky(node: SnnNode) -> bool:
    return isinstance(node, IntegrateFire | Readout) and node.leaky


@st.composite
def temporal_graphs(draw: st.DrawFn, leaky: bool | None = None, delays: bool = False) -> SnnGraph:
    """Draw a random network with leaky neurons, frames, or both, and with delays if they are wanted."""
    leaks = draw(st.booleans()) if leaky is None else leaky
    graph = random_graph(
        draw(st.integers(0, 2**20)),
        timesteps=draw(st.integers(1, 8)),
        settle_steps=0 if leaks or delays else draw(st.integers(0, 2)),
        schedule=Schedule.SYNCHRONOUS,
        neuron=draw(st.sampled_from((None, *NEURONS))),
        blocks=draw(st.integers(0, 2)),
        flat=draw(st.booleans()),
        several=draw(st.booleans()),
    )
    if leaks:
        graph = with_leaks(graph, draw(st.integers(0, 2**20)))
    if delays:
        graph = with_delays(graph, draw(st.integers(0, 2**20)))
        assume(graph.max_timesteps >= graph.timesteps and graph.of_type(Delay))
    presented = draw(st.sampled_from(Presented)) if leaks else draw(st.sampled_from(list(Presented)[1:]))
    if presented is Presented.STILL:
        return graph
    assume(not any(isinstance(node, CurrentMaxPool) for node in graph))
    return with_frames(graph, presented, first_only=draw(st.booleans()))
