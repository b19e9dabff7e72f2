"""Small bundled networks: convolutions with an activation each, global average pooling, one linear layer.

Batch normalisations are trained and folded before a network is written, as exporters do.

Needs PyTorch: ``pip install -e '.[train]'`` in a checkout.
"""

# PyTorch is an extra: where it is absent, the checkers see its names as Any.
# mypy: disable-error-code="import-not-found"
# mypy: allow-subclassing-any, allow-untyped-decorators, allow-untyped-calls
# mypy: no-warn-unused-ignores, no-warn-return-any, no-warn-redundant-casts
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

OPSET, IR_VERSION = 17, 8
Activation = Literal["relu", "silu"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution, padded by half its kernel, with batch normalisation and activation behind it.

    Attributes:
        channels: that it gives.
        stride: along height and width.
        kernel: length of the side of its kernel.
        depthwise: whether every channel is convolved alone; then it gives as many as it takes.
    """

    channels: int
    stride: tuple[int, int] = (2, 2)
    kernel: int = 3
    depthwise: bool = False


class ConvNet(nn.Module):
    """The network: (N, 1, H, W) normalised rows to (N, classes) logits."""

    def __init__(self, layers: Sequence[Layer], classes: int, activation: Activation = "relu") -> None:
        super().__init__()
        self.activation = activation
        inputs = (1, *(layer.channels for layer in layers))
        self.convs = nn.ModuleList(
            nn.Conv2d(
                count,
                layer.channels,
                layer.kernel,
                layer.stride,
                layer.kernel // 2,
                groups=count if layer.depthwise else 1,
                bias=False,
            )
            for count, layer in zip(inputs, layers, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(layer.channels) for layer in layers)
        self.classifier = nn.Linear(layers[-1].channels, classes)
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        activate = torch.relu if self.activation == "relu" else functional.silu
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = activate(norm(conv(x)))
        return self.classifier(x.mean(dim=(2, 3)))


@torch.no_grad()
def to_onnx(
    network: ConvNet, name: str, shape: tuple[int, int, int], producer: str, input_name: str = "image"
) -> onnx.ModelProto:
    """Return ``network`` in evaluation mode as ONNX, its batch normalisations folded.

    Args:
        network: a trained one.
        name: of the graph.
        shape: of one row as the network takes it, (1, H, W).
        producer: what made it.
        input_name: of the network's input.
    """
    nodes, constants = [], []

    def constant(name: str, value: Tensor) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value.float().numpy()), name))
        return name

    x = input_name
    for number, (conv, norm) in enumerate(zip(network.convs, network.norms, strict=True), start=1):
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = constant(f"conv{number}_weight", conv.weight.double() * scale[:, None, None, None])
        bias = constant(f"conv{number}_bias", norm.bias.double() - norm.running_mean.double() * scale)
        attributes = {
            "kernel_shape": [*conv.kernel_size],
            "strides": [*conv.stride],
            "pads": [*conv.padding, *conv.padding],
        } | ({"group": conv.groups} if conv.groups > 1 else {})
        made = f"conv{number}_out"
        nodes.append(helper.make_node("Conv", [x, weight, bias], [made], f"conv{number}", **attributes))
        x = f"{network.activation}{number}_out"
        if network.activation == "relu":
            nodes.append(helper.make_node("Relu", [made], [x], f"relu{number}"))
        else:  # as exporters write it before opset 24, which has Swish
            gate = f"sigmoid{number}_out"
            nodes.append(helper.make_node("Sigmoid", [made], [gate], f"sigmoid{number}"))
            nodes.append(helper.make_node("Mul", [made, gate], [x], f"silu{number}"))
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pool_out"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pool_out"], ["flatten_out"], "flatten", axis=1))
    weights = [
        constant("classifier_weight", network.classifier.weight),
        constant("classifier_bias", network.classifier.bias),
    ]
    nodes.append(helper.make_node("Gemm", ["flatten_out", *weights], ["logits"], "classifier", transB=1))
    classes = network.classifier.out_features
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
        constants,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=producer,
    )
    onnx.checker.check_model(model, full_check=True)
    return model
