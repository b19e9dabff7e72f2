"""Pictures of what a network answers: against the step, and one image walked through its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snnc.analysis.answers import all_outputs_of
from snnc.artefact import Artefact
from snnc.errors import UsageError
from snnc.ir.batch import Rows
from snnc.ir.graph import FloatArray
from snnc.metrics.task import Task
from snnc.report.class_names import classes_of
from snnc.report.drawing import INK, SERIES, Chart, figure_of, finished, percent, plain, wrapped
from snnc.report.recording import Recorded
from snnc.simulation.reference import ReferenceSimulator

MOST = 5
"""Values whose lines or bars are drawn."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a network says of one row after every step.

    Attributes:
        values: (T + K, outputs), in units of the source, as if the run had ended there.
        shares: (T + K, outputs), the confidence in each class; ``None`` where the outputs are no classes.
        names: of the outputs.
        steps: after which step each answer is; the last alone, where ordinary ONNX makes it.
    """

    values: FloatArray
    shares: FloatArray | None
    names: tuple[str, ...]
    steps: tuple[int, ...]

    @property
    def shown(self) -> FloatArray:
        """What is drawn: confidences where there are classes, else values."""
        return self.values if self.shares is None else self.shares

    def first(self) -> list[int]:
        """Return the outputs that are largest at the end, in descending order."""
        return [int(i) for i in np.argsort(-self.shown[-1], kind="stable")[:MOST]]


def answer(artefact: Artefact, row: Rows, classes: Sequence[str], timesteps: int) -> Answer:
    """Return what a network answers to one row.

    Args:
        artefact: the network.
        row: (1, ...) as the artefact takes it.
        classes: names of the outputs; numbers by default.
        timesteps: T.

    Raises:
        UsageError: there are several outputs, or a map, or another number of names.
    """
    artefact.require_plain("this picture")
    graph = artefact.graph
    readout = graph.readout
    if np.prod(readout.shape[1:], dtype=int) > 1:
        raise UsageError(f"this picture is of a vector of answers, and {graph.name} answers with a map")
    found = all_outputs_of(
        graph,
        artefact.encode,
        row,
        simulator=ReferenceSimulator(),
        timesteps=timesteps,
        per_step=artefact.host is None,
        finish=artefact.finish,
    )
    (values,) = found.values()
    if artefact.host is None:
        over = np.minimum(np.arange(1, len(values) + 1), timesteps)
        flat = values.reshape(len(values), *readout.shape)
        real = np.stack([readout.real(y, int(t)) for y, t in zip(flat, over, strict=True)])
    else:
        real = values.astype(np.float64)
    real = real.reshape(len(real), -1)
    names = classes_of(artefact, classes, real.shape[1])
    last = timesteps + graph.settle_steps
    steps = tuple(range(1, last + 1)) if artefact.host is None else (last,)
    return Answer(real, _confidence(artefact, real), names, steps)


def _confidence(artefact: Artefact, values: FloatArray) -> FloatArray | None:
    """Return the softmax of each step; ``None`` where the outputs are no classes."""
    ((name, end),) = artefact.source_ends.items()
    of_classes = artefact.metadata.stored_task is Task.CLASSES and values.shape[1] > 1
    if end and not artefact.ends[name] and (of_classes or artefact.host is not None):
        return values if end == "Softmax" else None  # it is computed already
    if not of_classes:
        return None
    e = np.exp(values - values.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def answers(found: Answer, when: str, label: int | None = None) -> Chart:
    """Draw the answer against the step.

    Args:
        found: the answer.
        when: what was run, in words.
        label: the right class, if it is known.
    """
    first, shown = found.first(), found.shown
    if label is not None and label not in first:
        first.append(label)
    is_share = found.shares is not None
    factor = 100 if is_share else 1
    steps = np.array(found.steps)
    with figure_of(5.4, 3.0) as figure:
        ax = figure.add_subplot()
        for number, index in enumerate(first):
            right = " (right)" if index == label else ""
            ax.plot(
                steps,
                factor * shown[:, index],
                color=SERIES[number % len(SERIES)],
                marker="os^Dvx"[number % 6],
                linewidth=1.4,
                label=plain(found.names[index] + right),
            )
        ax.set_xticks(steps if len(steps) <= 16 else steps[:: -(-len(steps) // 16)])
        ax.set_xlabel("step")
        ax.set_ylabel("confidence, %" if is_share else "value")
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
        best = shown.argmax(axis=1)
        other = np.flatnonzero(best != best[-1])
        settled = steps[other[-1] + 1 if len(other) else 0]
        last = found.names[int(best[-1])]
        told = percent(float(shown[-1].max())) if is_share else f"{shown[-1].max():.4g}"
        right = "" if label is None else f" The label is {found.names[label]}."
        if len(steps) == 1 and settled > 1:
            right += " Ordinary ONNX makes it, behind the last step alone."
        return finished(
            figure,
            "answers",
            f"Answer after every step, {when}",
            f"Lines of the {len(first)} largest at the end. The answer is {last}, {told}, from step "
            f"{settled} "
            f"on.{right}",
            ("step", "answer", *(found.names[index] for index in first)),
            [
                (
                    str(t),
                    found.names[int(best[row])],
                    *(percent(float(shown[row, i])) if is_share else f"{shown[row, i]:.4g}" for i in first),
                )
                for row, t in enumerate(steps)
            ],
        )


def walk(image: FloatArray, layers: Sequence[Recorded], found: Answer, when: str) -> Chart:
    """Draw one image on its way: what every layer has sent at the end, then the answer.

    Args:
        image: (channels, height, width) or (features,), as the network takes it.
        layers: its populations on that row.
        found: the answer.
        when: what was run, in words.
    """
    columns = min(4, len(layers) + 2)
    lines = -(-(len(layers) + 2) // columns)
    rows = []
    with figure_of(1.9 * columns, 0.3 + 1.9 * lines) as figure:
        figure.subplots_adjust(hspace=0.6, wspace=0.3)
        ax = figure.add_subplot(lines, columns, 1)
        ax.imshow(_picture(image), cmap="gray")
        ax.set_title("input", fontsize=8)
        ax.set_axis_off()
        for number, layer in enumerate(layers):
            sent = layer.spikes.sum(axis=0)
            ax = figure.add_subplot(lines, columns, number + 2)
            ax.imshow(_map(np.abs(sent)), cmap="cividis", vmin=0)
            ax.set_title(wrapped(layer.node.name, 20), fontsize=8)
            ax.set_axis_off()
            channel = int(np.abs(sent).reshape(len(sent), -1).sum(axis=1).argmax())
            rows.append(
                (
                    layer.node.name,
                    " x ".join(map(str, layer.node.shape)),
                    f"{int(np.abs(layer.spikes).sum()):,}",
                    percent(np.count_nonzero(layer.events()) / sent.size),
                    str(channel),
                )
            )
        ax = figure.add_subplot(lines, columns, len(layers) + 2)
        first = found.first()[::-1]
        ax.barh(
            [plain(found.names[index]) for index in first],
            [(100 if found.shares is not None else 1) * found.shown[-1, index] for index in first],
            color=SERIES[0],
            edgecolor=INK,
            linewidth=0.4,
        )
        ax.tick_params(labelsize=7)
        ax.set_title("confidence, %" if found.shares is not None else "answer", fontsize=8)
        told = found.names[first[-1]]
        return finished(
            figure,
            "walk",
            f"One image through the network, {when}",
            f"The input, then the spikes that each of {len(layers)} layers has sent at every position, the "
            f"mean of "
            f"its channels, then the answer: {told}.",
            ("layer", "shape", "spikes", "neurons that fired", "busiest channel"),
            rows,
        )


def _picture(image: FloatArray) -> FloatArray:
    """Return an input as it is shown: in colour where it has three channels, else in grey."""
    low, high = float(image.min()), float(image.max())
    scaled = (image - low) / (high - low if high > low else 1.0)
    return scaled.transpose(1, 2, 0) if image.ndim == 3 and len(image) == 3 else _map(scaled)


def _map(values: FloatArray) -> FloatArray:
    """Return values as a map: the mean of channels, or a vector in lines as square as they can be."""
    if values.ndim == 3 and max(values.shape[1:]) > 1:
        return values.mean(axis=0)
    flat = values.ravel().astype(np.float64)
    wide = int(np.ceil(np.sqrt(flat.size)))
    padded = np.full(wide * -(-flat.size // wide), np.nan)
    padded[: flat.size] = flat
    return padded.reshape(-1, wide)
