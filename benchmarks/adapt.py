"""Learning after the conversion, measured: the tables of ``docs/adapt.md``.

    python -m benchmarks.adapt_network -o resnet20_of_5.onnx          # about 10 minutes on one core
    python -m benchmarks.adapt incremental --network resnet20_of_5.onnx
    python -m benchmarks.adapt few-shot
    python -m benchmarks.adapt compression
    python -m benchmarks.adapt revocation

Each prints Markdown. The data sets and the network of `few-shot` lie in the optional folder beside the
project; `incremental` and `compression` need PyTorch.
"""

# PyTorch is an extra: where it is absent, the checkers see its names as Any.
# mypy: disable-error-code="import-not-found"
# mypy: allow-untyped-calls, no-warn-unused-ignores, no-warn-return-any
# pyright: reportMissingImports=false

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import snnc
from benchmarks.common import corpus_data
from benchmarks.common.tables import table
from snnc.adaptation import Options, adapt, revoke
from snnc.adaptation.adapting import rebuilt, started
from snnc.adaptation.buffer import ReplayBuffer, or_windows
from snnc.adaptation.gradient import Lesson, learn
from snnc.artefact import Artefact
from snnc.artefact.adaptations import Adaptation, Edit, Head
from snnc.backends import load_simulator
from snnc.ir.bounds import count_bounds
from snnc.ir.cut import Cut, find_cut
from snnc.ir.graph import IntArray
from snnc.ir.snn import IntegrateFire, Linear, SnnGraph
from snnc.metrics.shares import Paired, Share
from snnc.numerics.count_sums import summed
from snnc.numerics.prototypes import prototypes
from snnc.simulation.latents import ROWS, counts_at
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator

KNOWN, CLASSES = 5, 10
CIFAR = {
    "divide": 1.0,
    "mean": [125.3, 123.0, 113.9],
    "std": [63.0, 62.1, 66.7],
    "layout": "NCHW",
}
TIMESTEPS = 16
CALIBRATION = 400
BYTES = 100_000
WINDOW = 8
Z95 = 1.959963984540054


@click.group()
def cli() -> None:
    """Print one table."""


# Class-incremental CIFAR-10


@dataclass(frozen=True)
class Rows:
    """Counts at the cut, (rows, F), and classes."""

    counts: IntArray
    labels: IntArray

    def of(self, *classes: int) -> Rows:
        """Return the rows of some classes."""
        chosen = np.isin(self.labels, classes)
        return Rows(self.counts[chosen], self.labels[chosen])

    def up_to(self, classes: int) -> Rows:
        """Return the rows of the first classes."""
        return self.of(*range(classes))


@dataclass(frozen=True)
class Course:
    """What came of learning five classes one after the other.

    Attributes:
        name: of the method.
        memory: bytes that it keeps from step to step, in words.
        right: (steps, test rows) whether the answer is right, among the classes known so far.
        labels: (test rows,).
    """

    name: str
    memory: str
    right: tuple[Any, ...]
    labels: IntArray

    def share(self, step: int, low: int = 0, high: int = CLASSES) -> Share:
        """Return the accuracy after a step on the classes from ``low`` to ``high``."""
        chosen = (self.labels >= low) & (self.labels < high)
        return Share(int(self.right[step][chosen].sum()), int(chosen.sum()))

    @property
    def average(self) -> float:
        """Average incremental accuracy: the mean over all steps, on the classes known then."""
        steps = range(len(self.right))
        return float(np.mean([self.share(step, 0, KNOWN + step).value for step in steps]))

    @property
    def forgetting(self) -> float:
        """Mean over all classes but the last of the best accuracy so far less the last, in points."""
        lost = []
        for label in range(CLASSES - 1):
            first = max(0, label - KNOWN + 1)
            each = [self.share(step, label, label + 1).value for step in range(first, len(self.right))]
            lost.append(max(each[:-1]) - each[-1])
        return 100 * float(np.mean(lost))


