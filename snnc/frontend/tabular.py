"""Operators of classical machine learning, which tools for tables of features write."""

from __future__ import annotations

import numpy as np

from snnc.frontend.call import Call
from snnc.frontend.elementwise import affine
from snnc.frontend.views import View
from snnc.ir.graph import FloatArray


def scaler(call: Call) -> View:
    """Read Scaler, ``(x - offset) scale``, each feature with its own numbers or all with one."""
    view = call.view()
    offset, scale = (_numbers(call, name, view.shape) for name in ("offset", "scale"))
    if not np.isfinite(scale).all() or not np.isfinite(offset).all():
        call.refuse("has a scale or an offset that is not finite", "fit the scaler to rows without gaps")
    return affine(call, view, scale, -offset * scale)


def _numbers(call: Call, name: str, shape: tuple[int, ...]) -> FloatArray:
    """Return an attribute of one number, or of one for each feature."""
    found = np.asarray(call.attribute(name) or (), np.float32)
    if found.size not in {1, shape[-1]}:
        call.refuse(
            f"has {found.size} numbers as its {name} for {shape[-1]} features", "give one, or one for each"
        )
    return found
