"""From the chain of a network in the layerwise schedule to Akida's quantised layers.

In the layerwise schedule a population's counts are one quantised layer,
``N = clip(floor((v_init + T B + sum w N_in) / Theta), 0, C)``. An Akida 2 layer computes, with a shift that
rounds half up::

    out = min(relu(conv(x, w) + (bias << bias_shift)), top << top_shift) * scale >> shift

with weights and bias in int8, and scale and top as unsigned 8-bit numbers. ``1 / Theta`` and the bias are
therefore rounded to 8 bits; otherwise the layers equal those of the network. ``top`` limits the outputs to C.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log2

import numpy as np

from snnc.backends.chain import Layer, chain
from snnc.errors import TargetError
from snnc.ir.channels import per_channel
from snnc.ir.geometry import Window
from snnc.ir.graph import IntArray
from snnc.ir.neuron import Schedule
from snnc.ir.operations import largest_count
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.simulation.arrays import convolve
from snnc.simulation.targets import Unsupported, several_inputs_or_outputs, unknown_operations

SHORT, LONG = 4, 8
LARGEST = {SHORT: 15, LONG: 127}
"""Bits of a layer's output -> its largest value; four bits have no sign."""

KERNELS = (1, 3, 5, 7)
STRIDED_KERNELS = (1, 3)
ACCUMULATOR = 2**27
"""Akida's buffers have 28 bits."""

BARRIER = "convert with --set set-schedule.kind=layerwise"


@dataclass(frozen=True, slots=True, eq=False)
class AkidaLayer:
    """One layer, in the terms of Akida's interface.

    Attributes:
        name: of the population, or the read-out.
        weight: (outputs, inputs, height, width) or (outputs, inputs), int8.
        window: geometry, or ``None`` for a dense layer.
        same: whether the padding is Akida's ``Same``; else ``Valid``.
        bias, bias_shift: (outputs,).
        scale, shift: (outputs,), in place of ``1 / Theta``; empty for the read-out.
        top, top_shift: (outputs,), where the counts end; likewise.
        bits: of the output.
    """

    name: str
    weight: IntArray
    window: Window | None
    same: bool
    bias: IntArray
    bias_shift: IntArray
    scale: IntArray
    shift: IntArray
    top: IntArray
    top_shift: IntArray
    bits: int


def problems(graph: SnnGraph) -> tuple[Unsupported, ...]:
    """Return all that Akida's layers cannot hold."""
    if unfamiliar := unknown_operations(graph) or several_inputs_or_outputs(graph):
        return unfamiliar
    last = graph[graph.output]
    if not graph.integer:
        reason = "float32 parameters: the chip has integers only"
        return (Unsupported(last.name, last.origin, reason, "convert with --precision int8"),)
    found = []
    if graph.schedule is not Schedule.LAYERWISE:
        reason = "the synchronous schedule: the chip computes each layer once"
        found.append(Unsupported(last.name, last.origin, reason, BARRIER))
    encode = graph.encoder
    if encode.limit > LARGEST[LONG]:
        reason = f"inputs up to {encode.limit}, beyond {LARGEST[LONG]}"
        cure = f"convert with --set lower.input-limit={LARGEST[LONG]}"
        found.append(Unsupported(encode.name, encode.origin, reason, cure))
    for node in graph.of_type(IntegrateFire):
        if _capacity(graph, node) > LARGEST[LONG]:
            reason = f"counts up to {_capacity(graph, node)}, beyond {LARGEST[LONG]}"
            found.append(Unsupported(node.name, node.origin, reason, "use fewer time steps or levels"))
    layers, broken = chain(graph)
    found += broken
    for index, layer in enumerate(layers):
        try:
            _weights(graph, layer)
            if index == len(layers) - 1 and layer.window is not None:
                raise TargetError("the last layer is a convolution, and Akida's outputs are dense")
        except TargetError as error:
            where = layer.synapse
            cure = (
                "use kernels of 1, 3, 5 or 7, with stride 2 of 1 or 3, and padding as Keras's SAME or VALID"
            )
            found.append(Unsupported(where.name, where.origin, str(error), cure))
    return tuple(found)