def integers(graph: SnnGraph) -> tuple[IntArray, IntArray]:
    """Return the weights of the classifier and its offsets over a run."""
    linear = graph[graph.readout.inputs[0]]
    if not isinstance(linear, Linear):
        raise click.ClickException("the network has no linear classifier")
    return linear.weight.astype(np.int64), graph.readout.bias.astype(np.int64) * graph.timesteps


def right(graph: SnnGraph, rows: Rows) -> Any:
    """Return whether each answer is right; the read-out is linear in the counts, so that this is exact."""
    weight, bias = integers(graph)
    return (rows.counts @ weight.T + bias).argmax(axis=1) == rows.labels


def by_sums(artefact: Artefact, cut: Cut, train: Rows, test: Rows, head: Head) -> tuple[Course, Artefact]:
    """Learn with a head that follows from sums: the network's classes first, then one after the other."""
    bound = count_bounds(artefact.graph, artefact.graph.timesteps)[cut.latent]
    adaptation: Adaptation = started(artefact, cut, head, Options())
    found, current = [], artefact
    for step in range(CLASSES - KNOWN + 1):
        part = train.of(*range(KNOWN)) if step == 0 else train.of(KNOWN + step - 1)
        sums = summed(part.counts, part.labels, bound, gram=head is Head.LINEAR)
        classes = tuple(int(c) for c in np.unique(part.labels))
        edit = Edit(classes, len(part.labels), "", {}, sums)
        adaptation = replace(adaptation, edits=(*adaptation.edits, edit))
        current = rebuilt(artefact, adaptation)
        found.append(right(current.graph, test))
    size = sum(len(str(edit.as_dict())) for edit in adaptation.edits)
    name = "ridge on sums" if head is Head.LINEAR else "prototypes"
    return Course(name, f"{size / 1e3:,.0f} kB of sums", tuple(found), test.labels), current


