"""The network as freestanding C99: one header, one source, one file of weights."""

from __future__ import annotations

from snnc.backends.c99.backend import C99

__all__ = ["C99"]
