"""The networks that `snnc train` makes: a table of few lines each, and how they are written as ONNX.

They read pixels from 0 to 255 as they are stored, times a constant, so that no preprocessing is part of
their use; padding is black. Every rectifier becomes a population. Weights begin at random (He et al., 2015)
but for the stem of `small`, which decorrelates patches of 2 x 2 pixels.

Sources: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (`resnet8`, `resnet20`,
`resnet18`, the latter as it is used for small images); Simonyan and Zisserman, "Very Deep Convolutional
Networks for Large-Scale Image Recognition", ICLR 2015 (`vgg16`, with batch normalisation and one dense
layer); Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (`small`: its whitened stem, its
three blocks of two convolutions); Howard et al., "Searching for MobileNetV3", ICCV 2019 (`mobilenetv3`: the
small one, with fewer strides, for small images).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from snnc.errors import InputError
from snnc.ir.graph import FloatArray, NumberArray
from snnc.training.sketch import Sketch

PIXEL = 1 / 64
"""What one level of a pixel is worth inside: about the inverse of the deviation of photographs."""

EPSILON = 1e-5
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

    def answered(self, x: str, classes: int, *, maximum: bool = False) -> str:
        """Add the mean over places, or the maximum, and a dense layer."""
        channels, height, width = self.shapes[x]
        kind = "MaxPool" if maximum else "AveragePool"
        pooled = self._add(kind, x, shape=(channels, 1, 1), kernel_shape=[height, width])
        flat = self._add("Flatten", pooled, shape=(channels,))
        weight = (self.random.standard_normal((classes, channels)) / np.sqrt(channels)).astype(np.float32)
        bias = np.zeros(classes, np.float32)
        return self._add("Gemm", flat, weight, bias, shape=(classes,), transB=1)


def _residual(layers: Layers, classes: int, widths: tuple[int, ...], blocks: int) -> str:
    x = layers.layer(layers.image(), widths[0])
    for number, width in enumerate(widths):
        for index in range(blocks):
            x = layers.block(x, width, stride=2 if number and not index else 1)
    return layers.answered(x, classes)


def _vgg(layers: Layers, classes: int, stages: tuple[tuple[int, int], ...]) -> str:
    x = layers.image()
    for width, count in stages:
        for index in range(count):
            x = layers.layer(x, width, pool=2 if index == count - 1 else 1)
    return layers.answered(x, classes)


def _small(layers: Layers, classes: int, widths: tuple[int, ...]) -> str:
    x = layers.whitened(layers.image())
    for width in widths:
        x = layers.layer(layers.layer(x, width, pool=2), width)
    return layers.answered(x, classes, maximum=True)


_INVERTED = (
    # kernel, wide, channels, squeezed, smooth, stride
    (3, 16, 16, True, False, 1),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


def _mobile(layers: Layers, classes: int) -> str:
    x = layers.activated(layers.convolved(layers.image(), 16), smooth=True)
    for kernel, wide, channels, squeeze, smooth, stride in _INVERTED:
        x = layers.inverted(x, channels, wide, kernel, stride, squeeze=squeeze, smooth=smooth)
    return layers.answered(layers.activated(layers.convolved(x, 576, 1), smooth=True), classes)


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network of the table.

    Attributes:
        what: one line.
        build: adds its layers for so many classes, and returns the last.
        smooth: whether activations are no rectifiers: it is trained, and written, without levels.
    """

    what: str
    build: Callable[[Layers, int], str]
    smooth: bool = False


ARCHITECTURES: Mapping[str, Architecture] = {
    "small": Architecture(
        "whitened stem, three blocks of two convolutions, 64-256-256: the fastest to train",
        lambda layers, classes: _small(layers, classes, (64, 256, 256)),
    ),
    "wide": Architecture(
        "the same, 128-384-384: more accurate, and two and a half times as long a step",
        lambda layers, classes: _small(layers, classes, (128, 384, 384)),
    ),
    "compact": Architecture(
        "the same, 64-128-192: int8 weights below 1 MB",
        lambda layers, classes: _small(layers, classes, (64, 128, 192)),
    ),
    "tiny": Architecture(
        "the same, 16-32-32: for trials", lambda layers, classes: _small(layers, classes, (16, 32, 32))
    ),
    "resnet8": Architecture(
        "three residual blocks, 16-32-64",
        lambda layers, classes: _residual(layers, classes, (16, 32, 64), 1),
    ),
    "resnet20": Architecture(
        "nine residual blocks, 16-32-64",
        lambda layers, classes: _residual(layers, classes, (16, 32, 64), 3),
    ),
    "resnet18": Architecture(
        "eight residual blocks, 64-128-256-512, for small images",
        lambda layers, classes: _residual(layers, classes, (64, 128, 256, 512), 2),
    ),
    "vgg16": Architecture(
        "thirteen convolutions, 64 to 512, and a dense layer",
        lambda layers, classes: _vgg(layers, classes, ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))),
    ),
    "mobilenetv3": Architecture(
        "eleven inverted residual blocks with squeeze and excitation and HardSwish, in floats",
        _mobile,
        smooth=True,
    ),
}
"""Every architecture by its name."""


def initial(name: str, pixels: NumberArray, classes: int, seed: int) -> onnx.ModelProto:
    """Return a network that has learned nothing.

    Args:
        name: of :data:`ARCHITECTURES`.
        pixels: (n, channels, height, width) uint8, training images.
        classes: number of answers.
        seed: of the weights.

    Raises:
        InputError: the images are too small for the network.
    """
    sketch = Sketch(tuple(pixels.shape[1:]))
    layers = Layers(sketch, np.random.default_rng(seed), pixels)
    layers.shapes[sketch.input] = sketch.shape
    last = ARCHITECTURES[name].build(layers, classes)
    return sketch.model(last, (classes,), name)
