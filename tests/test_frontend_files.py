"""Damaged, foreign and hostile files end in one line that says what, where and how to mend it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from snnc.errors import InputError
from snnc.frontend import check_onnx, read_onnx
from tests.onnx_models import check_equal, model, node, normal, saved

NETWORK = model(
    [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Shape", "r", "s"),
        node("Gather", "s zero", "g"),
        node("Unsqueeze", "g axes", "u"),
        node("Concat", "u rest", "t", axis=0),
        node("Reshape", "r t", "f"),
        node("Gemm", "f v", "l", transB=1),
        node("Softmax", "l"),
    ],
    ["N", 3, 4, 4],
    {
        "w": normal(2, 3, 3, 3),
        "b": normal(2),
        "v": normal(3, 32),
        "zero": np.array(0),
        "axes": np.array([0]),
        "rest": np.array([-1]),
    },
)


def refused(path: Path, words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        read_onnx(path)
    message = str(raised.value)
    assert raised.value.exit_code == 5
    assert "\n" not in message
    assert str(path) in message or path.name in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello, this is no model", "not an ONNX file"),
        (b"\x80\x05\x95" + bytes(100), "not an ONNX file"),
        (b"PK\x03\x04" + bytes(100), "not an ONNX file"),
        (bytes(1000), "not an ONNX file"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "holds no graph"),
    ],
)
def test_foreign_files(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(path, words)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    refused(tmp_path / "absent.onnx", "does not exist: check the path")
    refused(tmp_path, "is a folder")
    refused(saved(tmp_path, NETWORK) / "inside.onnx", "cannot be read: Not a directory")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = saved(tmp_path, NETWORK)
    path.chmod(0)
    refused(path, "Permission denied")


def test_huge_file(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as stream:
        stream.truncate(3 * 2**30)  # sparse: no disk is used
    refused(path, "3.0 GiB")


def test_every_truncation(tmp_path: Path) -> None:
    data = NETWORK.SerializeToString()
    path = tmp_path / "cut.onnx"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(InputError):
            read_onnx(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
def test_no_damage_makes_a_traceback(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    data = bytearray(NETWORK.SerializeToString())
    for place, value in changes:
        data[place % len(data)] = value
    path = tmp_path / "damaged.onnx"
    path.write_bytes(data)
    with contextlib.suppress(InputError):  # any other error fails the test
        check_onnx(path)


def test_a_cycle(tmp_path: Path) -> None:
    proto = model([node("Relu", "b", "a"), node("Add", "a x", "b"), node("Relu", "b")], [1, 4])
    refused(saved(tmp_path, proto), "'Relu_a' depends on its own output")


def test_an_undefined_tensor(tmp_path: Path) -> None:
    refused(saved(tmp_path, model([node("Add", "x ghost")], [1, 4])), "not a valid ONNX model.*ghost")


def test_an_unknown_attribute(tmp_path: Path) -> None:
    refused(saved(tmp_path, model([node("Relu", "x", bogus=1)], [1, 4])), "not a valid ONNX model.*bogus")


def test_nodes_out_of_order(tmp_path: Path) -> None:
    proto = model([node("MatMul", "r w"), node("Relu", "x", "r")], ["N", 4], {"w": normal(4, 2)})
    check_equal(tmp_path, proto)


def test_initialisers_that_are_inputs_too(tmp_path: Path) -> None:
    proto = model([node("MatMul", "x w")], ["N", 4], {"w": normal(4, 2)}, opset=8, ir_version=3)
    proto.graph.input.append(helper.make_tensor_value_info("w", 1, [4, 2]))
    assert check_equal(tmp_path, proto).input_name == "x"


def test_initialisers_of_old_files_that_are_no_inputs(tmp_path: Path) -> None:
    path = saved(
        tmp_path, model([node("MatMul", "x w")], ["N", 4], {"w": normal(4, 2)}, opset=8, ir_version=3)
    )
    assert read_onnx(path).graph.output == "MatMul_y"


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["a"], ["b"], name="inner"), helper.make_node("Neg", ["b"], ["c"])]
    function = helper.make_function("my", "Fn", ["a"], ["c"], body, [helper.make_opsetid("", 17)])
    proto = model([helper.make_node("Fn", ["x"], ["y"], domain="my", name="call")], ["N", 4])
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("my", 1))
    check_equal(tmp_path, proto)


def test_a_huge_constant_is_not_made(tmp_path: Path) -> None:
    nodes = [node("ConstantOfShape", "s", "c"), node("Add", "x c")]
    diagnostics = check_onnx(saved(tmp_path, model(nodes, [1, 4], {"s": np.array([10**6, 10**6])})))
    assert [d.code.number for d in diagnostics] == ["SNN102"]


def test_a_huge_pad_is_not_made(tmp_path: Path) -> None:
    pads = np.array([0, 0, 0, 0, 0, 0, 10**12, 10**12])
    diagnostics = check_onnx(saved(tmp_path, model([node("Pad", "x p")], [1, 1, 4, 4], {"p": pads})))
    assert [d.code.number for d in diagnostics] == ["SNN102"]


def external(folder: Path, location: str = "weights.bin") -> Path:
    proto = onnx.ModelProto()
    proto.CopyFrom(NETWORK)
    path = folder / "model.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    changed = onnx.load(str(path), load_external_data=False)
    for tensor in changed.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(changed.SerializeToString())
    return path


def test_external_data(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    apart = read_onnx(external(tmp_path / "a"))
    together = read_onnx(saved(tmp_path / "b", NETWORK))
    assert [type(n) for n in apart.graph] == [type(n) for n in together.graph]
    files = [tmp_path / "a" / name for name in ("model.onnx", "weights.bin")]
    assert apart.sha256 == hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
    assert together.sha256 == hashlib.sha256(together.path.read_bytes()).hexdigest()


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "a/../../weights.bin", ""])
def test_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(10000))
    refused(external(tmp_path / "inside", location), "outside its own folder")


def test_external_data_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    path = external(tmp_path / "inside")
    data = tmp_path / "inside" / "weights.bin"
    data.rename(tmp_path / "elsewhere.bin")
    data.symlink_to(tmp_path / "elsewhere.bin")
    refused(path, "outside its own folder")


def test_external_data_missing_or_short(tmp_path: Path) -> None:
    path = external(tmp_path)
    data = tmp_path / "weights.bin"
    data.write_bytes(data.read_bytes()[:50])
    with pytest.raises(InputError, match=r"weights\.bin is cut short"):
        read_onnx(path)
    data.unlink()
    refused(path, "'weights.bin', which is missing: copy it too")


@pytest.mark.parametrize(("key", "value"), [("offset", "-4"), ("length", "-8"), ("length", "many")])
def test_external_data_at_no_place(tmp_path: Path, key: str, value: str) -> None:
    path = external(tmp_path)
    changed = onnx.load(str(path), load_external_data=False)
    for entry in changed.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = value
    path.write_bytes(changed.SerializeToString())
    refused(path, "wrongly: export it again")


@pytest.mark.parametrize("location", ["weights\0.bin", "w" * 5000])
def test_external_data_under_no_name(tmp_path: Path, location: str) -> None:
    refused(external(tmp_path, location), "which is not a valid file name: export it again")


def test_external_data_of_several_names(tmp_path: Path) -> None:
    path = external(tmp_path)
    os.link(tmp_path / "weights.bin", tmp_path / "other.bin")  # as package managers store what is equal
    assert read_onnx(path).graph.output == read_onnx(saved(tmp_path, NETWORK, "whole.onnx")).graph.output
