"""Train the small bundled network on Fashion-MNIST and write it as ONNX.

    python -m snnc.models.fashion_cnn DATA_FOLDER -o models/fashion_cnn.onnx

Three strided convolutions of 12, 24 and 48 channels with ReLU, global average pooling and one linear layer:
13,642 parameters, so that it is converted in seconds and fits a microcontroller. Batch normalisations are
folded before it is written, as exporters do. The recipe is that of :mod:`snnc.models.fashion_resnet`, for 60
epochs; the bundled file was trained so on 9,000 rows, by PyTorch 2.13 on one CPU thread.

Needs PyTorch: ``pip install -e '.[train]'`` in a checkout.
"""

# PyTorch is an extra: where it is absent, the checkers see its names as Any.
# mypy: disable-error-code="import-not-found"
# mypy: allow-subclassing-any, allow-untyped-decorators, allow-untyped-calls
# mypy: no-warn-unused-ignores, no-warn-return-any, no-warn-redundant-casts
# pyright: reportMissingImports=false

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from snnc.errors import InputError
from snnc.models.fashion_mnist import SPLITS, read
from snnc.models.fashion_resnet import CLASSES, IR_VERSION, OPSET, Recipe, accuracy, train

CHANNELS = (12, 24, 48)
EPOCHS = 60


class SmallCNN(nn.Module):
    """The network: (N, 1, 28, 28) normalised images to (N, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        sizes = list(zip((1, *CHANNELS), CHANNELS, strict=False))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, 2, 1, bias=False) for i, o in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o in sizes)
        self.classifier = nn.Linear(CHANNELS[-1], CLASSES)
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))
        return self.classifier(x.mean(dim=(2, 3)))


@torch.no_grad()
def to_onnx(network: SmallCNN) -> onnx.ModelProto:
    """Return ``network`` in evaluation mode as ONNX, its batch normalisations folded."""
    nodes, constants = [], []

    def constant(name: str, value: Tensor) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value.float().numpy()), name))
        return name

    x = "image"
    for number, (conv, norm) in enumerate(zip(network.convs, network.norms, strict=True), start=1):
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = constant(f"conv{number}_weight", conv.weight.double() * scale[:, None, None, None])
        bias = constant(f"conv{number}_bias", norm.bias.double() - norm.running_mean.double() * scale)
        nodes.append(
            helper.make_node(
                "Conv",
                [x, weight, bias],
                [f"conv{number}_out"],
                f"conv{number}",
                kernel_shape=[3, 3],
                strides=[2, 2],
                pads=[1, 1, 1, 1],
            )
        )
        x = f"relu{number}_out"
        nodes.append(helper.make_node("Relu", [f"conv{number}_out"], [x], f"relu{number}"))
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pool_out"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pool_out"], ["flatten_out"], "flatten", axis=1))
    weights = [
        constant("classifier_weight", network.classifier.weight),
        constant("classifier_bias", network.classifier.bias),
    ]
    nodes.append(helper.make_node("Gemm", ["flatten_out", *weights], ["logits"], "classifier", transB=1))
    graph = helper.make_graph(
        nodes,
        "fashion_cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        constants,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="snnc fashion_cnn.py",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


@click.command(help=str(__doc__).partition("\n")[0])
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--epochs", type=click.IntRange(1), default=EPOCHS, show_default=True)
@click.option("--hold-out", type=click.IntRange(0), default=Recipe().hold_out, show_default=True)
@click.option("--seed", type=int, default=Recipe().seed, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(data: Path, output: Path, epochs: int, hold_out: int, seed: int, threads: int) -> None:
    """Train, write the network, and print its top-1 on the test rows."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        x, y, test_x, test_y = (
            torch.from_numpy(array.copy()) for split in SPLITS for array in read(data, split)
        )
    except InputError as error:
        raise click.ClickException(str(error)) from error
    recipe = Recipe(epochs=epochs, hold_out=hold_out, seed=seed)
    if len(x) < hold_out + recipe.batch:
        raise click.UsageError(f"{len(x)} training rows are too few to hold {hold_out} out: lower --hold-out")
    network = train(SmallCNN, x, y.long(), recipe)
    temporary = output.with_name(f".{output.name}.partial")
    temporary.write_bytes(to_onnx(network).SerializeToString())
    temporary.replace(output)
    click.echo(f"{output}: top-1 {accuracy(network, test_x, test_y.long()):.4f} on {len(test_x)} test rows")


if __name__ == "__main__":
    main()
