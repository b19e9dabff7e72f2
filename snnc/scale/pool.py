"""Processes of this machine as workers.

Every worker is an executor of one process, so that the death of a process names the task that it was at, and
nothing but that task is done again. What tasks share lies in files of a temporary folder.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import shutil
import signal
import tempfile
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

from snnc.errors import ClusterError
from snnc.scale.fingerprint import Fingerprint, fingerprint
from snnc.scale.tasks import Blob, Shared, Task, expectation, perform
from snnc.scale.workers import Lost

MOST_STARTS = 20
"""Processes that may end before they are at any task, in a row: then none can start at all."""


@dataclass(frozen=True, slots=True)
class Lying:
    """Shared bytes in a file.

    Attributes:
        sha256: of the bytes.
        path: of the file.
    """

    sha256: str
    path: str

    def data(self) -> bytes:
        """Read them."""
        return Path(self.path).read_bytes()


class LocalPool:
    """An engine of processes of this machine."""

    reads_paths = True

    @property
    def fingerprint(self) -> Fingerprint:
        """What the processes are: what this one is."""
        return fingerprint()

    def __init__(self, size: int) -> None:
        """Start so many processes, which are ready by the time that there are tasks.

        Args:
            size: how many.
        """
        self.size = max(1, size)
        self._context = multiprocessing.get_context("spawn")
        self._folder = Path(tempfile.mkdtemp(prefix="snnc-workers-"))
        self._slots: list[ProcessPoolExecutor | None] = [None] * self.size
        self._processes: list[tuple[BaseProcess, ...]] = [()] * self.size
        self._at: dict[int, int] = {}  # what each slot is at
        self._waiting: list[tuple[int, Task]] = []
        self._came: queue.SimpleQueue[tuple[int, int, Future[bytes]]] = queue.SimpleQueue()
        self._unfit = 0
        self._expected = expectation(fingerprint(), cpu=True)  # snnc may be installed anew meanwhile
        for slot in range(self.size):
            self._started(slot).submit(fingerprint)

    def _started(self, slot: int) -> ProcessPoolExecutor:
        """Return the executor of a worker, and start its process if there is none."""
        executor = self._slots[slot]
        if executor is None:
            executor = ProcessPoolExecutor(1, self._context, _begin)
            before = set(multiprocessing.active_children())
            executor.submit(os.getpid)  # which starts the process
            self._slots[slot] = executor
            self._processes[slot] = tuple(set(multiprocessing.active_children()) - before)
        return executor

    def submit(self, number: int, task: Task) -> None:
        """Hand out a task, or keep it until a process is free."""
        self._waiting.append((number, task))
        self._fill()

    def _fill(self) -> None:
        free = [slot for slot in range(self.size) if slot not in self._at]
        while free and self._waiting:
            slot = free.pop(0)
            number, task = self._waiting.pop(0)
            blobs = tuple(map(self._lying, task.shared))
            self._at[slot] = number
            try:
                future = self._started(slot).submit(perform, task.name, self._expected, task.arguments, blobs)
            except BrokenProcessPool as error:  # it ended while it was idle
                future = Future()
                future.set_exception(error)
            future.add_done_callback(partial(self._done, slot, number))

    def _done(self, slot: int, number: int, future: Future[bytes]) -> None:
        self._came.put((slot, number, future))

    def _lying(self, shared: Shared) -> Blob:
        """Return shared bytes as processes have them: in a file."""
        path = self._folder / shared.sha256
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_bytes(shared.data())
            part.replace(path)
        return Lying(shared.sha256, str(path))

    def finished(self, timeout: float) -> list[tuple[int, bytes | Lost]]:
        """Return what came back; see :class:`snnc.scale.workers.Engine`."""
        found: list[tuple[int, bytes | Lost]] = []
        wait: float | None = timeout
        while True:
            try:
                slot, number, future = self._came.get(timeout=wait)
            except queue.Empty:
                break
            wait = 0
            self._at.pop(slot, None)
            if future.cancelled():
                continue
            error = future.exception()
            if error is None:
                self._unfit = 0
                found.append((number, future.result()))
            elif isinstance(error, BrokenProcessPool):
                self._restart(slot)
                found.append((number, Lost.DEATH))
            else:
                raise ClusterError(f"a process of this machine cannot work: {type(error).__name__}: {error}")
        self._fill()
        return found

    def _restart(self, slot: int) -> None:
        self._unfit += 1
        executor, self._slots[slot] = self._slots[slot], None
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        if self._unfit >= MOST_STARTS * self.size:
            raise ClusterError(
                f"{self._unfit} processes ended, and none did a task: see whether memory is free"
            )

    def cancel(self) -> None:
        """End the processes: what they are at is given up."""
        self._waiting.clear()
        for slot in self._at:
            for process in self._processes[slot]:
                process.terminate()

    def close(self) -> None:
        """Let go of the processes and of the files."""
        for executor in self._slots:
            if executor is not None:
                with contextlib.suppress(OSError, BrokenProcessPool):
                    executor.shutdown(wait=True, cancel_futures=True)
        self._slots = [None] * self.size
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def processes(self) -> tuple[int, ...]:
        """The numbers of the processes that were started last, for each worker one."""
        return tuple(each.pid for started in self._processes for each in started if each.pid is not None)


def _begin() -> None:
    """Prepare a worker: Ctrl-C is for the process that started it, and with that it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched = multiprocessing.parent_process()
    if watched is not None:
        threading.Thread(target=_end_with, args=(watched,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
