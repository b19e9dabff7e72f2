"""The picture of a search for a budget: plain numbers, every conversion of the front by its name."""

from __future__ import annotations

import re
from html import unescape

from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.analysis.front import Point, pareto
from snnc.report.front import front_chart

POINTS = st.lists(
    st.builds(
        Point,
        label=st.sampled_from(["balanced, T=4", "binary-only, layerwise, T=2", "a $b$ {c}, T=1"]),
        timesteps=st.just(4),
        latency=st.integers(1, 9),
        payload=st.sampled_from(["binary", "signed", "signed+levels:2", "levels:15+levels:63"]),
        synops=st.floats(1e-3, 300),
        drop=st.floats(-1, 30),
        rows=st.just(100),
        picojoules=st.one_of(st.none(), st.floats(1, 1e9)),
        footprint=st.one_of(st.none(), st.just(300_000), st.integers(1, 10**9)),
    ),
    min_size=1,
    max_size=9,
)


def texts(svg: str) -> list[str]:
    return [unescape(re.sub("<[^>]*>", "", text)) for text in re.findall("<text.*?</text>", svg, re.DOTALL)]


@settings(max_examples=20)
@given(points=POINTS, known=st.booleans())
def test_ticks_are_plain_and_the_front_is_named(points: list[Point], known: bool) -> None:
    front = pareto(points)
    chart = front_chart(points, front, front[0] if known else None)
    found = [text.strip() for text in texts(chart.svg)]
    axis = re.search(r'id="front-matplotlib\.axis_1".*?id="front-matplotlib\.axis_2"', chart.svg, re.DOTALL)
    assert axis is not None
    *ticks, name = (text.strip() for text in texts(axis[0]))
    assert name.startswith("synaptic operations")
    assert len(ticks) >= 2
    assert all(re.fullmatch(r"[0-9][0-9,]*(\.[0-9]+)?", tick) for tick in ticks)
    for number, point in enumerate(front, 1):
        assert any(text.split(None, 1) == [str(number), point.label] for text in found), point.label
    numbered = {number for text in found if re.fullmatch(r"\d+(, \d+)*", text) for number in text.split(", ")}
    assert {str(number) for number in range(1, len(front) + 1)} <= numbered
    assert ("chosen" in found) == known
    assert "payload; filled: on the front" in found


def test_energy_and_footprint_are_shown_where_they_are_known() -> None:
    known = Point("a", 1, 1, "signed", 0.5, 1.0, 100, (), 2e6, 300_000)
    unknown = Point("b", 2, 2, "signed", 0.7, 0.5, 100)
    both = front_chart((known, unknown), pareto((known, unknown)), None)
    assert both.columns[4:6] == ("µJ an image (45nm)", "footprint, kB")
    assert [row[4:6] for row in both.rows] == [("2", "300.0"), ("-", "-")]
    axes = ("µJ an image, model 45nm", "footprint, kB")
    assert all(name in texts(both.svg) for name in axes)
    alone = front_chart((unknown,), (unknown,), None)
    assert not any(name in texts(alone.svg) for name in axes)
