"""``snnc compare``: two networks on the same rows, or two reports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.given import refuse
from snnc.cli.layouts import rows_layout, with_layout
from snnc.cli.quantities import FiniteRange, Threads, lost, points
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    import numpy as np

    from snnc.artefact import Artefact
    from snnc.cli.models import Located
    from snnc.evaluation import Share, Source
    from snnc.ir.graph import IntArray, NumberArray


@dataclass(frozen=True)
class Side:
    """One of the two networks on the rows.

    Attributes:
        name: as the user wrote it.
        classes: (n,) its answers.
        artefact: where it is spiking.
    """

    name: str
    classes: IntArray
    artefact: Artefact | None


@click.command("compare", cls=Verb)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Rows `x` and, if known, labels `y`; the zoo's own test rows by default, for networks of the zoo.",
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
    help="For a MODEL, where no artefact beside it remembers one.",
)
@rows_layout
@click.option("--threads", type=Threads(), metavar="N", help="At most this many; all by default.")
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
) -> None:
    """Compare A with B: each an artefact or a MODEL, or both figures that `report --json-file` wrote."""
    from snnc.errors import GateError, UsageError

    reports = [name.endswith(".json") for name in (first, second)]
    if all(reports):
        networks = ("--data", "--limit", "--preprocess", "--rows-layout", "--threads")
        refuse("is for networks, and these are reports", *networks)
        found = _compare_reports(Path(first), Path(second))
    elif any(reports):
        raise UsageError("a report is compared with a report: give two .json files, or two networks")
    else:
        found = _compare_networks(terminal, first, second, data, limit, preprocess, rows_layout, threads)
    if terminal.json:
        terminal.data(found)
    else:
        if found["rows"]:
            terminal.table(("layer", *found["columns"]), [tuple(row) for row in found["rows"]])
        terminal.text(found["text"])
    if max_drop is not None and found["drop_points"] > max_drop:
        raise GateError(f"{found['drop_points']:.2f} points are lost, more than --max-drop {max_drop:g}")


@dataclass(frozen=True)
class Figures:
    """What is compared of a report.

    Attributes:
        measured: ``accuracy``, or ``agreement with the ANN`` where there are no labels.
        value: that share.
        errors: squared error of every layer in the running network, relative to its power.
        verdict: cause and layer.
    """

    measured: str
    value: float
    errors: dict[str, float]
    verdict: str


def _compare_reports(first: Path, second: Path) -> dict[str, Any]:
    from snnc.errors import InputError

    a, b = _report(first), _report(second)
    if a.measured != b.measured:
        raise InputError("one report has labels and the other has not: make both on the same rows")
    rows = [
        [name, f"{100 * error:.2f}", f"{100 * b.errors[name]:.2f}"]
        for name, error in a.errors.items()
        if name in b.errors
    ]
    drop = points(a.value - b.value)
    return {
        "compared": "reports",
        "measured": a.measured,
        "a": a.value,
        "b": b.value,
        "drop_points": drop,
        "columns": ["error in A, %", "error in B, %"],
        "rows": rows,
        "text": f"{a.measured}: A {a.value:.2%}, B {b.value:.2%}, {lost(drop)}. "
        f"A: {a.verdict}; B: {b.verdict}.",
    }


def _report(path: Path) -> Figures:
    from snnc.errors import InputError
    from snnc.report.document import SCHEMA_VERSION

    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (RecursionError, ValueError):
        raise InputError(f"{path} is not JSON: write it by snnc report --json-file") from None
    try:
        if (version := found["schema_version"]) != SCHEMA_VERSION:
            raise InputError(f"{path} has the schema {version}, not {SCHEMA_VERSION}: upgrade snnc")
        accuracy, verdict = found["accuracy"], found["verdict"]
        labelled = accuracy["snn"] is not None
        figures = Figures(
            measured="accuracy" if labelled else "agreement with the ANN",
            value=float(accuracy["snn" if labelled else "agreement"]["value"]),
            errors={layer["name"]: float(layer["cumulative"]["total"]) for layer in found["layers"]},
            verdict=f"{verdict['cause']} in {verdict['layer']}",
        )
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} is no report, or damaged: write it by snnc report --json-file") from None
    if not 0 <= figures.value <= 1:
        raise InputError(f"{path}: {figures.value} is no share of rows; write it by snnc report --json-file")
    return figures


def _compare_networks(
    terminal: Terminal,
    first: str,
    second: str,
    data: Path | None,
    limit: int | None,
    preprocess: Path | None,
    rows_layout: str | None,
    threads: int | None,
) -> dict[str, Any]:
    from snnc.artefact import load
    from snnc.cli.artefacts import holds_artefact
    from snnc.cli.models import locate, open_source
    from snnc.cli.subjects import rows_of
    from snnc.errors import InputError, UsageError
    from snnc.evaluation import Share
    from snnc.preprocessing import Preprocessing
    from snnc.report.document import several

    located = [locate(first), locate(second)]
    artefacts = [
        load(item.path).with_rows_layout(rows_layout) if holds_artefact(item.path) else None
        for item in located
    ]
    spiking = next((item for item in artefacts if item is not None), None)
    hashes = [item.metadata.source_sha256 for item in artefacts if item is not None]
    hashes += [item.entry.sha256 for item in located if item.entry is not None]
    if data is None and not hashes:
        raise UsageError("no rows to compare on: name them by --data FILE.npz")
    preprocessing = None if spiking is None else spiking.preprocessing
    if preprocess is not None:
        preprocessing = Preprocessing.read(preprocess)
    elif spiking is None and data is None:
        entry = next(item.entry for item in located if item.entry is not None)
        preprocessing = Preprocessing.from_dict(entry.preprocessing)
    preprocessing = with_layout(preprocessing, rows_layout)
    networks = [
        artefact or open_source(terminal, item, preprocessing, threads)
        for item, artefact in zip(located, artefacts, strict=True)
    ]
    checks = [network.check_rows for network in networks]
    x, y, name = rows_of(data, hashes[0] if hashes else "", limit, *checks)
    sides = [
        Side(label, _classes(terminal, network, x, y, threads), artefact)
        for label, network, artefact in zip((first, second), networks, artefacts, strict=True)
    ]
    a, b = sides
    if y is not None and y.shape != a.classes.shape:
        raise InputError(f"there are {len(x)} rows, but {len(y)} labels")
    agreement = Share(int((a.classes == b.classes).sum()), len(x))
    scores = [None if y is None else Share(int((side.classes == y).sum()), len(x)) for side in sides]
    drop = points(1 - agreement.value)
    text = f"Both answer alike on {_told(agreement)} of {several(len(x), 'row')} ({name})."
    if scores[0] is not None and scores[1] is not None:
        drop = points(scores[0].value - scores[1].value)
        text = f"A {_told(scores[0])}, B {_told(scores[1])}: {lost(drop)}. {text}"
    columns = ["rate in A", "rate in B", "squared difference, % of A"]
    rows = _layers(a, b, x[:COMPARED_ROWS], threads)
    if sum(item is None for item in artefacts) == 1:
        spikes = 0 if artefacts[0] is not None else 1
        columns = ["error alone, %", "error in the running network, %", "SQNR, dB"]
        against = (located[spikes], located[1 - spikes])
        rows = _against_source(terminal, *against, data, x, rows_layout, threads)
    return {
        "compared": "networks",
        "measured": "agreement" if y is None else "accuracy",
        "a": None if scores[0] is None else scores[0].value,
        "b": None if scores[1] is None else scores[1].value,
        "agreement": agreement.value,
        "n": len(x),
        "drop_points": drop,
        "columns": columns,
        "rows": rows,
        "text": text,
    }


COMPARED_ROWS = 200
"""Rows on which the activations of two spiking networks are compared."""


def _told(share: Share) -> str:
    low, high = share.interval
    return f"{share.value:.2%} [{low:.2%}, {high:.2%}]"


def _classes(
    terminal: Terminal,
    network: Artefact | Source,
    x: NumberArray,
    y: IntArray | None,
    threads: int | None,
) -> np.ndarray:
    from snnc.backends import load_simulator
    from snnc.evaluation import Source, evaluate_ann, outputs_of, require_classes

    if isinstance(network, Source):
        return evaluate_ann(network, x, y, terminal.progress()).classes
    outputs = outputs_of(
        network.graph,
        network.encode,
        x,
        simulator=load_simulator("numba", threads),
        timesteps=network.graph.timesteps,
        progress=terminal.progress(),
    )
    if y is not None:
        require_classes(y, outputs.shape[1])
    return outputs.argmax(axis=1)


def _against_source(
    terminal: Terminal,
    artefact: Located,
    other: Located,
    data: Path | None,
    x: NumberArray,
    rows_layout: str | None,
    threads: int | None,
) -> list[list[str]]:
    """Return the errors of every layer of an artefact where the other network is its source."""
    from snnc.artefact import load
    from snnc.cli.subjects import subject
    from snnc.frontend.loading import load as load_source
    from snnc.report.measurement import measure

    rows = min(len(x), COMPARED_ROWS)
    if load_source(other.path).sha256 != load(artefact.path).metadata.source_sha256:
        return []
    found = subject(
        terminal,
        artefact.path,
        data=data,
        source=str(other.path),
        limit=rows,
        threads=threads,
        rows_layout=rows_layout,
    )
    measured = measure(
        found.artefact,
        found.source,
        found.x,
        None,
        simulator=found.simulator,
        threads=threads,
        progress=terminal.progress(),
    )
    return [
        [
            layer.name,
            f"{100 * layer.local.total:.2f}",
            f"{100 * layer.cumulative.total:.2f}",
            "-" if layer.cumulative.sqnr is None else f"{layer.cumulative.sqnr:.1f}",
        ]
        for layer in measured.layers
    ]


def _layers(a: Side, b: Side, x: NumberArray, threads: int | None) -> list[list[str]]:
    """Return what the populations of two spiking networks send, where they bear the same name."""
    if a.artefact is None or b.artefact is None:
        return []
    import numpy as np

    from snnc.backends import load_simulator
    from snnc.ir.snn import IntegrateFire
    from snnc.target import Record

    simulator = load_simulator("numba", threads)
    runs = []
    for artefact in (a.artefact, b.artefact):
        T = artefact.graph.timesteps
        trace = simulator.run(artefact.graph, artefact.encode(x), T, Record(states=True, activity=True))
        nodes = {node.name: node for node in artefact.graph.of_type(IntegrateFire)}
        steps = T + artefact.graph.settle_steps
        runs.append(
            {
                name: (
                    node.decoded(trace.counts[name], T).astype(np.float64),
                    float(trace.activity[name].units.mean()) / (len(x) * steps),
                )
                for name, node in nodes.items()
            }
        )
    rows = []
    for name, (values, rate) in runs[0].items():
        other = runs[1].get(name)
        if other is not None and other[0].shape == values.shape:
            power = float(np.square(values).sum())
            apart = float(np.square(values - other[0]).sum()) / power if power > 0 else 0.0
            rows.append([name, f"{rate:.4f}", f"{other[1]:.4f}", f"{100 * apart:.2f}"])
    return rows
