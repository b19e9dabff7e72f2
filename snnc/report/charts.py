"""The report's pictures. Bars are hatched besides their colours; every chart brings its data as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from snnc.metrics import Measured, Share
from snnc.report.curve import Curve
from snnc.report.drawing import (
    INK,
    SERIES,
    Chart,
    bars,
    figure_of,
    finished,
    height_of,
    label,
    percent,
    plain,
    wrapped,
)
from snnc.report.energy import Energy, microjoules
from snnc.report.layers import LayerReport
from snnc.report.statistics import ACTIVATION_BINS, ACTIVATION_RANGE
from snnc.report.terms import TERMS

COLOURS = {
    "propagated": "#999999",
    "parameters": "#cc79a7",
    "clipping": "#d55e00",
    "quantisation": "#0072b2",
    "unevenness": "#e69f00",
}
HATCHES = {"propagated": "", "parameters": "xx", "clipping": "//", "quantisation": "..", "unevenness": "\\\\"}
WORST = 3
"""How many layers' activations are shown."""


def error_chart(layers: Sequence[LayerReport], *, local: bool) -> Chart:
    """Draw the error of every layer, stacked by cause."""
    names = [wrapped(label(layer)) for layer in layers]
    splits = [layer.local if local else layer.cumulative for layer in layers]
    with figure_of(7.2, height_of(names) + 0.5) as figure:
        ax = figure.add_subplot()
        centres = bars(ax, names)
        right, left = np.zeros(len(layers)), np.zeros(len(layers))
        for term in TERMS:
            values = 100 * np.array([split.of(term) for split in splits])
            start = np.where(values >= 0, right, left)
            ax.barh(
                centres,
                values,
                left=start,
                height=0.7,
                label=term,
                color=COLOURS[term],
                hatch=HATCHES[term],
                edgecolor=INK,
                linewidth=0.4,
            )
            right, left = right + np.maximum(values, 0), left + np.minimum(values, 0)
        ax.axvline(0, color=INK, linewidth=0.8)
        ax.set_xlabel("squared error, % of the power of the layer")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, fontsize=8)
        what = "alone" if local else "in the running network"
        worst = max(zip(layers, splits, strict=True), key=lambda pair: pair[1].total)
        return finished(
            figure,
            "local" if local else "cumulative",
            f"Error of every layer {what}",
            f"Stacked bars, one per layer, by cause. The largest, {label(worst[0])}, "
            f"has {percent(worst[1].total)}.",
            ("layer", "total", *TERMS),
            [
                (label(layer), percent(split.total, 2), *(percent(x, 2) for x in split.contributions))
                for layer, split in zip(layers, splits, strict=True)
            ],
        )


def curve_chart(curve: Curve) -> Chart:
    """Draw accuracy against T."""
    what = curve.metric or ("accuracy" if curve.labelled else "agreement with the ANN")
    factor = 1 if curve.metric else 100

    def said(value: float) -> str:
        return f"{value:.4f}" if curve.metric else percent(value)

    def spread(share: Share | Measured) -> str:
        return "" if share.interval is None else " to ".join(map(said, share.interval))

    series = [("this artefact at other T", curve.same)]
    if curve.again:
        series.append(("converted for each T", curve.again))
    with figure_of(4.4, 3.0) as figure:
        ax = figure.add_subplot()
        for (name, points), colour, marker in zip(series, SERIES, "os", strict=False):
            T = [point.timesteps for point in points]
            middle = np.array([point.share.value for point in points])
            ends = [point.share.interval or (point.share.value,) * 2 for point in points]
            low, high = np.array(ends).T
            ax.plot(T, factor * middle, label=name, color=colour, marker=marker, linewidth=1.4)
            # Of few rows, a bootstrap's interval may lie beside the value.
            ax.vlines(T, factor * low, factor * high, color=colour, linewidth=1.4)
        if curve.ann is not None:
            ax.axhline(factor * curve.ann.value, color=INK, linestyle="--", linewidth=1, label="ANN")
        every = sorted({point.timesteps for _, points in series for point in points})
        ax.set_xscale("log", base=2)
        ax.set_xticks(every, [str(T) for T in every])
        ax.minorticks_off()
        ax.set_xlabel("time steps T")
        ax.set_ylabel(what if curve.metric else f"{what}, %")
        ax.legend(loc="lower right", fontsize=8)
        best = max(curve.same, key=lambda point: point.share.value)
        rows = []
        for name, points in series:
            rows += [(name, str(p.timesteps), said(p.share.value), spread(p.share)) for p in points]
        if curve.ann is not None:
            rows.append(("ANN", "", said(curve.ann.value), spread(curve.ann)))
        return finished(
            figure,
            "curve",
            f"{what if curve.metric else what.capitalize()} against the number of time steps",
            f"Calibrated for T = {curve.calibrated_for}. The best of this artefact is "
            f"{said(best.share.value)} at T = {best.timesteps}.",
            ("network", "T", what, "95 % interval"),
            rows,
        )


