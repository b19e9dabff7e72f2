"""The spiking network: a graph of spiking operations, and how long it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from snnc.errors import InternalError
from snnc.ir.counts import CountFunction
from snnc.ir.graph import Graph
from snnc.ir.kinds import SnnNode, kind_problem
from snnc.ir.neuron import Schedule
from snnc.ir.snn.encoder import Encode
from snnc.ir.snn.population import IntegrateFire
from snnc.ir.snn.readout import Readout


@dataclass(frozen=True, kw_only=True, eq=False)
class SnnGraph(Graph[SnnNode]):
    """A spiking network and how long it runs: an :class:`Encode` per input, a :class:`Readout` per output.

    Attributes:
        timesteps: T, the steps it was calibrated for and runs by default.
        settle_steps: K, further steps without input current and bias.
        schedule: when populations fire.
        max_timesteps: largest T for which the integer bounds were proved; 0 before quantisation.
        density: share of the neurons of a population that fire in a step, by its name, as far as measured.
            A simulator plans by it; what is computed does not depend on it.
    """

    timesteps: int
    settle_steps: int = 0
    schedule: Schedule = Schedule.SYNCHRONOUS
    max_timesteps: int = 0
    density: Mapping[str, float] = field(default_factory=dict)

    @property
    def integer(self) -> bool:
        """Whether the whole network computes in integers."""
        return all(getattr(node, "integer", True) for node in self.nodes)

    @cached_property
    def only_timesteps(self) -> bool:
        """Whether it runs for its own T alone: step functions and functions of counts were made for it."""
        stepped = any(node.breakpoints is not None for node in self.of_type(IntegrateFire))
        return stepped or any(isinstance(node, CountFunction) and node.only_timesteps for node in self.nodes)

    @cached_property
    def encoders(self) -> tuple[Encode, ...]:
        """The nodes that quantise the inputs, in the source's order."""
        return self.of_type(Encode)

    @property
    def encoder(self) -> Encode:
        """The node that quantises the one input.

        Raises:
            UsageError: there are several.
        """
        node = self.input
        if not isinstance(node, Encode):
            raise InternalError(f"{self.name} begins with {node.name!r}, which quantises nothing")
        return node

    @cached_property
    def readouts(self) -> dict[str, Readout]:
        """The node that gives each output, by the output's name, in the source's order."""
        nodes = (self[name] for name in self.outputs)
        return {
            name: node
            for name, node in zip(self.output_names, nodes, strict=True)
            if isinstance(node, Readout)
        }

    @property
    def readout(self) -> Readout:
        """The node that gives the one output.

        Raises:
            UsageError: there are several.
        """
        node = self[self.output]
        if not isinstance(node, Readout):
            raise InternalError(f"{self.name} ends with {node.name!r}, which is no read-out")
        return node

    def problem(self) -> str | None:
        """Check the settings of the whole network."""
        if self.timesteps < 1 or self.settle_steps < 0:
            return f"T = {self.timesteps} and K = {self.settle_steps} make no run"
        if self.schedule is Schedule.LAYERWISE and self.settle_steps:
            return "the layerwise schedule has no settle steps: nothing arrives late"
        if not all(isinstance(self[name], Readout) for name in self.outputs):
            return "the output of a spiking network is its read-out"
        if len(set(self.outputs)) < len(self.outputs):
            return "each output of a spiking network has a read-out of its own"
        alive = self.ancestors(self.outputs)
        for node in self.of_type(IntegrateFire):
            if node.name not in alive:
                return f"the population {node.name!r} has no part in the output"
            if node.furthest() > (most := node.neuron.capacity(self.timesteps)):
                return f"{node.name!r} counts up to {node.furthest()}, more than T M = {most}"
        for function in self.nodes:
            if isinstance(function, CountFunction) and (problem := function.unit_problem()) is not None:
                return f"{function.name!r}: {problem}"
        for readout in self.of_type(Readout):
            if readout.name not in self.outputs:
                return f"the read-out {readout.name!r} is no output"
        return kind_problem(self)
