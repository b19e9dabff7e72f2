"""Let identity branches carry more levels than the convolutions' input.

In a residual network the identity branch is added again in every block, so its quantisation error persists
for the rest of the stage, while a convolution averages the errors of many inputs. A second, fine population
integrates the same current with finer levels; identity edges, and optionally the narrow shortcut
convolutions and the classifier, read it. The current is computed once; both populations consist of
real neurons, whose spikes, payload and operations are counted.

The readers of fine spikes are explicit in the graph: they read the population that is marked ``fine``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snnc.compensation.readers import raised_readers
from snnc.errors import UsageError
from snnc.ir.ann import Pointwise
from snnc.ir.neuron import Code, Neuron
from snnc.ir.operations import check_known
from snnc.ir.rewriter import Rewriter
from snnc.ir.snn import (
    ChannelWeight,
    Convolution,
    Gather,
    IntegrateFire,
    Linear,
    Pad,
    Readout,
    Reshape,
    Slice,
    SnnGraph,
    SnnNode,
    SumPool,
    Weighted,
)
from snnc.numerics.quantisation import correct_readers
from snnc.numerics.step_functions import Measured, carried
from snnc.numerics.thresholds import Method, mse_range, mse_threshold
from snnc.pipeline import MANY, Context, require
from snnc.source.calibration import ActivationSample
from snnc.source.source_map import Rectifier, measured_at, rectifier

SAMPLES_PER_CHANNEL = 20_000
SUFFIX = ".fine"
"""What fine populations are called by; no one asks for it."""


@dataclass(frozen=True, slots=True)
class FineSkip:
    """Give identity branches a population of their own, with more levels.

    Attributes:
        levels: the least number of levels over all T steps; a spike carries the smallest
            ``2^n - 1`` that reaches it.
        shortcuts: whether convolutions of kernel 1 into a residual sum read the fine spikes, too.
        classifier: whether the synapses of the read-out do.
    """

    name: ClassVar[str] = "fine-skip"
    levels: int = 15
    shortcuts: bool = True
    classifier: bool = True

    def __post_init__(self) -> None:
        """Refuse options that make no levels."""
        require("levels", self.levels, 2, MANY)

    def run(self, graph: SnnGraph, context: Context, /) -> SnnGraph:
        """Return ``graph`` with fine populations; it is the same object if there is no identity branch."""
        check_known(graph)
        edges = self._edges(graph)
        sources = [name for name in dict.fromkeys(_population(graph, edge) for edge in edges) if name]
        if not sources:
            return graph
        source = context.ann()
        rectifiers = {name: rectifier(source, graph[name]) for name in sources}
        read = {name: measured_at(node) for name, node in rectifiers.items()}
        samples = context.calibration.samples(
            source,
            list(dict.fromkeys(read.values())),
            per_channel=SAMPLES_PER_CHANNEL,
            seed=context.seed,
        )
        # The report adds these populations to the source network, so their names must be new there, too.
        taken = frozenset(node.name for node in source)
        for name, node in rectifiers.items():
            graph = self._add(graph, name, self._finer(graph, name, node, samples[read[name]]), edges, taken)
        context.findings["fine"] = sources
        return graph

    def _edges(self, graph: SnnGraph) -> tuple[str, ...]:
        """Return the names of the synapses that read fine spikes."""
        found = []
        for node in graph.of_type(Weighted):
            readers = graph.consumers[node.name]
            residual = any(isinstance(r, IntegrateFire) and len(r.inputs) > 1 for r in readers)
            shortcut = isinstance(node, Convolution) and node.window.kernel == (1, 1) and residual
            classifier = isinstance(node, Linear) and any(isinstance(r, Readout) for r in readers)
            if (
                (isinstance(node, ChannelWeight) and residual)
                or (self.shortcuts and shortcut)
                or (self.classifier and classifier and _has_residuals(graph))
            ):
                found.append(node.name)
        return tuple(found)

    def _finer(
        self, graph: SnnGraph, name: str, node: Rectifier, sample: ActivationSample
    ) -> IntegrateFire | None:
        """Return a population with more levels; ``None`` where it has enough."""
        coarse = graph[name]
        if not isinstance(coarse, IntegrateFire) or coarse.integer:
            raise UsageError("fine-skip works on float32 populations: put it before quantise-weights")
        per_step = -(-self.levels // graph.timesteps)
        levels = max(coarse.neuron.levels, 2 ** int(per_step).bit_length() - 1)
        if levels == coarse.neuron.levels:
            return None
        # What the coarse neuron may send in a step, the fine one sends in as few spikes of more levels.
        spikes = None if coarse.neuron.limit is None else max(1, coarse.neuron.limit // levels)
        neuron = replace(coarse.neuron, levels=levels, spikes_per_step=spikes, code=Code.BINARY)
        if isinstance(node, Pointwise):
            return _finer_steps(coarse, node, sample, graph.timesteps, neuron)
        sample = sample.raised(node.shift)
        floor = np.zeros(coarse.channels, np.float32)
        if coarse.floor is None:
            threshold = mse_threshold(sample.values, graph.timesteps * levels)
        else:
            floor, threshold = mse_range(sample.values, graph.timesteps * levels)
        top = np.where(threshold > 0, threshold - floor, coarse.threshold * coarse.neuron.levels)
        unit = (top / np.float32(levels)).astype(np.float32)
        share = coarse.v_init / coarse.threshold
        return coarse.with_(
            threshold=unit,
            spike_scale=unit,
            floor=floor if floor.any() else None,
            bias=(coarse.bias + coarse.lowest - floor).astype(np.float32),
            v_init=(share * unit).astype(np.float32),
            neuron=neuron,
            negative_threshold=None,
            fine=True,
        )

    def _add(
        self,
        graph: SnnGraph,
        name: str,
        finer: IntegrateFire | None,
        edges: tuple[str, ...],
        taken: frozenset[str],
    ) -> SnnGraph:
        coarse = graph[name]
        if finer is None or not isinstance(coarse, IntegrateFire):
            return graph
        rewriter = Rewriter(graph, taken)
        fine = finer.with_(name=rewriter.fresh(name + SUFFIX))
        paths = [path for edge in edges for path in [_path(graph, edge)] if path[0] == name]
        _rewire(rewriter, coarse, fine, paths)
        graph = graph.with_nodes(rewriter.nodes, rewriter.outputs)
        ratio = (fine.spike_scale / coarse.spike_scale).astype(np.float32)
        graph = correct_readers(graph, fine.name, ratio)
        return raised_readers(graph, fine.name, (fine.lowest - coarse.lowest) / fine.spike_scale)


def _finer_steps(
    coarse: IntegrateFire, node: Pointwise, sample: ActivationSample, timesteps: int, neuron: Neuron
) -> IntegrateFire | None:
    """Return a step function with more levels."""
    values = node.function(sample.values)
    measured = Measured(node, values, sample.minimum, sample.maximum)
    (found,) = carried([measured], timesteps * neuron.levels, common=False, method=Method.MSE)
    if not isinstance(found, Pointwise) or found.breakpoints is None or found.step is None:
        return None
    unit = (found.step * np.float32(timesteps)).astype(np.float32)
    return coarse.with_(
        spike_scale=unit,
        neuron=neuron,
        breakpoints=(found.breakpoints * np.float32(timesteps)).astype(np.float32),
        step_values=found.step_values,
        fine=True,
    )


def _has_residuals(graph: SnnGraph) -> bool:
    return any(len(node.inputs) > 1 for node in graph.of_type(IntegrateFire))


def _path(graph: SnnGraph, synapse: str) -> tuple[str, ...]:
    """Return the names from the source of a synapse, through nodes that move spikes, to the synapse."""
    path = [synapse]
    node = graph[graph[synapse].inputs[0]]
    while isinstance(node, SumPool | Pad | Slice | Reshape | Gather):
        path.append(node.name)
        node = graph[node.inputs[0]]
    return (node.name, *reversed(path))


def _population(graph: SnnGraph, synapse: str) -> str | None:
    """Return the population that a synapse reads, or ``None`` if it reads the input or a join."""
    source = graph[_path(graph, synapse)[0]]
    return source.name if isinstance(source, IntegrateFire) else None


def _rewire(
    rewriter: Rewriter[SnnNode],
    coarse: IntegrateFire,
    fine: IntegrateFire,
    paths: Sequence[tuple[str, ...]],
) -> None:
    """Put ``fine`` behind ``coarse`` and let the paths start from it.

    Nodes on a path that other synapses read as well are doubled.
    """
    synapses = {path[-1] for path in paths}
    on_path = {name for path in paths for name in path[1:-1]}
    kept = {name for name in on_path if not _only_leads_to(rewriter, name, synapses)}
    rewriter.insert_after(coarse.name, fine)
    doubled = {coarse.name: fine.name}
    for name in [node.name for node in rewriter.nodes]:
        moved = name in synapses or name in on_path
        if name in kept:
            copy = rewriter[name].with_(name=rewriter.fresh(name + SUFFIX))
            rewriter.insert_after(name, copy)
            doubled[name] = name = copy.name
        for source in rewriter[name].inputs if moved else ():
            if source in doubled:
                rewriter.replace_uses(source, doubled[source], {name})
    if not rewriter.readers(coarse.name):
        rewriter.erase(coarse.name)


def _only_leads_to(rewriter: Rewriter[SnnNode], name: str, synapses: set[str]) -> bool:
    """Whether every synapse behind a node that moves spikes is one of ``synapses``."""
    return all(
        reader.name in synapses
        or (not isinstance(reader, Weighted) and _only_leads_to(rewriter, reader.name, synapses))
        for reader in rewriter.readers(name)
    )
