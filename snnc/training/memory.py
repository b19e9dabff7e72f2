"""Batches that do not fit memory: which one does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from snnc.errors import UsageError
from snnc.training.plan import Speed
from snnc.training.recipe import Recipe


def fitting(recipe: Recipe, timed: Callable[[Recipe], Speed]) -> Speed:
    """Return what a recipe's batch takes, and refuse one that does not fit memory.

    Raises:
        UsageError: naming the largest half, quarter, ... of the batch that fits.
    """
    size, found = recipe.batch, None
    while found is None:
        try:
            found = timed(replace(recipe, batch=size))
        except (MemoryError, RuntimeError) as error:
            if not is_of_memory(error) or size < 4:
                raise
            size //= 2
    if size < recipe.batch:
        raise UsageError(
            f"a batch of {recipe.batch} rows does not fit memory, {size} do: give --batch {size}"
        )
    return found


@contextmanager
def within_memory(batch: int) -> Iterator[None]:
    """Tell a user whose memory ends in the middle of a stage what to give instead.

    Args:
        batch: rows per gradient.

    Raises:
        UsageError: memory ended.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_of_memory(error):
            raise
        raise UsageError(
            f"a batch of {batch} rows does not fit memory any more: give --batch {batch // 2}, and another "
            "folder by --checkpoints"
        ) from error


def is_of_memory(error: Exception) -> bool:
    """Whether memory was short; on a CPU torch raises no error of its own for it."""
    return isinstance(error, MemoryError) or "memory" in str(error).lower()
