"""What ordinary ONNX makes of a run of a spiking network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from snnc.errors import UsageError
from snnc.ir.graph import Shape

if TYPE_CHECKING:
    from snnc.simulation.protocol import Simulator, Trace


@dataclass(frozen=True, slots=True)
class Finish:
    """What ordinary ONNX makes of a run of a spiking network.

    Attributes:
        shapes: of the answer to one row, by the output's name.
        answers: from a run and its rows to (rows, *shape) of the source network's outputs, by name.
        uncounted: names of those that have another number of entries than rows, such as the boxes that are
            left of all.
        segments: number of the segment of each input, by its name; empty where all run at once.
        simulator: from what runs a network to what runs this one, with its islands.
    """

    shapes: Mapping[str, Shape]
    answers: Callable[[Trace, Any], Mapping[str, NDArray[Any]]]
    uncounted: tuple[str, ...] = ()
    segments: Mapping[str, int] = field(default_factory=dict)
    simulator: Callable[[Simulator], Simulator] = lambda simulator: simulator

    @property
    def size(self) -> int:
        """Values of the one answer.

        Raises:
            UsageError: there are several outputs.
        """
        return prod(self.shapes[self._name])

    def only(self, trace: Trace, x: Any) -> NDArray[Any]:
        """Return the one answer, flat, (rows, size).

        Raises:
            UsageError: there are several outputs.
        """
        found = self.answers(trace, x)[self._name]
        return found.reshape(len(found), -1)

    @property
    def _name(self) -> str:
        if len(self.shapes) != 1:
            names = ", ".join(map(repr, self.shapes))
            raise UsageError(f"there are {len(self.shapes)} outputs, {names}, and this takes one")
        return next(iter(self.shapes))
