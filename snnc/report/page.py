"""The report as one HTML file: no script, nothing fetched, the same bytes for the same report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from snnc import __version__
from snnc.analysis.costs import payload
from snnc.analysis.evaluation import Share
from snnc.metrics import Measured
from snnc.report import charts
from snnc.report.document import TOP_FLIPS, Report, flips, several
from snnc.report.drawing import Chart, percent
from snnc.report.energy import Energy, microjoules
from snnc.report.layers import LayerReport
from snnc.report.learning import Learning, learning_chart, learning_of
from snnc.report.measurement import Measurement
from snnc.report.pictures import Pictures
from snnc.report.rules import own_error
from snnc.report.targets import Fit
from snnc.source.host import Host

ERRORS = (
    (
        "Alone: each layer is fed with the source network's own activations, coded as evenly spaced spikes; "
        "what is wrong then is its own (or, under propagated, the rounding of that code). In the running "
        "network: each gets what the layers before it really sent."
    ),
    (
        "Propagated: wrong spikes of earlier layers. Parameters: int8 weights, rounded biases, compensation. "
        "Clipping: above the threshold, or below the floor. Quantisation: T steps hold few levels. "
        "Unevenness: fired too early or too late. The five add up to the difference of both networks; a "
        "negative part takes back what others did."
    ),
)
"""What the reader of the error charts has to know."""

TOP_PROBLEMS = 12
"""How many problems of a target are listed."""

WORDS = frozenset(
    {
        "ONNX node",
        "output",
        "task",
        "metric",
        "interval",
        "value",
        "SNN says",
        "profiles",
        "fits",
        "because",
        "verified by",
        "reason",
        "cure",
    }
)
"""Heads of columns that hold words: set to the left, and broken into lines."""

FOLDER = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page.

    Attributes:
        caption: what it holds.
        columns: heads.
        rows: cells.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes:
        key: its anchor.
        title: its heading.
        text: what to know before looking.
        charts: pictures.
        tables: tables.
    """

    key: str
    title: str
    text: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()


def html(report: Report) -> str:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(
        report=report,
        first=report.verdict.first,
        facts=_facts(report),
        sections=_sections(report),
        svg=lambda chart: Markup(chart.svg),
        words=WORDS,
        version=__version__,
    )


def _fact(name: str, value: Share) -> tuple[str, str, str]:
    low, high = value.interval
    return name, percent(value.value), f"95 %: {percent(low)} to {percent(high)}"


def _metric_fact(found: Measured) -> tuple[str, str, str]:
    value, _, interval = str(found).partition(" [")
    note = f"95 %: {interval[:-1].replace(', ', ' to ')}" if interval else ""
    return f"{found.metric} against the {found.against}", value, note


def _facts(report: Report) -> list[tuple[str, str, str]]:
    """Return what the first screen says in figures: name, value and what belongs to it."""
    found, graph = report.measurement, report.artefact.graph
    facts = []
    if found.several:
        facts.append(("output", found.name, f"of {len(found.each)}, it loses most"))
    if found.snn.top1 is not None:
        facts.append(_fact("SNN accuracy", found.snn.top1))
    if found.ann.scores.top1 is not None:
        facts.append(_fact("ANN accuracy", found.ann.scores.top1))
    if found.ann.paired is not None:
        low, high = (f"{100 * end:z.1f}" for end in found.ann.paired.interval)
        lost = f"{100 * found.ann.paired.drop:z.1f} points"
        facts.append(("lost by the conversion", lost, f"95 %: {low} to {high}"))
    if found.tells_classes and found.ann.agreement is not None:
        facts.append(_fact("both networks agree", found.ann.agreement))
    else:
        facts += [_metric_fact(each) for each in found.snn.measured]
    steps = f"T = {found.timesteps}" + (f", K = {graph.settle_steps}" if graph.settle_steps else "")
    facts.append(("time steps", steps, f"latency {several(report.energy.latency_steps, 'step')}"))
    host = report.artefact.host
    if host is not None:
        facts.append(("in spikes", host.share_text, f"{several(len(host.nodes), 'node')} of ordinary ONNX"))
    facts.append(("spikes", payload(graph, found.timesteps), several(found.rows, "row")))
    return facts


