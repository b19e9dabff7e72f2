"""What the tables of adaptation have in common."""

from __future__ import annotations

from typing import Any

from snnc.artefact import Artefact

KNOWN, CLASSES = 5, 10
TIMESTEPS = 16


def encoder(artefact: Artefact, x: Any) -> Any:
    """Return what gives the quantised rows of a slice."""
    return lambda part: artefact.encode(x[part])
