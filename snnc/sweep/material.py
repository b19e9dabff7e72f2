"""The networks and rows of a sweep, as this process reads them and as workers get them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from snnc.analysis.answers import Source
from snnc.artefact.metadata import SCHEMA, properties_of
from snnc.data.labelled import part_of, read_named
from snnc.data.preprocessing import Preprocessing
from snnc.data.shared_rows import SharedRows
from snnc.errors import InputError, UsageError
from snnc.frontend.loading import load
from snnc.ir.batch import Batch, Rows
from snnc.metrics.outputs import Labels
from snnc.models import calibration_data, test_data
from snnc.remote.evaluation import TASK_ROWS
from snnc.remote.files import in_parts, shared_files, told_of_source
from snnc.scale.tasks import Shared
from snnc.sources import Located, locate, open_source
from snnc.sweep.plan import Network, Plan


@dataclass(frozen=True)
class Measured:
    """Rows to measure on.

    Attributes:
        name: where they are from.
        rows: the rows, as tasks get them.
        y: labels, as far as there are any.
    """

    name: str
    rows: SharedRows
    y: Labels

    @cached_property
    def parts(self) -> tuple[slice, ...]:
        """The rows of each task."""
        return tuple(in_parts(len(self.rows), TASK_ROWS))

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """The SHA-256 of the rows of each task."""
        assert self.shared  # noqa: S101 - noted before: rows that change meanwhile are refused when they are sent
        return tuple(digest_of(self.rows.rows[part]) for part in self.parts)

    @cached_property
    def shared(self) -> tuple[Shared, ...]:
        """The rows of each task, as many tasks share them."""
        return tuple(map(self.rows.shared, self.parts))

    @cached_property
    def labels_digest(self) -> str:
        """The SHA-256 of the labels."""
        return "none" if self.y is None else digest_of(self.y)


def digest_of(rows: Rows) -> str:
    """Return the SHA-256 of rows, or of labels: one array, or several by their names."""
    named: Any = rows.arrays if isinstance(rows, Batch) else rows
    digest = hashlib.sha256()
    for name, array in named.items() if isinstance(named, Mapping) else (("", named),):
        whole = np.ascontiguousarray(array)
        digest.update(f"{name}|{whole.dtype.str}|{whole.shape}".encode())
        digest.update(whole.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@dataclass
class Ready:
    """A network of a sweep, read.

    Attributes:
        network: what was named.
        located: where it is.
        sha256: of its file.
        preprocessing: of its rows.
        calibration: its calibration rows, as tasks get them.
        calibration_digest: the SHA-256 of these.
        origin: where they are from.
        inputs, outputs: their names.
    """

    network: Network
    located: Located
    sha256: str
    preprocessing: Preprocessing | None
    calibration: Shared
    calibration_digest: str
    origin: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    _source: Source | None = field(default=None, repr=False)

    @cached_property
    def files(self) -> Shared:
        """Its files, as tasks share them: read again when they are sent."""
        first = shared_files(self.located.path)
        if load(self.located.path).sha256 != self.sha256:
            raise InputError(f"{self.located.path} has changed during the sweep: run the command again")
        return Shared(first.sha256, lambda: shared_files(self.located.path).load())

    @property
    def told(self) -> dict[str, Any]:
        """What workers have to know of it beside its files."""
        return told_of_source(self.located.name, self.preprocessing, None)

    @cached_property
    def source(self) -> Source:
        """The network to compare with."""
        return open_source(lambda text: None, self.located, self.preprocessing, 1)


class Materials:
    """All networks and rows of a sweep: each file is read once."""

    def __init__(self, plan: Plan, *, reads_paths: bool) -> None:
        """Remember what is asked for; nothing is read yet."""
        self._plan = plan
        self._reads_paths = reads_paths
        self._networks: dict[Network, Ready] = {}
        self._rows: dict[tuple[object, ...], Measured] = {}

    def network(self, network: Network) -> Ready:
        """Return a network and its calibration rows.

        Raises:
            InputError: its files are missing or damaged.
            UsageError: it is an artefact, or there are no calibration rows.
        """
        if network not in self._networks:
            self._networks[network] = self._read(network)
        return self._networks[network]

    def _read(self, network: Network) -> Ready:
        located = locate(network.model)
        loaded = load(located.path)
        if SCHEMA in properties_of(loaded.proto):
            raise UsageError(
                f"{network.model} is an artefact already: a sweep takes the network it came from"
            )
        constants = {tensor.name for tensor in loaded.proto.graph.initializer}
        inputs = tuple(each.name for each in loaded.proto.graph.input if each.name not in constants)
        outputs = tuple(each.name for each in loaded.proto.graph.output)
        given = None if network.preprocess is None else Preprocessing.read(network.preprocess)
        if network.calib is not None:
            found = read_named(network.calib, inputs, outputs, given)
            rows, preprocessing, origin = found.x, found.preprocessing, found.name
        elif located.entry is not None:
            rows, _ = calibration_data(located.entry)
            preprocessing = given or Preprocessing.from_dict(located.entry.preprocessing)
            origin = f"the zoo's {located.entry.dataset.name}"
        else:
            raise UsageError(
                f"{network.model}: no calibration rows: name 500 to 1,000 training rows as calib"
            )
        if self._plan.rows_layout is not None:
            values = {**(preprocessing or Preprocessing()).as_dict(), "rows_layout": self._plan.rows_layout}
            preprocessing = Preprocessing.from_dict(values)
        shared = SharedRows.of(rows, network.calib, reads_paths=self._reads_paths)
        whole = slice(0, len(rows))
        return Ready(
            network,
            located,
            loaded.sha256,
            preprocessing,
            shared.shared(whole),
            digest_of(rows),
            origin,
            inputs,
            outputs,
        )

    def measured(self, ready: Ready, data: Path | None) -> Measured:
        """Return rows to measure a network on.

        Raises:
            InputError: the file is missing or damaged, or its rows do not fit.
            UsageError: there are none.
        """
        limit = self._plan.limit
        if data is None:
            entry = ready.located.entry
            if entry is None:
                raise UsageError(
                    f"{ready.network.model}: no rows to measure on: name them as data, with `x` and `y`"
                )
            key: tuple[object, ...] = ("zoo", entry.dataset.name)
            if key not in self._rows:
                x, y = test_data(entry)
                found = SharedRows.of(x[:limit], None, reads_paths=self._reads_paths)
                self._rows[key] = Measured(
                    f"test rows of {entry.dataset.name}", found, part_of(y, slice(limit))
                )
            return self._rows[key]
        decoded = None if ready.preprocessing is None else repr(ready.preprocessing.files)
        named = [names if len(names) > 1 else None for names in (ready.inputs, ready.outputs)]
        key = (data, decoded, *named)
        if key not in self._rows:
            read = read_named(
                data, ready.inputs, ready.outputs, ready.preprocessing, limit=limit, is_fixed=True
            )
            rows = SharedRows.of(read.x, data, reads_paths=self._reads_paths)
            self._rows[key] = Measured(str(data), rows, read.y)
        return self._rows[key]
