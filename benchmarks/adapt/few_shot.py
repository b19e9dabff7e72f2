"""Few-shot learning: prototypes of counts against prototypes of float features, on the same rows."""

# mypy: allow-untyped-calls, no-warn-return-any

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import TensorProto, helper

import snnc
from benchmarks.adapt.common import CLASSES, TIMESTEPS, encoder
from benchmarks.common import corpus_data
from benchmarks.common.tables import table
from snnc.backends import load_simulator
from snnc.ir.bounds import count_bounds
from snnc.ir.cut import find_cut
from snnc.ir.graph import IntArray
from snnc.numerics.count_sums import summed
from snnc.numerics.prototypes import prototypes
from snnc.simulation.latents import counts_at

Z95 = 1.959963984540054


@click.command("few-shot")
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT, show_default=True)
@click.option("--rows", default=3000, show_default=True, help="Test rows of CIFAR-10 that are drawn from.")
@click.option("--episodes", default=600, show_default=True)
@click.option("--threads", default=1, show_default=True)
def few_shot(shared: Path, rows: int, episodes: int, threads: int) -> None:
    """Features of a network trained on CIFAR-100, classes of CIFAR-10, which it never saw."""
    import onnxruntime

    network = next(n for n in corpus_data.networks(shared) if n.name == "chenyaofo_cifar100_resnet20")
    sets = corpus_data.sets(shared, network, 300)
    artefact = snnc.convert(
        str(network.path),
        sets.calibration,
        timesteps=TIMESTEPS,
        preset="fast",
        preprocessing=sets.preprocessing,
        threads=threads,
    )
    x, y = corpus_data.load(shared / "data", "cifar10_test_dev")
    x, y = x[:rows], y[:rows]
    cut, simulator = find_cut(artefact.graph), load_simulator("numba", threads)
    counts = counts_at(artefact.graph, cut, encoder(artefact, x), len(x), simulator)
    model = onnx.load(str(network.path))
    read = next(node for node in reversed(model.graph.node) if node.op_type == "Gemm").input[0]
    model.graph.output.append(helper.make_tensor_value_info(read, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    name = session.get_inputs()[0].name
    parts = [artefact.canonical(x[start : start + 250]) for start in range(0, len(x), 250)]
    found: list[Any] = [session.run([read], {name: part})[0] for part in parts]
    features = np.concatenate(found).reshape(len(x), -1)
    bound = count_bounds(artefact.graph, artefact.graph.timesteps)[cut.latent]
    lines = []
    for shots in (1, 5):
        shares = np.array([episode(counts, features, y, shots, seed, bound) for seed in range(episodes)])
        spread = Z95 * shares.std(axis=0, ddof=1) / math.sqrt(episodes)
        apart = shares[:, 0] - shares[:, 1]
        margin = Z95 * apart.std(ddof=1) / math.sqrt(episodes)
        lines.append(
            [
                f"5-way {shots}-shot",
                *(
                    f"{100 * m:.2f} ± {100 * s:.2f} %"
                    for m, s in zip(shares.mean(axis=0), spread, strict=True)
                ),
                f"{100 * apart.mean():+.2f} ± {100 * margin:.2f} points",
            ]
        )
    head = (
        f"{episodes} episodes, 15 queries a class",
        "int8 prototypes of counts",
        "float features",
        "apart",
    )
    print(table(head, lines))


def episode(
    counts: IntArray, features: Any, y: IntArray, shots: int, seed: int, bound: int
) -> tuple[float, float]:
    """Return the accuracy of int8 prototypes and of float ones on the same rows."""
    random = np.random.default_rng(seed)
    ways = np.sort(random.choice(CLASSES, 5, replace=False))
    drawn = [random.choice(np.flatnonzero(y == label), shots + 15, replace=False) for label in ways]
    support = np.concatenate([each[:shots] for each in drawn])
    query = np.concatenate([each[shots:] for each in drawn])
    weight = prototypes(summed(counts[support], y[support], bound, gram=False)).astype(np.int64)
    ours = ways[(counts[query] @ weight.T).argmax(axis=1)] == y[query]
    means = np.array([features[each[:shots]].mean(axis=0) for each in drawn])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    theirs = ways[(features[query] @ means.T).argmax(axis=1)] == y[query]
    return float(ours.mean()), float(theirs.mean())
