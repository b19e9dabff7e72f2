"""Give a population to every linear value that cannot reach its readers as a current.

A current may only be summed, pooled and fed to neurons. Where the source network has two linear maps
in a row (a linear bottleneck), or one linear value with several readers (the stream of a
pre-activation residual network), spikes are needed in between although there is no rectifier. A
signed value ``x >= -r`` passes through a rectifier unharmed when it is raised first::

    x = max(x + r, 0) - r        with r per channel from the calibration rows

and the ``- r`` folds into the bias of whatever reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir.ann import (
    Add,
    AnnGraph,
    AnnNode,
    AveragePool,
    ChannelAffine,
    Concat,
    Convolution,
    Linear,
    MaxPool,
    Pad,
    Relu,
    Reshape,
    Slice,
    Softmax,
)
from snnc.ir.operations import check_known
from snnc.ir.rewriter import Rewriter
from snnc.pipeline import Context, require


@dataclass(frozen=True, slots=True)
class RectifyLinear:
    """Insert raised rectifiers where two linear maps follow each other.

    Attributes:
        headroom: by how much the measured range is widened, relative.
    """

    name: ClassVar[str] = "rectify-linear"
    headroom: float = 0.05

    def __post_init__(self) -> None:
        """Refuse a range that is narrower than what was measured, or has no end."""
        require("headroom", self.headroom, 0, 100)

    def run(self, graph: AnnGraph, context: Context, /) -> AnnGraph:
        """Return a graph in which every linear value has a rectifier before it meets weights again."""
        check_known(graph)
        places = [name for name in _linear_values(graph) if _needs_spikes(graph, name)]
        if not places:
            return graph
        samples = context.calibration.samples(graph, places, per_channel=1, seed=context.seed)
        context.findings["raised"] = places
        # What was measured here cannot be found out from the file again: the report needs it.
        shifts: dict[str, list[float]] = {}
        context.findings["shifts"] = shifts
        rewriter: Rewriter[AnnNode] = Rewriter(graph)
        for name in places:
            node = graph[name]
            shift = np.maximum(-samples[name].minimum, 0) * np.float32(1 + self.headroom)
            shift = shift.astype(np.float32)
            raised = Relu(
                name=rewriter.fresh(f"{name}.raised"),
                inputs=(name,),
                shape=node.shape,
                origin=node.origin,
                shift=shift,
            )
            rewriter.insert_after(name, raised)
            rewriter.replace_uses(name, raised.name)
            shifts[raised.name] = [float(value) for value in shift]
        return graph.with_nodes(rewriter.nodes, rewriter.output)


def _linear_values(graph: AnnGraph) -> tuple[str, ...]:
    """Names of values that are signed sums, not spikes and not the input."""
    linear: list[str] = []
    for node in graph:
        moved = isinstance(node, AveragePool | Reshape | Slice | Pad | MaxPool | Concat)
        if isinstance(node, Convolution | Linear | Add | ChannelAffine) or (
            moved and any(name in linear for name in node.inputs)
        ):
            linear.append(node.name)
    return tuple(linear)


def _needs_spikes(graph: AnnGraph, name: str) -> bool:
    """Whether a reader of this linear value cannot take a current."""
    readers = [node for node in graph.consumers[name] if not isinstance(node, Softmax)]
    if not readers:
        return False
    node = graph[name]
    if isinstance(node, ChannelAffine):
        # What it reads has spikes, or gets them here: an affine map only reads them in another unit. But
        # where it turns the sign, the maximum of the values is the minimum of the spikes.
        return bool(node.scale.min() <= 0) and any(isinstance(reader, MaxPool) for reader in readers)
    if any(
        isinstance(reader, Convolution | Linear | ChannelAffine | Concat | Pad | Slice) for reader in readers
    ):
        return True
    if any(isinstance(reader, MaxPool) for reader in readers):
        return not all(
            isinstance(after, Relu) for reader in readers for after in graph.consumers[reader.name]
        )
    if any(isinstance(reader, Reshape) for reader in readers):
        return any(graph.consumers[reader.name] for reader in readers) and node.shape[1:] != (1, 1)
    return len(readers) > 1
