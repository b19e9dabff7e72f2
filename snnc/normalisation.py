"""Whether a network reads rows as it was trained to, judged by its own answers to them.

A trained network tells rows apart best as it saw them in training. How well it does is the information
that its answers carry about the row, as a share of what its K classes could carry,

    I = mean_n sum_k p_nk log(p_nk / p_k) / log K,    p_n = softmax(SHARPNESS l_n / std(l)),

with ``p_k`` the mean over the rows: 0 if it says the same of all rows, however sure it is. Dividing the
logits by their own standard deviation makes I blind to how sure a network is, so that an unsure one is not
suspected. The same rows are then given in other *readings*: scaled, centred, standardised, with the channels
in the other order, with the axes in another order. Where one of them carries clearly more information, row
by row, the rows are read wrongly. What a network does not react to cannot be told by it, such as the scale of
the input where there are no biases to speak of: there, logits beyond all that training reaches give it away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import isqrt, log, prod, sqrt

import numpy as np
from numpy.typing import NDArray

from snnc.diagnostics import LOOKS_UNNORMALISED, Diagnostic
from snnc.ir.graph import FloatArray, NumberArray

PROBED_ROWS = 128
"""Rows that are read in every way."""

FEWEST_ROWS = 32
"""Fewer tell nothing."""

SHARPNESS = 4.0
"""Standard deviation of the logits that the information is taken at: that of a usual classifier."""

GAIN = 0.02
"""Share of information that another reading must add to count."""

ERRORS = 3.5
"""Standard errors that it must add, pairing the rows; there are about a dozen readings."""

TURNED_GAIN, TURNED_ERRORS = 0.015, 2.5
"""The same for the other order of the colours, which is asked for by itself and costs little information."""

ENOUGH = 0.58
"""Share of information from which on a reading may be the right one: few networks that were never trained, or
whose weights were shuffled, reach it in any. Of a network that knows so little itself, nothing is said."""

LEAD = 100.0
"""Median lead of the best logit that cross-entropy never trains a network to: its gradient is long gone."""

COLOURS = 3

Run = Callable[[FloatArray], NumberArray]
"""From rows, (n, *shape) float32, channels first, to their scores, (n, classes)."""


class Mistake(Enum):
    """What is wrong with rows."""

    SCALE = "scale or mean"
    CHANNELS = "channel order"
    AXES = "layout"


CURES = {
    Mistake.SCALE: "check divide, mean and std in --preprocess: they must be those of the training",
    Mistake.CHANNELS: "give the channels in the order of the training: x[..., ::-1]",
    Mistake.AXES: "check layout and transpose_hw in --preprocess",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """Another way to read rows.

    Attributes:
        mistake: what is wrong if it is the right one.
        words: what is done to the rows.
        rows: (n, *shape), the same rows in that way.
    """

    mistake: Mistake
    words: str
    rows: FloatArray


@dataclass(frozen=True, slots=True)
class Misread:
    """A reading of the rows that the network understands better.

    Attributes:
        mistake: what is wrong.
        words: what was done to the rows to make them better; empty where the logits alone are too large.
        information: share of the information that the rows carry as they are.
        better: the same of the better reading; of logits too large, the median lead of the best.
        lowest, highest: the range of the rows as they are.
        rows: how many were tried.
    """

    mistake: Mistake
    words: str
    information: float
    better: float
    lowest: float
    highest: float
    rows: int

    @property
    def text(self) -> str:
        """What was seen, in one line."""
        where = f"the rows lie in {self.lowest:.4g} .. {self.highest:.4g}, and the network"
        if not self.words:
            return (
                f"{where} gives its best class a lead of {self.better:.3g} in the logits, "
                "which no training reaches: they are too large"
            )
        return (
            f"{where} tells them apart by {self.information:.0%} of what its classes can, "
            f"but by {self.better:.0%} {self.words}"
        )

    @property
    def cure(self) -> str:
        """What to do."""
        return CURES[self.mistake]

    def diagnostic(self) -> Diagnostic:
        """Return it as a finding about calibration rows."""
        return Diagnostic(LOOKS_UNNORMALISED, f"{self.text}; they look wrongly normalised", help=self.cure)


def judge(run: Run, rows: FloatArray, *, softmax: bool, axes_only: bool = False) -> Misread | None:
    """Say how a network would rather read rows, or ``None`` where nothing tells.

    Nothing is said of a network whose outputs are no class scores, or of very few rows.

    Args:
        run: the network, up to its scores before any softmax.
        rows: (n, *shape) float32, channels first, as the network takes them.
        softmax: whether the network ends in a softmax, so that its outputs surely are class scores.
        axes_only: whether to try only other orders of channels and axes, of rows whose distribution is known.
    """
    chosen = _chosen(rows)
    if len(chosen) < FEWEST_ROWS:
        return None
    scores = _scores(run, chosen)
    if scores is None or scores.shape[1] >= prod(rows.shape[1:]):
        return None
    own = _information(scores)
    best: tuple[float, Misread] | None = None
    lowest, highest = float(chosen.min()), float(chosen.max())
    for reading in readings(chosen, axes_only=axes_only):
        others = _scores(run, reading.rows)
        if others is None or not (softmax or _look_like_classes(others)):
            continue
        found = _information(others)
        gain, errors = _gain(own, found)
        turned = reading.mistake is Mistake.CHANNELS
        least, most = (TURNED_GAIN, TURNED_ERRORS) if turned else (GAIN, ERRORS)
        if gain < least or errors < most or found.mean() < ENOUGH or (best is not None and gain <= best[0]):
            continue
        shares = float(own.mean()), float(found.mean())
        best = gain, Misread(reading.mistake, reading.words, *shares, lowest, highest, len(chosen))
    if best is not None:
        return best[1]
    first, second = np.sort(scores, axis=1)[:, [-1, -2]].T
    lead = float(np.median(first - second))
    classes = softmax or _look_like_classes(scores)
    if classes and lead > LEAD and not axes_only and own.mean() >= ENOUGH:
        return Misread(Mistake.SCALE, "", float(own.mean()), lead, lowest, highest, len(chosen))
    return None


def readings(rows: FloatArray, *, axes_only: bool = False) -> tuple[Reading, ...]:
    """Return other readings of rows, (n, *shape), leaving out those that change nothing."""
    found = [] if axes_only else _scaled(rows)
    shape = rows.shape[1:]
    axes = tuple(range(2, rows.ndim))
    if axes and shape[0] == COLOURS:
        found.append(Reading(Mistake.CHANNELS, "with the channels in the other order", rows[:, ::-1]))
    if axes and shape[0] > 1:
        last = np.moveaxis(rows.reshape(len(rows), *shape[1:], shape[0]), -1, 1)
        found.append(Reading(Mistake.AXES, "read as channels last", last))
        first = np.moveaxis(rows, 1, -1).reshape(rows.shape)
        found.append(Reading(Mistake.AXES, "read as channels first", first))
    if len(axes) == 2 and shape[1] == shape[2]:
        found.append(Reading(Mistake.AXES, "with height and width exchanged", rows.swapaxes(2, 3)))
    side = isqrt(shape[0])
    if len(shape) == 1 and side * side == shape[0] and side >= 8:
        turned = rows.reshape(len(rows), side, side).swapaxes(1, 2).reshape(rows.shape)
        found.append(Reading(Mistake.AXES, "with height and width exchanged", turned))
    tolerance = 1e-3 * float(np.ptp(rows))
    return tuple(item for item in found if float(np.abs(item.rows - rows).max()) > tolerance)


def _scaled(rows: FloatArray) -> list[Reading]:
    """Return the rows in the scales that networks are trained in, and in multiples of their own."""
    values = rows.astype(np.float64)
    low, high = values.min(), values.max()
    if high == low:
        return []
    unit = (values - low) / (high - low)
    over = (0, *range(2, rows.ndim))
    std = values.std(axis=over, keepdims=True)
    standard = (values - values.mean(axis=over, keepdims=True)) / np.where(std > 0, std, 1)
    ways = {
        "brought to 0 .. 1": unit,
        "brought to 0 .. 255": 255 * unit,
        "brought to -1 .. 1": 2 * unit - 1,
        "brought to -128 .. 127": 255 * unit - 128,
        "standardised per channel": standard,
    }
    ways |= {f"times {factor}": factor * values for factor in (2, 16, 255)}
    ways |= {f"divided by {factor}": values / factor for factor in (2, 16, 255)}
    return [Reading(Mistake.SCALE, words, other.astype(np.float32)) for words, other in ways.items()]


def _chosen(rows: FloatArray) -> FloatArray:
    """Return at most so many rows, evenly over all."""
    if len(rows) <= PROBED_ROWS:
        return rows
    chosen: FloatArray = rows[np.linspace(0, len(rows) - 1, PROBED_ROWS).astype(np.int64)]
    return chosen


def _scores(run: Run, rows: FloatArray) -> NDArray[np.float64] | None:
    """Return the scores, (n, classes), or ``None`` where they are not finite or not several."""
    found = run(np.ascontiguousarray(rows, np.float32)).astype(np.float64).reshape(len(rows), -1)
    return found if found.shape[1] > 1 and np.isfinite(found).all() else None


def _look_like_classes(scores: NDArray[np.float64]) -> bool:
    """Whether rows differ in which score is large, rather than in whether all are, as several values do."""
    level = scores.mean(axis=1, keepdims=True)
    contrast = scores - level
    between = contrast - contrast.mean(axis=0)
    return float(level.std()) < float(np.sqrt(between.var(axis=0).mean()))


def _information(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each row's answer says about it, (n,); the mean over the rows is I."""
    centred = scores - scores.mean(axis=1, keepdims=True)
    spread = centred.std()
    logits = centred * (SHARPNESS / spread if spread > 0 else 0.0)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    tiny = np.finfo(np.float64).tiny
    told: NDArray[np.float64] = (p * np.log(np.maximum(p, tiny) / np.maximum(p.mean(axis=0), tiny))).sum(
        axis=1
    )
    return told / log(scores.shape[1])


def _gain(own: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean gain of another reading, and how many of its standard errors that is."""
    difference = other - own
    mean, deviation = float(difference.mean()), float(difference.std(ddof=1))
    return mean, mean * sqrt(len(difference)) / max(deviation, 1e-12)
