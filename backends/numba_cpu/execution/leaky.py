"""Leaky populations and read-outs: their currents are written down, and a kernel goes through the steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.backends.numba_cpu.execution.shapes import Array, Value, channels_first, channels_last
from snnc.backends.numba_cpu.kernels import leaky as kernels
from snnc.backends.numba_cpu.planning.request import Request
from snnc.ir import snn
from snnc.ir.graph import NumberArray
from snnc.simulation.reference import fire, leaky_readout


class LeakyRun:
    """A leaky population or read-out, ready to be run for any number of images."""

    def __init__(
        self,
        node: snn.IntegrateFire | snn.Readout,
        read: Sequence[Value],
        out: Value,
        states: Array | None,
        request: Request,
    ) -> None:
        """Lay the parameters out.

        Args:
            node: the population or read-out.
            read: its currents.
            out: where to put the spikes, or the final potentials of a read-out.
            states: (2, images, height, width, padded channels): where final potentials and minus the counts
                of a population go.
            request: what is run.
        """
        self.node, self.read, self.out, self.states, self.request = node, read, out, states, request
        if not node.integer:
            return
        none, whole = np.zeros(node.channels, np.int32), np.full(node.channels, kernels.WHOLE, np.int32)
        decays = [_or(node.decay, whole), _or(node.synapse_decay, none)]
        rows = [node.bias, *decays]
        if isinstance(node, snn.IntegrateFire):
            resets = [_or(node.reset_to, none), _or(node.reset_by, node.threshold)]
            rows = [node.threshold, node.bias, node.v_init, *decays, *resets]
        self.vectors = np.stack(rows).astype(np.int64)

    def run(self, images: int) -> None:
        """Run all steps."""
        node, request = self.node, self.request
        terms = [value.spread(images, request.timesteps, request.steps) for value in self.read]
        if not node.integer:
            self._run_floats(terms)
            return
        currents = np.ascontiguousarray(np.add.reduce([term.astype(np.int32, copy=False) for term in terms]))
        finer = 1 << node.fraction_bits
        if isinstance(node, snn.Readout):
            kernels.leaky_readout(currents, images, self.vectors, finer, self.out.values)
        elif self.states is not None:
            kernels.fire_leaky(
                currents,
                images,
                self.vectors,
                finer,
                node.neuron.largest(request.timesteps),
                node.refractory,
                node.reset_to is not None,
                self.out.values,
                *self.states,
            )
        self.out.values[..., node.channels :] = 0

    def _run_floats(self, terms: Sequence[Array]) -> None:
        """Run all steps of a network that is not quantised, of which speed does not matter."""
        node = self.node
        ordered = [channels_first(term, 2).reshape(*term.shape[:2], *node.shape) for term in terms]
        current: Array = np.add.reduce(ordered)
        if isinstance(node, snn.Readout):
            self.out.put(leaky_readout(node, current)[-1:])
            return
        spikes, v = fire(node, current, self.request.timesteps, self.request.graph.schedule)
        self.out.put(spikes)
        if self.states is not None:
            for state, values in zip(self.states, (v, -spikes.sum(axis=0)), strict=True):
                last = channels_last(values[np.newaxis])[0]
                target = state[: len(values), ..., : node.channels]
                target[...] = last.reshape(target.shape)


def _or(values: NumberArray | None, neutral: NumberArray) -> NumberArray:
    return neutral if values is None else values
