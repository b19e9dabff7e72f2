"""``snnc check``: everything in a network that cannot be converted, or that a target does not support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.given import refuse
from snnc.cli.inputs_outputs import fix_option, keep_option, shape_option
from snnc.cli.options import option_of
from snnc.cli.terminal import Terminal, Verb
from snnc.options import ConvertOptions

if TYPE_CHECKING:
    from snnc.artefact import Artefact
    from snnc.compiler import Options
    from snnc.diagnostics import Diagnostic

UNSUPPORTED = 3
UNFIT = 6

TRIAL_ROWS = 8
"""Made-up rows of the trial conversion: what a target takes does not depend on their values."""


@click.command("check", cls=Verb)
@click.argument("model")
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text", help="How to report."
)
@click.option(
    "--target", metavar="T", help="Also list everything that this target of `snnc deploy` does not support."
)
@shape_option
@fix_option
@keep_option
@click.option("--profile", metavar="NAME", help="Profile of the target; its first by default.")
@option_of("host")
@click.option(
    "--calib",
    type=click.Path(path_type=Path),
    metavar="ROWS",
    help="For PACKAGE.MODULE:FACTORY: rows for which the network is exported, as for `snnc convert`.",
)
@click.pass_obj
def command(
    terminal: Terminal,
    model: str,
    form: str,
    target: str | None,
    profile: str | None,
    host: str,
    shape: tuple[str, ...],
    fix: tuple[str, ...],
    keep_output: tuple[str, ...],
    calib: Path | None,
) -> int:
    """List everything in MODEL that cannot be converted, with node names and a remedy for each.

    Every node that runs as ordinary ONNX beside the spiking network is listed, too, with the reason.

    With --target, MODEL may be an artefact; any other MODEL is converted on trial, with synthetic rows.
    In place of a file, MODEL may be PACKAGE.MODULE:FACTORY, with --calib: this runs your own code.
    Exits with 3 if anything cannot be converted, with 6 if anything does not fit the target.
    """
    from snnc.cli.factories import exported_file, is_factory
    from snnc.compiler import Options
    from snnc.errors import UsageError

    if target is None and profile is not None:
        raise UsageError("--profile needs --target")
    options = Options(host=host, shape=shape, fix=fix, keep_output=keep_output)
    if not is_factory(model):
        refuse("is for PACKAGE.MODULE:FACTORY, and this is no such name", "--calib")
        return _check(terminal, model, model, form, target, profile, options)
    with exported_file(model, ConvertOptions(calib=calib)) as file:
        return _check(terminal, model, file, form, target, profile, options)


def _check(
    terminal: Terminal,
    model: str,
    file: str,
    form: str,
    target: str | None,
    profile: str | None,
    options: Options,
) -> int:
    """Check a file, which the user calls ``model``."""
    from snnc.cli.artefacts import holds_artefact, require_network
    from snnc.cli.host import lines, told
    from snnc.cli.models import locate
    from snnc.compiler import examine
    from snnc.diagnostics import Severity, causes

    located = locate(file)
    if target is None:
        require_network(located.path, model)
    converted = target is not None and holds_artefact(located.path)
    if converted:
        refuse("is for a network, and this is an artefact", "--shape", "--fix", "--keep-output", "--host")
    source, found = (None, ()) if converted else examine(located.path, options)
    supported = all(item.severity is not Severity.ERROR for item in found)
    unfit: tuple[Diagnostic, ...] = ()
    if target is not None and supported:
        unfit = _unfit(located.path, target, profile, converted, options)
        found = (*found, *unfit)
    if form == "sarif":
        from snnc.cli.sarif import sarif

        terminal.data(sarif(found, located.path, None if source is None else source.host))
    elif terminal.json or form == "json":
        rows = [item.as_dict() for item in found]
        facts: dict[str, Any] = {"model": model, "supported": supported and not unfit}
        if target is not None:
            facts["target"] = target
        if not converted:
            facts["host"] = None if source is None else told(source.host)
        grouped = [cause.as_dict() for cause in causes(found)]
        terminal.data({**facts, "causes": grouped, "diagnostics": rows})
    else:
        for cause in causes(found):
            terminal.text(str(cause))
        if source is not None and source.host is not None:
            for line in lines(source.host):
                terminal.text(line)
        if unfit:
            terminal.text(f"{model}: does not fit {target}, for {_reasons(unfit)}")
        elif supported:
            fits = f" and fits {target}" if target else ""
            terminal.text(f"{model}: {'is' if converted else 'can be'} converted{fits}")
        else:
            errors = [item for item in found if item.severity is Severity.ERROR]
            terminal.text(f"{model}: cannot be converted, for {_reasons(errors)}")
    if not supported:
        return UNSUPPORTED
    return UNFIT if unfit else 0


def _reasons(found: Sequence[Diagnostic]) -> str:
    from snnc.diagnostics import causes

    number = len(causes(found))
    at = f", at {len(found)} places" if len(found) > number else ""
    return f"{number} reason{'s' if number > 1 else ''}{at}"


def _unfit(
    path: Path, target: str, profile: str | None, converted: bool, options: Options
) -> tuple[Diagnostic, ...]:
    """Return what keeps a network from a target."""
    from snnc.artefact import load
    from snnc.backends import load_backend
    from snnc.backends.deployment import problems

    backend = load_backend(target, profile)
    artefact = load(path) if converted else _trial(path, options)
    return problems(backend, artefact.graph, artefact.host)


def _trial(path: Path, options: Options) -> Artefact:
    """Return a network as a conversion in a hurry leaves it."""
    import numpy as np

    from snnc.compiler import convert, read_convertible

    hurried = replace(options, timesteps=4, preset="fast", threads=1)
    source, _ = read_convertible(path, hurried)
    random = np.random.default_rng(0)
    types = {} if source.host is None else {port.name: port.dtype for port in source.host.inputs}
    rows = {}
    for name, taken in source.takes.items():
        kind = np.dtype(types.get(name, "float32"))
        shape = (TRIAL_ROWS, *(size or 1 for size in taken.shape))
        values = random.integers(0, 2, shape) if kind.kind in "iub" else random.normal(size=shape)
        rows[name] = values.astype(kind)
    return convert(path, rows, hurried).artefact
