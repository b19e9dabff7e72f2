"""The kind of a network's outputs: classes, one yes or no, or numbers; and how it is recognised.

A class is an arg max, and the arg max of one output is always 0: counting classes is meaningless there, and
for several numbers as well. So every measure first determines the kind of the outputs, in this order:

1. the user's ``--task``;
2. the artefact, which stores the decision of its conversion;
3. the labels: integers in range for several outputs are classes; 0 and 1 for one output are binary; floats in
   the shape of the output are numbers (``regression``);
4. the end of the source network: softmax over several outputs makes classes of them, sigmoid of one a binary
   answer.

Otherwise it is unknown: several outputs without softmax and without labels may be class scores or a forecast.
Then values and classes are both reported, and measures that have to choose, such as limits, are refused with
a hint to ``--task``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from snnc.errors import InputError, UsageError
from snnc.ir.graph import FloatArray, IntArray, NumberArray

if TYPE_CHECKING:
    from snnc.metrics.places import Places

SOFTMAXES = ("Softmax", "LogSoftmax")
SIGMOID = "Sigmoid"


class Task(Enum):
    """What outputs are; the value is its name on the command line and in the artefact."""

    CLASSES = "classes"
    BINARY = "binary"
    REGRESSION = "regression"


def as_task(value: object) -> Task | None:
    """Return a task, or the one of this name.

    Raises:
        UsageError: there is none of this name.
    """
    if value is None or isinstance(value, Task):
        return value
    known = {task.value: task for task in Task}
    if not isinstance(value, str) or value not in known:
        raise UsageError(f"unknown task {value!r}; known: {', '.join(known)}")
    return known[value]


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What the outputs of a network are, and the labels that belong to them.

    Attributes:
        task: ``None`` where it is not evident.
        reason: what told, in words.
        labels: (n,) int64 for classes and binary answers, (n, outputs) float64 for numbers; ``None`` without.
        size: how many outputs there are.
        is_map: whether they are places of a map, and not single numbers.
        places: of a map of which every place is of a class; its labels stand there, and not in ``labels``.
    """

    task: Task | None
    reason: str
    labels: NumberArray | None
    size: int
    is_map: bool = False
    places: Places | None = None

    @property
    def have_classes(self) -> bool:
        """Whether an answer of one class may be told: of classes, binary, and of what is not evident."""
        return self.task in (Task.CLASSES, Task.BINARY) or (self.task is None and self.size > 1)

    @property
    def classes(self) -> IntArray | None:
        """The labels where they name classes, (n,) int64."""
        return None if self.task is Task.REGRESSION or self.labels is None else self.labels.astype(np.int64)

    def require(self, what: str) -> Task:
        """Return the task, where something must choose by it.

        Args:
            what: that asks, for the message, such as ``--max-drop``.

        Raises:
            UsageError: it is not evident.
        """
        if self.task is None:
            raise UsageError(
                f"{what}: it is not evident whether the {described(self.size)} classes or numbers; say so by "
                f"--task {'binary' if self.size == 1 else 'classes'} or --task regression"
            )
        return self.task


def described(size: int) -> str:
    """Return how many outputs there are, in words with their verb."""
    return "one output means" if size == 1 else f"{size} outputs are"


def recognise(
    size: int,
    *,
    rows: int,
    labels: NumberArray | None = None,
    ends: str = "",
    given: Task | str | None = None,
    stored: Task | None = None,
) -> Outputs:
    """Find out what outputs are; see the head of this file.

    Args:
        size: how many outputs a row has.
        rows: how many rows there are.
        labels: (rows, ...), if known.
        ends: the ONNX operator that the source network ends with, where it is an activation.
        given: what the user says: a task or its name.
        stored: what the artefact remembers.

    Raises:
        InputError: the labels fit no task, or not this one.
        UsageError: the outputs cannot be what the user says.
    """
    labels = None if labels is None else _checked(labels, rows)
    if (said := as_task(given)) is not None:
        _require_size(said, size)
    task, reason = _told(size, labels, ends, said, stored)
    if labels is not None and task is not None:
        labels = _fitting(labels, task, size)
    return Outputs(task, reason, labels, size)


def _told(
    size: int, labels: NumberArray | None, ends: str, given: Task | None, stored: Task | None
) -> tuple[Task | None, str]:
    if given is not None:
        return given, "--task says so"
    if stored is not None:
        return stored, "the artefact remembers it"
    if labels is not None:
        return _of_labels(labels, size), "the labels tell"
    if ends in SOFTMAXES and size > 1:
        return Task.CLASSES, f"the source network ends with {ends}"
    if ends == SIGMOID and size == 1:
        return Task.BINARY, f"the source network ends with {ends}"
    return None, "unknown: no labels, and no softmax at the end of the source network"


def _require_size(task: Task, size: int) -> None:
    if task is Task.CLASSES and size == 1:
        raise UsageError(
            "--task classes: one output holds no classes; use --task binary or --task regression"
        )
    if task is Task.BINARY and size > 1:
        raise UsageError(f"--task binary: it takes one output, and there are {size}; use --task classes")


