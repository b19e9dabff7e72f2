"""Lower a quantised network to the spiking dialect with its own integers: counts are its levels.

Every rectifier of the source rounds to levels ``y = scale k``, and its population ends with the count ``N =
k``. Signed levels are signed counts, so that silence stands for zero and padding is silent. Weights that
are integer multiples of a scale stay these integers. What lies between two roundings is affine in one
integer sum ``P`` per neuron, ``z = step P + bias``; scales, bias, batch norm and the rounding itself become
the breakpoints of a step function of ``P`` (:mod:`snnc.numerics.levels`), found by evaluating the source's
own arithmetic. There is no threshold whose rounding could matter.

A sum of two activations of different scales gets the pair of integer weights for which, tried on all pairs
of levels, the step function gives the source's level for the most. Where weights are no small multiples of
anything they are rounded, and such a population is named: its counts are an approximation.

Graded neurons and the layerwise schedule then end at exactly these counts, for every T.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.diagnostics import APPROXIMATED_LEVELS, UNSUPPORTED_STRUCTURE, Diagnostic
from snnc.errors import UnsupportedModelError
from snnc.ir import ann, snn
from snnc.ir.batch import rows_of
from snnc.ir.operations import check_known
from snnc.numerics.input_grid import input_grid
from snnc.passes.lower_quantised.network import spiking_network
from snnc.passes.lower_quantised.walk import Walk
from snnc.pipeline import Context, require


@dataclass(frozen=True, slots=True)
class LowerQuantised:
    """Lower a network of which every rectifier rounds to levels.

    Attributes:
        weight_bits: of weights that are no small multiples of a scale and must be rounded, 8 to 16: with
            fewer, more counts differ from the source's levels, and the network takes half the memory.
        limited: whether a neuron sends one spike a step, of up to M levels, and not as many as it has: exact
            in the layerwise schedule alone, which is said.
    """

    name: ClassVar[str] = "lower-quantised"
    weight_bits: int = 16
    limited: bool = False

    def __post_init__(self) -> None:
        """Refuse weights that nothing computes with."""
        require("weight-bits", self.weight_bits, 8, 16)

    def run(self, graph: ann.AnnGraph, context: Context, /) -> snn.SnnGraph:
        """Return the integer spiking network.

        Raises:
            UnsupportedModelError: naming a rectifier that does not round, or what cannot be lowered so.
        """
        check_known(graph)
        _require_levels(graph)
        rows = context.calibration.rows
        grids = {
            node.name: input_grid(graph, node, np.asarray(rows_of(rows, node.name), np.float32))
            for node in graph.inputs
        }
        most = 2 ** (self.weight_bits - 1) - 1
        walk = Walk(graph, grids, context.timesteps, most, limited=self.limited)
        result = spiking_network(walk, context.task_of)
        context.findings["levels"] = walk.levels
        context.findings["ties"] = walk.ties
        context.findings["approximated"] = walk.approximated
        if walk.approximated:
            context.diagnostics.append(_approximations(graph, walk.approximated))
        if self.limited and context.timesteps > 1:
            context.diagnostics.append(
                Diagnostic(
                    APPROXIMATED_LEVELS,
                    "neurons send one spike a step, so that their counts are the source's levels in the "
                    "layerwise schedule alone",
                    help="add --set set-schedule.kind=layerwise",
                )
            )
        return result


def problem(graph: ann.AnnGraph) -> Diagnostic | None:
    """Say why a network has no levels of its own to be lowered with; ``None`` if it has."""
    rectifiers = graph.of_type(ann.Relu)
    plain = [node for node in rectifiers if node.scale is None or node.threshold is not None]
    wide = [node for node in rectifiers if node.steps > snn.MOST_BREAKPOINTS]
    if not rectifiers or plain:
        what = (
            f"{len(plain)} of {len(rectifiers)} rectifiers do not round to levels"
            if rectifiers
            else ("no activation rounds to levels")
        )
        node = plain[0] if plain else graph[graph.outputs[0]]
        cure = "quantise the network, or choose another preset"
        return Diagnostic(UNSUPPORTED_STRUCTURE, f"the source is not quantised: {what}", node.origin, cure)
    if wide:
        reason = f"rounds to {wide[0].steps + 1} levels; {snn.MOST_BREAKPOINTS + 1} are the most"
        return Diagnostic(
            UNSUPPORTED_STRUCTURE, reason, wide[0].origin, "quantise activations to 8 bits or fewer"
        )
    return None


def _require_levels(graph: ann.AnnGraph) -> None:
    found = problem(graph)
    if found is not None:
        raise UnsupportedModelError(f"the network cannot be converted: {found.reason}", (found,))


def _approximations(graph: ann.AnnGraph, approximated: Mapping[str, str]) -> Diagnostic:
    """Name what is not exactly the source's."""
    first, reason = next(iter(approximated.items()))
    others = len(approximated) - 1
    more = f"; and {others} more, see `passes` in the artefact" if others else ""
    return Diagnostic(
        APPROXIMATED_LEVELS,
        f"the counts are not exactly the source's levels: {reason}{more}",
        graph[first].origin or first if first in {node.name for node in graph} else first,
        "quantise weights and input, too",
    )
