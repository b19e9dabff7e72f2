"""Test whether rows are preprocessed as in training, by the network's own answers.

A trained network separates rows best in the form of its training. The separation is measured by the
information that its answers carry about the row, as a share of the information that its K classes could
carry,

    I = mean_n sum_k p_nk log(p_nk / p_k) / log K,    p_n = softmax(SHARPNESS l_n / std(l)),

with ``p_k`` the mean over the rows: I is 0 if all answers are equal, whatever their confidence. Dividing the
logits by their own standard deviation makes I independent of the confidence of a network, so low confidence
is not reported. The same rows are then tested in other *readings*: scaled, centred, standardised, with the
channels or the axes in another order. If one of them carries clearly more information, row by row, the rows
are preprocessed wrongly.

Readings with the same scale may also be compared by the network's confidence: by 1 minus the entropy of
``p_n`` over log K, with one standard deviation for both. This is the more sensitive test for the order of
the colours, and it also works for rows of a single class, whose information is small.

Properties to which a network does not react cannot be tested by its answers, such as the scale of the input
of a network without relevant biases: there, logits far beyond the range of training indicate a wrong scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import chain
from math import isqrt, log, prod, sqrt

import numpy as np
from numpy.typing import NDArray

from snnc.diagnostics import LOOKS_UNNORMALISED, Diagnostic
from snnc.ir.blocks import spread_blocks
from snnc.ir.graph import FloatArray, NumberArray, Shape
from snnc.metrics.task import Task, behaves_as_classifier

PROBED_ROWS = 128
"""Rows that are read in every way."""

FEWEST_ROWS = 32
"""Fewer tell nothing."""

SHARPNESS = 4.0
"""Standard deviation of the logits that the information is taken at: that of a usual classifier."""

GAIN, ERRORS = 0.02, 2.8
"""Share of information that another reading must add, and standard errors of that, pairing the rows."""

SURER, SURER_ERRORS, COLOUR_ERRORS = 0.02, 4.0, 2.5
"""The same for how sure the network is; of colours in the right order it is surer by many standard errors, so
that few are doubt enough."""

TURNED_ERRORS = 2.0
"""Standard errors of being surer that count beside those of the information, for height and width."""

ENOUGH = 0.58
"""Share of information from which on a reading may be the right one: few networks that were never trained, or
whose weights were shuffled, reach it in any. Of a network that knows so little itself, nothing is said."""

FAINT, ENOUGH_FOR_FAINT = 0.1, 0.36
"""The same where the rows as they are carry hardly any information."""

ENOUGH_OF_SPIKES = 0.45
"""The same for an artefact in few steps, which was calibrated on rows that were read rightly."""

TRAINED, EVIDENT = (1.5, 20.0), 0.75
"""The range of the standard deviation of a trained classifier's logits (less their mean over the classes) on
rows that are read rightly: cross-entropy brings it to 2 to 14 in the networks looked at. A network that was
hardly trained stays below, and tells centred rows apart better whatever it was meant to read. From the second
figure on, a share of information, the logits may have any size."""

VARIETY, TURNED_VARIETY = 0.4, 0.6
"""Entropy of all answers together, over log K, from which on rows may have their axes in another order, or
height and width exchanged: rows of a single class carry little information in any reading, and a wrong one
may scatter the answers to them."""

LEAD = 100.0
"""Median lead of the best logit that cross-entropy never trains a network to: its gradient is long gone."""

RUNNING = 3.0
"""Ratio of standard deviations, and shift of the mean, that other rows of the same kind do not reach."""

VARIED = 1e-6
"""Variance, relative to the largest of all channels, below which a channel is dead and tells nothing."""

CHANGED, MUCH = 0.015, 0.3
"""Share of answers that another scale must change unless it gains so much: a larger one makes biases smaller
beside all else, and the information a little larger, without any answer that is better for it."""

COLOURS = 3

Run = Callable[[FloatArray], NumberArray]
"""From rows, (n, *shape) float32, channels first, to their scores, (n, classes)."""

Way = Callable[[FloatArray], NumberArray]
"""From some rows, (n, *shape) float32, to the same rows read in another way, (n, *shape)."""


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
        way: how it is done, to any block of the rows: all rows in all readings are never held together.
        variety: how much the answers must differ for this reading to count.
        keeps_scale: whether the values lie as far apart as they did.
    """

    mistake: Mistake
    words: str
    way: Way
    variety: float = 0.0
    keeps_scale: bool = False


