"""A model of work on many workers: one client hands tasks out, workers do them, the client takes them back.

A task takes the client ``hand`` seconds in all, and the way of its bytes; a worker ``rows`` times the time
of a row. Every worker may have three tasks, of which it does one at a time. What is simulated is the time
until the last task is back; efficiency is that of one worker without any client, divided by it and by the
number of workers.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

AHEAD = 3
LINK = 1.25e9
"""Bytes per second of the client's network: 10 Gbit/s."""

IMAGENET_ROWS = 50_000
IMAGENET_ROW = 224 * 224 * 3
"""Bytes of a row, uint8."""

SECONDS_PER_ROW = (0.05, 0.5)
"""Of a network of ImageNet's size on one core, source and spiking network together: a small and a large "
"one."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done.

    Attributes:
        rows: how many.
        shard: of a task.
        row_seconds: that one takes a worker.
        row_bytes: that go to a worker with a row; 0 where workers read them themselves.
        hand: seconds of the client for a task.
        start: seconds until workers are ready.
        link: bytes per second of the client.
    """

    rows: int
    shard: int
    row_seconds: float
    row_bytes: int
    hand: float
    start: float
    link: float = LINK

    def seconds(self, workers: int) -> float:
        """Return how long it takes with so many workers."""
        left = [min(self.shard, self.rows - at) for at in range(0, self.rows, self.shard)]
        client = self.start
        free = [self.start] * workers  # when each will have done all that it has
        ends: list[list[float]] = [[] for _ in range(workers)]
        queue = [(0, index) for index in range(workers)]
        waiting: list[tuple[float, int]] = []
        last = self.start
        while left:
            if queue:
                count, index = heapq.heappop(queue)
            else:
                end, index = heapq.heappop(waiting)
                client = max(client, end)
                count = sum(each > client for each in ends[index])
            rows = left.pop(0)
            client += self.hand + rows * self.row_bytes / self.link
            free[index] = max(free[index], client) + rows * self.row_seconds
            ends[index].append(free[index])
            heapq.heappush(waiting, (free[index], index))
            last = max(last, free[index])
            if count + 1 < AHEAD and len(ends[index]) < AHEAD:
                heapq.heappush(queue, (count + 1, index))
        return max(last, client) + self.hand

    def efficiency(self, workers: int) -> float:
        """Return the share of the workers' time that is work."""
        return self.rows * self.row_seconds / (workers * self.seconds(workers))

    @property
    def most_workers(self) -> float:
        """How many workers one client keeps busy: the time of a task at a worker by that at the client."""
        busy = self.hand + self.shard * self.row_bytes / self.link
        return self.shard * self.row_seconds / busy


def latest(found: Sequence[Mapping[str, Any]], kind: str, **facts: Any) -> Mapping[str, Any] | None:
    """Return the last measurement of a kind."""
    fitting = [m for m in found if m["kind"] == kind and all(m.get(k) == v for k, v in facts.items())]
    return fitting[-1] if fitting else None


def checks(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the model says of the two points that were measured, beside these."""
    alone, empty = latest(found, "eval", case="one process"), latest(found, "overhead", bytes=10)
    if alone is None or empty is None:
        return []
    lines = []
    for workers in (1, 2):
        measured = latest(found, "eval", case=f"local:{workers}")
        if measured is None or measured["rows"] != alone["rows"]:
            continue
        rows = alone["rows"]
        work = Work(rows, 500, alone["seconds"] / rows, 0, empty["seconds"], empty["start"])
        said = work.seconds(workers)
        lines.append({"workers": workers, "computed": said, "measured": measured["seconds"], "rows": rows})
    return lines


def predictions(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the model says of more workers."""
    cases = [m for m in found if m["kind"] == "overhead" and m["bytes"] == 10]
    remote = next((m for m in reversed(cases) if not str(m["cluster"]).startswith("local")), None)
    empty = remote or (cases[-1] if cases else None)
    if empty is None:
        return []
    lines = []
    for row_seconds in SECONDS_PER_ROW:
        for shard in (50, 500):
            for way, row_bytes in (("sent", IMAGENET_ROW), ("by path", 0)):
                work = Work(IMAGENET_ROWS, shard, row_seconds, row_bytes, empty["seconds"], empty["start"])
                lines.append(
                    {
                        "row_seconds": row_seconds,
                        "shard": shard,
                        "rows": way,
                        "most_workers": work.most_workers,
                        **{f"efficiency_{n}": work.efficiency(n) for n in (10, 100, 1000)},
                    }
                )
    return lines
