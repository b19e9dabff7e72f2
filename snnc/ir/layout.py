"""The maps between the caller's arrays and a network's canonical, channels-first inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError
from snnc.ir.graph import Shape


@dataclass(frozen=True, slots=True)
class InputLayout:
    """A reshape, then a permutation of axes, of every sample: of an input, or of an output backwards.

    Attributes:
        source_shape: shape of one sample as the source network takes or gives it, without the batch.
        grid: the same values, row by row, in the shape whose axes are permuted.
        axes: the axis of ``grid`` that each canonical axis is.
    """

    source_shape: Shape
    grid: Shape
    axes: tuple[int, ...]

    @classmethod
    def plain(cls, source_shape: Shape, shape: Shape) -> InputLayout:
        """Return the layout that only reshapes."""
        return cls(source_shape, shape, tuple(range(len(shape))))

    @property
    def shape(self) -> Shape:
        """Canonical shape of one sample: ``(channels, height, width)`` or ``(features,)``."""
        return tuple(self.grid[axis] for axis in self.axes)

    @property
    def index(self) -> NDArray[np.int64]:
        """For each canonical position, (*shape,), the flat position in the source's sample."""
        return np.arange(math.prod(self.grid)).reshape(self.grid).transpose(self.axes)

    def to_canonical(self, x: NDArray[Any]) -> NDArray[Any]:
        """Bring a batch into the canonical layout.

        Args:
            x: (batch, *source_shape), any dtype.

        Returns:
            (batch, *shape), of the same dtype.

        Raises:
            InputError: ``x`` has another shape.
        """
        if x.shape[1:] != self.source_shape:
            wanted = ", ".join(map(str, ("batch", *self.source_shape)))
            raise InputError(f"the network takes arrays of shape ({wanted}), not {x.shape}")
        grid = x.reshape(len(x), *self.grid)
        return np.ascontiguousarray(grid.transpose(0, *(axis + 1 for axis in self.axes)))

    def to_source(self, x: NDArray[Any]) -> NDArray[Any]:
        """Bring a canonical batch, (batch, *shape), into the source's layout, (batch, *source_shape)."""
        back = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        grid = x.reshape(len(x), *self.shape).transpose(0, *(axis + 1 for axis in back))
        return np.ascontiguousarray(grid).reshape(len(x), *self.source_shape)

    @property
    def moves(self) -> bool:
        """Whether any value changes its place, row by row."""
        return list(self.axes) != sorted(self.axes)

    def as_dict(self) -> dict[str, list[int]]:
        """Return the JSON form."""
        return {"source_shape": list(self.source_shape), "grid": list(self.grid), "axes": list(self.axes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InputLayout:
        """Read the JSON form.

        Raises:
            InputError: keys are missing, or the sizes contradict each other.
        """
        try:
            fields = (tuple(map(int, values[key])) for key in ("source_shape", "grid", "axes"))
            layout = cls(*fields)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the input layout {values!r} is not complete") from error
        same_size = math.prod(layout.source_shape) == math.prod(layout.grid)
        if not same_size or sorted(layout.axes) != list(range(len(layout.grid))):
            raise InputError(f"the input layout {values!r} contradicts itself")
        return layout
