"""Turn the analogue network into a spiking one: spikes between layers, currents into populations.

Every rectifier becomes a population, all that is linear between populations becomes synapses, and the
last sum becomes an accumulated read-out. A clipped activation ``a`` in ``[0, theta]`` is carried by
counts, ``a = u N / T`` with ``N`` in ``[0, T M]`` and ``u = theta / M``; the unit ``u`` folds into the
weights that read it. The input is quantised once and presented in every step, so the first layer's
current is constant. The populations are plain integrate-and-fire neurons that start at zero; later
passes give them memory, signs and a better start.

A channel that never fired on the calibration rows is constant: nothing drives it, and its readers
give it no weight, however large the source's is. A weight there says nothing (behind a batch norm without
variance it is hundreds of times larger than all others), and would take the range of integers from those that
matter.

Source: Rueckauer et al., "Conversion of Continuous-Valued Deep Networks to Efficient Event-Driven
Networks for Image Classification", Frontiers in Neuroscience 11 (2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.diagnostics import DEAD_CHANNELS, Diagnostic
from snnc.errors import UsageError
from snnc.ir import ann, snn
from snnc.ir.operations import check_known
from snnc.numerics.splitting import split_weights
from snnc.passes.lower.inputs import input_codes
from snnc.passes.lower.network import spiking_network
from snnc.passes.lower.walk import Walk
from snnc.pipeline import Context


@dataclass(frozen=True, slots=True)
class Lower:
    """Lower a clipped ANN graph to the spiking dialect, still in float32.

    Attributes:
        input_limit: largest magnitude of a quantised input. A smaller one suits chips with short integers,
            and leaves weights in one piece: these chips read no source several times.
        signed: whether there may be neurons that take spikes back, as those of step functions do; other
            passes let all others do so.
    """

    name: ClassVar[str] = "lower"
    input_limit: int = snn.INPUT_LIMIT
    signed: bool = True

    def __post_init__(self) -> None:
        """Refuse limits that the encoder does not know."""
        if not 1 <= self.input_limit <= snn.INPUT_LIMIT:
            raise UsageError(f"input-limit must lie in 1 to {snn.INPUT_LIMIT}, not {self.input_limit}")

    def run(self, graph: ann.AnnGraph, context: Context, /) -> snn.SnnGraph:
        """Return the spiking network."""
        check_known(graph)
        codes = input_codes(graph, context, self.input_limit)
        walk = Walk(graph, context.timesteps, signed=self.signed)
        result = spiking_network(walk, codes, context.task_of)
        split: dict[str, int] = {}
        if self.input_limit == snn.INPUT_LIMIT:  # a chip that asks for less reads no source twice
            result, split = split_weights(result)
        if split:
            context.findings["split"] = split
        if walk.dead:
            context.findings["dead-channels"] = walk.dead
            context.diagnostics.append(_dead_channels(graph, walk.dead))
        return result


def _dead_channels(graph: ann.AnnGraph, dead: dict[str, int]) -> Diagnostic:
    """Name the layers with channels that never fired."""
    worst = max(dead, key=lambda name: dead[name] / graph[name].channels)
    node = graph[worst]
    others = f" (and {sum(dead.values()) - dead[worst]} in other layers)" if len(dead) > 1 else ""
    return Diagnostic(
        DEAD_CHANNELS,
        f"{dead[worst]} of {node.channels} channels never fired on the calibration rows{others}; they are "
        "constant in the spiking network",
        node.origin or node.name,
        "give calibration rows of all kinds that the network will receive; channels that fire on none can be "
        "pruned",
    )
