"""The program of a consumer: layers with float32 parameters, each of which is one NIR node.

All numbers are integers, or halves, that float32 holds exactly, so that neither the order of a sum nor the
library that computes it can change a spike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from snnc.errors import TargetError
from snnc.ir.graph import FloatArray, Shape

EXACT = 2**24
"""Integers up to here are exact in float32."""

INPUT = "input"
OUTPUT = "output"


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """A convolution, NIR ``Conv2d``.

    Attributes:
        weight: (outputs, inputs, height, width).
        bias: (outputs,).
        strides, padding: down and right.
        dilations: likewise.
    """

    weight: FloatArray
    bias: FloatArray
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilations: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A matrix, NIR ``Affine``.

    Attributes:
        weight: (outputs, inputs).
        bias: (outputs,).
    """

    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True, slots=True)
class Sum:
    """Sum over a window, NIR ``SumPool2d``, whose area is a power of two.

    Consumers take the mean and multiply by the area, which is exact only then.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Flatten:
    """All values row by row, NIR ``Flatten``."""


@dataclass(frozen=True, slots=True, eq=False)
class Fire:
    """A population, NIR ``IF`` or ``LIF``.

    Attributes:
        threshold: (channels,), as written.
        origin: name of the population in the spiking network.
    """

    threshold: FloatArray
    origin: str


class UnfitError(TargetError):
    """A network that shows only while it is lowered that a consumer cannot take it.

    Attributes:
        cure: what to do about it.
        node: where in the spiking network, if it is one node; else empty.
    """

    def __init__(self, message: str, cure: str, node: str = "") -> None:
        """Keep the cure beside the one-line message."""
        super().__init__(message)
        self.cure = cure
        self.node = node


Layer = Conv | Dense | Sum | Flatten | Fire


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node.

    Attributes:
        name: letters, digits and underscores; alphabetical order is the order of computation.
        layer: what it does.
        inputs: names of the nodes that it reads, and adds if there are several.
        shape: of its output.
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A network for a consumer; the last step gives what is summed over time.

    Attributes:
        shape: of the input.
        steps: in the order of computation.
        timesteps: T: how often the input is presented.
    """

    shape: Shape
    steps: tuple[Step, ...]
    timesteps: int


@dataclass(slots=True)
class Builder:
    """Steps under construction."""

    steps: list[Step] = field(default_factory=list)

    def add(self, name: str, layer: Layer, inputs: tuple[str, ...], shape: Shape) -> str:
        """Append a step called after ``name``, and return what it is called."""
        plain = re.sub(r"\W+", "_", name, flags=re.ASCII)
        taken = f"n{len(self.steps):04}_{plain}"
        self.steps.append(Step(taken, layer, inputs, shape))
        return taken

    def join(self, name: str, inputs: tuple[str, ...], shape: Shape) -> None:
        """Append the sum of several steps, if there are several."""
        if len(inputs) > 1:
            size = shape[0]
            same, none = np.eye(size, dtype=np.float32), np.zeros(size, np.float32)
            layer = Dense(same, none) if len(shape) == 1 else Conv(same[:, :, None, None], none)
            self.add(name, layer, inputs, shape)
