"""The subject of verbs that analyse a conversion: an artefact, its source, and rows of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from snnc.cli.terminal import Terminal

if TYPE_CHECKING:
    from snnc.artefact import Artefact
    from snnc.cli.models import Located
    from snnc.data.preprocessing import Preprocessing
    from snnc.ir.ann import AnnGraph
    from snnc.ir.batch import Rows
    from snnc.metrics import Outputs, Task
    from snnc.metrics.outputs import Labels
    from snnc.simulation.protocol import Simulator


@dataclass(frozen=True)
class Subject:
    """A conversion and rows to look at it with.

    Attributes:
        path: of the artefact.
        artefact: the spiking network.
        located: its source.
        source: the network as it was lowered.
        x: (n, ...) rows.
        y: (n, ...) labels as they are stored; ``None`` if there are none.
        each: what the one output is, and the labels as they fit it; ``None`` where there are several.
        data: where the rows are from, in words.
        simulator: what runs spiking networks.
    """

    path: Path
    artefact: Artefact
    located: Located
    source: AnnGraph
    x: Rows
    y: Labels
    each: Outputs | None
    data: str
    simulator: Simulator

    def told_task(self, given: Task | None) -> Task | None:
        """Return what is evident of the one output, and else what the user says; maps are told by labels."""
        return given if self.each is None or self.each.is_map else self.each.task

    @property
    def outputs(self) -> Outputs:
        """What the one output is.

        Raises:
            UsageError: there are several.
        """
        from snnc.errors import UsageError

        if self.each is None:
            raise UsageError(f"{self.artefact.graph.name} has several outputs, and this takes one")
        return self.each


def rows_of(
    data: Path | None,
    sha256: str,
    limit: int | None,
    *check: Callable[[Rows, str], object],
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
    preprocessing: Preprocessing | None = None,
    is_fixed: bool = True,
) -> tuple[Rows, Labels, str]:
    """Return rows and labels: a file's, or the zoo's own where the source is from the zoo.

    Args:
        data: the file.
        sha256: of the source network.
        limit: use so many rows.
        check: refuse all rows, by the name that is given beside them, where they do not fit.
        inputs: names of the network's inputs.
        outputs: names of its outputs.
        preprocessing: of the rows.
        is_fixed: whether it is an artefact's.

    Raises:
        UsageError: there are none.
    """
    from snnc.cli.files import part_of, read_named
    from snnc.cli.models import zoo_entry
    from snnc.errors import UsageError
    from snnc.models import PREFIX, test_data

    x: Rows
    y: Labels
    if data is not None:
        found = read_named(data, inputs, outputs, preprocessing, limit=limit, is_fixed=is_fixed)
        x, y, name = found.x, found.y, str(data)
        for refuse in check:
            refuse(x, found.name)
    else:
        entry = zoo_entry(sha256)
        if entry is None:
            raise UsageError("no rows to run: give them by --data ROWS, with `x` and, if known, `y`")
        x, y = test_data(entry)
        name = f"test rows of {PREFIX}{entry.name}"
    return x[:limit], part_of(y, slice(limit)), name


def subject(
    terminal: Terminal,
    path: Path,
    *,
    data: Path | None,
    source: str | None,
    limit: int | None,
    threads: int | None,
    rows_layout: str | None = None,
    task: Task | None = None,
    several: bool = False,
) -> Subject:
    """Find and read everything; see :class:`Subject`.

    Args:
        terminal: where to say what was found.
        path: of the artefact.
        data: file of the rows.
        source: what the user says of the source.
        limit: use so many rows.
        threads: for the simulator.
        rows_layout: of the rows.
        task: what the user says of the outputs.
        several: whether several inputs and outputs can be taken.

    Raises:
        InputError: the artefact, its source or the data are missing or do not fit.
    """
    from snnc.artefact import load
    from snnc.backends.numba_cpu import NumbaSimulator
    from snnc.cli.judging import outputs_of_artefact
    from snnc.cli.models import locate_source
    from snnc.ir.snn import IntegrateFire
    from snnc.metrics.outputs import labels_by_output
    from snnc.report.origin import prepared_source

    artefact = load(path).with_rows_layout(rows_layout)
    if not several:
        artefact.require_plain("this")
    located = locate_source(artefact.metadata, path, source)
    names = tuple(artefact.gives)
    x, y, name = rows_of(
        data,
        artefact.metadata.source_sha256,
        limit,
        artefact.check_rows,
        inputs=tuple(artefact.takes),
        outputs=names,
        preprocessing=artefact.preprocessing,
    )
    outputs = None
    if len(names) == 1:
        labels = labels_by_output(y, names).get(names[0])
        outputs = outputs_of_artefact(artefact, located.path, len(x), labels, task)
    # The report asks for every layer alone in turn, for the read-out and for the whole network.
    questions = len(artefact.graph.of_type(IntegrateFire)) + 2
    simulator = NumbaSimulator(threads, prepared=questions)
    prepared = prepared_source(artefact, located.path, simulator)
    terminal.detail(f"source: {located.name}; {len(x)} rows: {name}")
    return Subject(path, artefact, located, prepared, x, y, outputs, name, simulator)
