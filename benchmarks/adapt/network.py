"""Train the network that ``benchmarks/adapt`` adapts: ResNet-20 on the first 5 classes of CIFAR-10.

    python -m benchmarks.adapt.network --shared FOLDER -o resnet20_of_5.onnx

Its last five classes are never seen, so that they are new to its features, too. About 10 minutes on one core,
in bfloat16; short enough to be run again, and so no record of accuracy. Batch normalisations are folded when
the network is written.

Needs PyTorch: ``pip install -e '.[train]'`` in a checkout.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (the network of section 4.2).
"""

# PyTorch is an extra: where it is absent, the checkers see its names as Any.
# mypy: disable-error-code="import-not-found"
# mypy: allow-subclassing-any, allow-untyped-decorators, allow-untyped-calls
# mypy: no-warn-unused-ignores, no-warn-return-any, no-warn-redundant-casts
# pyright: reportMissingImports=false

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.common import corpus_data
from snnc.models.fashion_resnet import ResNet

KNOWN = 5
"""The network learns the classes 0 to 4, and is to learn 5 to 9 after its deployment."""

STAGES = ((16, 3), (32, 3), (64, 3))
MEAN, STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
OPSET, IR_VERSION = 17, 8


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return normalised images (N, 3, 32, 32), shifted by up to 4 pixels, half of them mirrored."""
    down, right = (int(v) for v in torch.randint(0, 9, (2,), generator=generator))
    shifted = functional.pad(x, (4, 4, 4, 4))[:, :, down : down + 32, right : right + 32]
    flip = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(flip[:, None, None, None], shifted.flip(3), shifted)


def train(x: Any, y: Any, epochs: int, batch: int, rate: float, seed: int) -> ResNet:
    """Return the network after ``epochs`` passes over uint8 images (N, 32, 32, 3) and labels (N,)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = ResNet(3, KNOWN, STAGES).to(memory_format=torch.channels_last)
    images = torch.from_numpy(normalised(x)).contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(y.astype(np.int64))
    optimiser = torch.optim.SGD(network.parameters(), rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1, pct_start=0.25)
    for epoch in range(epochs):
        begin, total = time.perf_counter(), 0.0
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x) - batch + 1, batch):
            chosen = order[start : start + batch]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                scores = network(augment(images[chosen], generator))
            loss = functional.cross_entropy(scores.float(), labels[chosen], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        click.echo(
            f"epoch {epoch + 1}: loss {total / (len(x) // batch):.3f}, {time.perf_counter() - begin:.0f} s"
        )
    return network.eval()


def normalised(x: Any) -> Any:
    """Return uint8 images (N, 32, 32, 3) as the network's input, (N, 3, 32, 32) float32."""
    values = (x.astype(np.float32) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


class _Writer:
    """Collects the nodes of the model."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.parameters: list[Any] = []

    def parameter(self, name: str, values: Any) -> str:
        self.parameters.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def add(self, operator: str, name: str, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def convolution(self, name: str, x: str, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> str:
        """Write a convolution with the batch normalisation behind it folded."""
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = conv.weight * gain[:, None, None, None]
        bias = norm.bias - norm.running_mean * gain
        inputs = [
            x,
            self.parameter(f"{name}.weight", weight.detach().numpy()),
            self.parameter(f"{name}.bias", bias.detach().numpy()),
        ]
        (pad, _), (stride, _) = conv.padding, conv.stride
        return self.add("Conv", name, inputs, pads=[int(pad)] * 4, strides=[stride] * 2)


def as_onnx(network: ResNet) -> onnx.ModelProto:
    """Return the network as an ONNX model with inputs (N, 3, 32, 32)."""
    writer = _Writer()
    x = writer.add("Relu", "stem_relu", [writer.convolution("stem", "x", network.stem, network.stem_bn)])
    for number, block in enumerate(network.blocks.values(), 1):
        name = f"block{number}"
        y = writer.convolution(f"{name}_conv1", x, block.conv1, block.bn1)
        y = writer.add("Relu", f"{name}_relu1", [y])
        y = writer.convolution(f"{name}_conv2", y, block.conv2, block.bn2)
        if block.project is not None:
            x = writer.convolution(f"{name}_project", x, block.project, block.project_bn)
        x = writer.add("Relu", f"{name}_relu2", [writer.add("Add", f"{name}_sum", [y, x])])
    x = writer.add("Flatten", "flat", [writer.add("GlobalAveragePool", "pool", [x])])
    weight = writer.parameter("classifier.weight", network.classifier.weight.detach().numpy())
    bias = writer.parameter("classifier.bias", network.classifier.bias.detach().numpy())
    writer.add("Gemm", "y", [x, weight, bias], transB=1)
    graph = helper.make_graph(
        writer.nodes,
        "resnet20_of_5",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", KNOWN])],
        writer.parameters,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


@click.command()
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("resnet20_of_5.onnx"))
@click.option("--epochs", default=12, show_default=True)
@click.option("--batch", default=128, show_default=True)
@click.option("--rate", default=0.2, show_default=True)
@click.option("--rows", default=20_000, show_default=True, help="Images of the five classes to train on.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(
    shared: Path, output: Path, epochs: int, batch: int, rate: float, rows: int, seed: int, threads: int
) -> None:
    """Train, write, and say how well the five classes are told apart."""
    torch.set_num_threads(threads)
    x, y = corpus_data.load(shared / "data", "cifar10_train")
    x, y = x[y < KNOWN][:rows], y[y < KNOWN][:rows]
    network = train(x, y, epochs, batch, rate, seed)
    output.write_bytes(as_onnx(network).SerializeToString(deterministic=True))
    x, y = corpus_data.load(shared / "data", "cifar10_test_dev")
    x, y = x[y < KNOWN], y[y < KNOWN]
    with torch.inference_mode():
        answers = torch.cat(
            [network(torch.from_numpy(normalised(x[i : i + 500]))) for i in range(0, len(x), 500)]
        )
    right = (answers.argmax(1).numpy() == y).mean()
    click.echo(f"wrote {output}: {100 * right:.2f} % of {len(x)} test images of the {KNOWN} classes")


if __name__ == "__main__":
    main()