def _paired_bars(
    layers: Sequence[LayerReport], values: Sequence[Sequence[float]], xlabels: Sequence[str]
) -> Figure:
    """Draw two sets of bars beside each other, which share the names."""
    names = [wrapped(label(layer)) for layer in layers]
    with figure_of(7.2, height_of(names)) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        for ax, row, xlabel, colour in zip(axes, values, xlabels, SERIES, strict=False):
            centres = bars(ax, names)
            ax.barh(centres, row, height=0.7, color=colour, edgecolor=INK, linewidth=0.4)
            ax.set_xlabel(xlabel)
        return figure


def firing_chart(layers: Sequence[LayerReport]) -> Chart:
    """Draw spike rates and what is left in the potentials."""
    firings = [layer.firing for layer in layers if layer.firing is not None]
    rates = [firing.rate for firing in firings]
    residual = [100 * (firing.residual_outside or 0.0) for firing in firings]
    figure = _paired_bars(
        layers, (rates, residual), ("spikes per neuron and step", "outside [0, threshold), %")
    )
    busiest = max(layers, key=lambda layer: layer.firing.rate if layer.firing else 0.0)
    return finished(
        figure,
        "firing",
        "Spike rates, and potentials that end outside their range",
        f"Two bars per layer. {label(busiest)} fires most, {max(rates):.3f} spikes per neuron and step.",
        ("layer", "spikes per neuron and step", "neurons that fire in a step", "residual mean", "outside"),
        [
            (
                label(layer),
                f"{firing.rate:.4f}",
                percent(firing.density, 2),
                "-" if firing.residual_mean is None else f"{firing.residual_mean:.3f}",
                "-" if firing.residual_outside is None else percent(firing.residual_outside),
            )
            for layer, firing in zip(layers, firings, strict=True)
        ],
    )


def unevenness_chart(layers: Sequence[LayerReport]) -> Chart:
    """Draw how many neurons sent another count than their input demands."""
    firings = [layer.firing for layer in layers if layer.firing is not None]
    names = [wrapped(label(layer)) for layer in layers]
    bins = (("2 or more too few", 0), ("1 too few", 1), ("1 too many", 3), ("2 or more too many", 4))
    with figure_of(7.2, height_of(names) + 0.5) as figure:
        ax = figure.add_subplot()
        centres = bars(ax, names)
        right, left = np.zeros(len(layers)), np.zeros(len(layers))
        shades = ("#0072b2", "#56b4e9", "#e69f00", "#d55e00")
        for (name, index), colour, hatch in zip(bins, shades, ("..", "", "", "//"), strict=True):
            values = 100 * np.array([firing.lead[index] for firing in firings])
            sign = -1 if index < 2 else 1
            start = left if sign < 0 else right
            ax.barh(
                centres,
                sign * values,
                left=start,
                height=0.7,
                label=name,
                color=colour,
                hatch=hatch,
                edgecolor=INK,
                linewidth=0.4,
            )
            if sign < 0:
                left = left - values
            else:
                right = right + values
        ax.axvline(0, color=INK, linewidth=0.8)
        ax.set_xlabel("neurons, %: too few spikes to the left, too many to the right")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=8)
        worst = min(zip(layers, firings, strict=True), key=lambda pair: pair[1].lead[2])
        return finished(
            figure,
            "unevenness",
            "Unevenness: neurons whose count differs from that of their total input",
            f"Stacked bars, one per layer. In {label(worst[0])}, {percent(1 - worst[1].lead[2])} are off.",
            ("layer", "-2 or less", "-1", "0", "+1", "+2 or more", "ANN zero, but SNN fires"),
            [
                (label(layer), *(percent(x, 2) for x in firing.lead), percent(firing.false_fires, 2))
                for layer, firing in zip(layers, firings, strict=True)
            ],
        )


