"""What was counted in a simulation of the core, priced by a cost model; no power was measured."""

from __future__ import annotations

from collections.abc import Mapping

from snnc.report.energy import CostModel


def priced(activity: Mapping[str, float], lanes: int, model: CostModel) -> dict[str, float]:
    """Return picojoules an image, by what they are spent on.

    A lane multiplies in every addition, also by the filling of a word, and a word that is read is read
    whole: all lanes are priced. A potential is priced as 32 bits. Spikes, counts, tables, instructions and
    the clock have no price in the models, and are left out.

    Args:
        activity: what was counted for an image, by the names of :data:`snnc.backends.fpga.simulate.COUNTED`.
        lanes: of the core.
        model: one that prices weights and potentials apart from operations.
    """
    potentials = activity["potential_reads"] + activity["potential_writes"]
    return {
        "additions": activity["taps"] * lanes * model.mac,
        "weights": activity["weight_reads"] * lanes * model.weight_fetch,
        "potentials": potentials * lanes * model.membrane_access,
    }
