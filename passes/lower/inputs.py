"""How inputs are encoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnc.ir import ann, snn
from snnc.ir.batch import rows_of
from snnc.numerics.input_range import InputUnits, input_affine, input_limit, input_units
from snnc.passes.lower.values import Spikes
from snnc.passes.lower.walk import Walk
from snnc.pipeline import Context


@dataclass(frozen=True, slots=True)
class InputCode:
    """How an input is encoded.

    Attributes:
        units: of its channels.
        limit: largest magnitude.
        affine: the normalisation that the encoder takes in.
    """

    units: InputUnits
    limit: int
    affine: ann.ChannelAffine | None


def input_codes(graph: ann.AnnGraph, context: Context, most: int) -> dict[str, InputCode]:
    """Return how each input is encoded, by its name.

    Args:
        graph: the network.
        context: of the conversion, which notes units that are not common.
        most: largest magnitude that an input may have.
    """
    codes: dict[str, InputCode] = {}
    for node in graph.inputs:
        rows = np.asarray(rows_of(context.calibration.rows, node.name), np.float32)
        units = input_units(graph, rows, node)
        limit = input_limit(graph, context.timesteps, units.finer, units.largest, node)
        codes[node.name] = InputCode(units, min(limit, most), input_affine(graph, node))
        if not units.common:
            key = f"input-units of {node.name}" if len(graph.inputs) > 1 else "input-units"
            context.findings[key] = {
                "finer": [int(value) for value in units.finer],
                "middle": [float(value) for value in units.middle],
            }
    return codes


def encode(walk: Walk, node: ann.Input, code: InputCode) -> Spikes:
    """Write the encoder of an input down."""
    units, affine = code.units, code.affine
    scale = float(np.float32(units.largest / code.limit))
    gain = offset = None
    if affine is not None or not units.common:
        gain, offset = units.finer, -units.middle * units.finer
        if affine is not None:
            gain = affine.scale * units.finer
            offset = (affine.shift - units.middle) * units.finer
    walk.append(
        snn.Encode(
            name=node.name,
            shape=node.shape,
            origin=node.origin,
            scale=scale,
            limit=code.limit,
            gain=gain,
            offset=offset,
        )
    )
    none = np.zeros(node.channels, np.float32)
    most = code.limit * walk.timesteps
    return Spikes(node.name, np.float32(scale) / units.finer, none - units.middle, none, most)
