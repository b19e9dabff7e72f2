"""``snnc compare``: two networks on the same rows, or two reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.differences import compared, end_of, of_all_outputs
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
from snnc.cli.layer_errors import COMPARED_ROWS, errors_against_source, layers_of_both
from snnc.cli.layouts import rows_layout, with_layout
from snnc.cli.quantities import FiniteRange
from snnc.cli.run_options import data_option, limit_option, threads_option
from snnc.cli.sides import Side, inputs_of, outputs_of, pairs_of, sides_of
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.artefact import Artefact
    from snnc.cli.models import Located
    from snnc.ir.graph import NumberArray
    from snnc.metrics import Floor, Measured, Outputs
    from snnc.source.selection import Selection


@click.command("compare", cls=Verb)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@data_option()
@limit_option
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
@threads_option
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
    from snnc.metrics import measure
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
    inputs = next(inputs_of(network) for network in networks)
    outputs = outputs_of(networks[0])
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
        sides_of(terminal, label, network, x, threads)
        for label, network in zip((first, second), networks, strict=True)
    ]
    pairs = pairs_of(*sides)
    labels = labels_by_output(y, list(outputs))
    kinds = {key: _kind(a, b, labels.get(key), len(x), asked, spiking) for key, (a, b) in pairs.items()}
    if asked.max_drop is not None:
        require_points(kinds)
    require_floors(asked.floors, kinds)
    wanted = metrics_by_output([limit.asked for limit in asked.floors], kinds, has_source=True)
    each: dict[str, dict[str, Any]] = {}
    measured: dict[str, list[Measured]] = {}
    for key, (a, b) in pairs.items():
        each[key], case = compared(a, b, kinds[key], name)
        measured[key] = [measure(metric, case) for metric in (wanted[key] or ()) if asked.floors]
    wrong = missed(asked.floors, measured)
    columns = ["rate in A", "rate in B", "squared difference, % of A"]
    rows = layers_of_both(artefacts[0], artefacts[1], x[:COMPARED_ROWS], threads)
    if sum(item is None for item in artefacts) == 1:
        spikes = 0 if artefacts[0] is not None else 1
        columns = ["error alone, %", "error in the running network, %", "SQNR, dB"]
        against = (located[spikes], located[1 - spikes])
        rows = errors_against_source(terminal, *against, data, x, asked.rows_layout, threads)
    return {"compared": "networks", **of_all_outputs(each), "columns": columns, "rows": rows}, wrong


def _selection(item: Located, spiking: Artefact | None) -> Selection | None:
    """Return what an artefact took of this file, where it is its source."""
    from snnc.frontend.loading import load

    if spiking is None or not spiking.metadata.selection:
        return None
    is_source = load(item.path).sha256 == spiking.metadata.source_sha256
    return spiking.selection if is_source else None


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
        ends=end_of(a, b),
        given=task_of(asked.task),
        stored=task_of(None, stored),
    )
