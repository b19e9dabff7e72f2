"""Read the tensors of a model: dense, sparse, and those that lie in other files.

Sizes are compared with the bytes that are there before anything is made, so that a file cannot ask for more
memory than it brings.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Constant = NDArray[Any]

MAX_MADE = 2**26
"""Most elements of a tensor that is made, not stored: more is a mistake, and would fill the memory."""

BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
"""Types of which several elements share a byte."""


def is_external(tensor: onnx.TensorProto) -> bool:
    """Say whether a tensor lies in another file."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def byte_size(tensor: onnx.TensorProto) -> int:
    """Return how many bytes the elements of a tensor take in a file.

    Raises:
        ValueError: a size is negative, or the type is unknown or has no fixed size.
    """
    name = _type_name(tensor)
    if name == "STRING":
        raise ValueError("texts have no fixed size")
    if name == "UNDEFINED":
        raise ValueError("its type is not given")
    bits = BITS.get(name) or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return -(-math.prod(_shape(tensor)) * bits // 8)


def read_tensor(tensor: onnx.TensorProto) -> Constant:
    """Return the values of a dense tensor.

    Args:
        tensor: if it lies in another file, :func:`snnc.frontend.loading.load` has checked where.

    Raises:
        ValueError: it is damaged; the message says how.
    """
    shape = _shape(tensor)
    try:
        if not is_external(tensor):
            return np.asarray(numpy_helper.to_array(tensor))
        entries = {entry.key: entry.value for entry in tensor.external_data}
        offset, size = int(entries.get("offset", "0")), byte_size(tensor)
        data = np.fromfile(entries["location"], np.uint8, size, offset=offset)
        if _type_name(tensor) in BITS:
            packed = onnx.TensorProto(data_type=tensor.data_type, dims=shape, raw_data=data.tobytes())
            return np.asarray(numpy_helper.to_array(packed))
        return data.view(helper.tensor_dtype_to_np_dtype(tensor.data_type)).reshape(shape)
    except (AttributeError, LookupError, OSError, OverflowError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def read_sparse(sparse: onnx.SparseTensorProto) -> Constant:
    """Return a sparse tensor as a dense one.

    Raises:
        ValueError: it is damaged, or would have more than ``MAX_MADE`` elements; the message says which.
    """
    shape = tuple(sparse.dims)
    if min(shape, default=0) < 0:
        raise ValueError(f"the shape {shape} is none")
    if math.prod(shape) > MAX_MADE:
        raise ValueError(f"it would have more than {MAX_MADE} elements")
    values, places = read_tensor(sparse.values), read_tensor(sparse.indices)
    if values.ndim != 1 or places.dtype != np.int64 or len(places) != len(values):
        raise ValueError("values and indices do not fit together")
    if places.ndim == 2:
        if places.shape[1] != len(shape) or (places < 0).any() or (places >= shape).any():
            raise ValueError(f"an index lies outside the shape {shape}")
        places = np.ravel_multi_index(tuple(places.T), shape) if len(places) else places[:, 0]
    if places.ndim != 1 or (places < 0).any() or (places >= math.prod(shape)).any():
        raise ValueError(f"an index lies outside the shape {shape}")
    dense = np.zeros(math.prod(shape), values.dtype)
    dense[places] = values
    return dense.reshape(shape)


def _shape(tensor: onnx.TensorProto) -> tuple[int, ...]:
    shape = tuple(tensor.dims)
    if min(shape, default=0) < 0:
        raise ValueError(f"the shape {shape} is none")
    return shape


def _type_name(tensor: onnx.TensorProto) -> str:
    try:
        return onnx.TensorProto.DataType.Name(tensor.data_type)
    except ValueError as error:
        raise ValueError(f"the type {tensor.data_type} is unknown") from error