def lower(graph: SnnGraph) -> tuple[AkidaLayer, ...]:
    """Return the layers; :func:`problems` found none."""
    layers, _ = chain(graph)
    return tuple(_layer(graph, layer, first=index == 0) for index, layer in enumerate(layers))


def _capacity(graph: SnnGraph, node: IntegrateFire) -> int:
    return largest_count(node, graph.timesteps)


def _layer(graph: SnnGraph, layer: Layer, *, first: bool) -> AkidaLayer:
    weight, window, same = _weights(graph, layer)
    node, steps = layer.neurons, graph.timesteps
    none = np.zeros(0, np.int64)
    if not isinstance(node, IntegrateFire):
        bias, bias_shift = _eight_bits(node.bias.astype(np.float64) * steps)
        return AkidaLayer(node.name, weight, window, same, bias, bias_shift, none, none, none, none, 32)
    theta = node.threshold.astype(np.float64)
    # The input counts once here and T times in the network; Akida's rounding half up is a start at Theta / 2.
    times = steps if first else 1
    wanted = (steps * node.bias + node.v_init - theta / 2) / times
    bias, bias_shift = _eight_bits(wanted)
    scale, shift = _scales(times / theta)
    capacity = _capacity(graph, node)
    top, top_shift = _tops(capacity, scale, shift)
    bits = SHORT if capacity <= LARGEST[SHORT] else LONG
    return AkidaLayer(node.name, weight, window, same, bias, bias_shift, scale, shift, top, top_shift, bits)


