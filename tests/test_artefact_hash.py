"""The hash of an artefact: of its content alone, the same with every version of protobuf."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from snnc.artefact import Artefact, load, save
from snnc.artefact.canonical import canonical_hash
from snnc.artefact.metadata import EARLIER_HASH, HASH, content_hash, earlier_hash
from snnc.errors import ArtefactError
from tests.spiking_graphs import random_graph


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("artefact") / "n.snn.onnx"
    save(Artefact(random_graph(6)), path)
    return onnx.load(path)


def copy(model: onnx.ModelProto) -> onnx.ModelProto:
    found = onnx.ModelProto()
    found.CopyFrom(model)
    return found


def test_the_form_that_is_hashed_is_written_down() -> None:
    """What is expected stands here byte by byte: no version of any library has a say in it."""
    small = onnx.ModelProto(ir_version=8, producer_name="ab")
    small.graph.name = "é"
    small.graph.node.add(op_type="Add", input=["x", ""])
    small.graph.node[0].attribute.add(name="a", f=0.5, type=onnx.AttributeProto.FLOAT)
    small.metadata_props.add(key="own", value="does not count")
    small.metadata_props.add(key="k", value="v")
    expected = (
        b"1i8;2b2:ab"
        b"7{1[1:1{1[2:1b1:x1b0:4b3:Add5[1:5{1b1:a2f\x00\x00\x00\x00\x00\x00\xe0?20i1;}}2b2:\xc3\xa9}"
        b"0[1:0{1b1:k2b1:v}"
    )
    assert canonical_hash(small, "own") == hashlib.sha256(expected).hexdigest()


def test_the_order_of_fields_in_the_file_does_not_matter(model: onnx.ModelProto) -> None:
    parts = []
    for field, _ in model.ListFields():
        part = copy(model)
        for other, _ in model.ListFields():
            if other.name != field.name:
                part.ClearField(other.name)
        parts.append(part.SerializeToString())
    turned = onnx.ModelProto.FromString(b"".join(reversed(parts)))
    assert content_hash(turned) == content_hash(model)


def change_weight(model: onnx.ModelProto) -> None:
    tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    tensor.raw_data = bytes([tensor.raw_data[0] ^ 1]) + tensor.raw_data[1:]


def change_wiring(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if len(node.input) > 1)
    node.input[0], node.input[1] = node.input[1], node.input[0]


def change_function(model: onnx.ModelProto) -> None:
    model.functions[0].node[0].op_type += "2"


def change_setting(model: onnx.ModelProto) -> None:
    next(entry for entry in model.metadata_props if entry.key == "snnc.settle_steps").value = "1"


def add_unknown_field(model: onnx.ModelProto) -> None:
    model.MergeFromString(b"\xf8\x3f\x01")  # field 1023, of which no ONNX knows


CHANGES = (change_weight, change_wiring, change_function, change_setting, add_unknown_field)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("earlier", [False, True], ids=["today", "earlier"])
def test_files_of_both_forms_are_checked(
    change: Callable[[onnx.ModelProto], None], earlier: bool, model: onnx.ModelProto, tmp_path: Path
) -> None:
    stored, path = copy(model), tmp_path / "n.snn.onnx"
    if earlier:
        kept = [entry for entry in stored.metadata_props if entry.key != HASH]
        del stored.metadata_props[:]
        stored.metadata_props.extend(kept)
        stored.metadata_props.add(key=EARLIER_HASH, value=earlier_hash(stored))
    path.write_bytes(stored.SerializeToString())
    np.testing.assert_array_equal(load(path).graph.nodes[-1].shape, random_graph(6).nodes[-1].shape)
    change(stored)
    path.write_bytes(stored.SerializeToString())
    with pytest.raises(ArtefactError, match="does not match its SHA-256"):
        load(path)


def test_a_file_without_any_hash_is_refused(model: onnx.ModelProto, tmp_path: Path) -> None:
    stored, path = copy(model), tmp_path / "n.snn.onnx"
    kept = [entry for entry in stored.metadata_props if entry.key != HASH]
    del stored.metadata_props[:]
    stored.metadata_props.extend(kept)
    path.write_bytes(stored.SerializeToString())
    with pytest.raises(ArtefactError, match="does not match its SHA-256"):
        load(path)


@given(names=st.lists(st.text("ab[]{};:0123456789", max_size=6), max_size=5), at=st.integers(0, 4))
def test_different_lists_have_different_hashes(names: list[str], at: int) -> None:
    """No text can be taken for the structure around it."""

    def of(values: list[str]) -> str:
        node = helper.make_node("Add", values, [])
        info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
        return canonical_hash(helper.make_model(helper.make_graph([node], "g", [info], [])), "")

    joined = ["".join(names[: at + 1]), *names[at + 1 :]]
    assert (of(names) == of(joined)) == (names == joined)
