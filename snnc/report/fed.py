"""The source network driven by spikes: what each of its layers would compute from the counts that arrive.

A function of spike counts (a product of activations, a normalisation) is cut open like a rectifier: its
counts are fed behind it, and a copy of it computes what the source makes of the counts that it reads.

All rectifiers are cut open. What the populations' spikes stand for is fed behind them, and what arrives in
front of them is read: in one run, every layer of the source network answers to the very spikes that its
spiking counterpart received. A fine population, which stands for the same rectifier as a coarse one, gets a
rectifier of its own, read by the edges that its spikes take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from snnc.errors import InternalError
from snnc.ir import snn as spiking
from snnc.ir.ann import Activation, AnnGraph, AnnNode, Convolution, Gather, Input, Linear, Pointwise, Relu
from snnc.ir.batch import Rows, rows_of
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.operations import operations
from snnc.ir.rewriter import Rewriter
from snnc.ir.snn import CountFunction, Encode, IntegrateFire, Readout, SnnGraph, Weighted
from snnc.numerics.input_range import decoded_input, input_affine
from snnc.simulation.protocol import Trace
from snnc.source.ann_session import AnnSession
from snnc.source.source_map import Rectifier, raised_by, rectifier

SpikingLayer = IntegrateFire | CountFunction
"""What gives spikes whose counts stand for values of the source network."""


def fed_graph(source: AnnGraph, graph: SnnGraph) -> AnnGraph:
    """Return the source network with one rectifier, of the same name, for every population.

    Args:
        source: the network that was lowered.
        graph: the spiking network.
    """
    plain = source.without_thresholds()
    work = _Twins(plain)
    for population in graph.of_type(IntegrateFire):
        base = rectifier(source, population).name
        if population.name != base:
            work.split(graph, population.name, base)
    found = plain.with_nodes(work.rewriter.nodes, work.rewriter.outputs)
    found.verify()
    return found


class _Twins:
    """A graph to which second rectifiers are added."""

    def __init__(self, graph: AnnGraph) -> None:
        self.rewriter: Rewriter[AnnNode] = Rewriter(graph)
        self.copies: dict[tuple[str, str], str] = {}  # by what is copied, and for which twin

    def split(self, graph: SnnGraph, twin: str, base: str) -> None:
        """Add the rectifier ``twin`` beside ``base``, and let the readers of its spikes read it."""
        self.rewriter.insert_after(base, self.rewriter[base].with_(name=twin))
        for synapse in graph.of_type(Weighted):
            if twin not in _populations_before(graph, synapse.name):
                continue
            if isinstance(synapse, spiking.Convolution | spiking.Linear):  # named as the source's
                self._redirect(synapse.name, base, twin)
                continue
            # An identity branch: no weights of the source network stand between it and its reader.
            for sink in _sinks(graph, synapse.name):
                reader = graph[sink]
                if isinstance(reader, IntegrateFire):
                    names = (reader.name, reader.stands_for, *self._pruned_beside(reader.stands_for))
                    for name in dict.fromkeys(names):
                        if name in self.rewriter:
                            self._redirect(name, base, twin)
                else:
                    place = graph.outputs.index(sink)
                    self._redirect(self.rewriter.outputs[place], base, twin)

    def _pruned_beside(self, name: str) -> list[str]:
        """Return the rectifiers of channels that a population lost, which read the same values."""
        taken = self.rewriter[self.rewriter[name].inputs[0]]
        if not isinstance(taken, Gather):
            return []
        nodes = self.rewriter.nodes
        parts = {n.name for n in nodes if isinstance(n, Gather) and n.inputs == taken.inputs}
        return [n.name for n in nodes if isinstance(n, Relu) and n.inputs[0] in parts]

    def _redirect(self, reader: str, base: str, twin: str) -> None:
        """Let ``reader`` read ``twin`` wherever it read ``base`` without weights in between."""
        for name in self.rewriter[reader].inputs:
            self.rewriter.replace_uses(name, self._moved(name, base, twin), {reader})

    def _moved(self, name: str, base: str, twin: str) -> str:
        """Return what stands for ``name`` where ``twin`` stands for ``base``."""
        if name == base:
            return twin
        node = self.rewriter[name]
        if isinstance(node, Convolution | Linear | Activation | Input):
            return name
        inputs = tuple(self._moved(source, base, twin) for source in node.inputs)
        if inputs == node.inputs:
            return name
        if (name, twin) not in self.copies:
            copy = node.with_(name=self.rewriter.fresh(f"{name}|{twin}"), inputs=inputs)
            self.rewriter.insert_after(name, copy)
            self.copies[name, twin] = copy.name
        return self.copies[name, twin]


def _populations_before(graph: SnnGraph, name: str) -> frozenset[str]:
    """Return the populations, or the encoder, whose spikes a node reads."""
    sources = [node.name for node in graph if isinstance(node, IntegrateFire | Encode)]
    return graph.ancestors(graph[name].inputs, frozenset(sources)) & frozenset(sources)


def spiking_layers(graph: SnnGraph) -> tuple[SpikingLayer, ...]:
    """Return the nodes whose counts stand for values of the source network, in order."""
    return tuple(
        node
        for node in operations(graph)
        if isinstance(node, IntegrateFire) or (isinstance(node, CountFunction) and node.unit is not None)
    )


def sources_of(graph: SnnGraph, name: str) -> tuple[str, ...]:
    """Return the populations and functions of counts whose spikes drive a layer, in order."""
    layers = [node.name for node in spiking_layers(graph)]
    entrances = {*layers, *(node.name for node in graph.encoders)}
    found = graph.ancestors(graph[name].inputs, frozenset(entrances)) & entrances
    return tuple(layer for layer in layers if layer in found)


def values_of(node: SpikingLayer, counts: IntArray, timesteps: int) -> FloatArray:
    """Return what the counts of a layer stand for, (batch, *shape) float32."""
    if isinstance(node, IntegrateFire):
        return node.decoded(counts, timesteps)
    if node.unit is None:
        raise InternalError(f"{node.name!r} does not tell what its counts stand for")
    return counts.astype(np.float32) * per_channel(node.unit, len(node.shape))


def _with_copies(source: AnnGraph, layers: Sequence[SpikingLayer]) -> tuple[AnnGraph, dict[str, str]]:
    """Return the source with a copy of each function of counts, and the copies by the function's name."""
    rewriter: Rewriter[AnnNode] = Rewriter(source)
    copies: dict[str, str] = {}
    for node in layers:
        if not isinstance(node, IntegrateFire):
            copies[node.name] = rewriter.fresh(f"{node.name}|made")
            rewriter.insert_after(node.name, rewriter[node.name].with_(name=copies[node.name]))
    return source.with_nodes(rewriter.nodes, rewriter.outputs) if copies else source, copies


