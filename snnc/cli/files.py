"""Reading rows of data, and refusing outputs that could not be written before the work begins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snnc.data.row_files import check_rows, opened, read_arrays, rows_in
from snnc.errors import InputError, NonFiniteError, UsageError
from snnc.ir.batch import Batch, Rows
from snnc.ir.graph import NumberArray
from snnc.metrics.outputs import Labels


def read_labelled(path: Path) -> tuple[NumberArray, NumberArray | None]:
    """Read ``x`` and, if it is there, ``y`` of an ``.npz`` file.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    with opened(path) as archive:
        if isinstance(archive, np.ndarray):
            raise InputError(f"{path} is a single array; save it by numpy.savez(FILE, x=rows, y=labels)")
        x = rows_in(path, archive)
        y = archive["y"] if "y" in archive.files else None
    check_rows(path, x)
    if y is not None and (y.dtype.kind not in "buif" or y.shape[:1] != (len(x),)):
        raise InputError(
            f"`y` in {path} is {y.dtype} of shape {y.shape}; it must hold one class number per row of `x`, "
            f"integers of shape ({len(x)},), or as many numbers as the network gives, ({len(x)}, outputs)"
        )
    if y is not None and not np.isfinite(y).all():
        raise NonFiniteError(f"the labels in {path} hold NaN or infinity: leave those rows out")
    return x, y


def read_named(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[Rows, Labels]:
    """Read the rows of every input of a network, and labels as far as there are any, of an ``.npz`` file.

    Of one input the rows are ``x``, of several they bear the inputs' names; of one output the labels are
    ``y``, of several they bear the outputs' names.

    Args:
        path: the file.
        inputs: their names.
        outputs: their names.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    if len(inputs) == len(outputs) == 1:
        return read_labelled(path)
    rows: Rows = read_labelled(path)[0] if len(inputs) == 1 else Batch(read_arrays(path, inputs))
    with opened(path) as archive:
        held = () if isinstance(archive, np.ndarray) else archive.files
        named = [name for name in outputs if name in held]
        if "y" in held and "y" not in (*inputs, *outputs) and len(outputs) > 1:
            listed = ", ".join(map(repr, outputs))
            raise InputError(
                f"{path} holds labels `y`, and there are {len(outputs)} outputs: name them {listed}"
            )
        alone = "y" in held and len(outputs) == 1
        labels = {name: archive[name] for name in named} | ({outputs[0]: archive["y"]} if alone else {})
    for name, y in labels.items():
        if y.dtype.kind not in "buif" or y.shape[:1] != (len(rows),):
            raise InputError(
                f"the labels of {name!r} in {path} are {y.dtype} of shape {y.shape}; give numbers, one or as "
                f"many as the output has per row, for {len(rows)} rows"
            )
        if not np.isfinite(y).all():
            raise NonFiniteError(
                f"the labels of {name!r} in {path} hold NaN or infinity: leave those rows out"
            )
    return rows, labels or None


def part_of(labels: Labels, rows: Any) -> Labels:
    """Return the labels of some rows: a slice, or a mask."""
    if labels is None:
        return None
    return {name: y[rows] for name, y in labels.items()} if isinstance(labels, Mapping) else labels[rows]


def check_outputs(*outputs: Path | None, others: Iterable[Path | None] = (), force: bool) -> None:
    """Refuse outputs that could not be written, or would destroy something, before the work begins.

    Args:
        outputs: files to be written.
        others: what the same command reads, or writes beside them; ``force`` does not give it up.
        force: whether files that exist may be replaced.

    Raises:
        UsageError: an output is one of the others, or there is a file already that is not to be replaced.
        InputError: a folder is missing or closed.
    """
    taken = [path for path in others if path is not None]
    for output in outputs:
        if output is not None:
            if any(_same(output, other) for other in taken):
                raise UsageError(f"{output} is named twice, once as an output: name another file for it")
            _check_output(output, force)
            taken.append(output)


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def _check_output(path: Path, force: bool) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it")
    if path.exists() and not force:
        raise UsageError(f"{path} exists already: name another file, or replace it by --force")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"the folder {folder} does not exist: make it first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"the folder {folder} cannot be written: choose another")
