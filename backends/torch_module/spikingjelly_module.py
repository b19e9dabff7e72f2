"""A network in the shape of SpikingJelly's modules: step modes, ``reset_net``, a sequence of outputs.

The neurons are the artefact's own, which reset by subtraction (SpikingJelly's soft reset, ``v_reset=None``),
and may have memory or several levels, which those of SpikingJelly have not. So results are those of the
artefact.
"""

# Where torch and spikingjelly are absent, the checkers see their names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

import torch
from spikingjelly.activation_based import base
from torch import Tensor

from snnc.artefact import Artefact
from snnc.backends.torch_module.module import Run, SpikingModule
from snnc.errors import UsageError
from snnc.ir.neuron import Schedule


class SpikingJellyModule(base.MemoryModule):
    """A spiking network for step modes ``s`` and ``m``.

    In a step it takes the input of that step, (batch, *shape), as the source network takes it, and gives the
    current into the read-out in the source's units, (batch, *shape) float64: the mean over T steps is what
    the source network answers. In step mode ``m`` both have a leading axis of T steps.
    ``functional.reset_net`` begins another run.

    Attributes:
        network: the module that computes it.
        last: spikes, counts, potentials and read-outs, in integers, after the last step.
    """

    network: SpikingModule
    last: Run | None

    def __init__(self, artefact: Artefact, step_mode: str = "s") -> None:
        """Take the arrays of an artefact.

        Raises:
            UsageError: it has settle steps, several inputs or outputs, or is layerwise: it has no such
                sequence.
        """
        super().__init__()
        graph = artefact.graph
        if graph.schedule is Schedule.LAYERWISE or graph.settle_steps:
            raise UsageError(
                f"{graph.name} is layerwise or has settle steps, so that it has no answer in each of T "
                f"steps: convert "
                "it without, or use to_torch"
            )
        artefact.require_plain("SpikingJelly")
        self.network = SpikingModule(artefact)
        self.register_memory("last", None)
        self.step_mode = step_mode

    def reset(self) -> None:
        """Begin another run."""
        super().reset()
        self.network.reset()

    def single_step_forward(self, x: Tensor) -> Tensor:
        """Run one step; see the class.

        Raises:
            UsageError: the run is over.
        """
        before = self.last
        if before is None:
            self.network.reset()
        now = self.network.step(self.network.encode(x))
        self.last = now
        (name,) = now.outputs
        readout = self.network.graph.readouts[name]
        y = now.outputs[name].to(torch.float64)
        if before is not None:
            y = y - before.outputs[name].to(torch.float64)
        unit = torch.full((1,), readout.scale, dtype=torch.float64, device=y.device)
        if readout.gain is not None:
            unit = unit * torch.from_numpy(readout.gain.astype("float64")).to(y.device)
        return y * unit.reshape(-1, *(1,) * (y.ndim - 2))

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        """Run T steps; see the class.

        Raises:
            UsageError: there are other than T.
        """
        steps = self.network.timesteps
        if len(x_seq) != steps:
            raise UsageError(f"{len(x_seq)} steps were given, and the network was made for T = {steps}")
        return torch.stack([self.single_step_forward(x) for x in x_seq])
