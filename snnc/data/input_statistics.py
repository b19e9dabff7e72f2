"""Statistics of the calibration rows, and the test whether other rows have the same distribution.

Every row is described by a few figures, its *features*: the mean of each channel, the largest and the
smallest value, the distance from the centre of all rows, the variation within the row, and the similarity of
neighbouring values along each axis. Median, width and range of each over the calibration rows are stored
in the artefact. Rows of another scale, offset or layout differ in every row, and by far more than rows
differ among themselves; rows of a single class, darker rows or a few rows do not. A feature is therefore
reported if its median differs from that of calibration by more than ``SHIFT + NOISE sqrt(1/n + 1/N)`` of its
widths, for n rows and N calibration rows: the second term covers the sampling error of a median, the first
the difference of valid rows of another composition. If there are few rows, each must lie outside the range of
calibration; and so must most rows if the feature is the mean of one channel, which may be a category.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from snnc.diagnostics import UNLIKE_CALIBRATION, Diagnostic
from snnc.errors import InputError
from snnc.ir.blocks import evenly, in_blocks, released
from snnc.ir.graph import FloatArray, NumberArray, Shape

MOST_ROWS = 512
"""Rows that are looked at: more do not tell more."""

CHUNK = 2**21
"""Values whose sums are made together."""

FEW = 2**19
"""Values whose features are made together, each of one row alone: that takes several times their memory."""

MOST_GROUPS = 64
"""Means that are kept: beyond, neighbouring channels or features share one."""

SHIFT = 2.0
"""Widths by which the rows of one class, or of another source, may lie off."""

NOISE = 6.0
"""Widths, over the root of the number of rows, that chance does not reach."""

A_FEW = 8
"""Rows up to which all must lie beyond what calibration saw."""

CENTRAL = 3.29
"""Standard deviations of a normal distribution between its 5 % and 95 % quantiles, which give the width."""

Features = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Foreign:
    """Rows that are not distributed as the calibration rows were.

    Attributes:
        feature: what differs most: ``mean``, ``lowest``, ``highest``, ``distance``, ``variation``,
            ``range`` or ``neighbours``.
        excess: how many times further off than honest rows may be.
        ratio: how many times as much the rows vary as the calibration rows.
        lowest, highest: the range of these rows, as they were given.
        seen: the range of the calibration rows.
        rows: how many were looked at.
    """

    feature: str
    excess: float
    ratio: float
    lowest: float
    highest: float
    seen: tuple[float, float]
    rows: int

    @property
    def text(self) -> str:
        """What was seen and what was expected, in one line."""
        low, high = self.seen
        return (
            f"the rows lie in {self.lowest:.4g} .. {self.highest:.4g}, "
            f"calibration saw {low:.4g} .. {high:.4g}: {self._difference()}"
        )

    def _difference(self) -> str:
        if self.feature == "neighbours":
            return "neighbouring values are less similar than then, as if the axes were in another order"
        for factor in (255, 128):
            if 0.8 < self.ratio / factor < 1.25:
                return f"a division by {factor} is missing"
            if 0.8 < self.ratio * factor < 1.25:
                return f"a division by {factor} is applied twice, or must not be applied"
        if not 0.8 < self.ratio < 1.25:
            return f"they vary {self.ratio:.3g} times as much"
        return "their mean or their limits differ"

    def diagnostic(self) -> Diagnostic:
        """Return it as a finding about the rows that an artefact is given."""
        cure = "give rows in the form of the calibration rows: the same scale, mean, channel order and layout"
        return Diagnostic(UNLIKE_CALIBRATION, self.text, help=cure)


KEY = "input"
"""Under which an artefact's record of its calibration holds the statistics."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How one feature is spread over rows.

    Attributes:
        centre: the median.
        width: a standard deviation, by the quantiles, so that a few odd rows do not widen it.
        lowest, highest: the range.
    """

    centre: float
    width: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: NDArray[np.float64], least: float) -> Self:
        """Describe the values, (n,), with at least such a width."""
        low, centre, high = np.quantile(values, (0.05, 0.5, 0.95))
        width = max((high - low) / CENTRAL, least)
        return cls(*map(_short, (centre, width, values.min(), values.max())))


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """What is kept of rows, (n, *shape) float32, channels first.

    Attributes:
        rows: how many.
        shape: of a row.
        lowest, highest: the range of all values, as they were given: before the preprocessing.
        mean, std: of each group of channels; a group is one channel unless there are very many.
        features: of each feature by its name, over the rows.
    """

    rows: int
    shape: Shape
    lowest: float
    highest: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    features: Mapping[str, Spread]

    @classmethod
    def of(cls, rows: FloatArray, given: NumberArray | None = None) -> Self:
        """Describe rows.

        Args:
            rows: (n, *shape), at least one.
            given: (n, ...), the same before the preprocessing; ``None`` where there is none.
        """
        mean, std = _moments(rows)
        found = _all_features(rows, mean, std)
        return cls(
            min(len(rows), MOST_ROWS),
            tuple(rows.shape[1:]),
            *_range(rows if given is None else given),
            tuple(map(_short, mean)),
            tuple(map(_short, std)),
            {name: Spread.of(values, _least(name)) for name, values in found.items()},
        )

    def foreign(self, rows: FloatArray, given: NumberArray | None = None) -> Foreign | None:
        """Say what is strange about rows, or ``None`` if they may come from where the others came from.

        Args:
            rows: (n, *shape) as calibration saw them: after the preprocessing.
            given: (n, ...), the same before it; ``None`` where there is none.
        """
        if len(rows) == 0 or tuple(rows.shape[1:]) != self.shape:
            return None
        count = min(len(rows), MOST_ROWS)
        allowed = SHIFT + NOISE * sqrt(1 / count + 1 / self.rows)
        found = _all_features(rows, np.array(self.mean), np.array(self.std))
        worst, excess = "", 0.0
        for name, values in found.items():
            spread = self.features[name]
            off = abs(float(np.median(values)) - spread.centre) / (spread.width * allowed)
            beyond = float(np.mean((values < spread.lowest) | (values > spread.highest)))
            needed = 1.0 if count <= A_FEW else 0.5 if name.startswith("mean") else 0.0
            if off > excess and beyond >= needed:
                worst, excess = name, off
        if excess <= 1:
            return None
        stds = _moments(rows)[1]
        ratios = [new / old for new, old in zip(stds, self.std, strict=True) if old > 0]
        return Foreign(
            worst.partition(" ")[0],
            excess,
            float(np.median(ratios)) if ratios else 1.0,
            *_range(rows if given is None else given),
            (self.lowest, self.highest),
            count,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "rows": self.rows,
            "shape": list(self.shape),
            "range": [self.lowest, self.highest],
            "mean": list(self.mean),
            "std": list(self.std),
            "features": {
                name: [spread.centre, spread.width, spread.lowest, spread.highest]
                for name, spread in self.features.items()
            },
        }

    @classmethod
    def stored(cls, calibration: Mapping[str, Any]) -> Self | None:
        """Return what an artefact's record of its calibration holds; ``None`` if it is older than this.

        Raises:
            InputError: it is damaged.
        """
        return cls.from_dict(calibration[KEY]) if KEY in calibration else None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON form.

        Raises:
            InputError: it is damaged.
        """
        try:
            features = {
                str(name): Spread(*map(float, numbers)) for name, numbers in values["features"].items()
            }
            lowest, highest = map(float, values["range"])
            found = cls(
                int(values["rows"]),
                tuple(map(int, values["shape"])),
                lowest,
                highest,
                tuple(map(float, values["mean"])),
                tuple(map(float, values["std"])),
                features,
            )
            expected = _features(np.zeros((1, *found.shape)), np.array(found.mean), np.array(found.std))
            if (
                found.rows < 1
                or set(expected) != set(features)
                or any(item.width <= 0 for item in features.values())
            ):
                raise ValueError("the features do not fit the rows")
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the artefact's record of its calibration rows is damaged ({error}); convert again"
            ) from error
        return found


