"""Gradients of depthwise convolutions are those of the library in float64."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.ir.geometry import Window

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch
from torch import Tensor
from torch.nn import functional

from snnc.training import depthwise
from snnc.training.operators import convolved


def gradients(y: Tensor, inputs: tuple[Tensor, ...], by: Tensor) -> list[Tensor]:
    return [each.double() for each in torch.autograd.grad(y, inputs, by)]


@settings(max_examples=40)
@given(
    channels=st.integers(2, 40),
    sides=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    kernel=st.tuples(st.sampled_from([1, 2, 3, 5]), st.sampled_from([1, 2, 3, 5])),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padded=st.booleans(),
    half=st.booleans(),
    seed=st.integers(0, 99),
)
def test_gradients_are_those_of_the_library(
    channels: int,
    sides: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padded: bool,
    half: bool,
    seed: int,
) -> None:
    random = torch.Generator().manual_seed(seed)
    pads = (kernel[0] // 2, kernel[1] // 2) if padded else (0, 0)
    kind = torch.bfloat16 if half else torch.float32
    x = torch.randn(5, channels, *sides, generator=random).to(kind).to(memory_format=torch.channels_last)
    weight = torch.randn(channels, 1, *kernel, generator=random).to(kind)
    bias = torch.randn(channels, generator=random).to(kind)
    given_ = tuple(each.requires_grad_() for each in (x, weight, bias))
    y = convolved(x, weight, bias, Window(kernel, strides, (pads[0], pads[1], pads[0], pads[1])), channels)
    by = torch.randn(y.shape, generator=random).to(kind)
    exact = tuple(each.detach().double().requires_grad_() for each in given_)
    wanted = functional.conv2d(*exact, strides, pads, 1, channels)
    assert "Depthwise" in type(y.grad_fn).__name__
    assert y.is_contiguous(memory_format=torch.channels_last)
    for found, right in zip(gradients(y, given_, by), gradients(wanted, exact, by.double()), strict=True):
        torch.testing.assert_close(
            found, right, rtol=0, atol=float(right.abs().max()) * (0.02 if half else 2e-5)
        )


def test_what_is_not_depthwise_is_left_to_the_library() -> None:
    x, weight = torch.zeros(1, 4, 5, 5), torch.zeros(4, 1, 3, 3)
    last = x.to(memory_format=torch.channels_last)
    one = Window((3, 3), (1, 1), (1, 1, 1, 1))
    assert depthwise.usable(last, weight, one.dilations, 4)
    assert not depthwise.usable(x, weight, one.dilations, 4)
    assert not depthwise.usable(last, torch.zeros(8, 1, 3, 3), one.dilations, 4)
    assert not depthwise.usable(last, torch.zeros(4, 2, 3, 3), one.dilations, 2)
    assert not depthwise.usable(last, weight, replace(one, dilations=(2, 2)).dilations, 4)
    assert not depthwise.usable(last.double(), weight, one.dilations, 4)


def test_multiplications_are_in_the_precision_of_autocast() -> None:
    x = torch.randn(2, 4, 6, 6).to(memory_format=torch.channels_last)
    weight = torch.randn(4, 1, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = convolved(x, weight, None, Window((3, 3), (1, 1), (1, 1, 1, 1)), 4)
    assert y.dtype is torch.bfloat16
    y.float().sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype is torch.float32
