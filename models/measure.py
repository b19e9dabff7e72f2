"""Measure the bundled networks and write what was found into ``catalog.json``.

    python -m snnc.models.measure --rows fashion_mnist=FOLDER --rows spoken_digits=FOLDER

Hashes, sizes and accuracies in the catalog are this program's; the words in it are written by hand. The
folders are those that :mod:`snnc.models.fashion_mnist`, :mod:`snnc.models.spoken_digits` and
:mod:`snnc.models.cifar10` read. Artefacts are measured by ``snnc eval``.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from snnc.errors import InputError
from snnc.models import (
    FOLDER,
    PREFIX,
    ZooEntry,
    cifar10,
    fashion_mnist,
    list_models,
    spoken_digits,
    test_data,
)

READERS = {"fashion_mnist": fashion_mnist.read, "spoken_digits": spoken_digits.read, "cifar10": cifar10.read}
_Z95 = 1.959963984540054  # the normal quantile of 0.975


def prepare(images: NDArray[np.uint8], preprocessing: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return rows (N, H, W), or (N, C, H, W), as the network's input, (N, C, H, W) float32."""
    scaled = images.astype(np.float32) / np.float32(preprocessing["divide"])
    found = (scaled - np.float32(preprocessing["mean"])) / np.float32(preprocessing["std"])
    return found if found.ndim == 4 else found[:, None]


def top1(network: Path, inputs: NDArray[np.float32], labels: NDArray[np.uint8]) -> float:
    """Return the share of ``inputs`` whose label gets the highest output under onnxruntime."""
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    answers = [
        np.asarray(session.run(None, {name: part})[0]).argmax(1) for part in np.array_split(inputs, 10)
    ]
    return float((np.concatenate(answers) == labels).mean())


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share observed on ``n`` rows.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927.
    """
    centre = share + _Z95**2 / (2 * n)
    half = _Z95 * math.sqrt(share * (1 - share) / n + _Z95**2 / (4 * n**2))
    return (centre - half) / (1 + _Z95**2 / n), (centre + half) / (1 + _Z95**2 / n)


def count(network: Path) -> tuple[int, int]:
    """Return the trained parameters, and the multiply-accumulates of one inference.

    Convolutions and Gemm are counted, as they are written; running statistics are not parameters.
    """
    graph = onnx.shape_inference.infer_shapes(onnx.load(network), strict_mode=True, data_prop=True).graph
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    stored = {
        node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"
    }  # int8 weights
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    statistics = {
        name for node in graph.node if node.op_type == "BatchNormalization" for name in node.input[3:]
    }
    parameters = sum(math.prod(size) for name, size in sizes.items() if name not in statistics)
    macs = 0
    for node in graph.node:
        if node.op_type == "Conv":
            macs += math.prod(shapes[node.output[0]][2:]) * math.prod(sizes[_weight(node, stored)])
        elif node.op_type == "Gemm":
            macs += math.prod(sizes[_weight(node, stored)])
    return parameters, macs


def _weight(node: onnx.NodeProto, stored: Mapping[str, str]) -> str:
    """Return the name of the initialiser that a node multiplies by."""
    return stored.get(node.input[1], node.input[1])


def spiking_top1(entry: ZooEntry, rows: NDArray[np.uint8], labels: NDArray[np.uint8]) -> float:
    """Return the share of ``rows`` that a bundled artefact answers rightly, as ``snnc eval`` says it."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "rows.npz", x=rows, y=labels)
        command = [sys.executable, "-m", "snnc", "eval", PREFIX + entry.name, "--data", "rows.npz", "--json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(done.stderr.strip())
    return float(json.loads(done.stdout)["top1"])


def measure(entry: ZooEntry, rows: NDArray[np.uint8], labels: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the figures of a catalog's accuracy record, measured on ``rows``."""
    if entry.timesteps is None:
        share = top1(entry.path, prepare(rows, entry.preprocessing), labels)
    else:
        share = spiking_top1(entry, rows, labels)
    return {
        "n": len(labels),
        "top1": share,
        "ci95": [round(bound, 4) for bound in wilson(share, len(labels))],
    }


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@click.command(help=str(__doc__).partition("\n")[0])
@click.option("--rows", "folders", multiple=True, metavar="DATASET=FOLDER", help="May be repeated.")
def main(folders: tuple[str, ...]) -> None:
    """Renew every measured figure of the catalog; those of data sets that are not named stay."""
    parts = (item.partition("=") for item in folders)
    given = {name: folder for name, _, folder in parts}
    for name in set(given) - set(READERS):
        raise click.UsageError(f"{name} is no data set of the zoo: {', '.join(READERS)}")
    path = FOLDER / "catalog.json"
    catalog = json.loads(path.read_text(encoding="utf-8"))
    for row in catalog["datasets"] + catalog["models"]:
        row["sha256"] = None if row["file"] is None else sha256(FOLDER / row["file"])
    _replace(path, catalog)
    entries = {entry.name: entry for entry in list_models()}
    for row in catalog["models"]:
        entry = entries[row["name"]]
        counted = entry if entry.source is None else entries[entry.source]
        row["parameters"], row["macs"] = count(counted.path)
        if entry.dataset.path is not None:
            row["bundled_accuracy"].update(measure(entry, *test_data(entry)))
        folder = given.get(entry.dataset.name)
        if folder is None:
            click.echo(f"{entry.name}: the figure on all rows stays, as no folder of them is named")
            continue
        try:
            rows, labels = READERS[entry.dataset.name](Path(folder), "test")
        except InputError as error:
            raise click.ClickException(str(error)) from error
        row["accuracy"].update(measure(entry, rows, labels))
        click.echo(f"{entry.name}: top-1 {row['accuracy']['top1']:.4f} on {len(labels)} rows")
    _replace(path, catalog)


def _replace(path: Path, catalog: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(catalog, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    main()
