"""What the report says of one layer, gathered chunk by chunk in constant memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log10, prod, sqrt

import numpy as np
from numpy.typing import NDArray

from snnc.ir.graph import FloatArray, IntArray, NumberArray, Shape
from snnc.report.terms import TERMS, Decomposition

LEAD_BINS = 5
"""Bins of the unevenness histogram: two spikes or more too few, one, none, one too many, two or more."""

ACTIVATION_BINS = 40
ACTIVATION_RANGE = 2.0
"""The activation histogram reaches to twice the threshold; its last bin holds all beyond."""


def _by_channel(values: NumberArray | NDArray[np.bool_]) -> FloatArray:
    """Sum a (batch, channels, ...) array over all but the channels."""
    return values.reshape(*values.shape[:2], -1).sum(axis=(0, 2), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Split:
    """One layer's squared error, attributed to the five terms.

    With ``e`` the layer's error and ``e_k`` its terms, a term's contribution is ``E[e e_k] / E[a^2]``. The
    contributions add up to the relative squared error ``E[e^2] / E[a^2]`` because the terms add up to ``e``.
    A negative one means that the term takes back what others did.

    Attributes:
        contributions: of each term in the order of :data:`~snnc.report.terms.TERMS`, dimensionless.
        means: of each term, ``E[e_k]``, in units of the model.
        rms: of each term, ``sqrt(E[e_k^2])``, in units of the model.
        power: ``E[a^2]``.
        cosine: ``E[a phi] / sqrt(E[a^2] E[phi^2])``; ``None`` where one is silent.
    """

    contributions: tuple[float, ...]
    means: tuple[float, ...]
    rms: tuple[float, ...]
    power: float
    cosine: float | None

    @property
    def total(self) -> float:
        """The relative squared error, ``E[e^2] / E[a^2]``."""
        return sum(self.contributions)

    @property
    def sqnr(self) -> float | None:
        """Signal to error in dB, ``10 log10(E[a^2] / E[e^2])``; ``None`` where one of both is nothing."""
        return -10 * log10(self.total) if self.total > 0 and self.power > 0 else None

    def of(self, term: str) -> float:
        """Return the contribution of one term."""
        return self.contributions[TERMS.index(term)]


@dataclass(slots=True, eq=False)
class SplitSums:
    """The sums behind a :class:`Split`, per channel.

    Attributes:
        channels: number of channels.
        values: how many were added per channel.
    """

    channels: int
    values: int = 0
    dots: FloatArray = field(init=False)
    squares: FloatArray = field(init=False)
    sums: FloatArray = field(init=False)
    power: FloatArray = field(init=False)
    sent: FloatArray = field(init=False)
    product: FloatArray = field(init=False)
    z_squares: FloatArray = field(init=False)
    zhat_squares: FloatArray = field(init=False)
    z_product: FloatArray = field(init=False)
    z_sums: FloatArray = field(init=False)
    zhat_sums: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.dots, self.squares, self.sums = (np.zeros((len(TERMS), self.channels)) for _ in range(3))
        self.power, self.sent, self.product = (np.zeros(self.channels) for _ in range(3))
        self.z_squares, self.zhat_squares, self.z_product = (np.zeros(self.channels) for _ in range(3))
        self.z_sums, self.zhat_sums = (np.zeros(self.channels) for _ in range(2))

    def add(self, found: Decomposition) -> None:
        """Add the errors of a batch."""
        error = found.phi - found.a
        self.values += error.size // self.channels
        for index, term in enumerate(found.errors):
            self.dots[index] += _by_channel(error * term)
            self.squares[index] += _by_channel(term * term)
            self.sums[index] += _by_channel(term)
        self.power += _by_channel(found.a * found.a)
        self.sent += _by_channel(found.phi * found.phi)
        self.product += _by_channel(found.a * found.phi)
        self.z_squares += _by_channel(found.z * found.z)
        self.zhat_squares += _by_channel(found.zhat * found.zhat)
        self.z_product += _by_channel(found.z * found.zhat)
        self.z_sums += _by_channel(found.z)
        self.zhat_sums += _by_channel(found.zhat)

    def split(self) -> Split:
        """Return the attribution over all channels."""
        n = self.values * self.channels
        power, sent = float(self.power.sum()), float(self.sent.sum())
        scale = power if power > 0 else 1.0
        return Split(
            contributions=tuple(float(x) for x in self.dots.sum(axis=1) / scale),
            means=tuple(float(x) for x in self.sums.sum(axis=1) / n),
            rms=tuple(sqrt(float(x)) for x in self.squares.sum(axis=1) / n),
            power=power / n,
            cosine=float(self.product.sum()) / sqrt(power * sent) if power > 0 and sent > 0 else None,
        )


@dataclass(slots=True, eq=False)
class LayerSums:
    """All that is gathered of one population, or of the read-out.

    Attributes:
        shape: of the layer.
        capacity: the largest count, or ``None``.
        theta: (channels,) the largest value that spikes can stand for; infinite for the read-out.
        step: (channels,) the value of one unit, ``u / T``.
        threshold: (channels,) Theta, for the residual potential.
    """

    shape: Shape
    capacity: int | None
    theta: FloatArray
    step: FloatArray
    threshold: NumberArray
    local: SplitSums = field(init=False)
    cumulative: SplitSums = field(init=False)
    lead: IntArray = field(init=False)
    histogram: IntArray = field(init=False)
    above: int = 0
    false_fires: int = 0
    saturated: FloatArray = field(init=False)
    active: FloatArray = field(init=False)
    sent: FloatArray = field(init=False)
    source_mean: FloatArray = field(init=False)
    source_largest: FloatArray = field(init=False)
    residual: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        channels = self.shape[0]
        self.local, self.cumulative = SplitSums(channels), SplitSums(channels)
        self.lead = np.zeros(LEAD_BINS, np.int64)
        self.histogram = np.zeros(ACTIVATION_BINS + 1, np.int64)
        self.saturated, self.active, self.sent = (np.zeros(channels) for _ in range(3))
        self.source_mean, self.source_largest = (np.zeros(channels) for _ in range(2))
        self.residual = np.zeros(3)

    @property
    def values(self) -> int:
        """Neurons times images that were looked at."""
        return self.cumulative.values * self.shape[0]

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return prod(self.shape)

    def add_neurons(self, found: Decomposition, count: IntArray, v: NumberArray) -> None:
        """Add what only populations have: thresholds, spikes, potentials."""
        rank = count.ndim
        axes = (1, -1, *(1,) * (rank - 2))
        theta = self.theta.reshape(axes)
        relative = found.a / theta
        self.above += int(np.count_nonzero(found.a > theta))
        bins = np.minimum(relative * (ACTIVATION_BINS / ACTIVATION_RANGE), ACTIVATION_BINS).astype(np.int64)
        self.histogram += np.bincount(bins.ravel(), minlength=ACTIVATION_BINS + 1)
        lead = np.clip(found.lead, -2, 2) + 2
        self.lead += np.bincount(lead.ravel(), minlength=LEAD_BINS)
        self.false_fires += int(np.count_nonzero((found.a == 0) & (count > 0)))
        if self.capacity is not None:
            self.saturated += _by_channel(count >= self.capacity)
        self.active += _by_channel(count > 0)
        self.sent += _by_channel(np.abs(count))
        self.source_mean += _by_channel(found.a)
        highest = found.a.reshape(*found.a.shape[:2], -1).max(axis=(0, 2))
        self.source_largest = np.maximum(self.source_largest, highest)
        share = v / self.threshold.reshape(axes)
        self.residual += (share.sum(), np.square(share).sum(), np.count_nonzero((share < 0) | (share >= 1)))
