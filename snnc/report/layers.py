"""One layer of the report: what was gathered of it, as shares, rates and ratios."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from snnc.analysis.costs import Layer
from snnc.ir.graph import FloatArray, Shape
from snnc.ir.neuron import Neuron
from snnc.ir.operations import Firing as Rule
from snnc.ir.operations import firing
from snnc.ir.snn import IntegrateFire, Readout, SnnNode
from snnc.report.statistics import LayerSums, Split
from snnc.report.terms import TERMS

SATURATED = 0.5
"""A channel is saturated if more than this share of its firing neurons ends at the capacity."""


@dataclass(frozen=True, slots=True)
class Drive:
    """What the parameters of a layer did to the same spikes: ``zhat`` against ``z``, over all neurons.

    Attributes:
        gain: slope of the regression of ``zhat`` on ``z`` through each channel's mean; 1 where both agree.
        correlation: between the two, within channels.
        offset_share: how much of the square of ``zhat - z`` is a constant of each channel.
        silenced_share: how much of the square of the term *parameters* lies in channels that never fire
            though the source's do.
    """

    gain: float
    correlation: float
    offset_share: float
    silenced_share: float


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds of a layer, ``theta = u C / T``, in units of the model.

    Of neurons that follow a step function it is the largest magnitude of its values.

    Attributes:
        least, median, largest: over the channels.
        above: share of the source's activations that exceed theirs, or lie below all values of a step
            function.
        headroom: median over the channels of threshold over the largest activation seen; above 1 the
            threshold was never reached.
        range_spread: how many times larger the largest activation is in the 90 % channel than in the 10 %
            channel, among those that are ever active.
        start: mean over the channels of ``v(0) / Theta``; ``None`` for a step function.
    """

    least: float
    median: float
    largest: float
    above: float
    headroom: float
    range_spread: float
    start: float | None


@dataclass(frozen=True, slots=True)
class Firing:
    """The spikes of a layer.

    Attributes:
        rate: mean units per neuron and step.
        density: share of (neuron, step) pairs in which anything is sent.
        dead: share of channels that never fire on these rows.
        silenced: share of channels that never fire, though the source's are active.
        saturated: share of channels of whose firing neurons most end at the capacity.
        false_fires: share of neurons that do not end at zero where the source's activation is zero.
        lead: share of neurons that sent two or more too few, one too few, as many as ``Q`` demands, one too
            many, two or more too many.
        residual_mean, residual_deviation: of ``v(T) / Theta``.
        residual_outside: share of potentials outside [0, Theta). All three are ``None`` for a step function,
            whose potential is no residual.
        activations: histogram of ``|a| / theta`` from 0 to 2 in equal bins, and beyond: shares.
    """

    rate: float
    density: float
    dead: float
    silenced: float
    saturated: float
    false_fires: float
    lead: tuple[float, ...]
    residual_mean: float | None
    residual_deviation: float | None
    residual_outside: float | None
    activations: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LayerReport:
    """All that the report says of a population, or of the read-out.

    Attributes:
        name: of the node.
        onnx_node: of the ONNX node that it came from.
        shape: of one sample.
        local: errors when the layer is fed with the source's own activations, coded as evenly spaced spikes.
        cumulative: errors in the running network.
        drive: what its parameters do, measured locally.
        neuron: its settings; ``None`` for functions of counts and read-outs, as are the next three.
        rule: how it fires.
        thresholds: see there.
        firing: see there.
        is_readout: whether it is a read-out.
    """

    name: str
    onnx_node: str
    shape: Shape
    local: Split
    cumulative: Split
    drive: Drive
    neuron: Neuron | None = None
    rule: Rule | None = None
    thresholds: Thresholds | None = None
    firing: Firing | None = None
    is_readout: bool = False


def summarise(node: SnnNode, sums: LayerSums, costs: Layer | None, images: int, steps: int) -> LayerReport:
    """Turn what was gathered into what is reported.

    Args:
        node: the population, function of counts or read-out.
        sums: of all chunks.
        costs: its events; ``None`` for all but populations.
        images: how many were run.
        steps: T + K.
    """
    plain = LayerReport(
        node.name, node.origin, node.shape, sums.local.split(), sums.cumulative.split(), _drive(sums)
    )
    if not isinstance(node, IntegrateFire) or costs is None:
        return replace(plain, is_readout=isinstance(node, Readout))
    places = costs.neurons * steps * images
    return LayerReport(
        plain.name,
        plain.onnx_node,
        plain.shape,
        plain.local,
        plain.cumulative,
        plain.drive,
        node.neuron,
        firing(node),
        _thresholds(node, sums),
        _firing(sums, costs.units / places, costs.events / places),
    )


def _silenced(sums: LayerSums) -> FloatArray:
    return (sums.sent == 0) & (sums.source_mean > 0)


def _drive(sums: LayerSums) -> Drive:
    found = sums.local
    n = max(found.values, 1)
    covariance = float((found.z_product - found.z_sums * found.zhat_sums / n).sum())
    spread = float((found.z_squares - found.z_sums**2 / n).sum())
    spread_hat = float((found.zhat_squares - found.zhat_sums**2 / n).sum())
    apart = float((found.z_squares - 2 * found.z_product + found.zhat_squares).sum())
    constant = float(((found.zhat_sums - found.z_sums) ** 2 / n).sum())
    squares = found.squares[TERMS.index("parameters")]
    whole = float(squares.sum())
    return Drive(
        gain=covariance / spread if spread > 0 else 1.0,
        correlation=covariance / sqrt(spread * spread_hat) if spread > 0 and spread_hat > 0 else 1.0,
        offset_share=constant / apart if apart > 0 else 0.0,
        silenced_share=float(squares[_silenced(sums)].sum()) / whole if whole > 0 else 0.0,
    )


def _thresholds(node: IntegrateFire, sums: LayerSums) -> Thresholds:
    largest = sums.source_largest
    alive = largest[largest > 0]
    low, high = np.percentile(alive, (10, 90)) if len(alive) else (1.0, 1.0)
    reached = sums.theta[largest > 0] / alive
    return Thresholds(
        least=float(sums.theta.min()),
        median=float(np.median(sums.theta)),
        largest=float(sums.theta.max()),
        above=sums.above / sums.values,
        headroom=float(np.median(reached)) if len(alive) else 1.0,
        range_spread=float(high / low),
        start=None if node.breakpoints is not None else float((node.v_init / node.threshold).mean()),
    )


def _firing(sums: LayerSums, rate: float, density: float) -> Firing:
    n = sums.values
    channels = sums.shape[0]
    mean = deviation = outside = None
    if sums.threshold is not None:
        mean, square, outside = (float(each / n) for each in sums.residual)
        deviation = sqrt(max(square - mean**2, 0.0))
    busy = sums.saturated > SATURATED * np.maximum(sums.active, 1)
    return Firing(
        rate=rate,
        density=density,
        dead=int(np.count_nonzero(sums.sent == 0)) / channels,
        silenced=int(np.count_nonzero(_silenced(sums))) / channels,
        saturated=int(np.count_nonzero(busy)) / channels,
        false_fires=sums.false_fires / n,
        lead=tuple(float(x) for x in sums.lead / n),
        residual_mean=mean,
        residual_deviation=deviation,
        residual_outside=outside,
        activations=tuple(float(x) for x in sums.histogram / n),
    )
