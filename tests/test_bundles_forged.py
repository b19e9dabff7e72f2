"""Bundles whose hashes were renewed after a change, and manifests beyond all form: refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from snnc.artefact import Artefact, save
from snnc.backends import load_backend, manifest
from snnc.backends.deployment import deploy, verify
from snnc.backends.golden import FILE as GOLDEN
from snnc.errors import ArtefactError
from tests.spiking_graphs import as_float, random_graph


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return deploy(Artefact(random_graph(4)), load_backend("spiking-onnx"), tmp_path / "bundle").directory


def forge(bundle: Path, **changes: Any) -> None:
    """Change a manifest, and renew all hashes."""
    content = json.loads((bundle / manifest.NAME).read_text(encoding="utf-8"))
    rest = {key: value for key, value in content.items() if key not in ("files", manifest.OWN_HASH)}
    manifest.write(bundle, {**rest, **changes})


def refused(bundle: Path) -> str:
    """Return why a bundle is refused."""
    with pytest.raises(ArtefactError) as caught:
        verify(bundle)
    assert str(bundle) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"kind": "snnc bundle", "network": "\\ud800"}'])
def test_manifests_beyond_all_form(bundle: Path, text: str) -> None:
    (bundle / manifest.NAME).write_text(text, encoding="utf-8")
    assert "not valid JSON of snnc" in refused(bundle)


@pytest.mark.parametrize("name", ["a\0b", "a" * 300])
def test_files_that_no_disk_can_hold(bundle: Path, name: str) -> None:
    content = manifest.read(bundle)
    with pytest.raises(ArtefactError, match="cannot be read"):
        manifest.check_files(bundle, {"files": {**content["files"], name: "0"}})


@pytest.mark.parametrize("changes", [{"target": ["c99"]}, {"profile": ["scan"]}, {"profile": {}}])
def test_names_that_are_no_texts(bundle: Path, changes: dict[str, Any]) -> None:
    forge(bundle, **changes)
    assert "does not know" in refused(bundle)


@pytest.mark.parametrize("rows", [{"x": 0, "q": 0, "y": 0}, {"y": 0}, {"x": 7}])
def test_golden_vectors_without_an_answer_to_each(bundle: Path, rows: dict[str, int]) -> None:
    with np.load(bundle / GOLDEN) as arrays:
        values = {key: array[: rows.get(key)] for key, array in arrays.items()}
    np.savez(bundle / GOLDEN, **values)
    forge(bundle)
    assert "rows of x, q and y" in refused(bundle)


@pytest.mark.parametrize("array", [np.zeros((8, 4), np.int32), np.int32(5)])
def test_golden_vectors_in_another_form(bundle: Path, array: NDArray[np.int32]) -> None:
    with (bundle / GOLDEN).open("wb") as stream:
        np.save(stream, array)
    forge(bundle)
    assert "missing or damaged" in refused(bundle)
    np.savez(bundle / GOLDEN, x=np.int32(1), q=array, y=array)
    forge(bundle)
    assert "missing or damaged" in refused(bundle)


@pytest.fixture
def c_bundle(tmp_path: Path) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    return deploy(Artefact(random_graph(4)), load_backend("c99"), tmp_path / "bundle").directory


@pytest.mark.parametrize("key", ["q", "y"])
@pytest.mark.parametrize("change", ["rows of another shape", "floats", "beyond all limits"])
def test_golden_vectors_that_do_not_fit_the_network(c_bundle: Path, key: str, change: str) -> None:
    with np.load(c_bundle / GOLDEN) as arrays:
        values = dict(arrays)
    if change == "floats":
        values[key] = values[key].astype(np.float64)
    elif change == "beyond all limits":
        values[key] = np.full_like(values[key], 2**20)
    else:
        values[key] = values[key].reshape(len(values[key]), -1)[:, :-1]
    np.savez(c_bundle / GOLDEN, **values)
    forge(c_bundle)
    expected = (
        "altered" if (key, change) == ("y", "beyond all limits") else "does not fit the bundle's network"
    )
    assert expected in refused(c_bundle)


def test_another_network_beside_the_c(c_bundle: Path) -> None:
    save(Artefact(random_graph(5)), c_bundle / "network.snn.onnx")
    forge(c_bundle)
    refused(c_bundle)
    save(Artefact(as_float(random_graph(4))), c_bundle / "network.snn.onnx")
    forge(c_bundle)
    assert "no network for C, float32 parameters" in refused(c_bundle)
    (c_bundle / "network.snn.onnx").write_bytes(b"damaged")
    forge(c_bundle)
    assert "network.snn.onnx: not an ONNX file" in refused(c_bundle)
