"""Events counted into frames: by time or by number, per polarity, on fewer pixels, without hot ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from snnc.errors import InputError
from snnc.events.recording import EventArray, Recording

POLARITIES = {"channels": 2, "signed": 1, "both": 1}
"""Channels of a frame: darker and brighter apart, brighter minus darker, or both alike."""

WAYS = ("time", "count")

MOST_FRAMES, MOST_PIXELS, MOST_TIME = 2**16, 2**14, 2**40
"""Bounds on what is asked for: frames, pixels along a side, microseconds."""


@dataclass(frozen=True, slots=True)
class EventFrames:
    """How a recording becomes a row. Nothing here is drawn at random.

    Attributes:
        sensor: (height, width) in pixels, where the file does not say it.
        frames: (frames, channels, height, width) per row; ``None`` for all events in one,
            (channels, height, width).
        frames_by: ``time``: each as long as the others; ``count``: each with as many events, to one.
        duration: microseconds from the first event on that count; ``None`` for the whole recording.
        polarity: ``channels`` (0 darker, 1 brighter), ``signed`` (brighter minus darker) or ``both``.
        downsample: so many pixels in each direction are added up into one.
        hot_pixels: events a second, over the whole recording, above which a pixel's events are left out.
    """

    sensor: tuple[int, int] | None = None
    frames: int | None = None
    frames_by: str = "time"
    duration: int | None = None
    polarity: str = "channels"
    downsample: int = 1
    hot_pixels: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be done.

        Raises:
            InputError: naming the key.
        """
        given: Any = self.sensor
        if given is not None:
            size = tuple(given) if isinstance(given, list | tuple) else ()
            if len(size) != 2 or not all(_is_whole(n, MOST_PIXELS) for n in size):
                raise InputError(f"`sensor` is {self.sensor!r}; give [height, width] in pixels")
            object.__setattr__(self, "sensor", size)
        bounds = {"frames": MOST_FRAMES, "duration": MOST_TIME, "downsample": MOST_PIXELS}
        for name, most in bounds.items():
            value = getattr(self, name)
            if not (value is None and name != "downsample") and not _is_whole(value, most):
                raise InputError(f"`{name}` is {value!r}; give an integer from 1 to {most:,}")
        choices: tuple[tuple[str, Any, Any], ...] = (
            ("frames_by", self.frames_by, WAYS),
            ("polarity", self.polarity, tuple(POLARITIES)),
        )
        for name, value, known in choices:
            if value not in known:
                raise InputError(f"`{name}` is {value!r}; it must be {', '.join(known)}")
        rate: Any = self.hot_pixels
        if rate is not None and not (
            isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate < float("inf")
        ):
            raise InputError(f"`hot_pixels` is {rate!r}; give a positive number of events a second")

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form: the keys that are not at their defaults."""
        values = asdict(self)
        given = {
            field.name: values[field.name] for field in fields(self) if values[field.name] != field.default
        }
        return {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Read the JSON form.

        Raises:
            InputError: it is no object, has an unknown key, or a value of the wrong kind.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping):
            raise InputError(f"`events` is {values!r}; give an object with the keys {', '.join(known)}")
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InputError(f"`events` has unknown keys {', '.join(unknown)}; known: {', '.join(known)}")
        return cls(**values)

    def shape(self, sensor: tuple[int, int]) -> tuple[int, int, int]:
        """Return (channels, height, width) of a frame.

        Raises:
            InputError: the sensor cannot be divided so.
        """
        height, width = sensor
        if height % self.downsample or width % self.downsample:
            raise InputError(
                f"a sensor of {height} x {width} cannot be added up in squares of {self.downsample} pixels: "
                "give a common divisor as `downsample`"
            )
        return POLARITIES[self.polarity], height // self.downsample, width // self.downsample

    def add(self, frames: NDArray[np.int64], events: EventArray, index: NDArray[np.int64]) -> None:
        """Add events, (n,), to the frames, (frames, channels, height, width), that they belong to, (n,)."""
        _, channels, height, width = frames.shape
        channel = events["p"] if self.polarity == "channels" else 0
        y, x = events["y"] // self.downsample, events["x"] // self.downsample
        place = ((index * channels + channel) * height + y) * width + x
        amount = 2 * events["p"].astype(np.int64) - 1 if self.polarity == "signed" else 1
        np.add.at(frames.reshape(-1), place, amount)


def accumulated(recording: Recording, form: EventFrames) -> NDArray[np.float32]:
    """Count the events of a recording into the frames of one row.

    The recording is read twice or three times, some events at a time, and never held as a whole. With n
    events from t0 to t1, or to t0 + duration - 1, and F frames, event i at t belongs to frame
    floor((t - t0) F / (t1 + 1 - t0)) by time and to frame floor(i F / n) by count; all in integers.

    Returns:
        (frames, channels, height, width), or (channels, height, width); counts as float32.

    Raises:
        InputError: the file is damaged, has no events in its window, or fewer than frames.
    """
    kept = _Kept.of(recording, form)
    count = form.frames or 1
    total = sum(len(events) for events in kept.events()) if form.frames_by == "count" else 0
    if form.frames_by == "count" and total < count:
        raise InputError(
            f"{recording.path} has {total} events for {count} frames: give fewer `frames`, or by time"
        )
    frames = np.zeros((count, *form.shape(recording.sensor)), np.int64)
    seen = 0
    for events in kept.events():
        if form.frames_by == "time":
            index = (events["t"] - kept.start) * count // (kept.end - kept.start)
        else:
            index = np.arange(seen, seen + len(events)) * count // total
        form.add(frames, events, index)
        seen += len(events)
    if not seen:
        raise InputError(
            f"{recording.path} holds no events in its window: leave it out, or change `duration` or "
            "`hot_pixels`"
        )
    return (frames if form.frames is not None else frames[0]).astype(np.float32)


def streamed(recording: Recording, form: EventFrames, every: int) -> Iterator[NDArray[np.float32]]:
    """Yield the frames of a recording as they become complete, however many there are.

    Args:
        recording: where events come from.
        form: as for a row; ``frames`` does not count.
        every: microseconds, or events, from one frame to the next.

    Yields:
        (channels, height, width); the last by count may hold fewer events.

    Raises:
        InputError: as for :func:`accumulated`.
    """
    if not _is_whole(every, MOST_TIME):
        raise InputError(f"a frame every {every!r}: give a positive integer of microseconds or events")
    kept = _Kept.of(recording, form)
    current, seen = -1, 0
    frames = np.zeros((1, *form.shape(recording.sensor)), np.int64)
    for events in kept.events():
        steps = (
            events["t"] - kept.start if form.frames_by == "time" else seen + np.arange(len(events))
        ) // every
        seen += len(events)
        edges = np.flatnonzero(np.diff(steps, prepend=-1))
        for start, end in zip(edges, [*edges[1:], len(events)], strict=True):
            step = int(steps[start])
            while current < step:
                if current >= 0:
                    yield frames[0].astype(np.float32)
                frames[:] = 0
                current += 1
            part = events[start:end]
            form.add(frames, part, np.zeros(len(part), np.int64))
    if current < 0:
        raise InputError(f"{recording.path} holds no events in its window: leave it out")
    yield frames[0].astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Kept:
    """The events of a recording that count.

    Attributes:
        recording: where they come from.
        start, end: microseconds; the end is not included.
        hot: (height, width) pixels whose events are left out.
    """

    recording: Recording
    start: int
    end: int
    hot: NDArray[np.bool_] | None

    @classmethod
    def of(cls, recording: Recording, form: EventFrames) -> _Kept:
        """Read a recording once: how long it is, and how often each pixel sends."""
        form.shape(recording.sensor)
        height, width = recording.sensor
        sent = np.zeros(height * width, np.int64)
        first: int | None = None
        last = 0
        for events in recording.chunks():
            first = int(events["t"][0]) if first is None else first
            last = int(events["t"][-1])
            if form.hot_pixels is not None:
                np.add.at(sent, events["y"].astype(np.int64) * width + events["x"], 1)
        if first is None:
            raise InputError(f"{recording.path} holds no events: leave it out")
        hot = None
        if form.hot_pixels is not None:
            hot = (sent * 1e6 > form.hot_pixels * (last + 1 - first)).reshape(height, width)
        end = last + 1 if form.duration is None else first + form.duration
        return cls(recording, first, end, hot)

    def events(self) -> Iterator[EventArray]:
        for events in self.recording.chunks():
            found = events[events["t"] < self.end]
            yield found if self.hot is None else found[~self.hot[found["y"], found["x"]]]
            if len(found) < len(events):
                return


def _is_whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
