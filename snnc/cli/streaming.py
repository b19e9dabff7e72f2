"""``snnc run --stream``: frames from a file or from standard input, and a line for each answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from snnc.artefact import Artefact
    from snnc.ir.graph import NumberArray

STANDARD_INPUT = "-"


def answer_stream(
    artefact: Artefact,
    source: str,
    output: Path | None,
    *,
    every: int | None,
    exit_confidence: float | None,
    keep_state: bool,
) -> None:
    """Write one JSON object a line for each answer, as soon as it is known.

    Args:
        artefact: the network.
        source: path of a ``.npy`` file of frames, (n, *shape), or ``-`` for such a file on standard input; or
            of a recording of an event camera.
        output: where to; standard output by default.
        every: microseconds of a recording that make a frame.
        exit_confidence: see :func:`snnc.analysis.streaming.stream`.
        keep_state: likewise.
    """
    from snnc.analysis.streaming import stream
    from snnc.writing import replacing

    def lines() -> Iterator[str]:
        with _frames(source, artefact.layout.source_shape, every) as frames:
            for each in stream(artefact, frames, exit_confidence=exit_confidence, keep_state=keep_state):
                told = {
                    "window": each.window,
                    "step": each.step,
                    "class": each.answer,
                    "confidence": round(each.confidence, 6),
                    "enough": each.enough,
                }
                yield json.dumps(told) + "\n"

    if output is None:
        for line in lines():
            sys.stdout.write(line)
            sys.stdout.flush()
        return
    with replacing(output) as file:
        for line in lines():
            file.write(line.encode())


@contextmanager
def _frames(source: str, shape: tuple[int, ...], every: int | None) -> Iterator[Iterator[NumberArray]]:
    """Open a file of frames, or a recording whose events become frames of that shape as they are read."""
    from snnc.errors import InputError, UsageError
    from snnc.events import SUFFIXES, EventFrames, open_recording, streamed, told_sensor

    if every is None:
        with _opened(source) as file:
            yield frames_of(file, source, shape)
        return
    if not Path(source).name.endswith(SUFFIXES):
        raise UsageError(f"--every is for recordings of event cameras, {', '.join(SUFFIXES)}: leave it out")
    if len(shape) != 3 or shape[0] != 2:
        raise InputError(f"{source} gives frames of two polarities, and the network takes {shape}")
    path = Path(source)
    # What does not say it is taken to be of a sensor of the frames' size; events outside are refused.
    recording = open_recording(path, told_sensor(path) or (shape[1], shape[2]))
    height, width = recording.sensor
    fewer = height // shape[1]
    if not fewer or (fewer * shape[1], fewer * shape[2]) != (height, width):
        raise InputError(
            f"{source} is of a sensor of {height} x {width}, of which frames of {shape[1]} x {shape[2]} are "
            "no whole fraction: record with another sensor, or convert for its size"
        )
    yield streamed(recording, EventFrames(downsample=fewer), every)


@contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    from snnc.errors import InputError

    if source == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{source} is no file: name a .npy file of frames, or `-` for standard input")
    with path.open("rb") as file:
        yield file


def frames_of(file: IO[bytes], name: str, shape: tuple[int, ...]) -> Iterator[NumberArray]:
    """Yield the frames of a ``.npy`` file one by one, as they arrive.

    Args:
        file: open; only read forwards.
        name: of it, for messages.
        shape: of a frame. The file holds (n, *shape), or recordings of them, (m, n, *shape).

    Raises:
        InputError: it is no such file, or ends within a frame.
    """
    from math import prod

    import numpy as np

    from snnc.errors import InputError

    shown = "standard input" if name == STANDARD_INPUT else name
    forms = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        sizes, fortran, kind = forms[np.lib.format.read_magic(file)](file)
    except (EOFError, KeyError, OSError, ValueError) as error:
        raise InputError(f"{shown} is no .npy file of frames: {error}") from None
    if kind.kind not in "uif" or fortran:
        raise InputError(f"{shown}: frames are numbers in C order, not {kind}")
    if sizes[1:] != shape and sizes[2:] != shape:
        raise InputError(f"{shown} holds {sizes}, and the network takes frames of {shape}")
    count, size = prod(sizes) // prod(shape), prod(shape) * kind.itemsize
    for number in range(count):
        data = file.read(size)
        if len(data) < size:
            raise InputError(f"{shown} ends within frame {number} of {count}")
        yield np.frombuffer(data, kind).reshape(shape)
