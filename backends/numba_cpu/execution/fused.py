"""Stages that follow each other, whose records one call reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu.kernels.records import STAGE, TERM, VARIANT
from snnc.backends.numba_cpu.kernels.stage import run_stages
from snnc.backends.numba_cpu.kernels.thread_team import ThreadTeam
from snnc.backends.numba_cpu.machine.memory import aligned
from snnc.ir import snn

Array = NDArray[Any]
Action = Callable[[int], None]
"""Computes a part for some number of images."""


@dataclass(slots=True)
class Bound:
    """A stage whose records are filled in.

    Attributes:
        node: what it computes.
        before: what must be computed before it.
        shares: per thread that works on an image, the fields of the stage and those of its terms: they differ
            in their scratch memory. Behind the terms stand those that others refer to, by their places, as
            ``dense``.
        variants: rows of :data:`~snnc.backends.numba_cpu.kernels.records.VARIANT` per term.
    """

    node: snn.SnnNode
    before: list[Action]
    shares: list[tuple[dict[str, int], list[dict[str, int]]]]
    variants: list[list[tuple[int, ...]]]


class FusedStages:
    """Stages that follow each other, which one call runs."""

    def __init__(self, stages: list[Bound], team: ThreadTeam) -> None:
        """Write the records into tables.

        Args:
            stages: at least one.
            team: the threads for the shares.
        """
        self.names = tuple(stage.node.name for stage in stages)
        self._team = team
        variants = [aligned(np.array(rows, VARIANT)) for stage in stages for rows in stage.variants]
        self._tables = [
            _tables([stage.shares[k] for stage in stages], variants) for k in range(len(stages[0].shares))
        ]

    def run(self, images: int, only: int | None = None) -> None:
        """Run the stages, or one of them, for so many images."""
        chosen = slice(None) if only is None else slice(only, only + 1)

        def run_share(share: int, meeting: int) -> None:
            run_stages(self._tables[share].stages[chosen], images, len(self._tables), meeting)

        if len(self._tables) == 1:
            run_share(0, 0)
        else:
            self._team.together(run_share, len(self._tables))


@dataclass(frozen=True, slots=True)
class Tables:
    """The records of stages that follow each other.

    Attributes:
        stages: (stages,) :data:`~snnc.backends.numba_cpu.kernels.records.STAGE`, which hold addresses of the
            others.
        terms: of all stages, one behind the other.
        variants: of each term.
    """

    stages: Array
    terms: Array
    variants: list[Array]


def _tables(stages: list[tuple[dict[str, int], list[dict[str, int]]]], variants: list[Array]) -> Tables:
    """Write the records of stages and those of their terms."""
    terms_ = np.zeros(len(variants), TERM)
    table = np.zeros(len(stages), STAGE)
    place = 0
    for k, (fields, rows) in enumerate(stages):
        first = terms_.ctypes.data + place * TERM.itemsize
        _write(table, k, fields | {"own_terms": first})
        for row in rows:
            found = row | {"variants": variants[place].ctypes.data}
            if "dense" in row:
                found["dense"] = first + row["dense"] * TERM.itemsize
            _write(terms_, place, found)
            place += 1
    return Tables(table, terms_, variants)


def _write(table: Array, place: int, fields: dict[str, int]) -> None:
    for name, number in fields.items():
        table[name][place] = number