def _checked(labels: NumberArray, rows: int) -> NumberArray:
    if labels.dtype.kind not in "buif" or labels.ndim == 0:
        raise InputError(f"labels of type {labels.dtype} and shape {labels.shape}; give numbers, one per row")
    if len(labels) != rows:
        raise InputError(f"there are {rows} rows, but {len(labels)} labels")
    if not np.isfinite(labels).all():
        raise InputError("the labels `y` hold NaN or infinity: leave those rows out")
    return labels


def _of_labels(labels: NumberArray, size: int) -> Task:
    """Return what labels say that the outputs are.

    Raises:
        InputError: nothing fits.
    """
    per_row = labels.size // max(len(labels), 1)
    if size == 1 and per_row == 1:
        if np.isin(labels, (0, 1)).all():
            return Task.BINARY
        if labels.dtype.kind == "f":
            return Task.REGRESSION
        wrong = int(labels.max() if labels.max() > 1 else labels.min())
        raise InputError(
            f"the label {wrong} does not fit 1 output, whose classes are 0 and 1; check `y`, or say that it "
            "holds numbers, by --task regression"
        )
    if per_row == 1 and labels.dtype.kind in "bui":
        require_classes(labels.reshape(-1), size)
        return Task.CLASSES
    if per_row == size and labels.dtype.kind == "f":
        return Task.REGRESSION
    raise InputError(_no_fit(labels, size))


def _no_fit(labels: NumberArray, size: int) -> str:
    return (
        f"labels of type {labels.dtype} and shape {labels.shape} do not fit {size} output{'s' * (size > 1)}: "
        f"give one class number per row, integers, shape ({len(labels)},), or numbers as floats, "
        f"shape ({len(labels)}, {size})"
    )


def _fitting(labels: NumberArray, task: Task, size: int) -> NumberArray:
    """Return the labels in the form that a task takes.

    Raises:
        InputError: they do not fit.
    """
    if task is Task.REGRESSION:
        if labels.size != len(labels) * size:
            raise InputError(f"{_no_fit(labels, size)}, or another --task")
        return labels.reshape(len(labels), size).astype(np.float64)
    if labels.size != len(labels):
        raise InputError(f"{_no_fit(labels, size)}, or another --task")
    found = labels.reshape(-1)
    if found.dtype.kind == "f" and not np.equal(found, np.rint(found)).all():
        raise InputError(f"{_no_fit(labels, size)}, or another --task")
    require_classes(found, 2 if task is Task.BINARY else size)
    return found.astype(np.int64)


def require_classes(labels: NumberArray, classes: int) -> None:
    """Refuse labels that name no class.

    Raises:
        InputError: a label is negative, or beyond the last class.
    """
    if labels.min() < 0 or labels.max() >= classes:
        wrong = labels.max() if labels.max() >= classes else labels.min()
        raise InputError(f"the label {wrong} does not fit {classes} classes; check `y`")


def threshold_of(ends: str) -> float:
    """Return above which value one output says yes: 0 for a logit, 0.5 behind a sigmoid."""
    return 0.5 if ends == SIGMOID else 0.0


def decisions(answers: NumberArray, threshold: float = 0.0) -> IntArray:
    """Return the class of every row, (n,) int64: the arg max, or 1 where one output exceeds its threshold.

    The lowest index wins a tie; one output at its threshold says 0.

    Args:
        answers: (n, outputs).
        threshold: for one output.
    """
    if answers.shape[1] == 1:
        return (answers[:, 0] > threshold).astype(np.int64)
    return answers.argmax(axis=1).astype(np.int64)


def finished(answers: FloatArray, ends: str) -> FloatArray:
    """Return what the source network's last activation makes of answers before it, (n, outputs) float64.

    Passes leave that activation out, for it keeps the order; values are compared behind it.

    Args:
        answers: (n, outputs), before it.
        ends: its ONNX operator; empty for none.
    """
    z = answers.astype(np.float64)
    if ends == SIGMOID:
        return np.exp(-np.logaddexp(0, -z))
    if ends in SOFTMAXES:
        logarithms = z - z.max(axis=1, keepdims=True)
        logarithms -= np.log(np.exp(logarithms).sum(axis=1, keepdims=True))
        return logarithms if ends == "LogSoftmax" else np.exp(logarithms)
    return z


def behaves_as_classifier(answers: FloatArray) -> bool:
    """Whether answers look like class scores; for a choice that must be made and cannot be refused.

    The gradient of a softmax's cross entropy sums to zero over the classes, so training moves scores apart
    and never together: what all outputs have in common stays what it was at the start. Of independent outputs
    the mean holds ``1 / outputs`` of the variance, of class scores less, and of numbers that go together,
    such as a forecast or an image, more. It is a sign and no proof.

    Args:
        answers: (n, outputs), the source network's, before a softmax.
    """
    size = answers.shape[1]
    if size == 1:
        return False
    centred = answers.astype(np.float64) - answers.mean(axis=0, dtype=np.float64)
    whole = float(np.square(centred).sum())
    return whole > 0 and size * size * float(np.square(centred.mean(axis=1)).sum()) < whole