def _eight_bits(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[IntArray, IntArray]:
    """Return int8 mantissas and left shifts."""
    shift = np.zeros(len(values), np.int64)
    while (np.abs(np.rint(values / 2.0**shift)) > LARGEST[LONG]).any():
        shift += np.abs(np.rint(values / 2.0**shift)) > LARGEST[LONG]
    return np.rint(values / 2.0**shift).astype(np.int64), shift


def _scales(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[IntArray, IntArray]:
    """Return 8-bit factors without sign and right shifts for factors of at most 1."""
    scales, shifts = [], []
    for value in values:
        shift = 7 - floor(log2(value))
        scale = round(value * 2**shift)
        if scale == 256:
            scale, shift = 128, shift - 1
        scales.append(scale)
        shifts.append(shift)
    return np.array(scales, np.int64), np.array(shifts, np.int64)


def _tops(capacity: int, scale: IntArray, shift: IntArray) -> tuple[IntArray, IntArray]:
    """Return where to cut sums off, in 8 bits and a left shift, so that outputs end at the capacity."""
    tops, shifts = [], []
    for s, right in zip(scale.tolist(), shift.tolist(), strict=True):
        highest = ((capacity + 1) * 2**right - 2 ** (right - 1) - 1) // s
        left = max(0, highest.bit_length() - 8)
        tops.append(highest >> left)
        shifts.append(left)
    return np.array(tops, np.int64), np.array(shifts, np.int64)


def _weights(graph: SnnGraph, layer: Layer) -> tuple[IntArray, Window | None, bool]:
    """Return kernel, window and whether the padding is ``Same``.

    Raises:
        TargetError: Akida has no such kernel.
    """
    bound = int(np.abs(layer.weight.reshape(len(layer.weight), -1)).sum(axis=1).max()) * LARGEST[LONG]
    if bound >= ACCUMULATOR:
        raise TargetError(f"sums may reach {bound:,}, beyond 28 bits")
    if layer.window is None:
        return layer.weight, None, False
    weight, window = _ungrouped(layer.weight, layer.groups), layer.window
    if window.strides[0] != window.strides[1] or window.strides[0] > 2:
        raise TargetError(f"strides of {window.strides}")
    stride = window.strides[0]
    source, target = layer.shape[1:], layer.synapse.shape[1:]
    for kernel in STRIDED_KERNELS if stride == 2 else KERNELS:
        for same in (True, False):
            before = _before(source, target, kernel, stride, same=same)
            lead = (
                None if before is None else tuple(b - p for b, p in zip(before, window.pads[:2], strict=True))
            )
            if lead is None:
                continue
            trail = tuple(kernel - k - a for k, a in zip(window.kernel, lead, strict=True))
            found = _bordered(weight, lead, trail)
            if found is not None:
                return found, Window((kernel, kernel), window.strides), same
    raise TargetError(
        f"a kernel of {window.kernel} with strides of {window.strides} and pads of {window.pads}"
    )


def _before(
    source: tuple[int, ...], target: tuple[int, ...], kernel: int, stride: int, *, same: bool
) -> tuple[int, ...] | None:
    """Return how much Akida pads above and left; ``None`` if its output has another size."""
    if not same:
        sizes = tuple((n - kernel) // stride + 1 for n in source)
        return tuple(0 for _ in source) if sizes == tuple(target) else None
    if tuple(-(-n // stride) for n in source) != tuple(target):
        return None
    whole = (max((out - 1) * stride + kernel - n, 0) for n, out in zip(source, target, strict=True))
    return tuple(total // 2 for total in whole)


def _bordered(weight: IntArray, lead: tuple[int, ...], trail: tuple[int, ...]) -> IntArray | None:
    """Return a kernel with zeros added, or with borders of zeros taken away, on each side."""
    full = weight
    for axis, (first, last) in enumerate(zip(lead, trail, strict=True), start=2):
        for amount, side in ((first, 0), (last, 1)):
            if amount > 0:
                pads = [(0, 0)] * 4
                pads[axis] = (amount, 0) if side == 0 else (0, amount)
                full = np.pad(full, pads)
            elif amount < 0:
                cut = slice(-amount, None) if side == 0 else slice(None, amount)
                rest = slice(None, -amount) if side == 0 else slice(amount, None)
                if np.take(full, np.arange(full.shape[axis])[rest], axis).any():
                    return None
                full = np.take(full, np.arange(full.shape[axis])[cut], axis)
    return full


def _ungrouped(weight: IntArray, groups: int) -> IntArray:
    outputs, inputs, *size = weight.shape
    full = np.zeros((outputs, inputs * groups, *size), weight.dtype)
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        full[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return full


def emulate(layers: tuple[AkidaLayer, ...], q: IntArray) -> IntArray:
    """Return what Akida computes, (rows, outputs) int64, from inputs (rows, channels, ...)."""
    x: IntArray = q.astype(np.int64)
    for layer in layers:
        x = _emulated(layer, x)
    return x


def _emulated(layer: AkidaLayer, x: IntArray) -> IntArray:
    """Return the output of one layer."""
    if layer.window is None:
        total = (x.reshape(len(x), -1) @ layer.weight.T).astype(np.int64)
    else:
        weight = layer.weight.astype(np.int64)
        total = convolve(_padded(x, layer), weight, layer.window, 1).astype(np.int64)

    def each(values: IntArray) -> IntArray:
        return per_channel(values, total.ndim - 1).astype(np.int64)

    total = total + each(layer.bias << layer.bias_shift)
    if not len(layer.scale):
        return total
    cut = np.minimum(np.maximum(total, 0), each(layer.top << layer.top_shift))
    return (cut * each(layer.scale) + each(1 << (layer.shift - 1))) >> each(layer.shift)


def _padded(x: IntArray, layer: AkidaLayer) -> IntArray:
    """Return the input with Akida's padding."""
    if not layer.same or layer.window is None:
        return x
    kernel, stride = layer.window.kernel[0], layer.window.strides[0]
    pads = [(0, 0), (0, 0)]
    for size in x.shape[2:]:
        whole = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads.append((whole // 2, whole - whole // 2))
    return np.pad(x, pads)
