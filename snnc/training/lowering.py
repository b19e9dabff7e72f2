"""How what the first stage trained becomes spiking: the passes of a pipeline, parted where it is lowered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from snnc.diagnostics import DEAD_CHANNELS
from snnc.errors import InternalError, UsageError
from snnc.ir import ann
from snnc.ir.graph import Graph
from snnc.ir.snn import SnnGraph
from snnc.passes.compensate import Compensate
from snnc.passes.quantise_weights import QuantiseWeights
from snnc.pipeline import Context, PassRecord, Pipeline, run_pipeline
from snnc.training.fine import FineEdges, marked

LOWER = "lower"
QUANTISE = "quantise-weights"
FINE = "fine-skip"
PRUNE = "prune-channels"
CHANGING = ("compensate", "learn-thresholds")
"""Passes behind `lower` that change what was learned; the closed form has them."""


def parted(passes: Pipeline) -> tuple[Pipeline, Pipeline]:
    """Return the passes in front of `lower`, and the others.

    Raises:
        UsageError: they cannot be tuned.
    """
    if LOWER not in passes.names or QUANTISE not in passes.names:
        raise UsageError(
            f"tuning needs `{LOWER}` and `{QUANTISE}` in the pipeline; it has {', '.join(passes.names)}"
        )
    at = passes.names.index(LOWER)
    return passes[:at], passes[at:]


def weight_bits(passes: Pipeline) -> int:
    """Return the bits of weights between populations, which `compensate` or `quantise-weights` has."""
    return min(item.bits for item in passes if isinstance(item, Compensate | QuantiseWeights))


@dataclass(frozen=True, slots=True)
class Lowering:
    """How what the first stage trained becomes spiking.

    Attributes:
        passes: in order, without those that change what was learned, and without `quantise-weights`.
        coarse: the coarse rectifier of each fine one, by its name.
    """

    passes: Pipeline
    coarse: Mapping[str, str]

    def whole(self) -> Lowering:
        """Return the same without what takes channels out."""
        return replace(self, passes=self.passes.without(PRUNE)) if PRUNE in self.passes.names else self

    def run(self, graph: ann.AnnGraph, context: Context) -> tuple[SnnGraph, tuple[PassRecord, ...]]:
        """Return the spiking network in float32, and what each pass did."""
        made, records = run_pipeline(self.passes, graph, context)
        if _all_taken_out(graph, records):
            context.diagnostics[:] = [each for each in context.diagnostics if each.code is not DEAD_CHANNELS]
        return marked(spiking(made), self.coarse), tuple(self._told(record) for record in records)

    def _told(self, record: PassRecord) -> PassRecord:
        """Return a record of the rectifiers that the source has: fine ones keep the same channels."""
        if "kept" not in record.findings or not self.coarse:
            return record
        kept = {self.coarse.get(name, name): value for name, value in record.findings["kept"].items()}
        return replace(record, findings={**record.findings, "kept": kept})


def _all_taken_out(graph: ann.AnnGraph, records: tuple[PassRecord, ...]) -> bool:
    """Whether every channel that never fired when the network was lowered was taken out behind."""
    found = {name: value for record in records for name, value in record.findings.items()}
    kept = found.get("kept", {})
    return all(
        name in kept and graph[name].channels - len(kept[name]) >= dead
        for name, dead in found.get("dead-channels", {}).items()
    )


def fine_edges(passes: Pipeline) -> FineEdges:
    """Return who reads fine spikes by the options of `fine-skip`."""
    item: Any = next(item for item in passes if item.name == FINE)
    return FineEdges(item.levels, item.shortcuts, item.classifier)


def without_changes(back: Pipeline) -> Pipeline:
    """Return the passes behind the first stage without those that would change what it learned.

    What a pass that is left out says of the bits of weights, `quantise-weights` does.
    """
    kept = Pipeline(tuple(item for item in back if item.name not in CHANGING))
    kept = kept.with_settings({f"{QUANTISE}.bits": str(weight_bits(back))})
    return kept.with_settings({"init-membrane.fraction": "0.5"}) if "init-membrane" in kept.names else kept


def spiking(graph: Graph[Any]) -> SnnGraph:
    """Return a graph that is a spiking network.

    Raises:
        InternalError: it is none.
    """
    if not isinstance(graph, SnnGraph):
        raise InternalError("a pipeline that lowers left no spiking network")
    return graph
