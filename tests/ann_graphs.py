"""Small ANN graphs with random weights, for tests of passes."""

from __future__ import annotations

import numpy as np

from snnc.ir import ann
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray
from snnc.pipeline import Context
from snnc.simulation.reference import ReferenceSimulator
from snnc.source.calibration import Calibration

SAME = Window((3, 3), pads=(1, 1, 1, 1))
HALVE = Window((2, 2), (2, 2))


class Builder:
    """Adds nodes one after the other; each method returns the name of the new node."""

    def __init__(self, seed: int, shape: tuple[int, ...] = (3, 8, 8)) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[ann.AnnNode] = [ann.Input(name="x", shape=shape)]
        self.shapes: dict[str, tuple[int, ...]] = {"x": shape}

    def add(self, node: ann.AnnNode) -> str:
        self.nodes.append(node.with_(origin=f"onnx/{node.name}"))
        self.shapes[node.name] = node.shape
        return node.name

    def normal(self, *shape: int, scale: float = 1.0) -> FloatArray:
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def conv(self, name: str, source: str, channels: int, window: Window = SAME, groups: int = 1) -> str:
        inputs = self.shapes[source][0]
        fan_in = inputs // groups * window.area
        weight = self.normal(channels, inputs // groups, *window.kernel, scale=(2 / fan_in) ** 0.5)
        shape = (channels, *window.output_size(*self.shapes[source][1:]))
        bias = self.normal(channels, scale=0.1)
        return self.add(
            ann.Convolution(
                name=name,
                inputs=(source,),
                shape=shape,
                weight=weight,
                bias=bias,
                window=window,
                groups=groups,
            )
        )

    def norm(self, name: str, source: str) -> str:
        shape = self.shapes[source]
        return self.add(
            ann.BatchNormalisation(
                name=name,
                inputs=(source,),
                shape=shape,
                scale=1 + self.normal(shape[0], scale=0.2),
                shift=self.normal(shape[0], scale=0.2),
                mean=self.normal(shape[0], scale=0.2),
                variance=np.abs(1 + self.normal(shape[0], scale=0.2)),
                epsilon=1e-5,
            )
        )

    def relu(self, name: str, source: str, ceiling: float | None = None) -> str:
        shape = self.shapes[source]
        limit = None if ceiling is None else np.full(shape[0], ceiling, np.float32)
        return self.add(ann.Relu(name=name, inputs=(source,), shape=shape, ceiling=limit))

    def sum(self, name: str, *sources: str) -> str:
        return self.add(ann.Add(name=name, inputs=sources, shape=self.shapes[sources[0]]))

    def concat(self, name: str, *sources: str) -> str:
        channels = sum(self.shapes[source][0] for source in sources)
        return self.add(ann.Concat(name=name, inputs=sources, shape=(channels, *self.shapes[sources[0]][1:])))

    def max_pool(self, name: str, source: str, window: Window = HALVE) -> str:
        channels, *size = self.shapes[source]
        shape = (channels, *window.output_size(*size))
        return self.add(ann.MaxPool(name=name, inputs=(source,), shape=shape, window=window))

    def mean(self, name: str, source: str, window: Window | None = None) -> str:
        channels, *size = self.shapes[source]
        window = Window((size[0], size[1])) if window is None else window
        shape = (channels, *window.output_size(*size))
        return self.add(ann.AveragePool(name=name, inputs=(source,), shape=shape, window=window))

    def pad(self, name: str, source: str, before: tuple[int, ...], after: tuple[int, ...]) -> str:
        shape = tuple(b + n + a for b, n, a in zip(before, self.shapes[source], after, strict=True))
        return self.add(ann.Pad(name=name, inputs=(source,), shape=shape, before=before, after=after))

    def flatten(self, name: str, source: str) -> str:
        return self.add(ann.Reshape(name=name, inputs=(source,), shape=(int(np.prod(self.shapes[source])),)))

    def linear(self, name: str, source: str, features: int) -> str:
        inputs = self.shapes[source][0]
        weight = self.normal(features, inputs, scale=(2 / inputs) ** 0.5)
        bias = self.normal(features, scale=0.1)
        node = ann.Linear(name=name, inputs=(source,), shape=(features,), weight=weight, bias=bias)
        return self.add(node)

    def graph(self, output: str) -> ann.AnnGraph:
        graph = ann.AnnGraph(name="test", nodes=tuple(self.nodes), outputs=(output,))
        graph.verify()
        return graph


def residual_network(seed: int = 0, *, pool: bool = False) -> ann.AnnGraph:
    """A residual network with batch norm, one identity and one strided shortcut; optionally a max-pool."""
    b = Builder(seed)
    stem = b.relu("relu0", b.norm("bn0", b.conv("conv0", "x", 8)))
    inner = b.relu("relu1", b.norm("bn1", b.conv("conv1", stem, 8)))
    first = b.relu("relu2", b.sum("add1", b.norm("bn2", b.conv("conv2", inner, 8)), stem))
    if pool:
        first = b.max_pool("pool", first)
    stride = Window((3, 3), (2, 2), (1, 1, 1, 1))
    inner = b.relu("relu3", b.norm("bn3", b.conv("conv3", first, 12, stride)))
    main = b.norm("bn4", b.conv("conv4", inner, 12))
    short = b.norm("bn5", b.conv("conv5", first, 12, Window((1, 1), (2, 2))))
    last = b.relu("relu4", b.sum("add2", main, short))
    return b.graph(b.linear("fc", b.flatten("flat", b.mean("gap", last)), 5))


def context(graph: ann.AnnGraph, *, rows: int = 64, timesteps: int = 4, seed: int = 0) -> Context:
    """A context with random rows and the reference as simulator; its source is ``graph``."""
    x = np.random.default_rng(seed).standard_normal((rows, *graph.nodes[0].shape)).astype(np.float32)
    made = Context(Calibration(x, threads=1), timesteps, ReferenceSimulator(), seed)
    made.source = graph
    return made
