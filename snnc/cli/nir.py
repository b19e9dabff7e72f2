"""``snnc convert NETWORK.nir``: a spiking network that another simulator wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from snnc.cli.given import refuse
from snnc.cli.quantities import FiniteRange

if TYPE_CHECKING:
    from snnc.cli.models import Located
    from snnc.cli.terminal import Terminal
    from snnc.options import ConvertOptions

SUFFIX = ".nir"

ONNX_ALONE = (
    *("--preset", "--pipeline", "--set", "--host", "--max-drop", "--min-metric", "--task", "--shape"),
    *("--keep-output", "--max-latency", "--max-synops", "--payload", "--tune", "--front", "--journal"),
    *("--fix", "--dry-run", "--dump-ir-after", "--rows-layout", "--cluster", "--frames"),
)
"""Options that are for networks in ONNX."""

OPTIONS = (
    click.Option(
        ["--exporter"],
        metavar="NAME",
        help="What wrote a NIR file: snntorch, spikingjelly, norse or sinabs.",
    ),
    click.Option(
        ["--dt"],
        type=FiniteRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Length of a step of a NIR file.",
    ),
    click.Option(
        ["--discretisation"],
        type=click.Choice(("euler", "exact")),
        help="How the equations of a NIR file become steps.",
    ),
    click.Option(
        ["--reset"],
        type=click.Choice(("value", "subtract")),
        help="What a spike does to potentials of a NIR file: set them to v_reset, or subtract the threshold.",
    ),
)
"""What a NIR file does not say."""

NAMES = ("exporter", "dt", "discretisation", "reset")


def convert_nir(terminal: Terminal, located: Located, asked: ConvertOptions, said: dict[str, Any]) -> None:
    """Read a NIR file, and write it as an artefact.

    Args:
        terminal: where to tell.
        located: the file.
        asked: the options of a conversion, of which few are for NIR.
        said: the values of :data:`OPTIONS`.

    Raises:
        InputError: the file or the rows are damaged or do not fit.
        UnsupportedModelError: the network has no form here.
        UsageError: an option makes no sense here, or one is missing.
    """
    from snnc.artefact import save
    from snnc.cli.files import check_outputs
    from snnc.compiler.importing import import_nir
    from snnc.data.material import read_material
    from snnc.data.preprocessing import Preprocessing
    from snnc.errors import UsageError
    from snnc.frontend.nir import Convention

    refuse("is for networks in ONNX: leave it out for a NIR file", *ONNX_ALONE)
    convention = Convention.chosen(**said)
    if asked.calib is None:
        raise UsageError("no rows: give frames like the network's input, (rows, steps, ...), by --calib ROWS")
    if asked.output is None:
        raise UsageError("no output is named: give -o NAME.snn.onnx")
    check_outputs(asked.output, others=(located.path, asked.calib, asked.preprocess), force=asked.force)
    preprocessing = None if asked.preprocess is None else Preprocessing.read(asked.preprocess)
    rows = read_material(asked.calib, preprocessing)
    used = rows.preprocessing
    if used is not None and (used.divide, *used.mean, *used.std) != (1, 0, 1):
        raise UsageError(
            "the preprocessing scales rows, which a NIR file takes as they are: give `events` alone in it"
        )
    if asked.timesteps is not None and rows.x.ndim > 1 and asked.timesteps != rows.x.shape[1]:
        raise UsageError(
            f"-T {asked.timesteps}: the rows have {rows.x.shape[1]} frames, one for each step; leave it out"
        )
    found = import_nir(located.path, rows.x, convention, asked.precision, asked.threads)
    save(found.artefact, asked.output)
    graph = found.artefact.graph
    facts: dict[str, Any] = {
        "output": str(asked.output),
        "timesteps": graph.timesteps,
        "precision": asked.precision,
        "input_unit": found.scale,
        "rows": found.rows,
        "same_answers": found.same,
        "correlation": found.correlation,
    }
    if terminal.json:
        terminal.data(facts)
        return
    terminal.done(f"wrote {asked.output}: T = {graph.timesteps}, {asked.precision}")
    if found.scale != 1:
        terminal.done(
            f"the input is rounded to multiples of {found.scale:g}: its rows hold no small integers"
        )
    if found.same is not None:
        also = "" if found.correlation is None else f", outputs correlate by {found.correlation:.4f}"
        terminal.done(f"int8 against float32: {found.same} of {found.rows} answers are the same{also}")


def refuse_without_nir(said: dict[str, Any]) -> None:
    """Refuse options for NIR files beside another network.

    Raises:
        UsageError: one was given.
    """
    refuse("is for NIR files: leave it out", *(f"--{name}" for name in said))
