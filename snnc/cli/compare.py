"""``snnc compare``: two networks on the same rows, or two reports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.given import refuse
from snnc.cli.judging import (
    floors,
    min_metric_option,
    missed,
    require_floors,
    require_points,
    require_right,
    task_of,
    task_option,
)
from snnc.cli.layer_errors import COMPARED_ROWS, Side, errors_against_source, layers_of_both
from snnc.cli.layouts import rows_layout, with_layout
from snnc.cli.quantities import FiniteRange, Threads, lost, points
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.analysis.evaluation import Source
    from snnc.artefact import Artefact
    from snnc.cli.models import Located
    from snnc.ir.batch import Rows
    from snnc.ir.graph import NumberArray
    from snnc.metrics import Case, Floor, Measured, Outputs
    from snnc.source.selection import Selection


@click.command("compare", cls=Verb)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="ROWS",
    help="Rows `x` and, if known, labels `y`; for a network of the zoo, its own test rows by default.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Use only the first N rows.")
@click.option(
    "--max-drop",
    type=FiniteRange(min=0),
    metavar="POINTS",
    help="Exit with 4 if B is more points below A, or, without labels, if they differ on more rows.",
)
@click.option(
    "--preprocess",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Preprocessing of a MODEL, if the other network is no artefact that stores one.",
)
@rows_layout
@click.option("--threads", type=Threads(), metavar="N", help="Number of threads; all by default.")
@min_metric_option
@task_option
@click.pass_obj
def command(
    terminal: Terminal,
    /,
    first: str,
    second: str,
    data: Path | None,
    limit: int | None,
    max_drop: float | None,
    preprocess: Path | None,
    rows_layout: str | None,
    threads: int | None,
    min_metric: tuple[str, ...],
    task: str | None,
) -> None:
    """Compare A with B: artefacts or MODELs, or two JSON files that `report --json-file` wrote."""
    from snnc.cli.figures import compare_reports
    from snnc.errors import GateError, UsageError

    limits = floors(min_metric)
    wrong: list[str] = []
    reports = [name.endswith(".json") for name in (first, second)]
    if all(reports):
        options = (
            "--data",
            "--limit",
            "--preprocess",
            "--rows-layout",
            "--threads",
            "--min-metric",
            "--task",
        )
        refuse("applies to networks, and these are reports", *options)
        found = compare_reports(Path(first), Path(second))
    elif any(reports):
        raise UsageError("a report can only be compared with a report: give two .json files, or two networks")
    else:
        asked = Asked(data, limit, preprocess, rows_layout, threads, task, limits, max_drop)
        found, wrong = _compare_networks(terminal, first, second, asked)
    if terminal.json:
        terminal.data(found)
    else:
        if found["rows"]:
            rows = [(name, *map(_told_number, numbers)) for name, *numbers in found["rows"]]
            terminal.table(("layer", *found["columns"]), rows)
        terminal.text(found["text"])
    if max_drop is not None:
        if found["drop_points"] is None:
            raise UsageError(f"--max-drop counts points, and {found['measured']} has none: use --min-metric")
        if found["measured"] == "accuracy" and not any(reports):
            require_right(found["a"], max_drop, "A", "the rows")
        if found["drop_points"] > max_drop:
            wrong.insert(0, f"{found['drop_points']:.2f} points are lost, more than --max-drop {max_drop:g}")
    if wrong:
        raise GateError("; ".join(wrong))


@dataclass(frozen=True)
class Asked:
    """The options for two networks."""

    data: Path | None
    limit: int | None
    preprocess: Path | None
    rows_layout: str | None
    threads: int | None
    task: str | None
    floors: tuple[Floor, ...]
    max_drop: float | None


def _told_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _compare_networks(
    terminal: Terminal, first: str, second: str, asked: Asked
) -> tuple[dict[str, Any], list[str]]:
    """Return what was found, and which limits on metrics are missed, in words."""
    from snnc.artefact import load
    from snnc.cli.artefacts import holds_artefact
    from snnc.cli.models import locate, open_source
    from snnc.cli.subjects import rows_of
    from snnc.data.material import is_decoded, preprocessing_beside
    from snnc.data.preprocessing import Preprocessing
    from snnc.errors import InputError, UsageError
    from snnc.metrics.outputs import labels_by_output, metrics_by_output

    data, threads = asked.data, asked.threads
    located = [locate(first), locate(second)]
    artefacts = [
        load(item.path).with_rows_layout(asked.rows_layout) if holds_artefact(item.path) else None
        for item in located
    ]
    spiking = next((item for item in artefacts if item is not None), None)
    if None not in artefacts:
        refuse("is for a MODEL, and both are artefacts, which store theirs", "--preprocess")
    hashes = [item.metadata.source_sha256 for item in artefacts if item is not None]
    hashes += [item.entry.sha256 for item in located if item.entry is not None]
    if data is None and not hashes:
        raise UsageError("no rows to compare on: name them by --data ROWS")
    preprocessing = None if spiking is None else spiking.preprocessing
    if asked.preprocess is not None:
        preprocessing = Preprocessing.read(asked.preprocess)
    elif spiking is None and data is None:
        entry = next(item.entry for item in located if item.entry is not None)
        preprocessing = Preprocessing.from_dict(entry.preprocessing)
    fixed = spiking is not None and asked.preprocess is None
    known = [preprocessing, *(item.preprocessing for item in artefacts if item is not None)]
    if data is not None and is_decoded(data) and len({(each or Preprocessing()).files for each in known}) > 1:
        raise InputError(f"the networks take what lies in {data} in other ways: give rows as an .npz file")
    if data is not None and not fixed:
        preprocessing = preprocessing_beside(data, preprocessing)
    preprocessing = with_layout(preprocessing, asked.rows_layout)
    networks = [
        artefact or open_source(terminal, item, preprocessing, threads, _selection(item, spiking))
        for item, artefact in zip(located, artefacts, strict=True)
    ]
    checks = [network.check_rows for network in networks]
    sha256 = hashes[0] if hashes else ""
    inputs = next(_inputs(network) for network in networks)
    outputs = _outputs(networks[0])
    x, y, name = rows_of(
        data,
        sha256,
        asked.limit,
        *checks,
        inputs=inputs,
        outputs=outputs,
        preprocessing=preprocessing,
        is_fixed=fixed,
    )
    sides = [
        _sides(terminal, label, network, x, threads)
        for label, network in zip((first, second), networks, strict=True)
    ]
    pairs = _pairs(*sides)
    labels = labels_by_output(y, list(outputs))
    kinds = {key: _kind(a, b, labels.get(key), len(x), asked, spiking) for key, (a, b) in pairs.items()}
    if asked.max_drop is not None:
        require_points(kinds)
    require_floors(asked.floors, kinds)
    wanted = metrics_by_output([limit.asked for limit in asked.floors], kinds, has_source=True)
    each: dict[str, dict[str, Any]] = {}
    measured: dict[str, list[Measured]] = {}
    for key, (a, b) in pairs.items():
        each[key], case = _compared(a, b, kinds[key], name)
        measured[key] = [_measure(metric, case) for metric in (wanted[key] or ()) if asked.floors]
    wrong = missed(asked.floors, measured)
    columns = ["rate in A", "rate in B", "squared difference, % of A"]
    rows = layers_of_both(artefacts[0], artefacts[1], x[:COMPARED_ROWS], threads)
    if sum(item is None for item in artefacts) == 1:
        spikes = 0 if artefacts[0] is not None else 1
        columns = ["error alone, %", "error in the running network, %", "SQNR, dB"]
        against = (located[spikes], located[1 - spikes])
        rows = errors_against_source(terminal, *against, data, x, asked.rows_layout, threads)
    return {"compared": "networks", **_of_all(each), "columns": columns, "rows": rows}, wrong


def _selection(item: Located, spiking: Artefact | None) -> Selection | None:
    """Return what an artefact took of this file, where it is its source."""
    from snnc.frontend.loading import load

    if spiking is None or not spiking.metadata.selection:
        return None
    is_source = load(item.path).sha256 == spiking.metadata.source_sha256
    return spiking.selection if is_source else None


def _inputs(network: Artefact | Source) -> list[str]:
    from snnc.analysis.evaluation import Source

    return list(network.session.inputs if isinstance(network, Source) else network.takes)


def _outputs(network: Artefact | Source) -> list[str]:
    from snnc.analysis.evaluation import Source

    return list(network.session.all_ends if isinstance(network, Source) else network.gives)


def _pairs(a: dict[str, Side], b: dict[str, Side]) -> dict[str, tuple[Side, Side]]:
    """Return what both networks answer at each output, by its name in A; the only ones may differ in it.

    Raises:
        InputError: they have other outputs, or of other shapes.
    """
    from snnc.errors import InputError

    if len(a) == len(b) == 1:
        pairs = {name: (side, other) for name, side in a.items() for other in b.values()}
    else:
        for whose, has, other, lacks in (("A", a, "B", b), ("B", b, "A", a)):
            missing = [name for name in has if name not in lacks]
            if missing:
                raise InputError(
                    f"{whose} has an output {missing[0]!r}, and {other} has none of that name: nothing to "
                    "compare it with; convert with --keep-output NAME for those of both"
                )
        pairs = {name: (side, b[name]) for name, side in a.items()}
    for name, (one, two) in pairs.items():
        of = f" at {name!r}" if len(pairs) > 1 else ""
        if one.values.shape != two.values.shape:
            raise InputError(
                f"A has {one.values.shape[1]} outputs{of} and B {two.values.shape[1]}: nothing to compare"
            )
        axes = [tuple(length for length in side.shape if length > 1) for side in (one, two)]
        if axes[0] != axes[1] and min(map(len, axes)) > 1:
            raise InputError(
                f"A answers{of} with maps of {one.shape} and B of {two.shape}: nothing to compare"
            )
    return pairs


def _kind(
    a: Side, b: Side, labels: NumberArray | None, rows: int, asked: Asked, spiking: Artefact | None
) -> Outputs:
    """Return what an output of both networks is."""
    from snnc.metrics.outputs import recognise_output

    is_map = sum(length > 1 for length in a.shape) > 1
    is_only = spiking is not None and len(spiking.gives) == 1
    stored = spiking.metadata if is_only and spiking is not None else None
    return recognise_output(
        "" if a.output is None else a.output,
        a.shape if is_map else b.shape,
        rows=rows,
        labels=labels,
        ends=_end(a, b),
        given=task_of(asked.task),
        stored=task_of(None, stored),
    )


def _end(a: Side, b: Side) -> str:
    """Return the activation that the source network ends with, as far as either knows of one."""
    return a.ends or b.ends or a.left_out or b.left_out


def _compared(a: Side, b: Side, outputs: Outputs, rows: str) -> tuple[dict[str, Any], Case]:
    """Return what both networks reach at an output, and the answers of B held to those of A."""
    from snnc.metrics import Case, threshold_of

    ends = _end(a, b)
    task, threshold = outputs.task, threshold_of(ends)
    ours, theirs = (_ended(side, ends, outputs) for side in (a, b))
    case = Case(theirs, task, ours, outputs.labels, threshold, outputs.places)
    first = Case(ours, task, None, outputs.labels, threshold, outputs.places)
    return _judged(case, first, outputs, rows), case


def _of_all(each: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what is said of the one output, or of the one that loses most and of every output."""
    if len(each) == 1:
        return next(iter(each.values()))
    counted = {name: found for name, found in each.items() if found["drop_points"] is not None}
    lost_most = max(counted or each, key=lambda name: each[name]["drop_points"] or 0.0)
    text = "\n".join(f"{name}: {found['text']}" for name, found in each.items())
    return {**each[lost_most], "output": lost_most, "outputs": each, "text": text}


