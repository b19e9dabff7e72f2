"""Budgets, and the conversions that may keep to one: presets, steps, levels, spikes a step, settle steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from snnc.analysis.front import Point, carried
from snnc.errors import UsageError
from snnc.ir.neuron import Neuron, Schedule
from snnc.metrics import Floor
from snnc.options import OPTIONS
from snnc.passes import PRESETS
from snnc.passes.fine_skip import FineSkip
from snnc.passes.multi_threshold import MultiThreshold
from snnc.pipeline import Pipeline

STEPS = (1, 2, 4, 8, 16)
"""Numbers of time steps that are tried."""

MIXED = 0.5
"""Operations to which steps are mixed by layer, relative to all steps in all layers."""

LEVELS = (3, 7, 15)
"""Levels of one spike that are tried."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a conversion may cost. ``None`` leaves something free.

    Attributes:
        latency: steps from input to answer.
        synops: synaptic operations per row, relative to the source network's multiply-accumulates.
        payload: what an event may carry: ``binary``, ``signed`` or ``levels:M``.
        drop: points that may be lost on rows kept back.
        floors: the least of metrics on these rows.
    """

    latency: int | None = None
    synops: float | None = None
    payload: str | None = None
    drop: float | None = None
    floors: tuple[Floor, ...] = ()

    def __post_init__(self) -> None:
        """Refuse limits that nothing can keep."""
        limits = {"max_latency": self.latency, "max_synops": self.synops, "max_drop": self.drop}
        for name, limit in limits.items():
            OPTIONS[name].checked(limit, f"--{OPTIONS[name].name}")
        if self.payload is not None:
            carried(self.payload)

    @property
    def limits_loss(self) -> bool:
        """Whether there is a limit on what is lost."""
        return self.drop is not None or bool(self.floors)

    def excess(self, point: Point) -> float:
        """Return by how much a point misses the budget, relative to each limit; 0 if it keeps to it."""
        missed = 0.0
        if self.latency is not None:
            missed += max(0.0, point.latency / self.latency - 1)
        if self.synops is not None:
            missed += max(0.0, point.synops / self.synops - 1)
        if self.payload is not None:
            missed += max(0, carried(point.payload) - carried(self.payload))
        if self.drop is not None:
            missed += max(0.0, point.drop - self.drop) / max(self.drop, 1.0)
        found = dict(point.metrics)
        for limit in self.floors:
            missed += max(0.0, limit.least - found[limit.asked]) / max(abs(limit.least), 1e-3)
        return missed


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to convert.

    Attributes:
        timesteps: T.
        pipeline: the passes.
        label: for the user.
        latency: T + K; in the layerwise schedule that of two layers, a lower bound for deeper networks.
        payload: what an event carries.
    """

    timesteps: int
    pipeline: Pipeline
    label: str
    latency: int
    payload: str


def candidates(budget: Budget, timesteps: int | None = None) -> tuple[Candidate, ...]:
    """Return the conversions that may keep to a budget, by what is known without running them.

    Raises:
        UsageError: the limits contradict each other.
    """
    steps = STEPS if timesteps is None else (timesteps,)
    found = [candidate for T in steps for candidate in _at(T)]
    if timesteps is not None and budget.latency is not None and budget.latency < timesteps:
        raise UsageError(
            f"--max-latency {budget.latency} contradicts --timesteps {timesteps}: leave one of them out"
        )
    kept = tuple(
        candidate
        for candidate in found
        if (budget.latency is None or candidate.latency <= budget.latency)
        and (budget.payload is None or carried(candidate.payload) <= carried(budget.payload))
    )
    if not kept:
        raise UsageError("no conversion has this latency and payload: raise --max-latency or --payload")
    return kept


def _at(timesteps: int) -> Iterable[Candidate]:
    T = timesteps
    balanced, binary = PRESETS["balanced"].pipeline, PRESETS["binary-only"].pipeline
    signed = Neuron().payload
    low_latency = PRESETS["low-latency"].pipeline
    yield Candidate(T, binary, f"binary-only, T={T}", T, "binary")
    if T > 1:
        barrier = binary.with_option("set-schedule", kind=Schedule.LAYERWISE)
        yield Candidate(T, barrier, f"binary-only, layerwise, T={T}", 2 * T, "binary")
    yield Candidate(T, balanced, f"balanced, T={T}", T, signed)
    if T > 2:
        mixed = balanced.with_option("clip-activations", operations=MIXED)
        yield Candidate(T, mixed, f"balanced, steps mixed by layer, T={T}", T, signed)
    if 1 < T <= 8:
        one = balanced.with_option("dual-threshold", spikes_per_step=1)
        for K in (1, 2):
            settled = one.with_option("set-schedule", settle_steps=K)
            yield Candidate(T, settled, f"one spike per step, T={T}, K={K}", T + K, signed)
    if T <= 8:
        two = low_latency.without("fine-skip")
        yield Candidate(T, two, f"two levels, T={T}", T, "levels:2")
        some = balanced.with_option("clip-activations", levels=2, share=0.5)
        yield Candidate(T, some, f"balanced, two levels in sensitive layers, T={T}", T, "signed+levels:2")
        per_step = -(-15 // T)
        levels = 2 ** per_step.bit_length() - 1
        fine = balanced.with_pass(FineSkip(), before="init-membrane")
        yield Candidate(T, fine, f"balanced with fine skip, T={T}", T, f"signed+levels:{levels}")
        if T > 2:
            few = fine.with_option("clip-activations", operations=MIXED)
            label = f"balanced with fine skip, steps mixed by layer, T={T}"
            yield Candidate(T, few, label, T, f"signed+levels:{levels}")
        yield Candidate(T, low_latency, f"low-latency, T={T}", T, f"levels:2+levels:{levels}")
    if T <= 2:
        plain = binary.with_pass(MultiThreshold(), after="lower")
        for M in LEVELS:
            multi = plain.with_option("clip-activations", levels=M, floor=True)
            yield Candidate(T, multi, f"binary-weighted thresholds, T={T}, M={M}", T, f"levels:{M}")
        one_step = PRESETS["one-step"].pipeline
        yield Candidate(T, one_step, f"one-step, T={T}", T, "levels:15+levels:63")
