"""Maps that say of every place which class it is of, or yes or no: segmentations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.errors import InputError, UsageError
from snnc.ir.graph import IntArray, NumberArray, Shape
from snnc.metrics.task import Task, require_classes


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """What the places of a map are, and the labels that belong to them.

    Attributes:
        shape: of the map of one row.
        axis: of the shape, along which the classes lie; ``None`` where every value is a yes or no of its own.
        labels: (n, places) int64, in the order of the other axes; ``None`` without.
    """

    shape: Shape
    axis: int | None
    labels: IntArray | None

    def decisions(self, answers: NumberArray, threshold: float) -> IntArray:
        """Return the class of every place, (n, places): the arg max, the lowest index winning a tie, or yes.

        Args:
            answers: (n, values), flat.
            threshold: above which a value says yes.
        """
        if self.axis is None:
            return (answers > threshold).astype(np.int64)
        maps = answers.reshape(-1, *self.shape)
        return maps.argmax(axis=self.axis + 1).reshape(len(maps), -1).astype(np.int64)


def places_of(
    name: str, shape: Shape, rows: int, labels: NumberArray | None, ends: str, task: Task | None
) -> Places | None:
    """Return what the places of a map are; ``None`` where the map holds numbers.

    Which axis holds the classes is told by labels, one for each place. Whole numbers in the shape of the map
    itself are classes where it ends with a sigmoid and they are 0 and 1.

    Args:
        name: of the output, for messages; empty for the one.
        shape: of the map of one row.
        rows: how many there are.
        labels: (rows, ...), if known.
        ends: the ONNX operator that it ends with, where that is an activation.
        task: what the user says.

    Raises:
        InputError: the labels fit no axis, or several, or name no class.
        UsageError: without labels it is not known which axis holds the classes.
    """
    which = f"the output {name!r}: " if name else ""
    sizes = " x ".join(map(str, shape))
    whole = labels is not None and labels.dtype.kind in "bui"
    if task is Task.REGRESSION or (task is None and not whole):
        return None
    if labels is None:
        if task is Task.BINARY:
            return Places(shape, None, None)
        raise UsageError(
            f"{which}--task classes: which axis of the map of {sizes} holds the classes is told by labels: "
            "give one class number for each place"
        )
    if len(labels) != rows:
        raise InputError(f"{which}there are {rows} rows, but {len(labels)} labels")
    long = _long(shape)
    own = _long(labels.shape[1:]) == long or labels.shape[1:] == (int(np.prod(shape)),)
    if own and task is None and not (ends == "Sigmoid" and np.isin(labels, (0, 1)).all()):
        return None
    if own and task is not Task.CLASSES:
        return Places(shape, None, _classes(labels, rows, 2, which))
    axes = [
        axis
        for axis, size in enumerate(shape)
        if size > 1 and _long(shape[:axis] + shape[axis + 1 :]) == _long(labels.shape[1:])
    ]
    if task is Task.BINARY or not axes:
        if task is None:
            return None
        raise InputError(
            f"{which}labels of shape {labels.shape} do not fit a map of {sizes}: give one class number for "
            "each place"
        )
    if len(axes) > 1:
        raise InputError(
            f"{which}labels of shape {labels.shape} fit a map of {sizes} whose classes lie along any of its "
            f"axes {', '.join(map(str, axes))}: which is meant cannot be told; crop the maps to other sizes"
        )
    return Places(shape, axes[0], _classes(labels, rows, shape[axes[0]], which))


def _classes(labels: NumberArray, rows: int, classes: int, which: str) -> IntArray:
    flat = labels.reshape(rows, -1)
    if flat.dtype.kind == "f" and not np.equal(flat, np.rint(flat)).all():
        raise InputError(f"{which}the labels hold fractions: give one class number for each place")
    try:
        require_classes(flat, classes)
    except InputError as error:
        raise InputError(f"{which}{error}") from None
    return flat.astype(np.int64)


def _long(shape: Shape) -> Shape:
    return tuple(size for size in shape if size > 1)
