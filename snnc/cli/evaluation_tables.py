"""What ``snnc eval`` prints: the tables of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnc.cli.judging import metric_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snnc.analysis.costs import Costs
    from snnc.analysis.early_exit import Exits
    from snnc.analysis.evaluation import Evaluation, Judged, Share
    from snnc.analysis.scores import Scores
    from snnc.cli.terminal import Terminal
    from snnc.metrics import Measured

UNLABELLED = "No accuracy is known: the rows have no labels `y`."
NOT_EVIDENT = "It is not known whether the outputs are classes or numbers: give --task."


def show(terminal: Terminal, found: Evaluation, *, labelled: bool) -> None:
    """Write the table: the spiking network, and the source beside it where it was run.

    Of several outputs each has a table of its own, and what all have in common comes last.
    """
    several = len(found.outputs) > 1
    for name, judged in found.outputs.items():
        rows, lines = _judgement(judged, labelled=labelled and not several)
        if not several:
            rows += _costs(found, judged)
        _table(terminal, f"output {name}" if several else "", rows, judged)
        if lines:
            terminal.text("\n".join(lines))
    if several:
        last = list(found.outputs.values())[-1]
        _table(terminal, "all outputs", _costs(found, last), last)


def show_source(
    terminal: Terminal, found: Mapping[str, Scores], rows: int, macs: int | None, *, labelled: bool
) -> None:
    """Write the table of a source network, by the names of its outputs."""
    from snnc.metrics import Task

    several = len(found) > 1
    common = [("rows", str(rows)), ("MACs", _count(macs))]
    for name, scores in found.items():
        told = []
        if scores.task is Task.CLASSES:
            told = [("top-1", _share(scores.top1)), ("top-5", _share(scores.top5))]
        told += metric_lines(_others(scores))
        terminal.table((name if several else "", "ANN"), told if several else told + common)
    if several:
        terminal.table(("all outputs", "ANN"), common)
    if not labelled:
        terminal.text(UNLABELLED)


def _table(terminal: Terminal, title: str, rows: list[tuple[str, str, str]], judged: Judged) -> None:
    """Write a table, without the source's column where that was not run."""
    columns = (title, "SNN", "ANN")
    if judged.ann is None:
        terminal.table(columns[:2], [row[:2] for row in rows if row[1]])
    else:
        terminal.table(columns, rows)


def _judgement(judged: Judged, *, labelled: bool) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Return the rows of one output, and what is said below them."""
    from snnc.metrics import Task

    scores, ann = judged.scores, judged.ann
    rows: list[tuple[str, str, str]] = []
    if scores.task is Task.CLASSES:
        rows = [
            ("top-1", _share(scores.top1), _share(ann.scores.top1) if ann else ""),
            ("top-5", _share(scores.top5), _share(ann.scores.top5) if ann else ""),
        ]
    beside = {} if ann is None else dict(metric_lines(ann.scores.measured))
    for name, value in metric_lines(_others(scores)):
        rows.append((name, value, beside.get(name, "")))
    lines: list[str] = []
    if not labelled and not any(each.against == "labels" for each in scores.measured):
        lines = [UNLABELLED]
    if scores.task is None:
        lines.append(NOT_EVIDENT)
    if ann is not None and ann.agreement is not None:
        lines += [f"SNN and ANN agree on {_share(ann.agreement)} of the rows."]
    if ann is not None and (paired := ann.paired) is not None:
        low, high = (100 * end for end in paired.interval)
        lines.append(
            f"The conversion costs {100 * paired.drop:.2f} points [{low:.2f}, {high:.2f}]: "
            f"of {paired.n} rows the ANN alone is right on {paired.only_ann}, the SNN on {paired.only_snn}."
        )
    return rows, lines


def _costs(found: Evaluation, judged: Judged) -> list[tuple[str, str, str]]:
    """Return the rows that no output has alone."""
    costs, ann = found.costs, judged.ann
    return [
        ("rows", str(judged.scores.n), str(ann.scores.n) if ann else ""),
        ("time steps", f"T = {found.timesteps}, K = {found.settle_steps}", ""),
        ("latency, steps", str(found.latency_steps), ""),
        ("spike payload", found.payload, ""),
        ("spikes per neuron per step", f"{costs.spikes_per_neuron_per_step:.4f}", ""),
        ("neurons that fire in a step", f"{costs.events_per_neuron_per_step:.2%}", ""),
        ("synaptic operations per image", _count(costs.synops), ""),
        ("the same without zero weights", _count(costs.effective_synops), ""),
        ("zero weights", f"{costs.zero_weights:.1%}", ""),
        ("accumulates per image", _count(costs.acs), ""),
        ("MACs per image, layer 1 included", _count(costs.macs), _count(ann.macs) if ann else ""),
        *_own_operations(costs),
    ]


def _own_operations(costs: Costs) -> list[tuple[str, str, str]]:
    """Return the rows of what functions of counts and step functions compute, where there are any."""
    figures = (
        ("products of counts, among the MACs", costs.products),
        ("table look-ups per image", costs.lookups),
        ("divisions and roots per image", costs.divisions),
    )
    return [(name, _count(value), "") for name, value in figures if value]


def when_sure(exits: Exits) -> list[tuple[str, str]]:
    """Return the rows of what is saved."""
    found = exits.as_dict()
    told = found["latency_steps"], found["synops"]
    latency, synops = ({name: each[name] for name in ("mean", "p50", "p90", "p99")} for each in told)
    return [
        *([] if exits.top1 is None else [("top-1", _share(exits.top1))]),
        ("the answer of all steps", _share(exits.agreement)),
        ("latency, steps", ", ".join(f"{name} {value:.3g}" for name, value in latency.items())),
        ("synaptic operations", ", ".join(f"{name} {_count(value)}" for name, value in synops.items())),
    ]


def _others(scores: Scores) -> list[Measured]:
    """Return the metrics that have no line of their own."""
    from snnc.metrics import Task

    own = ("top1", "agreement") if scores.task is Task.CLASSES else ("agreement",)
    return [each for each in scores.measured if each.metric not in own]


def _share(found: Share | None) -> str:
    if found is None:
        return "-"
    low, high = found.interval
    return f"{found.value:.2%} [{low:.2%}, {high:.2%}]"


def _count(value: float | None) -> str:
    if value is None:
        return "unknown"
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g}"