def by_gradients(
    artefact: Artefact, cut: Cut, train: Rows, test: Rows, name: str, kept: Any, memory: str, epochs: int
) -> Course:
    """Learn by gradients, replaying what ``kept`` keeps of the rows of all earlier classes."""
    found, current = [], artefact.graph
    for step in range(CLASSES - KNOWN + 1):
        part = train.of(*range(KNOWN)) if step == 0 else train.of(KNOWN + step - 1)
        again = None if step == 0 else kept(train.up_to(KNOWN + step - 1))
        counts, labels = part.counts, part.labels
        if again is not None:
            counts, labels = np.concatenate([counts, again.counts]), np.concatenate([labels, again.labels])
        options = Options(epochs=max(1, epochs * len(part.labels) // len(labels)))
        current, _ = learn(current, cut, Lesson(counts, labels), options)
        found.append(right(current, test))
    return Course(name, memory, tuple(found), test.labels)


def joint(artefact: Artefact, cut: Cut, train: Rows, test: Rows, epochs: int) -> Course:
    """Learn by gradients from all rows of all classes so far, anew in every step."""
    found = []
    for step in range(CLASSES - KNOWN + 1):
        part = train.up_to(KNOWN + step)
        graph, _ = learn(artefact.graph, cut, Lesson(part.counts, part.labels), Options(epochs=epochs))
        found.append(right(graph, test))
    return Course("joint, gradients", "all rows, learned anew", tuple(found), test.labels)


@cli.command()
@click.option("--network", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT, show_default=True)
@click.option("--rows", default=1500, show_default=True, help="Training rows of each class.")
@click.option("--epochs", default=10, show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Folder in which counts are kept.")
@click.option("--threads", default=1, show_default=True)
def incremental(
    network: Path, shared: Path, rows: int, epochs: int, cache: Path | None, threads: int
) -> None:
    """CIFAR-10: five classes known, five learned one after the other."""
    artefact, train, test = counted(network, shared, rows, cache, threads)
    cut = find_cut(artefact.graph)
    streamed, last = by_sums(artefact, cut, train, test, Head.LINEAR)
    bound = count_bounds(artefact.graph, artefact.graph.timesteps)[cut.latent]
    order = np.random.default_rng(0).permutation(len(train.labels))
    sums = summed(train.counts[order], train.labels[order], bound, gram=True)
    adaptation = started(artefact, cut, Head.LINEAR, Options())
    edit = Edit(tuple(range(CLASSES)), len(order), "", {}, sums)
    whole = rebuilt(artefact, replace(adaptation, edits=(edit,)))
    equal = all(
        np.array_equal(a, b) for a, b in zip(integers(last.graph), integers(whole.graph), strict=True)
    )
    buffer = ReplayBuffer.empty(artefact.graph, cut, BYTES, train.counts.shape[1:])
    size: list[int] = []

    def latents(known: Rows) -> Rows:
        kept = buffer.with_rows(known.counts, known.labels)
        size.append(len(kept))
        return Rows(kept.latents, kept.labels)

    def images(known: Rows) -> Rows:
        each = BYTES // (3 * 32 * 32 + 2) // len(np.unique(known.labels))
        chosen = [np.flatnonzero(known.labels == label)[:each] for label in np.unique(known.labels)]
        kept = np.concatenate(chosen)
        return Rows(known.counts[kept], known.labels[kept])

    every = joint(artefact, cut, train, test, epochs)
    courses = [
        every,
        streamed,
        by_sums(artefact, cut, train, test, Head.PROTOTYPE)[0],
        by_gradients(artefact, cut, train, test, "gradients, latents", latents, "100 kB of latents", epochs),
        by_gradients(artefact, cut, train, test, "gradients, images", images, "100 kB of raw images", epochs),
        by_gradients(
            artefact, cut, train, test, "gradients, full latents", lambda known: known, "all latents", epochs
        ),
        by_gradients(
            artefact, cut, train, test, "gradients, no replay", lambda known: None, "nothing", epochs
        ),
    ]
    print(f"Streamed ridge and ridge on all rows at once: {'the same bits' if equal else 'DIFFERENT'}.")
    print(f"Rows in 100 kB of latents: {size[-1]}; raw images: {BYTES // (3 * 32 * 32 + 2)}.\n")
    head = (
        "method",
        "kept",
        "average accuracy",
        "of joint",
        "after 5 steps",
        "old",
        "new",
        "forgetting",
        "lost to joint",
    )
    print(table(head, [course_line(each, every) for each in courses]))


def course_line(course: Course, every: Course) -> list[str]:
    """Return a line of the table."""
    last = len(course.right) - 1
    return [
        course.name,
        course.memory,
        f"{100 * course.average:.1f} %",
        f"{100 * course.average / every.average:.1f} %",
        str(course.share(last)),
        str(course.share(last, 0, KNOWN)),
        str(course.share(last, KNOWN)),
        f"{course.forgetting:.1f} points",
        lost_to(course, every),
    ]


def lost_to(course: Course, every: Course) -> str:
    """Return by how much less is known of the classes learned before the last step than by joint training."""
    before = course.labels < CLASSES - 1
    ours, theirs = course.right[-1][before], every.right[-1][before]
    cells = (ours & theirs, ~ours & theirs, ours & ~theirs, ~ours & ~theirs)
    found = Paired(*(int(cell.sum()) for cell in cells))
    low, high = found.interval
    return f"{100 * found.drop:.1f} points [{100 * low:.1f}, {100 * high:.1f}]"


def encoder(artefact: Artefact, x: Any) -> Any:
    """Return what gives the quantised rows of a slice."""
    return lambda part: artefact.encode(x[part])


def counted(
    network: Path, shared: Path, rows: int, cache: Path | None, threads: int
) -> tuple[Artefact, Rows, Rows]:
    """Return the converted network, and the counts at its classifier on training and test rows."""
    x, y = corpus_data.load(shared / "data", "cifar10_train", 25_000)
    chosen = np.sort(np.concatenate([np.flatnonzero(y == label)[:rows] for label in range(CLASSES)]))
    test_x, test_y = corpus_data.load(shared / "data", "cifar10_test_dev")
    calibration = x[np.flatnonzero(y < KNOWN)[:CALIBRATION]]
    artefact = snnc.convert(
        str(network), calibration, timesteps=TIMESTEPS, preset="fast", preprocessing=CIFAR, threads=threads
    )
    cut, simulator = find_cut(artefact.graph), load_simulator("numba", threads)
    found = []
    for name, images, labels in (("train", x[chosen], y[chosen]), ("test", test_x, test_y)):
        file = None if cache is None else cache / f"{artefact.graph.name}_{name}_{len(images)}.npy"
        if file is not None and file.exists():
            counts = np.load(file, allow_pickle=False)
        else:
            counts = counts_at(artefact.graph, cut, encoder(artefact, images), len(images), simulator)
            if file is not None:
                np.save(file, counts)
        found.append(Rows(counts, labels))
    # What the table is made of is what the network answers.
    trace = simulator.run(artefact.graph, artefact.encode(test_x[:ROWS]), artefact.graph.timesteps)
    weight, bias = integers(artefact.graph)
    if not np.array_equal(trace.logits, found[1].counts[:ROWS] @ weight.T + bias):
        raise click.ClickException("the counts are of another network: empty the cache")
    return artefact, found[0], found[1]


# Few-shot learning


@cli.command("few-shot")
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


# Compression of latents


@cli.command()
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


# Revocation


@cli.command()
@click.option("--sequences", default=1000, show_default=True)
@click.option("--first", default=0, show_default=True, help="Number of the first, which is its seed.")
def revocation(sequences: int, first: int) -> None:
    """Adapt and revoke at random, and compare with networks that learned only what is left."""
    random = np.random.default_rng(0)
    weight = {"w": random.normal(size=(12, 8)), "b": random.normal(size=12), "v": random.normal(size=(4, 12))}
    constants = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weight.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["g"], transB=1),
        helper.make_node("Relu", ["g"], ["r"]),
        helper.make_node("Gemm", ["r", "v"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = random.normal(size=(200, 8)).astype(np.float32)
    artefact = snnc.convert(model.SerializeToString(), x, timesteps=4, preset="fast", threads=1)
    begin, equal, adapted, revoked = time.perf_counter(), 0, 0, 0
    for number in range(first, first + sequences):
        same, learned, gone = sequence(artefact, x, np.random.default_rng(number))
        equal, adapted, revoked = equal + same, adapted + learned, revoked + gone
    print(
        f"{equal} of {sequences} sequences byte-identical ({adapted:,} edits, {revoked:,} revocations, "
        f"{time.perf_counter() - begin:.0f} s)."
    )


def sequence(artefact: Artefact, x: Any, random: np.random.Generator) -> tuple[bool, int, int]:
    """Run one sequence; return whether the bytes are equal, and how often it learned and took back."""
    simulator = ReferenceSimulator()
    options = Options(head=(Head.LINEAR, Head.PROTOTYPE)[random.integers(2)], improve=True, gaps=True)
    current, learned, gone = artefact, 0, 0
    kept: dict[str, tuple[IntArray, IntArray]] = {}

    def step(on: Artefact, rows: IntArray, labels: IntArray) -> Any:
        return adapt(on, x[rows], labels, options, simulator)

    for _ in range(6):
        if kept and random.random() < 0.4:
            name = list(kept)[random.integers(len(kept))]
            current, _ = revoke(current, name)
            del kept[name]
            gone += 1
            continue
        rows: IntArray = random.choice(len(x), 12, replace=False)
        labels: IntArray = np.repeat(random.choice(8, 3, replace=False), 4)
        found = step(current, rows, labels)
        current, kept[found.edit.id] = found.artefact, (rows, labels)
        learned += 1
    alone: Artefact = artefact
    for rows, labels in kept.values():
        alone = step(alone, rows, labels).artefact
    contents = [each.model().SerializeToString(deterministic=True) for each in (current, alone)]
    return contents[0] == contents[1], learned, gone


if __name__ == "__main__":
    cli()
