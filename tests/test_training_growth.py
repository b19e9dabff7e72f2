"""Images that grow while a network learns."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from snnc.errors import UsageError
from snnc.training.course import Course

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch

from snnc.arguments import read_source
from snnc.training.ann_network import AnnNetwork
from snnc.training.architectures import ARCHITECTURES, initial
from snnc.training.growth import STRIDE, Growth
from snnc.training.plan import Speed
from snnc.training.train import train
from tests.test_train import QUICK, images

GROWTH = Growth(0.5, 0.6)


def test_sides_grow_evenly_to_whole_images() -> None:
    sides = [GROWTH.side(32, step, 100) for step in range(100)]
    assert (sides[0], sides[30], sides[60], sides[-1]) == (16, 24, 32, 32)
    assert sides == sorted(sides)
    assert all(side % STRIDE == 0 for side in sides)
    assert {Growth().side(28, step, 10) for step in range(10)} == {28}
    assert {GROWTH.side(30, step, 100) for step in range(60, 100)} == {30}


def test_a_constant_image_stays_constant_and_whole_images_are_not_touched() -> None:
    x = torch.full((2, 3, 32, 24), 7.0)
    small = GROWTH.seen(x, 0, 100)
    assert small.shape == (2, 3, 16, 12)
    assert torch.allclose(small, torch.full_like(small, 7.0))
    assert GROWTH.seen(x, 60, 100) is x
    assert Growth().seen(x, 0, 100) is x


def test_costs_are_those_of_the_pixels() -> None:
    # From 16 to 32 evenly in 60 % of the steps: the mean square of (1 + t) / 2 is 7 / 12.
    assert GROWTH.cost(32) == pytest.approx(0.6 * 7 / 12 + 0.4, abs=0.02)
    assert Growth().cost(32) == 1
    assert Speed(2.0, 3.0).times(0.5) == Speed(1.0, 3.0)


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
def test_every_architecture_takes_smaller_images_or_says_that_it_does_not(arch: str) -> None:
    if ARCHITECTURES[arch].one_size:
        with pytest.raises(
            UsageError, match=f"{arch} knows each place of an image and takes no smaller ones"
        ):
            Course(arch=arch, first_size=0.6)
        return
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32)).astype(np.uint8)
    graph = read_source(initial(arch, pixels, 5, 0))[0].graph
    network = AnnNetwork(graph).train()
    found = network({graph.inputs[0].name: torch.from_numpy(pixels).float()[:, :, ::2, ::2]})
    assert found.outputs[graph.output_names[0]].shape[0] == 8
    assert bool(torch.isfinite(found.outputs[graph.output_names[0]]).all())


def test_a_network_of_growing_images_is_written_for_whole_ones() -> None:
    course = Course(arch="tiny", first_size=0.5)
    found = train("tiny", *images(side=32), course=course, threads=1, **QUICK)
    assert found.record["course"]["first_size"] == 0.5
    assert found.record["equal_rows"] == 40
    assert found.measure.right is not None
    assert found.measure.right.value > 0.6


def test_growing_images_are_planned_by_the_clock() -> None:
    course = Course(arch="tiny", first_size=0.5)
    choices = {**QUICK, "epochs": None, "minutes": 0.05}
    assert train("tiny", *images(side=32), course=course, threads=1, **choices).record["equal_rows"] == 40


def test_images_that_are_too_small_at_first_are_refused() -> None:
    course = Course(arch="tiny", first_size=0.5)
    with pytest.raises(UsageError, match=r"first_size 0\.5 begins with images of 8 x 8, too small for tiny"):
        train("tiny", *images(side=16), course=course, threads=1, **QUICK)


@pytest.mark.parametrize("first", [0.4, 0, -1, 1.5, float("nan"), "half", True])
def test_sizes_that_are_none_are_refused(first: Any) -> None:
    with pytest.raises(UsageError, match=r"first_size must be a number from 0\.5 to 1"):
        Course(arch="tiny", first_size=first)
