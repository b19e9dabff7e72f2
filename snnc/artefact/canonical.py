"""The hash of a model's content: of arrays, settings and wiring, however protobuf may write them.

Protobuf promises the same bytes for the same message only within one version of the library. So what is
hashed are the fields themselves: each as its number, its type and its value, in the order of their numbers,
texts and arrays with their length. Fields that are not set do not count, and where the values of a parameter
lie, in the file or beside it, does not either.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import onnx
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet


def canonical_hash(model: onnx.ModelProto, without: str) -> str:
    """Return the SHA-256 of all that a model holds.

    Args:
        model: its parameters within it, not in files beside it.
        without: the key of the property that holds the hash itself, which does not count.
    """
    digest = hashlib.sha256()
    rest = onnx.ModelProto()
    rest.metadata_props.extend(entry for entry in model.metadata_props if entry.key != without)
    for field, value in model.ListFields():
        if field.name != "metadata_props":
            _add(digest, field.number, value)
    _add(digest, 0, rest.metadata_props)
    _add_unknown(digest, model)
    return digest.hexdigest()


def _add(digest: Any, number: int, value: Any) -> None:
    """Add one field, or each of a repeated one."""
    match value:
        case Message():
            digest.update(f"{number}{{".encode())
            for field, inner in value.ListFields():
                _add(digest, field.number, inner)
            _add_unknown(digest, value)
            digest.update(b"}")
        case bytes():
            digest.update(f"{number}b{len(value)}:".encode())
            digest.update(value)
        case str():
            _add(digest, number, value.encode("utf-8", "surrogatepass"))
        case int():
            digest.update(f"{number}i{value};".encode())
        case float():
            digest.update(f"{number}f".encode() + struct.pack("<d", value))
        case _:
            digest.update(f"{number}[{len(value)}:".encode())
            for item in value:
                _add(digest, number, item)


def _add_unknown(digest: Any, message: Message) -> None:
    """Add what this version of ONNX has no name for: it is part of the file, too."""
    for field in UnknownFieldSet(message):
        digest.update(f"?{field.field_number},{field.wire_type},{field.data!r};".encode())
