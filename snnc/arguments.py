"""What the Python interface accepts, as people have it: networks, artefacts, preprocessings, numbers."""

from __future__ import annotations

import logging
import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from snnc.artefact import Artefact, load
from snnc.artefact.metadata import SCHEMA, properties_of
from snnc.data.datasets import is_dataset, read_dataset
from snnc.data.labelled import part_of, read_named
from snnc.data.preprocessing import Preprocessing
from snnc.data.row_files import as_labels, as_rows, named_rows
from snnc.errors import InputError, UsageError
from snnc.frontend import SourceModel, read_onnx
from snnc.frontend.exporting import is_module
from snnc.frontend.host.dividing import Check, HostMode
from snnc.frontend.loading import LoadedModel, loaded_from
from snnc.frontend.loading import load as load_model
from snnc.ir.batch import Rows, joined
from snnc.ir.graph import NumberArray
from snnc.metrics.outputs import Labels
from snnc.models import PREFIX, resolve, test_data
from snnc.progress import Callback, Progress, as_progress
from snnc.source.selection import EVERYTHING, Selection
from snnc.sources import zoo_entry

_log = logging.getLogger("snnc")

Model: TypeAlias = Any
"""A network: the path of an ONNX file, ``zoo:NAME``, the bytes of a file, an ``onnx.ModelProto``, or a
``torch.nn.Module``, where rows tell its input. No union: the last is of a library that is not imported."""

IN_MEMORY = "in-memory.onnx"
"""What a network is called that came without a path."""


def read_source(
    model: Any,
    mode: HostMode = HostMode.NONE,
    check: Check = lambda graph: (),
    selection: Selection = EVERYTHING,
) -> tuple[SourceModel, str]:
    """Read a network, and return what it is called.

    Args:
        model: see :data:`Model`.
        mode: where the host may keep what cannot be read.
        check: what else must be refused.
        selection: sizes that it leaves open, and the outputs to keep.

    Raises:
        UsageError: it is an artefact already.
        InputError: it is no network.
        UnsupportedModelError: it cannot be converted.
    """
    if isinstance(model, Artefact):
        raise UsageError(f"{model!r} is an artefact already: simulate it, or give the network it came from")
    loaded, name = _loaded(model)
    if SCHEMA in properties_of(loaded.proto):
        raise UsageError(f"{name} is an artefact already: load it, or give the network that it came from")
    return read_onnx(loaded, mode, check, selection=selection), name


def _loaded(model: Any) -> tuple[LoadedModel, str]:
    if isinstance(model, str | os.PathLike):
        name = os.fsdecode(model)
        return load_model(resolve(name).path if name.startswith(PREFIX) else Path(name)), name
    if isinstance(model, onnx.ModelProto):
        try:
            model = model.SerializeToString()
        except Exception as error:  # protobuf's exceptions have no root of their own
            raise InputError(
                f"the model cannot be written as ONNX: {' '.join(str(error).split())}"
            ) from error
    if isinstance(model, bytes | bytearray | memoryview):
        return loaded_from(bytes(model), Path(IN_MEMORY)), IN_MEMORY
    if is_module(model):
        raise UsageError(
            f"{type(model).__name__} is a torch.nn.Module, which is exported for calibration rows: convert it"
        )
    if isinstance(model, Mapping):
        cure = "load such weights into their module by load_state_dict, and give that"
    elif isinstance(model, type):
        cure = f"it is a class: give an instance, {model.__name__}(...)"
    else:
        cure = "give a torch.nn.Module, the path of an ONNX file, zoo:NAME, an onnx.ModelProto or bytes"
    raise InputError(f"{_said(model)} is not a network: {cure}")


def in_memory(model: Any) -> bytes | None:
    """Return the bytes of a network that came without a path; ``None`` of one that has one."""
    if isinstance(model, onnx.ModelProto):
        return model.SerializeToString()
    return bytes(model) if isinstance(model, bytes | bytearray | memoryview) else None


def shape_texts(shapes: Any) -> tuple[str, ...]:
    """Return sizes of inputs, by their names, as the texts of the options; texts stay.

    Raises:
        UsageError: they are no mapping of names to sizes.
    """
    if isinstance(shapes, list | tuple) and all(isinstance(text, str) for text in shapes):
        return tuple(shapes)
    if not isinstance(shapes, Mapping):
        raise UsageError(f"the shapes are {_said(shapes)}: give {{'NAME': (1, 3, 320, 320)}}")
    try:
        return tuple(
            f"{name}={','.join(str(operator.index(size)) for size in sizes)}"
            for name, sizes in shapes.items()
        )
    except TypeError:
        raise UsageError(f"the shapes are {_said(shapes)}: give {{'NAME': (1, 3, 320, 320)}}") from None


