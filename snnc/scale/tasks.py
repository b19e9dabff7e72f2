"""Tasks: named functions of plain bytes, run by whoever has snnc, and what comes back of them.

A worker looks a task's function up by its name in a table of snnc's own, so that nobody who can reach a
worker's task can have it run anything else through it. What comes back is bytes, too: the results, or the
kind and the one line of an error.
"""

from __future__ import annotations

import hashlib
import os
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from snnc import errors
from snnc.errors import ClusterError, InputError, InternalError, SnncError
from snnc.scale.fingerprint import Fingerprint, fingerprint, require_alike
from snnc.scale.plain import packed, unpacked

T = TypeVar("T")

TASKS: Mapping[str, str] = {
    "describe": "snnc.scale.tasks:describe",
    "evaluate": "snnc.remote.evaluation:evaluated",
    "answers": "snnc.remote.evaluation:answered",
    "chunk": "snnc.remote.measuring:chunk",
    "differing": "snnc.remote.certification:differing",
    "simulate": "snnc.remote.simulation:simulated",
    "activations": "snnc.source.remote:activations",
    "samples": "snnc.source.remote:samples",
    "products": "snnc.numerics.regression:products",
    "convert": "snnc.remote.conversion:converted",
    "trial": "snnc.remote.trials:tried",
}
"""Where the function of each task is; nothing else runs."""

Arrays = dict[str, NDArray[Any]]
Found = tuple[dict[str, Any], Arrays]
"""What a task gives: values that JSON holds, and arrays by name."""


class Blob(Protocol):
    """Bytes that several tasks read, as a worker has them."""

    @property
    def sha256(self) -> str:
        """Of the bytes."""
        ...

    def data(self) -> bytes:
        """Return the bytes."""
        ...


Function = Callable[[dict[str, Any], Arrays, Sequence[Blob]], Found]
"""The function of a task: of values, arrays, and what it shares with others."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Bytes that several tasks read: they go once to a worker.

    Attributes:
        sha256: of the bytes.
        load: gives them; what is large is read again rather than kept.
    """

    sha256: str
    load: Callable[[], bytes] = field(compare=False)

    @classmethod
    def of(cls, data: bytes) -> Shared:
        """Return bytes that stay in memory."""
        return cls(hashlib.sha256(data).hexdigest(), lambda: data)

    def data(self) -> bytes:
        """Return the bytes.

        Raises:
            InputError: they are others by now: results would be kept under what was there before.
        """
        content = self.load()
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise InputError("a file of networks or rows has changed during the work: run the command again")
        return content


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done.

    Attributes:
        name: one of :data:`TASKS`.
        arguments: its values and arrays, packed.
        shared: what it shares with others.
        label: what it is about, for messages: ``rows 0 to 499``.
    """

    name: str
    arguments: bytes
    shared: tuple[Shared, ...] = ()
    label: str = ""


def perform(name: str, expected: str, arguments: bytes, blobs: Sequence[Blob]) -> bytes:
    """Do a task in a worker; never raises for what the task does.

    Args:
        name: of the task.
        expected: what this process has to be, packed; see :mod:`snnc.scale.fingerprint`.
        arguments: of the task, packed.
        blobs: what it shares with others.

    Returns:
        The packed result, or the error.
    """
    began = time.perf_counter()
    try:
        _one_thread()
        wanted: dict[str, Any] = unpacked(bytes.fromhex(expected))[0] if expected else {}
        if wanted:
            require_alike(wanted["fingerprint"], fingerprint(), whereabouts(), cpu=wanted["cpu"])
        values, arrays = unpacked(arguments)
        found, made = _function(name)(values, arrays, blobs)
        told = {"found": found, "worker": whereabouts(), "seconds": time.perf_counter() - began}
        return packed(told, made)
    except MemoryError:
        return failure("ClusterError", f"the worker {whereabouts()} has too little memory")
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return failure("ClusterError", f"the worker {whereabouts()} failed, {error.strerror or error}{where}")
    except SnncError as error:
        return failure(type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001 - nothing leaves a worker but bytes
        line = next(iter(str(error).strip().splitlines()), "")
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        return failure("InternalError", f"{type(error).__name__}: {line} ({place})")


def failure(kind: str, message: str) -> bytes:
    """Return what a task comes to that failed, packed.

    Args:
        kind: the class of the error, of :mod:`snnc.errors`.
        message: its line.
    """
    return packed({"error": kind, "message": message, "worker": whereabouts()})


@dataclass(frozen=True, slots=True)
class Done:
    """What came back of a task.

    Attributes:
        values, arrays: its result.
        worker: who did it.
        seconds: how long it took there.
    """

    values: dict[str, Any]
    arrays: Arrays
    worker: str
    seconds: float


def read(data: bytes) -> Done:
    """Read what a worker sent.

    Raises:
        SnncError: the task failed with it.
        ClusterError: it is not of that form.
    """
    try:
        told, arrays = unpacked(data)
    except InputError as error:  # of the worker, not of what it was given: another try may go well
        raise ClusterError(str(error)) from None
    if "error" in told:
        kind = getattr(errors, str(told["error"]), None)
        if not (isinstance(kind, type) and issubclass(kind, SnncError)):
            kind = InternalError
        raise kind(" ".join(str(told.get("message", "")).split()))
    found = told.get("found")
    if not isinstance(found, dict):
        raise ClusterError("a worker sent a result without values: it is not of this snnc")
    return Done(found, arrays, str(told.get("worker", "")), float(told.get("seconds", 0)))


def whereabouts() -> str:
    """Return what this process is called in messages: machine and number."""
    import socket

    return f"{socket.gethostname()}:{os.getpid()}"


def describe(values: dict[str, Any], arrays: Arrays, blobs: Sequence[Blob]) -> Found:
    """Return what this worker is, and give back what it was sent: for checks, and for measuring the way."""
    return {"fingerprint": dict(fingerprint()), **values}, arrays


def expectation(of: Fingerprint, *, cpu: bool) -> str:
    """Return what workers have to be, as text for :func:`perform`."""
    return packed({"fingerprint": dict(of), "cpu": cpu}).hex()


@cache
def _function(name: str) -> Function:
    if name not in TASKS:
        raise InternalError(f"there is no task {name!r}")
    module, _, function = TASKS[name].partition(":")
    found: Function = getattr(import_module(module), function)
    return found


@cache
def _one_thread() -> None:
    """Let the BLAS of this process use one thread: a worker is one core, and the last bits are the same."""
    from threadpoolctl import threadpool_limits

    np.dot(np.ones(1), np.ones(1))  # loads it
    threadpool_limits(1)


KEPT = 4
"""Networks that a worker keeps ready."""

_ready: OrderedDict[tuple[str, ...], Any] = OrderedDict()


def ready(kind: str, blob: Blob, make: Callable[[bytes], T], *also: str) -> T:
    """Return what is made of shared bytes, made once in this worker while it is in use.

    Args:
        kind: what is made, to tell it apart from other things made of the same bytes.
        blob: the bytes.
        make: makes it.
        also: what else it depends on.
    """
    key = (kind, blob.sha256, *also)
    if key not in _ready:
        found = make(blob.data())
        _ready[key] = found
        while len(_ready) > KEPT:
            _ready.popitem(last=False)
    _ready.move_to_end(key)
    made: T = _ready[key]
    return made
