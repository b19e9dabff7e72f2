"""Parameters of neurons, as the core reads them: thresholds, biases, first potentials and tables of steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.ir.graph import IntArray
from snnc.ir.snn import IntegrateFire


class Parameters:
    """The words of all populations, each of one value a lane."""

    def __init__(self, lanes: int, bits: int) -> None:
        """Begin with no words.

        Args:
            lanes: values of a word.
            bits: of a potential.
        """
        self.lanes, self.bits = lanes, bits
        self.words: list[list[int]] = []

    def place(self, channels: int, rows: Sequence[IntArray]) -> int:
        """Place parameters, one array of (channels,) for each word of a block; return their address.

        What is beyond all potentials is cut off there: no potential reaches either.
        """
        at, blocks = len(self.words), -(-channels // self.lanes)
        most = 2 ** (self.bits - 1)
        full = np.zeros((len(rows), blocks * self.lanes), np.int64)
        full[0] = most - 1  # of neurons that do not exist, and so never fire
        full[:, :channels] = np.clip(np.array(rows), -most, most - 1)
        for block in range(blocks):
            self.words += full[:, block * self.lanes : (block + 1) * self.lanes].tolist()
        return at


def population_rows(node: IntegrateFire, *, barrier: bool) -> list[IntArray]:
    """Return the parameters of a population, each (channels,).

    They are the threshold, the bias, the first potential, and the potential below which a spike is taken
    back; then, of a step function, each breakpoint and the value that follows it, the first value in
    place of the threshold.

    Args:
        node: the population.
        barrier: whether it fires when all its steps have run, and takes nothing back.
    """
    channels = node.shape[0]
    lowest = np.zeros(channels, np.int64)
    if node.negative_threshold is not None and not barrier:
        lowest = -node.negative_threshold.astype(np.int64)
    rows: list[IntArray] = [each.astype(np.int64) for each in (node.threshold, node.bias, node.v_init)]
    rows.append(lowest)
    if node.breakpoints is not None and node.step_values is not None:
        values = node.step_values.astype(np.int64)
        rows[0] = np.full(channels, values[0])
        limits = np.broadcast_to(node.breakpoints.astype(np.int64), (channels, node.breakpoints.shape[1]))
        for place in range(limits.shape[1]):
            rows += [limits[:, place], np.full(channels, values[place + 1])]
    return rows
