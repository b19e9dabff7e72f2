"""The report's statistics of one layer, accumulated chunk by chunk in constant memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log10, prod, sqrt

import numpy as np
from numpy.typing import NDArray

from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, IntArray, NumberArray, Shape
from snnc.report.terms import TERMS, Decomposition

LEAD_BINS = 5
"""Bins of the unevenness histogram: two spikes or more too few, one, none, one too many, two or more."""

ADDED = ("lead", "histogram", "saturated", "active", "sent", "source_mean", "residual")
LARGEST = "source_largest"
"""Fields of the sums of a layer that are added where sums are joined, and that of which the larger counts."""

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


K = len(TERMS)
A, Z, ZHAT, ONE = K, K + 1, K + 2, K + 3
"""Rows of the product matrix behind those of the terms."""


@dataclass(slots=True, eq=False)
class SplitSums:
    """The sums behind a :class:`Split`, per channel.

    Everything is a sum of products of two of these: the five terms, ``a``, ``z``, ``zhat`` and 1. So one
    matrix per channel holds it all.

    Attributes:
        channels: number of channels.
        values: how many were added per channel.
        products: (channels, 9, 9), sums of the products.
    """

    channels: int
    values: int = 0
    products: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.products = np.zeros((self.channels, ONE + 1, ONE + 1))

    def add(self, found: Decomposition) -> None:
        """Add the errors of a batch."""
        self.values += found.a.size // self.channels
        rows = np.empty((self.channels, ONE + 1, found.a.size // self.channels))
        rows[:, ONE] = 1
        batch = len(found.a)
        for index, values in enumerate((*found.errors, found.a, found.z, found.zhat)):
            by_channel = values.reshape(batch, self.channels, -1).swapaxes(0, 1)
            rows[:, index] = by_channel.reshape(self.channels, -1)
        self.products += rows @ rows.swapaxes(1, 2)

    def _of(self, first: int, second: int) -> FloatArray:
        return self.products[:, first, second]

    @property
    def squares(self) -> FloatArray:
        """Sum of the squares of each term, (terms, channels)."""
        return np.stack([self._of(k, k) for k in range(K)])

    @property
    def power(self) -> FloatArray:
        """``sum a^2``, (channels,)."""
        return self._of(A, A)

    @property
    def z_squares(self) -> FloatArray:
        """``sum z^2``, (channels,)."""
        return self._of(Z, Z)

    @property
    def zhat_squares(self) -> FloatArray:
        """``sum zhat^2``, (channels,)."""
        return self._of(ZHAT, ZHAT)

    @property
    def z_product(self) -> FloatArray:
        """``sum z zhat``, (channels,)."""
        return self._of(Z, ZHAT)

    @property
    def z_sums(self) -> FloatArray:
        """``sum z``, (channels,)."""
        return self._of(Z, ONE)

    @property
    def zhat_sums(self) -> FloatArray:
        """``sum zhat``, (channels,)."""
        return self._of(ZHAT, ONE)

    def split(self) -> Split:
        """Return the attribution over all channels."""
        n = self.values * self.channels
        whole = self.products.sum(axis=0)
        errors = whole[:K, :K]
        power = float(whole[A, A])
        product = power + float(whole[A, :K].sum())
        sent = power + 2 * float(whole[A, :K].sum()) + float(errors.sum())
        scale = power if power > 0 else 1.0
        return Split(
            contributions=tuple(float(x) for x in errors.sum(axis=1) / scale),
            means=tuple(float(x) for x in whole[:K, ONE] / n),
            rms=tuple(sqrt(float(x)) for x in np.diag(errors) / n),
            power=power / n,
            cosine=product / sqrt(power * sent) if power > 0 and sent > 1e-12 * power else None,
        )


@dataclass(slots=True, eq=False)
class LayerSums:
    """All that is gathered of one population, or of the read-out.

    Attributes:
        shape: of the layer.
        counts: the smallest and the largest count; ``None`` for the read-out.
        theta: (channels,) the largest magnitude that spikes can stand for; infinite for the read-out.
        step: (channels,) the value of one unit, ``u / T``.
        threshold: (channels,) Theta, for the residual potential; ``None`` where nothing is left of it, as in
            neurons that follow a step function.
        reach: (2, channels), the smallest and the largest value that is not clipped.
    """

    shape: Shape
    counts: tuple[int, int] | None
    theta: FloatArray
    step: FloatArray
    threshold: NumberArray | None
    reach: FloatArray
    local: SplitSums = field(init=False)
    cumulative: SplitSums = field(init=False)
    lead: IntArray = field(init=False)
    histogram: IntArray = field(init=False)
    above: int = 0
    looked_at: int = 0
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

    def state(self) -> dict[str, NumberArray]:
        """Return what was added so far, to be joined to other sums."""
        counted = (self.above, self.looked_at, self.false_fires, self.local.values, self.cumulative.values)
        return {
            "counted": np.array(counted, np.int64),
            "local": self.local.products,
            "cumulative": self.cumulative.products,
            **{name: getattr(self, name) for name in (*ADDED, LARGEST)},
        }

    def join(self, state: Mapping[str, NumberArray]) -> None:
        """Add what was added to other sums of this layer."""
        above, looked_at, false_fires, local, cumulative = map(int, state["counted"])
        self.above += above
        self.looked_at += looked_at
        self.false_fires += false_fires
        self.local.values += local
        self.cumulative.values += cumulative
        self.local.products = self.local.products + state["local"]
        self.cumulative.products = self.cumulative.products + state["cumulative"]
        for name in ADDED:
            setattr(self, name, getattr(self, name) + state[name])
        self.source_largest = np.maximum(self.source_largest, state[LARGEST])

    @property
    def values(self) -> int:
        """Neurons times images that were looked at."""
        return self.looked_at or self.cumulative.values * self.shape[0]

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return prod(self.shape)

    def add_neurons(self, found: Decomposition, count: IntArray, v: NumberArray) -> None:
        """Add what only populations have: thresholds, spikes, potentials."""
        rank = len(self.shape)
        self.looked_at += count.size
        theta = per_channel(self.theta, rank)
        relative = np.abs(found.a) / theta
        low, high = (per_channel(values, rank) for values in self.reach)
        self.above += int(np.count_nonzero((found.a < low) | (found.a > high)))
        bins = np.minimum(relative * (ACTIVATION_BINS / ACTIVATION_RANGE), ACTIVATION_BINS).astype(np.int64)
        self.histogram += np.bincount(bins.ravel(), minlength=ACTIVATION_BINS + 1)
        lead = np.clip(found.lead, -2, 2) + 2
        self.lead += np.bincount(lead.ravel(), minlength=LEAD_BINS)
        self.false_fires += int(np.count_nonzero((found.a == 0) & (count != 0)))
        if self.counts is not None:
            least, most = self.counts
            self.saturated += _by_channel((count >= most) | ((count <= least) & (count < 0)))
        self.active += _by_channel(count != 0)
        self.sent += _by_channel(np.abs(count))
        self.source_mean += _by_channel(np.abs(found.a))
        highest = np.abs(found.a).reshape(*found.a.shape[:2], -1).max(axis=(0, 2))
        self.source_largest = np.maximum(self.source_largest, highest)
        if self.threshold is not None:
            share = v / per_channel(self.threshold, rank)
            outside = np.count_nonzero((share < 0) | (share >= 1))
            self.residual += (share.sum(), np.square(share).sum(), outside)
