"""Rows of data sets and loaders, by stand-ins for those of PyTorch, torchvision and Hugging Face."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import snnc
from snnc.data.datasets import is_dataset, is_loader, read_dataset
from snnc.errors import InputError, SnncError
from tests import quadrants


class Dataset:
    """Samples by their index."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        return self.samples[index]


class Loader:
    """Batches of a data set, in its order."""

    batch_sampler = object()

    def __init__(self, batches: list[Any], size: int | None = 4) -> None:
        self.dataset = Dataset([])
        self.batch_size = size
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class Endless(Loader):
    """Has no length, and yields more than anyone asks for."""

    def __iter__(self) -> Iterator[Any]:
        rng = np.random.default_rng(0)
        while True:
            yield [rng.random((4, 3)), rng.integers(0, 2, 4)]


def pairs(n: int) -> list[Any]:
    x, y = (array[:n] for array in quadrants.images(150, 1))
    return [(row, int(label)) for row, label in zip(x, y, strict=True)]


def test_samples_of_a_data_set() -> None:
    x, y = (array[:7] for array in quadrants.images(150, 1))
    data = Dataset(pairs(7))
    found = read_dataset(data)
    np.testing.assert_array_equal(found.x, x)
    labels = found.labels()
    assert labels is not None
    np.testing.assert_array_equal(labels, y)
    assert not found.is_part
    alone = read_dataset(Dataset(list(x)))
    np.testing.assert_array_equal(alone.x, x)
    assert alone.labels() is None
    np.testing.assert_array_equal(read_dataset(Dataset([(row,) for row in x])).x, x)


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_part_is_spread_over_the_data_set(total: int, limit: int) -> None:
    data = Dataset([np.full(2, k) for k in range(total)])
    found = read_dataset(data, limit)
    assert len(found.x) == min(total, limit)
    assert len(set(data.asked)) == len(data.asked)
    assert found.is_part == (limit < total)
    gaps = np.diff(found.x[:, 0])
    assert not len(gaps) or gaps.max() - gaps.min() <= 1
    if len(gaps):
        assert (found.x[0, 0], found.x[-1, 0]) == (0, total - 1)


@pytest.mark.parametrize("limit", [None, 1, 4, 5, 9, 10, 30])
def test_batches_of_a_loader(limit: int | None) -> None:
    x, y = quadrants.images(10, 1)
    batches = [[x[k : k + 4], y[k : k + 4]] for k in (0, 4, 8)]
    found = read_dataset(Loader(batches), limit)
    np.testing.assert_array_equal(found.x, x[:limit])
    np.testing.assert_array_equal(found.labels(), y[:limit])
    assert found.is_part == (limit is not None and limit < 10)
    alone = read_dataset(Loader([batch[0] for batch in batches]), limit)
    np.testing.assert_array_equal(alone.x, x[:limit])


def test_a_loader_that_never_ends() -> None:
    found = read_dataset(Endless([]), 6)
    assert found.x.shape == (6, 3)
    assert found.is_part


def test_a_loader_that_is_sorted_by_class() -> None:
    rows = np.random.default_rng(0).random((20, 3))
    batches = [[rows, np.full(20, label)] for label in (0, 0, 1)]
    with pytest.raises(InputError, match=r"the first 40 of .* all have the label 0: shuffle the loader"):
        read_dataset(Loader(batches, 20), 40)
    assert len(read_dataset(Loader(batches, 20)).x) == 60
    assert len(read_dataset(Loader(batches, 20), 41).x) == 41
    assert len(read_dataset(Loader(batches[:2], 20)).x) == 40


ROW = np.zeros((3, 3))


class Damaged(Dataset):
    """Raises what no one expects."""

    def __getitem__(self, index: int) -> Any:
        raise RuntimeError("no picture\nat all")


def damaged_batches() -> Iterator[Any]:
    yield ROW
    raise OSError("worker died")


class Broken(Loader):
    """A loader whose worker dies."""

    def __iter__(self) -> Iterator[Any]:
        return damaged_batches()


