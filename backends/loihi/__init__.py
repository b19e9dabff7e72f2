"""The network for Intel's Loihi 2, as lava-dl reads it."""

from __future__ import annotations

from snnc.backends.loihi.backend import Loihi

__all__ = ["Loihi"]
