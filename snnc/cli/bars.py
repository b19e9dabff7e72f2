"""Progress bars of verbs: see :mod:`snnc.bars`."""

from __future__ import annotations

from snnc.bars import Bars as Bars
