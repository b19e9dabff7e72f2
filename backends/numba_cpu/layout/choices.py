"""Every way of running a synapse, and what each needs."""

from __future__ import annotations

from snnc.backends.numba_cpu.codegen.micro_tiles import TILE_BYTES, TOGETHER
from snnc.backends.numba_cpu.kernels.records import EVENTS, STEP_TILES, TILES
from snnc.backends.numba_cpu.layout.channel_layout import Channels, pack_channels
from snnc.backends.numba_cpu.layout.event_layout import Events, pack_events
from snnc.backends.numba_cpu.layout.product_layout import Products, pack_products
from snnc.backends.numba_cpu.layout.switching import Switching, pack_switching
from snnc.backends.numba_cpu.layout.terms import Band, Packed, Synapse

Choice = Events | Products | Switching | Channels


def pack(synapse: Synapse, choice: Choice) -> Packed:
    """Lay a weight out as chosen."""
    match choice:
        case Events():
            return pack_events(synapse, choice)
        case Products():
            return pack_products(synapse, choice)
        case Switching():
            return pack_switching(synapse, choice)
        case Channels():
            return pack_channels(synapse, choice)


def scratch_bytes(fields: dict[str, int], band: Band, over_steps: bool) -> dict[str, int]:
    """Return how many bytes each scratch array of a term needs for one band."""
    steps = band.steps
    height = input_rows(fields, band)
    if fields["kind"] == EVENTS:
        height = min(height, fields["height"])
        lists = steps * height * fields["width"]
        listed = fields["channels"] * fields["levels"] * 2
        index = steps * (height + 1) * fields["width"] * 8
        signed = fields["signs"] == 2
        return {
            "entries": lists * listed,
            "index": index,
            "prefetched": 8,
            "negative_events": lists * listed if signed else 0,
            "taken_index": index if signed else 0,
        }
    if fields.get("direct"):
        return {}
    together = fields.get("pixels", 1)
    frames = -(-steps // together) * together if over_steps else steps
    padded = {"padded": frames * height * fields["padded_row"]}
    if fields["kind"] in (TILES, STEP_TILES):
        padded["places"] = TOGETHER * (2 * 8 + TILE_BYTES)
    return padded


def input_rows(fields: dict[str, int], band: Band) -> int:
    """Return how many rows of the input a band reads, borders included."""
    reach = (fields["kernel_height"] - 1) * fields["dilation_down"] + 1
    return (band.rows - 1) * fields["stride_down"] + reach