def _sections(report: Report) -> list[Section]:
    found = report.measurement
    populations = found.populations
    sections = []
    if report.curve is not None:
        sections.append(_curve(report))
    sections.append(
        Section(
            "errors",
            "Error of every layer",
            ERRORS,
            (
                charts.error_chart(found.layers, local=True),
                charts.error_chart(found.layers, local=False),
            ),
        )
    )
    sections.append(Section("layers", "Layers", tables=(_layer_table(found.layers),)))
    if populations:
        sections.append(
            Section(
                "activations",
                "Activations and thresholds",
                ("Activations above the threshold are clipped; the vertical axis is logarithmic.",),
                (charts.activation_chart(populations, own_error),),
            )
        )
        sections.append(
            Section(
                "spikes",
                "Spikes and potentials",
                (),
                (charts.firing_chart(populations), charts.unevenness_chart(populations)),
            )
        )
        sections.append(_energy(report.energy))
    if report.pictures is not None:
        sections += _pictures(report.pictures)
    if found.several:
        sections.insert(0, _outputs(found))
    if found.tells_classes:
        sections.append(_disagreements(report))
    learning = learning_of(report.artefact.metadata.records)
    if learning is not None:
        sections.append(_learning(learning))
    sections.append(_passes(report))
    if report.artefact.host is not None:
        sections.append(_host(report.artefact.host))
    sections.append(_targets(report.targets))
    sections.append(
        Section(
            "reproduce",
            "How to make this report again",
            tables=(Table("Origin", ("what", "value"), tuple(report.reproduce.items())),),
        )
    )
    return sections


def _outputs(found: Measurement) -> Section:
    text = f"What is said of the whole network is of {found.name}, which loses most."
    rows = []
    for each in found.each:
        task = "" if each.outputs.task is None else each.outputs.task.value
        rows += [
            (each.name, task, name, value, note) for name, value, note in map(_metric_fact, each.snn.measured)
        ]
    table = Table("Metrics of every output", ("output", "task", "metric", "value", "interval"), tuple(rows))
    return Section("outputs", "Outputs", (text,), tables=(table,))


def _curve(report: Report) -> Section:
    curve = report.curve
    if curve is None:
        raise ValueError("there is no curve")
    text = f"The output {curve.output!r}. " if curve.output else ""
    text += f"Calibrated for T = {curve.calibrated_for}; other T are outside its calibration."
    text += f" Measured on {several(curve.same[0].share.n, 'row')}." if curve.same else ""
    if not curve.again:
        second = "For a second curve, converted again for each T, use"
        text = Markup("{} {} <code>--reconvert</code>.").format(text, second)
    title = f"{curve.metric or 'Accuracy'} against time steps"
    return Section("curve", title, (text,), (charts.curve_chart(curve),))


def _layer_table(layers: Sequence[LayerReport]) -> Table:
    columns = (
        "layer",
        "ONNX node",
        "threshold",
        "above it",
        "spikes",
        "dead",
        "saturated",
        "SQNR alone",
        "SQNR running",
        "cosine",
        "ANN zero, SNN fires",
    )
    rows = []
    for layer in layers:
        told = ("", "", "", "", "", "")
        false_fires = ""
        if layer.thresholds is not None and layer.firing is not None:
            limits, firing = layer.thresholds, layer.firing
            told = (
                f"{limits.least:.3g} to {limits.largest:.3g}",
                percent(limits.above, 2),
                f"{firing.rate:.3f}",
                percent(firing.dead),
                percent(firing.saturated),
                "",
            )
            false_fires = percent(firing.false_fires, 2)
        rows.append(
            (
                layer.name,
                layer.onnx_node or "-",
                *told[:5],
                _decibels(layer.local.sqnr),
                _decibels(layer.cumulative.sqnr),
                "-" if layer.cumulative.cosine is None else f"{layer.cumulative.cosine:.4f}",
                false_fires,
            )
        )
    return Table("Every layer: thresholds, spikes, and agreement with the source", columns, tuple(rows))


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} dB"


def _energy(energy: Energy) -> Section:
    def row(name: str, values: Sequence[float]) -> tuple[str, ...]:
        return (name, *(f"{value:,.0f}" for value in values))

    networks = (energy.snn, energy.fair, energy.fp32)
    rows = (
        row("multiply-accumulates (MACs)", [item.macs for item in networks]),
        row("accumulates (ACs)", [item.acs for item in networks]),
        row("weights fetched", [item.weight_fetches for item in networks]),
        row("states read and written", [item.state_accesses for item in networks]),
        row("bits of an activation or spike", [item.activation_bits for item in networks]),
        row("bits sent", [item.bits_sent for item in networks]),
        *(
            (row("table look-ups, without a price", [item.table_lookups for item in networks]),)
            if energy.snn.table_lookups
            else ()
        ),
        *(
            (row("divisions, without a price", [item.divisions for item in networks]),)
            if energy.snn.divisions
            else ()
        ),
        ("energy, µJ", *map(microjoules, (energy.snn_pj, energy.fair_pj, energy.fp32_pj))),
    )
    metrics = energy.neurobench
    operations = metrics["synaptic_operations"]
    neurobench = (
        ("footprint, bytes", f"{metrics['footprint']:,}"),
        ("connection sparsity", f"{metrics['connection_sparsity']:.4f}"),
        ("activation sparsity", f"{metrics['activation_sparsity']:.4f}"),
        ("effective MACs", f"{operations['Effective_MACs']:,.0f}"),
        ("effective ACs", f"{operations['Effective_ACs']:,.0f}"),
        ("dense synaptic operations", f"{operations['Dense']:,}"),
        ("membrane updates", f"{metrics['membrane_updates']:,}"),
    )
    fair_text = (
        f"The fair baseline is the same network with activations of {energy.fair.activation_bits} bits, "
        "which hold as many levels as the spikes, skipping its zeros as the SNN does."
    )
    if energy.ratio_to_fair is not None and energy.ratio_to_fp32 is not None:
        fair_text += (
            f" Against it the SNN takes {energy.ratio_to_fair:.2f} times the energy, against the fp32 "
            f"network {energy.ratio_to_fp32:.2f} times."
        )
    fair = f"fair: int{energy.fair.activation_bits}, zeros skipped"
    return Section(
        "energy",
        "Operations and energy",
        (
            f"Cost model {energy.model.name}: {energy.model.source}.",
            fair_text,
        ),
        (charts.energy_chart(energy),),
        (
            Table("Operations per image, over all steps", ("", "SNN", fair, "fp32 ANN"), rows),
            Table("Metrics under their NeuroBench names, per image", ("metric", "value"), neurobench),
        ),
    )


