"""From raw rows to what a network takes: values that no row could be prepared with are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from snnc.data.preprocessing import Preprocessing, row_out_of_range
from snnc.errors import InputError


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"transpose_hw": "false"}', "`transpose_hw` is 'false'; it must be true or false"),
        ('{"transpose_hw": 1}', "must be true or false"),
        ('{"divide": NaN}', "`divide` is nan; give a finite number"),
        ('{"divide": true}', "`divide` is True"),
        ('{"divide": [255]}', "`divide` is [255]"),
        ('{"divide": 0}', "`divide` is 0, by which float32 cannot divide"),
        ('{"std": NaN}', "`std` is nan; give a finite number, or one per channel"),
        ('{"std": [1, 1e-50]}', "`std` is [1, 1e-50], by which float32 cannot divide"),
        ('{"mean": 1e400}', "`mean` is inf"),
        ('{"mean": 1e39}', "`mean` is 1e+39"),
        ('{"mean": []}', "`mean` is []"),
        ('{"mean": [0, "x"]}', "`mean` is [0, 'x']"),
        (f'{{"mean": 1{"0" * 400}}}', "`mean` is 1000"),
        ('{"layout": "CHW"}', "must be NCHW or NHWC"),
        ('{"scale": 2}', "unknown preprocessing keys scale"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_refused_names_the_file(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        Preprocessing.read(path)
    assert says in str(refused.value)
    assert str(path) in str(refused.value)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    made = Preprocessing(255.0, (0.1, 0.2), (0.3, 0.4), "NHWC", transpose_hw=True)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(made.as_dict()), encoding="utf-8")
    assert Preprocessing.read(path) == made


@pytest.mark.parametrize("shape", [(4, 6), (4, 2, 3, 3, 2)])
def test_rows_without_channels_take_one_mean_and_deviation(shape: tuple[int, ...]) -> None:
    rows = np.ones(shape, np.uint8)
    assert (Preprocessing(2.0, (0.25,), (0.5,)).apply(rows) == 0.5).all()
    for label, values in (("mean", Preprocessing(mean=(1, 2))), ("std", Preprocessing(std=(1, 2)))):
        with pytest.raises(InputError, match=f"{label} has 2 values, but rows of shape .* have no channels"):
            values.apply(rows)


def test_rows_of_half_precision_are_held_to_what_it_holds() -> None:
    rows = np.array([[0, 1], [65504, -65504], [np.inf, 0]], np.float16)
    assert row_out_of_range(rows[:2]) is None
    assert row_out_of_range(rows) == 2
