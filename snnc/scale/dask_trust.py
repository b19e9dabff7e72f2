"""What is trusted of dask: workers that do tasks alike, and bytes that are read as what they are.

What comes back is bytes. Unpickling is off in this process as far as dask is concerned
(:func:`no_unpickling`): whoever holds the scheduler or a worker can send wrong bytes, but none that run
here. The other way round dask pickles: who may connect to a scheduler may run code on its workers, which is
what TLS is for.
"""

from __future__ import annotations

import logging
import socket
import types
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from snnc.errors import ClusterError, UsageError
from snnc.scale.fingerprint import Fingerprint, require_alike


def open_dashboard(scheduler: str, port: int) -> str:
    """Return a warning where a dashboard is shown to others than its own machine; empty where it is not.

    Args:
        scheduler: address of the scheduler.
        port: of its dashboard.
    """
    host = scheduler.partition("://")[2].rpartition(":")[0].strip("[]")
    try:
        address = socket.gethostbyname(host)
        if address.startswith("127."):
            return ""  # whether others reach it, too, cannot be told from here
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return ""
    return (
        f"the dashboard of the scheduler is open to the network at http://{host}:{port}: start it with "
        "--dashboard-address 127.0.0.1:8787"
    )


def require_fit(
    address: str, told: Mapping[str, Any], described: Fingerprint, ours: Fingerprint, *, cpu: bool
) -> None:
    """Refuse a worker that would do tasks otherwise.

    Args:
        address: of the worker.
        told: what the scheduler says of it.
        described: what it says of itself.
        ours: what it has to be.
        cpu: whether the class of the CPU counts.

    Raises:
        ClusterError: it has several threads, or is something else.
    """
    threads = int(told.get("nthreads", 1))
    if threads != 1:
        raise ClusterError(
            f"the worker {address} has {threads} threads: start workers with --nthreads 1, one for each core"
        )
    require_alike(ours, described, address, cpu=cpu)


NOT_BYTES = "a worker sent something else than bytes, which is not read: look after the workers"

refused: list[str] = []
"""What was refused to be unpickled since this was last emptied."""


def as_bytes(data: Any) -> Any:
    """Return bytes as such, and anything else as it is."""
    return bytes(data) if isinstance(data, bytes | bytearray | memoryview) else data


def bytes_or_refuse(data: Any) -> bytes:
    """Return bytes.

    Raises:
        ClusterError: it is something else.
    """
    found = as_bytes(data)
    if not isinstance(found, bytes):
        raise ClusterError(NOT_BYTES)
    return found


def hint(error: BaseException) -> str:
    """Return what the bytes of a pickled error say, as far as it is a word that helps."""
    raw = b"".join(each for each in error.args if isinstance(each, bytes))
    words = (b"ModuleNotFoundError", b"ImportError", b"KilledWorker")
    return next((word.decode() for word in words if word in raw), "its log tells why")


def distributed_or_refuse() -> Any:
    """Return the module ``distributed``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        found = import_module("distributed")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("dask", "distributed"):
            raise
        raise UsageError(
            "a scheduler needs dask, which is not installed: pip install distributed; --cluster local "
            "works without"
        ) from None
    # What goes wrong is told in one line, by who asked.
    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)
    logging.getLogger("tornado").setLevel(logging.CRITICAL + 1)
    return found


@cache
def no_unpickling() -> None:
    """Turn unpickling off in all of dask's messages to this process; bytes are read as what they are."""
    client = import_module("distributed.client")
    dask_pickle = import_module("distributed.protocol.pickle")
    serialize = import_module("distributed.protocol.serialize")  # the package has a function of that name

    def loads(*arguments: Any, **options: Any) -> Any:
        refused.append("pickle")
        raise TypeError("snnc unpickles nothing")

    kind = dask_pickle.dumps(bytes)

    def dask_loads(header: dict[str, Any], frames: list[Any]) -> Any:
        if header.get("type-serialized") != kind:
            return loads()
        return serialize.dask_deserialize.dispatch(bytes)(header["sub-header"], frames)

    dumps = {name: serialize.families[name][0] for name in ("dask", "pickle")}
    serialize.register_serialization_family("dask", dumps["dask"], dask_loads)
    serialize.register_serialization_family("pickle", dumps["pickle"], loads)
    vars(dask_pickle)["loads"] = loads
    vars(client).update(loads=loads, pickle=types.SimpleNamespace(loads=loads))
