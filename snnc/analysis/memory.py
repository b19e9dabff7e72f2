"""The memory that a conversion needs, the memory that is free, and the number of rows that fit.

The estimate adds up what is known to be large, by the shapes of the network: the rows themselves; what the
source network gives on a chunk of rows; spikes and values of a layer, as far as they stay in memory; and the
sampled positions that weights are fitted to. It is meant to be right within a third, and rather too large.
"""

from __future__ import annotations

import math
from pathlib import Path

from snnc.errors import InputError
from snnc.ir.ann import Activation, AnnGraph, Convolution, Input, Linear
from snnc.numerics.spill import IN_MEMORY
from snnc.source.ann_session import CHUNK

BASE = 400 << 20
"""What Python, the libraries and compiled kernels take."""

COPIES = 3
"""Of the rows: as they came, as the network takes them, and those that are held back."""

ALIVE = 8
"""Arrays of a layer that are alive at once: values, spikes that arrive, attempts."""

WEIGHT_COPIES = 8
"""Of the weights: in the graph, in its changed forms, in sessions of the source network."""

WORKING = 256 << 20
"""What a chunk of rows takes while it is simulated."""

POSITIONS = 60_000
POSITIONS_PER_FEATURE = 40
"""Positions of a fit, as in :mod:`snnc.compensation.refit`."""

UNTOUCHED = 0.95
"""Share of the free memory that a conversion may plan with."""


def needed(graph: AnnGraph, rows: int, *, fitted: bool) -> int:
    """Return the bytes that a conversion takes at its peak, about.

    Args:
        graph: the source network.
        rows: calibration rows.
        fitted: whether a pass fits layers to spikes.
    """
    size = {node.name: math.prod(node.shape) for node in graph}
    widest = max(size.values())
    inputs = sum(size[node.name] for node in graph.of_type(Input))
    rectified = sum(size[node.name] for node in graph if isinstance(node, Activation))
    layers = graph.of_type(Convolution) + graph.of_type(Linear)
    weights = sum(node.weight.size for node in layers)
    # Each call of the runtime hands out copies of what it computed.
    source = 4 * min(rows, CHUNK) * (2 * rectified + 2 * widest)
    working = 0
    if fitted:
        working = ALIVE * min(IN_MEMORY, 4 * rows * widest) + min(WORKING, 32 * rows * widest)
        working += max((_fit(node, size[node.name], rows) for node in layers), default=0)
    return int(BASE + 4 * (COPIES * rows * inputs + WEIGHT_COPIES * weights) + max(source, working))


def _fit(layer: Convolution | Linear, size: int, rows: int) -> int:
    """Return the bytes that the fit of a layer takes: columns and targets, with one copy of the larger."""
    outputs, features = layer.weight.shape[0], math.prod(layer.weight.shape[1:])
    return 4 * positions(layer, size, rows) * (features + outputs + max(features, outputs))


def positions(layer: Convolution | Linear, size: int, rows: int) -> int:
    """Return how many positions the weights of a layer with ``size`` outputs are fitted to."""
    outputs, features = layer.weight.shape[0], math.prod(layer.weight.shape[1:])
    return int(min(POSITIONS + POSITIONS_PER_FEATURE * features, rows * size // max(outputs, 1)))


def available() -> int | None:
    """Return the bytes that this process may still take, by the machine and its control group.

    ``None`` where the system does not tell.
    """
    found = [value for value in (_machine(), *control_groups()) if value is not None]
    return min(found, default=None)


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def control_groups(root: Path = Path("/sys/fs/cgroup")) -> list[int | None]:
    """Return what control groups leave, of version 2 and of version 1."""
    pairs = (
        (root / "memory.max", root / "memory.current"),
        (root / "memory" / "memory.limit_in_bytes", root / "memory" / "memory.usage_in_bytes"),
    )
    return [_left(limit, used) for limit, used in pairs]


def _left(limit: Path, used: Path) -> int | None:
    try:
        most = limit.read_text(encoding="ascii").strip()
        return None if most == "max" else max(int(most) - int(used.read_text(encoding="ascii")), 0)
    except (OSError, ValueError):
        return None


def most_rows(graph: AnnGraph, limit: float, *, fitted: bool, rows: int) -> int:
    """Return how many of so many rows a conversion has memory for; 0 if for none."""
    low, high = 0, rows
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needed(graph, middle, fitted=fitted) <= limit else (low, middle - 1)
    return low


def require_memory(graph: AnnGraph, rows: int, *, fitted: bool, free: int | None = None) -> None:
    """Refuse rows for which the memory is too small, before any work is done.

    Args:
        graph: the source network.
        rows: calibration rows.
        fitted: whether a pass fits layers to spikes.
        free: bytes that there are; by default what the system tells.

    Raises:
        InputError: with the number of rows that fit.
    """
    left = available() if free is None else free
    if left is None or needed(graph, rows, fitted=fitted) <= UNTOUCHED * left:
        return
    fits = most_rows(graph, UNTOUCHED * left, fitted=fitted, rows=rows)
    need = f"{needed(graph, rows, fitted=fitted) / 1e9:.1f} GB, and {left / 1e9:.1f} GB are free"
    cure = f"give at most {fits} rows" if fits else "no number of rows fits: free some memory"
    raise InputError(f"{rows} calibration rows of this network need about {need}: {cure}")
