"""What is asked of an evaluation, and its parts: both networks on consecutive rows, wherever they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from snnc.analysis.answers import Source, answers_of_run
from snnc.analysis.scores import Answers, Reduced, wants_values
from snnc.errors import InternalError, UsageError
from snnc.ir.batch import Rows
from snnc.ir.graph import NumberArray, Shape
from snnc.ir.layout import InputLayout
from snnc.ir.snn import SnnGraph
from snnc.metrics.ending import computes_end
from snnc.metrics.outputs import Asked, Labels, metrics_by_output, recognise_outputs
from snnc.metrics.task import Outputs, Task, threshold_of
from snnc.simulation.protocol import Activity, RecordOptions, Simulator
from snnc.source.finish import Finish


@dataclass(frozen=True, slots=True)
class Part:
    """What both networks made of some consecutive rows.

    Attributes:
        spiking: the answers of the spiking network by the output's name: (n, values), or reduced.
        analogue: the same of the source network; empty where there is none.
        activity: events of every population.
    """

    spiking: Mapping[str, NumberArray | Reduced]
    analogue: Mapping[str, NumberArray | Reduced]
    activity: Mapping[str, Activity]


Parts = Callable[[Mapping[str, Answers], Mapping[str, Answers]], Iterator[tuple[slice, Part]]]
"""Runs all rows somewhere else, and yields what was made of them, in order. It is given what is collected of
the spiking and of the source network, by output."""


def run_part(
    graph: SnnGraph,
    encode: Callable[[Rows], Rows],
    x: Rows,
    steps: int,
    *,
    simulator: Simulator,
    counter: Simulator,
    source: Source | None = None,
    layouts: Mapping[str, InputLayout] = {},
    finish: Finish | None = None,
    outputs: Sequence[str] = (),
) -> Part:
    """Run both networks on some rows; see :func:`snnc.analysis.evaluation.evaluate` for the arguments.

    Args:
        graph: the spiking network.
        encode: from rows to its input.
        x: the rows.
        steps: T.
        simulator: what runs it, with what ordinary ONNX makes of it where that is ``finish``.
        counter: what counts the spikes, likewise.
        source: the network to compare with.
        layouts: of the outputs.
        finish: what ordinary ONNX makes of a run.
        outputs: those of the source that are wanted.

    Raises:
        InternalError: the two simulators disagree on an integer network.
    """
    q = encode(x)
    trace = counter.run(graph, q, steps, RecordOptions(activity=True))
    answered = trace if counter is simulator else simulator.run(graph, q, steps, RecordOptions())
    differ = [n for n, each in trace.outputs.items() if not np.array_equal(each, answered.outputs[n])]
    if graph.integer and differ:
        raise InternalError(f"the simulators {simulator.name} and {counter.name} differ on {graph.name}")
    found = answers_of_run(graph.readouts, answered, x, layouts, finish)
    return Part(
        {name: values.reshape(len(values), -1) for name, values in found.items()},
        {} if source is None else source.answers(x, outputs),
        dict(trace.activity),
    )


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked of the answers of both networks.

    Attributes:
        outputs: what each output is, by its name.
        metrics: that are asked of it.
        ends: the activation that the source ends it with.
        behind: whether the spiking network's answers lie behind that activation, by output.
    """

    outputs: Mapping[str, Outputs]
    metrics: Mapping[str, Asked]
    ends: Mapping[str, str]
    behind: Mapping[str, bool]

    def collectors(self) -> tuple[dict[str, Answers], dict[str, Answers]]:
        """Return what collects the answers of the spiking and of the source network, by output."""

        def collector(name: str, threshold: float) -> Answers:
            outputs = self.outputs[name]
            return Answers(outputs, threshold, wants_values(outputs, self.metrics[name]))

        thresholds = {name: threshold_of(self.ends[name]) for name in self.outputs}
        return (
            {name: collector(name, each if self.behind[name] else 0.0) for name, each in thresholds.items()},
            {name: collector(name, each) for name, each in thresholds.items()},
        )


def ask(
    graph: SnnGraph,
    rows: int,
    y: Labels,
    *,
    ends: str | Mapping[str, str] = "",
    task: Task | str | Mapping[str, Task | None] | None = None,
    metrics: Sequence[str] = (),
    layouts: Mapping[str, InputLayout] = {},
    finish: Finish | None = None,
    has_source: bool = False,
) -> Asking:
    """Find out what the outputs are and what is asked of them.

    For the arguments see :func:`snnc.analysis.evaluation.evaluate`.

    Args:
        graph: the spiking network.
        rows: how many there are.
        y: their labels.
        ends: the activation that the source ends with, or each output by name.
        task: what the outputs are.
        metrics: those that are wanted.
        layouts: of the outputs.
        finish: what ordinary ONNX makes of a run.
        has_source: whether there is a network to compare with.
    """
    shapes = shapes_of(graph, layouts, finish)
    by_output = _by_output(shapes, ends)
    kinds = recognise_outputs(shapes, rows=rows, labels=y, ends=by_output, given=task)
    wanted = metrics_by_output(metrics, kinds, has_source=has_source)
    behind = {name: finish is not None or computes_end(graph, name, by_output[name]) for name in kinds}
    return Asking(kinds, wanted, by_output, behind)


def collect(answers: Answers, values: NumberArray | Reduced, rows: slice) -> None:
    """Add the answers to some rows, reduced or not."""
    if isinstance(values, Reduced):
        answers.join(values, rows)
    else:
        answers.add(values, rows)


def shapes_of(graph: SnnGraph, layouts: Mapping[str, InputLayout], finish: Finish | None) -> dict[str, Shape]:
    """Return the shape of each answer, by the output's name."""
    if finish is not None:
        if finish.uncounted:
            raise UsageError(
                f"the output {finish.uncounted[0]!r} has another number of entries than there are rows, so "
                "that no metric fits: convert with --keep-output NAME for the others"
            )
        return dict(finish.shapes)
    return {
        name: layouts[name].source_shape if name in layouts else node.shape
        for name, node in graph.readouts.items()
    }


def _by_output(shapes: Mapping[str, Shape], ends: str | Mapping[str, str]) -> dict[str, str]:
    if isinstance(ends, str):
        return dict.fromkeys(shapes, ends)
    return {name: ends.get(name, "") for name in shapes}
