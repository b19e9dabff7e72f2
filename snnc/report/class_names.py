"""What the classes of a network are called."""

from __future__ import annotations

from collections.abc import Sequence

from snnc.artefact import Artefact
from snnc.errors import UsageError
from snnc.sources import zoo_entry


def known_classes(artefact: Artefact, outputs: int) -> tuple[str, ...]:
    """Return the names that an artefact has, or the zoo for its source, where they are as many as outputs."""
    entry = zoo_entry(artefact.metadata.source_sha256)
    for names in (artefact.metadata.classes, () if entry is None else entry.dataset.classes):
        if len(names) == outputs:
            return names
    return ()


def classes_of(artefact: Artefact, given: Sequence[str], outputs: int) -> tuple[str, ...]:
    """Return the names of outputs: as given, as they are known, or their numbers.

    Raises:
        UsageError: there are other than as many as outputs.
    """
    names = tuple(given) or known_classes(artefact, outputs) or tuple(map(str, range(outputs)))
    if len(names) != outputs:
        raise UsageError(
            f"{len(names)} class names were given, and {artefact.graph.name} has {outputs} outputs"
        )
    return names
