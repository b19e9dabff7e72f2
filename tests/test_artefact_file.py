"""Artefacts on disk: what is written comes back, and what is damaged, foreign or too new is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import fields, replace
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.artefact import Artefact, Metadata, load, save
from snnc.artefact.metadata import HASH, content_hash
from snnc.errors import ArtefactError, InputError, InternalError, NonFiniteError
from snnc.ir.batch import rows_of
from snnc.ir.layout import InputLayout
from snnc.ir.neuron import Schedule
from snnc.ir.snn import SnnGraph
from snnc.simulation.reference import encode
from snnc.writing import replacing
from tests.spiking_graphs import as_float, graphs, random_graph, random_inputs

METADATA = Metadata(
    pipeline="lower,init-membrane{fraction=0.5}",
    preset="balanced",
    records=({"pass": "lower", "changed": True, "nodes": 12, "units": [0.1, 2.5]},),
    preprocessing={"divide": 255.0, "mean": [0.5], "std": [0.25], "layout": "NCHW", "transpose_hw": False},
    source_path="networks/größe.onnx",
    source_sha256="ab" * 32,
    calibration={"rows": 500, "sha256": "cd" * 32, "seed": 0},
    classes=("cat", "dog"),
)


@cache
def small_file() -> bytes:
    """Return the bytes of an artefact of a small network."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.snn.onnx")
        save(Artefact(random_graph(2), METADATA), path)
        return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An artefact of a small network."""
    path = tmp_path / "network.snn.onnx"
    path.write_bytes(small_file())
    return path


def assert_equal_graphs(found: SnnGraph, expected: SnnGraph) -> None:
    """Compare everything that a graph holds, down to the types of its arrays."""
    assert [type(node) for node in found] == [type(node) for node in expected]
    for one, other in zip(found, expected, strict=True):
        for field in fields(one):
            value, wanted = getattr(one, field.name), getattr(other, field.name)
            assert type(value) is type(wanted), (one.name, field.name)
            if isinstance(wanted, np.ndarray):
                assert value.dtype == wanted.dtype
                np.testing.assert_array_equal(value, wanted)
            else:
                assert value == wanted
    settings = (
        "name",
        "outputs",
        "output_names",
        "timesteps",
        "settle_steps",
        "schedule",
        "max_timesteps",
        "density",
    )
    assert {key: getattr(found, key) for key in settings} == {key: getattr(expected, key) for key in settings}


@settings(max_examples=40)
@given(graph=graphs(), as_floats=st.booleans())
def test_a_network_comes_back_node_by_node(
    tmp_path_factory: pytest.TempPathFactory, graph: SnnGraph, as_floats: bool
) -> None:
    path = tmp_path_factory.mktemp("artefact") / "network.snn.onnx"
    graph = as_float(graph, 0.0137) if as_floats and not graph.only_timesteps else graph
    flat = {node.name: InputLayout.plain((prod(node.shape),), node.shape).as_dict() for node in graph.inputs}
    if len(flat) == 1:
        metadata = replace(METADATA, input_layout=next(iter(flat.values())))
    else:
        told = tuple({"name": name, "dtype": "float32", "layout": layout} for name, layout in flat.items())
        metadata = replace(METADATA, inputs=told)
    save(Artefact(graph, metadata), path)
    found = load(path)
    assert_equal_graphs(found.graph, graph)
    assert found.metadata == metadata
    again = path.with_name("again.snn.onnx")
    save(found, again)
    assert again.read_bytes() == path.read_bytes()


def test_the_bytes_do_not_depend_on_the_process(path: Path, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from snnc.artefact import load, save
save(load({str(path)!r}), {str(tmp_path / "other.snn.onnx")!r})
"""
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parent.parent
    )
    assert (tmp_path / "other.snn.onnx").read_bytes() == path.read_bytes()


