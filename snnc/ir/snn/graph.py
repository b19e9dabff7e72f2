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
from snnc.ir.snn.delay import Delay
from snnc.ir.snn.encoder import Encode, Presented
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

    @cached_property
    def integer(self) -> bool:
        """Whether the whole network computes in integers."""
        return all(getattr(node, "integer", True) for node in self.nodes)

    @cached_property
    def only_timesteps(self) -> bool:
        """Whether it runs for its own T alone: step functions, functions of counts, frames that add up."""
        if any(node.presented is Presented.ACCUMULATED for node in self.encoders):
            return True
        stepped = any(node.breakpoints is not None for node in self.of_type(IntegrateFire))
        return stepped or any(isinstance(node, CountFunction) and node.only_timesteps for node in self.nodes)

    @cached_property
    def changing(self) -> str | None:
        """What depends on the order of steps, in words: frames, leaks, delays; ``None`` where nothing does.

        What is proved or learned for a constant input and for neurons that lose nothing does not hold there.
        """
        for node in self.nodes:
            if isinstance(node, Encode) and node.varies:
                return f"the input {node.name!r} changes from step to step"
            if isinstance(node, IntegrateFire | Readout) and node.leaky:
                what = "read-out" if isinstance(node, Readout) else "population"
                return f"the {what} {node.name!r} is leaky"
            if isinstance(node, Delay):
                return f"{node.name!r} delays what {node.source!r} sends"
        return None

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

    def leaking(self) -> str | None:
        """Return the name of a population or read-out that leaks; ``None`` where there is none."""
        found = (node for node in self.nodes if isinstance(node, IntegrateFire | Readout) and node.leaky)
        return next((repr(node.name) for node in found), None)

    def problem(self) -> str | None:
        """Check the settings of the whole network."""
        if self.timesteps < 1 or self.settle_steps < 0:
            return f"T = {self.timesteps} and K = {self.settle_steps} make no run"
        if self.schedule is Schedule.LAYERWISE and self.settle_steps:
            return "the layerwise schedule has no settle steps: nothing arrives late"
        if (self.schedule is Schedule.LAYERWISE or self.settle_steps) and (
            what := self.leaking()
        ) is not None:
            return f"{what} is leaky, which knows neither the layerwise schedule nor settle steps"
        if self.schedule is Schedule.LAYERWISE and any(node.varies for node in self.encoders):
            return "the layerwise schedule has no steps that could see frames"
        if (problem := self._delay_problem()) is not None:
            return problem
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

    def _delay_problem(self) -> str | None:
        """Say which delay has no meaning."""
        for node in self.of_type(Delay):
            source = self[node.source]
            if not isinstance(source, Encode | IntegrateFire):
                return f"{node.name!r} delays {node.source!r}, which is neither a population nor an input"
            if source.shape != node.shape:
                return f"{node.name!r} is {node.shape}, and what it delays is {source.shape}"
            if self.schedule is Schedule.LAYERWISE or self.settle_steps:
                return (
                    f"{node.name!r} is a delay, which knows neither the layerwise schedule nor settle steps"
                )
        return None
