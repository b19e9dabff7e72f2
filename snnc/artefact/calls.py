"""Operations that are one call of a function: written as one, and read back from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from typing import Any

import numpy as np

from snnc.artefact.model_builder import Attributes
from snnc.ir.channels import per_channel
from snnc.ir.geometry import Window
from snnc.ir.graph import NumberArray, Shape
from snnc.ir.operations import unmatched
from snnc.ir.snn import (
    ChannelWeight,
    Convolution,
    CountMatrixProduct,
    CountMaximum,
    CountMaxPool,
    CountNormalisation,
    CountProduct,
    CountSoftmax,
    CurrentMaxPool,
    Function,
    Gather,
    Linear,
    Pad,
    Reshape,
    Slice,
    SnnNode,
    SumPool,
)

END = 2**63 - 1

Stateless = (
    Convolution
    | Linear
    | ChannelWeight
    | SumPool
    | CurrentMaxPool
    | CountMaxPool
    | Reshape
    | Pad
    | Slice
    | Gather
)
"""Operations that are one call, of what they read alone; counts have no state in the layerwise schedule."""


@dataclass(frozen=True, slots=True)
class Call:
    """The call of a function.

    Attributes:
        function: its name.
        parameters: arrays that it reads behind the values of the network, by what they are.
        attributes: its settings.
    """

    function: str
    parameters: Mapping[str, NumberArray] = field(default_factory=dict)
    attributes: Attributes = field(default_factory=dict)


def call_of(node: Stateless | Function, shapes: Sequence[Shape]) -> Call:
    """Return the call that stands for a node.

    Args:
        node: the node.
        shapes: of what it reads.
    """
    function = type(node).__name__
    match node:
        case Convolution():
            return Call(function, {"weight": node.weight}, slide(node.window) | {"group": node.groups})
        case Linear():
            return Call(function, {"weight": node.weight})
        case SumPool():
            return Call(function, {}, pool(node.window) | {"group": node.channels})
        case ChannelWeight():
            return Call(function, {"weight": per_channel(node.weight, len(node.shape))})
        case CurrentMaxPool() | CountMaxPool():
            return Call(function, {}, pool(node.window))
        case Reshape():
            return Call(function, {}, {"shape": (0, *node.shape)})
        case Pad():
            return Call(function, {}, {"pads": (0, *node.before, 0, *node.after)})
        case Slice():
            start, stop, step = (0, *node.start), (END, *node.stop), (1, *node.step)
            return Call(function, {}, {"start": start, "stop": stop, "step": step})
        case Gather():  # -1 picks the zero that the function appends
            return Call(function, {"index": node.index})
        case CountProduct():
            return Call(function, {}, _requantiser(node) | _unit(node))
        case CountMatrixProduct() if node.transposed:
            *before, row, column = range(len(shapes[1]) + 1)
            swapped: Attributes = {"perm": (*before, column, row)}
            return Call(f"{function}Transposed", {}, _requantiser(node) | swapped | _unit(node))
        case CountMatrixProduct():
            return Call(function, {}, _requantiser(node) | _unit(node))
        case CountSoftmax():
            settings: Attributes = {"axes": (node.axis + 1,), "levels": node.levels}
            return Call(function, {"table": node.table}, settings | _unit(node))
        case CountNormalisation():
            function += "" if node.centred else "Uncentred"
            settings = {"axes": _axes(node), "epsilon": node.epsilon, "factor": node.factor}
            settings |= {"lowest": node.lowest, "highest": node.highest}
            return Call(function, {}, settings | _unit(node))
        case CountMaximum():
            axes: Attributes = {"axes": _axes(node)}
            return Call(function, {}, axes | _unit(node))
        case _:
            raise unmatched(node)


def node_of(
    operation: str, common: Mapping[str, Any], parameters: Sequence[NumberArray], settings: Mapping[str, Any]
) -> SnnNode:
    """Return the node that a call stands for.

    Args:
        operation: the name of the function.
        common: name, inputs, shape, origin, and the unit of counts.
        parameters: the arrays of the call, in order.
        settings: its attributes.

    Raises:
        KeyError, TypeError, ValueError: no node is written so.
    """
    match operation:
        case "Convolution":
            window = window_of(settings, parameters[0].shape[2:])
            return Convolution(**common, weight=parameters[0], window=window, groups=index(settings["group"]))
        case "Linear":
            return Linear(**common, weight=parameters[0])
        case "ChannelWeight":
            return ChannelWeight(**common, weight=parameters[0].reshape(-1))
        case "SumPool":
            return SumPool(**common, window=window_of(settings, settings["kernel_shape"]))
        case "CountMaxPool":
            return CountMaxPool(**common, window=window_of(settings, settings["kernel_shape"]))
        case "CountProduct":
            return CountProduct(**common, **_requantiser_of(settings))
        case "CountMatrixProduct" | "CountMatrixProductTransposed":
            transposed = operation.endswith("Transposed")
            return CountMatrixProduct(**common, **_requantiser_of(settings), transposed=transposed)
        case "CountSoftmax":
            (axis,) = whole(settings["axes"])
            table = parameters[0].astype(np.int32, casting="safe")
            return CountSoftmax(**common, axis=axis - 1, table=table, levels=index(settings["levels"]))
        case "CountNormalisation" | "CountNormalisationUncentred":
            return CountNormalisation(
                **common,
                axes=_behind_batch(settings["axes"]),
                epsilon=index(settings["epsilon"]),
                factor=index(settings["factor"]),
                lowest=index(settings["lowest"]),
                highest=index(settings["highest"]),
                centred=operation == "CountNormalisation",
            )
        case "CountMaximum":
            return CountMaximum(**common, axes=_behind_batch(settings["axes"]))
        case "CurrentMaxPool":
            return CurrentMaxPool(**common, window=window_of(settings, settings["kernel_shape"]))
        case "Reshape":
            return Reshape(**common)
        case "Pad":
            rank = len(common["shape"]) + 1
            pads = whole(settings["pads"])
            return Pad(**common, before=pads[1:rank], after=pads[rank + 1 :])
        case "Slice":
            start, stop, step = (whole(settings[key])[1:] for key in ("start", "stop", "step"))
            return Slice(**common, start=start, stop=stop, step=step)
        case "Gather":
            return Gather(**common, index=parameters[0].astype(np.int32, casting="safe"))
        case _:
            raise ValueError(f"{operation!r} is no function of a spiking network")


def slide(window: Window) -> Attributes:
    """Return how a window moves, as ONNX attributes."""
    return {"strides": window.strides, "pads": window.pads, "dilations": window.dilations}


def pool(window: Window) -> Attributes:
    """Return a window that has no weight to tell its size, as ONNX attributes."""
    return {"kernel_shape": window.kernel, **slide(window)}


def window_of(settings: Mapping[str, Any], kernel: Shape) -> Window:
    """Return the window that ONNX attributes describe."""
    height, width = whole(kernel)
    down, right = whole(settings["strides"])
    top, left, below, beside = whole(settings["pads"])
    tall, wide = whole(settings["dilations"])
    return Window((height, width), (down, right), (top, left, below, beside), (tall, wide))


def whole(values: Sequence[int]) -> Shape:
    """Return whole numbers as such.

    Raises:
        TypeError: one is none, not even where it looks like one.
    """
    return tuple(map(index, values))


def _unit(node: Function) -> Attributes:
    """Return what one count stands for, where that is told."""
    return {} if node.unit is None else {"unit": [float(value) for value in node.unit]}


def _requantiser(node: CountProduct | CountMatrixProduct) -> Attributes:
    """Return a requantiser, as ONNX attributes: it divides by a power of two."""
    return {
        "multiplier": node.multiplier,
        "divisor": 1 << node.shift,
        "lowest": node.lowest,
        "highest": node.highest,
    }


def _requantiser_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the requantiser that ONNX attributes describe.

    Raises:
        ValueError: it does not divide by a power of two.
    """
    divisor = index(settings["divisor"])
    if divisor < 1 or divisor & (divisor - 1):
        raise ValueError(f"{divisor} is no power of two")
    named = {name: index(settings[name]) for name in ("multiplier", "lowest", "highest")}
    return named | {"shift": divisor.bit_length() - 1}


def _axes(node: CountNormalisation | CountMaximum) -> Shape:
    """Return the axes of a function of counts behind the batch."""
    return tuple(axis + 1 for axis in node.axes)


def _behind_batch(axes: Sequence[int]) -> Shape:
    """Return axes of a sample, given those of a batch."""
    return tuple(axis - 1 for axis in whole(axes))