def activation_chart(layers: Sequence[LayerReport], error: Callable[[LayerReport], float]) -> Chart:
    """Draw the activations of the layers with the largest errors of their own, relative to the threshold."""
    worst = sorted(layers, key=lambda layer: -error(layer))[:WORST]
    edges = np.linspace(0, ACTIVATION_RANGE, ACTIVATION_BINS + 1)
    with figure_of(4.6, 1.9 * len(worst) + 0.4) as figure:
        figure.subplots_adjust(hspace=0.5)
        for index, layer in enumerate(worst):
            if layer.firing is None:
                continue
            ax = figure.add_subplot(len(worst), 1, index + 1)
            shares = 100 * np.array(layer.firing.activations)
            ax.bar(
                edges[:-1],
                shares[:-1],
                width=edges[1],
                align="edge",
                color=SERIES[0],
                edgecolor=INK,
                linewidth=0.3,
            )
            ax.axvline(1, color="#d55e00", linewidth=1.6, linestyle="--", label="threshold")
            ax.set_yscale("symlog", linthresh=0.01)
            ax.set_ylim(0, 100)
            ax.set_yticks([0, 0.01, 0.1, 1, 10, 100], ["0", "0.01", "0.1", "1", "10", "100"])
            ax.set_ylabel("neurons, %")
            ax.set_title(wrapped(label(layer), 60), fontsize=9)
            if index == 0:
                ax.legend(loc="upper right", fontsize=8)
        figure.axes[-1].set_xlabel("activation of the ANN over the threshold of its channel")
        coarse = 8
        heads = [
            f"{edges[i]:.1f} to {edges[i + ACTIVATION_BINS // coarse]:.1f}"
            for i in range(0, ACTIVATION_BINS, ACTIVATION_BINS // coarse)
        ]
        rows = []
        for layer in worst:
            if layer.firing is not None:
                shares = np.array(layer.firing.activations)
                grouped = shares[:-1].reshape(coarse, -1).sum(axis=1)
                rows.append(
                    (label(layer), *(percent(float(x), 2) for x in grouped), percent(float(shares[-1]), 3))
                )
        return finished(
            figure,
            "activations",
            "Activations of the source, relative to the threshold",
            f"Histograms of the {len(worst)} layers with the largest own errors; dashed: the threshold.",
            ("layer", *heads, f"above {ACTIVATION_RANGE:g}"),
            rows,
        )


def energy_chart(energy: Energy) -> Chart:
    """Draw the energy of the spiking network beside its baselines, and by layer."""
    names = [wrapped(layer.name) for layer in energy.layers]
    totals = {
        "SNN": energy.snn_pj,
        f"fair baseline: int{energy.fair.activation_bits} ANN that skips zeros": energy.fair_pj,
        "fp32 ANN": energy.fp32_pj,
    }
    scale, unit = 1e-6, "µJ"
    sum_of_bars = height_of(names)
    with figure_of(7.2, sum_of_bars + 2.0) as figure:
        heads, parts = figure.subplots(2, 1, height_ratios=[1.2, sum_of_bars])
        figure.subplots_adjust(hspace=1.2 / (sum_of_bars + 1.2))
        centres = bars(heads, [wrapped(name) for name in totals])
        for centre, value, colour, hatch in zip(
            centres, totals.values(), SERIES, ("", "//", ".."), strict=False
        ):
            heads.barh(
                centre, scale * value, height=0.7, color=colour, hatch=hatch, edgecolor=INK, linewidth=0.4
            )
            heads.annotate(f" {microjoules(value)}", (scale * value, centre), va="center", fontsize=8)
        heads.margins(x=0.15)
        heads.set_xlabel(f"{unit} per image, model {plain(energy.model.name)}")
        centres = bars(parts, names)
        values = [scale * layer.picojoules for layer in energy.layers]
        parts.barh(centres, values, height=0.7, color=SERIES[0], edgecolor=INK, linewidth=0.4)
        parts.set_xlabel(f"{unit} per image for the spikes and potentials of each layer")
        first = ("analogue first layer", "", f"{microjoules(energy.first_layer)} {unit}")
        return finished(
            figure,
            "energy",
            "Energy per image, with both baselines",
            f"In {unit} by the model {energy.model.name}: SNN {microjoules(energy.snn_pj)}, fair "
            f"baseline {microjoules(energy.fair_pj)}, fp32 {microjoules(energy.fp32_pj)}.",
            ("what", "synaptic operations", "energy"),
            [
                *((name, "", f"{microjoules(value)} {unit}") for name, value in totals.items()),
                first,
                *(
                    (item.name, f"{item.synops:,.0f}", f"{microjoules(item.picojoules)} {unit}")
                    for item in energy.layers
                ),
            ],
        )
