"""How much memory and time does a conversion take? Networks of known forms, with random weights.

    python -m benchmarks.speed.memory --rows 100,500 --preset balanced -T 4
    python -m benchmarks.speed.memory --network resnet18 --rows 500 --preset balanced -T 4 --threads 2

Each conversion runs in a process of its own, whose largest resident memory is printed and kept in
`benchmarks/measured/memory.jsonl`; `docs/size.md` shows it (`python -m benchmarks.speed.size --no-measure
--report docs/size.md`). `--limit GB` makes more than that an error, exit code 4.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.common import digests
from benchmarks.common.tables import Row, read
from snnc.compiler import Options, convert
from snnc.writing import replacing

KEPT = Path("benchmarks/measured/memory.jsonl")
SAME = ("network", "size", "width", "rows", "preset", "timesteps", "threads")
"""What tells one measurement from another."""

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks and stride: table 2 of Sandler et al., "MobileNetV2", CVPR 2018."""


class Builder:
    """Writes the nodes of a network, one behind the other."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants = [
            numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in (("zero", 0), ("six", 6))
        ]
        self.channels = {"image": 3}

    def conv(
        self, source: str, channels: int, kernel: int = 1, stride: int = 1, *, depthwise: bool = False
    ) -> str:
        """Add a convolution with a bias; its output has about the power of its input."""
        inner = 1 if depthwise else self.channels[source]
        weight = (
            self.random.standard_normal((channels, inner, kernel, kernel)) * (2 / (inner * kernel**2)) ** 0.5
        )
        name = f"conv{len(self.nodes)}"
        bias = 0.1 * self.random.standard_normal(channels)
        for suffix, values in (("w", weight), ("b", bias)):
            self.constants.append(numpy_helper.from_array(values.astype(np.float32), f"{name}.{suffix}"))
        pads = [kernel // 2] * 4
        groups = channels if depthwise else 1
        inputs = [source, f"{name}.w", f"{name}.b"]
        self.nodes.append(
            helper.make_node(
                "Conv",
                inputs,
                [name],
                name,
                kernel_shape=[kernel] * 2,
                strides=[stride] * 2,
                pads=pads,
                group=groups,
            )
        )
        self.channels[name] = channels
        return name

    def node(self, kind: str, *sources: str) -> str:
        """Add a node that keeps the number of channels."""
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(sources), [name], name))
        self.channels[name] = self.channels[sources[0]]
        return name

    def relu6(self, source: str) -> str:
        """Add a rectifier with a ceiling."""
        return self.node("Clip", source, "zero", "six")

    def max_pool(self, source: str) -> str:
        """Add a maximum over 3 x 3 pixels with stride 2."""
        name = f"pool{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(
                "MaxPool", [source], [name], name, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
            )
        )
        self.channels[name] = self.channels[source]
        return name

    def classified(self, source: str, size: int, name: str) -> onnx.ModelProto:
        """Return the network that ends in a mean over all pixels and ten scores."""
        x = self.node("Flatten", self.node("GlobalAveragePool", source))
        features = self.channels[x]
        weight = self.random.standard_normal((10, features)) / features**0.5
        self.constants.append(numpy_helper.from_array(weight.astype(np.float32), "fc.w"))
        self.constants.append(numpy_helper.from_array(np.zeros(10, np.float32), "fc.b"))
        self.nodes.append(helper.make_node("Gemm", [x, "fc.w", "fc.b"], ["scores"], "fc", transB=1))
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, size, size])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def mobilenet(size: int, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """Return a network of the form of MobileNetV2 with random weights, for square images of ``size``."""
    b = Builder(seed)

    def scaled(channels: int) -> int:
        return max(4, round(channels * width))

    x = b.relu6(b.conv("image", scaled(32), 3, 2))
    for expansion, channels, blocks, stride in STAGES:
        for block in range(blocks):
            before = x
            hidden = expansion * b.channels[x]
            if expansion > 1:
                x = b.relu6(b.conv(x, hidden))
            x = b.relu6(b.conv(x, hidden, 3, stride if block == 0 else 1, depthwise=True))
            x = b.conv(x, scaled(channels))
            if block > 0:
                x = b.node("Add", before, x)
    x = b.relu6(b.conv(x, scaled(1280)))
    return b.classified(x, size, "mobilenet")


def resnet18(size: int, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """Return a network of the form of ResNet-18 with random weights, for square images of ``size``.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016, table 1.
    """
    b = Builder(seed)
    x = b.node("Relu", b.conv("image", round(64 * width), 7, 2))
    x = b.max_pool(x)
    for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for block in range(2):
            step = stride if block == 0 else 1
            wide = round(channels * width)
            inner = b.conv(b.node("Relu", b.conv(x, wide, 3, step)), wide, 3)
            before = x if step == 1 and b.channels[x] == wide else b.conv(x, wide, 1, step)
            x = b.node("Relu", b.node("Add", inner, before))
    return b.classified(x, size, "resnet18")


def images(rows: int, size: int, seed: int) -> np.ndarray:
    """Return smooth random images, (rows, 3, size, size) float32."""
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((rows, 3, -(-size // 8), -(-size // 8))).astype(np.float32)
    return coarse.repeat(8, axis=2).repeat(8, axis=3)[:, :, :size, :size]


def measured(model: Path, rows: int, size: int, options: Options) -> dict[str, float]:
    """Convert in this process and return its largest memory, in GB, and the time."""
    start = time.perf_counter()
    convert(model, images(rows, size, 1), options)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"rows": rows, "gigabytes": kilobytes / 1e6, "seconds": time.perf_counter() - start}


NETWORKS = {"mobilenet": mobilenet, "resnet18": resnet18}


def keep(row: Row) -> None:
    """Keep a measurement in place of an earlier one of the same conversion."""
    others = [old for old in read(KEPT) if any(old[key] != row[key] for key in SAME)]
    with replacing(KEPT) as file:
        file.write("".join(json.dumps(each) + "\n" for each in [*others, row]).encode())


@click.command()
@click.option("--network", type=click.Choice(list(NETWORKS)), default="mobilenet", show_default=True)
@click.option("--rows", default="100,500", show_default=True)
@click.option("--size", default=224, show_default=True, help="Pixels a side.")
@click.option("--width", default=1.0, show_default=True, help="Factor of all channels.")
@click.option("--preset", default=None, help="Chosen by default, as `convert` does.")
@click.option("-T", "--timesteps", type=int, default=None)
@click.option("--threads", default=1, show_default=True)
@click.option("--limit", type=float, default=None, metavar="GB")
@click.option("--inside", type=click.Path(path_type=Path), default=None, hidden=True)
def main(
    network: str,
    rows: str,
    size: int,
    width: float,
    preset: str | None,
    timesteps: int | None,
    threads: int,
    limit: float | None,
    inside: Path | None,
) -> None:
    """Print the memory of conversions with so many rows."""
    options = Options(timesteps, preset, threads=threads)
    if inside is not None:
        print(json.dumps(measured(inside, int(rows), size, options)))
        return
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{network}.onnx"
        onnx.save(NETWORKS[network](size, width), path)
        for count in rows.split(","):
            parts = [
                sys.executable,
                "-m",
                "benchmarks.speed.memory",
                "--inside",
                str(path),
                "--rows",
                count,
                "--size",
                str(size),
            ]
            parts += ["--threads", str(threads)]
            parts += ["--preset", preset] if preset else []
            parts += ["-T", str(timesteps)] if timesteps else []
            done = subprocess.run(parts, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"{found['rows']} rows: {found['gigabytes']:.2f} GB, {found['seconds']:.0f} s", flush=True)
            asked = {"network": network, "size": size, "width": width, "preset": preset}
            asked |= {"timesteps": timesteps, "threads": threads}
            keep({**asked, **found, "sources": digests.compiler()})
            missed |= limit is not None and found["gigabytes"] > limit
    sys.exit(4 if missed else 0)


if __name__ == "__main__":
    main()
