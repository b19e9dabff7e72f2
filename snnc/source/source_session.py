"""Execution of the source network from its file, in onnxruntime: the reference of every conversion."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import version_converter

from snnc.data.readings import NetworkInput
from snnc.data.rows import exact
from snnc.errors import InputError, UsageError
from snnc.ir.batch import Batch, Given, arrays_by_name
from snnc.ir.graph import FloatArray, NumberArray
from snnc.metrics.ending import final_activation
from snnc.source.exact_session import exact_session
from snnc.source.output_codes import OutputCode, output_code
from snnc.source.selection import EVERYTHING, Selection
from snnc.source.whole_rows import whole_rows

OLDEST_RUN = 7
"""The first operator set of which onnxruntime has every operator."""

ARITHMETIC = ("Add", "Div", "Mul", "Pow", "PRelu", "Sub")

T = TypeVar("T")

_TYPES = {
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """An input of the file.

    Attributes:
        name: of the input.
        kind: its type, as onnxruntime calls it.
        batch: the batch that the file fixes; ``None`` if it is free.
        sizes: of one row; ``None`` where the file leaves a size open.
    """

    name: str
    kind: str
    batch: int | None
    sizes: tuple[int | None, ...]

    @classmethod
    def of(cls, entry: Any) -> _Entry:
        """Read what onnxruntime says of an input."""
        sizes: list[Any] = [size if isinstance(size, int) and size > 0 else None for size in entry.shape]
        return cls(entry.name, entry.type, sizes[0] if sizes else None, tuple(sizes[1:]))


class SourceSession:
    """An ONNX file, whatever its batch.

    Attributes:
        path: the file.
        outputs: names of its outputs, in order.
    """

    def __init__(self, path: Path, threads: int | None = None, selection: Selection = EVERYTHING) -> None:
        """Load the file.

        Args:
            path: an ``.onnx`` file.
            threads: for onnxruntime; ``None`` for one per core.
            selection: sizes that it leaves open, and the outputs to keep.

        Raises:
            InputError: onnxruntime cannot run it.
            UsageError: the selection does not fit the file.
        """
        options = ort.SessionOptions()
        options.log_severity_level = 4
        # onnxruntime starts as many as it is told, however many cores there are.
        options.intra_op_num_threads = min(threads or 0, os.cpu_count() or 1)
        # Threads that go on spinning after a run would take the core of whoever is timed next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.path = path
        try:
            self._session = _opened(path, options, selection)
        except UsageError:
            raise
        except Exception as error:  # onnxruntime's exceptions have no root of their own
            raise InputError(f"onnxruntime cannot run {path}: {_one_line(error)}") from error
        self._inputs = tuple(map(_Entry.of, self._session.get_inputs()))
        self._batch = next((entry.batch for entry in self._inputs if entry.batch), None)
        self.outputs = tuple(entry.name for entry in self._session.get_outputs())

    @cached_property
    def ends(self) -> str:
        """The softmax or sigmoid that makes the one output, as an ONNX operator; empty for none."""
        return self.all_ends[self._only(self.outputs, "outputs")]

    @cached_property
    def all_ends(self) -> dict[str, str]:
        """The same for each output, by its name."""
        model = onnx.load_model(self.path, load_external_data=False)
        return {name: final_activation(model, name) for name in self.outputs}

    @cached_property
    def _codes(self) -> dict[str, OutputCode | None]:
        """What the integers of an output that a softmax or sigmoid ends stand for, by its name.

        A spiking network leaves that activation out and gives real values; other codes it gives as they are.
        """
        model = onnx.load_model(self.path, load_external_data=False)
        return {name: output_code(model, name) if self.all_ends[name] else None for name in self.outputs}

    @property
    def sample_shape(self) -> tuple[int, ...] | None:
        """Shape of a row of the one input without the batch; ``None`` where the file leaves a size open."""
        sizes = self._only(self._inputs, "inputs").sizes
        known = [size for size in sizes if size is not None]
        return tuple(known) if len(known) == len(sizes) else None

    @property
    def takes(self) -> NetworkInput:
        """What the file says of its one input; where its channels are, it does not say."""
        return NetworkInput.of_shape(self._only(self._inputs, "inputs").sizes)

    @property
    def inputs(self) -> dict[str, NetworkInput]:
        """The same for each input, by its name, in order."""
        return {entry.name: NetworkInput.of_shape(entry.sizes) for entry in self._inputs}

    def _only(self, items: Sequence[T], what: str) -> T:
        if len(items) != 1:
            raise UsageError(f"{self.path.name} has {len(items)} {what}, and this takes one")
        return items[0]

    def run(self, x: NumberArray) -> FloatArray:
        """Return the one output of every row, (n, outputs) float32.

        Args:
            x: (n, *input shape), as the network takes it.

        Raises:
            InputError: the rows do not fit.
            UsageError: there are several outputs.
        """
        name = self._only(self.outputs, "outputs")
        found = self.run_all(x, (name,))[name]
        return found.reshape(len(found), -1)

    def run_all(self, x: Given, outputs: Sequence[str] = ()) -> dict[str, FloatArray]:
        """Return outputs of every row, (n, *shape) float32, by their names.

        Args:
            x: (n, *input shape), as the network takes it; of several inputs one array each, by name.
            outputs: names of the outputs that are wanted; all by default.

        Raises:
            InputError: the rows do not fit.
        """
        names = tuple(outputs) or self.outputs
        arrays = arrays_by_name(x, [entry.name for entry in self._inputs], self.path.name)
        rows = Batch({entry.name: self._rows(entry, arrays[entry.name]) for entry in self._inputs})
        size = self._batch or max(len(rows), 1)
        parts = [self._call(rows[start : start + size], names) for start in range(0, len(rows), size)]
        return {name: np.concatenate([part[k] for part in parts]) for k, name in enumerate(names)}

    def _rows(self, entry: _Entry, x: NumberArray) -> NDArray[Any]:
        """Return the rows of an input in its type."""
        if entry.kind not in _TYPES:
            raise InputError(f"{self.path} takes {entry.kind}, which cannot be made from rows of numbers")
        which = f", its input {entry.name!r}" if len(self._inputs) > 1 else ""
        exact(x.shape, NetworkInput.of_shape(entry.sizes), f"the rows for {self.path.name}{which}")
        dtype = np.dtype(_TYPES[entry.kind])
        with np.errstate(all="ignore"):  # what does not fit is told in one line
            rows = np.ascontiguousarray(x, dtype)
        # The conversion takes the values as they are: the judge must not see others.
        if dtype.kind in "iu" and not np.array_equal(rows.ravel(), x.ravel()):
            raise InputError(
                f"{self.path.name} takes {dtype}, and other values are among the rows{which}: check "
                "--preprocess"
            )
        return rows

    def _call(self, rows: Batch, names: Sequence[str]) -> list[FloatArray]:
        """Run one batch, filled up with zeros where the file fixes a larger one."""
        count = self._batch or len(rows)
        fed = {name: _filled(array, count) for name, array in rows.arrays.items()}
        try:
            found = [np.atleast_1d(np.asarray(y)) for y in self._session.run(list(names), fed)]
        except Exception as error:  # as above
            shapes = " and ".join(str(array.shape) for array in rows.arrays.values())
            raise InputError(
                f"onnxruntime stopped in {self.path.name} on rows of shape {shapes}: {_one_line(error)}"
            ) from error
        answers = []
        for name, output in zip(names, found, strict=True):
            if self._batch == 1 and output.shape[:1] != (1,):  # some files drop that axis
                output = output[None]
            if len(output) != count:
                which = f" of {name!r}" if len(self.outputs) > 1 else ""
                raise InputError(f"{self.path.name} gives {len(output)} answers{which} for {count} rows")
            code = self._codes[name] if output.dtype.kind in "iu" else None
            kept = output[: len(rows)]
            answers.append(kept.astype(np.float32) if code is None else code.decoded(kept))
        return answers


def _filled(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """Return rows with zeros behind, as many as ``count`` in all."""
    missing = count - len(rows)
    if not missing:
        return rows
    return np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])


def _opened(path: Path, options: ort.SessionOptions, selection: Selection) -> ort.InferenceSession:
    """Open a file; one of an operator set that onnxruntime has only parts of is upgraded by onnx first."""
    taken: Any = path
    if selection or whole_rows(onnx.load_model(path, load_external_data=False).graph):
        taken = selection.applied(onnx.load_model(path), str(path)).SerializeToString()
    try:
        return exact_session(taken, options)
    except Exception:
        model = onnx.load_model(path, load_external_data=False)
        versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        # The converter forgets along which axis a sum was aligned where it does not know the shapes.
        aligned = any(
            attribute.name == "axis"
            for node in model.graph.node
            if node.op_type in ARITHMETIC
            for attribute in node.attribute
        )
        if aligned or not versions or max(versions) >= OLDEST_RUN:
            raise
        whole = selection.applied(onnx.load_model(path), str(path))
        upgraded = version_converter.convert_version(whole, OLDEST_RUN)
        del upgraded.graph.value_info[:]  # of types that the converter does not know
        return exact_session(upgraded.SerializeToString(), options)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
