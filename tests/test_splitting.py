"""Weights that stand out are split: how large the others are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from snnc.numerics.splitting import medians_of_positive


@given(
    st.lists(
        st.tuples(st.floats(2.0**-20, 2.0**20), st.lists(st.floats(0, 2.0**20), min_size=5, max_size=5)),
        min_size=1,
        max_size=6,
    )
)
def test_medians_are_those_of_the_positive_values(given_rows: list[tuple[float, list[float]]]) -> None:
    rows = np.array([[first, *others] for first, others in given_rows])
    assert np.array_equal(medians_of_positive(rows), [np.median(row[row > 0]) for row in rows])
