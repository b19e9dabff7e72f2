"""Target ``nir``: graphs that SpikingJelly, snnTorch, Norse and sinabs read."""

from __future__ import annotations

from snnc.backends.nir.backend import Nir

__all__ = ["Nir"]
