"""Weights in a file of their own: written with the model or not at all, and read from its folder only."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from snnc.artefact import Artefact, load, save
from snnc.errors import ArtefactError, InputError
from tests.spiking_graphs import random_graph
from tests.test_artefact_file import assert_equal_graphs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An artefact with its weights in a file of their own."""
    path = tmp_path / "network.snn.onnx"
    save(Artefact(random_graph(5, blocks=4)), path, external_above=100)
    return path


def data_of(path: Path) -> Path:
    """Return the file with the weights of an artefact."""
    (data,) = path.parent.glob("*.data")
    return data


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def restate(path: Path, key: str, value: str) -> None:
    """Change what a model says of the place of its weights."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == key:
                entry.value = value
    path.write_bytes(model.SerializeToString(deterministic=True))


def test_large_weights_go_to_a_file_of_their_own(tmp_path: Path) -> None:
    graph = random_graph(5, blocks=4)
    path = tmp_path / "network.snn.onnx"
    save(Artefact(graph), path, external_above=100)
    data = data_of(path)
    assert sorted(tmp_path.iterdir()) == [path, data]
    assert data.stat().st_size > 1000
    assert data.name == f"{path.name}.{hashlib.sha256(data.read_bytes()).hexdigest()[:8]}.data"
    assert_equal_graphs(load(path).graph, graph)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    x = np.ones((1, *graph.nodes[0].shape), np.float32)
    inside = onnxruntime.InferenceSession(Artefact(graph).model().SerializeToString(), options)
    outside = onnxruntime.InferenceSession(path, options)
    np.testing.assert_array_equal(inside.run(None, {"x": x})[0], outside.run(None, {"x": x})[0])


def test_changed_weights_in_their_own_file_are_noticed(path: Path) -> None:
    data = data_of(path)
    values = bytearray(data.read_bytes())
    values[7] ^= 1
    data.write_bytes(values)
    with pytest.raises(ArtefactError, match="damaged or altered"):
        load(path)
    data.unlink()
    with pytest.raises(ArtefactError, match=r"network\.snn\.onnx\.\w+\.data.*keep both files together"):
        load(path)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "link/secret", "folder/../../secret"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "inside"
    (folder / "folder").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(100_000))
    path = folder / "network.snn.onnx"
    save(Artefact(random_graph(5, blocks=4)), path, external_above=100)
    restate(path, "location", location)
    with pytest.raises(ArtefactError, match=r"refused.*outside its folder"):
        load(path)


def test_the_bytes_and_the_names_are_always_the_same(path: Path, tmp_path: Path) -> None:
    before = content(tmp_path)
    save(load(path), path, external_above=100)
    assert content(tmp_path) == before


@pytest.mark.parametrize("refused", [".data", ".onnx"])
def test_both_files_are_replaced_or_none(path: Path, refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(path.parent)
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target.suffix == refused:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        save(Artefact(random_graph(6, blocks=4)), path, external_above=100)
    assert content(path.parent) == before


@pytest.mark.parametrize(("after", "found"), [(".data", "random-5"), (".onnx", "random-6")])
def test_an_interrupt_leaves_a_model_that_loads(
    path: Path, after: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def interrupt(self: Path, target: Path) -> Path:
        moved = replace(self, target)
        if target.suffix == after:
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(Artefact(random_graph(6, blocks=4)), path, external_above=100)
    assert load(path).graph.name == found


def test_the_weights_of_a_replaced_model_go(path: Path, tmp_path: Path) -> None:
    other = tmp_path / f"{path.name}.01234567.data"
    other.write_text("a file that the model does not name", encoding="utf-8")
    graph = random_graph(6, blocks=4)
    save(Artefact(graph), path, external_above=100)
    other.rename(tmp_path / "kept")
    assert sorted(tmp_path.iterdir()) == sorted([path, data_of(path), tmp_path / "kept"])
    assert_equal_graphs(load(path).graph, graph)
    save(Artefact(graph), path)
    assert sorted(tmp_path.iterdir()) == sorted([path, tmp_path / "kept"])


def test_weights_under_the_name_that_earlier_releases_gave(path: Path, tmp_path: Path) -> None:
    old = data_of(path).rename(tmp_path / f"{path.name}.data")
    restate(path, "location", old.name)
    artefact = load(path)
    save(artefact, path, external_above=100)
    assert not old.exists()
    assert_equal_graphs(load(path).graph, artefact.graph)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("location", "a\0b"),
        ("location", "a" * 5000),
        ("location", ""),
        ("offset", "1" + "0" * 30),
        ("offset", "-1"),
        ("length", "1" + "0" * 30),
        ("length", "1" + "0" * 15),
        ("length", "-1"),
        ("length", "many"),
    ],
)
def test_places_where_no_weights_lie(path: Path, key: str, value: str) -> None:
    restate(path, key, value)
    with pytest.raises(ArtefactError, match=r"cannot be read \(.*keep both files together"):
        load(path)


def test_weights_are_not_read_from_a_pipe(path: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    restate(path, "location", "pipe")
    with pytest.raises(ArtefactError, match="cannot be read"):
        load(path)


def test_a_link_from_another_folder(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.snn.onnx"
    link.parent.mkdir()
    link.symlink_to(path)
    assert_equal_graphs(load(link).graph, load(path).graph)
    graph = random_graph(6, blocks=4)
    save(Artefact(graph), link, external_above=100)
    assert list(link.parent.iterdir()) == [link]
    assert link.is_symlink()
    for name in (link, path):
        assert_equal_graphs(load(name).graph, graph)
    assert sorted(tmp_path.iterdir()) == sorted([link.parent, path, data_of(path)])
