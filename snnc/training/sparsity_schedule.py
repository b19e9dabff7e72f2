"""When a network that learns becomes sparse: how much is left, and how much drops and grows again.

What is taken out goes in the first third of the steps, by a cubic schedule. Then, until the last quarter, a
share ``0.3 (1 + cos(pi x)) / 2`` of what is left drops at equal intervals, and as much grows again.

Sources: Zhu and Gupta, "To Prune, or Not to Prune", 2017 (the cubic schedule); Evci et al., "Rigging the
Lottery: Making All Tickets Winners", ICML 2020 (the share that falls).
"""

from __future__ import annotations

import math

SPARSE_BY = 1 / 3
"""Share of the steps in which the density falls."""

SETTLED_BY = 3 / 4
"""Share of the steps behind which nothing changes."""

CHANGES = 60
"""How often something changes in a stage."""

LARGEST_DROP = 0.3

TURNS = 6
"""How often a sparse network teaches its denser self."""

DENSER = 2
"""How many times as many weights that has."""

LEAST_STEPS = 60
"""Steps of a stage below which turns have less than two steps."""


def falling(step: int, steps: int) -> bool:
    """Say whether a network is still denser than it is to become."""
    return step < sparse_by(steps)


def due(step: int, steps: int) -> bool:
    """Say whether something changes behind a step, counted from 0."""
    return (step + 1) % max(1, steps // CHANGES) == 0 or step + 1 == sparse_by(steps)


def left(size: int, least: int, step: int, steps: int) -> int:
    """Return how many of ``size`` are left after a step in which the density falls; ``least`` in the end."""
    return round(least + (size - least) * (1 - step / sparse_by(steps)) ** 3)


def dropped(count: int, step: int, steps: int) -> int:
    """Return how many of ``count`` drop after a step, to grow again elsewhere."""
    first, last = sparse_by(steps), SETTLED_BY * steps
    if not first < step <= last:
        return 0
    return int(LARGEST_DROP * (1 + math.cos(math.pi * (step - first) / (last - first))) / 2 * count)


def dense_turn(step: int, steps: int) -> bool:
    """Say whether a step, counted from 0, lies in a turn of the denser network: the first is one."""
    first, last = sparse_by(steps), int(SETTLED_BY * steps)
    return first <= step < last and (step - first) * 2 * TURNS // (last - first) % 2 == 0


def sparse_by(steps: int) -> int:
    """Return the number of steps in which the density falls."""
    return max(1, round(SPARSE_BY * steps))
