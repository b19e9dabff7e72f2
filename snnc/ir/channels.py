"""Broadcasting of one number per channel over arrays with channels."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from numpy.typing import NDArray

Array = TypeVar("Array", bound=NDArray[Any])


def per_channel(values: Array, ndim: int) -> Array:
    """Shape a (channels,) vector so that it broadcasts over arrays whose first axis is the channels.

    Args:
        values: one number per channel.
        ndim: axes of such an array. A batch axis before them does not count: broadcasting adds it.

    Returns:
        A view, (channels, 1, ..., 1) of ``ndim`` axes.
    """
    return cast(Array, values.reshape(-1, *(1,) * (ndim - 1)))