class Picture:
    """What looks like a picture of Pillow."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def convert(self, mode: str) -> Picture:
        return Picture(mode)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.zeros((3, 3), np.uint8)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: Dataset([{"image": ROW, "label": 3}]),
            r"row 0 is a dict .*'image', 'label'.*row\['image'\]",
        ),
        (lambda: Loader([{"pixels": ROW}]), r"batch 0 is a dict .*numpy.concatenate\(\[batch\['pixels'\]"),
        (lambda: Dataset([{"label": 3}]), r"row\['label'\]"),
        (lambda: Dataset([]), "there are none"),
        (lambda: Loader([]), "there are none"),
        (lambda: Dataset([(ROW, 1, 2)]), "is a tuple of 3: give pairs"),
        (
            lambda: Dataset([(ROW, 1), (ROW[:2], 1)]),
            r"row 1 has the shape \(2, 3\), and those before \(3, 3\)",
        ),
        (lambda: Dataset([ROW, ROW.astype(np.float32)]), "row 1 is float32, and those before are float64"),
        (lambda: Dataset([(ROW, 1), ROW]), "row 1 has no label"),
        (lambda: Dataset([ROW, (ROW, 1)]), "row 1 has a label"),
        (lambda: Dataset([("a", 1)]), "row 0 is str: give arrays"),
        (lambda: Dataset([(3, 1)]), "row 0 is int: give arrays"),
        (lambda: Dataset([(Picture("RGBA"), 1)]), "row 0 is a picture with transparency, RGBA: convert it"),
        (lambda: Dataset([(Picture("P"), 1)]), "row 0 is a picture with a palette: convert it"),
        (lambda: Dataset([(Picture("I;16"), 1)]), "row 0 is a picture of more than 8 bits, I;16: scale it"),
        (lambda: Loader([[ROW, [1, 2]]]), "batch 0 has 3 rows and 2 labels"),
        (lambda: Loader([ROW[0]]), r"batch 0 is float64 of shape \(3,\): give batches"),
        (lambda: Damaged([1]), r"row 0 cannot be read, RuntimeError: no picture; mend the data set"),
        (lambda: Broken([]), r"batch 1 cannot be read, OSError: worker died; mend the data set"),
        (lambda: Dataset([(ROW, "cat"), (ROW, "dog")]), "the labels of .* are str: give numbers"),
        (lambda: Dataset([(ROW, [1]), (ROW, [1, 2])]), "the labels of .* are of several shapes"),
    ],
)
def test_mistakes_are_one_line(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(SnncError, match=says) as caught:
        read_dataset(make()).labels()
    assert "\n" not in str(caught.value)


def test_a_loader_without_batches() -> None:
    loader = Loader([ROW], None)
    loader.batch_sampler = None
    with pytest.raises(InputError, match="give it a batch_size"):
        read_dataset(loader)


def test_without_a_length() -> None:
    class Stream:
        def __getitem__(self, index: int) -> Any:
            raise NotImplementedError

    assert is_dataset(Stream())
    with pytest.raises(InputError, match="have no length: give a DataLoader"):
        read_dataset(Stream())


@pytest.mark.parametrize(
    "value",
    [ROW, [ROW], (ROW,), {"x": ROW}, "rows.npy", b"", range(3), None, Picture("L"), dict, iter([ROW])],
)
def test_what_is_read_otherwise(value: Any) -> None:
    assert not is_dataset(value)
    assert not is_loader(value)


def test_conversion_and_evaluation() -> None:
    model = quadrants.network()
    options: dict[str, Any] = {"preset": "fast", "timesteps": 4, "threads": 1}
    x, y = quadrants.images(150, 1)
    test = Dataset(pairs(90))
    made = snnc.convert(model, Dataset(pairs(150)), preprocessing=quadrants.PREPROCESSING, **options)
    plain = snnc.convert(model, x, preprocessing=quadrants.PREPROCESSING, **options)
    np.testing.assert_array_equal(made.simulate(x[:5]).logits, plain.simulate(x[:5]).logits)
    np.testing.assert_array_equal(made.simulate(Dataset(pairs(5))).logits, plain.simulate(x[:5]).logits)
    found = made.evaluate(test, threads=1)
    assert found.as_dict() == plain.evaluate(x[:90], y[:90], threads=1).as_dict()
    with pytest.raises(SnncError, match="brings its labels"):
        made.evaluate(test, y[:90])


def test_many_rows_are_spread() -> None:
    x, _ = quadrants.images(1500, 1)
    data = Dataset(list(x))
    made = snnc.convert(
        quadrants.network(),
        data,
        preprocessing=quadrants.PREPROCESSING,
        preset="fast",
        timesteps=2,
        threads=1,
    )
    assert made.metadata.calibration["rows"] == 1000
    assert max(data.asked) == 1499
