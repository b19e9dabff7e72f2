"""Plant mistakes in the preprocessing of trained networks, and count how many the warnings find.

    python -m benchmarks.report.planted_rows [--shared FOLDER] [--network NAME ...] [--report docs/planted.md]

The networks and their data are those of the optional folder `../shared`. Each network is given rows of its
data set as a user's mistakes would make them, and as they should be. Two judges see them: the source network,
as `convert` asks it about calibration rows (SNN202), and the artefact, as `eval`, `run`, `compare` and
`report` ask it about rows that calibration did not see (SNN204). Results are kept in
`benchmarks/measured/planted_rows.jsonl`, one line per judgement; `--report` prints the page from there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from math import isqrt
from pathlib import Path

import click
import numpy as np

from benchmarks.common import digests
from benchmarks.common.corpus_data import DEFAULT, Network, Rows, Sets, networks, sets
from snnc.artefact import Artefact
from snnc.backends import load_simulator
from snnc.data import normalisation
from snnc.data.input_statistics import InputStatistics
from snnc.data.preprocessing import Preprocessing
from snnc.errors import InternalError, UnsupportedModelError
from snnc.frontend import read_onnx
from snnc.frontend.onnx import SourceModel
from snnc.ir.ann import Softmax
from snnc.ir.graph import FloatArray, NumberArray
from snnc.metrics.task import Task
from snnc.network import convert
from snnc.simulation.reference import encode
from snnc.source.ann_session import AnnSession
from snnc.writing import replacing

MEASURED = Path(__file__).resolve().parent.parent / "measured" / "planted_rows.jsonl"
SEED = 0
CALIBRATION = 300
HARM = 0.02
"""Accuracy that the source network loses from which on a mistake counts as one that matters."""

SIZES = (4, 32, 256)
"""Numbers of rows that an artefact is given."""

Plant = Callable[[Rows], Rows]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one judge said of some rows.

    Attributes:
        network: its name.
        judge: ``source`` or ``artefact``.
        kind: of mistake; ``sound`` where there was none.
        mistake: what was done; which rows were chosen where nothing was.
        rows: how many were given.
        harm: accuracy that the source network loses by it, on 256 rows.
        found: whether a warning was given.
        said: its words.
        sources: digest of the sources that judged; ``earlier`` of those before it was kept.
    """

    network: str
    judge: str
    kind: str
    mistake: str
    rows: int
    harm: float
    found: bool
    said: str
    sources: str = "earlier"


@dataclass(frozen=True, slots=True)
class Subject:
    """One network and all that judges it."""

    network: Network
    source: SourceModel
    data: Sets
    run: Callable[[FloatArray], FloatArray]
    artefact: Artefact
    statistics: InputStatistics
    spiking: normalisation.Run

    def prepared(self, x: Rows, preprocessing: Preprocessing | None) -> FloatArray:
        """Return rows as the graph takes them."""
        layout = self.source.layout
        if preprocessing is not None:
            x = preprocessing.apply(x, layout.source_shape)
        rows: FloatArray = layout.to_canonical(x).astype(np.float32)
        return rows

    def plants(self) -> Iterator[tuple[str, str, Plant]]:
        """Yield kind, mistake, and what makes rows with it, channels first, of rows as they are stored."""
        own = self.data.preprocessing

        def changed(**changes: object) -> Plant:
            wrong = replace(own, **changes)  # type: ignore[type-var]
            return lambda x: self.prepared(x, wrong)

        def after(change: Plant) -> Plant:
            return lambda x: np.ascontiguousarray(change(self.prepared(x, own)), np.float32)

        yield "scale", "divided by 255 once more", after(lambda x: x / np.float32(255))
        if own is None:
            yield "scale", "not divided by 255", after(lambda x: x * np.float32(255))
        else:
            if own.divide == 1:
                yield "scale", "multiplied by 255", after(lambda x: x * np.float32(255))
                yield "range", "0 .. 1 for 0 .. 255", changed(divide=255.0, mean=(0.0,))
            else:
                yield "scale", "not divided by 255", changed(divide=1.0)
            if any(own.mean):
                yield "mean", "mean left out", changed(mean=(0.0,))
            else:
                yield "mean", "a mean of half the range", changed(mean=(127.5 / own.divide,))
            if any(std != 1 for std in own.std):
                yield "scale", "standard deviation left out", changed(std=(1.0,))
                yield "range", "0 .. 1, not standardised", changed(mean=(0.0,), std=(1.0,))
            yield "range", "-1 .. 1", changed(divide=127.5, mean=(1.0,), std=(1.0,))
            yield "range", "-128 .. 127", changed(divide=1.0, mean=(128.0,), std=(1.0,))
        shape = self.statistics.shape
        if len(shape) == 3 and shape[0] == 3:
            yield "layout", "channels last", after(lambda x: np.moveaxis(x, 1, -1).reshape(x.shape))
            yield "colours", "blue first", after(lambda x: x[:, ::-1])
        if len(shape) > 1 and shape[-1] == shape[-2]:
            yield "layout", "height and width exchanged", after(lambda x: x.swapaxes(-1, -2))
        elif len(shape) == 1 and isqrt(shape[0]) ** 2 == shape[0]:
            side = isqrt(shape[0])
            yield (
                "layout",
                "height and width exchanged",
                after(lambda x: x.reshape(-1, side, side).swapaxes(1, 2).reshape(x.shape)),
            )

    def by_source(self, rows: FloatArray) -> str:
        """Return what the source network says of rows; nothing if it finds them right."""
        softmax = isinstance(self.source.graph[self.source.graph.output], Softmax)
        found = normalisation.judge(self.run, rows, task=Task.CLASSES if softmax else None)
        return "" if found is None else found.text

    def by_artefact(self, rows: FloatArray) -> str:
        """Return what the artefact says of rows; nothing if it finds them like the calibration rows."""
        foreign = self.statistics.foreign(rows)
        if foreign is not None:
            return foreign.text
        found = normalisation.judge(
            self.spiking, rows, task=self.artefact.metadata.stored_task, order_only=True
        )
        return "" if found is None else found.text

    def accuracy(self, rows: FloatArray, labels: Rows) -> float:
        """Return the share of right answers of the source network."""
        return float((self.run(rows).argmax(axis=1) == labels).mean())


