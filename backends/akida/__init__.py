"""The network for BrainChip's Akida, built through its public Python interface."""

from __future__ import annotations

from snnc.backends.akida.backend import Akida

__all__ = ["Akida"]
