"""The workers of a dask scheduler; what is trusted of them: :mod:`snnc.scale.dask_trust`."""

from __future__ import annotations

import contextlib
import queue
import socket
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from snnc.errors import ClusterError, SnncError, UsageError
from snnc.scale.address import Place
from snnc.scale.dask_trust import (
    NOT_BYTES,
    as_bytes,
    bytes_or_refuse,
    distributed_or_refuse,
    hint,
    no_unpickling,
    open_dashboard,
    refused,
    require_fit,
)
from snnc.scale.fingerprint import Fingerprint, fingerprint
from snnc.scale.plain import packed
from snnc.scale.tasks import Shared, Task, expectation, failure, perform, read
from snnc.scale.workers import Lost

TIMEOUT = 6.0
"""Seconds in which a scheduler has to answer."""

DESCRIBED = 60.0
"""Seconds in which a worker has to say what it is: it may have to import snnc first."""

LOOK = 2.0
"""Seconds between two looks at who is there."""

INLINE = 1 << 16
"""Bytes of arguments up to which they go with the task; larger ones go to the workers themselves."""

HELD = 4 << 30
"""Bytes of what tasks share that are held on workers for later tasks."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Shared bytes in the memory of a worker.

    Attributes:
        sha256: of the bytes.
        content: the bytes.
    """

    sha256: str
    content: bytes = field(repr=False)

    def data(self) -> bytes:
        """Return the bytes."""
        return self.content


def perform_on_worker(
    name: str, expected: str, digests: Sequence[str], arguments: bytes, *contents: bytes
) -> bytes:
    """Do a task in a worker of dask; see :func:`snnc.scale.tasks.perform`."""
    blobs = [Sent(sha256, bytes(content)) for sha256, content in zip(digests, contents, strict=True)]
    return perform(name, expected, bytes(arguments), blobs)


