"""Files whose hash was renewed after a change: each is refused in one line, and none is believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from snnc.artefact import Artefact, load, save
from snnc.artefact.metadata import HASH, content_hash
from snnc.errors import ArtefactError
from snnc.ir.graph import NumberArray
from tests.spiking_graphs import as_float, random_graph, with_every_function

Change = Callable[[onnx.ModelProto], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An artefact of a small network of integers."""
    path = tmp_path / "network.snn.onnx"
    save(Artefact(random_graph(0)), path)
    return path


@pytest.fixture
def functional(tmp_path: Path) -> Path:
    """An artefact of a network with every function of counts."""
    path = tmp_path / "network.snn.onnx"
    save(Artefact(with_every_function()), path)
    return path


def forge(path: Path, change: Change) -> None:
    """Change a file, and renew its hash."""
    model = onnx.load(path)
    change(model)
    for entry in model.metadata_props:
        if entry.key == HASH:
            entry.value = content_hash(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def refused(path: Path, change: Change) -> str:
    """Return why a changed file is refused."""
    forge(path, change)
    with pytest.raises(ArtefactError, match="not in the form that snnc writes") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def stated(key: str, value: str) -> Change:
    """Return a change of a property."""

    def change(model: onnx.ModelProto) -> None:
        (entry,) = (entry for entry in model.metadata_props if entry.key == f"snnc.{key}")
        entry.value = value

    return change


def called(model: onnx.ModelProto) -> Iterator[NodeProto]:
    """Yield the nodes of a model and of its loop."""
    for node in model.graph.node:
        yield node
        if node.op_type == "Loop":
            yield from node.attribute[0].g.node


def attribute(function: str, name: str, value: float | str | list[float] | list[int] | TensorProto) -> Change:
    """Return a change of an attribute of the first call of a function."""

    def change(model: onnx.ModelProto) -> None:
        node = next(node for node in called(model) if node.op_type.partition("Of")[0] == function)
        (old,) = (entry for entry in node.attribute if entry.name == name)
        old.CopyFrom(helper.make_attribute(name, value))

    return change


def parameter(name: str, convert: Callable[[NumberArray], np.ndarray]) -> Change:
    """Return a change of the values of the first parameter with such a name."""

    def change(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name.endswith(f".{name}"))
        values = np.asarray(convert(numpy_helper.to_array(tensor)))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return change


def test_a_renewed_hash_alone_is_no_offence(path: Path) -> None:
    forge(path, stated("preset", '"mine"'))
    assert load(path).metadata.preset == "mine"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("records", "[" * 100_000 + "]" * 100_000),
        ("records", "5"),
        ("density", '{"a": 1e400}'),
        ("settle_steps", "1.5"),
        ("preprocessing", "5"),
        ("preprocessing", '{"mean": []}'),
        ("preprocessing", '{"std": [NaN]}'),
        ("preprocessing", '{"divide": 1' + "0" * 400 + "}"),
        ("input_layout", "5"),
        ("input_layout", '{"source_shape": [2], "grid": [2], "axes": [0]}'),
    ],
)
def test_properties_of_another_form(path: Path, key: str, value: str) -> None:
    refused(path, stated(key, value))


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        ("IntegrateFire", "code", 3),
        ("IntegrateFire", "levels", "x"),
        ("IntegrateFire", "levels", 1.5),
        ("IntegrateFire", "unit", 3),
        ("IntegrateFire", "unit", [float("nan")] * 4),
        ("IntegrateFire", "floor", 3),
        ("Convolution", "strides", [1.0, 1.0]),
        ("Convolution", "strides", [0, 0]),
        ("Convolution", "strides", [1, 1, 1]),
        ("Convolution", "dilations", [0, 0]),
        ("Convolution", "pads", [-9, 0, 0, 0]),
        ("Convolution", "group", 0),
        ("Convolution", "group", 1.0),
        ("SumPool", "kernel_shape", [1.0, 1.0]),
        ("Pad", "pads", [0.0] * 8),
        ("Slice", "step", [1.0] * 4),
        ("EncodeNormalised", "scale", 0.5),
        ("EncodeNormalised", "scale", numpy_helper.from_array(np.array("0.5", object))),
        ("EncodeNormalised", "scale", numpy_helper.from_array(np.array(0.5 + 1j))),
        ("EncodeNormalised", "limit", 0.5),
        ("Readout", "scale", numpy_helper.from_array(np.array(np.inf))),
    ],
)
def test_attributes_of_another_form(
    path: Path, function: str, name: str, value: float | str | list[float] | list[int] | TensorProto
) -> None:
    refused(path, attribute(function, name, value))


