"""The speed of a spiking network compared with its source.

Both run in one process, alternately, round by round, so that disturbances of the machine affect both. The
ratio is that of the shortest rounds: disturbances can only lengthen a round.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep, thread_time

import numpy as np

from snnc.analysis.costs import Costs
from snnc.progress import Progress, Silent

SECONDS = 3.0
"""How long to measure, if the number of rounds is left open."""

LEAST_ROUNDS, MOST_ROUNDS = 7, 300

PAUSE = 0.005
"""Seconds of rest before a run on several threads, in which those of the run before go to sleep."""

STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Timing:
    """Time of the rounds of one contestant; see :func:`clock`.

    Attributes:
        seconds: of each round, in order.
    """

    seconds: tuple[float, ...]

    @property
    def minimum(self) -> float:
        """The shortest round, in seconds."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The round in the middle, in seconds."""
        return float(np.median(self.seconds))

    @property
    def p90(self) -> float:
        """What nine rounds in ten stay below, in seconds."""
        return float(np.percentile(self.seconds, 90))

    def as_dict(self, images: int) -> dict[str, float]:
        """Return milliseconds per image."""
        return {name: round(1e3 * getattr(self, name) / images, 6) for name in ("minimum", "median", "p90")}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A spiking network beside its source.

    Attributes:
        snn: the spiking network's rounds.
        ann: the source network's.
        costs: operations of the spiking network on the rows that were run.
        images: rows of a round.
        threads: that each was allowed.
        timesteps: T.
        latency_steps: from the input to the answer.
        mode: ``spikes``, or ``counts`` for one pass over spike counts.
        memory: bytes by which the process grew while the spiking network was prepared and run, compiled
            kernels included; ``None`` where the system does not tell.
    """

    snn: Timing
    ann: Timing
    costs: Costs
    images: int
    threads: int
    timesteps: int
    latency_steps: int
    mode: str
    memory: int | None

    @property
    def ratio(self) -> float:
        """Shortest round of the spiking network over that of its source."""
        return self.snn.minimum / self.ann.minimum

    @property
    def giga_synops(self) -> float:
        """Synaptic operations that spikes caused, in thousand millions a second."""
        return self.costs.synops * self.images / self.snn.minimum / 1e9

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form; times are milliseconds per image."""
        return {
            "ratio": round(self.ratio, 4),
            "ms": self.snn.as_dict(self.images)["minimum"],
            "ann_ms": self.ann.as_dict(self.images)["minimum"],
            "snn": self.snn.as_dict(self.images),
            "ann": self.ann.as_dict(self.images),
            "rounds": len(self.snn.seconds),
            "density": round(self.costs.events_per_neuron_per_step, 4),
            "spikes_per_neuron_per_step": round(self.costs.spikes_per_neuron_per_step, 4),
            "synops": self.costs.synops,
            "giga_synops_per_second": round(self.giga_synops, 3),
            "threads": self.threads,
            "batch": self.images,
            "timesteps": self.timesteps,
            "settle_steps": self.costs.steps - self.timesteps,
            "latency_steps": self.latency_steps,
            "mode": self.mode,
            "memory_mb": None if self.memory is None else round(self.memory / 2**20, 1),
        }


def clock(threads: int) -> Callable[[], float]:
    """Return what tells the time of a run on so many threads, in seconds.

    One thread's time is that in which it had a core: on an idle machine the same as by the clock on the
    wall, on a busy one without what others took. Several threads are timed by the wall.
    """
    return thread_time if threads == 1 else perf_counter


def interleaved(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Timing]:
    """Run every contestant once a round, and return its times.

    Args:
        contestants: what to run, by name; each has been run before.
        rounds: how many; by default as many as fit :data:`SECONDS`.
        threads: that each contestant is allowed.
        progress: where to show how far the measurement is.
    """
    if rounds is None:
        start = perf_counter()
        for run in contestants.values():
            run()
        once = max(perf_counter() - start, 1e-6)
        rounds = min(max(round(SECONDS / once), LEAST_ROUNDS), MOST_ROUNDS)
    now = clock(threads)
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in (progress or Silent()).track(range(rounds), rounds, "measuring"):
            for name, run in contestants.items():
                if threads > 1:
                    sleep(PAUSE)
                start = now()
                run()
                taken[name].append(now() - start)
    finally:
        if collecting:
            gc.enable()
    return {name: Timing(tuple(seconds)) for name, seconds in taken.items()}


def resident() -> int | None:
    """Return the bytes of this process that are in memory; ``None`` where the system does not tell."""
    try:
        pages = int(STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
