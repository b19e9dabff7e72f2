"""Rows in any layout: read where it is certain, refused where it is not, never scrambled."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from snnc.data.preprocessing import Preprocessing, prepared_rows
from snnc.data.readings import NetworkInput
from snnc.errors import InputError
from snnc.ir.layout import InputLayout

Array = NDArray[np.float32]
RAW = Preprocessing()


def images(*shape: int) -> Array:
    """Return two images, no two values alike."""
    return np.arange(2 * math.prod(shape), dtype=np.float32).reshape(2, *shape)


def refusal(call: Callable[[], object]) -> str:
    """Return what is told to the user; nothing where the rows are taken."""
    try:
        call()
    except InputError as error:
        return str(error)
    return ""


def known(shape: tuple[int, ...], channel: int) -> NetworkInput:
    return NetworkInput(shape, shape, (channel,))


@pytest.mark.parametrize("network", [(1, 28, 26), (28, 26, 1), (28, 26)])
@pytest.mark.parametrize("rows", [(28, 26), (28, 26, 1), (1, 28, 26), (28, 1, 26)])
def test_an_axis_of_size_1_may_stand_anywhere(network: tuple[int, ...], rows: tuple[int, ...]) -> None:
    x = images(28, 26)
    found = RAW.apply(x.reshape(2, *rows), network)
    np.testing.assert_array_equal(found, x.reshape(2, *network))


@pytest.mark.parametrize("channel", [0, 1, 2])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("spatial", [(5,), (4, 5)])
def test_channels_first_and_last_give_the_same_input(
    channel: int, last: bool, spatial: tuple[int, ...]
) -> None:
    channel = min(channel, len(spatial))
    first = images(3, *spatial)
    wanted = np.moveaxis(first, 1, 1 + channel)
    network = known(wanted.shape[1:], channel)
    rows = np.moveaxis(first, 1, -1) if last else first
    mean, std = np.array([1, 20, 300], np.float32), np.array([1, 2, 4], np.float32)
    axes = [1] * (1 + len(spatial))
    axes[channel] = 3
    expected = (wanted - mean.reshape(axes)) / std.reshape(axes)
    preprocessing = Preprocessing(mean=(1, 20, 300), std=(1, 2, 4))
    np.testing.assert_array_equal(preprocessing.apply(rows, network), expected)


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=3),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
)
def test_what_is_read_is_what_was_meant_or_refused(
    sizes: list[int], channel: int, last: bool, bare: bool
) -> None:
    """Whatever the sizes: rows made channels first or last never give anything but the network's input."""
    channel = min(channel, len(sizes) - 1)
    wanted = images(*sizes)
    rows = np.moveaxis(wanted, 1 + channel, -1 if last else 1)
    if bare and sizes[channel] == 1:
        rows = rows.squeeze(-1 if last else 1)
    network = known(tuple(sizes), channel)
    name = {2: ("NCL", "NLC"), 3: ("NCHW", "NHWC")}[len(sizes)][last]
    told = refusal(lambda: RAW.apply(rows, network))
    if told:
        assert "say which by rows_layout" in told
        assert name in told
    found = (Preprocessing(rows_layout=name) if told else RAW).apply(rows, network)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("shape", "names"), [((8, 8, 8), "NCHW or NHWC"), ((8, 8), "NCL or NLC")])
def test_where_two_readings_fit_both_are_named(shape: tuple[int, ...], names: str) -> None:
    x = images(*shape)
    with pytest.raises(InputError) as refused:
        RAW.apply(x, known(shape, 0), "`x` of FILE")
    assert f"rows_layout {names}" in str(refused.value)
    assert str(str(refused.value)).startswith("`x` of FILE")
    first, last = names.split(" or ")
    np.testing.assert_array_equal(Preprocessing(rows_layout=first).apply(x, known(shape, 0)), x)
    moved = np.moveaxis(x, -1, 1)
    np.testing.assert_array_equal(Preprocessing(rows_layout=last).apply(x, known(shape, 0)), moved)


def test_one_channel_may_be_flat_and_several_may_not() -> None:
    x = images(28, 26)
    np.testing.assert_array_equal(RAW.apply(x.reshape(2, -1), (1, 28, 26)), x[:, None])
    colours = images(3, 4, 5)
    with pytest.raises(InputError, match=r"flat rows .* NCHW \(3, 4, 5\) or NHWC \(4, 5, 3\)"):
        RAW.apply(colours.reshape(2, -1), known((3, 4, 5), 0))
    first = Preprocessing(rows_layout="NCHW").apply(colours.reshape(2, -1), known((3, 4, 5), 0))
    np.testing.assert_array_equal(first, colours)
    last = np.moveaxis(colours, 1, -1).reshape(2, -1)
    found = Preprocessing(rows_layout="NHWC", mean=(0, 1, 2)).apply(last, known((3, 4, 5), 0))
    np.testing.assert_array_equal(found, colours - np.arange(3).reshape(3, 1, 1))


