"""Networks to time: the shapes of well-known ones with random weights, each as ONNX and as a spiking network.

Training would change neither the time of the source network nor that of a spiking one with as many spikes.
So the weights are random, and the thresholds are set, one for each population, such that the stated share of
its neurons fires in a step on random images. The neurons are signed and unary: one spike a step, which may
take an earlier one back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from snnc.ir import snn
from snnc.ir.bounds import provable_timesteps
from snnc.ir.geometry import Window
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.snn import SnnGraph
from snnc.simulation.reference import fire, propagate

OPSET, IR_VERSION = 17, 9
CLASSES = 10
SIZE = 32
MOST_STEPS = 8
"""Thresholds are set for the T of the run, up to this one, beyond which the density changes little."""

IMAGES = 2
"""Random images on which they are set."""

Train = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """One network in both forms.

    Attributes:
        graph: the spiking network, in integers.
        model: the network whose shapes it has, (batch, 3, 32, 32) float32.
        q: (images, 3, 32, 32) int32, quantised input for the spiking network.
    """

    graph: SnnGraph
    model: onnx.ModelProto
    q: NDArray[np.int32]


@dataclass
class Builder:
    """Adds layers to both networks at once, and runs the spiking one as far as it stands.

    Attributes:
        density: share of the neurons of each population that are to fire in a step.
        steps: T for which the thresholds are set.
        random: everything follows from it.
    """

    density: float
    steps: int
    random: np.random.Generator
    snn_nodes: list[snn.SnnNode] = field(default_factory=list)
    onnx_nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    trains: dict[str, Train] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with images of noise that neighbours share."""
        x = self.random.normal(size=(IMAGES, 3, SIZE, SIZE))
        for axis in (2, 3):
            x = (x + np.roll(x, 1, axis) + np.roll(x, -1, axis)) / 3**0.5
        self.q = np.clip(np.rint(x * 500), -snn.INPUT_LIMIT, snn.INPUT_LIMIT).astype(np.int32)
        self._add(snn.Encode(name="x", shape=(3, SIZE, SIZE), scale=1 / 500))
        self.trains["x"] = np.broadcast_to(self.q, (self.steps, *self.q.shape)).astype(np.int64)

    def _add(self, node: snn.SnnNode) -> str:
        self.snn_nodes.append(node)
        return node.name

    def _shape(self, name: str) -> tuple[int, ...]:
        return next(node.shape for node in self.snn_nodes if node.name == name)

    def _new(self, kind: str) -> str:
        return f"{kind}{len(self.snn_nodes)}"

    def _onnx(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self.onnx_nodes.append(helper.make_node(kind, list(inputs), [output], output, **attributes))

    def _floats(self, name: str, shape: tuple[int, ...]) -> str:
        scale = (2 / prod(shape[1:])) ** 0.5
        values = self.random.normal(0, scale, shape).astype(np.float32)
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def convolution(self, x: str, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> str:
        """Add a convolution that keeps the size, but for the stride; return its current."""
        channels, height, width = self._shape(x)
        window = Window((kernel, kernel), (stride, stride), (kernel // 2,) * 4)
        name, shape = self._new("conv"), (outputs, channels // groups, kernel, kernel)
        weight = np.clip(np.rint(self.random.normal(0, 30, shape)), -127, 127).astype(np.int8)
        out = (outputs, *window.output_size(height, width))
        node = snn.Convolution(name=name, inputs=(x,), shape=out, weight=weight, window=window, groups=groups)
        self.trains[name] = propagate(node, [self.trains[x]])
        self._onnx(
            "Conv",
            (x, self._floats(f"{name}.w", shape), self._floats(f"{name}.b", (outputs,))),
            name,
            pads=[kernel // 2] * 4,
            strides=[stride] * 2,
            group=groups,
        )
        return self._add(node)

    def identity(self, x: str) -> str:
        """Return the current of an identity, which the source network has without any operation."""
        shape = self._shape(x)
        name = self._new("identity")
        weight = self.random.integers(100, 400, shape[0]).astype(np.int16)
        node = snn.ChannelWeight(name=name, inputs=(x,), shape=shape, weight=weight)
        self.trains[name] = propagate(node, [self.trains[x]])
        self._onnx("Identity", (x,), name)
        return self._add(node)

    def population(self, *currents: str) -> str:
        """Add a population that reads the sum of currents, with the threshold that gives the density."""
        name = self._new("relu")
        total = np.add.reduce([self.trains[current] for current in currents])
        shape = self._shape(currents[0])
        channels = shape[0]

        def made(threshold: int) -> snn.IntegrateFire:
            theta = np.full(channels, threshold, np.int32)
            return snn.IntegrateFire(
                name=name,
                inputs=currents,
                shape=shape,
                threshold=theta,
                bias=np.zeros(channels, np.int32),
                v_init=theta // 2,
                spike_scale=np.ones(channels, np.float32),
                neuron=Neuron(),
            )

        low, high = 1, max(2, int(np.abs(total).max()) * self.steps)
        while high - low > max(1, low // 100):
            middle = (low + high) // 2
            spikes, _ = fire(made(middle), total, self.steps, Schedule.SYNCHRONOUS)
            if np.count_nonzero(spikes) / spikes.size > self.density:
                low = middle
            else:
                high = middle
        node = made(high)
        self.trains[name], _ = fire(node, total, self.steps, Schedule.SYNCHRONOUS)
        source = currents[0]
        if len(currents) > 1:
            source = f"{name}.sum"
            self._onnx("Add", currents, source)
        self._onnx("Relu", (source,), name)
        return self._add(node)

    def layer(self, x: str, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> str:
        """Add a convolution and the population that it drives."""
        return self.population(self.convolution(x, outputs, kernel, stride, groups))

    def max_pool(self, x: str) -> str:
        """Halve height and width by the maximum."""
        channels, height, width = self._shape(x)
        name = self._new("pool")
        node = snn.CountMaxPool(
            name=name, inputs=(x,), shape=(channels, height // 2, width // 2), window=Window((2, 2), (2, 2))
        )
        self.trains[name] = propagate(node, [self.trains[x]])
        self._onnx("MaxPool", (x,), name, kernel_shape=[2, 2], strides=[2, 2])
        return self._add(node)

    def classify(self, x: str) -> str:
        """Add the mean over all positions, and the classifier."""
        channels, height, width = self._shape(x)
        pooled = self._add(
            snn.SumPool(
                name="mean", inputs=(x,), shape=(channels, 1, 1), window=Window((height, width), (1, 1))
            )
        )
        flat = self._add(snn.Reshape(name="flat", inputs=(pooled,), shape=(channels,)))
        weight = self.random.integers(-127, 128, (CLASSES, channels)).astype(np.int8)
        scores = self._add(snn.Linear(name="scores", inputs=(flat,), shape=(CLASSES,), weight=weight))
        self._add(
            snn.Readout(
                name="y",
                inputs=(scores,),
                shape=(CLASSES,),
                bias=np.zeros(CLASSES, np.int32),
                scale=1.0,
            )
        )
        self._onnx("GlobalAveragePool", (x,), "mean")
        self._onnx("Flatten", ("mean",), "flat")
        shapes = ((CLASSES, channels), (CLASSES,))
        names = [self._floats(f"scores.{part}", shape) for part, shape in zip("wb", shapes, strict=True)]
        self._onnx("Gemm", ("flat", *names), "y", transB=1)
        return "y"

    def pair(self, name: str) -> Pair:
        """Return both networks."""
        graph = SnnGraph(name=name, nodes=tuple(self.snn_nodes), outputs=("y",), timesteps=self.steps)
        graph = SnnGraph(
            name=name,
            nodes=graph.nodes,
            outputs=("y",),
            timesteps=self.steps,
            max_timesteps=provable_timesteps(graph),
        )
        graph.verify()
        kind = onnx.TensorProto.FLOAT
        onnx_graph = helper.make_graph(
            self.onnx_nodes,
            name,
            [helper.make_tensor_value_info("x", kind, ["n", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("y", kind, ["n", CLASSES])],
            self.constants,
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(onnx_graph, opset_imports=opset, ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return Pair(graph, model, self.q)


def resnet18(build: Builder) -> str:
    """ResNet-18 for images of 32x32: 555 M multiply-accumulates."""
    x = build.layer("x", 64)
    for outputs, first_stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first_stride, 1):
            inner = build.layer(x, outputs, stride=stride)
            main = build.convolution(inner, outputs)
            short = build.identity(x) if stride == 1 else build.convolution(x, outputs, 1, stride)
            x = build.population(main, short)
    return x


def resnet20(build: Builder) -> str:
    """ResNet-20 for images of 32x32: 41 M multiply-accumulates."""
    x = build.layer("x", 16)
    for outputs, first_stride in ((16, 1), (32, 2), (64, 2)):
        for stride in (first_stride, 1, 1):
            inner = build.layer(x, outputs, stride=stride)
            main = build.convolution(inner, outputs)
            short = build.identity(x) if stride == 1 else build.convolution(x, outputs, 1, stride)
            x = build.population(main, short)
    return x


def vgg16(build: Builder) -> str:
    """VGG-16 for images of 32x32, with one linear layer: 313 M multiply-accumulates."""
    x = "x"
    for group in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for outputs in group:
            x = build.layer(x, outputs)
        x = build.max_pool(x)
    return x


def mobilenet(build: Builder) -> str:
    """MobileNet of half the width for images of 32x32: depthwise and 1x1 convolutions."""
    x = build.layer("x", 16)
    for outputs, stride in (
        (32, 1),
        (64, 2),
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        *((256, 1),) * 5,
        (512, 2),
    ):
        channels = build._shape(x)[0]
        x = build.layer(x, channels, stride=stride, groups=channels)
        x = build.layer(x, outputs, 1)
    return x


NETWORKS: dict[str, Callable[[Builder], str]] = {
    "resnet18": resnet18,
    "vgg16": vgg16,
    "resnet20": resnet20,
    "mobilenet": mobilenet,
}


def make(name: str, density: float, timesteps: int, seed: int = 0) -> Pair:
    """Return a network of these shapes with random weights, and with thresholds set to the density at T."""
    build = Builder(density, min(timesteps, MOST_STEPS), np.random.default_rng(seed))
    build.classify(NETWORKS[name](build))
    return build.pair(f"{name}, {density:.0%} density")
