"""Networks in the Neuromorphic Intermediate Representation, read as spiking networks."""

from __future__ import annotations

from snnc.frontend.nir.conventions import PROFILES, Convention, Discretisation, Reset
from snnc.frontend.nir.file import NirGraph, NirNode, read_nir
from snnc.frontend.nir.lowering import lowered

__all__ = [
    "Convention",
    "Discretisation",
    "NirGraph",
    "NirNode",
    "PROFILES",
    "Reset",
    "lowered",
    "read_nir",
]
