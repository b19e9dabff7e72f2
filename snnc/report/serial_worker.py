"""One background thread that runs tasks in order, so that sums in floating point do not depend on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

AHEAD = 3
"""Tasks that may wait: so few that what they hold stays small."""


class SerialWorker:
    """Run tasks one after the other in a background thread."""

    def __init__(self, threads: int | None) -> None:
        """Prepare.

        Args:
            threads: how many threads may be used; with one, every task is done at once by who gives it.
        """
        self._pool = None if threads == 1 else ThreadPoolExecutor(1, "snnc-behind")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> SerialWorker:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; what still waits is dropped if something went wrong, and done otherwise."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=kind is not None)

    def do(self, task: Callable[[], None]) -> None:
        """Do a task after all that were given before, now or soon. Raises what an earlier one raised."""
        if self._pool is None:
            task()
            return
        self._waiting.append(self._pool.submit(task))
        while len(self._waiting) > AHEAD:
            self._waiting.popleft().result()

    def wait(self) -> None:
        """Wait until all is done. Raises what a task raised."""
        while self._waiting:
            self._waiting.popleft().result()
