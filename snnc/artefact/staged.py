"""Running a network whose segments wait for islands of ordinary ONNX between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary

from snnc.errors import UsageError
from snnc.ir.batch import Given, joined, rows_of
from snnc.ir.graph import NumberArray
from snnc.ir.segments import split
from snnc.ir.snn import SnnGraph
from snnc.simulation.protocol import RecordOptions, Simulator, Trace
from snnc.simulation.reference import encode_all
from snnc.source.host_sections import Values

if TYPE_CHECKING:
    from snnc.artefact.artefact import Artefact

BESIDE = "beside spikes: "
"""In front of the name of a tensor that goes past spikes to an island, among the rows of a simulation."""


class SegmentSimulator:
    """Runs one segment after the other, and the islands between them.

    Every segment runs for T and the settle steps, with the simulator that is given, and then stands still: an
    island reads what its read-outs hold at the end. The inputs are those that ``Artefact.encode`` returns.
    """

    name: ClassVar[str] = "segments"

    def __init__(self, simulator: Simulator, artefact: Artefact) -> None:
        """Run the network of an artefact with islands, or another one of the same inputs and outputs."""
        self._simulator = simulator
        self._artefact = artefact
        self._segments: WeakKeyDictionary[SnnGraph, tuple[SnnGraph, ...]] = WeakKeyDictionary()

    def run(
        self,
        graph: SnnGraph,
        inputs: Given,
        timesteps: int,
        record: RecordOptions = RecordOptions(),
        /,
        given: Mapping[str, NumberArray] | None = None,
    ) -> Trace:
        """Simulate; see :class:`snnc.simulation.protocol.Simulator`.

        Raises:
            UsageError: only a part of the network is to be run.
        """
        host = self._artefact.host
        if record.until or given or host is None:
            raise UsageError(
                "the segments of a network with islands are run as a whole: no part of them alone, and no "
                "given spikes"
            )
        if graph not in self._segments:
            self._segments[graph] = split(graph, host.segments)
        segments = self._segments[graph]
        beside = {name: rows_of(inputs, BESIDE + name) for name in host.beside}
        found = Trace(timesteps=timesteps, samples=len(inputs))

        def run(number: int, values: Values) -> dict[str, NumberArray]:
            segment = segments[number]
            names = [node.name for node in segment.inputs]
            if number == 0:
                q = joined({name: rows_of(inputs, name) for name in names})
            else:
                read = {name: self._artefact.encodable(name, values[name]) for name in names}
                q = encode_all(segment, joined(read))
                found.encoded |= {name: rows_of(q, name) for name in names}
            trains = tuple(name for name in record.trains if name in segment)
            trace = self._simulator.run(segment, q, timesteps, replace(record, trains=trains))
            found.join(trace)
            return self._artefact.read_out(trace)

        host.through(beside, run)
        found.outputs = {name: found.outputs[name] for name in graph.output_names}
        return found
