"""Events counted into frames, and folders of recordings as rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.data.preprocessing import Preprocessing
from snnc.errors import InputError
from snnc.events import EventFrames, Recording, accumulated, streamed
from tests.material_files import read, refused
from tests.recordings import SENSOR, noise, written


def held(events: np.ndarray, parts: int = 3) -> Recording:
    return Recording(Path("held"), SENSOR, lambda: iter(np.array_split(events, parts)))


def plain(events: np.ndarray, form: EventFrames) -> np.ndarray:
    """Count one event after the other."""
    start = int(events["t"][0])
    end = start + form.duration if form.duration else int(events["t"][-1]) + 1
    counts = np.zeros(SENSOR, int)
    for e in events:
        counts[e["y"], e["x"]] += 1
    rate = counts * 1e6 / (int(events["t"][-1]) + 1 - start)
    kept = [
        e for e in events if e["t"] < end and not (form.hot_pixels and rate[e["y"], e["x"]] > form.hot_pixels)
    ]
    frames = np.zeros((form.frames or 1, *form.shape(SENSOR)))
    for i, e in enumerate(kept):
        share = (e["t"] - start) / (end - start) if form.frames_by == "time" else i / len(kept)
        f = int(share * (form.frames or 1) + 1e-9)
        c = int(e["p"]) if form.polarity == "channels" else 0
        d = form.downsample
        frames[f, c, e["y"] // d, e["x"] // d] += 2 * int(e["p"]) - 1 if form.polarity == "signed" else 1
    return frames if form.frames is not None else frames[0]


class TestAccumulated:
    @given(
        frames=st.sampled_from((None, 1, 4, 7)),
        by=st.sampled_from(("time", "count")),
        duration=st.sampled_from((None, 150_000, 10**7)),
        polarity=st.sampled_from(("channels", "signed", "both")),
        downsample=st.sampled_from((1, 2, 4)),
        hot=st.sampled_from((None, 8.0)),
        seed=st.integers(0, 9),
    )
    def test_like_counting_one_by_one(
        self,
        frames: int | None,
        by: str,
        duration: int | None,
        polarity: str,
        downsample: int,
        hot: float | None,
        seed: int,
    ) -> None:
        form = EventFrames(None, frames, by, duration, polarity, downsample, hot)
        events = noise(seed=seed)
        found = accumulated(held(events), form)
        assert found.dtype == np.float32
        assert np.array_equal(found, plain(events, form))

    def test_frames_add_up(self) -> None:
        events = noise()
        whole = accumulated(held(events), EventFrames())
        for by in ("time", "count"):
            parts = accumulated(held(events), EventFrames(frames=5, frames_by=by))
            assert np.array_equal(parts.sum(0), whole)
        counts = accumulated(held(events), EventFrames(frames=5, frames_by="count", polarity="both"))
        assert counts.sum((1, 2, 3)).tolist() == [60] * 5

    def test_a_hot_pixel_alone_is_left_out(self) -> None:
        events = noise(2000)
        events["x"][::4], events["y"][::4] = 3, 5
        found = accumulated(held(events), EventFrames(polarity="both", hot_pixels=500.0))[0]
        assert found[5, 3] == 0
        assert found.sum() == ((events["x"] != 3) | (events["y"] != 5)).sum()

    @pytest.mark.parametrize(
        ("form", "said"),
        [
            ({"hot_pixels": 0.001}, "holds no events in its window"),
            ({"frames": 500, "frames_by": "count"}, "has 300 events for 500 frames"),
            ({"downsample": 3}, "cannot be added up in squares of 3 pixels"),
        ],
    )
    def test_windows_that_cannot_be(self, form: dict[str, Any], said: str) -> None:
        with pytest.raises(InputError, match=said):
            accumulated(held(noise()), EventFrames.from_dict(form))

    def test_no_events(self) -> None:
        with pytest.raises(InputError, match="holds no events: leave it out"):
            accumulated(held(noise(1)[:0]), EventFrames())


class TestStreamed:
    @pytest.mark.parametrize("by", ["time", "count"])
    def test_adds_up_to_the_accumulated(self, by: str) -> None:
        events = noise()
        every = 9_000 if by == "time" else 17
        found = list(streamed(held(events), EventFrames(frames_by=by), every))
        start = events["t"][0]
        steps = (events["t"] - start) // every if by == "time" else np.arange(len(events)) // every
        assert [frame.sum() for frame in found] == np.bincount(steps).tolist()
        assert np.array_equal(sum(found), accumulated(held(events), EventFrames()))

    def test_silence_is_frames_of_zeros(self) -> None:
        events = noise(2)
        events["t"] = 0, 100
        assert [frame.sum() for frame in streamed(held(events), EventFrames(), 25)] == [1, 0, 0, 0, 1]
        with pytest.raises(InputError, match="a frame every 0"):
            list(streamed(held(events), EventFrames(), 0))


class TestRows:
    def folder(self, folder: Path) -> Path:
        for number, name in enumerate(("b", "a", "b", "a")):
            (folder / name).mkdir(exist_ok=True)
            path = written(folder / name, "bin", noise(seed=number))
            path.rename(path.with_name(f"{number}.bin"))
        return folder

    def test_a_folder_of_class_folders(self, tmp_path: Path) -> None:
        found = read(self.folder(tmp_path), events={"sensor": list(SENSOR)})
        assert found.x.shape == (4, 2, *SENSOR)
        assert found.y is not None
        assert found.y.tolist() == [0, 0, 1, 1]
        assert np.array_equal(found.x[0], accumulated(held(noise(seed=1)), EventFrames()))
        assert found.preprocessing is not None
        assert found.preprocessing.rows_layout == "NCHW"
        over_time = read(tmp_path, events={"sensor": SENSOR, "frames": 3})
        assert over_time.x.shape == (4, 3, 2, *SENSOR)

    def test_one_recording(self, tmp_path: Path) -> None:
        path = written(tmp_path, "es", noise())
        assert read(path).x.shape == (1, 2, *SENSOR)

    def test_refused(self, tmp_path: Path) -> None:
        assert "does not say how large its sensor is" in refused(self.folder(tmp_path))
        (tmp_path / "a" / "1.bin").write_bytes(b"1234567")
        assert "1.bin is cut short" in refused(tmp_path, {"events": {"sensor": SENSOR}})

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ([], "`events` is \\[\\]; give an object"),
            ({"bins": 3}, "unknown keys bins"),
            ({"sensor": [34]}, "`sensor` is \\[34\\]"),
            ({"sensor": 34}, "`sensor` is 34"),
            ({"sensor": [0, 3]}, "`sensor` is"),
            ({"frames": 0}, "`frames` is 0"),
            ({"frames": True}, "`frames` is True"),
            ({"frames_by": "event"}, "`frames_by` is 'event'"),
            ({"duration": -1}, "`duration` is -1"),
            ({"polarity": "none"}, "`polarity` is 'none'"),
            ({"downsample": None}, "`downsample` is None"),
            ({"hot_pixels": float("nan")}, "`hot_pixels` is nan"),
        ],
    )
    def test_keys(self, values: Any, said: str) -> None:
        with pytest.raises(InputError, match=said):
            Preprocessing.from_dict({"events": values})

    def test_keys_are_kept(self) -> None:
        values = {"sensor": [34, 34], "frames": 8, "polarity": "signed", "hot_pixels": 100.0}
        prepared = Preprocessing.from_dict({"divide": 2, "events": values})
        assert prepared.as_dict()["events"] == values
        assert Preprocessing.from_dict(prepared.as_dict()) == prepared
        assert "events" not in Preprocessing().as_dict()
