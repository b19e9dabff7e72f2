"""Train the bundled residual network on Fashion-MNIST and write it as ONNX.

    python -m snnc.models.fashion_resnet DATA_FOLDER -o models/fashion_resnet.onnx

The network is a ResNet of 11 convolutions on the longest path, 170,298 parameters and 16 million
multiplications an image: a stem, then stages of 16, 32 and 64 channels with 1, 2 and 2 residual blocks,
global average pooling and one linear layer. Its only nonlinearity is ReLU, downsampling is by strides, and
both kinds of shortcut occur (identity, and 1x1 projection), so it exercises what a conversion must get
right. Batch normalisations are written as nodes of their own: folding them is the compiler's work.

It is trained by :mod:`snnc.models.recipe`, with random shifts, flips and cut-outs. The bundled file was
trained with the defaults on 9,000 rows (10,000 less 1,000 held out), by PyTorch 2.13 on two CPU threads.
The whole training set of 60,000 rows gives another network.

Needs PyTorch: ``pip install -e '.[train]'`` in a checkout.

Sources: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; DeVries and Taylor, "Improved
Regularization of Convolutional Neural Networks with Cutout", 2017.
"""

# PyTorch is an extra: where it is absent, the checkers see its names as Any.
# mypy: disable-error-code="import-not-found"
# mypy: allow-subclassing-any, allow-untyped-decorators, allow-untyped-calls
# mypy: no-warn-unused-ignores, no-warn-return-any, no-warn-redundant-casts
# pyright: reportMissingImports=false

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from snnc.errors import InputError
from snnc.models.fashion_mnist import SPLITS, read
from snnc.models.recipe import Recipe, accuracy, train

DIVIDE, MEAN, STD = 255.0, 0.286, 0.353  # the input is (pixel / DIVIDE - MEAN) / STD
CLASSES = 10
STAGES = ((16, 1), (32, 2), (64, 2))  # (channels, residual blocks); a change of channels halves the image
OPSET, IR_VERSION = 17, 8


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut: ``relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))``.

    The shortcut is the identity, or a strided 1x1 projection where the number of channels changes.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.project = None if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.project_bn = None if stride == 1 else nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride) for (N, inputs, H, W)."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        shortcut = x if self.project is None or self.project_bn is None else self.project_bn(self.project(x))
        return functional.relu(y + shortcut)


class ResNet(nn.Module):
    """The network: normalised images (N, inputs, height, width) to logits (N, classes).

    Args:
        inputs: channels of an image.
        classes: of the answer.
        stages: channels and residual blocks of each; a change of channels halves the image.
    """

    def __init__(
        self, inputs: int = 1, classes: int = CLASSES, stages: tuple[tuple[int, int], ...] = STAGES
    ) -> None:
        super().__init__()
        channels = stages[0][0]
        self.stem = nn.Conv2d(inputs, channels, 3, 1, 1, bias=False)
        self.stem_bn = nn.BatchNorm2d(channels)
        self.blocks = nn.ModuleDict()
        for stage, (outputs, count) in enumerate(stages, start=1):
            for block in range(1, count + 1):
                self.blocks[f"stage{stage}_block{block}"] = Block(channels, outputs)
                channels = outputs
        self.classifier = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = functional.relu(self.stem_bn(self.stem(x)))
        for block in self.blocks.values():
            x = block(x)
        return self.classifier(x.mean(dim=(2, 3)))


def normalise(x: Tensor) -> Tensor:
    """Return uint8 images (N, 28, 28) as the network's float32 input (N, 1, 28, 28)."""
    images = ((x.float() / DIVIDE - MEAN) / STD).unsqueeze(1)
    return images.contiguous(memory_format=torch.channels_last)


def augment(x: Tensor, generator: torch.Generator, *, shift: int = 2, hole: int = 8) -> Tensor:
    """Return uint8 images (N, 28, 28), each shifted, half of them mirrored, half of them with a hole.

    Args:
        x: images, (N, 28, 28).
        generator: where the randomness comes from.
        shift: largest shift along either axis, in pixels; what comes in is black, as the background is.
        hole: side of the square that is filled with the mean grey, in pixels; its centre is anywhere, so it
            may stick out.
    """
    count, size = len(x), x.shape[-1]
    pixels = torch.arange(size)
    rows = pixels + torch.randint(2 * shift + 1, (count, 1), generator=generator)
    columns = pixels + torch.randint(2 * shift + 1, (count, 1), generator=generator)
    mirrored = torch.rand((count, 1), generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    padded = functional.pad(x, (shift, shift, shift, shift))
    shifted = padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]

    centre = torch.randint(size, (2, count, 1), generator=generator)
    near = (pixels - centre).abs() * 2 < hole
    holed = torch.rand((count, 1, 1), generator=generator) < 0.5
    return shifted.masked_fill(near[0][:, :, None] & near[1][:, None, :] & holed, round(DIVIDE * MEAN))


