"""A spiking network as the quantised ONNX network that it equals: the same integers, float operators.

Where the counts of a network do not depend on the order of spikes, they are after one step

    N = clip(floor((v_init + B + sum w N_in) / Theta), 0, M)

Weights are written as DequantizeLinear of int8, each output channel with a power of two as its scale, so
that every sum is exact in float32; half a unit is added before the rounding, so that no runtime can be
undecided at a tie. The frontend reads such a network to the same integers, and `convert --preset exact`
gives the same counts.
"""

from __future__ import annotations

import numpy as np
import onnx

from snnc.errors import UnsupportedModelError
from snnc.ir import snn
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.operations import Firing, check_known, firing, largest_count, operations
from snnc.training.sketch import Sketch

PIXELS = 255
"""Largest input: pixels as they are stored."""


def exported(graph: snn.SnnGraph) -> onnx.ModelProto:
    """Return the ONNX network.

    Args:
        graph: integer, for T = 1, of neurons that send all their levels at once, reading pixels from 0 to
            255.

    Raises:
        UnsupportedModelError: it holds something else.
    """
    check_known(graph)
    return _Writer(graph).model()


class _Writer:
    """One walk over the network."""

    def __init__(self, graph: snn.SnnGraph) -> None:
        self.graph = graph
        if graph.timesteps != 1 or len(graph.encoders) != 1 or len(graph.outputs) != 1:
            raise _refused(graph.name, "has more than one step, input or output")
        self.sketch = Sketch(graph.encoders[0].shape, graph.encoders[0].name)

    def model(self) -> onnx.ModelProto:
        for node in operations(self.graph):
            self.write(node)
        last = self.graph.readouts[self.graph.output_names[0]]
        return self.sketch.model(last.name, last.shape, self.graph.name)

    def write(self, node: snn.SnnNode) -> None:
        add, name = self.sketch.add, node.name
        match node:
            case snn.Encode():
                if (node.scale, node.limit, node.low, node.gain) != (1.0, PIXELS, None, None):
                    raise _refused(name, "reads something else than pixels from 0 to 255")
            case snn.Convolution():
                top, left, bottom, right = node.window.pads
                add(
                    "Conv",
                    node.inputs[0],
                    self.weight(node, node.weight),
                    name=name,
                    kernel_shape=list(node.window.kernel),
                    strides=list(node.window.strides),
                    dilations=list(node.window.dilations),
                    pads=[top, left, bottom, right],
                    group=node.groups,
                )
            case snn.Linear():
                add("Gemm", node.inputs[0], self.weight(node, node.weight), name=name, transB=1)
            case snn.ChannelWeight():
                factor = (node.weight * self.unit(node)).astype(np.float32)
                add("Mul", node.inputs[0], per_channel(factor, len(node.shape)), name=name)
            case snn.SumPool() if not any(node.window.pads):
                mean = self.pool("AveragePool", node, f"{name}.mean")
                add("Mul", mean, np.array(node.window.area, np.float32), name=name)
            case snn.CountMaxPool() if not any(node.window.pads):
                self.pool("MaxPool", node, name)
            case snn.Reshape() if len(node.shape) == 1:
                add("Flatten", node.inputs[0], name=name)
            case snn.IntegrateFire():
                self.population(node)
            case snn.Readout():
                total = self.total(node.inputs, f"{name}.sum")
                gain = np.ones(node.channels, np.float32) if node.gain is None else node.gain
                biased = add("Add", total, node.bias.astype(np.float32), name=f"{name}.bias")
                add("Mul", biased, (gain * np.float32(node.scale)).astype(np.float32), name=name)
            case _:
                raise _refused(name, f"is {type(node).__name__}, which is not written as ONNX")

    def unit(self, node: snn.Weighted) -> FloatArray:
        """Return the scale of a synapse's weights, (outputs,): 1 / Theta, to the next power of two."""
        readers = self.graph.consumers[node.name]
        if len(readers) != 1 or not isinstance(readers[0], snn.IntegrateFire | snn.Readout):
            raise _refused(node.name, "drives more than one population")
        if isinstance(readers[0], snn.Readout):
            return np.ones(node.channels, np.float32)
        return power_below(np.asarray(readers[0].threshold))

    def weight(self, node: snn.Weighted, integers: NumberArray) -> str:
        """Write integer weights, dequantised."""
        return self.sketch.add(
            "DequantizeLinear",
            integers.astype(np.int8),
            self.unit(node),
            np.zeros(node.channels, np.int8),
            name=f"{node.name}.weight",
            axis=0,
        )

    def total(self, inputs: tuple[str, ...], name: str) -> str:
        """Add currents up."""
        found = inputs[0]
        for number, each in enumerate(inputs[1:]):
            found = self.sketch.add("Add", found, each, name=f"{name}{number}")
        return found

    def population(self, node: snn.IntegrateFire) -> None:
        capacity = largest_count(node, 1)
        rule, limit = firing(node), node.neuron.limit or 0
        if rule is not Firing.GRADED and not (rule is Firing.LIMITED and limit >= node.neuron.capacity(1)):
            raise _refused(node.name, "cannot send all of its levels at once")
        add, name, rank = self.sketch.add, node.name, len(node.shape)
        threshold = np.asarray(node.threshold)
        unit = power_below(threshold).astype(np.float64)
        start = (node.bias.astype(np.float64) + node.v_init + 0.5) * unit
        total = self.total(node.inputs, f"{name}.sum")
        biased = add("Add", total, per_channel(start.astype(np.float32), rank), name=f"{name}.bias")
        share = (1 / (threshold * unit)).astype(np.float32)
        scaled = add("Mul", biased, per_channel(share, rank), name=f"{name}.scaled")
        rounded = add("Floor", scaled, name=f"{name}.rounded")
        add("Clip", rounded, np.array(0, np.float32), np.array(capacity, np.float32), name=name)

    def pool(self, operator: str, node: snn.SumPool | snn.CountMaxPool, name: str) -> str:
        window = node.window
        kernel, strides = list(window.kernel), list(window.strides)
        return self.sketch.add(operator, node.inputs[0], name=name, kernel_shape=kernel, strides=strides)


def power_below(threshold: NumberArray) -> FloatArray:
    """Return ``2^-k`` with ``2^(k - 1) < Theta <= 2^k``, exact in float32."""
    return np.exp2(-np.ceil(np.log2(np.maximum(threshold, 1)))).astype(np.float32)


def _refused(name: str, why: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"the network cannot be written as quantised ONNX: {name!r} {why}")