def test_no_attribute_is_read_from_another_file(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the hash nor the check of the folder covers such a file."""
    (tmp_path / "secret").write_bytes(np.float64(0.5).tobytes())
    monkeypatch.chdir(tmp_path)
    scale = TensorProto(data_type=TensorProto.DOUBLE, data_location=TensorProto.EXTERNAL)
    scale.external_data.add(key="location", value="secret")
    refused(path, attribute("EncodeNormalised", "scale", scale))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *product(
            ("weight", "values", "threshold", "bias", "v_init"),
            (np.int64, np.uint8, np.float64, np.complex64, np.bool_, np.str_),
        ),
        # Other real numbers become float32.
        ("gain", np.complex64),
        ("gain", np.str_),
    ],
)
def test_parameters_of_another_type(path: Path, name: str, kind: type[np.generic]) -> None:
    convert = (lambda v: v.astype(str).astype(object)) if kind is np.str_ else (lambda v: v.astype(kind))
    refused(path, parameter(name, convert))


@pytest.mark.parametrize("name", ["weight", "values", "threshold", "bias", "v_init", "gain"])
def test_parameters_that_are_not_finite(path: Path, name: str) -> None:
    save(Artefact(as_float(random_graph(0))), path)
    assert "NaN or infinity" in refused(path, parameter(name, lambda values: values * np.float32(np.nan)))


@pytest.mark.parametrize(
    "change",
    [
        stated("max_timesteps", "100000000"),
        stated("max_timesteps", "9" * 4000),
        stated("settle_steps", "1000000000"),
        parameter("bias", lambda values: np.full_like(values, 2**30)),
        parameter("v_init", lambda values: np.full_like(values, -(2**31))),
        parameter("threshold", lambda values: np.full_like(values, 2**31 - 1)),
    ],
)
def test_bounds_are_proved_again(path: Path, change: Change) -> None:
    assert "beyond int32" in refused(path, change)


@pytest.mark.parametrize(
    "change",
    [
        attribute("CountProduct", "divisor", 3),
        attribute("CountProduct", "divisor", -(2**63)),
        attribute("CountProduct", "multiplier", 0),
        attribute("CountProduct", "multiplier", 2**31),
        attribute("CountProduct", "lowest", 1),
        attribute("CountProduct", "highest", 2**40),
        attribute("CountProduct", "highest", 1.5),
        attribute("CountMatrixProductTransposed", "divisor", 0),
        attribute("CountSoftmax", "axes", [7]),
        attribute("CountSoftmax", "axes", [0]),
        attribute("CountSoftmax", "axes", [1, 2]),
        attribute("CountSoftmax", "levels", 0),
        attribute("CountNormalisation", "epsilon", 0),
        attribute("CountNormalisation", "axes", [2, 1]),
        attribute("CountMaximum", "axes", [9]),
        parameter("table", lambda values: values[::-1] + np.arange(values.size, dtype=np.int32)),
        parameter("table", lambda values: values.astype(np.int64)),
        parameter("table", lambda values: values[:0]),
        parameter("table", lambda values: values * 0),
    ],
)
def test_functions_of_counts_of_another_form(functional: Path, change: Change) -> None:
    refused(functional, change)


@pytest.mark.parametrize(
    "change",
    [
        attribute("CountNormalisation", "epsilon", 2**60),
        attribute("CountNormalisation", "factor", 2**62),
    ],
)
def test_bounds_of_functions_are_proved_again(functional: Path, change: Change) -> None:
    assert "beyond int64" in refused(functional, change)


@pytest.mark.parametrize("steps", ["0", "-5"])
def test_integers_without_bounds(path: Path, steps: str) -> None:
    assert "not proved" in refused(path, stated("max_timesteps", steps))


def test_parameters_of_two_precisions(path: Path) -> None:
    message = refused(path, parameter("weight", lambda values: values.astype(np.float32)))
    assert "holds int" in message
    assert "not float32" in message
