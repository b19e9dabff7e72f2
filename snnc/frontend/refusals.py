"""Refusals of the frontend, and their messages."""

from __future__ import annotations

import math
from typing import NoReturn

import numpy as np

from snnc.diagnostics import NON_FINITE_WEIGHT, UNSUPPORTED_ATTRIBUTE, Code, Diagnostic
from snnc.frontend.simplify import Constant
from snnc.frontend.views import (
    View,
)
from snnc.ir.graph import FloatArray, Shape

MAX_VALUES = 2**26
"""Most values of one tensor: more is a mistake in the file, and would fill the memory."""


class RefusalError(Exception):
    """An operation cannot be read; caught by the reader, which goes on with the next.

    Attributes:
        diagnostic: what is wrong; ``None`` where the reader only had to stop.
    """

    def __init__(self, diagnostic: Diagnostic | None) -> None:
        """Keep the diagnostic."""
        super().__init__(str(diagnostic))
        self.diagnostic = diagnostic


def refuse(code: Code, origin: str, message: str, cure: str) -> NoReturn:
    """Stop reading this operation."""
    raise RefusalError(Diagnostic(code, message, origin, cure))


def made_by(view: View, origin: str) -> str:
    """Name the input of an operation by what made it, unless that is the operation itself."""
    return "its input" if view.origin == origin else f"its input, made by {view.origin!r},"


def finite(values: Constant, origin: str, what: str) -> FloatArray:
    """Return a constant as float32.

    Raises:
        RefusalError: it holds NaN, infinity, or no numbers at all.
    """
    if values.dtype.kind not in "fiub" and values.dtype.name != "bfloat16":
        refuse(UNSUPPORTED_ATTRIBUTE, origin, f"the {what} has the type {values.dtype}", "export as float32")
    with np.errstate(over="ignore"):
        result = np.asarray(values, np.float32)
    if not np.isfinite(result).all():
        refuse(
            NON_FINITE_WEIGHT,
            origin,
            f"the {what} holds NaN or infinity",
            "check that the training did not diverge and that the file is undamaged",
        )
    return result


def check_size(shape: Shape, origin: str) -> None:
    """Refuse a tensor of absurd size.

    Raises:
        RefusalError: it would have more than ``MAX_VALUES`` values.
    """
    if math.prod(shape) > MAX_VALUES:
        message = f"its output of shape {shape} would have more than {MAX_VALUES} values"
        refuse(UNSUPPORTED_ATTRIBUTE, origin, message, "check pads and sizes, and export the model again")
