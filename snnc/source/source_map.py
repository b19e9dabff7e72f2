"""Which rectifier of the source network a population stands for, and what it computes there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.errors import InternalError
from snnc.ir.ann import AnnGraph, Pointwise, Relu
from snnc.ir.channels import per_channel
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray
from snnc.ir.snn import CountMaxPool, IntegrateFire, SnnGraph, SnnNode
from snnc.numerics.levels import real_level
from snnc.numerics.spill import RowArray
from snnc.source.calibration import Calibration

Rectifier = Relu | Pointwise
"""What populations stand for."""


def rectifier(source: AnnGraph, population: SnnNode) -> Rectifier:
    """Return the rectifier or function that a population stands for; a fine one shares its coarse one's.

    Args:
        source: the network that was lowered.
        population: one of the spiking network's.

    Raises:
        InternalError: it is no population, or stands for nothing that the source network has.
    """
    if isinstance(population, IntegrateFire) and population.stands_for in source:
        node = source[population.stands_for]
        if isinstance(node, Relu | Pointwise):
            return node
    raise InternalError(f"{population.name!r} stands for no activation of the source network")


def measured_at(node: Rectifier) -> str:
    """Return the name of the value that levels are chosen by: of a function its argument."""
    return node.inputs[0] if isinstance(node, Pointwise) else node.name


def shift_of(node: Rectifier) -> FloatArray | None:
    """Return by how much a value is raised before it is sent, (channels,); ``None`` where it is not."""
    return node.shift if isinstance(node, Relu) else None


def raised_by(population: IntegrateFire, relu: Rectifier) -> FloatArray | None:
    """Return by how much the value of the spikes exceeds the source's, (channels,); ``None`` for 0.

    The counts of a step function may be negative, so that nothing has to be raised for them.
    """
    return shift_of(relu) if population.breakpoints is None else None


def carried(population: IntegrateFire, relu: Rectifier, z: FloatArray) -> FloatArray:
    """Return what the spikes of a population should carry for the pre-activation ``z``, (rows, *shape).

    That is the source's own value, above :func:`raised_by`.
    """
    if isinstance(relu, Pointwise):
        return activation(relu, z)
    raised = raised_by(population, relu)
    if relu.scale is not None and raised is None:
        return levels(relu, z)
    if relu.shift is None or raised is not None:
        return activation(relu, z)
    return activation(relu, z) - per_channel(relu.shift, len(relu.shape))


def activation(relu: Rectifier, z: FloatArray) -> FloatArray:
    """Return the source's value for the pre-activation ``z``, (rows, *shape), above its shift.

    That is ``min(max(z + shift, 0), ceiling)``, the level where the source rounds to levels, or what a
    function gives. The clip of the conversion's own does not count.
    """
    if isinstance(relu, Pointwise):
        return np.asarray(np.moveaxis(relu.function(np.moveaxis(z, 1, 0)), 0, 1))
    rank = len(relu.shape)
    if relu.scale is not None:
        y = levels(relu, z).astype(np.float32)
        return y if relu.shift is None else y + per_channel(relu.shift, rank)
    a = np.maximum(z if relu.shift is None else z + per_channel(relu.shift, rank), np.float32(0))
    return a if relu.ceiling is None else np.minimum(a, per_channel(relu.ceiling, rank))


def levels(relu: Relu, z: FloatArray) -> FloatArray:
    """Return what a rectifier that rounds to levels gives for ``z``, (rows, *shape) float64."""
    if relu.scale is None:
        raise InternalError(f"{relu.name!r} rounds to no levels")
    whole = np.moveaxis(real_level(relu, np.moveaxis(z.astype(np.float32), 1, 0)), 0, 1)
    return whole * per_channel(relu.scale.astype(np.float64), len(relu.shape))


def maximum_of(graph: SnnGraph, source: AnnGraph, population: SnnNode) -> Window | None:
    """Return the window of the maximum that alone is read of a value raised for it; ``None`` elsewhere.

    What loses against others there is nothing that spikes should carry.

    Args:
        graph: the spiking network.
        source: the network that was lowered.
        population: of the spiking network.
    """
    readers = graph.consumers[population.name]
    relu = rectifier(source, population)
    if len(readers) != 1 or not isinstance(relu, Relu) or relu.shift is None or relu.scale is not None:
        return None
    return readers[0].window if isinstance(readers[0], CountMaxPool) else None


def pre_activation(
    calibration: Calibration, source: AnnGraph, population: SnnNode, ahead: Sequence[SnnNode] = ()
) -> RowArray:
    """Return the input of a population's rectifier on all calibration rows, (rows, *shape).

    Of many rows it lies on disk: take slices of it.

    Args:
        calibration: the rows.
        source: the network that was lowered.
        population: one of the spiking network's.
        ahead: populations that will be asked for next.
    """
    names = [rectifier(source, node).inputs[0] for node in (population, *ahead)]
    return calibration.stored(source, names[0], names[1:])
