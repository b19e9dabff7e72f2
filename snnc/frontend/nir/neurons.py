"""The neurons of NIR as steps: decays, factors of the input, thresholds and resets, per channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snnc.errors import UnsupportedModelError, UsageError
from snnc.frontend.nir.conventions import Convention, Discretisation, Reset
from snnc.frontend.nir.file import NirNode
from snnc.ir.graph import FloatArray, Shape

Numbers = NDArray[np.float64]

SEVERAL = 127
"""Most spikes of a neuron in a step, where several may leave."""

CLOSE = 1e-6
"""A factor as near to one is one: exporters divide by dt in float32 what is multiplied by it again."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A population in one step; all arrays are (channels,).

    Attributes:
        gain: what its currents are multiplied by.
        bias: what is added in each step.
        decay, synapse_decay, threshold, reset_to, reset_by, refractory: as of
            :class:`snnc.ir.snn.IntegrateFire`; no threshold for a leaky integrator.
    """

    gain: Numbers
    bias: Numbers
    decay: FloatArray | None
    synapse_decay: FloatArray | None = None
    threshold: FloatArray | None = None
    reset_to: FloatArray | None = None
    reset_by: FloatArray | None = None
    refractory: int = 0


def per_channel_of(node: NirNode, name: str, shape: Shape, path: Path) -> Numbers:
    """Return a parameter of neurons of a shape, (channels,).

    Raises:
        UnsupportedModelError: it has another shape, or differs within a channel.
    """
    found = node.array(name)
    try:
        if found.ndim == 1 and len(found) == shape[0]:  # one for each channel, or each feature
            found = found.reshape(-1, *(1,) * (len(shape) - 1))
        elif found.ndim == 2 and len(shape) == 3:  # a signal is an image of height 1
            found = found[:, None]
        spread = np.broadcast_to(found if found.size > 1 else found.reshape(()), shape).reshape(shape[0], -1)
    except ValueError:
        raise UnsupportedModelError(
            f"{path}: {name} of {node.name!r} is {found.shape}, and its neurons are {shape}: give as many"
        ) from None
    if np.any(spread != spread[:, :1]):
        raise UnsupportedModelError(
            f"{path}: {name} of {node.name!r} differs within a channel: give one for each channel"
        )
    return spread[:, 0].copy()


def cell_of(
    node: NirNode, convention: Convention, shape: Shape, path: Path, *, recurrent: bool = False
) -> Cell:
    """Return what a node of neurons of a shape does in a step.

    Args:
        node: the neurons.
        convention: how they run.
        shape: of them.
        path: of the file.
        recurrent: whether a recurrent connection brings their spikes back.

    Raises:
        UnsupportedModelError: a decay leaves 0 to 1, a threshold is not positive, or its exporter's rule has
            no form here.
        UsageError: what a spike does is left open.
    """

    def read(name: str) -> Numbers:
        return per_channel_of(node, name, shape, path)

    if node.kind == "Threshold":
        above = _fires(read("threshold"), convention)
        channels = np.zeros(shape[0])
        # A potential that keeps nothing: a spike wherever the input reaches the threshold.
        still = channels.astype(np.float32)
        return Cell(channels + 1, channels, still, threshold=above, reset_to=still)
    if node.kind == "IF":
        step = 1.0 if convention.plain_input else convention.dt
        decay, gain, bias = None, read("r") * step, np.zeros(shape[0])
    else:
        tau = read("tau" if node.kind != "CubaLIF" else "tau_mem")
        kept, share = _step(node, tau, convention, path)
        gain = read("r") * (1.0 if _is_plain(node, convention) else share)
        decay, bias = kept.astype(np.float32), share * read("v_leak")
    synapse = None
    if node.kind == "CubaLIF":
        if not convention.filtered:
            raise UnsupportedModelError(
                f"{path}: the CubaLIF {node.name!r}: its exporter's neurons read the filter's current of the "
                "step before, for which there is no form: export it as LIF"
            )
        kept, share = _step(node, read("tau_syn"), convention, path)
        synapse = kept.astype(np.float32)
        gain = gain * read("w_in") * share
    gain = np.where(np.abs(gain - 1) < CLOSE, 1.0, gain)
    if node.kind == "LI":
        return Cell(gain, bias, decay)
    threshold = read("v_threshold")
    if threshold.min() <= 0:
        raise UnsupportedModelError(f"{path}: v_threshold of {node.name!r} is not positive: train it again")
    # A delayed reset of filtered or recurrent neurons loses the step after the spike: v = 0 at its end.
    loses = convention.delayed and (node.kind == "CubaLIF" or recurrent)
    resets = _resets(node, convention, threshold, decay, read("v_reset"), path, loses=loses)
    return Cell(gain, bias, decay, synapse, _fires(threshold, convention), *resets)


def _is_plain(node: NirNode, convention: Convention) -> bool:
    """Whether a leaky neuron's input enters without dt / tau: as sinabs', whose decay is an exact one."""
    return convention.plain_input and convention.discretisation is Discretisation.EXACT


def _step(node: NirNode, tau: Numbers, convention: Convention, path: Path) -> tuple[Numbers, Numbers]:
    """Return what remains after a step, and the share that is new."""
    if tau.min() <= 0:
        raise UnsupportedModelError(f"{path}: a time constant of {node.name!r} is not positive")
    share = convention.dt * (convention.dt if convention.shortened else 1) / tau
    kept = np.exp(-share) if convention.discretisation is Discretisation.EXACT else 1 - share
    if kept.min() < 0:
        raise UnsupportedModelError(
            f"{path}: a time constant of {node.name!r}, {tau.min():g}, is shorter than the step of "
            f"{convention.dt:g}: give a shorter --dt, or --discretisation exact"
        )
    return kept, 1 - kept


def _fires(threshold: Numbers, convention: Convention) -> FloatArray:
    """Return the threshold from which on a neuron fires: the next float32 where it fires above alone."""
    found = threshold.astype(np.float32)
    return np.nextafter(found, np.float32(np.inf)) if convention.strict else found


def _resets(
    node: NirNode,
    convention: Convention,
    threshold: Numbers,
    decay: FloatArray | None,
    value: Numbers,
    path: Path,
    *,
    loses: bool,
) -> tuple[FloatArray | None, FloatArray | None, int]:
    """Return what a spike sets the potential to, or takes from it, and the steps of rest."""
    if convention.reset is None:
        raise UsageError(
            f"{path} does not say what a spike does to the potential of {node.name!r}: give --reset "
            "subtract, its exporter's default, or --reset value for v_reset"
        )
    if convention.reset is Reset.VALUE:
        if convention.delayed and value.any():
            raise UnsupportedModelError(
                f"{path}: v_reset of {node.name!r} is not zero, and its exporter knows zero alone"
            )
        return value.astype(np.float32), None, int(loses)
    by = threshold
    if convention.delayed and decay is not None:  # taken in the step after, when the leak has been
        if decay.min() <= 0:
            raise UnsupportedModelError(
                f"{path}: {node.name!r} keeps nothing of its potential: its delayed reset has no form here"
            )
        by = threshold / decay
    return None, by.astype(np.float32), 0
