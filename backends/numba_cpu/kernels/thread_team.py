"""A team of threads that shares one image: dynamic scheduling of the bands of each stage, then a barrier.

Threads take bands by number until none is left, so a late or slow thread simply takes fewer. Stages last
microseconds, so a thread that reaches the barrier first spins; after ``PATIENCE`` rounds it yields its core.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np
from llvmlite import ir

from snnc.backends.numba_cpu.codegen.vector import I32, I64, Code, Value, vector_code
from snnc.backends.numba_cpu.machine.cache import kernel
from snnc.backends.numba_cpu.machine.cpu import detect
from snnc.backends.numba_cpu.machine.memory import ALIGNMENT, aligned

POSIX = os.name == "posix"
"""Whether a thread can give its core away by a function of the C library, which in-image threads need."""

TICKETS = 2 * ALIGNMENT
"""Where behind a meeting point the number of the next band lies, in bytes."""

PATIENCE = 2000
"""Rounds that a thread waits before it lets others have its core, some tens of microseconds."""

YIELDS = 200
"""Rounds after which it sleeps in between."""

SLEEP = 50
"""Microseconds."""

X86 = any(feature.startswith("sse") for feature in detect().features)


@vector_code
def take_number(code: Code, address: Value) -> Value:
    """Return the number at ``address``, which is one more for whoever asks next."""
    return code.b.atomic_rmw("add", code.pointer(address, I64), code.number(1), "seq_cst")


@vector_code
def _seen(code: Code, address: Value) -> Value:
    return code.b.load_atomic(code.pointer(address, I64), "acquire", 8)


@vector_code
def _pause(code: Code) -> None:
    if X86:
        code.call("llvm.x86.sse2.pause", ir.VoidType(), [])


@vector_code
def _let_others_run(code: Code) -> None:
    if POSIX:
        code.call("sched_yield", I32, [])


@vector_code
def _sleep(code: Code, microseconds: Value) -> None:
    if POSIX:
        code.call("usleep", I32, [code.b.trunc(microseconds, I32)])


@kernel
def count_band(meeting: int) -> None:
    """Say that one more band is finished."""
    take_number(meeting)


@kernel
def wait_for_bands(meeting: int, expected: int) -> bool:
    """Wait until so many bands are finished; say whether to go on.

    Args:
        meeting: address of the number of finished bands; one cache line behind it, not 0 if all is called
            off.
        expected: bands to wait for, counted from the first stage.
    """
    rounds = 0
    while _seen(meeting) < expected:
        if _seen(meeting + ALIGNMENT):
            return False
        rounds += 1
        if rounds < PATIENCE:
            _pause()
        elif rounds < PATIENCE + YIELDS:
            _let_others_run()
        else:
            _sleep(SLEEP)
    return True


class ThreadTeam:
    """At most so many threads, which are kept for the next run."""

    def __init__(self, threads: int) -> None:
        """Start nothing yet."""
        self.threads = threads
        self._lock = Lock()
        self._meeting = aligned(np.zeros(3 * ALIGNMENT // 8, np.int64))
        self._workers: ThreadPoolExecutor | None = None
        self._process = 0

    @property
    def workers(self) -> ThreadPoolExecutor:
        """The threads; those of another process do not live on in its child."""
        if self._workers is None or self._process != os.getpid():
            self._workers = ThreadPoolExecutor(self.threads, thread_name_prefix="snnc")
            self._process = os.getpid()
        return self._workers

    def together(self, run: Callable[[int, int], None], shares: int) -> None:
        """Call ``run(share, meeting)`` for every share at once."""
        with self._lock:
            self._meeting[:] = 0
            meeting = self._meeting.ctypes.data
            others: list[Future[None]] = []
            try:
                others.extend(self.workers.submit(run, share, meeting) for share in range(1, shares))
                run(0, meeting)
            except BaseException:
                # Nobody may wait for a share that will not come.
                self._meeting[ALIGNMENT // 8] = 1
                raise
            finally:
                for other in others:
                    if not other.cancel():  # one that no worker has begun would find no bands
                        other.result()