def _pictures(found: Pictures) -> list[Section]:
    text = (
        "What the network does with one row. Potentials are of the neuron of a layer that fires most often."
    )
    sections = [Section("one-row", f"Row {found.row} on its way", (text, *found.without), found.of_row)]
    if found.of_all:
        sections.append(Section("all-rows", "Spikes of all rows", charts=found.of_all))
    return sections


def _disagreements(report: Report) -> Section:
    found = report.measurement
    tables = []
    paired = found.ann.paired
    if paired is not None:
        tables.append(
            Table(
                "Right and wrong answers of both networks, rows",
                ("", "SNN right", "SNN wrong"),
                (
                    ("ANN right", str(paired.both), str(paired.only_ann)),
                    ("ANN wrong", str(paired.only_snn), str(paired.neither)),
                ),
            )
        )
    pairs = flips(found)
    rows = tuple(
        (report.class_name(ann), report.class_name(snn), str(n)) for (ann, snn), n in pairs[:TOP_FLIPS]
    )
    text = "Both networks agree on all rows."
    if pairs:
        tables.append(Table("The most frequent disagreements", ("ANN says", "SNN says", "rows"), rows))
        text = f"The networks disagree on {sum(n for _, n in pairs)} of {several(found.rows, 'row')}."
    return Section("disagreements", "Disagreements", (text,), (), tuple(tables))


def _learning(learning: Learning) -> Section:
    text = (
        f"Rows held back chose among the states of the network, and the {learning.kept} is kept: figures "
        "on them are a little too high. All others of this page are of the rows of the report."
    )
    return Section("learning", "How it learned", (text,), (learning_chart(learning),))


def _passes(report: Report) -> Section:
    records = report.artefact.metadata.records
    rows = tuple(
        (str(record.get("pass", "")), "yes" if record.get("changed") else "no", str(record.get("nodes", "")))
        for record in records
    )
    if not rows:
        return Section("passes", "Passes", ("The artefact records none.",))
    return Section(
        "passes", "Passes", tables=(Table("Passes, in order", ("pass", "changed", "nodes"), rows),)
    )


def _host(host: Host) -> Section:
    rows = tuple(
        (node.name, node.operator, node.section, f"{node.macs:,}", node.reason) for node in host.nodes
    )
    columns = ("node", "operator", "section", "multiply-accumulates", "reason")
    text = (
        f"{host.line}. They run once per row; {host.latency}. Accuracy and metrics are those of the whole "
        "network; the errors of the layers, and the energy, are those of the spiking part."
    )
    return Section("host", "What runs as ordinary ONNX", (text,), tables=(Table("Nodes", columns, rows),))


def _targets(targets: Sequence[Fit]) -> Section:
    rows = tuple(
        (fit.target, ", ".join(fit.profiles), fit.answer, fit.reason, fit.verified_by) for fit in targets
    )
    tables = [Table("Targets of snnc deploy", ("target", "profiles", "fits", "because", "verified by"), rows)]
    for fit in targets:
        if fit.problems:
            told = [(item.node or "-", item.message, item.help) for item in fit.problems[:TOP_PROBLEMS]]
            left = len(fit.problems) - len(told)
            if left:
                command = f"snnc check ARTEFACT --target {fit.target} --profile {fit.profiles[0]}"
                told.append((f"and {left} more", f"all of them: {command}", ""))
            caption = f"In the way of {fit.target}, {', '.join(fit.profiles)}"
            tables.append(Table(caption, ("ONNX node", "reason", "cure"), tuple(told)))
    text = "The checks of the targets of snnc deploy; nothing was run on the targets."
    return Section("targets", "Fit to targets", (text,), tables=tuple(tables))
