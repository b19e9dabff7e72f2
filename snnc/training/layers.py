"""Layers of the networks that `snnc train` makes, each added to what an earlier one gave.

Sources: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (the whitened stem); Howard et al.,
"Searching for MobileNetV3", ICCV 2019 (inverted residual blocks); Vaswani et al., "Attention Is All You
Need", NeurIPS 2017, and Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML 2020
(attention, normalised in front of each branch).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnc.errors import InputError
from snnc.ir.graph import FloatArray, NumberArray
from snnc.training.sketch import Sketch

PIXEL = 1 / 64
"""What one level of a pixel is worth inside: about the inverse of the deviation of photographs."""

EPSILON = 1e-5
EMBEDDED = 0.02
"""Deviation of an embedding of positions, at first."""

WHITENED_ROWS = 2000
LEAST_EIGENVALUE = 5e-4
"""Added to the variances of patches, in units of their mean: what is noise is not blown up."""


@dataclass(slots=True)
class Layers:
    """The layers of a network, each added to what an earlier one gave.

    Attributes:
        sketch: the network in the making.
        random: where weights come from.
        pixels: (n, channels, height, width) uint8, some of the training images.
        shapes: of what every layer gives.
    """

    sketch: Sketch
    random: np.random.Generator
    pixels: NumberArray
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _count: int = 0

    def _add(self, operator: str, *inputs: Any, shape: tuple[int, ...], **attributes: Any) -> str:
        self._count += 1
        name = self.sketch.add(operator, *inputs, name=f"{operator.lower()}{self._count}", **attributes)
        self.shapes[name] = shape
        return name

    def image(self) -> str:
        """Return the image."""
        scale = np.array(PIXEL, np.float32)
        return self._add("Mul", self.sketch.input, scale, shape=self.sketch.shape)

    def _weight(self, *shape: int) -> FloatArray:
        fan_in = int(np.prod(shape[1:]))
        return (self.random.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)

    def normalised(self, x: str) -> str:
        """Add a batch normalisation."""
        channels = self.shapes[x][0]
        ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        found = (ones, zeros, zeros.copy(), ones.copy())
        return self._add("BatchNormalization", x, *found, shape=self.shapes[x], epsilon=EPSILON)

    def convolved(
        self,
        x: str,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        pad: int | None = None,
        pool: int = 1,
        weight: FloatArray | None = None,
    ) -> str:
        """Add a convolution, perhaps a maximum pool, and a batch normalisation."""
        inputs, height, width = self.shapes[x]
        side = kernel // 2 if pad is None else pad
        weight = self._weight(channels, inputs // groups, kernel, kernel) if weight is None else weight
        height, width = ((size + 2 * side - kernel) // stride + 1 for size in (height, width))
        if min(height, width) < pool:
            raise InputError(f"images of {self.sketch.shape} are too small for this network: choose another")
        y = self._add(
            "Conv",
            x,
            weight,
            shape=(channels, height, width),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[side] * 4,
            group=groups,
        )
        return self.normalised(self.pooled(y, pool))

    def pooled(self, x: str, size: int) -> str:
        """Add a maximum pool of windows side by side; none for a size of 1."""
        if size == 1:
            return x
        channels, height, width = self.shapes[x]
        shape = channels, height // size, width // size
        return self._add("MaxPool", x, shape=shape, kernel_shape=[size] * 2, strides=[size] * 2)

    def fired(self, x: str) -> str:
        """Add a rectifier: a population."""
        return self._add("Relu", x, shape=self.shapes[x])

    def activated(self, x: str, *, smooth: bool) -> str:
        """Add a rectifier, or x times a hard sigmoid."""
        return self._add("HardSwish", x, shape=self.shapes[x]) if smooth else self.fired(x)

    def squeezed(self, x: str, reduction: int = 4) -> str:
        """Weigh each channel by what all of them are on average: squeeze and excitation."""
        channels = self.shapes[x][0]
        inner = max(8, channels // reduction)
        y = self._add("GlobalAveragePool", x, shape=(channels, 1, 1))
        for width, operator in ((inner, "Relu"), (channels, "HardSigmoid")):
            weight = self._weight(width, self.shapes[y][0], 1, 1)
            y = self._add("Conv", y, weight, np.zeros(width, np.float32), shape=(width, 1, 1))
            y = self._add(operator, y, shape=(width, 1, 1))
        return self._add("Mul", x, y, shape=self.shapes[x])

    def inverted(
        self, x: str, channels: int, wide: int, kernel: int, stride: int, *, squeeze: bool, smooth: bool
    ) -> str:
        """Add an inverted residual block: wide, depthwise, weighed, and narrow without an activation."""
        y = x if wide == self.shapes[x][0] else self.activated(self.convolved(x, wide, 1), smooth=smooth)
        y = self.activated(self.convolved(y, wide, kernel, stride, groups=wide), smooth=smooth)
        y = self.convolved(self.squeezed(y) if squeeze else y, channels, 1)
        return self.added(y, x) if stride == 1 and self.shapes[x][0] == channels else y

    def layer(self, x: str, channels: int, kernel: int = 3, stride: int = 1, **more: Any) -> str:
        """Add a convolution with batch normalisation and rectifier."""
        return self.fired(self.convolved(x, channels, kernel, stride, **more))

    def added(self, *x: str) -> str:
        """Add a sum."""
        return self._add("Add", *x, shape=self.shapes[x[0]])

    def block(self, x: str, channels: int, stride: int = 1) -> str:
        """Add a residual block of two convolutions, whose shortcut has weights where the shape changes."""
        inner = self.convolved(self.layer(x, channels, stride=stride), channels)
        same = stride == 1 and self.shapes[x][0] == channels
        return self.fired(self.added(inner, x if same else self.convolved(x, channels, 1, stride)))

    def whitened(self, x: str) -> str:
        """Add a convolution of 2 x 2 pixels that decorrelates them, and its negative, with a rectifier.

        Of the patches' covariance ``C = V diag(e) V'`` the weights are ``V' / sqrt(e)``.
        """
        kernel = 2
        images = self.pixels[:WHITENED_ROWS].astype(np.float64) * PIXEL
        windows = np.lib.stride_tricks.sliding_window_view(images, (kernel, kernel), axis=(2, 3))
        patches = windows[:, :, ::kernel, ::kernel].transpose(0, 2, 3, 1, 4, 5)
        flat = patches.reshape(-1, images.shape[1] * kernel**2)
        centred = flat - flat.mean(axis=0)
        values, vectors = np.linalg.eigh(centred.T @ centred / len(flat))
        vectors *= np.sign(vectors.sum(axis=0) + EPSILON)  # an eigenvector has no sign of its own
        scaled = (vectors / np.sqrt(values + LEAST_EIGENVALUE * max(values.mean(), EPSILON))).T
        weight = np.concatenate([scaled, -scaled]).reshape(-1, images.shape[1], kernel, kernel)
        return self.layer(x, len(weight), kernel, pad=0, weight=weight.astype(np.float32))

    def projected(self, x: str, channels: int, gain: float = 1.0) -> str:
        """Add a linear map of each pixel's channels, with a bias.

        Args:
            x: what it reads.
            channels: how many it gives.
            gain: by how much more than what it reads that has at first.
        """
        inputs, height, width = self.shapes[x]
        weight = self._weight(channels, inputs, 1, 1) * np.float32(gain / np.sqrt(2))
        bias = np.zeros(channels, np.float32)
        return self._add("Conv", x, weight, bias, shape=(channels, height, width), kernel_shape=[1, 1])

    def standardised(self, x: str) -> str:
        """Normalise each pixel over its channels, ``(x - mean) / sqrt(variance + epsilon)``.

        What reads it are linear maps with biases, so that it needs no scale and shift of its own.
        """
        shape = self.shapes[x]
        one = (1, *shape[1:])
        mean = self._add("ReduceMean", x, shape=one, axes=[1])
        centred = self._add("Sub", x, mean, shape=shape)
        square = self._add("Mul", centred, centred, shape=shape)
        variance = self._add("ReduceMean", square, shape=one, axes=[1])
        raised = self._add("Add", variance, np.array(EPSILON, np.float32), shape=one)
        deviation = self._add("Sqrt", raised, shape=one)
        return self._add("Div", centred, deviation, shape=shape)

    def placed(self, x: str) -> str:
        """Add a number of its own to each channel of each pixel: an embedding of the position."""
        embedding = (self.random.standard_normal(self.shapes[x]) * EMBEDDED).astype(np.float32)
        return self._add("Add", x, embedding, shape=self.shapes[x])

    def attended(self, x: str, heads: int, gain: float) -> str:
        """Add attention among all pixels, ``v softmax(k' q / sqrt(d))`` in each head of d channels.

        Args:
            x: what it reads.
            heads: how many.
            gain: of the last map.
        """
        channels, height, width = self.shapes[x]
        size, pixels = channels // heads, height * width
        parted = (heads, size, pixels)
        q, k, v = (
            self._add("Reshape", self.projected(x, channels), np.array([0, *parted]), shape=parted)
            for _ in range(3)
        )
        scaled = self._add("Mul", q, np.array(1 / np.sqrt(size), np.float32), shape=parted)
        turned = self._add("Transpose", k, shape=(heads, pixels, size), perm=[0, 1, 3, 2])
        scores = self._add("MatMul", turned, scaled, shape=(heads, pixels, pixels))
        weights = self._add("Softmax", scores, shape=(heads, pixels, pixels), axis=2)  # over the keys
        found = self._add("MatMul", v, weights, shape=parted)
        whole = self._add("Reshape", found, np.array([0, *self.shapes[x]]), shape=self.shapes[x])
        return self.projected(whole, channels, gain)

    def gelu(self, x: str) -> str:
        """Add ``x (1 + erf(x / sqrt(2))) / 2``."""
        shape = self.shapes[x]
        bent = self._add(
            "Erf", self._add("Mul", x, np.array(np.sqrt(0.5), np.float32), shape=shape), shape=shape
        )
        raised = self._add("Add", bent, np.array(1, np.float32), shape=shape)
        half = self._add("Mul", x, np.array(0.5, np.float32), shape=shape)
        return self._add("Mul", half, raised, shape=shape)

    def transformed(self, x: str, heads: int, wide: int, gain: float) -> str:
        """Add attention and two maps with GELU between them, each a branch behind its own normalisation."""
        x = self.added(x, self.attended(self.standardised(x), heads, gain))
        inner = self.gelu(self.projected(self.standardised(x), wide))
        return self.added(x, self.projected(inner, self.shapes[x][0], gain))

    def answered(self, x: str, classes: int, *, maximum: bool = False) -> str:
        """Add the mean over places, or the maximum, and a dense layer."""
        channels, height, width = self.shapes[x]
        kind = "MaxPool" if maximum else "AveragePool"
        pooled = self._add(kind, x, shape=(channels, 1, 1), kernel_shape=[height, width])
        flat = self._add("Flatten", pooled, shape=(channels,))
        weight = (self.random.standard_normal((classes, channels)) / np.sqrt(channels)).astype(np.float32)
        bias = np.zeros(classes, np.float32)
        return self._add("Gemm", flat, weight, bias, shape=(classes,), transB=1)
