"""Rows for a network of several inputs: one array for each, with the same number of rows.

Where a network has one input, its rows are an array. So what takes any rows is typed :data:`Rows`, and cuts
chunks out of them alike: ``rows[start:stop]`` and ``len(rows)`` mean rows in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError
from snnc.ir.graph import NumberArray


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of several inputs, or of several outputs.

    Attributes:
        arrays: (rows, *shape) by name, in the network's order.
    """

    arrays: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        """Refuse arrays of different numbers of rows.

        Raises:
            InputError: naming them.
        """
        sizes = {name: len(array) for name, array in self.arrays.items()}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{name!r} has {count}" for name, count in sizes.items())
            raise InputError(f"the inputs have different numbers of rows: {listed}")

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, rows: Any) -> Batch:
        """Return some of the rows: a slice, or indices or a mask of them."""
        return Batch({name: array[rows] for name, array in self.arrays.items()})

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over single rows."""
        return (self[index : index + 1] for index in range(len(self)))


Rows: TypeAlias = Any
"""Rows of a network: (rows, *shape), or a :class:`Batch` where it has several inputs.

No union: what is written for one input takes an array, and a network of several never comes there, since
:attr:`snnc.ir.graph.Graph.input` refuses it.
"""

Given: TypeAlias = Any
"""What callers may give: one array for the one input, else one by name, or all in the network's order."""


def arrays_by_name(given: Given, names: Sequence[str], network: str) -> dict[str, NumberArray]:
    """Return the rows of every input by its name, in the network's order.

    Args:
        given: what a caller gives.
        names: of the network's inputs, in order.
        network: what the network is called, for messages.

    Raises:
        InputError: an input is missing or unknown, or their numbers of rows differ.
    """
    if isinstance(given, Batch):
        given = given.arrays
    if isinstance(given, Mapping):
        check_names(given, names, network)
        found = {name: np.asarray(given[name]) for name in names}
    elif len(names) == 1:
        found = {names[0]: np.asarray(given)}
    elif isinstance(given, tuple | list) and len(given) == len(names):
        found = {name: np.asarray(array) for name, array in zip(names, given, strict=True)}
    else:
        what = f"{len(given)} arrays were" if isinstance(given, tuple | list) else "one array was"
        raise InputError(
            f"{network} has {len(names)} inputs, and {what} given; give one for each: {_listed(names)}"
        )
    Batch(found)  # refuses different numbers of rows
    return found


def check_names(given: Mapping[str, Any], names: Sequence[str], network: str) -> None:
    """Refuse names that are no inputs, and inputs without an array.

    Raises:
        InputError: there are some.
    """
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InputError(f"{network} has no input {unknown[0]!r}; its inputs: {_listed(names)}")
    missing = [name for name in names if name not in given]
    if missing:
        raise InputError(f"the input {missing[0]!r} of {network} is missing; its inputs: {_listed(names)}")


def joined(arrays: Mapping[str, NDArray[Any]]) -> Rows:
    """Return arrays by name as :data:`Rows`: the array itself where there is one."""
    return next(iter(arrays.values())) if len(arrays) == 1 else Batch(arrays)


def flat(rows: Rows) -> NDArray[Any]:
    """Return everything about a row of several inputs in one, (rows, values); one array as it is."""
    if not isinstance(rows, Batch):
        found: NDArray[Any] = rows
        return found
    return np.concatenate([array.reshape(len(array), -1) for array in rows.arrays.values()], axis=1)


def rows_of(rows: Rows, name: str) -> NDArray[Any]:
    """Return the rows of one input."""
    found: Any = rows.arrays[name] if isinstance(rows, Batch) else rows
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
