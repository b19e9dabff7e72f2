"""Change a serialised model a little: its bytes, or the fields of its messages."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

INTEGERS = (0, 1, -1, 2, 3, 7, 255, 2**15, 2**31 - 1, 2**31, -(2**31), 2**32, 2**62, 2**63 - 1, -(2**63))
FLOATS = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 3e38, 1e-45, 1e30)
TEXTS = ("", "x", "y", "../outside.bin", "/etc/hostname", "link.bin", "a/../../outside.bin", "\0", "é" * 9)
OPERATORS = [
    "Add",
    "Conv",
    "Gemm",
    "MatMul",
    "Relu",
    "Clip",
    "Concat",
    "Reshape",
    "Transpose",
    "Slice",
    "Gather",
    "Pad",
    "MaxPool",
    "AveragePool",
    "Softmax",
    "Identity",
    "Constant",
    "ConstantOfShape",
    "Expand",
    "Tile",
    "Range",
    "Loop",
    "If",
    "Scan",
    "Shape",
    "Size",
    "Split",
    "Squeeze",
    "Unsqueeze",
    "BatchNormalization",
    "Dropout",
    "Mul",
    "Div",
    "Sub",
    "Cast",
    "Where",
    "Less",
    "Max",
    "Min",
    "Flatten",
    "ReduceMean",
    "ReduceSum",
    "GlobalMaxPool",
    "DepthToSpace",
    "SpaceToDepth",
    "QuantizeLinear",
    "DequantizeLinear",
    "Resize",
    "Einsum",
    "RandomNormal",
    "SequenceAt",
    "LSTM",
]

_INT32 = frozenset({FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_ENUM})
_SIZES = frozenset({FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}) | _INT32
_MOST_MESSAGES = 3_000


def mutated(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Return a file changed in one to four places.

    Args:
        data: the file.
        rng: decides all.
        other: another file, from which parts may come.
    """
    times = min(1 + int(rng.expovariate(1.0)), 4)
    if rng.random() < 0.3:
        for _ in range(times):
            data = bytes_changed(data, rng, other)
        return data
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return bytes_changed(data, rng, other)
    for _ in range(times):
        change_field(model, rng)
    return model.SerializeToString()


def bytes_changed(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Return a file changed in one place: a bit, or bytes put in, left out, repeated, cut off."""
    if not data:
        return b"\x08\x08"
    place, size = rng.randrange(len(data)), min(1 + int(rng.expovariate(0.1)), 4096)
    match rng.randrange(7):
        case 0:
            return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        case 1:
            return data[:place] + rng.randbytes(min(size, 16)) + data[place:]
        case 2:
            return data[:place] + data[place + size :]
        case 3:
            return (
                data[:place] + data[place : place + size] * rng.choice((2, 2, 3, 50)) + data[place + size :]
            )
        case 4:
            return data[:place]
        case 5:
            start = rng.randrange(max(len(other), 1))
            return data[:place] + other[start : start + size] + data[place:]
        case _:
            return (
                data[:place]
                + rng.choice((b"\xff" * 9 + b"\x01", b"\0", b"\x7f", b"\x80"))
                + data[place + 1 :]
            )


def change_field(model: Message, rng: random.Random) -> None:
    """Change one field of a message or of one inside it."""
    found: list[Message] = []
    _collect(model, found, 0)
    message = rng.choice(found)
    fields: list[Any] = list(message.DESCRIPTOR.fields)
    present: list[Any] = [field for field, _ in message.ListFields()]
    field = rng.choice(present if present and rng.random() < 0.85 else fields)
    if not isinstance(getattr(message, field.name), Message | int | float | str | bytes):
        _change_repeated(message, field, found, rng)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        _change_message(message, field, found, rng)
    else:
        _set(
            lambda value: setattr(message, field.name, value),
            _scalar(field, getattr(message, field.name), rng),
        )


def _collect(message: Message, found: list[Message], depth: int) -> None:
    if depth > 30 or len(found) >= _MOST_MESSAGES:
        return
    found.append(message)
    for field, value in message.ListFields():
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for inner in [value] if isinstance(value, Message) else value:
                _collect(inner, found, depth + 1)


def _scalar(field: FieldDescriptor, value: Any, rng: random.Random) -> Any:
    if field.cpp_type in _SIZES:
        return rng.choice((*INTEGERS, value + 1, value - 1, value * 2, rng.randrange(-5, 40)))
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice((*FLOATS, value * rng.uniform(-2, 2)))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.choice(
            (b"", value[: len(value) // 2], value + b"\0", rng.randbytes(8), b"\xff" * len(value))
        )
    if field.name == "op_type" and rng.random() < 0.8:
        return rng.choice(OPERATORS)
    return rng.choice((*TEXTS, str(value) + "2", str(value)[:-1], str(rng.choice(INTEGERS)), "w" * 5000))


def _set(assign: Callable[[Any], None], value: Any) -> None:
    """Assign a value; one that the field cannot hold changes nothing."""
    try:
        assign(value)
    except (OverflowError, TypeError, ValueError):
        return


def _change_message(
    message: Message, field: FieldDescriptor, found: list[Message], rng: random.Random
) -> None:
    same = [each for each in found if each.DESCRIPTOR is field.message_type]
    if same and rng.random() < 0.5:
        copied = type(same[0])()
        copied.CopyFrom(rng.choice(same))
        getattr(message, field.name).CopyFrom(copied)
    elif rng.random() < 0.7:
        message.ClearField(field.name)
    else:
        getattr(message, field.name).SetInParent()


def _change_repeated(
    message: Message, field: FieldDescriptor, found: list[Message], rng: random.Random
) -> None:
    values = getattr(message, field.name)
    kind = rng.randrange(6)
    if kind == 0 or not values:
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            same = [each for each in found if each.DESCRIPTOR is field.message_type]
            copied = type(values.add())()
            del values[-1]
            if same:
                copied.CopyFrom(rng.choice(same))
            values.append(copied)
        else:
            empty: dict[type, Any] = {bytes: b"", str: ""}
            sample = values[0] if values else empty.get(_python(field), 0)
            for _ in range(rng.choice((1, 1, 1, 3, 70))):
                _set(values.append, _scalar(field, sample, rng))
    elif kind == 1:
        del values[rng.randrange(len(values))]
    elif kind == 2:
        del values[:]
    elif kind == 3:
        place = rng.randrange(len(values))
        moved = list(values)
        moved.insert(rng.randrange(len(moved)), moved.pop(place))
        copies = [_copy(each) for each in moved]
        del values[:]
        values.extend(copies)
    elif kind == 4:
        values.append(_copy(rng.choice(list(values))))
    elif field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
        place = rng.randrange(len(values))
        if field.name in ("input", "output") and rng.random() < 0.7:
            names = [name for each in found if isinstance(each, onnx.NodeProto) for name in each.output]
            values[place] = rng.choice(names) if names else "x"
        else:
            _set(lambda value: values.__setitem__(place, value), _scalar(field, values[place], rng))


def _copy(value: Any) -> Any:
    if not isinstance(value, Message):
        return value
    copied = type(value)()
    copied.CopyFrom(value)
    return copied


def _python(field: FieldDescriptor) -> type:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes
    return str if field.cpp_type == FieldDescriptor.CPPTYPE_STRING else int