def test_the_same_number_of_values_is_no_reason_to_take_rows() -> None:
    for rows, network in (((16, 49), (1, 28, 28)), ((3, 2, 10), (3, 4, 5)), ((4, 15), (3, 4, 5))):
        with pytest.raises(InputError, match=r"no layout of .* fits"):
            RAW.apply(images(*rows), network)


def test_one_row_and_rows_that_come_last_are_named() -> None:
    rows = images(8, 6)
    for x, call in ((rows[0], r"x\[None\]"), (np.moveaxis(rows, 0, -1), r"numpy.moveaxis\(x, -1, 0\)")):
        with pytest.raises(InputError, match=call):
            RAW.apply(x, known((1, 8, 6), 0))


def test_a_network_of_flat_rows_does_not_tell_the_order_of_its_channels() -> None:
    grey, colours = images(4, 5), images(4, 5, 3)
    np.testing.assert_array_equal(RAW.apply(grey, (20,)), grey.reshape(2, 20))
    with pytest.raises(InputError, match=r"give both layout .* and rows_layout"):
        RAW.apply(colours, (60,))
    for layout, wanted in (("NHWC", colours), ("NCHW", colours.transpose(0, 3, 1, 2))):
        found = Preprocessing(layout=layout, rows_layout="NHWC").apply(colours, (60,))
        np.testing.assert_array_equal(found, wanted.reshape(2, 60))
    # The network may arrange flat rows itself: then its own order is known.
    own = NetworkInput((60,), (3, 4, 5), (0,))
    np.testing.assert_array_equal(RAW.apply(colours, own), colours.transpose(0, 3, 1, 2).reshape(2, 60))
    np.testing.assert_array_equal(RAW.apply(colours.reshape(2, 60), own), colours.reshape(2, 60))


def test_what_cannot_be_put_in_order_is_refused() -> None:
    x = images(4, 4)
    with pytest.raises(InputError, match="give layout, that of the network"):
        Preprocessing(rows_layout="NLC").apply(x, (4, 4))
    moved = Preprocessing(rows_layout="NLC", layout="NCL").apply(x, (4, 4))
    np.testing.assert_array_equal(moved, x.transpose(0, 2, 1))
    with pytest.raises(InputError, match="order values otherwise"):
        Preprocessing(rows_layout="NHWC", layout="NCHW").apply(images(60), (60,))
    np.testing.assert_array_equal(Preprocessing(rows_layout="NHWC").apply(images(60), (60,)), images(60))


def test_height_and_width_that_look_exchanged_are_named() -> None:
    with pytest.raises(InputError, match="say so by transpose_hw"):
        RAW.apply(images(5, 4, 3), known((3, 4, 5), 0))


def test_height_and_width_are_exchanged_in_every_layout() -> None:
    swapped = Preprocessing(transpose_hw=True)
    wanted = images(3, 4, 5)
    for rows in (wanted.transpose(0, 1, 3, 2), wanted.transpose(0, 3, 2, 1)):
        np.testing.assert_array_equal(swapped.apply(rows, known((3, 4, 5), 0)), wanted)
        np.testing.assert_array_equal(swapped.apply(rows, known((4, 5, 3), 2)), wanted.transpose(0, 2, 3, 1))
    grey = images(4, 5)
    np.testing.assert_array_equal(swapped.apply(grey, (5, 4, 1))[..., 0], grey.transpose(0, 2, 1))
    np.testing.assert_array_equal(swapped.apply(grey, (20,)), grey.transpose(0, 2, 1).reshape(2, 20))