def _sinks(graph: SnnGraph, name: str) -> tuple[str, ...]:
    """Return the populations, or the read-out, that a current reaches."""
    found: list[str] = []
    for node in graph.consumers[name]:
        if isinstance(node, IntegrateFire | Readout):
            found.append(node.name)
        else:
            found.extend(_sinks(graph, node.name))
    return tuple(dict.fromkeys(found))


def counts_of(trace: Trace, layers: Sequence[SpikingLayer]) -> dict[str, IntArray]:
    """Return the final counts of layers, (batch, *shape) each; of functions their trains must be recorded."""
    return {
        node.name: trace.counts[node.name]
        if isinstance(node, IntegrateFire)
        else trace.trains[node.name].sum(axis=0).astype(np.int32)
        for node in layers
    }


@dataclass(frozen=True, slots=True)
class Arrived:
    """What the source network makes of spikes.

    Attributes:
        before: the pre-activations, (batch, *shape) float32, by the population's name; of a function of
            counts what it makes of those that it reads.
        answers: what each output gives before a softmax, by its name.
    """

    before: dict[str, FloatArray]
    answers: dict[str, FloatArray]


def _is_pruned(source: AnnGraph, node: AnnNode, spikes: Sequence[str]) -> bool:
    """Whether a rectifier holds the channels that a population lost: the source computes them itself.

    It and what the population stands for take channels of the same value, see
    :func:`snnc.source.kept_channels.with_kept_channels`.
    """
    taken = source[node.inputs[0]]
    if not isinstance(taken, Gather):
        return False
    parts = (other for other in source.consumers[taken.inputs[0]] if isinstance(other, Gather))
    return any(reader.name in spikes for part in parts for reader in source.consumers[part.name])