def test_plain_onnxruntime_opens_the_file(path: Path) -> None:
    code = f"""
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession({str(path)!r}, options)
shape = [4, *session.get_inputs()[0].shape[1:]]
print(session.run(None, {{"x": numpy.ones(shape, numpy.float32)}})[0].shape, "snnc" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split("\n")[0] == "(4, 7) False"


@settings(max_examples=150)
@given(data=st.data())
def test_damage_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("artefact") / "network.snn.onnx"
    content = small_file()
    start = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        damaged = content[:start]
    else:
        other = data.draw(st.binary(min_size=0, max_size=20))
        damaged = content[:start] + other + content[start + data.draw(st.integers(1, 20)) :]
    if damaged == content:
        return
    path.write_bytes(damaged)
    with pytest.raises(ArtefactError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def edit(path: Path, **properties: str) -> None:
    """Change properties of a file without renewing its hash."""
    model = onnx.load(path)
    for entry in model.metadata_props:
        entry.value = properties.get(entry.key.removeprefix("snnc."), entry.value)
    path.write_bytes(model.SerializeToString())


def test_a_changed_weight_is_noticed(path: Path) -> None:
    model = onnx.load(path)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name.endswith(".weight"))
    values = bytearray(weight.raw_data)
    values[0] ^= 1
    weight.raw_data = bytes(values)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="does not match its SHA-256"):
        load(path)


def test_changed_metadata_are_noticed(path: Path) -> None:
    edit(path, preset='"accurate"')
    with pytest.raises(ArtefactError, match="does not match its SHA-256"):
        load(path)


def test_a_newer_schema_is_refused_before_anything_else(path: Path) -> None:
    edit(path, schema_version="3", snnc_version='"9.1.0"')
    with pytest.raises(ArtefactError, match=r"made by a newer snnc: 9\.1\.0, schema 3.*upgrade snnc"):
        load(path)


def test_a_hash_of_nonsense_does_not_help(path: Path) -> None:
    model = onnx.load(path)
    del model.graph.node[-1]
    for entry in model.metadata_props:
        if entry.key == HASH:
            entry.value = content_hash(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="not in the form that snnc writes"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"PK\x03\x04 a picture or so", "not an ONNX file"),
        (b"\x08\x0a\xff\xff\xff", "truncated, or not an ONNX file"),
    ],
)
def test_files_that_are_no_artefacts(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "picture.snn.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=message):
        load(path)


def test_an_ordinary_onnx_model_is_no_artefact(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[1] x) => (float[1] y) { y = Relu(x) }'
    )
    onnx.save(model, path)
    with pytest.raises(ArtefactError, match="not an artefact of snnc; make one with `snnc convert`"):
        load(path)


def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.snn.onnx"
    with path.open("wb") as stream:
        stream.write(b"\x08\x0a")
        stream.truncate(2**40)
    with pytest.raises(ArtefactError, match="not an ONNX file"):
        load(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read.*No such file"):
        load(tmp_path / "missing.snn.onnx")
    with pytest.raises(InputError, match="not a regular file"):
        load(tmp_path)


def test_places_that_cannot_be_written(path: Path, tmp_path: Path) -> None:
    artefact = Artefact(random_graph(0))
    for bad in (
        tmp_path / "none" / "x.snn.onnx",
        path / "x.snn.onnx",
        tmp_path,
        Path("/"),
        Path("/dev/null"),
        tmp_path / ("x" * 300),
    ):
        with pytest.raises(InputError, match="cannot be written") as caught:
            save(artefact, bad)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]
    assert Path("/dev/null").is_char_device()


def test_a_full_disk_leaves_the_old_file(path: Path) -> None:
    """The limit on file sizes stands for a full disk."""
    before = path.read_bytes()
    code = f"""
import resource, signal
from snnc.artefact import load, save
from snnc.errors import InputError
artefact = load({str(path)!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save(artefact, {str(path)!r})
except InputError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert "cannot be written (File too large)" in done.stdout
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_metadata_without_a_text_form_are_a_bug() -> None:
    metadata = Metadata(records=({"units": np.float32(1)},))
    with pytest.raises(InternalError, match="'records' is not made of JSON values"):
        Artefact(random_graph(0), metadata).model()


def test_an_interrupted_write_leaves_the_old_file(path: Path) -> None:
    def write_half() -> None:
        with replacing(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_link_keeps_pointing_to_the_file(path: Path) -> None:
    link = path.with_name("link.snn.onnx")
    link.symlink_to(path)
    save(Artefact(random_graph(3)), link)
    assert link.is_symlink()
    assert load(path).graph.name == "random-3"


@settings(max_examples=20)
@given(graph=graphs())
def test_encoding_is_the_reference_s(graph: SnnGraph) -> None:
    q = random_inputs(graph, 8, 0)
    x = {
        node.name: (rows_of(q, node.name) * np.float32(1.37 * node.scale)).astype(np.float32)
        for node in graph.encoders
    }
    found = Artefact(graph).encode(x)
    for node in graph.encoders:
        assert rows_of(found, node.name).dtype == np.int32
        np.testing.assert_array_equal(rows_of(found, node.name), encode(node, x[node.name]))


def test_raw_rows_are_preprocessed_and_laid_out() -> None:
    graph = random_graph(1, schedule=Schedule.LAYERWISE)
    channels, height, width = graph.nodes[0].shape
    raw = np.random.default_rng(0).integers(0, 256, (5, height, width, channels)).astype(np.uint8)
    metadata = Metadata(
        preprocessing={"divide": 255, "mean": [0.5], "std": [0.25], "layout": "NHWC"},
        input_layout={
            "source_shape": [height, width, channels],
            "grid": [height, width, channels],
            "axes": [2, 0, 1],
        },
    )
    expected = ((raw / np.float32(255) - np.float32(0.5)) / np.float32(0.25)).transpose(0, 3, 1, 2)
    found = Artefact(graph, metadata).canonical(raw)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_inputs_that_do_not_fit_are_refused() -> None:
    artefact = Artefact(random_graph(1))
    shape = artefact.graph.nodes[0].shape
    with pytest.raises(InputError, match="takes arrays of shape"):
        artefact.encode(np.zeros((2, 3), np.float32))
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        artefact.encode(np.full((2, *shape), np.nan, np.float32))
    with pytest.raises(InputError, match="give an array of numbers"):
        artefact.encode(np.full((2, *shape), "a"))
