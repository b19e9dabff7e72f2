"""One ONNX operation with its operands, as the functions of the operator table receive it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import onnx
from onnx import helper

from snnc.diagnostics import DYNAMIC_SHAPE, UNSUPPORTED_ATTRIBUTE, UNSUPPORTED_STRUCTURE, Code
from snnc.frontend.builder import GraphBuilder
from snnc.frontend.quantised.codes import Codes
from snnc.frontend.refusals import finite, refuse
from snnc.frontend.simplify import Constant, label
from snnc.frontend.views import Index, View
from snnc.ir.graph import FloatArray, Shape

HUGE = 1e30
"""A number beyond this is infinity: exporters write the largest float for it."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """On which side of a constant activations lie; on either where they are equal.

    Attributes:
        view: the activations.
        bound: the constant, of a shape that broadcasts.
        is_above: whether the tensor is true above it; false: below it.
    """

    view: View
    bound: Constant
    is_above: bool


@dataclass(frozen=True, slots=True)
class Limited:
    """Activations below a limit, before the rectifier without which that has no spiking form.

    Attributes:
        view: the activations as they are.
        bound: the limit, at least 0, of a shape that broadcasts.
    """

    view: View
    bound: Constant


Value = View | Constant | Comparison | Limited
"""What an ONNX tensor is while a model is read: a view of a node, a constant, or what only Where reads."""


def _in_front(name: str, axis: int, rank: int) -> bool:
    """Say where the rows lie of a tensor of which nothing is known."""
    return axis == 0


@dataclass(frozen=True, slots=True)
class Call:
    """An operation on at least one tensor that depends on the network's input.

    Attributes:
        proto: the ONNX node.
        opset: version of its operator set.
        operands: its inputs, in order; ``None`` for one that is left out.
        builder: the network in the making.
        batch: the batch size that the file fixes; ``None`` if it is free.
        readers: the nodes that read each output, in order; the network's own output is a ``None``.
        whole: whether it computes in integers, because the network takes integers and no Cast precedes it.
        codes: what the integers of each input stand for; ``None`` where it is not quantised.
        scales: for each input the numbers, one per element, of which its elements are integer multiples;
            ``None`` where nothing says so.
        softmax_scale: the least factor by which softmaxes scale the first output; 0 where others read it.
        rows_along: as :meth:`snnc.frontend.batch.Rows.may_lie_along`.
    """

    proto: onnx.NodeProto
    opset: int
    operands: tuple[Value | None, ...]
    builder: GraphBuilder
    batch: int | None
    readers: tuple[tuple[onnx.NodeProto | None, ...], ...]
    whole: bool = False
    codes: tuple[Codes | None, ...] = ()
    scales: tuple[FloatArray | None, ...] = ()
    softmax_scale: float = 0.0
    rows_along: Callable[[str, int, int], bool] = _in_front

    @property
    def origin(self) -> str:
        """What the node is called in messages."""
        return label(self.proto)

    @property
    def name(self) -> str:
        """What the node is called in the network: its own name, or one made of operator and output."""
        return self.proto.name or f"{self.proto.op_type}_{self.origin}"

    def refuse(self, message: str, cure: str, code: Code = UNSUPPORTED_ATTRIBUTE) -> NoReturn:
        """Stop reading this operation.

        Raises:
            RefusalError: always.
        """
        refuse(code, self.origin, f"{self.proto.op_type}: {message}", cure)

    def attribute(self, name: str) -> Any:
        """Return an attribute's value, or ``None`` if it is not given."""
        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return value.decode(errors="replace") if isinstance(value, bytes) else value
        return None

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        value = self.attribute(name)
        return default if value is None else int(value)

    def number(self, name: str, default: float) -> float:
        """Return a float attribute."""
        value = self.attribute(name)
        return default if value is None else float(value)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return a list of integers, or ``None`` if it is not given."""
        value = self.attribute(name)
        return None if value is None else tuple(map(int, value))

    def code(self, position: int) -> Codes | None:
        """Return what the integers of an input stand for; ``None`` where it is not quantised."""
        return self.codes[position] if position < len(self.codes) else None

    def row_scale(self, position: int, axis: int) -> FloatArray | None:
        """Return of what weights are integer multiples, one number along ``axis``; ``None`` if unknown."""
        scales = self.scales[position] if position < len(self.scales) else None
        if scales is None:
            return None
        rows = np.moveaxis(scales, axis, 0).reshape(scales.shape[axis], -1)
        return rows[:, 0].copy() if (rows == rows[:, :1]).all() else None

    def has(self, position: int) -> bool:
        """Say whether an optional input is given."""
        return position < len(self.operands) and self.operands[position] is not None

    def view(self, position: int = 0) -> View:
        """Return an input that depends on the network's input.

        Raises:
            RefusalError: it is a constant.
        """
        value = self.operands[position] if self.has(position) else None
        if not isinstance(value, View):
            self.refuse(
                "applies weights that depend on the network's input to a constant",
                "exchange the inputs, so that the weights are constant",
                UNSUPPORTED_STRUCTURE,
            )
        return value

    def constant(self, position: int, what: str) -> Constant:
        """Return an input that must be constant.

        Raises:
            RefusalError: it depends on the network's input.
        """
        value = self.operands[position] if self.has(position) else None
        if value is None:
            self.refuse(f"the {what} is missing", "export the model again")
        if not isinstance(value, np.ndarray):
            self.refuse(
                f"the {what} is computed from the network's input",
                f"make the {what} a constant: use layers with fixed weights only",
                UNSUPPORTED_STRUCTURE,
            )
        return value

    def scalar(self, position: int, what: str, default: float) -> float:
        """Return an input that must be one constant number, or ``default`` if it is not given.

        Raises:
            RefusalError: it depends on the network's input, or is not one number.
        """
        if not self.has(position):
            return default
        value = np.ravel(self.constant(position, what))
        if value.size != 1:
            self.refuse(f"the {what} is not one number", "export the model again")
        return float(value[0])

    def weights(self, position: int, what: str) -> FloatArray:
        """Return constant, finite weights.

        Raises:
            RefusalError: they depend on the network's input, or hold NaN or infinity.
        """
        return finite(self.constant(position, what), self.origin, what)

    def sizes(self, attribute: str, position: int, since: int) -> tuple[int, ...] | None:
        """Return integers that were an attribute before opset ``since``, and an input from then on.

        Raises:
            RefusalError: they depend on the network's input.
        """
        if self.opset < since:
            return self.integers(attribute)
        if not self.has(position):
            return None
        value = self.operands[position]
        if not isinstance(value, np.ndarray):
            self.refuse(
                f"its {attribute} depend on the network's input",
                "export the model with fixed shapes",
                DYNAMIC_SHAPE,
            )
        numbers = np.ravel(np.asarray(value))
        if numbers.dtype.kind not in "biuf" or not np.isfinite(numbers).all():
            self.refuse(f"its {attribute} are no whole numbers", "export the model again")
        return tuple(int(n) for n in numbers)

    def axis(self, axis: int, rank: int) -> int:
        """Count an axis from the front.

        Raises:
            RefusalError: there is no such axis.
        """
        if not -rank <= axis < rank:
            self.refuse(f"the axis {axis} does not fit the rank {rank}", "export the model again")
        return axis % rank

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        """Count axes from the front.

        Raises:
            RefusalError: there is no such axis, or one is named twice.
        """
        found = tuple(self.axis(axis, rank) for axis in axes)
        if len(set(found)) < len(found):
            self.refuse(f"names an axis twice: {tuple(axes)}", "export the model again")
        return found

    def may_be_batch(self, axis: int) -> bool:
        """Say whether an axis of the first input may be the batch, which has the length 1 here."""
        shape = self.view().shape
        if self.batch == 1 or shape[axis] != 1:
            return False
        return self.rows_along(self.proto.input[0], axis, len(shape))

    def only_output(self) -> None:
        """Refuse a second output that something reads: indices, masks, training statistics.

        Raises:
            RefusalError: it is read.
        """
        for name, readers in zip(self.proto.output[1:], self.readers[1:], strict=True):
            if readers:
                self.refuse(f"its additional output {name!r} is used", "use only the first output")

    def same_node(self, view: View, index: Index) -> View:
        """Return the values of ``view`` seen through another map."""
        return view.to(index, self.origin)

    def reshaped(self, view: View, shape: Shape) -> View:
        """Return the values of ``view`` in another shape.

        Raises:
            RefusalError: the number of values differs.
        """
        try:
            return view.to(view.index.reshape(shape), self.origin)
        except ValueError:
            self.refuse(
                f"{view.shape} cannot be reshaped to {shape} at batch size 1",
                "export the model with a free batch size, or with batch size 1",
            )
