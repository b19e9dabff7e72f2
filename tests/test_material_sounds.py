"""Rows from sounds."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.data.material import read_material
from snnc.errors import InputError
from tests.material_files import read, refused, sound


class TestSounds:
    @given(values=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9), width=st.integers(1, 4))
    def test_every_width(
        self, tmp_path_factory: pytest.TempPathFactory, values: list[int], width: int
    ) -> None:
        folder = tmp_path_factory.mktemp("sounds")
        cut = [value >> 8 * (4 - width) for value in values]
        data = b"".join(
            (value + 128).to_bytes(1, "little")
            if width == 1
            else value.to_bytes(width, "little", signed=True)
            for value in cut
        )
        sound(folder / "a.wav", data, width)
        found = read_material(folder).x
        assert found.dtype == np.float32
        expected = np.array([[value / 2 ** (8 * width - 1) for value in cut]], np.float32)
        assert np.array_equal(found, expected)

    def test_channels_stay_apart(self, tmp_path: Path) -> None:
        sound(tmp_path / "a.wav", np.arange(8, dtype="<i2").tobytes(), channels=2)
        found = read_material(tmp_path).x
        assert found.shape == (1, 4, 2)
        assert found[0, 1].tolist() == [2 / 2**15, 3 / 2**15]

    def test_classes_and_lengths(self, tmp_path: Path) -> None:
        sound(tmp_path / "yes" / "a.wav", np.arange(4, dtype="<i2").tobytes())
        sound(tmp_path / "no" / "a.wav", np.arange(6, dtype="<i2").tobytes())
        said = refused(tmp_path)
        assert "is 4 samples long, 1 channel where the first" in said
        assert "`samples`" in said
        found = read(tmp_path, samples=5)
        assert found.y is not None
        assert found.y.tolist() == [0, 1]
        assert (found.x[1] * 2**15).tolist() == [0, 1, 2, 3, 0]
        assert (found.x[0] * 2**15).tolist() == [0, 1, 2, 3, 4]

    def test_rates(self, tmp_path: Path) -> None:
        sound(tmp_path / "a.wav", b"\0\0")
        assert read(tmp_path, sample_rate=8000).x.shape == (1, 1)
        assert "8000 samples per second where `sample_rate` is 16000" in refused(
            tmp_path, {"sample_rate": 16000}
        )
        sound(tmp_path / "b.wav", b"\0\0", rate=16000)
        assert "b.wav has 16000 samples per second where the first" in refused(tmp_path)

    def test_without_samples(self, tmp_path: Path) -> None:
        sound(tmp_path / "a.wav", b"")
        for keys in ({}, {"samples": 4}):
            assert "a.wav holds no samples" in refused(tmp_path, keys)

    def test_damaged(self, tmp_path: Path) -> None:
        sound(tmp_path / "a.wav", bytes(100))
        whole = (tmp_path / "a.wav").read_bytes()
        for kept in (0, 3, 12, 20, 40, 60):
            (tmp_path / "a.wav").write_bytes(whole[:kept])
            assert "a.wav" in refused(tmp_path)
        (tmp_path / "a.wav").write_bytes(whole.replace(b"\x01\x00\x01\x00", b"\x03\x00\x01\x00", 1))
        assert "PCM" in refused(tmp_path)

    @pytest.mark.parametrize("place", [4, 16, 40])
    @pytest.mark.parametrize("length", [0, 1, 2**16, 2**31 - 1, 2**32 - 1])
    def test_forged_lengths(self, tmp_path: Path, place: int, length: int) -> None:
        """Those of the file, of its format and of its samples."""
        sound(tmp_path / "a.wav", bytes(240))
        whole = (tmp_path / "a.wav").read_bytes()
        (tmp_path / "a.wav").write_bytes(whole[:place] + struct.pack("<I", length) + whole[place + 4 :])
        said = ""
        try:
            assert read_material(tmp_path).x.shape == (1, 120)
        except InputError as error:
            said = str(error)
        assert not said or ("a.wav" in said and "\n" not in said)