class DaskEngine:
    """An engine of the workers of a dask scheduler."""

    def __init__(self, place: Place, tell: Callable[[str], object], warn: Callable[[str], object]) -> None:
        """Connect, wait for workers, and check what they are.

        Args:
            place: the scheduler.
            tell: called with a line on what is reached.
            warn: called with a line on what looks unsafe.

        Raises:
            UsageError: the extra is missing.
            ClusterError: the scheduler is not reached, no worker comes, or one does not fit.
        """
        self.place = place
        self._warn = warn
        self._distributed = distributed_or_refuse()
        no_unpickling()
        self._security = self._secured()
        self._run = uuid.uuid4().hex[:12]
        self._attempts = 0
        self._futures: dict[int, Any] = {}
        self._allowed: dict[int, frozenset[str]] = {}
        self._lost: list[int] = []
        self._came: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._blobs: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._asked: dict[str, Any] = {}
        self._fit: dict[str, Fingerprint] = {}
        self._unfit: set[str] = set()
        self._looked = self._seen = time.monotonic()
        self._expected: Fingerprint | None = None
        self._client: Any = None
        self._connect(TIMEOUT)
        try:
            self._await_workers(strict=True)
        except BaseException:
            self.close()
            raise
        self._look_at_dashboard()
        tell(f"{len(self._fit)} workers of {place.scheduler}")

    @property
    def size(self) -> int:
        """How many workers there are."""
        return max(1, len(self._fit))

    @property
    def reads_paths(self) -> bool:
        """Whether workers see the files of this machine under the same paths."""
        return self.place.rows == "path"

    @property
    def fingerprint(self) -> Fingerprint:
        """What the workers are."""
        return self._expected or fingerprint()

    # Connecting

    def _secured(self) -> Any:
        place = self.place
        if not place.is_encrypted:
            return None
        given = {
            "tls_ca_file": place.ca,
            "tls_client_cert": place.certificate,
            "tls_client_key": place.key or place.certificate,
        }
        named = {name: str(path) for name, path in given.items() if path is not None}
        security = self._distributed.Security(require_encryption=True, **named)
        if security.tls_ca_file is None or security.tls_client_cert is None:
            raise UsageError(
                f"{place.scheduler} needs certificates: name `ca`, `certificate` and `key` in a FILE.toml"
            )
        return security

    def _connect(self, timeout: float) -> None:
        """Connect to the scheduler.

        Raises:
            ClusterError: it does not answer.
        """
        host, _, port = self.place.scheduler.partition("://")[2].rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=timeout / 2).close()
            self._client = self._distributed.Client(
                self.place.scheduler,
                security=self._security,
                timeout=timeout,
                set_as_default=False,
                name="snnc",
                direct_to_workers=self.place.direct,
            )
        except Exception as error:  # noqa: BLE001 - of tornado, ssl and asyncio, without a common root
            line = " ".join(str(error).split())
            why = "it does not answer" if not line or "Timed out" in line else line[:160]
            raise ClusterError(
                f"the scheduler {self.place.scheduler} cannot be reached: {why}; check the address, and that "
                "it runs" + (" with certificates of the same authority" if self.place.is_encrypted else "")
            ) from None

    def _await_workers(self, *, strict: bool) -> None:
        """Wait until a worker is there that fits."""
        deadline = time.monotonic() + self.place.wait
        while not self._fit:
            self._look(strict=strict)
            if not self._fit and time.monotonic() > deadline:
                raise ClusterError(
                    f"no worker came to {self.place.scheduler} in {self.place.wait:g} s: start some by "
                    "`dask worker`, or raise `wait`"
                )
            if not self._fit:
                time.sleep(0.2)

    def _look(self, *, strict: bool) -> None:
        """See who is there, and ask who is new what it is.

        Args:
            strict: whether a worker that does not fit is an error; else it is left out, with a warning.
        """
        self._looked = time.monotonic()
        try:
            known = dict(self._client.scheduler_info(n_workers=-1)["workers"])
        except Exception:  # noqa: BLE001 - see `_connect`; whoever waits tries again
            known = {}
        for gone in (self._fit.keys() | self._asked.keys()) - known.keys():
            self._fit.pop(gone, None)
            self._asked.pop(gone, None)
        new = [address for address in known if address not in self._fit and address not in self._unfit]
        for address, described in self._described(new, strict=strict).items():
            cpu = self.place.cpu == "client" or self._expected is not None
            try:
                require_fit(address, known[address], described, self._expected or fingerprint(), cpu=cpu)
            except ClusterError as error:
                if strict:
                    raise
                self._unfit.add(address)
                self._warn(f"{error}; it is left out")
                continue
            self._expected = self._expected or described
            self._fit[address] = described
        if self._fit:
            self._seen = time.monotonic()

    def _described(self, addresses: Sequence[str], *, strict: bool) -> dict[str, Fingerprint]:
        """Return what workers are; those that do not answer yet are asked again later.

        Raises:
            ClusterError: one cannot run snnc, where that is an error.
        """
        for address in addresses:
            if address not in self._asked:
                self._attempts += 1
                self._asked[address] = self._client.submit(
                    perform_on_worker,
                    "describe",
                    "",
                    (),
                    packed({}),
                    workers=[address],
                    key=f"snnc-{self._run}-describe-{self._attempts}",
                    pure=False,
                )
        found: dict[str, Fingerprint] = {}
        # While others work, nobody waits for a worker that is slow to start.
        deadline = time.monotonic() + (0.0 if self._fit else DESCRIBED)
        for address in addresses:
            future = self._asked[address]
            try:
                data = future.result(timeout=max(0.1, deadline - time.monotonic()))
                found[address] = dict(read(bytes_or_refuse(data)).values["fingerprint"])
            except Exception as error:  # noqa: BLE001 - dask's errors have no common root
                if future.status == "pending" and not isinstance(error, ClusterError):
                    continue  # it is asked already
                if future.status not in ("error", "finished") and not isinstance(error, ClusterError):
                    del self._asked[address]  # lost or cancelled: ask again
                    continue
                problem = ClusterError(
                    f"the worker {address} cannot run snnc ({hint(error)}): install the same environment "
                    "there, and where the scheduler runs"
                )
                if strict:
                    raise problem from None
                self._unfit.add(address)
                self._warn(f"{problem}; it is left out")
        return found

    def _look_at_dashboard(self) -> None:
        """Warn where the scheduler shows its dashboard to others than its own machine."""
        with contextlib.suppress(Exception):
            port = self._client.scheduler_info(n_workers=0).get("services", {}).get("dashboard")
            if port is not None and (warning := open_dashboard(self.place.scheduler, int(port))):
                self._warn(warning)

    # Tasks

    def submit(self, number: int, task: Task) -> None:
        """Hand out a task; where nobody can take it now, it counts as lost."""
        self._attempts += 1
        key = f"snnc-{self._run}-{number}-{self._attempts}"
        expected = expectation(self.fingerprint, cpu=True)
        try:
            contents = [self._sent(shared) for shared in task.shared]
            arguments: Any = task.arguments
            if len(arguments) > INLINE:
                arguments = self._scattered(f"{key}-arguments", arguments)
            future = self._client.submit(
                perform_on_worker,
                task.name,
                expected,
                tuple(shared.sha256 for shared in task.shared),
                arguments,
                *contents,
                workers=list(self._fit) or None,
                key=key,
                pure=False,
            )
        except SnncError:  # of the files that are sent
            raise
        except Exception:  # noqa: BLE001 - see `_connect`
            self._lost.append(number)
            return
        self._futures[number] = future
        self._allowed[number] = frozenset(self._fit)
        future.add_done_callback(lambda done: self._came.put((number, done)))

    def _scattered(self, key: str, data: bytes) -> Any:
        """Put bytes into the memory of a worker."""
        return self._client.scatter({key: data}, direct=self.place.direct, hash=False)[key]

    def _sent(self, shared: Shared) -> Any:
        """Return what tasks share as it lies on workers; sent if it is not there, or was lost."""
        held = self._blobs.get(shared.sha256)
        if held is None or held[0].status != "finished":
            data = shared.data()
            self._attempts += 1
            future = self._scattered(f"snnc-{self._run}-{shared.sha256[:24]}-{self._attempts}", data)
            held = self._blobs[shared.sha256] = (future, len(data))
            while sum(size for _, size in self._blobs.values()) > HELD and len(self._blobs) > 1:
                self._blobs.popitem(last=False)
        self._blobs.move_to_end(shared.sha256)
        return held[0]

    def finished(self, timeout: float) -> list[tuple[int, bytes | Lost]]:
        """Return what came back; see :class:`snnc.scale.workers.Engine`."""
        self._reconnected()
        found: list[tuple[int, bytes | Lost]] = [(number, Lost.AWAY) for number in self._lost]
        self._lost.clear()
        if found:
            time.sleep(0.1)  # whoever lost them may need a moment
        came = self._taken(0 if found else timeout)
        whole = [(number, future) for number, future in came if future.status == "finished"]
        found += [(number, self._how(future)) for number, future in came if future.status != "finished"]
        found += self._gathered(whole)
        if time.monotonic() - self._looked > LOOK:
            found += self._checked()
        return found

    def _taken(self, timeout: float) -> list[tuple[int, Any]]:
        """Return the futures that are done and still waited for."""
        found: list[tuple[int, Any]] = []
        wait: float = timeout
        while True:
            try:
                number, future = self._came.get(timeout=wait) if wait else self._came.get_nowait()
            except queue.Empty:
                return found
            wait = 0
            if self._futures.get(number) is future:
                del self._futures[number], self._allowed[number]
                found.append((number, future))

    def _gathered(self, done: Sequence[tuple[int, Any]]) -> list[tuple[int, bytes | Lost]]:
        """Return the bytes of tasks that are done; those whose worker went with them are lost."""
        if not done:
            return []
        refused.clear()
        try:
            data = self._client.gather([future for _, future in done], direct=self.place.direct)
        except Exception:  # noqa: BLE001 - see `_connect`
            if refused:
                return [(number, failure("ClusterError", NOT_BYTES)) for number, _ in done]
            if len(done) == 1:
                return [(done[0][0], Lost.AWAY)]
            return [each for one in done for each in self._gathered([one])]
        return [
            (number, content if isinstance(content, bytes) else failure("ClusterError", NOT_BYTES))
            for (number, _), content in zip(done, map(as_bytes, data), strict=True)
        ]

    def _how(self, future: Any) -> bytes | Lost:
        """Return how a task was lost, or that it failed outside of snnc."""
        if future.status != "error":
            return Lost.AWAY
        try:
            told: BaseException | None = future.exception(timeout=TIMEOUT)  # made of bytes that stay bytes
        except Exception:  # noqa: BLE001 - see `_connect`
            return Lost.AWAY
        if told is not None and hint(told) == "KilledWorker":
            return Lost.GIVEN_UP
        return failure(
            "ClusterError",
            f"a task failed on {self.place.scheduler} before snnc was at it: see the logs of its workers",
        )

    def _checked(self) -> list[tuple[int, Lost]]:
        """See who is there; tasks are lost that only those may do who are gone.

        Raises:
            ClusterError: nobody has been there for too long.
        """
        self._look(strict=False)
        if not self._fit and time.monotonic() - self._seen > self.place.wait:
            raise ClusterError(
                f"no worker of {self.place.scheduler} has been there for {self.place.wait:g} s"
                f"{f', and {len(self._unfit)} do not fit' if self._unfit else ''}: start some, and run the "
                "same command again"
            )
        stuck = [number for number, allowed in self._allowed.items() if not allowed & set(self._fit)]
        if not self._fit:
            return []  # those that come first may have been there before
        for number in stuck:
            future = self._futures.pop(number)
            del self._allowed[number]
            with contextlib.suppress(Exception):
                future.cancel()
        return [(number, Lost.AWAY) for number in stuck]

    def _reconnected(self) -> None:
        """Wait for the connection where it is lost, and connect anew where dask has given it up.

        Raises:
            ClusterError: the scheduler stays away.
        """
        deadline = time.monotonic() + self.place.wait
        while self._client.status != "running":
            if self._client.status in ("closed", "closing"):
                self._lost += self._futures
                self._futures.clear()
                self._allowed.clear()
                self._blobs.clear()
                self._fit.clear()
                try:
                    self._connect(min(TIMEOUT, max(0.5, deadline - time.monotonic())))
                except ClusterError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.5)
                    continue
                self._await_workers(strict=False)
                return
            if time.monotonic() > deadline + TIMEOUT:
                raise ClusterError(
                    f"the connection to {self.place.scheduler} is lost, and does not come back"
                )
            time.sleep(0.1)

    def cancel(self) -> None:
        """Give up all tasks that were handed out."""
        if self._futures and self._client is not None:
            with contextlib.suppress(Exception):
                self._client.cancel(list(self._futures.values()), force=True)
        self._futures.clear()
        self._allowed.clear()

    def close(self) -> None:
        """Disconnect; scheduler and workers stay."""
        self._blobs.clear()
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._client.close(timeout=2)