def value_texts(values: Any) -> tuple[str, ...]:
    """Return values of inputs, by their names, as the texts of the options; texts stay.

    Raises:
        UsageError: they are no mapping of names to numbers.
    """
    if isinstance(values, list | tuple) and all(isinstance(text, str) for text in values):
        return tuple(values)
    if not isinstance(values, Mapping):
        raise UsageError(f"the values to fix are {_said(values)}: give {{'NAME': 16000}}")
    return tuple(
        f"{name}={','.join(map(str, value if isinstance(value, list | tuple) else [value]))}"
        for name, value in values.items()
    )


def as_names(value: Any, what: str) -> tuple[str, ...]:
    """Return a sequence of names.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, str) or not all(isinstance(name, str) for name in _items(value, what)):
        raise UsageError(f"the {what} are {_said(value)}: give a list of names")
    return tuple(value)


def _items(value: Any, what: str) -> list[Any]:
    try:
        return list(value)
    except TypeError:
        raise UsageError(f"the {what} are {_said(value)}: give a list of names") from None


def example_rows(x: Any, preprocessing: Preprocessing | None, name: str) -> NumberArray:
    """Return the first two rows as a network takes them of which nothing is known yet: images channels first.

    Args:
        x: (n, ...) rows as they are stored.
        preprocessing: from these to what the network takes.
        name: what they are called in messages.
    """
    first: NumberArray = x[:2]
    return first if preprocessing is None else preprocessing.apply(first, None, name)


def as_artefact(value: Any) -> Artefact:
    """Return an artefact, or read the file of one.

    Raises:
        InputError: it is none.
    """
    if isinstance(value, Artefact):
        return value
    if isinstance(value, str | os.PathLike):
        return load(os.fsdecode(value))
    raise InputError(
        f"{_said(value)} is not an artefact: give the result of snnc.convert or snnc.load, or a path"
    )


def as_preprocessing(value: Any) -> Preprocessing | None:
    """Return a preprocessing, or make one of a dictionary or a JSON file.

    Raises:
        InputError: it cannot be made of that.
    """
    if value is None or isinstance(value, Preprocessing):
        return value
    if isinstance(value, Mapping):
        return Preprocessing.from_dict(value)
    if isinstance(value, str | os.PathLike):
        return Preprocessing.read(Path(os.fsdecode(value)))
    raise InputError(
        f"{_said(value)} is not a preprocessing: give a dictionary, a Preprocessing or a JSON file"
    )


def labelled_rows(
    artefact: Artefact, rows: Any, labels: Any = None, limit: int | None = None
) -> tuple[Rows, Labels]:
    """Return rows for an artefact and their labels, in any form that users have.

    Args:
        artefact: that will run them.
        rows: an array, of several inputs a mapping or a batch; a data set or a loader, which bring their
            labels; a path as ``snnc eval --data`` takes it; ``None`` for the test rows of the zoo, where the
            network is of it.
        labels: (n,) classes or (n, outputs) numbers; of several outputs by their names; ``None`` for those
            that come with the rows, if any.
        limit: use so many rows.

    Raises:
        InputError: they do not fit the artefact.
        UsageError: there are none, or two sets of labels.
    """
    limit = None if limit is None else whole(limit, "limit", 1)
    names, outputs = list(artefact.takes), list(artefact.gives)
    y: Labels = labels if labels is None or isinstance(labels, Mapping) else as_labels(labels)
    if rows is None:
        entry = zoo_entry(artefact.metadata.source_sha256)
        if entry is None:
            raise UsageError("no rows to run: give them, such as an array, a data set or a path")
        x, found = test_data(entry)
        return x[:limit], part_of(found if y is None else y, slice(limit))
    if isinstance(rows, str | os.PathLike):
        read = read_named(Path(rows), names, outputs, artefact.preprocessing, limit=limit, is_fixed=True)
        artefact.check_rows(read.x, read.name)
        return read.x, read.y if y is None else part_of(y, slice(limit))
    if is_dataset(rows) and len(names) == 1:
        if y is not None:
            raise UsageError(f"a {type(rows).__name__} brings its labels: leave the others out")
        sampled = read_dataset(rows, limit)
        artefact.check_rows(sampled.x, sampled.name)
        return sampled.x, sampled.labels()
    several = (
        joined(named_rows(rows, names, artefact.graph.name, "the rows")) if len(names) > 1 else as_rows(rows)
    )
    artefact.check_rows(several)
    return several[:limit], part_of(y, slice(limit))


def whole(value: Any, name: str, least: int | None = None) -> int:
    """Return a whole number: an int of Python or NumPy, but no float, not even 4.0, and no truth value.

    Raises:
        UsageError: it is none, or too small.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise UsageError(f"{name} is {_said(value)}; give a whole number, an int")
    if least is not None and number < least:
        raise UsageError(f"{name} must be at least {least}, not {number}")
    return number


def _said(value: Any) -> str:
    """Return a short form of anything."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"this {type(value).__name__}"


def as_shown(progress: Progress | Callback | bool | None) -> Progress:
    """Return what shows progress; bars for ``True``.

    Raises:
        UsageError: it cannot show any.
    """
    if progress is True:
        from snnc.bars import Bars

        return Bars(_log.debug)
    return as_progress(None if progress is False else progress)