@dataclass(frozen=True, slots=True)
class Misread:
    """A reading of the rows that the network understands better.

    Attributes:
        mistake: what is wrong.
        words: what was done to the rows to make them better; empty where the logits alone are too large.
        measure: what is better: ``tells them apart by`` or ``is sure of them by``.
        own: that of the rows as they are, as a share of the most.
        better: the same of the better reading; of logits too large, the median lead of the best.
        lowest, highest: the range of the rows as they are.
        rows: how many were tried.
    """

    mistake: Mistake
    words: str
    measure: str
    own: float
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
            f"{where} {self.measure} {self.own:.0%} of the possible maximum, "
            f"but {self.better:.0%} {self.words}"
        )

    @property
    def cure(self) -> str:
        """What to do."""
        return CURES[self.mistake]

    def diagnostic(self) -> Diagnostic:
        """Return it as a finding about calibration rows."""
        return Diagnostic(LOOKS_UNNORMALISED, f"{self.text}; they look wrongly normalised", help=self.cure)


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """What a network says of rows in one reading: its scores, (n, classes)."""

    scores: NDArray[np.float64]

    @classmethod
    def of(cls, run: Run, rows: FloatArray, way: Way = lambda rows: rows) -> _Answers | None:
        """Ask the network of the probed rows; ``None`` where its answers are not finite, or not several."""
        parts = [run(np.ascontiguousarray(way(some), np.float32)) for some in probed(rows)]
        found = np.concatenate(parts).astype(np.float64)
        found = found.reshape(len(found), -1)
        return cls(found) if found.shape[1] > 1 and np.isfinite(found).all() else None

    @property
    def contrast(self) -> NDArray[np.float64]:
        """The scores less their mean over the classes, (n, classes)."""
        return self.scores - self.scores.mean(axis=1, keepdims=True)

    def probabilities(self, sharpness: float, spread: float) -> NDArray[np.float64]:
        """Return softmax probabilities, (n, classes), where the logits' standard deviation is ``spread``."""
        logits = self.contrast * (sharpness / spread if spread > 0 else 0.0)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.maximum(p / p.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)

    def information(self) -> NDArray[np.float64]:
        """Return what each row's answer says about it, (n,); the mean over the rows is I."""
        p = self.probabilities(SHARPNESS, float(self.contrast.std()))
        told: NDArray[np.float64] = (p * np.log(p / p.mean(axis=0))).sum(axis=1)
        return told / log(p.shape[1])

    def certainty(self, spread: float) -> NDArray[np.float64]:
        """Return how sure the network is of each row, (n,), from 0 to 1."""
        p = self.probabilities(SHARPNESS / 2, spread)
        told: NDArray[np.float64] = (p * np.log(p)).sum(axis=1)
        return 1 + told / log(p.shape[1])

    def variety(self) -> float:
        """Return how much the answers to all rows differ: the entropy of their mean, from 0 to 1."""
        p = self.probabilities(SHARPNESS, float(self.contrast.std())).mean(axis=0)
        return float(-(p * np.log(p)).sum() / log(len(p)))

    def lead(self) -> float:
        """Return the median lead of the largest score."""
        first, second = np.sort(self.scores, axis=1)[:, [-1, -2]].T
        return float(np.median(first - second))


