"""From raw rows, such as uint8 images, to what a source network takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np

from snnc.errors import InputError
from snnc.ir.graph import FloatArray, NumberArray, Shape

KEYS = ("divide", "mean", "std", "layout", "transpose_hw")

LARGEST = float(np.finfo(np.float32).max)
"""Largest number that float32 holds."""

LARGEST_INPUT = 2.0**48
"""Largest input of a network: sums of squares of what its layers make of it still fit float32."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """``(x / divide - mean) / std``, then the layout that the network takes.

    Attributes:
        divide: 255 for bytes.
        mean, std: one value, or one per channel.
        layout: ``NCHW`` or ``NHWC``.
        transpose_hw: whether height and width are exchanged.
    """

    divide: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "NCHW"
    transpose_hw: bool = False

    def apply(self, x: NumberArray, shape: Shape | None = None) -> FloatArray:
        """Prepare raw rows, channels last: (n, height, width) or (n, height, width, channels).

        Rows of another rank, such as feature vectors, are scaled and keep their shape.

        Args:
            x: (n, ...) rows.
            shape: of one row as the network takes it, if known: rows are flattened for a network of
                features, and axes of size 1 are added or left out.

        Raises:
            InputError: the channels do not fit mean and standard deviation, or a result is out of range.
        """
        if x.dtype.kind not in "uif":
            raise InputError(f"rows of type {x.dtype} cannot be preprocessed; give numbers")
        with np.errstate(all="ignore"):  # what overflows is told in one line
            prepared = self._prepare(x)
        if (row := row_out_of_range(prepared)) is not None:
            raise InputError(
                f"row {row} is NaN or beyond {LARGEST_INPUT:.0e} after the preprocessing: check both"
            )
        if shape is None or prod(prepared.shape[1:]) != prod(shape):
            return prepared
        axes = _without_ones(shape)
        fits = len(axes) < 2 or axes == _without_ones(prepared.shape[1:])
        return prepared.reshape(len(prepared), *shape) if fits else prepared

    def _prepare(self, x: NumberArray) -> FloatArray:
        scaled = x.astype(np.float32) / np.float32(self.divide)
        if scaled.ndim not in (3, 4):
            for label, values in (("mean", self.mean), ("std", self.std)):
                if len(values) > 1:
                    raise InputError(
                        f"{label} has {len(values)} values, but rows of shape {x.shape} have no channels; "
                        "give one value, or raw images, (n, height, width[, channels])"
                    )
            return (scaled - np.float32(self.mean[0])) / np.float32(self.std[0])
        images = scaled[..., None] if scaled.ndim == 3 else scaled
        for label, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, images.shape[-1]):
                raise InputError(
                    f"{label} has {len(values)} values, but rows of shape {x.shape} have {images.shape[-1]} "
                    "channels; raw images are (n, height, width[, channels])"
                )
        mean, std = (np.array(values).astype(np.float32) for values in (self.mean, self.std))
        images = (images - mean) / std
        if self.transpose_hw:
            images = images.swapaxes(1, 2)
        return images if self.layout == "NHWC" else images.transpose(0, 3, 1, 2)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "divide": self.divide,
            "mean": list(self.mean),
            "std": list(self.std),
            "layout": self.layout,
            "transpose_hw": self.transpose_hw,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON form.

        Raises:
            InputError: no mapping, an unknown key, or a value of the wrong kind.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"the preprocessing is {values!r}, not an object with keys")
        unknown = sorted(set(values) - set(KEYS))
        if unknown:
            raise InputError(f"unknown preprocessing keys {', '.join(unknown)}; known: {', '.join(KEYS)}")
        divide, mean, std = values.get("divide", 1.0), values.get("mean", 0.0), values.get("std", 1.0)
        layout, transpose_hw = values.get("layout", "NCHW"), values.get("transpose_hw", False)
        if not _is_number(divide):
            raise InputError(f"`divide` is {divide!r}; give a finite number")
        for name, value in (("mean", mean), ("std", std)):
            if not _many(value) or not all(map(_is_number, _many(value))):
                raise InputError(f"`{name}` is {value!r}; give a finite number, or one per channel")
        for name, value in (("divide", divide), ("std", std)):
            if not all(np.float32(item) for item in _many(value)):
                raise InputError(f"`{name}` is {value!r}, and nothing can be divided by it in float32")
        if layout not in ("NCHW", "NHWC"):
            raise InputError(f"`layout` is {layout!r}; it must be NCHW or NHWC")
        if not isinstance(transpose_hw, bool):
            raise InputError(f"`transpose_hw` is {transpose_hw!r}; it must be true or false")
        return cls(
            float(divide), tuple(map(float, _many(mean))), tuple(map(float, _many(std))), layout, transpose_hw
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a JSON file.

        Raises:
            InputError: the file is missing or holds something else.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise InputError(f"cannot read the preprocessing {path}: {error.strerror}") from None
        except (RecursionError, ValueError) as error:
            raise InputError(f"the preprocessing {path} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise InputError(
                f"the preprocessing {path} must be a JSON object with the keys {', '.join(KEYS)}"
            )
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"the preprocessing {path}: {error}") from None


def row_out_of_range(x: NumberArray) -> int | None:
    """Return the first row that holds NaN or what is too large for any network; ``None`` if all are fine."""
    fits = np.abs(x) <= LARGEST_INPUT
    return None if fits.all() else int(np.argmin(fits.reshape(len(x), -1).all(axis=1)))


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def _many(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _is_number(value: Any) -> bool:
    """Say whether float32 holds a value; true and false are no numbers, and NaN is within no bound."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
