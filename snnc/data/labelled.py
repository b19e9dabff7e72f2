"""Rows of every input of a network with the labels of its outputs, read from files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from snnc.data.material import Material, is_decoded, read_material
from snnc.data.preprocessing import Preprocessing
from snnc.data.row_files import opened, read_arrays
from snnc.errors import InputError, NonFiniteError
from snnc.ir.batch import Batch, Rows
from snnc.ir.graph import NumberArray
from snnc.metrics.outputs import Labels

_log = logging.getLogger("snnc")


def with_labels_told(found: Material) -> Material:
    """Return what was read, and tell how its labels were made, where anything was chosen."""
    if found.told:
        _log.info(found.told)
    return found


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows of every input of a network, and labels of its outputs.

    Attributes:
        x: the rows.
        y: the labels, as far as there are any.
        name: what the rows are called in messages.
        preprocessing: from ``x`` to what the network takes.
    """

    x: Rows
    y: Labels
    name: str
    preprocessing: Preprocessing | None


def read_named(
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    preprocessing: Preprocessing | None = None,
    *,
    limit: int | None = None,
    is_fixed: bool = False,
) -> Labelled:
    """Read the rows of every input of a network, and labels as far as there are any.

    Of one input the rows are ``x``, of several they bear its name, in an ``.npz`` file. Of one output
    the labels are ``y``, of several they bear the outputs' names.

    Args:
        path: of the rows, and the labels; see :func:`snnc.data.material.read_material`.
        inputs: their names.
        outputs: their names.
        preprocessing: from the rows to what the network takes, as far as it is known.
        limit: read so many rows.
        is_fixed: whether it is an artefact's.

    Raises:
        InputError: the files are missing, damaged, or hold something else.
    """
    if len(inputs) == 1:
        decoded = is_decoded(path)
        read = limit if decoded else None
        found = with_labels_told(read_material(path, preprocessing, limit=read, is_fixed=is_fixed))
        if decoded and found.y is not None and len(outputs) > 1:
            raise InputError(_nameless(path, outputs))
        rows: Rows = found.x
        result = Labelled(rows, found.y, found.name, found.preprocessing)
        if decoded or len(outputs) < 2:
            return replace(result, x=rows[:limit], y=part_of(found.y, slice(limit)))
    else:
        rows = Batch(read_arrays(path, inputs))
        result = Labelled(rows, None, str(path), preprocessing)
    labels = _labels(path, inputs, outputs, len(rows)) or None
    return replace(result, x=rows[:limit], y=part_of(labels, slice(limit)))


def _labels(path: Path, inputs: Sequence[str], outputs: Sequence[str], count: int) -> dict[str, NumberArray]:
    """Return the labels of an ``.npz`` file by the outputs' names."""
    with opened(path) as archive:
        held = () if isinstance(archive, np.ndarray) else archive.files
        named = [name for name in outputs if name in held]
        if "y" in held and "y" not in (*inputs, *outputs) and len(outputs) > 1:
            raise InputError(_nameless(path, outputs))
        alone = "y" in held and len(outputs) == 1
        labels = {name: archive[name] for name in named} | ({outputs[0]: archive["y"]} if alone else {})
    for name, y in labels.items():
        if y.dtype.kind not in "buif" or y.shape[:1] != (count,):
            raise InputError(
                f"the labels of {name!r} in {path} are {y.dtype} of shape {y.shape}; give numbers, one or as "
                f"many as the output has per row, for {count} rows"
            )
        if not np.isfinite(y).all():
            raise NonFiniteError(
                f"the labels of {name!r} in {path} hold NaN or infinity: leave those rows out"
            )
    return labels


def _nameless(path: Path, outputs: Sequence[str]) -> str:
    listed = ", ".join(map(repr, outputs))
    return f"{path} holds labels `y`, and there are {len(outputs)} outputs: name them {listed}"


def part_of(labels: Labels, rows: Any) -> Labels:
    """Return the labels of some rows: a slice, or a mask."""
    if labels is None:
        return None
    return {name: y[rows] for name, y in labels.items()} if isinstance(labels, Mapping) else labels[rows]