def _range(values: NumberArray) -> tuple[float, float]:
    ends = [(values[rows].min(), values[rows].max()) for rows in in_blocks(values)]
    return _short(min(low for low, _ in ends)), _short(max(high for _, high in ends))


def _grouped(rows: NDArray[Any]) -> list[NDArray[Any]]:
    """Split rows, (n, *shape), into groups of channels."""
    return np.array_split(rows, min(rows.shape[1], MOST_GROUPS), axis=1)


def _chunks(rows: FloatArray, values: int = CHUNK) -> Iterator[NDArray[np.float64]]:
    """Yield the chosen rows in double precision, so many values at a time: large images take much memory."""
    size = max(1, values // max(rows[0].size, 1))
    places = evenly(len(rows), MOST_ROWS)
    for start in range(0, len(places), size):
        yield rows[places[start : start + size]].astype(np.float64)
        released(rows)


def _moments(rows: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each group of channels, over the chosen rows."""
    counts = min(len(rows), MOST_ROWS) * np.array([group.size for group in _grouped(rows[:1])], np.float64)
    mean = np.sum([[group.sum() for group in _grouped(part)] for part in _chunks(rows)], axis=0) / counts
    squares = np.sum(
        [
            [np.square(group - centre).sum() for group, centre in zip(_grouped(part), mean, strict=True)]
            for part in _chunks(rows)
        ],
        axis=0,
    )
    return mean, np.sqrt(squares / counts)


def _all_features(rows: FloatArray, mean: NDArray[Any], std: NDArray[Any]) -> Features:
    """Return the features of each of the chosen rows, (n,) each."""
    parts = [_features(part, mean, std) for part in _chunks(rows, FEW)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _features(rows: NDArray[Any], mean: NDArray[Any], std: NDArray[Any]) -> Features:
    """Return the features of each row, (n,) each.

    Raises:
        ValueError: mean and standard deviation do not fit.
    """
    n = len(rows)
    found: Features = {}
    scaled = []
    for index, (group, centre, spread) in enumerate(zip(_grouped(rows), mean, std, strict=True)):
        # What never varied in calibration has no unit to measure others by.
        if spread <= 1e-6 * abs(centre) or spread == 0:
            continue
        values = (group - centre) / spread
        scaled.append(values.reshape(n, -1))
        found[f"mean {index}"] = scaled[-1].mean(axis=1)
    if not scaled:
        return found
    flat = np.concatenate(scaled, axis=1)
    found["lowest"], found["highest"] = flat.min(axis=1), flat.max(axis=1)
    found["distance"] = _logarithm(np.square(flat).mean(axis=1))
    if flat.shape[1] > 1:
        found["variation"] = _logarithm(flat.var(axis=1))
    if rows.ndim == 2 and rows.shape[1] > 1:
        # The ends are those of rarely lit pixels, in their own units, where pictures come as vectors.
        found["range"] = _logarithm(np.square(np.ptp(rows, axis=1)))
    centred = rows - rows.mean(axis=tuple(range(1, rows.ndim)), keepdims=True)
    power = np.square(centred).reshape(n, -1).mean(axis=1)
    for axis in range(1 if rows.ndim == 2 else 2, rows.ndim):
        if rows.shape[axis] < 8:
            continue
        ahead, behind = (
            np.take(centred, range(start, rows.shape[axis] - 1 + start), axis=axis) for start in (0, 1)
        )
        product = (ahead * behind).reshape(n, -1).mean(axis=1)
        found[f"neighbours {axis}"] = np.divide(product, power, out=np.ones(n), where=power > 0)
    return found


def _logarithm(square: NDArray[Any]) -> NDArray[Any]:
    """Return half the logarithm of a mean square: of the root, that is."""
    return 0.5 * np.log(np.maximum(square, 1e-12))


def _least(name: str) -> float:
    """Return the least width of a feature: closer, no difference matters."""
    return {"mean": 0.1, "lowest": 0.1, "highest": 0.1, "neighbours": 0.05}.get(name.partition(" ")[0], 0.1)


def _short(value: float) -> float:
    """Return the number with the digits that are kept."""
    return float(f"{value:.6g}") + 0.0  # no negative zero
