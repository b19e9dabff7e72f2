"""``snnc convert``: a trained network made into a spiking one."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli import nir
from snnc.cli.cluster import CLUSTER_HELP, refuse_threads, workers_if
from snnc.cli.gate import Limits, gate, outputs_for
from snnc.cli.given import given, refuse
from snnc.cli.judging import floors, task_of
from snnc.cli.layouts import with_layout
from snnc.cli.options import parameters, setting
from snnc.cli.terminal import Terminal, Verb
from snnc.options import ConvertOptions, input_and_file

if TYPE_CHECKING:
    from snnc.cli.models import Located
    from snnc.compiler import Conversion, Options
    from snnc.data.preprocessing import Preprocessing
    from snnc.frontend import SourceModel
    from snnc.ir.batch import Rows as Inputs
    from snnc.ir.graph import Graph
    from snnc.metrics.outputs import Labels
    from snnc.pipeline import Dump
    from snnc.scale.workers import Workers

OTHER_SEARCHES = ("--max-latency", "--max-synops", "--front", "--journal", "--dump-ir-after")
"""Options that `--tune` does not go with."""

MEASURED = ("--max-drop", "--min-metric", "--max-latency", "--max-synops", "--front", "--dry-run")
"""Options that `--frames` does not go with."""

HELD_BACK = 5
"""With ``--max-drop``, every fifth calibration row is kept for the measurement."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Calibration rows.

    Attributes:
        x: (n, ...) as they are stored.
        y: (n, ...) labels, if there are any; only limits look at them, and they tell what the outputs are.
        preprocessing: from ``x`` to what the network takes.
        origin: where they come from, for the user.
    """

    x: Inputs
    y: Labels
    preprocessing: Preprocessing | None
    origin: str


def _read_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    """Make the values of a configuration file the defaults of the other options."""
    if value is not None:
        from snnc.cli.config import read_config

        values = read_config(value)
        ctx.meta["snnc.config"] = value
        ctx.meta["snnc.set"] = values.pop("set", {})
        ctx.default_map = {name.replace("-", "_"): item for name, item in values.items()}


_CONFIG = click.Option(
    ["--config"],
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    help="Read options from a file; the command line takes precedence.",
)


_CLUSTER = click.Option(["--cluster"], metavar="WHERE", help=CLUSTER_HELP)


@click.command(
    "convert", cls=Verb, params=[click.Argument(["model"]), *parameters(), *nir.OPTIONS, _CLUSTER, _CONFIG]
)
@click.pass_context
def command(ctx: click.Context, /, model: str, cluster: str | None, **values: Any) -> None:
    """Convert MODEL and write the spiking network to OUT.

    No labels are used, and no training is done. In place of a file, MODEL may be PACKAGE.MODULE:FACTORY: this
    runs your own code, and exports the torch.nn.Module that it returns. A NIR file (.nir) of a network that
    spikes already is read as it is.
    """
    from snnc.cli.factories import exported_file, is_factory
    from snnc.cli.models import locate
    from snnc.errors import UsageError
    from snnc.option_files import settings_of
    from snnc.pass_options import once

    said = {name: values.pop(name) for name in nir.NAMES}
    settings = once(map(setting, values["settings"]), "--set")
    settings = settings_of(ctx.meta.get("snnc.set", {}), "the configuration's option") | settings
    asked = ConvertOptions(**{**values, "settings": settings})
    if model.endswith(nir.SUFFIX):
        nir.convert_nir(ctx.obj, locate(model), asked, said)
        return
    nir.refuse_without_nir(said)
    if asked.output is None and not asked.dry_run:
        raise UsageError("no output is named: give -o NAME.snn.onnx, or --dry-run")
    refuse_threads(cluster)
    if cluster is not None:
        refuse("learns in one process: leave out --cluster", "--tune")
    if not is_factory(model):
        with workers_if(ctx.obj, cluster) as workers:
            _convert(ctx, model, asked, workers)
        return
    with exported_file(model, asked) as file, workers_if(ctx.obj, cluster) as workers:
        ctx.obj.note(f"{model} is exported to {file}")
        _convert(ctx, file, asked, workers)


def _convert(ctx: click.Context, model: str, asked: ConvertOptions, workers: Workers | None) -> None:
    from snnc.artefact import save
    from snnc.budget.candidates import Budget
    from snnc.cli.artefacts import require_network
    from snnc.cli.budget import SPARING, convert_to_budget, refuse_contradicting, requested
    from snnc.cli.files import check_outputs
    from snnc.cli.freed_memory import keep_freed_memory
    from snnc.cli.models import locate
    from snnc.compiler import LEARNING, Options, convert
    from snnc.errors import UsageError
    from snnc.training.extra import require_torch

    keep_freed_memory()
    terminal = ctx.obj
    output, front, journal = asked.output, asked.front, asked.journal
    if asked.tune is not None:
        require_torch("--tune")
        refuse("belongs to another search than --tune: leave out one of the two", *OTHER_SEARCHES)
    located = locate(model)
    require_network(located.path, model)
    prepares = None if asked.preprocess is None else input_and_file(asked.preprocess)[1]
    read = (located.path, asked.calib, prepares, ctx.meta.get("snnc.config"))
    check_outputs(journal, others=read, force=True)  # one that exists is gone on with
    check_outputs(output, front, others=(*read, journal), force=asked.force)
    if front is not None and front.suffix.lower() != ".svg":
        raise UsageError(f"--front draws an SVG picture: name it {front.with_suffix('.svg')}")
    if asked.pipeline is not None:
        refuse("selects a pipeline, and --pipeline gives another: leave out one of the two", "--preset")
    if journal is None and output is not None:
        journal = output.with_name(output.name + ".journal")
    limits = Limits(asked.max_drop, floors(asked.min_metric))
    options = Options(
        timesteps=asked.timesteps,
        preset=asked.preset,
        pipeline=asked.pipeline,
        settings=asked.settings,
        precision=asked.precision,
        seed=asked.seed,
        threads=asked.threads,
        journal=journal,
        task=task_of(asked.task),
        shape=asked.shape,
        fix=asked.fix,
        keep_output=asked.keep_output,
        host=asked.host,
        payload=asked.payload,
        frames=asked.frames,
    )
    if asked.frames:
        if asked.timesteps is None:
            raise UsageError("--frames cuts a row into T frames: give their number, -T")
        if asked.tune is not None:
            raise UsageError("--tune learns for rows that stay the same: leave out --tune or --frames")
        refuse("is measured on rows that stay the same, and --frames makes others", *MEASURED)
    dump = _dump(asked.dump_ir_after, options)
    sparing = asked.preset == SPARING and bool(limits)
    bounds = (asked.max_latency, asked.max_synops)
    if sparing or front is not None or any(bound is not None for bound in bounds):
        budget = Budget(*bounds, asked.payload, asked.max_drop, limits.floors)
        refuse_contradicting(options)
        rows = _rows(located, asked)
        outputs = outputs_for(located, rows, options)
        limits.check(outputs)
        request = replace(requested(options, front, output, outputs), workers=workers)
        convert_to_budget(terminal, located, *_split(located, rows, options), budget, request)
        return
    among = options.alternatives()
    possible = tuple(among.values()) or (options,)
    searching = any(LEARNING in each.passes().names for each in possible)
    if not searching:
        refuse("is for a search: give a budget, or --set clip-activations.method=learn", "--journal")
    rows = _rows(located, asked)
    if limits or rows.y is not None:
        outputs = outputs_for(located, rows, options)
        limits.check(outputs)
        if len(outputs) == 1:
            options = replace(options, task=next(iter(outputs.values())).task)
    if asked.dry_run:
        _dry_run(terminal, located, rows, options, output)
        return
    used, kept = _split(located, rows, options) if limits else (rows, None)
    terminal.journal = journal if searching else None
    if asked.tune is not None:
        conversion = _tuned(terminal, located, used, options, asked)
    else:
        conversion = convert(
            located.name,
            used.x,
            options,
            preprocessing=rows.preprocessing,
            progress=terminal.progress(),
            dump=dump,
            name=rows.origin,
            workers=workers,
        )
        for found in conversion.diagnostics:
            terminal.warn(found)
    drop = None
    if kept is not None:
        drop = gate(terminal, located, conversion.artefact, kept, limits, options)
    if output is not None:
        save(conversion.artefact, output)
        if searching and journal is not None and not given("--journal"):
            journal.unlink(missing_ok=True)
        _tell(terminal, conversion, output, drop)


def _tuned(
    terminal: Terminal, located: Located, rows: Rows, options: Options, asked: ConvertOptions
) -> Conversion:
    """Tune on the calibration rows, without labels."""
    import shutil

    from snnc.cli.files import Labelled
    from snnc.cli.tune import lines, tuned
    from snnc.errors import UsageError
    from snnc.training.recipe import Recipe

    if asked.timesteps is None:
        raise UsageError("--tune learns for a number of steps that is known: give -T")
    folder = Path(f"{asked.output}.tuning")
    found = tuned(
        terminal,
        located,
        Labelled(rows.x, None, rows.origin, rows.preprocessing),
        Recipe(minutes=asked.tune, seed=asked.seed),
        options,
        timesteps=(asked.timesteps,),
        labels=False,
        folder=folder,
    )
    shutil.rmtree(folder, ignore_errors=True)
    for line in lines(found):
        terminal.note(line)
    return found.conversions[asked.timesteps]


def _dump(after: str | None, options: Options) -> Dump | None:
    """Return what prints the network after the chosen passes, and refuse bad options before any work."""
    from snnc.errors import UsageError
    from snnc.ir.text import print_graph

    among = options.alternatives()
    if after is None:
        return None
    for each in among.values() or (options,):
        names = each.passes().names
        if after != "all" and after not in names:
            whose = f"the preset {each.preset!r}, which may be chosen," if among else "the pipeline"
            raise UsageError(f"--dump-ir-after {after}: {whose} has no such pass; it has {', '.join(names)}")

    def dump(name: str, graph: Graph[Any]) -> None:
        if after in ("all", name):
            click.echo(f"# after {name}\n{print_graph(graph)}\n", file=sys.stderr)

    return dump


def _rows(located: Located, asked: ConvertOptions) -> Rows:
    from snnc.cli.files import read_named
    from snnc.cli.inputs_outputs import names_of
    from snnc.data.preprocessing import Preprocessing
    from snnc.errors import UsageError
    from snnc.models import calibration_data

    preprocessing = None if asked.preprocess is None else Preprocessing.read(asked.preprocess)
    if asked.calib is not None:
        inputs, outputs = names_of(located.path, asked)
        found = read_named(asked.calib, inputs, outputs, preprocessing)
        return Rows(found.x, found.y, with_layout(found.preprocessing, asked.rows_layout), found.name)
    if located.entry is None:
        raise UsageError("no calibration rows: name 500 to 1,000 training rows by --calib ROWS")
    x, y = calibration_data(located.entry)
    if preprocessing is None:
        preprocessing = Preprocessing.from_dict(located.entry.preprocessing)
    preprocessing = with_layout(preprocessing, asked.rows_layout)
    return Rows(x, y, preprocessing, f"the zoo's {located.entry.dataset.name}")


def _read(located: Located, rows: Rows, options: Options) -> SourceModel:
    """Read the network as a conversion does, and refuse rows that do not fit it, by their name."""
    from snnc.compiler import read_convertible
    from snnc.data.preprocessing import check_fit, for_inputs
    from snnc.ir.batch import rows_of

    source, _ = read_convertible(located.path, options)
    prepares = for_inputs(rows.preprocessing, source.takes)
    for name, takes in source.takes.items():
        what = rows.origin if len(source.takes) == 1 else f"{rows.origin} for {name!r}"
        check_fit(rows_of(rows.x, name).shape, takes, prepares[name], what)
    return source


def _split(located: Located, rows: Rows, options: Options) -> tuple[Rows, Rows]:
    """Return the rows to calibrate on and those that are kept back."""
    import numpy as np

    from snnc.cli.files import part_of
    from snnc.errors import InputError

    _read(located, rows, options)
    if len(rows.x) < HELD_BACK:
        raise InputError(
            f"a limit on the loss needs at least {HELD_BACK} calibration rows, not {len(rows.x)}"
        )
    kept = np.arange(len(rows.x)) % HELD_BACK == HELD_BACK - 1
    used, back = (
        Rows(rows.x[part], part_of(rows.y, part), rows.preprocessing, rows.origin) for part in (~kept, kept)
    )
    return used, back


def _dry_run(
    terminal: Terminal,
    located: Located,
    rows: Rows,
    options: Options,
    output: Path | None,
) -> None:
    from snnc.analysis.duration import lasting, seconds
    from snnc.analysis.memory import available, needed
    from snnc.cli.choice import planned, planned_text
    from snnc.cli.host import lines, told
    from snnc.compiler import LEARNING, alternatives

    source = _read(located, rows, options)
    among = alternatives(options, source.graph)
    possible = tuple(among.values()) or (options,)
    need = needed(source.graph, len(rows.x), fitted=any(each.fits for each in possible))
    free = available()
    steps_tried = max((each.steps for each in possible), default=1)
    once = seconds(source.graph, len(rows.x), steps_tried, fitted=any(each.fits for each in possible))
    learning = any(LEARNING in each.passes().names for each in possible)
    longer = ", plus the time for learning thresholds" if learning else ""
    time = once * (2 if len(among) > 1 else 1)
    pipeline = None if among else options.passes().text
    if terminal.json:
        terminal.data(
            {
                "dry_run": True,
                "model": located.name,
                "source_sha256": source.sha256,
                "nodes": len(source.graph.nodes),
                "calibration_rows": len(rows.x),
                "timesteps": options.timesteps if among else options.steps,
                "precision": options.precision,
                "pipeline": pipeline,
                "choice": planned(among, len(rows.x)) if among else None,
                "seconds_on_one_core": round(time, 1),
                "memory_bytes": need,
                "memory_free_bytes": free,
                "host": told(source.host),
                "output": None if output is None else str(output),
            }
        )
        return
    left = "" if free is None else f" of {free / 1e9:.1f} GB that are free"
    kept = "" if source.host is None else "".join(f"{line}\n" for line in lines(source.host))
    steps = "" if among else f", T = {options.steps}"
    plan = planned_text(among, len(rows.x)) if among else f"pipeline: {pipeline}"
    terminal.text(
        f"{located.name} can be converted: {len(source.graph.nodes)} operations, "
        f"{len(rows.x)} calibration rows from {rows.origin}{steps}, {options.precision}\n"
        f"{plan}\ntime: about {lasting(time)} on one core{longer}\n"
        f"memory: about {need / 1e9:.1f} GB{left}\n{kept}Nothing was written: --dry-run."
    )


def _tell(terminal: Terminal, conversion: Conversion, output: Path, drop: dict[str, Any] | None) -> None:
    from snnc.cli.choice import show
    from snnc.cli.inspect import described

    found = described(conversion.artefact)
    if terminal.json:
        times = {record.text: round(record.seconds, 3) for record in conversion.records}
        warnings = [item.as_dict() for item in conversion.diagnostics]
        told = {"output": str(output), "bytes": output.stat().st_size, **found}
        limits = drop or {"max_drop": None, "min_metric": []}
        total = round(terminal.seconds, 3)
        terminal.data({**told, "seconds": times, "total_seconds": total, **limits, "diagnostics": warnings})
        return
    for record in conversion.records:
        terminal.detail(f"{record.text}: {record.seconds:.2f} s, {record.nodes} nodes")
    if conversion.choice is not None:
        show(terminal, conversion.choice)
    terminal.done(
        f"wrote {output} ({output.stat().st_size / 1e3:,.0f} kB) in {terminal.seconds:.1f} s: "
        f"spiking populations: {len(found['layers'])}, T = {found['timesteps']}, {found['payload']} spikes, "
        f"{found['precision']}"
    )
    if conversion.artefact.host is not None:
        host = conversion.artefact.host
        terminal.done(f"{host.line}; {host.latency}" if host.islands else host.line)
    if drop is not None and (lost := drop["max_drop"]) is not None:
        terminal.done(f"{lost['measured']}: {lost['points']:.2f} points, at most {lost['limit']:g} allowed")
    for kept in () if drop is None else drop["min_metric"]:
        value = "without error" if kept["value"] is None else f"{kept['value']:.4g}"
        which = f" of {kept['output']!r}" if "output" in kept else ""
        terminal.done(
            f"{kept['metric']}{which}: {value} against the {kept['against']}, at least {kept['least']:g} "
            "required"
        )
