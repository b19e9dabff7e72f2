"""Quant and BipolarQuant of QONNX, of activations and of constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from snnc.diagnostics import QUANTISED_GRAPH
from snnc.frontend.call import Call
from snnc.frontend.quantised.codes import Codes
from snnc.frontend.quantised.rounding import rounded
from snnc.frontend.tensors import Constant
from snnc.frontend.views import View
from snnc.ir.graph import FloatArray

QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
"""Domains under which files have the operators of QONNX."""

QONNX_ROUNDING = {"ROUND": "half-even", "HALF_EVEN": "half-even", "FLOOR": "floor", "HALF_UP": "half-up"}
"""Rounding modes of QONNX that have a spiking form, ``HALF_UP`` of integers from zero up alone."""


def quant(call: Call) -> View:
    """Read Quant of QONNX, which gives real numbers."""
    zero = call.scalar(2, "zero point", 0)
    bits = call.scalar(3, "bit width", 8)
    if bits != int(bits):
        call.refuse(f"its bit width {bits:g} is no integer", "train with whole bits", QUANTISED_GRAPH)
    lowest, highest = quant_limits(bits, bool(call.integer("signed", 1)), bool(call.integer("narrow", 0)))
    mode = str(call.attribute("rounding_mode") or "ROUND").upper()
    if mode not in QONNX_ROUNDING:
        call.refuse(f"rounds by {mode}", f"use one of {', '.join(QONNX_ROUNDING)}", QUANTISED_GRAPH)
    if mode == "HALF_UP" and lowest < 0:
        call.refuse(
            "rounds ties away from zero on both sides (HALF_UP of signed integers)",
            "train with another rounding mode",
            QUANTISED_GRAPH,
        )
    if zero != int(zero) or (QONNX_ROUNDING[mode] == "half-even" and zero % 2):
        call.refuse(
            f"its zero point {zero:g} is no even integer, so that ties round another way",
            "train with a zero point of 0",
            QUANTISED_GRAPH,
        )
    codes = Codes(call.weights(1, "scale"), int(zero), lowest, highest)
    if (codes.scale <= 0).any():
        call.refuse("a scale is not positive", "quantise the network again")
    return rounded(call, call.view(), codes, QONNX_ROUNDING[mode]).view


def quant_limits(bits: float, signed: bool, narrow: bool) -> tuple[int, int]:
    """Return the least and the largest integer of QONNX's Quant."""
    if signed:
        return -(2 ** (int(bits) - 1)) + narrow, 2 ** (int(bits) - 1) - 1
    return 0, 2 ** int(bits) - 1 - narrow


def folded_quant(node_inputs: list[Constant], signed: bool, narrow: bool, mode: str) -> Constant:
    """Compute Quant of QONNX of constants; with one signed bit they become -1 and 1, as BipolarQuant's.

    Raises:
        ValueError: the rounding mode is unknown, or there is no one whole number of bits.
    """
    x, scale, zero, bits = (np.asarray(value, np.float32) for value in node_inputs)
    if bits.size != 1 or bits != np.rint(bits):
        raise ValueError("its bit width is no single integer")
    if signed and bits == 1:
        return ((folded_bipolar(x / scale + zero, np.ones(1, np.float32)) - zero) * scale).astype(np.float32)
    lowest, highest = quant_limits(float(bits.item()), signed, narrow)
    levels = np.clip(x / scale + zero, lowest, highest)
    rounds: dict[str, Callable[[FloatArray], FloatArray]] = {
        "ROUND": np.rint,
        "HALF_EVEN": np.rint,
        "FLOOR": np.floor,
        "CEIL": np.ceil,
        "ROUND_TO_ZERO": np.trunc,
        "DOWN": np.trunc,
        "HALF_UP": lambda y: np.sign(y) * np.floor(np.abs(y) + np.float32(0.5)),
    }
    if mode not in rounds:
        raise ValueError(f"the rounding mode {mode} is not known")
    return ((rounds[mode](levels) - zero) * scale).astype(np.float32)


def folded_bipolar(x: Constant, scale: Constant) -> Constant:
    """Compute BipolarQuant of QONNX of a constant."""
    return (np.where(np.asarray(x) >= 0, np.float32(1), np.float32(-1)) * scale).astype(np.float32)
