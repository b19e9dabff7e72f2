"""Neurons as functions of torch: counts are those of the reference, gradients those of the equations."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.ir import snn
from snnc.ir.neuron import Neuron, Schedule
from snnc.simulation.reference import fire

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch

from snnc.training.straight_through import Integers, Levels


def population(
    threshold: list[int], levels: int, timesteps: int, v_init: list[int], bias: list[int]
) -> snn.IntegrateFire:
    return snn.IntegrateFire(
        name="p",
        inputs=("x",),
        shape=(len(threshold),),
        threshold=np.array(threshold, np.int32),
        bias=np.array(bias, np.int32),
        v_init=np.array(v_init, np.int32),
        spike_scale=np.ones(len(threshold), np.float32),
        neuron=Neuron(levels=levels, spikes_per_step=None),
    )


def counts(v: torch.Tensor, theta: torch.Tensor, most: int, start: float = 0.0) -> torch.Tensor:
    """Return the counts of final potentials, with the gradients of a neuron."""
    one = torch.ones_like(theta)
    _, k = Levels.apply(v, 0 * one, theta, one, 0 * one, most * one, start, True)
    assert k is not None
    return k


@settings(max_examples=60)
@given(data=st.data(), timesteps=st.integers(1, 8), levels=st.integers(1, 15))
def test_the_rule_of_the_neuron_is_that_of_the_reference(data: Any, timesteps: int, levels: int) -> None:
    whole = st.integers(-(2**20), 2**20)
    threshold = data.draw(st.lists(st.integers(1, 2**18), min_size=3, max_size=3))
    v_init, bias = (data.draw(st.lists(whole, min_size=3, max_size=3)) for _ in range(2))
    current = np.array(
        data.draw(st.lists(st.lists(whole, min_size=3, max_size=3), min_size=timesteps, max_size=timesteps)),
        np.int64,
    )[:, None]
    node = population(threshold, levels, timesteps, v_init, bias)
    total = current.sum(axis=0) + timesteps * node.bias + node.v_init
    theta = torch.from_numpy(node.threshold.astype(np.float64))
    found = counts(torch.from_numpy(total.astype(np.float64)), theta, levels * timesteps)
    for schedule in Schedule:
        spikes, _ = fire(node, current, timesteps, schedule)
        np.testing.assert_array_equal(found.numpy(), spikes.sum(axis=0))


@settings(max_examples=40)
@given(levels=st.integers(1, 30), start=st.sampled_from([0.0, 0.25, 0.5]), seed=st.integers(0, 99))
def test_rounding_to_levels_is_a_neuron_that_starts_there(levels: int, start: float, seed: int) -> None:
    u = np.random.default_rng(seed).integers(-8, 8 * levels + 16, (50, 1)) / 8  # what floats hold exactly
    found = counts(torch.from_numpy(u), torch.ones(1), levels, start)
    node = population([8], levels, 1, [int(8 * start)], [0])
    spikes, _ = fire(node, (8 * u).astype(np.int64)[None], 1, Schedule.LAYERWISE)
    np.testing.assert_array_equal(found.numpy(), spikes[0])


def test_gradients_of_a_clip_are_those_of_the_equation() -> None:
    theta = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    z = torch.tensor([-0.5, 0.3, 1.2, 2.6], dtype=torch.float64, requires_grad=True)
    L = 4
    zero = torch.zeros(1, dtype=torch.float64)
    a, _ = Levels.apply(z[:, None], zero, theta / L, theta / L, zero, zero + L, 0.5, False)
    a = a[:, 0]
    for index, expected in enumerate([0.0, (1 - 0.6) / 4, (2 - 2.4) / 4, 1.0]):
        dz, dtheta = torch.autograd.grad(a[index], (z, theta), retain_graph=True)
        assert float(dtheta) == pytest.approx(expected)
        assert float(dz[index]) == (1.0 if index in (1, 2) else 0.0)


def test_gradients_of_counts_are_those_of_the_equation() -> None:
    """The same in integer units: threshold 8, start 4, unit 0.25."""
    theta = torch.tensor([[2.0]], dtype=torch.float64, requires_grad=True)
    z = torch.tensor([[-0.5], [0.3], [1.2], [9.0]], dtype=torch.float64, requires_grad=True)
    unit = torch.tensor(0.25, dtype=torch.float64)
    whole = torch.round(z.detach() / unit)
    v = Integers.apply(z, whole, unit) + Integers.apply(theta / 2, torch.tensor([[4.0]]).double(), unit)
    n = counts(v, Integers.apply(theta, torch.tensor([[8.0]]).double(), unit)[0], 4)
    assert n.flatten().tolist() == [0, 0, 1, 4]
    u = whole.flatten() / 8  # z / theta
    for index, slope in enumerate([0.25, 0.625, 1, 0]):  # -1/4, 1/8 and 5/8 beside the first change at 1/2
        dz, dtheta = torch.autograd.grad(n[index, 0], (z, theta), retain_graph=True)
        assert float(dz[index]) == pytest.approx(0.5 * slope)
        assert float(dtheta) == pytest.approx(-float(u[index]) * slope / 2)
