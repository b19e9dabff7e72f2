"""Weights laid out twice, for a synapse whose density is near the one at which events and products tie."""

from __future__ import annotations

from dataclasses import dataclass

from snnc.backends.numba_cpu.kernels.switching import add_switching
from snnc.backends.numba_cpu.layout.event_layout import Events, pack_events
from snnc.backends.numba_cpu.layout.product_layout import Products, pack_products
from snnc.backends.numba_cpu.layout.terms import Packed, Synapse


@dataclass(frozen=True, slots=True)
class Switching:
    """Events in bands of few spikes, products in the others.

    Attributes:
        events: how few spikes are added.
        products: how many are multiplied.
        share: of the neurons that a band reads, so many spikes a step take equally long both ways.
    """

    events: Events
    products: Products
    share: float

    def __str__(self) -> str:
        return f"{self.events}; above {self.share:.0%} {self.products}"


def pack_switching(synapse: Synapse, choice: Switching) -> Packed:
    """Lay a weight out for both."""
    events, dense = pack_events(synapse, choice.events), pack_products(synapse, choice.products)
    return Packed(
        events.fields
        | {
            "add": add_switching.address,
            "add_events": events.fields["add"],
            "most_spikes": round(choice.share * synapse.source.width * synapse.source.channels),
            "complete": dense.fields["complete"],
        },
        events.variants,
        events.kept,
        (max(events.halo[0], dense.halo[0]), max(events.halo[1], dense.halo[1])),
        dense,
    )
