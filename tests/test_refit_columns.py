"""What a fit reads at the chosen positions is what the definition of the operation reads there."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.compensation.refit import patches, scaled_counts
from snnc.ir import snn
from snnc.ir.geometry import Window
from snnc.numerics.regression import narrow, normal_equations
from snnc.simulation.arrays import windows
from snnc.simulation.partial import PartialSimulation
from tests.ann_graphs import residual_network
from tests.test_compensate import prepared


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_patches_are_the_windows_of_the_definition(data: st.DataObject) -> None:
    side, pad = st.integers(1, 3), st.integers(0, 2)
    window = Window(
        (data.draw(side), data.draw(side)),
        (data.draw(side), data.draw(side)),
        data.draw(st.tuples(pad, pad, pad, pad)),
        (data.draw(side), data.draw(side)),
    )
    rows, channels, height, width = 3, data.draw(st.integers(1, 4)), 9, 8
    counts = np.random.default_rng(0).integers(-5, 6, (rows, channels, height, width))
    shape = (2, *window.output_size(height, width))
    weight = np.ones((2, channels, *window.kernel), np.float32)
    synapse = snn.Convolution(name="c", inputs=("s",), shape=shape, weight=weight, window=window)
    size = shape[1] * shape[2]
    places = np.stack([np.random.default_rng(row).permutation(size)[:5] for row in range(rows)])
    views = windows(counts, window, 0)
    down, along = np.unravel_index(places, shape[1:])
    expected = views[np.arange(rows)[:, None], :, down, along].reshape(places.size, -1)
    assert np.array_equal(patches(counts.astype(np.int8), synapse, places), expected)


def test_identity_branches_are_scaled_with_the_bits_of_the_simulator() -> None:
    spiking, made = prepared(residual_network(4), rows=60, timesteps=3)
    identity = next(node for node in spiking.of_type(snn.ChannelWeight))
    spiking = spiking.replacing({identity.name: identity.with_(weight=identity.weight * np.float32(0.3))})
    prefix = PartialSimulation(spiking, made.calibration.rows, made.simulator)
    rows = np.arange(0, 60, 2)
    size = int(np.prod(identity.shape[1:]))
    places = np.stack([np.random.default_rng(row).permutation(size)[:7] for row in rows])
    whole = prefix.current(spiking, identity.name)
    expected = whole.reshape(len(whole), identity.channels, -1).transpose(0, 2, 1)[rows[:, None], places]
    node = spiking[identity.name]
    assert isinstance(node, snn.ChannelWeight)
    found = scaled_counts(spiking, node, prefix, rows, places)
    assert expected.any()
    assert np.array_equal(found, expected.reshape(-1, identity.channels))


def test_equations_are_the_same_bits_for_every_number_of_threads_and_type_of_counts() -> None:
    random = np.random.default_rng(3)
    counts = random.integers(-128, 128, (9000, 5))
    targets = random.standard_normal((9000, 3)).astype(np.float32)
    one = normal_equations([counts.astype(np.int32)], targets)
    three = normal_equations([narrow(counts)], targets, threads=3)
    assert narrow(counts).dtype == np.int8
    assert np.array_equal(one.gram, three.gram)
    assert np.array_equal(one.cross, three.cross)
    assert one.gram[0, 0] == (counts[:, 0] ** 2).sum()
