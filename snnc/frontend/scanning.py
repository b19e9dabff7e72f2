"""What a Scan goes through: which inputs, along which axes, in which direction, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import onnx
from onnx import helper

from snnc.diagnostics import UNSUPPORTED_ATTRIBUTE
from snnc.frontend.refusals import refuse
from snnc.frontend.simplify import label
from snnc.ir.graph import Shape


@dataclass(frozen=True, slots=True)
class Way:
    """How a tensor is gone through, or made.

    Attributes:
        axis: along which.
        is_reversed: whether from its end.
    """

    axis: int
    is_reversed: bool


@dataclass(frozen=True, slots=True)
class Scan:
    """A Scan whose length is known.

    Attributes:
        body: what is done each time.
        states: how many inputs are states; the others are gone through.
        takes: of each input that is gone through.
        gives: of each output that is collected.
        trips: how often.
    """

    body: onnx.GraphProto
    states: int
    takes: tuple[Way, ...]
    gives: tuple[Way, ...]
    trips: int

    def place(self, way: Way, trip: int) -> int:
        """Return the entry that a trip reads."""
        return self.trips - 1 - trip if way.is_reversed else trip


def scan_of(node: onnx.NodeProto, shapes: Sequence[Shape | None]) -> Scan | None:
    """Return what a Scan (of opset 9 or newer) does; ``None`` where the shapes of its inputs are not known.

    Args:
        node: the Scan.
        shapes: of its inputs.

    Raises:
        RefusalError: its body, axes or lengths do not fit.
    """
    given: dict[str, Any] = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    body, count = given.get("body"), given.get("num_scan_inputs")
    if not isinstance(body, onnx.GraphProto) or not isinstance(count, int) or count < 1:
        _refuse(node, "its body or its number of inputs is missing")
    states, collected = len(shapes) - count, len(node.output) - (len(shapes) - count)
    if min(states, collected) < 0:
        _refuse(node, "its inputs do not fit it")
    if len(body.input) != len(shapes) or len(body.output) != len(node.output):
        _refuse(node, "its body does not fit it")
    read = [shape for shape in shapes[states:] if shape is not None]
    if len(read) < count or None in shapes:
        return None
    takes = _ways(node, given, "input", count, [len(shape) for shape in read])
    gives = _ways(node, given, "output", collected, None)
    lengths = {shape[way.axis] for shape, way in zip(read, takes, strict=True)}
    if len(lengths) != 1:
        _refuse(node, f"its inputs differ in length: {sorted(lengths)}")
    return Scan(body, states, takes, gives, lengths.pop())


def _ways(
    node: onnx.NodeProto, given: dict[str, Any], side: str, count: int, ranks: Sequence[int] | None
) -> tuple[Way, ...]:
    axes = list(given.get(f"scan_{side}_axes") or [0] * count)
    back = list(given.get(f"scan_{side}_directions") or [0] * count)
    if not all(isinstance(each, int) for each in (*axes, *back)):
        _refuse(node, f"the axes of its {side}s are no integers")
    if len(axes) != count or len(back) != count:
        _refuse(node, f"its {side}s are {count}, and it tells of {len(axes)} axes")
    if ranks is None and (behind := min(axes, default=0)) < 0:
        _refuse(node, f"the axis {behind} of an output is counted from the end")
    for place, rank in enumerate(ranks or ()):
        if not -rank <= axes[place] < rank:
            _refuse(node, f"the axis {axes[place]} does not fit the rank {rank}")
        axes[place] %= rank
    return tuple(Way(axis, bool(turned)) for axis, turned in zip(axes, back, strict=True))


def _refuse(node: onnx.NodeProto, message: str) -> NoReturn:
    refuse(UNSUPPORTED_ATTRIBUTE, label(node), f"Scan: {message}", "export the model again")
