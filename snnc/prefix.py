"""The part of a spiking network that is already done, kept simulated while passes work on the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.snn import SnnGraph
from snnc.reference import encode
from snnc.target import Record, Simulator, Trace


class SpikingPrefix:
    """Spike trains of the populations that later layers still read, on fixed rows.

    Only what is new is simulated: the trains of finished populations are given to the simulator.

    Attributes:
        inputs: (rows, *input shape) int32, the encoded rows.
    """

    def __init__(self, graph: SnnGraph, rows: FloatArray, simulator: Simulator) -> None:
        """Encode ``rows``, (n, *input shape) float32, for ``graph``."""
        self.inputs: IntArray = encode(graph.encoder, rows)
        self._simulator = simulator
        self._trains: dict[str, NumberArray] = {}

    def simulate(self, graph: SnnGraph, names: Sequence[str], *, trains: bool = True) -> Trace:
        """Compute some nodes of ``graph`` from what is known.

        Args:
            graph: the network.
            names: what to compute.
            trains: record the spikes of every step; else the counts of populations, which is quicker.
        """
        wanted = tuple(name for name in names if name != graph.output)
        needed = graph.ancestors(tuple(names), frozenset(self._trains))
        given = {name: train for name, train in self._trains.items() if name in needed}
        until = tuple(names)
        record = Record(trains=wanted, until=until) if trains else Record(states=True, until=until)
        return self._simulator.run(graph, self.inputs, graph.timesteps, record, given=given)

    def keep(self, graph: SnnGraph, trace: Trace, names: Sequence[str]) -> None:
        """Take over the trains of finished populations, and forget those that nothing unfinished reads."""
        for name in names:
            self._trains[name] = trace.trains[name]
        done = set(self._trains)
        pending = [node for node in graph if node.name not in done and not getattr(node, "integer", True)]
        needed = graph.ancestors([node.name for node in pending], frozenset(done)) if pending else frozenset()
        self._trains = {name: train for name, train in self._trains.items() if name in needed}

    @property
    def trains(self) -> Mapping[str, NumberArray]:
        """The spikes that unfinished layers read, by population, (T + K, rows, *shape)."""
        return self._trains

    def restore(self, trains: Mapping[str, NumberArray]) -> None:
        """Go on from where another prefix on the same rows was."""
        self._trains = {name: train.astype(np.int32, copy=False) for name, train in trains.items()}

    def counts(self, graph: SnnGraph, name: str) -> IntArray:
        """Return the spike counts of a node that gives spikes, (rows, *shape) int32."""
        return self._train(graph, name).sum(axis=0, dtype=np.int32)

    def current(self, graph: SnnGraph, name: str) -> FloatArray:
        """Return what a synapse gives in all steps together, (rows, *shape) float32."""
        return self._train(graph, name).sum(axis=0, dtype=np.float32)

    def _train(self, graph: SnnGraph, name: str) -> NumberArray:
        train = self._trains.get(name)
        return self.simulate(graph, [name]).trains[name] if train is None else train
