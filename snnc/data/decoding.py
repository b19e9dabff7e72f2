"""How files become rows: what is done to pictures, sounds, recordings, tables before numbers are scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from snnc.errors import InputError
from snnc.events.frames import EventFrames

ALL_EVENTS = EventFrames()
"""All events of a recording in one frame, darker and brighter apart."""

INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
"""The filters of Pillow, by its names."""

MODES = ("L", "RGB")
"""The modes of pictures that become rows, by Pillow's names: one channel or red, green, blue, of 8 bits."""

LARGEST_NUMBER = 2**28
"""Largest number of samples, and of samples per second."""

LARGEST_SIDE = 2**14
"""Most pixels along one side that a picture is resized or cropped to."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """What is done to the files of a collection, in this order; what is not given is not done.

    Attributes:
        mode: ``L`` or ``RGB``: pictures of the other, and those with a palette, are converted as Pillow does.
        resize: the length of the shorter side, the other in proportion and rounded down, as torchvision does;
            or (height, width).
        interpolation: the filter of Pillow that resizes.
        crop: (height, width) of the centre that is kept, or one length for both, as torchvision does.
        sample_rate: samples per second that sounds must have.
        samples: sounds are cut at their end, or filled up with zeros, to so many samples.
        labels: the column of a table that holds the labels; ``label`` or ``y`` by default.
        events: how recordings of event cameras become frames; all events in one by default.
    """

    mode: str | None = None
    resize: int | tuple[int, int] | None = None
    interpolation: str = "bilinear"
    crop: tuple[int, int] | None = None
    sample_rate: int | None = None
    samples: int | None = None
    labels: str | None = None
    events: EventFrames = ALL_EVENTS

    def __post_init__(self) -> None:
        """Refuse what cannot be done.

        Raises:
            InputError: naming the key.
        """
        if self.mode is not None and self.mode not in MODES:
            raise InputError(f"`mode` is {self.mode!r}; it must be {' or '.join(MODES)}")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(f"`interpolation` is {self.interpolation!r}; known: {', '.join(INTERPOLATIONS)}")
        object.__setattr__(self, "resize", _sizes("resize", self.resize))
        crop = _sizes("crop", self.crop)
        object.__setattr__(self, "crop", (crop, crop) if isinstance(crop, int) else crop)
        for name in ("sample_rate", "samples"):
            value = getattr(self, name)
            if value is not None and not (_is_whole(value) and 1 <= value <= LARGEST_NUMBER):
                raise InputError(f"`{name}` is {value!r}; give a positive integer")
        if self.labels is not None and not _is_text(self.labels):
            raise InputError(f"`labels` is {self.labels!r}; give the name of a column")

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form: the keys that are not at their defaults."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {key: value for key, value in values.items() if value != _DEFAULTS[key]}
        return {key: _plain(value) for key, value in given.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON form.

        Raises:
            InputError: a value is of the wrong kind.
        """
        events = {"events": EventFrames.from_dict(values["events"])} if "events" in values else {}
        return cls(**{**values, **events})


DECODING_KEYS = tuple(field.name for field in fields(Decoding))
"""The keys of a preprocessing file that speak of files."""

_DEFAULTS = {field.name: field.default for field in fields(Decoding)}


def _sizes(name: str, value: Any) -> Any:
    """Return one length, or (height, width)."""
    several = isinstance(value, list | tuple)
    lengths = value if several else (value,)
    if value is None:
        return None
    if not all(_is_whole(item) and 1 <= item <= LARGEST_SIDE for item in lengths) or (
        several and len(lengths) != 2
    ):
        raise InputError(f"`{name}` is {value!r}; give a positive integer, or [height, width]")
    return tuple(value) if several else value


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it."""
    if isinstance(value, EventFrames):
        return value.as_dict()
    return list(value) if isinstance(value, tuple) else value


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
