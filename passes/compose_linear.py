"""Merge two consecutive linear maps into one, so that no spikes are needed between them.

``W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2)``: a dense layer after a dense layer, or a convolution
of kernel 1 after any convolution. Spikes between two linear maps would only add quantisation error. If the
intermediate value is narrow, the merged matrix is larger, so its growth is limited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir.ann import AnnGraph, AnnNode, Convolution, Linear
from snnc.ir.geometry import Window
from snnc.ir.operations import check_known
from snnc.ir.rewriter import Rewriter
from snnc.pipeline import Context, require

POINTWISE = Window((1, 1))


@dataclass(frozen=True, slots=True)
class ComposeLinear:
    """Merge linear maps that follow each other.

    Attributes:
        growth: how many times the operations of the two maps the merged one may take.
    """

    name: ClassVar[str] = "compose-linear"
    growth: float = 4.0

    def __post_init__(self) -> None:
        """Refuse a limit that is none."""
        require("growth", self.growth, 0, 1e6, beyond=True)

    def run(self, graph: AnnGraph, context: Context, /) -> AnnGraph:
        """Return an equal network in which no two linear maps that may be merged follow each other."""
        check_known(graph)
        merged: list[str] = []
        while (pair := self._pair(graph)) is not None:
            first, second = pair
            merged.append(second.name)
            rewriter = Rewriter(graph)
            rewriter.replace((first.name, second.name), _composed(first, second))
            graph = graph.with_nodes(rewriter.nodes, rewriter.outputs)
        if merged:
            context.findings["merged"] = merged
        return graph

    def _pair(self, graph: AnnGraph) -> tuple[AnnNode, AnnNode] | None:
        for second in graph:
            if not isinstance(second, Linear | Convolution):
                continue
            first = graph[second.inputs[0]]
            if not graph.read_once(first.name):
                continue
            dense = isinstance(first, Linear) and isinstance(second, Linear)
            pointwise = (
                isinstance(first, Convolution)
                and isinstance(second, Convolution)
                and first.groups == second.groups == 1
                and second.window == POINTWISE
            )
            if (dense or pointwise) and _operations(_composed(first, second)) <= self.growth * (
                _operations(first) + _operations(second)
            ):
                return first, second
        return None


def _operations(node: AnnNode) -> int:
    weights = node.weight.size if isinstance(node, Linear | Convolution) else 0
    return weights * int(np.prod(node.shape[1:]))


def _composed(first: AnnNode, second: AnnNode) -> AnnNode:
    """Return ``second`` after ``first`` as one node, under the name of ``second``."""
    if isinstance(first, Linear) and isinstance(second, Linear):
        return second.with_(
            inputs=first.inputs,
            weight=(second.weight.astype(np.float64) @ first.weight).astype(np.float32),
            bias=second.bias + second.weight @ first.bias,
        )
    if isinstance(first, Convolution) and isinstance(second, Convolution):
        outer = second.weight[:, :, 0, 0].astype(np.float64)
        return first.with_(
            name=second.name,
            shape=second.shape,
            origin=second.origin,
            weight=np.einsum("om,mikl->oikl", outer, first.weight).astype(np.float32),
            bias=(second.bias + outer @ first.bias).astype(np.float32),
        )
    raise TypeError(f"{type(first).__name__} and {type(second).__name__} cannot be merged")
