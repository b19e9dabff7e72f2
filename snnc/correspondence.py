"""Which rectifier of the source network a population stands for, and what it computes there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.calibration import Calibration
from snnc.errors import InternalError
from snnc.ir.ann import AnnGraph, Relu
from snnc.ir.graph import FloatArray
from snnc.spill import RowArray


def rectifier(source: AnnGraph, population: str) -> Relu:
    """Return the rectifier that a population stands for; a fine population shares its coarse one's.

    Args:
        source: the network that was lowered.
        population: name of a population, which is its rectifier's, or that with a suffix.
    """
    rectifiers = {node.name: node for node in source.of_type(Relu)}
    node = rectifiers.get(population) or rectifiers.get(population.rpartition(".")[0])
    if node is None:
        raise InternalError(f"the population {population!r} stands for no rectifier of the source network")
    return node


def activation(relu: Relu, z: FloatArray) -> FloatArray:
    """Return what spikes should carry for the pre-activation ``z``, (rows, *shape).

    That is ``min(max(z + shift, 0), ceiling)``, without the clip of the conversion's own.
    """
    shape = (1, -1, *(1,) * (z.ndim - 2))
    a = np.maximum(z if relu.shift is None else z + relu.shift.reshape(shape), np.float32(0))
    return a if relu.ceiling is None else np.minimum(a, relu.ceiling.reshape(shape))


def pre_activation(
    calibration: Calibration, source: AnnGraph, population: str, ahead: Sequence[str] = ()
) -> RowArray:
    """Return the input of a population's rectifier on all calibration rows, (rows, *shape).

    Of many rows it lies on disk: take slices of it.

    Args:
        calibration: the rows.
        source: the network that was lowered.
        population: name of the population.
        ahead: populations that will be asked for next.
    """
    names = [rectifier(source, name).inputs[0] for name in (population, *ahead)]
    return calibration.stored(source, names[0], names[1:])