def to_onnx(network: ResNet) -> onnx.ModelProto:
    """Return ``network`` in evaluation mode as ONNX, one node per layer, named as the layers are."""
    nodes: list[onnx.NodeProto] = []
    constants: list[TensorProto] = []

    def add(kind: str, name: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output or f"{name}_out"], name, **attributes))
        return output or f"{name}_out"

    def constant(name: str, value: Tensor) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value.detach().numpy()), name))
        return name

    def conv_bn(conv: nn.Conv2d, bn: nn.BatchNorm2d, prefix: str, suffix: str, x: str) -> str:
        name = f"{prefix}conv{suffix}"
        size, stride, pad = conv.kernel_size, conv.stride, conv.padding
        weight = constant(f"{name}_weight", conv.weight)
        x = add("Conv", name, [x, weight], kernel_shape=[*size], strides=[*stride], pads=[*pad, *pad])  # type: ignore[misc]
        name = f"{prefix}bn{suffix}"
        statistics = {"scale": bn.weight, "bias": bn.bias, "mean": bn.running_mean, "var": bn.running_var}
        names = [constant(f"{name}_{key}", value) for key, value in statistics.items()]  # type: ignore[arg-type]
        return add("BatchNormalization", name, [x, *names], epsilon=bn.eps)

    x = conv_bn(network.stem, network.stem_bn, "stem_", "", "image")
    x = add("Relu", "stem_relu", [x])
    for name, module in network.blocks.items():
        block = cast(Block, module)
        y = conv_bn(block.conv1, block.bn1, f"{name}_", "1", x)
        y = add("Relu", f"{name}_relu1", [y])
        y = conv_bn(block.conv2, block.bn2, f"{name}_", "2", y)
        if block.project is not None and block.project_bn is not None:
            x = conv_bn(block.project, block.project_bn, f"{name}_shortcut_", "", x)
        x = add("Relu", f"{name}_relu2", [add("Add", f"{name}_add", [y, x])])
    x = add("Flatten", "flatten", [add("GlobalAveragePool", "pool", [x])], axis=1)
    weights = [
        constant("classifier_weight", network.classifier.weight),
        constant("classifier_bias", network.classifier.bias),
    ]
    add("Gemm", "classifier", [x, *weights], "logits", transB=1)

    graph = helper.make_graph(
        nodes,
        "fashion_resnet",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        constants,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="snnc fashion_resnet.py",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


@click.command(help=str(__doc__).partition("\n")[0])
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--epochs", type=click.IntRange(1), default=Recipe().epochs, show_default=True)
@click.option("--hold-out", type=click.IntRange(0), default=Recipe().hold_out, show_default=True)
@click.option("--seed", type=int, default=Recipe().seed, show_default=True)
@click.option("--rows", type=click.IntRange(1), help="Use only the first rows of either set.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
def main(
    data: Path, output: Path, epochs: int, hold_out: int, seed: int, rows: int | None, threads: int
) -> None:
    """Train, write the network, and print its top-1 on the test rows."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    recipe = Recipe(epochs=epochs, hold_out=hold_out, seed=seed)
    try:
        x, y, test_x, test_y = (
            torch.from_numpy(array[:rows].copy()) for split in SPLITS for array in read(data, split)
        )
    except InputError as error:
        raise click.ClickException(str(error)) from error
    if len(x) < hold_out + recipe.batch:
        raise click.UsageError(f"{len(x)} training rows are too few to hold {hold_out} out: lower --hold-out")
    network = train(ResNet, x, y.long(), recipe, normalise, augment)
    temporary = output.with_name(f".{output.name}.partial")
    temporary.write_bytes(to_onnx(network).SerializeToString())
    temporary.replace(output)
    top1 = accuracy(network, test_x, test_y.long(), normalise)
    click.echo(f"{output}: top-1 {top1:.4f} on {len(test_x)} test rows")


if __name__ == "__main__":
    main()
