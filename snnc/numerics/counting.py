"""From operations on activations to functions of spike counts: which node, and what its counts stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InternalError
from snnc.ir import ann, snn
from snnc.ir.graph import Shape
from snnc.numerics.requantisation import (
    exponential_table,
    normaliser,
    requantiser,
    softmax_levels,
)

SAME = 1e-4
"""How far, relative, steps may lie from those that their factors give: float32 rounds them."""


@dataclass(frozen=True, slots=True)
class Operand:
    """Spikes of one unit whose silence stands for zero.

    Attributes:
        name: the node that sends them.
        shape: its shape.
        step: (channels,) float64, what one count stands for; negative where their sign was turned. One
            number for all, but of a product's factors.
        most: largest magnitude of the counts.
    """

    name: str
    shape: Shape
    step: NDArray[np.float64]
    most: int


@dataclass(frozen=True, slots=True)
class Counted:
    """A function of spike counts.

    Attributes:
        node: the function.
        step: (channels,) float64, what one of its counts stands for.
        most: largest magnitude of its counts.
    """

    node: snn.Function
    step: NDArray[np.float64]
    most: int


def counted(node: ann.Levelled, operands: Sequence[Operand], *, exact_step: bool = False) -> Counted:
    """Return the function of counts that an operation on activations becomes.

    Args:
        node: the operation, with levels.
        operands: what it reads.
        exact_step: whether a count must stand for the step that was chosen, because others share it; else
            for what the rounding of the integers makes of it.

    Raises:
        UnboundedError: its integers leave 64 bits.
    """
    place: dict[str, Any] = {
        "name": node.name,
        "inputs": tuple(operand.name for operand in operands),
        "shape": node.shape,
        "origin": node.origin,
    }
    first = operands[0]
    if isinstance(node, ann.Maximum):
        return Counted(
            snn.CountMaximum(axes=node.axes, **place), np.full(node.channels, first.step[0]), first.most
        )
    if node.step is None:
        raise InternalError(f"{node.name!r} has no levels")
    wanted = node.step.astype(np.float64)
    signs = np.broadcast_to(np.sign(_product(operands)), wanted.shape)
    if (signs != signs[0]).any():
        raise InternalError(f"{node.name!r} reads channels of either sign")
    sign = int(signs[0])
    ends = (node.lowest, node.highest) if sign > 0 else (-node.highest, -node.lowest)
    most = max(-node.lowest, node.highest)
    match node:
        case ann.Product() | ann.MatrixProduct():
            terms = first.shape[-1] if isinstance(node, ann.MatrixProduct) else 1
            unit = np.broadcast_to(np.abs(_product(operands)), wanted.shape)
            if np.ptp(unit / wanted) > SAME * (unit / wanted).max():
                raise InternalError(f"the steps of {node.name!r} are not in proportion to its factors'")
            largest = terms * math.prod(operand.most for operand in operands)
            found = requantiser(float(unit[0]), float(wanted[0]), largest)
            given: dict[str, Any] = {
                "multiplier": found.multiplier,
                "shift": found.shift,
                "lowest": ends[0],
                "highest": ends[1],
            }
            made: snn.Function
            if isinstance(node, ann.MatrixProduct):
                made = snn.CountMatrixProduct(transposed=node.transposed, **given, **place)
            else:
                made = snn.CountProduct(**given, **place)
            step = unit * (found.step / unit[0])
        case ann.Normalisation():
            size = math.prod(node.shape[axis] for axis in node.axes)
            chosen = normaliser(
                float(np.abs(first.step[0])),
                node.epsilon,
                float(wanted[0]),
                size,
                first.most,
                centred=node.centred,
            )
            made = snn.CountNormalisation(
                axes=node.axes,
                epsilon=chosen.epsilon,
                factor=chosen.factor,
                lowest=ends[0],
                highest=ends[1],
                centred=node.centred,
                **place,
            )
            step = np.full(node.channels, chosen.step)
        case ann.InnerSoftmax():
            levels = softmax_levels(float(wanted[0]))
            size = node.shape[node.axis]
            table = exponential_table(float(first.step[0]), 2 * first.most, size, levels)
            made = snn.CountSoftmax(axis=node.axis, table=table, levels=levels, **place)
            return Counted(made, np.full(node.channels, 1 / levels), levels)
        case _:
            raise InternalError(f"{type(node).__name__} is no function of counts")
    return Counted(made, sign * (wanted if exact_step else step), most)


def _product(operands: Sequence[Operand]) -> NDArray[np.float64]:
    """Return the product of the steps of operands, (channels,) or (1,)."""
    found = operands[0].step
    for operand in operands[1:]:
        found = found * operand.step
    return found