def judge(run: Run, rows: FloatArray, *, task: Task | None, order_only: bool = False) -> Misread | None:
    """Say how a network would rather read rows, or ``None`` where nothing tells.

    Nothing is said of a network whose outputs are no class scores, or of very few rows.

    Args:
        run: the network, up to its scores before any softmax.
        rows: (n, *shape) float32, channels first, as the network takes them.
        task: what the outputs are; ``None`` where that is not evident: then their behaviour decides.
        order_only: whether to try only other orders of colours, height and width, of rows whose distribution
            is known to be right, with an artefact that was made from such rows.
    """
    if len(rows) < FEWEST_ROWS:
        return None
    own = _Answers.of(run, rows)
    if own is None or own.scores.shape[1] >= prod(rows.shape[1:]) or task not in (None, Task.CLASSES):
        return None
    ends, tried = _ends(rows), len(own.scores)
    enough = ENOUGH_OF_SPIKES if order_only else ENOUGH
    faint = own.information().mean() < FAINT
    best: tuple[float, Misread] | None = None
    for reading in readings(rows, order_only=order_only):
        other = _Answers.of(run, rows, reading.way)
        if other is None or not (task is Task.CLASSES or behaves_as_classifier(other.scores)):
            continue
        told = other.information().mean()
        if told < (min(enough, ENOUGH_FOR_FAINT) if faint else enough):
            continue
        if not order_only and told < EVIDENT and not TRAINED[0] <= other.contrast.std() <= TRAINED[1]:
            continue
        found = _better(reading, own, other)
        if found is not None and reading.mistake is Mistake.SCALE and found[0] < MUCH:
            changed = np.mean(own.scores.argmax(axis=1) != other.scores.argmax(axis=1))
            if changed < CHANGED:
                continue
        if found is not None and (best is None or found[0] > best[0]):
            gain, measure, shares = found
            best = gain, Misread(reading.mistake, reading.words, measure, *shares, *ends, tried)
    if best is not None:
        return best[1]
    if order_only or not (task is Task.CLASSES or behaves_as_classifier(own.scores)):
        return None
    known, lead = float(own.information().mean()), own.lead()
    if lead > LEAD and known >= ENOUGH_FOR_FAINT:
        return Misread(Mistake.SCALE, "", "", known, lead, *ends, tried)
    return None


def _better(
    reading: Reading, own: _Answers, other: _Answers
) -> tuple[float, str, tuple[float, float]] | None:
    """Return by how much another reading is better, in what, and both shares; ``None`` if it is not."""
    told = own.information(), other.information()
    gain, errors = _gain(*told)
    if reading.keeps_scale:
        spread = float(np.concatenate([own.contrast, other.contrast]).std())
        sure = own.certainty(spread), other.certainty(spread)
        surer, sure_errors = _gain(*sure)
        shares = float(sure[0].mean()), float(sure[1].mean())
        if reading.mistake is Mistake.CHANNELS:
            clear = surer >= SURER and sure_errors >= COLOUR_ERRORS
            return (surer, "is sure of them by", shares) if clear else None
        hinted = surer >= SURER and sure_errors >= SURER_ERRORS and errors >= 1
        if reading.mistake is Mistake.SCALE and hinted:
            return surer, "is sure of them by", shares
        if reading.mistake is Mistake.AXES:
            # Both must say so, and together as clearly as the information alone elsewhere.
            errors = min(errors + TURNED_ERRORS, errors + sure_errors) if surer > 0 else 0.0
    if gain < GAIN or errors < ERRORS or own.variety() < reading.variety:
        return None
    return gain, "tells them apart by", (float(told[0].mean()), float(told[1].mean()))


def readings(rows: FloatArray, *, order_only: bool = False) -> Iterator[Reading]:
    """Yield other readings of rows, (n, *shape), leaving out those that change nothing."""
    low, high = _ends(rows)
    tolerance = 1e-3 * (high - low)
    for reading in chain(() if order_only else _scaled(rows), _reordered(rows, order_only=order_only)):
        changes = (np.abs(reading.way(some) - some).max() for some in probed(rows))
        if any(change > tolerance for change in changes):
            yield reading


def _reordered(rows: FloatArray, *, order_only: bool) -> Iterator[Reading]:
    """Yield the rows with channels or axes in another order."""
    shape = rows.shape[1:]
    axes = tuple(range(2, rows.ndim))
    if axes and shape[0] == COLOURS:
        words = "with the channels in the other order"
        yield Reading(Mistake.CHANNELS, words, lambda some: some[:, ::-1], keeps_scale=True)
    if axes and shape[0] > 1 and not order_only:

        def last(some: FloatArray) -> FloatArray:
            return np.moveaxis(some.reshape(len(some), *shape[1:], shape[0]), -1, 1)

        def first(some: FloatArray) -> FloatArray:
            return np.moveaxis(some, 1, -1).reshape(some.shape)

        yield Reading(Mistake.AXES, "read as channels last", last, VARIETY)
        yield Reading(Mistake.AXES, "read as channels first", first, VARIETY)
    if len(shape) == 3 and shape[1] == shape[2]:
        pixels: Shape = shape
    elif len(shape) == 1 and isqrt(shape[0]) ** 2 == shape[0] >= 64:
        pixels = (1, isqrt(shape[0]), isqrt(shape[0]))
    else:
        return

    def turned(some: FloatArray) -> FloatArray:
        return some.reshape(-1, *pixels).swapaxes(2, 3).reshape(some.shape)

    words = "with height and width exchanged"
    yield Reading(Mistake.AXES, words, turned, TURNED_VARIETY, keeps_scale=True)


