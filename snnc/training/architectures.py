"""The networks that `snnc train` makes: a table of few lines each, and how they are written as ONNX.

They read pixels from 0 to 255 as they are stored, times a constant, so that no preprocessing is part of
their use; padding is black. Every rectifier becomes a population. Weights begin at random (He et al., 2015)
but for the stem of `small`, which decorrelates patches of 2 x 2 pixels.

Sources: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (`resnet8`, `resnet20`,
`resnet18`, the latter as it is used for small images); Simonyan and Zisserman, "Very Deep Convolutional
Networks for Large-Scale Image Recognition", ICLR 2015 (`vgg16`, with batch normalisation and one dense
layer); Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (`small`: its whitened stem, its
three blocks of two convolutions); Howard et al., "Searching for MobileNetV3", ICCV 2019 (`mobilenetv3`: the
small one, with fewer strides, for small images); Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR
2021, and Hassani et al., "Escaping the Big Data Paradigm with Compact Transformers", 2021 (`vit`: two
convolutions in the place of patches, the mean of all places in the place of a class token).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from snnc.ir.graph import NumberArray
from snnc.training.layers import Layers
from snnc.training.sketch import Sketch


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


def _transformer(layers: Layers, classes: int, width: int, depth: int, heads: int) -> str:
    x = layers.layer(layers.image(), width // 3, pool=2)
    x = layers.fired(layers.placed(layers.convolved(x, width, pool=2)))
    for _ in range(depth):
        x = layers.transformed(x, heads, 2 * width, gain=1 / np.sqrt(2 * depth))
    return layers.answered(layers.standardised(x), classes)


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network of the table.

    Attributes:
        what: one line.
        build: adds its layers for so many classes, and returns the last.
        smooth: whether activations are no rectifiers: it is trained, and written, without levels.
        one_size: whether it takes images of no other size than those it was made for.
    """

    what: str
    build: Callable[[Layers, int], str]
    smooth: bool = False
    one_size: bool = False


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
    "vit": Architecture(
        "a vision transformer of six blocks, 192 wide, behind two convolutions, in floats",
        lambda layers, classes: _transformer(layers, classes, 192, 6, 4),
        smooth=True,
        one_size=True,
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
