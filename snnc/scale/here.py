"""Tasks done in this process, one after the other: the plainest engine, which the others are held against."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from snnc.scale.fingerprint import Fingerprint, fingerprint
from snnc.scale.tasks import Shared, Task, perform
from snnc.scale.workers import Lost


@dataclass(frozen=True, slots=True)
class Held:
    """Shared bytes of this process.

    Attributes:
        sha256: of the bytes.
        content: the bytes.
    """

    sha256: str
    content: bytes = field(repr=False)

    @classmethod
    def of(cls, shared: Shared) -> Held:
        """Read them: what is wrong with them is no failure of a task."""
        return cls(shared.sha256, shared.data())

    def data(self) -> bytes:
        """Return them."""
        return self.content


class Here:
    """An engine of this process; the BLAS keeps one thread from the first task on."""

    size = 1
    reads_paths = True

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self._waiting: deque[tuple[int, Task]] = deque()

    @property
    def fingerprint(self) -> Fingerprint:
        """What this process is."""
        return fingerprint()

    def submit(self, number: int, task: Task) -> None:
        """Keep a task until it is asked for."""
        self._waiting.append((number, task))

    def finished(self, timeout: float) -> list[tuple[int, bytes | Lost]]:
        """Do the next task."""
        if not self._waiting:
            return []
        number, task = self._waiting.popleft()
        return [(number, perform(task.name, "", task.arguments, tuple(map(Held.of, task.shared))))]

    def cancel(self) -> None:
        """Forget what is left."""
        self._waiting.clear()

    def close(self) -> None:
        """Do nothing."""
