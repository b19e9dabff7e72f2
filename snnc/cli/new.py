"""``snnc new``: a configuration file for a network, with every option of a conversion explained."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.cli.inputs_outputs import fix_option, keep_option, shape_option
from snnc.cli.options import option_of
from snnc.cli.terminal import Terminal, Verb

if TYPE_CHECKING:
    from snnc.frontend import SourceModel
    from snnc.option_kinds import Option

EXAMPLES: Mapping[str, Any] = {
    "calib": "rows.npz",
    "timesteps": 4,
    "preset": "balanced",
    "pipeline": "fold-batchnorm,clip-activations,lower,dual-threshold,init-membrane,quantise-weights",
    "preprocess": "rows.json",
    "payload": "signed",
    "min-metric": ["r2=0.99"],
    "front": "front.svg",
    "journal": "search.jsonl",
}
"""What stands behind ``#`` where nothing is known and nothing is the default."""


@click.command("new", cls=Verb)
@click.argument("model")
@option_of("calib")
@option_of("preprocess")
@shape_option
@fix_option
@keep_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("convert.toml"),
    show_default=True,
    metavar="FILE.toml",
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.pass_obj
def command(
    terminal: Terminal,
    model: str,
    calib: Path | None,
    preprocess: Path | None,
    shape: tuple[str, ...],
    fix: tuple[str, ...],
    keep_output: tuple[str, ...],
    output: Path,
    force: bool,
) -> None:
    """Write a configuration of snnc convert for MODEL: what is known of it, and every other option behind #.

    Exits with 3, and writes nothing, if MODEL cannot be converted.
    """
    from snnc.cli.artefacts import require_network
    from snnc.cli.files import check_outputs
    from snnc.cli.models import locate
    from snnc.compiler import Options, read_convertible
    from snnc.models import PREFIX
    from snnc.writing import replacing

    located = locate(model)
    require_network(located.path, model)
    check_outputs(output, others=(located.path, calib, preprocess), force=force)
    taken = {"shape": shape, "fix": fix, "keep-output": keep_output}
    source, _ = read_convertible(located.path, Options(shape=shape, fix=fix, keep_output=keep_output))
    known: dict[str, Any] = {}
    for name, path in (("calib", calib), ("preprocess", preprocess)):
        if path is not None:
            known[name] = _relative(path, output)
    known |= {name: list(texts) for name, texts in taken.items() if texts}
    made = f"{Path(model.removeprefix(PREFIX)).stem}.snn.onnx"
    call = shlex.join(["snnc", "convert", model, "--config", str(output), "-o", made])
    with replacing(output) as file:
        file.write(_text(model, source, known, call).encode())
    if terminal.json:
        terminal.data({"output": str(output), "known": known, "command": call})
        return
    terminal.done(f"wrote {output}: look through it, then run {call}")


def _relative(path: Path, output: Path) -> str:
    """Return a path as the file has it, from its own folder; the name of a preset stays."""
    if str(path).startswith("preset:") or path.is_absolute():
        return str(path)
    return os.path.relpath(path, output.absolute().parent)


def _text(model: str, source: SourceModel, known: Mapping[str, Any], call: str) -> str:
    from snnc.cli.config import KEYS
    from snnc.compiler import tasks_of
    from snnc.option_kinds import Kind

    lines = [f"# Configuration of snnc convert for {_line(model)}", f"# SHA-256 {source.sha256}"]
    for name, taken in source.takes.items():
        lines.append(f"# input {_line(name)}: {taken}")
    tasks = tasks_of(source, None)
    for name, shape in source.gives.items():
        task = tasks.get(name)
        told = "not evident: give task" if task is None else task.value
        lines.append(f"# output {_line(name)}: {' x '.join(map(str, shape))}, {told}")
    lines += [f"# {_line(call)}", ""]
    tables = [option for option in KEYS.values() if option.kind is Kind.OBJECT]
    for option in KEYS.values():
        if option in tables:
            continue
        value = known.get(option.name, example(option))
        mark = "" if option.name in known else "# "
        lines += [f"# {option.facts.meaning}{_range(option)}", f"{mark}{option.name} = {_toml(value)}", ""]
    for option in tables:
        lines += [f"# {option.facts.meaning}", f"# [{option.name}.clip-activations]", '# method = "mse"', ""]
    return "\n".join(lines)


def example(option: Option) -> Any:
    """Return a value that an option may have: its default, where there is one."""
    from snnc.option_kinds import Kind

    if option.name in EXAMPLES:
        return EXAMPLES[option.name]
    if option.default not in (None, ()):
        return option.default
    if option.facts.choices:
        return option.facts.choices[0]
    least = option.facts.least or 0
    if option.kind in (Kind.INTEGER, Kind.NUMBER):
        return least + 1
    return [] if option.kind is Kind.ARRAY else ""


def _range(option: Option) -> str:
    return f": {', '.join(option.facts.choices)}" if option.facts.choices else ""


def _toml(value: Any) -> str:
    """Return a value as TOML writes it: so far as options need it, as JSON does."""
    return json.dumps(value, ensure_ascii=True)


def _line(text: str) -> str:
    """Return a text on one line, for a comment."""
    return " ".join(json.dumps(text, ensure_ascii=False)[1:-1].split())
