"""CIFAR's binary files as rows, and their download."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from snnc.data import download as downloads
from snnc.data.cifar import read_cifar
from snnc.data.download import SOURCES, download
from snnc.data.material import is_decoded, preprocessing_beside, read_material
from snnc.data.preprocessing import Preprocessing
from snnc.errors import InputError, UsageError


def written(folder: Path, name: str, labels: list[list[int]], seed: int = 0) -> np.ndarray[Any, Any]:
    """Write records, and return their pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072)).astype(np.uint8)
    folder.mkdir(exist_ok=True)
    rows = np.concatenate([np.array(labels, np.uint8), pixels], axis=1)
    (folder / name).write_bytes(rows.tobytes())
    return pixels.reshape(-1, 3, 32, 32)


def test_a_folder_gives_its_training_images(tmp_path: Path) -> None:
    parts = [written(tmp_path, f"data_batch_{k}.bin", [[k], [k + 1]], k) for k in range(1, 6)]
    written(tmp_path, "test_batch.bin", [[9]])
    found = read_material(tmp_path)
    assert found.y is not None
    assert found.x.dtype == np.uint8
    np.testing.assert_array_equal(found.x, np.concatenate(parts))
    assert found.y.tolist() == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert is_decoded(tmp_path)
    some = Preprocessing(divide=255)
    assert preprocessing_beside(tmp_path, some) is some
    few = read_cifar(tmp_path, 3)
    assert few is not None
    np.testing.assert_array_equal(few[0], found.x[:3])
    test = read_material(tmp_path / "test_batch.bin")
    assert test.y is not None
    assert test.y.tolist() == [9]


def test_the_fine_label_counts(tmp_path: Path) -> None:
    x = written(tmp_path, "train.bin", [[3, 77], [19, 99]])
    found = read_cifar(tmp_path)
    assert found is not None
    np.testing.assert_array_equal(found[0], x)
    assert found[1].tolist() == [77, 99]


def test_damaged_files_are_told(tmp_path: Path) -> None:
    written(tmp_path / "some", "data_batch_1.bin", [[1]])
    with pytest.raises(InputError, match="holds CIFAR-10 without data_batch_2"):
        read_cifar(tmp_path / "some")
    written(tmp_path, "train.bin", [[3, 100]])
    with pytest.raises(InputError, match=r"holds a label of 100: it is damaged"):
        read_cifar(tmp_path / "train.bin")
    (tmp_path / "test.bin").write_bytes(b"abc")
    with pytest.raises(InputError, match="has 3 bytes, no multiple of 3074"):
        read_cifar(tmp_path / "test.bin")
    assert read_cifar(tmp_path / "other.bin") is None


def test_downloads_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def retrieve(url: str, **given: Any) -> None:
        asked.update(given, url=url)
        if "100" in url:
            raise ValueError("hash differs")

    monkeypatch.setattr(downloads, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "pooch", SimpleNamespace(retrieve=retrieve, Untar=SimpleNamespace))
    assert download("cifar10", tmp_path) == tmp_path / "cifar10" / "cifar-10-batches-bin"
    assert (asked["url"], asked["known_hash"]) == SOURCES["cifar10"][:2]
    assert asked["processor"].extract_dir == "cifar10"
    with pytest.raises(InputError, match=r"cifar100 could not be loaded from https.*hash differs"):
        download("cifar100", tmp_path)
    with pytest.raises(UsageError, match="'mnist' is unknown; known: cifar10, cifar100"):
        download("mnist", tmp_path)
    monkeypatch.setattr(downloads, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs pooch, which is not installed: pip install pooch"):
        download("cifar10", tmp_path)
