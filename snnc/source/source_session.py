"""Execution of the source network from its file, in onnxruntime: the reference of every conversion."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from snnc.data.readings import NetworkInput
from snnc.data.rows import exact
from snnc.errors import InputError
from snnc.ir.graph import FloatArray, NumberArray
from snnc.metrics.ending import final_activation

_TYPES = {
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
}


class SourceSession:
    """An ONNX file with one input, whatever its batch.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """Load the file.

        Args:
            path: an ``.onnx`` file.
            threads: for onnxruntime; ``None`` for one per core.

        Raises:
            InputError: onnxruntime cannot run it, or it has several inputs.
        """
        options = ort.SessionOptions()
        options.log_severity_level = 4
        # onnxruntime starts as many as it is told, however many cores there are.
        options.intra_op_num_threads = min(threads or 0, os.cpu_count() or 1)
        # Threads that go on spinning after a run would take the core of whoever is timed next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.path = path
        try:
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no root of their own
            raise InputError(f"onnxruntime cannot run {path}: {_one_line(error)}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise InputError(f"{path} has {len(inputs)} inputs; only a network with one can be evaluated")
        self._name = inputs[0].name
        self._type = inputs[0].type
        sizes: list[Any] = list(inputs[0].shape)
        self._batch = sizes[0] if sizes and isinstance(sizes[0], int) and sizes[0] > 0 else None
        self._sizes = [size if isinstance(size, int) and size > 0 else None for size in sizes[1:]]

    @cached_property
    def ends(self) -> str:
        """The softmax or sigmoid that makes the answers, as an ONNX operator; empty for none."""
        return final_activation(onnx.load_model(self.path, load_external_data=False))

    @property
    def sample_shape(self) -> tuple[int, ...] | None:
        """Shape of one input without the batch; ``None`` where the file leaves a size open."""
        known = [size for size in self._sizes if size is not None]
        return tuple(known) if len(known) == len(self._sizes) else None

    @property
    def takes(self) -> NetworkInput:
        """What the file says of its input; where its channels are, it does not say."""
        return NetworkInput.of_shape(tuple(self._sizes))

    def run(self, x: NumberArray) -> FloatArray:
        """Return the first output of every row, (n, outputs) float32.

        Args:
            x: (n, *input shape), as the network takes it.

        Raises:
            InputError: the rows do not fit.
        """
        if self._type not in _TYPES:
            raise InputError(f"{self.path} takes {self._type}, which cannot be made from rows of numbers")
        exact(x.shape, self.takes, f"the rows for {self.path.name}")
        dtype = np.dtype(_TYPES[self._type])
        with np.errstate(all="ignore"):  # what does not fit is told in one line
            rows = np.ascontiguousarray(x, dtype)
        # The conversion takes the values as they are: the judge must not see others.
        if dtype.kind in "iu" and not np.array_equal(rows.ravel(), x.ravel()):
            raise InputError(
                f"{self.path.name} takes {dtype}, and other values are among the rows: check --preprocess"
            )
        size = self._batch or max(len(rows), 1)
        return np.concatenate([self._call(rows[start : start + size]) for start in range(0, len(rows), size)])

    def _call(self, rows: NDArray[Any]) -> FloatArray:
        """Run one batch, filled up with zeros where the file fixes a larger one."""
        fed = rows
        if self._batch and len(rows) < self._batch:
            fed = np.concatenate([rows, np.zeros((self._batch - len(rows), *rows.shape[1:]), rows.dtype)])
        try:
            output = np.atleast_1d(np.asarray(self._session.run(None, {self._name: fed})[0]))
        except Exception as error:  # as above
            raise InputError(
                f"onnxruntime stopped in {self.path.name} on rows of shape {rows.shape}: {_one_line(error)}"
            ) from error
        if self._batch == 1:  # some files drop that axis
            output = output.reshape(1, -1)
        if len(output) != len(fed):
            raise InputError(f"{self.path.name} gives {len(output)} answers for {len(fed)} rows")
        return output.reshape(len(fed), -1)[: len(rows)].astype(np.float32)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
