"""Compression of latents: how few bits of a row are enough to replay it."""

# PyTorch is an extra: where it is absent, the checkers see its names as Any.
# mypy: disable-error-code="import-not-found"
# mypy: allow-untyped-calls, no-warn-unused-ignores, no-warn-return-any
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from onnx import TensorProto, helper, numpy_helper

import snnc
from benchmarks.adapt.common import KNOWN
from benchmarks.common import corpus_data
from benchmarks.common.tables import table
from snnc.adaptation import Options
from snnc.adaptation.buffer import or_windows
from snnc.adaptation.gradient import Lesson, learn
from snnc.artefact import Artefact
from snnc.backends import load_simulator
from snnc.ir.cut import Cut, find_cut
from snnc.ir.graph import IntArray
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.metrics.shares import Share
from snnc.simulation.protocol import RecordOptions

WINDOW = 8


@click.command()
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT, show_default=True)
@click.option("--timesteps", default=64, show_default=True)
@click.option("--epochs", default=40, show_default=True)
@click.option("--rows", default=200, show_default=True, help="Rows of each class that are kept.")
def compression(shared: Path, timesteps: int, epochs: int, rows: int) -> None:
    """Spoken digits: five known, five learned at once, with latents kept in several forms."""
    x, y, test_x, test_y = spoken_digits(shared)
    artefact = digit_network(x[y < KNOWN], y[y < KNOWN], timesteps)
    first = artefact.graph.of_type(IntegrateFire)[0].name
    cut = find_cut(artefact.graph, first)
    train = trains_at(artefact, cut, x)
    counts = train.sum(axis=0)
    old, new = y < KNOWN, y >= KNOWN
    kept = np.concatenate([np.flatnonzero(y == label)[:rows] for label in range(KNOWN)])
    bits = train.shape[0] * train.shape[2]

    def learned(again: IntArray, labels: IntArray, first: IntArray) -> Share:
        lesson = Lesson(np.concatenate([first, again]), np.concatenate([y[new], labels]))
        graph, _ = learn(artefact.graph, cut, lesson, Options(epochs=epochs))
        return simulated(graph, artefact, test_x, test_y)

    windows = or_windows(train, WINDOW)
    fired = windows.sum(axis=1)
    ratio = np.maximum(counts[new].sum(axis=0), 1) / np.maximum(fired[new].sum(axis=0), 1)
    estimated = np.rint(fired * ratio).astype(np.int64)
    width = int(counts.max()).bit_length()
    every = learned(counts[old], y[old], counts[new])
    forms = (
        ("full spike trains, bit-packed", bits, counts),
        ("counts", counts.shape[1] * width, counts),
        (f"{WINDOW} steps OR-ed", windows.shape[1] * windows.shape[2], estimated),
    )
    lines = [["all rows (joint)", "", "", str(every), "100.0 %"]]
    for name, size, values in forms:
        found = learned(values[kept], y[kept], values[new])
        share = f"{100 * found.value / every.value:.1f} %"
        lines.append([name, f"{math.ceil(size / 8)} bytes", f"{bits / size:.1f}", str(found), share])
    lines.append(["nothing", "", "", str(learned(counts[:0], y[:0], counts[new])), ""])
    print(f"{rows} rows of each old class kept; T = {timesteps}, {train.shape[2]} neurons.\n")
    print(table(("latents", "a row", "times smaller", "accuracy, all classes", "of joint"), lines))


def spoken_digits(shared: Path) -> tuple[Any, IntArray, Any, IntArray]:
    """Return log spectrograms, (rows, 20 x 20), of training and test recordings, and their digits."""
    found = []
    for part in ("train", "test_dev"):
        with np.load(shared / "streams" / f"fsdd_{part}.npz", allow_pickle=False) as archive:
            offsets, audio, y = archive["offsets"], archive["audio"], archive["y"].astype(np.int64)
        rows = [spectrogram(audio[a:b]) for a, b in pairwise(offsets)]
        found += [np.array(rows, np.float32), y]
    mean, std = found[0].mean(), found[0].std()
    return (found[0] - mean) / std, found[1], (found[2] - mean) / std, found[3]


def spectrogram(audio: Any) -> Any:
    """Return the log power in 20 bands of equal width in mel, in 20 frames over the whole recording."""
    bands, frames, length = 20, 20, 256
    padded = np.pad(audio.astype(np.float64), (0, max(0, length - len(audio))))
    starts = np.linspace(0, len(padded) - length, frames).astype(np.int64)
    windows = padded[starts[:, None] + np.arange(length)] * np.hanning(length)
    power = np.abs(np.fft.rfft(windows)) ** 2
    mel = np.linspace(0, 2595 * np.log10(1 + 4000 / 700), bands + 1)
    edges = (700 * (10 ** (mel / 2595) - 1) / 4000 * (power.shape[1] - 1)).astype(np.int64)
    parts = [power[:, a : max(b, a + 1)].mean(axis=1) for a, b in pairwise(edges)]
    return np.log(np.array(parts).T + 1e3).reshape(-1)


def digit_network(x: Any, y: IntArray, timesteps: int) -> Artefact:
    """Train a perceptron of two hidden layers on the known digits, and convert it to binary spikes."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = nn.Sequential(
        nn.Linear(x.shape[1], 128),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, KNOWN),
    )
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-4)
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(40):
        for part in torch.randperm(len(rows)).split(64):
            loss = functional.cross_entropy(
                network(rows[part] + 0.1 * torch.randn_like(rows[part])), labels[part]
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    nodes, constants, read = [], [], "x"
    for number, layer in enumerate(layers):
        values = {f"w{number}": layer.weight, f"b{number}": layer.bias}
        constants += [numpy_helper.from_array(v.detach().numpy(), name) for name, v in values.items()]
        last = number == len(layers) - 1
        nodes.append(helper.make_node("Gemm", [read, *values], ["y" if last else f"g{number}"], transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [f"g{number}"], [f"r{number}"]))
        read = f"r{number}"
    graph = helper.make_graph(
        nodes,
        "spoken_digits",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", x.shape[1]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", KNOWN])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content = model.SerializeToString()
    return snnc.convert(content, x[:500], timesteps=timesteps, preset="binary-only", threads=1)


def trains_at(artefact: Artefact, cut: Cut, x: Any) -> IntArray:
    """Return the spikes at the cut, (steps, rows, F)."""
    simulator = load_simulator("numba", 1)
    record = RecordOptions(trains=(cut.latent,), until=(cut.latent,))
    trace = simulator.run(artefact.graph, artefact.encode(x), artefact.graph.timesteps, record)
    return trace.trains[cut.latent].astype(np.int64)


def simulated(graph: SnnGraph, artefact: Artefact, x: Any, y: IntArray) -> Share:
    """Return the accuracy of the spiking network itself, step by step."""
    simulator = load_simulator("numba", 1)
    logits = simulator.run(graph, artefact.encode(x), graph.timesteps).logits
    return Share(int((logits.argmax(axis=1) == y).sum()), len(y))
