"""Fine skips in the first stage: a second rectifier with more levels, which identity branches read.

`fine-skip` gives a spiking network populations of its own for identity branches, narrow shortcuts and the
classifier. For training they are rectifiers of the ordinary dialect, beside the coarse ones on the same sum,
and become populations when the network is lowered. So that their counts do not depend on the order of spikes,
such a population is graded: it may send all of its levels in one step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from snnc.ir import ann
from snnc.ir.neuron import Code
from snnc.ir.rewriter import Rewriter
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.numerics.thresholds import mse_range, mse_threshold
from snnc.pipeline import Context

SAMPLES_PER_CHANNEL = 20_000
SUFFIX = ".fine"
MOVES = (ann.AveragePool, ann.Pad, ann.Slice, ann.Reshape, ann.Gather)
"""What spikes pass on their way to weights."""


@dataclass(frozen=True, slots=True)
class FineEdges:
    """Who reads fine spikes, as the options of `fine-skip` say.

    Attributes:
        levels: the least number of levels over all T steps.
        shortcuts: whether convolutions of kernel 1 into a sum do.
        classifier: whether the weights of an answer do.
    """

    levels: int
    shortcuts: bool
    classifier: bool


def with_fine(graph: ann.AnnGraph, edges: FineEdges, context: Context) -> tuple[ann.AnnGraph, dict[str, str]]:
    """Return a clipped network with fine rectifiers.

    Args:
        graph: the network.
        edges: who reads them.
        context: of the conversion.

    Returns:
        The network, and the coarse rectifier of each fine one, by its name.
    """
    found = {
        node: readers
        for node in graph.of_type(ann.Relu)
        if node.threshold is not None and (readers := _readers(graph, node.name, edges))
    }
    if not found:
        return graph, {}
    samples = context.calibration.samples(
        graph, [node.name for node in found], per_channel=SAMPLES_PER_CHANNEL, seed=context.seed
    )
    rewriter: Rewriter[ann.AnnNode] = Rewriter(graph)
    coarse: dict[str, str] = {}
    per_step = -(-edges.levels // context.timesteps)
    for node, readers in found.items():
        levels = max(node.levels, 2 ** int(per_step).bit_length() - 1)
        if levels == node.levels or node.threshold is None:
            continue
        values = samples[node.name].raised(node.shift).values
        total = context.timesteps * levels
        given = node.threshold
        if node.floor is None:
            threshold = mse_threshold(values, total)
            limits = {"threshold": np.where(threshold > 0, threshold, given)}
        else:
            floor, threshold = mse_range(values, total)
            alive = threshold > floor
            limits = {
                "threshold": np.where(alive, threshold, given),
                "floor": np.where(alive, floor, node.floor),
            }
        fine = node.with_(
            name=rewriter.fresh(node.name + SUFFIX),
            levels=levels,
            **{key: value.astype(np.float32) for key, value in limits.items()},
        )
        coarse[fine.name] = node.name
        rewriter.insert_after(node.name, fine)
        _lead(rewriter, node.name, fine.name, readers)
    outputs = rewriter.outputs
    made = graph.with_nodes(rewriter.nodes, outputs)
    needed = made.ancestors([*outputs, *(node.name for node in made.inputs)])
    return made.with_nodes([node for node in made if node.name in needed], outputs), coarse


Readers = dict[str, "Readers | None"]
"""Names of the nodes that read fine spikes; those that only move them on, with their own readers."""


def _readers(graph: ann.AnnGraph, name: str, edges: FineEdges) -> Readers:
    """Return who reads a rectifier's fine spikes, through all that moves them."""
    found: Readers = {}
    residual = any(isinstance(node, ann.Add) for node in graph)
    for reader in graph.consumers[name]:
        into_sum = any(isinstance(node, ann.Add) for node in graph.consumers[reader.name])
        match reader:
            case ann.Add():
                found[reader.name] = None
            case ann.Convolution() if edges.shortcuts and reader.window.kernel == (1, 1) and into_sum:
                found[reader.name] = None
            case ann.Linear() if edges.classifier and residual and reader.name in graph.answers.values():
                found[reader.name] = None
            case _ if isinstance(reader, MOVES):
                if behind := _readers(graph, reader.name, edges):
                    found[reader.name] = behind
            case _:
                pass
    return found


def _lead(rewriter: Rewriter[ann.AnnNode], source: str, fine: str, readers: Readers) -> None:
    """Let readers read ``fine`` in the place of ``source``; what moves spikes on is doubled."""
    for name, behind in readers.items():
        if behind is None:
            rewriter.replace_uses(source, fine, {name})
            continue
        copy = rewriter[name].with_(name=rewriter.fresh(name + SUFFIX), inputs=(fine,))
        rewriter.insert_after(name, copy)
        _lead(rewriter, name, copy.name, behind)


def marked(graph: SnnGraph, coarse: Mapping[str, str]) -> SnnGraph:
    """Return a lowered network whose fine populations are known as such, and graded."""

    def fine(node: IntegrateFire) -> IntegrateFire:
        if node.name not in coarse:
            return node
        neuron = replace(node.neuron, spikes_per_step=None, count_memory=True, code=Code.BINARY)
        return node.with_(neuron=neuron, stands_for=coarse[node.name], fine=True, negative_threshold=None)

    return graph.map(IntegrateFire, fine) if coarse else graph
