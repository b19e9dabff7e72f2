"""From raw rows, such as uint8 images, to what a source network takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np

from snnc.errors import InputError
from snnc.ir.graph import FloatArray, NumberArray, Shape

KEYS = ("divide", "mean", "std", "layout", "transpose_hw")


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
            InputError: the channels do not fit mean and standard deviation.
        """
        if x.dtype.kind not in "uif":
            raise InputError(f"rows of type {x.dtype} cannot be preprocessed; give numbers")
        prepared = self._prepare(x)
        if shape is None or prod(prepared.shape[1:]) != prod(shape):
            return prepared
        axes = _without_ones(shape)
        fits = len(axes) < 2 or axes == _without_ones(prepared.shape[1:])
        return prepared.reshape(len(prepared), *shape) if fits else prepared

    def _prepare(self, x: NumberArray) -> FloatArray:
        scaled = x.astype(np.float32) / np.float32(self.divide)
        if scaled.ndim not in (3, 4):
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
        try:
            found = cls(
                divide=float(values.get("divide", 1.0)),
                mean=_numbers(values.get("mean", 0.0)),
                std=_numbers(values.get("std", 1.0)),
                layout=str(values.get("layout", "NCHW")),
                transpose_hw=bool(values.get("transpose_hw", False)),
            )
        except (OverflowError, TypeError, ValueError) as error:
            raise InputError(f"the preprocessing holds a value that is no number: {error}") from None
        if found.layout not in ("NCHW", "NHWC"):
            raise InputError(f"the preprocessing's layout is {found.layout!r}; it must be NCHW or NHWC")
        if not found.mean or not found.std:
            raise InputError("the preprocessing needs at least one value for `mean` and for `std`")
        if not np.isfinite((found.divide, *found.mean, *found.std)).all():
            raise InputError("the preprocessing holds NaN or infinity")
        if not found.divide or not all(found.std):
            raise InputError("the preprocessing divides by zero: `divide` and `std` must not be 0")
        return found

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a JSON file.

        Raises:
            InputError: the file is missing or holds something else.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the preprocessing {path}: {error.strerror}") from None
        except ValueError as error:
            raise InputError(f"the preprocessing {path} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise InputError(
                f"the preprocessing {path} must be a JSON object with the keys {', '.join(KEYS)}"
            )
        return cls.from_dict(values)


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(float(item) for item in (value if isinstance(value, list | tuple) else [value]))
