"""Small conversions for tests of the report: an ANN graph, the artefact made from it, and rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snnc.artefact import Artefact, Metadata
from snnc.ir.ann import AnnGraph, Relu
from snnc.ir.batch import Given
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.snn import SnnGraph
from snnc.passes import PASSES
from snnc.pipeline import Context, Pipeline, run_pipeline
from snnc.report.measurement import Measurement
from snnc.report.measuring import measure
from snnc.simulation.protocol import RecordOptions, Trace
from snnc.simulation.reference import ReferenceSimulator
from tests.ann_graphs import context, residual_network

FRONT = "fold-batchnorm,exact-max-pool,compose-linear,rectify-linear"
MADE = "clip-activations,lower,dual-threshold{spikes-per-step=2},init-membrane,quantise-weights"


@dataclass(frozen=True)
class Converted:
    """A conversion.

    Attributes:
        source: the network as it was lowered.
        artefact: the spiking network.
        rows: (n, *input shape), none of which was calibrated on.
    """

    source: AnnGraph
    artefact: Artefact
    rows: FloatArray

    def measured(self, timesteps: int | None = None, labels: IntArray | None = None) -> Measurement:
        simulator = ReferenceSimulator()
        return measure(
            self.artefact, self.source, self.rows, labels, simulator=simulator, timesteps=timesteps, threads=1
        )

    def altered(self, change: Callable[[SnnGraph], SnnGraph]) -> Converted:
        graph = change(self.artefact.graph)
        graph.verify()
        return replace(self, artefact=replace(self.artefact, graph=graph))


class CountingSimulator(ReferenceSimulator):
    """The reference, which remembers what it ran: networks and T."""

    def __init__(self) -> None:
        self.ran: list[tuple[SnnGraph, int]] = []

    def run(
        self,
        graph: SnnGraph,
        inputs: Given,
        timesteps: int,
        record: RecordOptions = RecordOptions(),
        /,
        given: Mapping[str, NumberArray] | None = None,
    ) -> Trace:
        self.ran.append((graph, timesteps))
        return super().run(graph, inputs, timesteps, record, given)


@dataclass(frozen=True)
class ScaleThreshold:
    """A mistake on purpose: multiply one rectifier's threshold, in all its consequences."""

    name: ClassVar[str] = "scale-threshold"
    layer: str = ""
    factor: float = 1.0

    def run(self, graph: AnnGraph, context: Context, /) -> AnnGraph:
        node = graph[self.layer]
        assert isinstance(node, Relu)
        assert node.threshold is not None
        return graph.replacing({node.name: node.with_(threshold=node.threshold * np.float32(self.factor))})


def convert(
    graph: AnnGraph | None = None,
    passes: str = MADE,
    *,
    timesteps: int = 4,
    rows: int = 12,
    seed: int = 0,
    mistake: ScaleThreshold | None = None,
) -> Converted:
    """Convert a network with passes behind the front; a residual network where none is given."""
    graph = residual_network(seed) if graph is None else graph
    made: Context = context(graph, rows=64, timesteps=timesteps, seed=seed)
    pipeline = list(Pipeline.parse(f"{FRONT},{passes}", PASSES))
    if mistake is not None:
        pipeline.insert([item.name for item in pipeline].index("lower"), mistake)
    found, _ = run_pipeline(pipeline, graph, made)
    assert isinstance(found, SnnGraph)
    shape = graph.nodes[0].shape
    fresh = np.random.default_rng(seed + 1).standard_normal((rows, *shape)).astype(np.float32)
    return Converted(made.ann().without_thresholds(), Artefact(found, Metadata()), fresh)
