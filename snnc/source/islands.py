"""What the source network gives to every segment of a spiking one, where islands stand between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.errors import NonFiniteError
from snnc.ir.ann import AnnGraph
from snnc.ir.batch import joined
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.layout import InputLayout
from snnc.ir.segments import split
from snnc.source.ann_session import AnnSession
from snnc.source.host import Host
from snnc.source.host_sections import Values


class SourceSegments:
    """The source network of a spiking one with islands, run segment by segment in onnxruntime."""

    def __init__(
        self,
        graph: AnnGraph,
        host: Host,
        inputs: Mapping[str, InputLayout],
        outputs: Mapping[str, InputLayout],
        threads: int | None = None,
    ) -> None:
        """Prepare it.

        Args:
            graph: the network, of all segments.
            host: what stands between them.
            inputs: how tensors of the source become the graph's inputs, by name.
            outputs: likewise for its outputs, backwards.
            threads: how many rows are worked on at once; no result depends on it.
        """
        self._host, self._inputs, self._outputs = host, inputs, outputs
        self._segments = split(graph, host.segments) if host.islands else (graph,)
        self._sessions = [
            AnnSession(part, list(dict.fromkeys(part.answers.values())), threads) for part in self._segments
        ]

    def entries(self, known: Mapping[str, NumberArray]) -> dict[str, FloatArray]:
        """Return what every input of the graph takes, (rows, *shape) float32, channels first.

        Args:
            known: what :meth:`snnc.source.host.Host.before` returns.

        Raises:
            InputError: onnxruntime stops in an island.
            NonFiniteError: an island gives NaN or infinity.
        """
        found: dict[str, FloatArray] = {}

        def entry(name: str, number: int, values: Values) -> FloatArray:
            found[name] = self._inputs[name].to_canonical(values[name]).astype(np.float32, copy=False)
            if number and not np.isfinite(found[name]).all():
                raise NonFiniteError(
                    f"the source network gives NaN or infinity at {name!r}, behind an island"
                )
            return found[name]

        def run(number: int, values: Values) -> dict[str, NDArray[Any]]:
            part = self._segments[number]
            rows = joined({node.name: entry(node.name, number, values) for node in part.inputs})
            answers = self._sessions[number].run(rows)
            return {name: self._outputs[name].to_source(answers[node]) for name, node in part.answers.items()}

        self._host.through(known, run)
        return {name: found[name] for name in self._inputs}