def _measure(name: str, case: Case) -> Measured:
    from snnc.metrics import measure

    return measure(name, case)


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
    from snnc.metrics.catalogue import LABELS, METRICS, OF_MAPS
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
        if not decided:
            names = OF_MAPS if outputs.is_map else ("r2", "sqnr", "cosine")
            others = [measure(name, Case(case.answers, case.task, case.source)) for name in names]
            of_places = [found for found in told.values() if METRICS[found.metric].decides]
            others += [found for found in of_places if found.against != LABELS]
            lines += [
                f"{found.metric} against the labels: A {measure(found.metric, first)}, B {found}."
                for found in of_places
                if found.against == LABELS
            ]
        lines += [
            f"B against A on {several(n, 'row')} ({rows}): "
            + ", ".join(f"{each.metric} {each}" for each in others)
            + "."
        ]
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


def _sides(
    terminal: Terminal, name: str, network: Artefact | Source, x: Rows, threads: int | None
) -> dict[str, Side]:
    """Run one of the two networks, and return what it answers at each output, by the output's name."""
    from snnc.analysis.evaluation import SHARD, Source, all_outputs_of
    from snnc.analysis.scores import require_finite
    from snnc.backends import load_simulator
    from snnc.cli.artefacts import warn_of_rows

    found: dict[str, Side] = {}
    if isinstance(network, Source):
        import numpy as np

        starts = range(0, len(x), SHARD)
        tracked = terminal.progress().track(starts, len(starts), "running the ANN")
        parts = [network.session.run_all(network.prepare(x[start : start + SHARD])) for start in tracked]
        for output, ends in network.session.all_ends.items():
            values = np.concatenate([part[output] for part in parts])
            found[output] = Side(name, values.reshape(len(x), -1), values.shape[1:], ends, "", output)
    else:
        steps = network.graph.timesteps
        simulator = load_simulator("numba", threads)
        warn_of_rows(terminal, network, x, simulator)
        outputs = all_outputs_of(
            network.graph,
            network.encode,
            x,
            simulator=simulator,
            timesteps=steps,
            progress=terminal.progress(),
            finish=network.finish,
        )
        for output, shape in network.gives.items():
            values, ends = outputs[output], network.ends[output]
            if network.host is None:  # the spiking network leaves the last activation out
                real = network.graph.readouts[output].real(values, steps)
                values = network.output_layouts[output].to_source(real)
            flat = values.reshape(len(x), -1).astype("float64")
            sides = (ends, "") if network.host is not None else ("", ends)
            found[output] = Side(name, flat, shape, *sides, output)
    for side in found.values():
        require_finite(side.values)
    if len(found) == 1:
        return {output: replace(side, output=None) for output, side in found.items()}
    return found