class FedSource:
    """The source network, cut open at its rectifiers."""

    def __init__(
        self,
        source: AnnGraph,
        graph: SnnGraph,
        threads: int | None = None,
        spiking: Sequence[str] | None = None,
    ) -> None:
        """Prepare to run.

        Args:
            source: the network that was lowered.
            graph: the spiking network.
            threads: for onnxruntime.
            spiking: layers whose spikes are fed; the source computes the others itself, and only the
                answers are returned. All by default.
        """
        self._encoders = graph.encoders
        every = spiking_layers(graph)
        self._layers = tuple(node for node in every if spiking is None or node.name in spiking)
        cut, copies = _with_copies(fed_graph(source, graph), self._layers)
        self._graph = cut
        self._answers = dict(zip(graph.output_names, cut.answers.values(), strict=True))
        self._entrances = {node.name: self._entrance(cut, node.name) for node in self._encoders}
        spikes = [node.name for node in self._layers]
        fed = [*self._entrances.values(), *spikes]
        self._before: dict[str, str] = {}
        if spiking is None:
            self._before = {name: copies.get(name) or cut[name].inputs[0] for name in spikes}
        names = list(dict.fromkeys([*self._before.values(), *self._answers.values()]))
        computed = cut.ancestors(names, frozenset(fed)) - frozenset(fed)
        # What rounds to levels that the spikes have already may be computed again.
        activations = (node for node in cut if isinstance(node, Relu | Pointwise) and node.name in computed)
        stray = [
            node.name
            for node in activations
            if (isinstance(node, Pointwise) or node.scale is None) and not _is_pruned(cut, node, spikes)
        ]
        if stray and spiking is None:
            raise InternalError(f"no population stands for the activation {stray[0]!r}, which others read")
        self._session = AnnSession(cut, names, threads, fed)

    def _entrance(self, graph: AnnGraph, name: str) -> str:
        """Return the node whose values an encoder quantises: the input, or the normalisation behind it."""
        affine = input_affine(graph, graph[name])
        return name if affine is None else affine.name

    def rectifier(self, population: str) -> Rectifier:
        """Return the rectifier or function that a population stands for."""
        node = self._graph[population]
        if not isinstance(node, Relu | Pointwise):
            raise InternalError(f"{population!r} stands for no activation")
        return node

    def run(self, q: Rows, counts: Mapping[str, IntArray], timesteps: int) -> Arrived:
        """Return what arrives in front of each rectifier, and at the outputs, when these spikes are sent.

        Args:
            q: (batch, *input shape), the quantised input, or one for each.
            counts: (batch, *shape) of every layer.
            timesteps: T.
        """
        values = {
            self._entrances[node.name]: decoded_input(node, self._graph, rows_of(q, node.name))
            for node in self._encoders
        }
        for node in self._layers:
            value = values_of(node, counts[node.name], timesteps)
            shift = raised_by(node, self.rectifier(node.name)) if isinstance(node, IntegrateFire) else None
            values[node.name] = (
                value if shift is None else np.subtract(value, per_channel(shift, value.ndim - 1))
            )
        found = self._session.run_fed(values)
        return Arrived(
            {name: found[before] for name, before in self._before.items()},
            {name: found[node] for name, node in self._answers.items()},
        )