def subject(shared: Path, network: Network) -> Subject:
    """Read and convert a network of the corpus.

    Raises:
        UnsupportedModelError: it cannot be converted.
    """
    source = read_onnx(network.path)
    data = sets(shared, network, CALIBRATION)
    name = source.graph.logits
    session = AnnSession(source.graph, [name], 1)
    artefact = convert(network.path, data.calibration, preset="fast", preprocessing=data.preprocessing)
    graph, simulator = artefact.graph, load_simulator("numba", 1)

    def run(rows: FloatArray) -> FloatArray:
        return session.run(rows)[name].reshape(len(rows), -1)

    def spiking(rows: FloatArray) -> NumberArray:
        return simulator.run(graph, encode(graph.encoder, rows), graph.timesteps).logits

    statistics = InputStatistics.stored(artefact.metadata.calibration)
    if statistics is None:
        raise InternalError("a new artefact without statistics of its calibration rows")
    return Subject(network, source, data, run, artefact, statistics, spiking)


def judgements(case: Subject) -> Iterator[Judgement]:
    """Yield what both judges say of planted and of sound rows of one network."""
    random = np.random.default_rng([SEED, *case.network.name.encode()])
    x, y = case.data.x, case.data.y
    name, right = case.network.name, case.data.preprocessing

    def drawn(size: int, among: Rows) -> Rows:
        return random.choice(among, min(size, len(among)), replace=False)

    every = np.arange(len(x))
    chosen = drawn(256, every)
    best = case.accuracy(case.prepared(x[chosen], right), y[chosen])
    for kind, mistake, plant in case.plants():
        wrong = plant(x[chosen])
        harm = best - case.accuracy(wrong, y[chosen])
        said = case.by_source(wrong)
        yield Judgement(name, "source", kind, mistake, 256, harm, bool(said), said)
        for size in SIZES:
            said = case.by_artefact(plant(x[drawn(size, every)]))
            yield Judgement(name, "artefact", kind, mistake, size, harm, bool(said), said)
    labels = np.unique(y)
    samples = [(f"{size} rows", size, every) for size in (32, 64, 128, 256, 256, 256, 500, 1000)]
    for _ in range(4):
        half = random.choice(labels, len(labels) // 2, replace=False)
        samples.append(("rows of half of the classes", 256, np.flatnonzero(np.isin(y, half))))
    for what, size, among in samples:
        rows = case.prepared(x[drawn(size, among)], right)
        said = case.by_source(rows)
        yield Judgement(name, "source", "sound", what, len(rows), 0.0, bool(said), said)
    samples += [(f"{size} rows", size, every) for size in (1, 1, 1, 1, 2, 4, 8, 16)]
    samples += [("rows of one class", size, np.flatnonzero(y == k)) for k in labels[:5] for size in (8, 100)]
    for what, size, among in samples:
        rows = case.prepared(x[drawn(size, among)], right)
        said = case.by_artefact(rows)
        yield Judgement(name, "artefact", "sound", what, len(rows), 0.0, bool(said), said)


@click.command()
@click.option("--shared", type=click.Path(path_type=Path), default=DEFAULT, help="The optional folder.")
@click.option("--network", "chosen", multiple=True, help="Only these; all by default.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the page from what was measured.")
@click.option("--measure/--no-measure", default=True, show_default=True, help="Measure, or only report.")
def main(shared: Path, chosen: tuple[str, ...], report: Path | None, measure: bool) -> None:
    """Measure, keep the results, and print the counts."""
    if measure:
        for network in networks(shared):
            if not network.data or (chosen and network.name not in chosen):
                continue
            try:
                case = subject(shared, network)
            except UnsupportedModelError:
                click.echo(f"{network.name}: cannot be converted")
                continue
            found = list(judgements(case))
            _keep(network.name, found)
            wrong = [item for item in found if item.kind != "sound"]
            right = [item for item in found if item.kind == "sound"]
            click.echo(
                f"{network.name}: {sum(i.found for i in wrong)} of {len(wrong)} found, "
                f"{sum(i.found for i in right)} of {len(right)} false"
            )
    kept = _kept()
    for line in tables(kept):
        click.echo(line)
    if report is not None:
        with replacing(report) as file:
            file.write(_page(kept).encode())


def _kept() -> list[Judgement]:
    if not MEASURED.exists():
        return []
    return [Judgement(**json.loads(line)) for line in MEASURED.read_text(encoding="utf-8").splitlines()]


def _keep(name: str, found: Iterable[Judgement]) -> None:
    """Put a network's results in the place of older ones."""
    rest = [item for item in _kept() if item.network != name]
    found = [replace(item, sources=digests.compiler()) for item in found]
    lines = [json.dumps(asdict(item)) for item in sorted([*rest, *found], key=lambda item: item.network)]
    with replacing(MEASURED) as file:
        file.write(("\n".join(lines) + "\n").encode())


KINDS = ("scale", "mean", "range", "layout", "colours")


def tables(kept: list[Judgement]) -> Iterator[str]:
    """Yield the lines of the tables."""
    views = [("source", "The source network alone", [256])]
    views += [("artefact", f"The artefact, given {size} rows", [size]) for size in SIZES]
    for judge, title, sizes in views:
        own = [item for item in kept if item.judge == judge and (item.kind == "sound" or item.rows in sizes)]
        yield f"## {title}"
        yield ""
        yield "| kind | planted | found | of them harmful | found |"
        yield "|---|---|---|---|---|"
        groups = [(kind, [i for i in own if i.kind == kind]) for kind in KINDS]
        groups.append(("all but colours", [i for i in own if i.kind in KINDS[:-1]]))
        for kind, items in groups:
            bad = [item for item in items if item.harm >= HARM]
            cells = (kind, str(len(items)), _share(items), str(len(bad)), _share(bad))
            yield f"| {' | '.join(cells)} |"
        yield ""
        if judge == "artefact" and sizes != [SIZES[-1]]:
            continue  # the sound rows are told once
        yield "| sound rows | judged | false alarms |"
        yield "|---|---|---|"
        sound = [item for item in own if item.kind == "sound"]
        for what in dict.fromkeys(item.mistake for item in sound):
            items = [item for item in sound if item.mistake == what]
            yield f"| {what} | {len(items)} | {sum(item.found for item in items)} |"
        yield f"| all | {len(sound)} | {_share(sound)} |"
        yield ""


def _share(items: list[Judgement]) -> str:
    found = sum(item.found for item in items)
    return f"{found} ({found / len(items):.1%})" if items else "-"


def _sources(kept: list[Judgement]) -> str:
    """Say which sources judged how many networks."""
    counted = Counter(sources for _, sources in {(item.network, item.sources) for item in kept})
    return ", ".join(f"the sources `{sources}` on {n} networks" for sources, n in counted.most_common())


def _page(kept: list[Judgement]) -> str:
    names = sorted({item.network for item in kept})
    lines = [
        "# Mistakes in the preprocessing, planted and found",
        "",
        f"{len(names)} trained networks by others are given rows as a user's mistakes would make them. The",
        "source network judges rows as `convert` asks it about calibration rows (SNN202;",
        "`snnc/data/normalisation.py`); the artefact judges rows as `eval`, `run`, `compare` and `report` do",
        "(SNN204; `snnc/data/input_statistics.py`, and the spiking network for the order of axes),",
        f"given {', '.join(map(str, SIZES))} rows each. Printed by",
        "",
        "    python -m benchmarks.report.planted_rows --report docs/planted.md",
        "",
        f"A mistake is called harmful if the source network loses {HARM:.0%} of accuracy by it, on 256 rows.",
        "The others change (nearly) no answer: the right reading can then hardly be told by the answers, and",
        "hardly matters to them.",
        "",
        "The thresholds of both judges were set by looking at these networks, all of them, so the figures",
        "are no forecast for others. Rows are a draw, so runs of other versions may differ in single cases:",
        f"judged by {_sources(kept)}.",
        "What is not judged at all: regression and reconstruction by their source (SNN202), unless a batch",
        "normalisation comes first; sources that know little of any rows; and rows given to artefacts from",
        "before they kept statistics (SNN204).",
        "",
        *tables(kept),
        "## What was missed or reported wrongly",
        "",
        "| network | judge | kind | mistake | rows | accuracy lost | said |",
        "|---|---|---|---|---|---|---|",
    ]
    for item in kept:
        if item.found == (item.kind == "sound"):
            cells = (item.network, item.judge, item.kind, item.mistake, str(item.rows), f"{item.harm:.1%}")
            lines.append(f"| {' | '.join(cells)} | {item.said or 'nothing'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
