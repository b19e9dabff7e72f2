"""What ``snnc compare`` says of the answers of two networks at one output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snnc.cli.quantities import lost, points

if TYPE_CHECKING:
    from snnc.ir.graph import NumberArray
    from snnc.metrics import Case, Measured, Outputs


from snnc.cli.sides import Side


def compared(a: Side, b: Side, outputs: Outputs, rows: str) -> tuple[dict[str, Any], Case]:
    """Return what both networks reach at an output, and the answers of B held to those of A."""
    from snnc.metrics import Case, threshold_of

    ends = end_of(a, b)
    task, threshold = outputs.task, threshold_of(ends)
    ours, theirs = (_ended(side, ends, outputs) for side in (a, b))
    case = Case(theirs, task, ours, outputs.labels, threshold, outputs.places)
    first = Case(ours, task, None, outputs.labels, threshold, outputs.places)
    return _judged(case, first, outputs, rows), case


def of_all_outputs(each: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what is said of the one output, or of the one that loses most and of every output."""
    if len(each) == 1:
        return next(iter(each.values()))
    counted = {name: found for name, found in each.items() if found["drop_points"] is not None}
    lost_most = max(counted or each, key=lambda name: each[name]["drop_points"] or 0.0)
    text = "\n".join(f"{name}: {found['text']}" for name, found in each.items())
    return {**each[lost_most], "output": lost_most, "outputs": each, "text": text}


def _ended(side: Side, ends: str, outputs: Outputs) -> NumberArray:
    """Return the answers of a network behind the softmax or sigmoid that the other one ends with.

    Raises:
        InputError: the axis of the other's softmax over a map is not known.
    """
    import numpy as np

    from snnc.errors import InputError
    from snnc.metrics import finished
    from snnc.metrics.task import SOFTMAXES

    if outputs.is_map and ends in SOFTMAXES and not side.ends and side.left_out != ends:
        raise InputError(f"{side.name} gives maps without the {ends} that ends the other: compare like maps")
    return side.values if side.ends else finished(side.values.astype(np.float64), ends)


def _judged(case: Case, first: Case, outputs: Outputs, rows: str) -> dict[str, Any]:
    """Return what both networks reach.

    Args:
        case: the answers of B, held to those of A and to the labels.
        first: the answers of A, held to the labels.
        outputs: what the answers are.
        rows: where they are from, in words.
    """
    from snnc.analysis.scores import measured as measure_all
    from snnc.metrics import Case, Task, measure
    from snnc.metrics.catalogue import LABELS, METRICS, OF_MAPS, measurable
    from snnc.report.document import several

    n, decided = len(case.answers), case.task is not Task.REGRESSION
    told = {each.metric: each for each in measure_all(case, outputs, None)}
    agreement = told.get("agreement") if outputs.places is None else None
    lines = []
    headline = "top1" if decided else "psnr" if outputs.is_map else "r2"
    measured, drop = "agreement" if decided else headline, None
    scores: list[Measured | None] = [None, None]
    if agreement is not None:
        drop = points(1 - agreement.value)
        lines = [f"Their answers agree on {_percent(agreement)} of {several(n, 'row')} ({rows})."]
    if case.labels is not None and case.task is not None:
        measured = "accuracy" if decided else headline
        scores = [measure(headline, each) for each in (first, case)]
    if scores[0] is not None and scores[1] is not None:
        if decided:
            drop = points(scores[0].value - scores[1].value)
            lines.insert(0, f"A {_percent(scores[0])}, B {_percent(scores[1])}: {lost(drop)}.")
        else:
            lines.append(f"{headline} against the labels: A {scores[0]}, B {scores[1]}.")
    if case.task is None or not decided or case.answers.shape[1] == 1:
        others = [
            each for each in told.values() if each.metric != "agreement" and not METRICS[each.metric].decides
        ]
        names = OF_MAPS if outputs.is_map else ("r2", "sqnr", "cosine")
        if not others:  # a yes or no is a number, too
            others = [*measurable(Case(case.answers, case.task, case.source), names)]
        if not decided:
            others = [measure(name, Case(case.answers, case.task, case.source)) for name in names]
            of_places = [found for found in told.values() if METRICS[found.metric].decides]
            others += [found for found in of_places if found.against != LABELS]
            lines += [
                f"{found.metric} against the labels: A {measure(found.metric, first)}, B {found}."
                for found in of_places
                if found.against == LABELS
            ]
        if others:
            listed = ", ".join(f"{each.metric} {each}" for each in others)
            lines.append(f"B against A on {several(n, 'row')} ({rows}): {listed}.")
    if case.task is None:
        lines.append("It is not known whether the outputs are classes or numbers: give --task.")
    metrics = {
        name: {**each.as_dict(), "against": "labels" if each.against == LABELS else "A"}
        for name, each in told.items()
    }
    return {
        "task": None if case.task is None else case.task.value,
        "measured": measured,
        "a": None if scores[0] is None else scores[0].value,
        "b": None if scores[1] is None else scores[1].value,
        "agreement": None if agreement is None else agreement.value,
        "metrics": metrics,
        "n": n,
        "drop_points": drop,
        "text": " ".join(lines),
    }


def _percent(found: Measured) -> str:
    if found.interval is None:
        return f"{found.value:.2%}"
    low, high = found.interval
    return f"{found.value:.2%} [{low:.2%}, {high:.2%}]"


def end_of(a: Side, b: Side) -> str:
    """Return the activation that the source network ends with, as far as either knows of one."""
    return a.ends or b.ends or a.left_out or b.left_out
