"""Several outputs: what each of them is, the labels that belong to it, and the metrics that judge it.

Every output is judged on its own. A metric is measured on each output that it fits; ``OUTPUT:METRIC`` asks
it of one. Limits hold for every output that they are asked of, so the worst one decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from snnc.errors import InputError, UsageError
from snnc.ir.graph import Shape
from snnc.metrics.catalogue import Case, metric_named, reference_of
from snnc.metrics.places import places_of
from snnc.metrics.task import Outputs, Task, as_task, recognise

Labels: TypeAlias = Any
"""Labels of the one output, a mapping of labels by the outputs' names, or ``None``."""

Asked: TypeAlias = tuple[str, ...] | None
"""The metrics that are asked of an output, which may be none; ``None`` for those that go with its task."""


def labels_by_output(y: Labels, names: Sequence[str]) -> dict[str, Any]:
    """Return the labels of each output that has some.

    Args:
        y: see :data:`Labels`.
        names: of the outputs.

    Raises:
        InputError: one array is given for several outputs, or labels of something that is no output.
    """
    if y is None:
        return {}
    if isinstance(y, Mapping):
        unknown = [name for name in y if name not in names]
        if unknown:
            raise InputError(
                f"there are labels of {unknown[0]!r}, which is no output; the outputs: {_listed(names)}"
            )
        return {name: _array(labels) for name, labels in y.items() if labels is not None}
    if len(names) > 1:
        raise InputError(f"there are {len(names)} outputs: give labels by their names, {_listed(names)}")
    return {names[0]: _array(y)}


def _array(labels: Any) -> np.ndarray:
    try:
        return np.asarray(labels)
    except ValueError as error:
        raise InputError(f"no array can be made of the labels: {error}") from None


def recognise_output(
    name: str,
    shape: Shape,
    *,
    rows: int,
    labels: np.ndarray | None = None,
    ends: str = "",
    given: Task | str | None = None,
    stored: Task | None = None,
) -> Outputs:
    """Find out what an output is, as :func:`snnc.metrics.task.recognise` does.

    Args:
        name: of the output, for messages; empty for the one.
        shape: of its values. A map is none of classes: no arg max over all of it is one. Its places may be.
        rows: how many there are.
        labels: (rows, ...), if known.
        ends: the ONNX operator that it ends with, where that is an activation.
        given: what the user says.
        stored: what the artefact remembers.

    Raises:
        InputError: the labels do not fit.
        UsageError: the output cannot be what the user says.
    """
    size = math.prod(shape)
    which = f"the output {name!r}: " if name else ""
    said = as_task(given)
    if sum(length > 1 for length in shape) > 1:
        places = places_of(name, shape, rows, labels, ends, said)
        if places is not None:
            return Outputs(Task.REGRESSION, "a map of classes", None, size, is_map=True, places=places)
        if labels is not None and not _fits_map(labels.shape, rows, shape):
            raise InputError(
                f"{which}labels of shape {labels.shape} do not fit a map of {_sizes(shape)}: give as many "
                f"numbers, ({rows}, {', '.join(map(str, shape))})"
            )
        labels = None if labels is None else labels.reshape(rows, -1).astype(np.float64)
        found = recognise(size, rows=rows, labels=labels, given=Task.REGRESSION)
        return replace(found, is_map=True)
    try:
        return recognise(size, rows=rows, labels=labels, ends=ends, given=said, stored=stored)
    except (InputError, UsageError) as error:
        if not which:
            raise
        raise type(error)(f"{which}{error}") from None


def recognise_outputs(
    shapes: Mapping[str, Shape],
    *,
    rows: int,
    labels: Labels,
    ends: Mapping[str, str],
    given: Task | str | Mapping[str, Task | None] | None = None,
    stored: Task | None = None,
) -> dict[str, Outputs]:
    """Find out what each output is, by its name; see :func:`recognise_output`.

    Args:
        shapes: of each.
        rows: how many there are.
        labels: as far as they are known.
        ends: the ONNX operator that each ends with, where that is an activation.
        given: what the user says of all outputs, or of each by its name.
        stored: what the artefact remembers of the one output.

    Raises:
        InputError: labels do not fit.
        UsageError: an output cannot be what the user says.
    """
    by_name = labels_by_output(labels, tuple(shapes))
    return {
        name: recognise_output(
            name if len(shapes) > 1 else "",
            shape,
            rows=rows,
            labels=by_name.get(name),
            ends=ends[name],
            given=given.get(name) if isinstance(given, Mapping) else given,
            stored=stored,
        )
        for name, shape in shapes.items()
    }


def _fits_map(labels: Shape, rows: int, shape: Shape) -> bool:
    """Whether labels have the axes of a map, but for those of size 1, or are flat; never another order."""
    if labels == (rows, math.prod(shape)):
        return True
    axes = [tuple(length for length in each if length > 1) for each in (labels[1:], shape)]
    return labels[:1] == (rows,) and axes[0] == axes[1]


def metrics_by_output(
    metrics: Sequence[str], outputs: Mapping[str, Outputs], *, has_source: bool
) -> dict[str, Asked]:
    """Return the metrics that are asked of each output.

    Args:
        metrics: ``METRIC``, or ``OUTPUT:METRIC``.
        outputs: what the outputs are, by name.
        has_source: whether the source network's answers will be known.

    Raises:
        UsageError: a metric is unknown, fits no output, or lacks what it is held to.
    """
    found: dict[str, list[str]] = {name: [] for name in outputs}
    for text in metrics:
        for output in asked_of(text, outputs, has_source=has_source):
            metric = metric_of(text)[1]
            if metric not in found[output]:
                found[output].append(metric)
    return {name: tuple(names) if metrics else None for name, names in found.items()}


def metric_of(text: str) -> tuple[str | None, str]:
    """Read ``METRIC`` or ``OUTPUT:METRIC``: the output, ``None`` for all, and the metric."""
    output, colon, metric = text.rpartition(":")
    return (output, metric) if colon else (None, metric)


def asked_of(text: str, outputs: Mapping[str, Outputs], *, has_source: bool) -> tuple[str, ...]:
    """Return the outputs that a metric is asked of: the one that is named, or all that it fits.

    Raises:
        UsageError: see :func:`metrics_by_output`.
    """
    output, metric = metric_of(text)
    metric_named(metric)
    if output is not None and output not in outputs:
        raise UsageError(f"{text}: there is no output {output!r}; the outputs: {_listed(tuple(outputs))}")
    refused: UsageError | None = None
    fitting = []
    for name in outputs if output is None else (output,):
        try:
            _require(metric, outputs[name], has_source=has_source)
        except UsageError as error:
            refused = refused or error
        else:
            fitting.append(name)
    if not fitting and refused is not None:
        raise refused
    return tuple(fitting)


def _require(metric: str, outputs: Outputs, *, has_source: bool) -> None:
    """Refuse a metric that could not be computed, before the work begins."""
    nothing = np.zeros((0, outputs.size))
    labels = None if outputs.labels is None else outputs.labels[:0]
    source = nothing if has_source else None
    reference_of(metric, Case(nothing, outputs.task, source, labels, places=outputs.places))


def _sizes(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
