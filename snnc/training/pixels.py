"""Labelled images as a network is trained on: pixels from 0 to 255, channels first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.errors import InputError
from snnc.ir.graph import IntArray, NumberArray

CHANNELS = (1, 3)

PIXELS = 255
"""Largest value of a pixel."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """Images and their classes.

    Attributes:
        x: (n, channels, height, width) uint8.
        y: (n,) int64.
        classes: number of classes.
        name: what the images are called in messages.
    """

    x: NumberArray
    y: IntArray
    classes: int
    name: str

    @classmethod
    def of(cls, x: Any, y: Any, name: str) -> Pixels:
        """Return labelled images.

        Args:
            x: (n, height, width), (n, height, width, channels) or (n, channels, height, width), uint8.
            y: (n,) classes from 0.
            name: what the images are called in messages.

        Raises:
            InputError: they are something else.
        """
        if not isinstance(x, np.ndarray) or x.dtype != np.uint8:
            found = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise InputError(
                f"{name} is {found}; training takes images of uint8 pixels, 0 to 255, as they are stored"
            )
        if y is None:
            raise InputError(f"{name} comes without labels: training needs a class for each image, `y`")
        classes = np.asarray(y)
        if classes.shape != (len(x),) or classes.dtype.kind not in "bui":
            raise InputError(
                f"the labels of {name} are {classes.dtype} of shape {classes.shape}; give one class number "
                f"per image, integers of shape ({len(x)},)"
            )
        if len(x) and (classes.min() < 0 or classes.max() < 1):
            raise InputError(f"the labels of {name} hold {classes.min()} to {classes.max()}; give 0, 1, ...")
        return cls(_channels_first(x, name), classes.astype(np.int64), int(classes.max()) + 1, name)


def _channels_first(x: NumberArray, name: str) -> NumberArray:
    if x.ndim == 3:
        return np.ascontiguousarray(x[:, None])
    if x.ndim != 4:
        raise InputError(f"{name} of shape {x.shape} holds no images: give (n, height, width, channels)")
    first, last = x.shape[1] in CHANNELS, x.shape[3] in CHANNELS
    if first == last:
        raise InputError(
            f"{name} of shape {x.shape} does not tell where its channels are: give 1 or 3 of them, first or "
            "last"
        )
    return np.ascontiguousarray(x if first else x.transpose(0, 3, 1, 2))


def is_channels_last(x: Any) -> bool:
    """Whether images have their channels behind their places, as pictures do."""
    return isinstance(x, np.ndarray) and x.ndim == 4 and x.shape[3] in CHANNELS and x.shape[1] not in CHANNELS
