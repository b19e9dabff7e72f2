"""What a value of the network becomes while it is lowered: spikes, or a sum of currents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from snnc.diagnostics import UNSUPPORTED_STRUCTURE, Diagnostic
from snnc.errors import UnsupportedModelError
from snnc.ir import ann, snn
from snnc.ir.graph import FloatArray

RECTIFIED = "put `rectify-linear` before `lower`"


@dataclass(frozen=True, slots=True)
class Spikes:
    """A value carried by spikes: ``x = unit N / T + floor - shift``.

    Both shift and floor are zero points: silence stands for ``floor - shift``, and readers fold it into their
    biases. They differ at padding. Padding of a shifted value still means zero, so readers get a correction
    current where their window overlaps it. Padding of a value with a floor means the floor: this needs no
    current, and compensation recovers what it costs.

    Attributes:
        name: the node that gives the spikes.
        spike_scale: (channels,) float32.
        shift: (channels,) float32.
        floor: (channels,) float32.
        most: largest magnitude of the counts N.
    """

    name: str
    spike_scale: FloatArray
    shift: FloatArray
    floor: FloatArray
    most: int

    @property
    def silence(self) -> FloatArray:
        """What silence stands for, (channels,) float32."""
        return self.floor - self.shift


@dataclass(frozen=True, slots=True)
class Current:
    """A value that is a sum of currents, not yet written down.

    Attributes:
        terms: nodes that end in a current, each a chain in topological order.
        bias: (channels,) float32, per step.
    """

    terms: tuple[tuple[snn.SnnNode, ...], ...]
    bias: FloatArray


Value = Spikes | Current


def fields_of(node: ann.AnnNode, *inputs: str) -> dict[str, Any]:
    """Return name, inputs, shape and origin of the spiking node that stands for ``node``."""
    return {"name": node.name, "inputs": inputs, "shape": node.shape, "origin": node.origin}


def unsupported(node: ann.AnnNode, reason: str, cure: str) -> UnsupportedModelError:
    """Return the error that refuses a node."""
    found = Diagnostic(
        UNSUPPORTED_STRUCTURE, f"{type(node).__name__}: {reason}", node.origin or node.name, cure
    )
    return UnsupportedModelError(f"the network cannot be converted: {found.reason}", (found,))
