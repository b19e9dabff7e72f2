"""Cost and loss of conversions, and their Pareto front."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from snnc.errors import UsageError


def carried(payload: str) -> int:
    """Order payloads: 0 for ``binary``, 1 for ``signed``, M for ``levels:M``; the most of several joined.

    Raises:
        UsageError: it is none.
    """
    found = []
    for word in payload.split("+"):
        match = re.fullmatch(r"binary|signed|levels:([1-9]\d*)", word)
        if match is None:
            raise UsageError(f"--payload {payload}: write binary, signed or levels:M")
        found.append({"binary": 0, "signed": 1}.get(word) or int(match.group(1) or 0))
    return max(found)


def order(payload: str) -> int:
    """Order payloads of networks, as :func:`carried`; -1 for ``none``, where no spike is sent."""
    return -1 if payload == "none" else carried(payload)


@dataclass(frozen=True, slots=True)
class Point:
    """What one conversion costs and loses.

    Attributes:
        label: of the candidate.
        timesteps: T.
        latency: steps from input to answer.
        payload: what an event carries.
        synops: operations relative to the source's multiply-accumulates.
        drop: points lost on rows kept back.
        rows: calibration rows that it was made with.
        metrics: name and value of those that are limited.
        picojoules: energy of an image in the cost model ``45nm``; ``None`` where it was not measured, as in
            journals of before. The front is one of the other costs.
        footprint: bytes of parameters, states and input, as the report has it; likewise.
    """

    label: str
    timesteps: int
    latency: int
    payload: str
    synops: float
    drop: float
    rows: int
    metrics: tuple[tuple[str, float], ...] = ()
    picojoules: float | None = None
    footprint: int | None = None

    @property
    def carried(self) -> int:
        """Order of the payload; -1 where no spike is sent."""
        return order(self.payload)

    def better(self, other: Point) -> bool:
        """Whether it is nowhere worse than another, and somewhere better."""
        ours, theirs = ((p.latency, p.synops, p.drop, p.carried) for p in (self, other))
        return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))


def pareto(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points that no other is better than, from few operations to many."""
    unequal = dict.fromkeys(points)
    front = [point for point in unequal if not any(other.better(point) for other in unequal)]
    return tuple(sorted(front, key=lambda p: (p.synops, p.latency, p.drop, p.label)))
