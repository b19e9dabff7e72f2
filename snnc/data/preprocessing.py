"""Preprocessing of raw rows, such as uint8 images, for the source network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from snnc.data.decoding import DECODING_KEYS, Decoding
from snnc.data.readings import LAST, LAYOUTS, Arrangement, NetworkInput, OpenShape, Wanted
from snnc.data.rows import arrangement, exact
from snnc.data.stored import stored
from snnc.errors import InputError
from snnc.ir.blocks import in_blocks
from snnc.ir.graph import FloatArray, NumberArray, Shape
from snnc.options import input_and_file

NUMBERS = ("divide", "mean", "std", "rows_layout", "transpose_hw", "layout", "input")
KEYS = (*NUMBERS, *DECODING_KEYS)

PRESET = "preset:"
"""What the name of a preset begins with, where a file could be named."""

LARGEST = float(np.finfo(np.float32).max)
"""Largest number that float32 holds."""

LARGEST_INPUT = 2.0**48
"""Largest input of a network: sums of squares of what its layers make of it still fit float32."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """``(x / divide - mean) / std``, then the layout that the network takes.

    Attributes:
        divide: 255 for bytes.
        mean, std: one value, or one per channel.
        layout: of the *network*, one of ``NCHW``, ``NHWC``, ``NCL`` and ``NLC``. It counts only where it is
            not to be seen: in a network of flat rows, and in one that cannot be converted.
        transpose_hw: whether height and width of the rows are exchanged.
        rows_layout: of the *rows*, one of the same; ``None`` to find it by their shape, and to refuse them
            where it is not certain.
        legacy: whether it was stored before there was ``rows_layout``: where several layouts fit, images
            are channels last.
        files: what is done before, where rows are files: pictures, sounds, tables.
        input: the name of the input that it is for, where a network has several: rows of the others are given
            as it takes them.
    """

    divide: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str | None = None
    transpose_hw: bool = False
    rows_layout: str | None = None
    legacy: bool = False
    files: Decoding = field(default_factory=Decoding)
    input: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that no row could be prepared with; one mean or deviation need not be in a tuple.

        Raises:
            InputError: a value is of the wrong kind.
        """
        if not _is_number(self.divide):
            raise InputError(f"`divide` is {self.divide!r}; give a finite number")
        for name, value in (("mean", self.mean), ("std", self.std)):
            if not len(_many(value)) or not all(map(_is_number, _many(value))):
                raise InputError(f"`{name}` is {value!r}; give a finite number, or one per channel")
        divisors: tuple[tuple[str, Any], ...] = (("divide", self.divide), ("std", self.std))
        for name, value in divisors:
            if not all(np.float32(item) for item in _many(value)):
                raise InputError(f"`{name}` is {value!r}, by which float32 cannot divide")
        for name, text in (("layout", self.layout), ("rows_layout", self.rows_layout)):
            if text is not None and text not in LAYOUTS:
                raise InputError(f"`{name}` is {text!r}; it must be NCHW or NHWC, or NCL or NLC of signals")
        if not isinstance(self.transpose_hw, bool):
            raise InputError(f"`transpose_hw` is {self.transpose_hw!r}; it must be true or false")
        given: object = self.input
        if given is not None and (not isinstance(given, str) or not given):
            raise InputError(f"`input` is {self.input!r}; give the name of one input of the network")
        object.__setattr__(self, "divide", float(self.divide))
        for name, value in (("mean", self.mean), ("std", self.std)):
            object.__setattr__(self, name, tuple(map(float, _many(value))))

    def apply(
        self, x: NumberArray, network: NetworkInput | OpenShape | None = None, name: str = "the rows"
    ) -> FloatArray:
        """Prepare raw rows.

        Args:
            x: (n, ...) rows: flat, or with channels first, last, or left out where there is one.
            network: what takes them, or the shape of one row as it takes it. Without it, images come back
                channels first, or as ``layout`` says, and rows of another rank keep their shape.
            name: what the rows are called in messages.

        Returns:
            (n, *shape of the network), float32.

        Raises:
            InputError: the layout of the rows does not fit the network or is not certain, the channels do
                not fit mean and standard deviation, or a result is out of range.
        """
        if not isinstance(x, np.ndarray):
            raise InputError(f"{name} are {type(x).__name__}; give a NumPy array")
        if x.dtype.kind not in "uif":
            raise InputError(f"{name} of type {x.dtype} cannot be preprocessed; give numbers")
        if network is None:
            made = self._alone(x.shape, name)
        else:
            made = self.arrangement(
                x.shape,
                network if isinstance(network, NetworkInput) else NetworkInput.of_shape(network),
                name,
            )
        prepared = self._scaled(made, x[:1])
        if len(x) > 1:
            prepared = stored((len(x), *prepared.shape[1:]), np.float32)
            for rows in in_blocks(prepared):
                prepared[rows] = self._scaled(made, x[rows])
        if (row := row_out_of_range(prepared)) is not None:
            raise InputError(
                f"row {row} is NaN or beyond {LARGEST_INPUT:.0e} after the preprocessing: check both"
            )
        return prepared

    def _scaled(self, made: Arrangement, x: NumberArray) -> FloatArray:
        with np.errstate(all="ignore"):  # what overflows is told in one line
            scaled = made.axes_of(x).astype(np.float32) / np.float32(self.divide)
            scaled = (scaled - made.per_channel(self.mean)) / made.per_channel(self.std)
        return made.arranged(scaled)

    @lru_cache(maxsize=64)  # noqa: B019 - of values: rows are often given one by one
    def arrangement(self, shape: Shape, network: NetworkInput, name: str = "the rows") -> Arrangement:
        """Find how rows of a shape, (n, ...), become what a network takes; see :meth:`apply`."""
        several = {len(values) for values in (self.mean, self.std) if len(values) > 1}
        if len(several) > 1:
            raise InputError(
                f"mean has {len(self.mean)} values and std {len(self.std)}: give as many of both"
            )
        wanted = Wanted(
            self.rows_layout, self.layout, self.transpose_hw, max(several, default=1), self.legacy
        )
        return arrangement(shape, network, wanted, name)

    def _alone(self, shape: Shape, name: str) -> Arrangement:
        """Find how rows become images, where no network says what it takes."""
        row = shape[1:]
        if len(row) not in (2, 3):
            for label, values in (("mean", self.mean), ("std", self.std)):
                if len(values) > 1:
                    raise InputError(
                        f"{label} has {len(values)} values, but rows of shape {shape} have no channels; "
                        "give one value, or raw images, (n, height, width[, channels])"
                    )
            return Arrangement(row, tuple(range(len(row))), row, None)
        if len(row) == 2:
            last, sizes = True, (*row, 1)
        else:
            channels = max(len(self.mean), len(self.std))
            ends = [axis for axis in (0, 2) if row[axis] == channels] or [0, 2]
            if self.rows_layout is None and len(ends) > 1 and not self.legacy:
                raise InputError(
                    f"{name} of shape {shape} can be channels first or last: say which by rows_layout "
                    "NCHW or NHWC, or give the network that takes them"
                )
            last = self.rows_layout in LAST if self.rows_layout is not None else ends[-1] == 2
            sizes = (row[1], row[2], row[0]) if not last else (row[0], row[1], row[2])
        high, wide, channels = sizes
        if self.transpose_hw:
            high, wide = wide, high
        first = self.layout not in LAST
        network = (channels, high, wide) if first else (high, wide, channels)
        known = replace(self, rows_layout="NHWC" if last else "NCHW")
        return known.arrangement(shape, NetworkInput(network, network, (0 if first else 2,)), name)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "divide": self.divide,
            "mean": list(self.mean),
            "std": list(self.std),
            "layout": self.layout,
            "transpose_hw": self.transpose_hw,
            **({} if self.legacy else {"rows_layout": self.rows_layout}),
            **({} if self.input is None else {"input": self.input}),
            **self.files.as_dict(),
        }

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON form out of an artefact, which may be from before there was ``rows_layout``.

        Raises:
            InputError: as :meth:`from_dict`.
        """
        found = cls.from_dict(values)
        return found if "rows_layout" in values else replace(found, legacy=True)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON form.

        Raises:
            InputError: no mapping, an unknown key, or a value of the wrong kind.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"the preprocessing is {values!r}, not an object with keys")
        unknown = sorted(set(values) - set(KEYS))
        if unknown:
            raise InputError(f"unknown preprocessing keys {', '.join(unknown)}; known: {', '.join(KEYS)}")
        numbers = {key: value for key, value in values.items() if key in NUMBERS}
        decoding = {key: value for key, value in values.items() if key in DECODING_KEYS}
        return cls(**numbers, files=Decoding.from_dict(decoding))

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return a preprocessing by its name.

        Raises:
            InputError: there is none of that name.
        """
        if name not in PRESETS:
            known = ", ".join(f"{PRESET}{key}" for key in PRESETS)
            raise InputError(f"the preprocessing {PRESET}{name} is unknown; known: {known}")
        return cls.from_dict(PRESETS[name])

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a JSON file, or return the preset that ``preset:NAME`` names.

        Either may stand behind ``INPUT=``, the input of several that it is for.

        Raises:
            InputError: the file is missing or holds something else, or there is no such preset.
        """
        name, file = input_and_file(path)
        if name is not None:
            return replace(cls.read(file), input=name)
        if path.name.startswith(PRESET) and not path.exists():
            return cls.preset(path.name.removeprefix(PRESET))
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_each_once)
        except InputError as error:
            raise InputError(f"the preprocessing {path}: {error}") from None
        except OSError as error:
            raise InputError(f"cannot read the preprocessing {path}: {error.strerror}") from None
        except (RecursionError, ValueError) as error:
            raise InputError(f"the preprocessing {path} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise InputError(
                f"the preprocessing {path} must be a JSON object with the keys {', '.join(KEYS)}"
            )
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"the preprocessing {path}: {error}") from None


def prepared_rows(
    x: NumberArray, network: NetworkInput, preprocessing: Preprocessing | None, name: str = "the rows"
) -> NumberArray:
    """Bring rows into the form that a network takes: the one way from rows to an input.

    Args:
        x: (n, ...) rows: raw in any certain layout where there is a preprocessing, else exactly as the
            network takes them.
        network: what takes them.
        preprocessing: from raw rows to values; ``None`` if they are ready.
        name: what the rows are called in messages.

    Raises:
        InputError: they do not fit, or their layout is not certain.
    """
    if preprocessing is not None:
        return preprocessing.apply(x, network, name)
    exact(x.shape, network, name)
    return x


def for_inputs(preprocessing: Preprocessing | None, names: Iterable[str]) -> dict[str, Preprocessing | None]:
    """Return what prepares the rows of each input of a network, by its name.

    Raises:
        InputError: the network has no input of the name that the preprocessing is for.
    """
    found = {
        name: preprocessing if preprocessing is None or preprocessing.input in (None, name) else None
        for name in names
    }
    if preprocessing is not None and preprocessing.input not in (None, *found):
        known = ", ".join(map(repr, found))
        raise InputError(f"the preprocessing is for the input {preprocessing.input!r}, and there is {known}")
    return found


def check_fit(
    shape: Shape, network: NetworkInput, preprocessing: Preprocessing | None, name: str = "the rows"
) -> None:
    """Refuse rows, by their shape (n, ...), that :func:`prepared_rows` would refuse for it."""
    if preprocessing is not None:
        preprocessing.arrangement(shape, network, name)
    else:
        exact(shape, network, name)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, and refuse a key that it has twice: only the last would count."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"`{twice}` is given twice: leave one of them out")
    return found


def row_out_of_range(x: NumberArray) -> int | None:
    """Return the first row that holds NaN or what is too large for any network; ``None`` if all are fine."""
    # Half precision does not hold the limit itself.
    largest = float(np.finfo(np.float16).max) if x.dtype == np.float16 else LARGEST_INPUT
    for rows in in_blocks(x):
        fits = np.abs(x[rows]) <= largest
        if not fits.all():
            return rows.start + int(np.argmin(fits.reshape(len(fits), -1).all(axis=1)))
    return None


def _many(value: Any) -> Sequence[Any]:
    return (
        value.tolist()
        if isinstance(value, np.ndarray) and value.ndim
        else (value if isinstance(value, list | tuple) else (value,))
    )


def _is_number(value: Any) -> bool:
    """Say whether float32 holds a value; true and false are no numbers, and NaN is within no bound."""
    number = isinstance(value, int | float | np.integer | np.floating)
    return bool(number and not isinstance(value, bool) and abs(value) <= LARGEST)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # As torchvision evaluates: shorter side 256, centre 224, mean and deviation of ImageNet.
    "imagenet": {
        "mode": "RGB",
        "resize": 256,
        "crop": 224,
        "divide": 255,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    },
    # Mean and deviation of all pixels of the training images of CIFAR-10.
    "cifar10": {
        "mode": "RGB",
        "divide": 255,
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.247, 0.2435, 0.2616),
    },
    # From -1 to 1, as MobileNet, Inception and others of TensorFlow take pictures.
    "tf": {"divide": 127.5, "mean": 1.0, "std": 1.0},
}
"""The preprocessings that have a name, as a file would hold them."""
