r"""The five errors of a layer, neuron by neuron; they add up to the difference between the two networks.

For one neuron of a population, with

* ``a``: its activation in the source network,
* ``z``: the pre-activation that the *source's* weights and bias give on the spikes that arrived, decoded as
  ``u N / T`` (see :mod:`snnc.report.fed`),
* ``l``: what its silence stands for, the floor, mostly 0,
* ``zhat``: the mean input that the *spiking* layer received,
  ``zhat = l + (u / Theta) (sum_t I_t + T B) / T``,
* ``phi = l + u N / T``: what its own spikes stand for,
* ``theta = l + u C / T``: the largest value that they can stand for, ``C`` the capacity,
* ``r(x)``: what the source network makes of a pre-activation, ``min(max(x, 0), ceiling)``; where it rounds
  itself, the level of ``x``; or any function of it,
* ``Q(zhat) = l + (u / T) clip(floor((v(0) + sum_t I_t + T B) / Theta), 0, C)``: what it would send if all
  its input had arrived before its first spike,

the errors are::

    propagated   = r(z) - a                           wrong spikes of earlier layers
    parameters   = r(zhat) - r(z)                     int8 weights, rounded or lost bias, compensation
    clipping     = clip(r(zhat), l, theta) - r(zhat)  above the threshold, or below the floor
    quantisation = Q(zhat) - clip(r(zhat), l, theta)  T steps hold only T M levels; the start v(0)
    unevenness   = phi - Q(zhat)                      fired too early or too late

They telescope: their sum is ``phi - a``. No current has to be recorded for ``zhat``, since a neuron keeps
what it does not send: ``sum_t I_t + T B = v(T) - v(0) + Theta N`` under every schedule and for every neuron
with a threshold.

A neuron that follows a step function ``K`` takes nothing from its potential ``P``, which stands for
``zhat = e P + z0`` (``potential_unit``, ``potential_zero``); the count that it should end with is ``K(P)``:

* ``l + u min K / T`` and ``l + u max K / T`` take the places of ``l`` and ``theta``: what the lowest and the
  highest level of the table cut is clipping,
* ``Q(zhat) = l + (u / T) K(P)``: what the levels in between, and the places of the breakpoints, round is
  quantisation,
* unevenness is what a limit on the spikes of a step holds back.

"Parameters" is the difference that the *parameters* cause with equal spikes. The integers represent real
values by the scale of their channel, ``u / Theta``: a weight ``w`` represents ``w u / Theta``, divided by the
spike scale of the spikes that it reads. Every difference from the source's weights contributes to this term:
rounding to int8, a rounded bias, but also weights and biases that were changed on purpose to compensate other
terms, which then have the opposite sign.

If only a maximum reads a value without a rectifier, its spikes represent only values that can be the
maximum, and each term is the difference between the maxima before and after it.

The read-out has no neuron: its errors are ``propagated = y(z) - y``, ``parameters = yhat - y(z)``.

Source: the decomposition into clipping, quantisation and unevenness follows Bu et al., "Optimal ANN-SNN
Conversion for High-accuracy and Ultra-low-latency Spiking Neural Networks", ICLR 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from snnc.errors import UnknownOperationError, UsageError
from snnc.ir.channels import per_channel
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.operations import firing
from snnc.ir.snn import CountFunction, IntegrateFire
from snnc.report.coding import range_of_counts
from snnc.simulation.arrays import windows
from snnc.simulation.reference import step_function
from snnc.source.source_map import Rectifier, carried, raised_by

TERMS = ("propagated", "parameters", "clipping", "quantisation", "unevenness")
"""The five errors, in the order in which they arise."""

OWN = TERMS[1:]
"""Those that a layer makes itself."""


@dataclass(frozen=True, slots=True)
class Decomposition:
    """The errors of one layer on one batch.

    Attributes:
        a: (batch, *shape) float64, the source network's activations.
        phi: (batch, *shape) float64, what the spikes stand for.
        errors: of each term, (batch, *shape) float64, in the order of :data:`TERMS`.
        z: (batch, *shape) float64, what the source's parameters make of the spikes.
        zhat: (batch, *shape) float64, what the spiking layer made of them.
        lead: (batch, *shape) int32, spikes sent beyond those of ``Q``; empty for the read-out.
    """

    a: FloatArray
    phi: FloatArray
    errors: tuple[FloatArray, ...]
    z: FloatArray
    zhat: FloatArray
    lead: IntArray

    def behind(self, window: Window) -> Decomposition:
        """Return the errors of the maxima over a window, which alone matter where nothing else is read.

        Each stage of the telescope is pooled, so that the terms still add up.
        """

        def highest(values: FloatArray) -> FloatArray:
            return windows(values, window, -np.inf).max(axis=(4, 5))

        stages = [highest(self.a + sum(self.errors[:k])) for k in range(len(self.errors) + 1)]
        errors = tuple(after - before for before, after in pairwise(stages))
        z, zhat = highest(self.z), highest(self.zhat)
        return Decomposition(stages[0], highest(self.phi), errors, z, zhat, self.lead)


def received(node: IntegrateFire, count: IntArray, v: NumberArray) -> FloatArray:
    """Return all that neurons received, ``sum_t I_t + T B``, (batch, *shape) float64.

    The sums of integer networks stay below 2^53, so that they are exact.

    Args:
        node: the population.
        count: (batch, *shape), the units that it sent.
        v: (batch, *shape), the potentials that it ended with.

    Raises:
        UnknownOperationError: its potential does not tell, since it forgets what it does not send.
    """
    if not (firing(node).keeps_charge or node.breakpoints is not None):
        raise UnknownOperationError(
            f"{node.name!r} forgets what it does not send, so that the report cannot split its errors"
        )
    rank = len(node.shape)
    left = v - per_channel(node.v_init.astype(np.float64), rank)
    if node.breakpoints is not None:
        return left
    return count * per_channel(node.threshold.astype(np.float64), rank) + left


def mean_input(node: IntegrateFire, count: IntArray, v: NumberArray, timesteps: int) -> FloatArray:
    """Return ``zhat``, (batch, *shape) float64; see :func:`received`."""
    rank = len(node.shape)
    if node.breakpoints is not None:
        unit, zero = _potential(node)
        return v * per_channel(unit, rank) + per_channel(zero, rank)
    scale = node.spike_scale.astype(np.float64) / (timesteps * node.threshold.astype(np.float64))
    return per_channel(node.lowest.astype(np.float64), rank) + received(node, count, v) * per_channel(
        scale, rank
    )


def _potential(node: IntegrateFire) -> tuple[FloatArray, FloatArray]:
    """Return the unit and the zero of a potential, (channels,) float64."""
    if node.potential_unit is None or node.potential_zero is None:
        raise UsageError(f"{node.name!r} does not tell what its potential stands for: convert it again")
    return node.potential_unit.astype(np.float64), node.potential_zero.astype(np.float64)


def ideal_count(node: IntegrateFire, count: IntArray, v: NumberArray, most: int) -> NumberArray:
    """Return the counts of neurons that had got all their input before their first spike, (batch, *shape).

    Args:
        node: the population.
        count: (batch, *shape), the units that it sent.
        v: (batch, *shape), the potentials that it ended with.
        most: the largest count.
    """
    if node.breakpoints is not None:
        return step_function(node, v)
    # What is left is worth so many spikes more, or less.
    held = count + np.floor(v / per_channel(node.threshold.astype(np.float64), len(node.shape)))
    return np.clip(held, 0, most)


def decompose(
    node: IntegrateFire,
    relu: Rectifier,
    z_source: FloatArray,
    z_fed: FloatArray,
    count: IntArray,
    v: NumberArray,
    timesteps: int,
    steps: int,
) -> Decomposition:
    """Split the error of a population.

    Args:
        node: the population.
        relu: the rectifier that it stands for.
        z_source: (batch, *shape), the pre-activation in the source network.
        z_fed: (batch, *shape), what the source's parameters make of the spikes that arrived.
        count: (batch, *shape), the units that were sent.
        v: (batch, *shape), the final potentials.
        timesteps: T.
        steps: T + K.
    """
    rank = len(node.shape)
    unit = per_channel(node.spike_scale.astype(np.float64), rank) / timesteps
    floor = per_channel(node.lowest.astype(np.float64), rank)
    least, most = range_of_counts(node, timesteps, steps)
    whole = ideal_count(node, count, v, most)
    zhat = mean_input(node, count, v, timesteps)
    shift = raised_by(node, relu)
    raised: FloatArray | float = 0.0 if shift is None else per_channel(shift.astype(np.float64), rank)
    a = carried(node, relu, z_source).astype(np.float64)
    reached = carried(node, relu, z_fed).astype(np.float64)
    made = carried(node, relu, zhat - raised).astype(np.float64)
    clipped = np.clip(made, floor + unit * least, floor + unit * most)
    quantised = floor + unit * whole
    phi = floor + unit * count
    errors = (reached - a, made - reached, clipped - made, quantised - clipped, phi - quantised)
    return Decomposition(a, phi, errors, z_fed + raised, zhat, (count - whole).astype(np.int32))


def decompose_function(
    node: CountFunction, a: FloatArray, reached: FloatArray, count: IntArray, most: tuple[int, int]
) -> Decomposition:
    """Split the error of a function of counts: what its levels cut, and what its integers round.

    Its own count is the function of the counts that it reads, whatever their order: it has no unevenness.

    Args:
        node: the function.
        a: (batch, *shape), the value in the source network.
        reached: (batch, *shape), what the source makes of the counts that arrived.
        count: (batch, *shape), the units that were sent.
        most: the least and the largest count.
    """
    if node.unit is None:
        raise UsageError(f"{node.name!r} does not tell what its counts stand for: convert it again")
    a, z = a.astype(np.float64), reached.astype(np.float64)
    unit = per_channel(node.unit.astype(np.float64), len(node.shape))
    ends = unit * most[0], unit * most[1]
    clipped, phi = np.clip(z, np.minimum(*ends), np.maximum(*ends)), unit * count
    none = np.zeros_like(a)
    errors = (z - a, none, clipped - z, phi - clipped, none)
    return Decomposition(a, phi, errors, z, z, np.empty((0, *a.shape[1:]), np.int32))


def decompose_readout(y_source: FloatArray, y_fed: FloatArray, y: FloatArray) -> Decomposition:
    """Split the error of the class scores, each (batch, classes)."""
    a, z, phi = (values.astype(np.float64) for values in (y_source, y_fed, y))
    none = np.zeros_like(a)
    return Decomposition(
        a, phi, (z - a, phi - z, none, none, none), z, phi, np.empty((0, *a.shape[1:]), np.int64)
    )
