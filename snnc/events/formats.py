"""The kinds of files that hold events, and how each is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from snnc.errors import InputError
from snnc.events import address_events, containers, event_stream, prophesee
from snnc.events.recording import EventArray, Recording


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file.

    Attributes:
        read: yields the events of a file.
        sensor: (height, width) as a file says; ``None`` where no file does.
    """

    read: Callable[[Path], Iterator[EventArray]]
    sensor: Callable[[Path], tuple[int, int] | None] | None = None


FORMATS: Mapping[str, Format] = {
    ".aedat4": Format(containers.read_aedat4, containers.sensor_of_aedat4),
    ".bin": Format(address_events.read_bin),
    ".bs2": Format(address_events.read_bs2),
    ".dat": Format(prophesee.read_dat, prophesee.sensor_of),
    ".es": Format(event_stream.read_es, event_stream.sensor_of),
    ".h5": Format(containers.read_hdf5),
    ".hdf5": Format(containers.read_hdf5),
    ".npy": Format(containers.read_npy),
    ".raw": Format(prophesee.read_raw, prophesee.sensor_of),
}
SUFFIXES = tuple(FORMATS)


def told_sensor(path: Path) -> tuple[int, int] | None:
    """Return (height, width) in pixels, where a recording says it."""
    form = FORMATS.get(path.suffix.lower())
    return None if form is None or form.sensor is None or not path.is_file() else form.sensor(path)


def open_recording(path: Path, sensor: tuple[int, int] | None = None) -> Recording:
    """Open a recording; what it is says the ending of its name.

    Args:
        path: the file.
        sensor: (height, width) in pixels, which files that do not say it need.

    Raises:
        InputError: there is no such file, its sensor is unknown or another than the one given, or it is
            damaged.
        UsageError: a library that reads it is not installed.
    """
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise InputError(f"{path} holds no events by its name: known are {' '.join(SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the path of the data")
    said = None if form.sensor is None else form.sensor(path)
    if said is not None and sensor is not None and said != sensor:
        raise InputError(
            f"{path} is of a sensor of {said[0]} x {said[1]} (height x width), and `sensor` is "
            f"{sensor[0]} x {sensor[1]}: correct it, or leave it out"
        )
    size = said or sensor
    if size is None:
        raise InputError(
            f"{path} does not say how large its sensor is: give `sensor`, [height, width], in the "
            'preprocessing, such as {"events": {"sensor": [34, 34]}} of N-MNIST'
        )
    return Recording(path, size, partial(form.read, path))
