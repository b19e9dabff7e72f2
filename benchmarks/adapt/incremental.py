"""Class-incremental CIFAR-10: five classes known, five learned one after the other."""

# PyTorch is an extra: where it is absent, the checkers see its names as Any.
# mypy: disable-error-code="import-not-found"
# mypy: allow-untyped-calls, no-warn-unused-ignores, no-warn-return-any
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

import snnc
from benchmarks.adapt.common import CLASSES, KNOWN, TIMESTEPS, encoder
from benchmarks.common import corpus_data
from benchmarks.common.tables import table
from snnc.adaptation import Options
from snnc.adaptation.adapting import rebuilt, started
from snnc.adaptation.buffer import ReplayBuffer
from snnc.adaptation.gradient import Lesson, learn
from snnc.artefact import Artefact
from snnc.artefact.adaptations import Adaptation, Edit, Head
from snnc.backends import load_simulator
from snnc.ir.bounds import count_bounds
from snnc.ir.cut import Cut, find_cut
from snnc.ir.graph import IntArray
from snnc.ir.snn import Linear, SnnGraph
from snnc.metrics.shares import Paired, Share
from snnc.numerics.count_sums import summed
from snnc.simulation.latents import ROWS, counts_at

CIFAR = {
    "divide": 1.0,
    "mean": [125.3, 123.0, 113.9],
    "std": [63.0, 62.1, 66.7],
    "layout": "NCHW",
}
CALIBRATION = 400
BYTES = 100_000


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


@click.command()
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
