"""Files of event cameras, held to what was written, and to what other libraries write."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.errors import InputError
from snnc.events import open_recording, recording
from tests.recordings import SENSOR, WRITERS, noise, write_dat, write_evt2, write_evt3, written

SHARED = Path(__file__).parents[2] / "shared" / "streams" / "nmnist_test_dev.npz"


def read(path: Path) -> np.ndarray:
    return np.concatenate(list(open_recording(path, SENSOR).chunks()))


def refused(path: Path, sensor: tuple[int, int] | None = SENSOR) -> str:
    with pytest.raises(InputError) as caught:
        list(open_recording(path, sensor).chunks())
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


class TestFormats:
    @pytest.mark.parametrize("kind", WRITERS)
    @pytest.mark.parametrize("chunk", [1 << 20, 7])
    def test_every_event_as_written(
        self, tmp_path: Path, kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recording, "CHUNK", chunk)
        events = noise()
        assert np.array_equal(read(written(tmp_path, kind, events)), events)

    @settings(max_examples=30)
    @given(seed=st.integers(0, 99), chunk=st.integers(1, 9), kind=st.sampled_from(("evt2", "evt3")))
    def test_vectors_and_ends_of_parts(
        self, tmp_path_factory: pytest.TempPathFactory, seed: int, chunk: int, kind: str
    ) -> None:
        """Rows of pixels at one time, cut anywhere."""
        rng = np.random.default_rng(seed)
        events = noise(40, seed, last=9)
        events["y"] = events["t"] % SENSOR[0]
        events["p"] = events["t"] % 2
        events = np.unique(np.sort(events, order=("t", "x")))
        events["t"] += rng.integers(0, 9000)
        path = written(tmp_path_factory.mktemp("raw"), kind, events)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(recording, "CHUNK", chunk)
            assert np.array_equal(read(path), events)

    @pytest.mark.parametrize("write", [write_dat, write_evt2, write_evt3])
    def test_clocks_that_begin_again(self, tmp_path: Path, write: Callable[..., None]) -> None:
        bits = {write_dat: 32, write_evt2: 34, write_evt3: 24}[write]
        events = noise(200, last=1000)
        events["t"] += 2**bits - 500
        path = tmp_path / ("a.dat" if write is write_dat else "a.raw")
        write(path, events)
        assert np.array_equal(read(path), events)

    @pytest.mark.skipif(not SHARED.is_file(), reason="needs ../shared")
    @pytest.mark.parametrize("kind", ["bin", "bs2", "es", "evt2", "evt3", "dat2", "npy"])
    def test_a_real_recording(self, tmp_path: Path, kind: str) -> None:
        from tests import recordings

        with np.load(SHARED) as data:
            end = data["offsets"][1]
            events = np.zeros(end, recording.EVENT)
            for name, key in zip("txyp", ("t", "x", "y_px", "p"), strict=True):
                events[name] = data[key][:end]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(recordings, "SENSOR", (34, 34))
            path = written(tmp_path, kind, events)
        assert np.array_equal(np.concatenate(list(open_recording(path, (34, 34)).chunks())), events)

    @pytest.mark.skipif(importlib.util.find_spec("faery") is None, reason="needs faery")
    @pytest.mark.parametrize("name", ["a.aedat4", "a.es", "evt2.raw", "evt3.raw", "dat1.dat", "dat2.dat"])
    def test_what_faery_writes(self, tmp_path: Path, name: str) -> None:
        faery: Any = importlib.import_module("faery")
        events, path = noise(), tmp_path / name
        theirs: Any = np.zeros(len(events), faery.EVENTS_DTYPE)
        for ours, field in zip("txyp", ("t", "x", "y", "on"), strict=True):
            theirs[field] = events[ours]
        version = None if path.stem == "a" else path.stem
        stream = faery.events_stream_from_array(theirs, dimensions=SENSOR[::-1])
        stream.to_file(path, version=version, zero_t0=False)
        assert np.array_equal(read(path), events)
        path.write_bytes(path.read_bytes()[: -3 if name != "a.aedat4" else -300])
        assert "cut short" in refused(path)


class TestRefusals:
    @pytest.mark.parametrize("kind", ["bin", "bs2", "dat2", "evt2", "evt3", "es", "npy", "h5"])
    def test_cut_short(self, tmp_path: Path, kind: str) -> None:
        path = written(tmp_path, kind, noise())
        path.write_bytes(path.read_bytes()[: 1 - 2 * 2 if kind != "h5" else -3000])
        assert "cut short" in refused(path) or kind == "h5"

    @pytest.mark.parametrize("kind", ["dat2", "evt2", "evt3", "es", "h5", "npy"])
    def test_garbage(self, tmp_path: Path, kind: str) -> None:
        path = written(tmp_path, kind, noise())
        path.write_bytes(b"\x93 no such file, whatever its name says")
        refused(path, None)

    @pytest.mark.parametrize("kind", ["bs2", "npy", "h5", "dat2"])
    def test_out_of_order(self, tmp_path: Path, kind: str) -> None:
        events = noise()
        events["t"][[20, 200]] = events["t"][[200, 20]]
        assert "event 21: it is at" in refused(written(tmp_path, kind, events))

    @pytest.mark.parametrize("kind", WRITERS)
    def test_outside_the_sensor(self, tmp_path: Path, kind: str) -> None:
        events = noise()
        events["x"][150] = SENSOR[1]
        assert "event 150: column 20" in refused(written(tmp_path, kind, events))

    def test_sensors(self, tmp_path: Path) -> None:
        path = written(tmp_path, "evt3", noise())
        assert "is of a sensor of 12 x 20 (height x width), and `sensor` is 34 x 34" in refused(
            path, (34, 34)
        )
        assert open_recording(path).sensor == SENSOR
        assert "does not say how large its sensor is" in refused(written(tmp_path, "bin", noise()), None)
        with pytest.raises(InputError, match=r"holds no events by its name: known are \.aedat4 \.bin"):
            open_recording(tmp_path / "a.avi")
        with pytest.raises(InputError, match="does not exist"):
            open_recording(tmp_path / "a.es")

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"t": "f8"}, "its t is float64: give microseconds as integers"),
            ({"x": "i2"}, "its x is negative"),
            ({"x": "i4"}, "its x is beyond 65,535"),
            ({"p": "i1"}, "its polarities are"),
        ],
    )
    def test_columns(self, tmp_path: Path, fields: dict[str, str], said: str) -> None:
        types = {"t": "u8", "x": "u2", "y": "u2", "p": "u1"} | fields
        events = noise().astype(np.dtype(list(types.items())))
        values = {
            "x": -1 if types["x"] == "i2" else 70000 if types["x"] == "i4" else 1,
            "p": types["p"] == "i1" and -1,
        }
        for name, value in values.items():
            events[name][3] = value
        path = tmp_path / "a.npy"
        np.save(path, events)
        assert said in refused(path)

    def test_names_of_columns(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        events = noise()
        events = events.view(
            list(zip(("timestamp", "x", "y", "polarity"), ("i8", "u2", "u2", "u1"), strict=True))
        )
        np.save(path, events)
        assert np.array_equal(read(path)["t"], events["timestamp"])
        events = events.view(list(zip(("time", "x", "y", "sign"), ("i8", "u2", "u2", "u1"), strict=True)))
        np.save(path, events)
        assert "holds time, x, y, sign, and 0 of them can be the p of events" in refused(path)
        np.save(path, np.zeros((3, 4)))
        assert "holds no events" in refused(path)
        signs = noise().astype(np.dtype([("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "i1")]))
        signs["p"] = 2 * signs["p"] - 1
        np.save(path, signs)
        assert np.array_equal(read(path), noise())

    def test_versions(self, tmp_path: Path) -> None:
        path = tmp_path / "a.raw"
        path.write_bytes(b"% format EVT21;height=12;width=20\n% end\n")
        assert "is EVT21: save it as EVT2 or EVT3" in refused(path)
        path.write_bytes(b"% geometry 20x12\n")
        assert "does not name its format" in refused(path)
        path = tmp_path / "a.dat"
        path.write_bytes(b"% Version 3\n% Width 20\n% Height 12\n\x0c\x08")
        assert "of version 3" in refused(path)
        path.write_bytes(b"% Version 2\n% Width 20\n% Height 12\n\x01\x08")
        assert "events of kind 0x01" in refused(path)