def test_sizes_that_a_file_leaves_open_are_those_of_the_rows() -> None:
    x = images(6, 7, 3)
    network = NetworkInput.of_shape((3, None, None))
    np.testing.assert_array_equal(RAW.apply(x, network), x.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(RAW.apply(x.transpose(0, 3, 1, 2), network), x.transpose(0, 3, 1, 2))
    single = NetworkInput.of_shape((1, None, None))
    np.testing.assert_array_equal(RAW.apply(x[..., 0], single), x[..., 0][:, None])
    with pytest.raises(InputError, match=r"NCHW .* or NHWC"):
        RAW.apply(x, NetworkInput.of_shape((None, None, None)))


@pytest.mark.parametrize("axis", range(3))
def test_means_belong_to_the_channels_that_their_number_names(axis: int) -> None:
    """Of a network whose channels are not known, the number of means tells them, or it is refused."""
    x = images(3, 4, 5)
    wanted = np.moveaxis(x, 1, axis + 1)
    shape = wanted.shape[1:]
    preprocessing = Preprocessing(mean=(1, 2, 3))
    if axis == 1:
        with pytest.raises(InputError, match="cannot be so many"):
            preprocessing.apply(wanted, shape)
        return
    mean = np.arange(1, 4).reshape([3 if a == axis else 1 for a in range(3)])
    np.testing.assert_array_equal(preprocessing.apply(wanted, shape), wanted - mean)
    with pytest.raises(InputError, match="NCHW or NHWC"):
        preprocessing.apply(images(3, 4, 3), (3, 4, 3))


def test_means_for_channels_that_a_network_lacks_are_refused() -> None:
    with pytest.raises(InputError, match=r"3 values of mean or std, but the network.* has 1 channels"):
        Preprocessing(mean=(1, 2, 3)).apply(images(4, 5), known((1, 4, 5), 0))
    with pytest.raises(InputError, match="mean has 3 values and std 2"):
        Preprocessing(mean=(1, 2, 3), std=(1, 2)).apply(images(3, 4, 5), known((3, 4, 5), 0))


@given(st.lists(st.integers(1, 4), min_size=2, max_size=3), st.integers(0, 2), st.data())
def test_rows_that_are_not_taken_as_they_are_come_with_the_call_that_mends_them(
    sizes: list[int], channel: int, data: st.DataObject
) -> None:
    channel = min(channel, len(sizes) - 1)
    network = known(tuple(sizes), channel)
    wanted = images(*sizes)
    moved = np.moveaxis(wanted, 1 + channel, data.draw(st.sampled_from([1, -1])))
    x = moved.reshape(
        2, *data.draw(st.sampled_from([moved.shape[1:], (*moved.shape[1:], 1), moved[0].squeeze().shape]))
    )
    told = refusal(lambda: prepared_rows(x, network, None))
    if x.shape == wanted.shape:  # taken as they are, since nothing says that they are not ready
        assert not told
        return
    assert f"not {x.shape}, the shape of the rows" in told
    call = re.search(r" by (x\..*?)(?:, which moves no value; raw|, or say)", told)
    if call is None:
        assert "say which by rows_layout" in told
    else:
        np.testing.assert_array_equal(eval(call[1], {"x": x}), wanted)


def test_rows_stored_before_there_was_a_layout_of_rows_mean_what_they_meant() -> None:
    x = images(8, 8, 8)
    old = {"divide": 1.0, "mean": [0.0], "std": [1.0], "layout": "NCHW", "transpose_hw": False}
    network = known((8, 8, 8), 0)
    np.testing.assert_array_equal(Preprocessing.stored(old).apply(x, network), x.transpose(0, 3, 1, 2))
    kept = Preprocessing.stored(old | {"layout": "NHWC"})
    np.testing.assert_array_equal(kept.apply(x, known((8, 8, 8), 2)), x)
    assert Preprocessing.stored(Preprocessing.stored(old).as_dict()).legacy
    assert not Preprocessing.stored(Preprocessing.from_dict(old).as_dict()).legacy
    colours = images(4, 5, 3)
    np.testing.assert_array_equal(
        Preprocessing.stored(old).apply(colours, (60,)), colours.transpose(0, 3, 1, 2).reshape(2, 60)
    )
    signals, square = images(4, 4), known((4, 4), 0)
    np.testing.assert_array_equal(Preprocessing.stored(old).apply(signals, square), signals)
    turned = Preprocessing.stored(old | {"transpose_hw": True}).apply(signals, square)
    np.testing.assert_array_equal(turned, signals.transpose(0, 2, 1))
    # What was scrambled before is read.
    single = images(1, 4, 5)
    np.testing.assert_array_equal(Preprocessing.stored(old).apply(single, (1, 4, 5)), single)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_the_layout_that_was_read_says_where_the_channels_are(axes: tuple[int, int, int]) -> None:
    grid = (3, 4, 5)
    layout = InputLayout(grid, grid, axes)
    network = NetworkInput.of(layout)
    x = images(*grid)
    rows = np.moveaxis(x, 1 + axes[0], -1)
    mean = tuple(float(n) for n in range(grid[axes[0]]))
    found = layout.to_canonical(Preprocessing(mean=mean).apply(rows, network))
    np.testing.assert_array_equal(found, layout.to_canonical(x) - np.array(mean).reshape(-1, 1, 1))
