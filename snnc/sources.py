"""Networks by their names: paths, the zoo, and the source that an artefact records."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from snnc.errors import InputError, UsageError
from snnc.models import PREFIX, ZooEntry, list_models, resolve

if TYPE_CHECKING:
    from snnc.analysis.answers import Source
    from snnc.artefact import Metadata
    from snnc.data.preprocessing import Preprocessing
    from snnc.ir.batch import Rows
    from snnc.source.selection import Selection
    from snnc.source.source_session import SourceSession


OTHER_SOURCES = (".nir",)
"""How the names of files end that hold spiking networks."""


@dataclass(frozen=True, slots=True)
class Located:
    """A network that the user named.

    Attributes:
        name: as the user wrote it.
        path: its file.
        entry: its place in the zoo, if it has one.
    """

    name: str
    path: Path
    entry: ZooEntry | None = None


def locate(name: str) -> Located:
    """Find the file of a path or of ``zoo:NAME``.

    Raises:
        InputError: there is no such file or no such entry.
    """
    if name.startswith(PREFIX):
        entry = resolve(name)
        return Located(name, entry.path, entry)
    path = Path(name)
    if not path.exists():
        raise InputError(f"{path} does not exist; give the path of an ONNX file, or zoo:NAME (see snnc zoo)")
    return Located(name, path)


def open_session(path: Path, threads: int | None, selection: Selection | None = None) -> SourceSession:
    """Return what runs a network in onnxruntime.

    Raises:
        InputError: the file is none, told as where it is converted, or onnxruntime cannot run it.
    """
    from snnc.frontend.loading import load
    from snnc.source.selection import Selection
    from snnc.source.source_session import SourceSession

    load(path)
    return SourceSession(path, threads, selection or Selection())


def open_source(
    tell: Callable[[str], object],
    located: Located,
    preprocessing: Preprocessing | None,
    threads: int | None,
    selection: Selection | None = None,
    *,
    accumulated: bool = False,
) -> Source:
    """Return the network to compare with; its operations are counted where it can be read as a graph.

    Args:
        tell: called with the reason why they are not.
        located: the network.
        preprocessing: from rows to what it takes.
        threads: for onnxruntime.
        selection: what is taken of its file; everything by default.
        accumulated: whether rows are frames, (n, T, *shape), which are added up for it.

    Raises:
        InputError: as :func:`open_session`.
    """
    import numpy as np

    from snnc.analysis.answers import Source
    from snnc.analysis.costs import macs_of_ann
    from snnc.data.preprocessing import check_fit, for_inputs, prepared_rows
    from snnc.errors import UnsupportedModelError
    from snnc.frontend import read_onnx
    from snnc.frontend.host.dividing import HostMode
    from snnc.ir.batch import arrays_by_name, joined
    from snnc.source.selection import EVERYTHING

    session = open_session(located.path, threads, selection)
    takes, macs = session.inputs, None
    try:
        read = read_onnx(located.path, HostMode.EDGES, selection=selection or EVERYTHING)
        takes |= read.takes
        macs = sum(macs_of_ann(read.graph).values()) if read.host is None else read.host.macs
    except UnsupportedModelError as error:
        tell(f"its operations are not counted: {error}")

    prepares = for_inputs(preprocessing, takes)

    def prepare(x: Rows) -> Rows:
        arrays = arrays_by_name(x, list(takes), located.name)
        if accumulated:
            arrays = {name: array.sum(axis=1, dtype=np.float32) for name, array in arrays.items()}
        return joined({n: prepared_rows(arrays[n], each, prepares[n]) for n, each in takes.items()})

    def check_rows(x: Rows, name: str) -> None:
        arrays = arrays_by_name(x, list(takes), located.name)
        for each, taken in takes.items():
            what = name if len(takes) == 1 else f"{name} for {each!r}"
            shape = arrays[each].shape
            check_fit(shape[:1] + shape[2:] if accumulated else shape, taken, prepares[each], what)

    return Source(session, prepare, macs, check_rows)


def locate_source(metadata: Metadata, artefact: Path, given: str | None) -> Located:
    """Find the network that an artefact was converted from.

    Looked for, in this order: where the user says, at the recorded path, beside the artefact, in the zoo.

    Raises:
        InputError: it is not found, what was found is another network, or the artefact has learned since.
        UsageError: there is none.
    """
    _require_unadapted(metadata, artefact)
    wanted = metadata.source_sha256
    if not wanted or metadata.source_path.endswith(OTHER_SOURCES):
        raise UsageError(
            f"{artefact} was not converted from a network in ONNX, so there is none to compare it with; "
            "eval, run, inspect, compare, plot and deploy take it"
        )
    if given is not None:
        found = locate(given)
        _same(found, wanted, artefact)
        return found
    recorded = metadata.source_path
    if recorded.startswith(PREFIX):
        found = locate(recorded)
        _same(found, wanted, artefact)
        return found
    for path in (Path(recorded), artefact.parent / Path(recorded).name):
        if path.exists():
            found = Located(str(path), path)
            _same(found, wanted, artefact)
            return found
    for entry in list_models():
        if entry.sha256 == wanted:
            return locate(PREFIX + entry.name)
    raise InputError(f"the source network {recorded} of {artefact} was not found: give it by --source MODEL")


def _require_unadapted(metadata: Metadata, artefact: Path) -> None:
    """Refuse to compare what has learned since: the source has other classes, and other layers at its end."""
    if metadata.adaptation is not None:
        raise InputError(
            f"{artefact} has learned after its conversion, so that its answers are no longer its source's: "
            "compare it before its edits, or after snnc adapt --revoke"
        )


@contextlib.contextmanager
def source_file(metadata: Metadata, artefact: Path, content: bytes | None) -> Iterator[Located]:
    """Yield the file of the network that an artefact was converted from.

    Args:
        metadata: of the artefact.
        artefact: its path.
        content: of a network that came without a path; it lies in a temporary folder meanwhile.

    Raises:
        InputError: as :func:`locate_source`.
    """
    if content is None:
        yield locate_source(metadata, artefact, None)
        return
    _require_unadapted(metadata, artefact)
    with tempfile.TemporaryDirectory(prefix="snnc-") as folder:
        file = Path(folder) / Path(metadata.source_path).name
        file.write_bytes(content)
        yield Located(metadata.source_path, file)


def zoo_entry(sha256: str) -> ZooEntry | None:
    """Return the bundled network with this hash, if there is one."""
    return next((entry for entry in list_models() if entry.sha256 == sha256), None)


def _same(found: Located, wanted: str, artefact: Path) -> None:
    from snnc.frontend.loading import load

    if load(found.path).sha256 != wanted:
        raise InputError(
            f"{found.name} is not the network that {artefact} was converted from: its SHA-256 differs; "
            "name the right one by --source MODEL, or convert again"
        )