def _scaled(rows: FloatArray) -> Iterator[Reading]:
    """Yield the rows in the scales that networks are trained in, and in multiples of their own."""
    low, high = _ends(rows)
    if high == low:
        return
    mean, std = _per_channel(rows)

    def unit(values: NumberArray) -> NumberArray:
        found: NumberArray = (values.astype(np.float64) - low) / (high - low)
        return found

    def centred(values: NumberArray) -> NumberArray:
        found: NumberArray = values.astype(np.float64) - mean
        return found

    ways: dict[str, Way] = {
        "brought to 0 .. 1": unit,
        "brought to 0 .. 255": lambda values: 255 * unit(values),
        "brought to -1 .. 1": lambda values: 2 * unit(values) - 1,
        "brought to -128 .. 127": lambda values: 255 * unit(values) - 128,
        "standardised per channel": lambda values: centred(values) / np.where(std > 0, std, 1),
    }
    ways |= {f"times {factor}": partial(_times, factor) for factor in (2, 16, 255)}
    ways |= {f"divided by {factor}": partial(_divided, factor) for factor in (2, 16, 255)}
    for words, way in ways.items():
        yield Reading(Mistake.SCALE, words, way)
    yield Reading(Mistake.SCALE, "centred per channel", centred, keeps_scale=True)


def _times(factor: int, values: NumberArray) -> NumberArray:
    return values.astype(np.float64) * factor


def _divided(by: int, values: NumberArray) -> NumberArray:
    return values.astype(np.float64) / by


def _per_channel(rows: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each channel, (1, channels, 1, ...)."""
    over = (0, *range(2, rows.ndim))
    count = min(len(rows), PROBED_ROWS) * rows[0].size // rows.shape[1]
    mean = sum(some.sum(axis=over, dtype=np.float64, keepdims=True) for some in probed(rows)) / count
    squares = sum(np.square(some - mean).sum(axis=over, keepdims=True) for some in probed(rows))
    return mean, np.sqrt(squares / count)


def _ends(rows: FloatArray) -> tuple[float, float]:
    """Return the smallest and the largest value of the probed rows."""
    ends = [(float(some.min()), float(some.max())) for some in probed(rows)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def probed(rows: FloatArray) -> Iterator[FloatArray]:
    """Yield the rows that are read in every way, some at a time."""
    return spread_blocks(rows, PROBED_ROWS)


def against_running(
    name: str, values: FloatArray, mean: FloatArray, variance: FloatArray
) -> Diagnostic | None:
    """Hold what arrives in front of a batch normalisation against its running statistics.

    On rows like those of the training, the values of each channel have about the mean and the variance that
    the training recorded, whatever the network's outputs are.

    Args:
        name: of the normalisation.
        values: (n, channels, ...) of some rows.
        mean: (channels,).
        variance: (channels,).
    """
    alive = variance > VARIED * float(variance.max())
    if len(values) < FEWEST_ROWS or not alive.any():
        return None
    flat = np.moveaxis(values, 1, 0).reshape(len(mean), -1)[alive].astype(np.float64)
    std = np.sqrt(variance[alive].astype(np.float64))
    shift = float(np.median(np.abs(flat.mean(axis=1) - mean[alive]) / std))
    ratio = float(np.median(flat.std(axis=1) / std))
    if 1 / RUNNING < ratio < RUNNING and shift < RUNNING:
        return None
    message = (
        f"what reaches this batch normalisation varies {ratio:.3g} times as much as it did in training, and "
        f"lies {shift:.3g} of its standard deviations off; the rows look wrongly normalised"
    )
    return Diagnostic(LOOKS_UNNORMALISED, message, node=name, help=CURES[Mistake.SCALE])


def _gain(own: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean gain of another reading, and how many of its standard errors that is."""
    difference = other - own
    mean, deviation = float(difference.mean()), float(difference.std(ddof=1))
    return mean, mean * sqrt(len(difference)) / max(deviation, 1e-12)
