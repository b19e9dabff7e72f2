"""From operations on activations to functions of spike counts: which node, and what its counts stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from snnc.errors import InternalError
from snnc.ir import ann, snn
from snnc.ir.graph import Shape
from snnc.numerics.requantisation import (
    exponential_table,
    normaliser,
    requantiser,
    softmax_levels,
)


@dataclass(frozen=True, slots=True)
class Operand:
    """Spikes of one unit whose silence stands for zero.

    Attributes:
        name: the node that sends them.
        shape: its shape.
        step: what one count stands for; negative where their sign was turned.
        most: largest magnitude of the counts.
    """

    name: str
    shape: Shape
    step: float
    most: int


@dataclass(frozen=True, slots=True)
class Counted:
    """A function of spike counts.

    Attributes:
        node: the function.
        step: what one of its counts stands for.
        most: largest magnitude of its counts.
    """

    node: snn.Function
    step: float
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
        return Counted(snn.CountMaximum(axes=node.axes, **place), first.step, first.most)
    if node.step is None:
        raise InternalError(f"{node.name!r} has no levels")
    wanted = float(node.step.max())
    sign = math.prod(math.copysign(1, operand.step) for operand in operands)
    ends = (node.lowest, node.highest) if sign > 0 else (-node.highest, -node.lowest)
    most = max(-node.lowest, node.highest)
    match node:
        case ann.Product() | ann.MatrixProduct():
            terms = first.shape[-1] if isinstance(node, ann.MatrixProduct) else 1
            unit = math.prod(abs(operand.step) for operand in operands)
            found = requantiser(unit, wanted, terms * math.prod(operand.most for operand in operands))
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
            step = found.step
        case ann.Normalisation():
            size = math.prod(node.shape[axis] for axis in node.axes)
            chosen = normaliser(abs(first.step), node.epsilon, wanted, size, first.most, centred=node.centred)
            made = snn.CountNormalisation(
                axes=node.axes,
                epsilon=chosen.epsilon,
                factor=chosen.factor,
                lowest=ends[0],
                highest=ends[1],
                centred=node.centred,
                **place,
            )
            step = chosen.step
        case ann.InnerSoftmax():
            levels = softmax_levels(wanted)
            table = exponential_table(first.step, 2 * first.most, node.shape[node.axis], levels)
            made = snn.CountSoftmax(axis=node.axis, table=table, levels=levels, **place)
            return Counted(made, 1 / levels, levels)
        case _:
            raise InternalError(f"{type(node).__name__} is no function of counts")
    return Counted(made, sign * (wanted if exact_step else step), most)
