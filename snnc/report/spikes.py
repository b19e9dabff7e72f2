"""Pictures of spikes: rasters, potentials, counts and activity. Every picture brings its data as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from snnc.ir.graph import FloatArray
from snnc.report.drawing import INK, SERIES, Chart, figure_of, finished, percent, plain, wrapped
from snnc.report.recording import Counted, Recorded

MOST_NEURONS = 100
"""Neurons of a layer that a raster draws."""

MOST_BARS = 33
"""Counts that a histogram draws one by one; rarer ones stand in the table."""

MARKERS = ((1, "_", SERIES[0], "spike"), (-1, "x", SERIES[1], "spike taken back"))


def raster(layers: Sequence[Recorded], when: str) -> Chart:
    """Draw the spikes of every layer in every step.

    Args:
        layers: the populations on one row.
        when: what was run, in words.
    """
    rows = []
    with figure_of(7.2, 0.6 + 0.85 * len(layers)) as figure:
        axes = figure.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0]
        for ax, layer in zip(axes, layers, strict=True):
            flat = layer.spikes.reshape(len(layer.spikes), -1)
            drawn = np.unique(np.linspace(0, flat.shape[1] - 1, MOST_NEURONS).round().astype(int))
            for sign, marker, colour, name in MARKERS:
                t, neuron = np.nonzero(sign * flat[:, drawn] > 0)
                size = 30 * np.abs(flat[:, drawn][t, neuron]).clip(1, 9)
                ax.scatter(t, drawn[neuron], size, color=colour, marker=marker, linewidth=0.9)
                ax.scatter([], [], 30, color=colour, marker=marker, label=name)
            ax.grid(visible=False)
            ax.set_ylim(-1, flat.shape[1])
            ax.set_yticks([0, flat.shape[1] - 1])
            ax.set_ylabel(wrapped(layer.node.name, 18), rotation=0, ha="right", va="center", fontsize=8)
            sent, back = (int((sign * flat).clip(min=0).sum()) for sign in (1, -1))
            fired = np.count_nonzero(flat.any(axis=0)) / flat.shape[1]
            rows.append(
                (
                    layer.node.name,
                    f"{flat.shape[1]:,}",
                    f"{len(drawn):,}",
                    f"{sent:,}",
                    f"{back:,}",
                    percent(fired),
                )
            )
        _steps(axes[-1], len(layers[0].spikes))
        axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)
        busiest = max(
            range(len(rows)), key=lambda k: np.count_nonzero(layers[k].spikes) / layers[k].spikes.size
        )
        return finished(
            figure,
            "raster",
            f"Spikes of every layer, {when}",
            f"A mark for each step in which a neuron sent something, of at most {MOST_NEURONS} neurons a "
            f"layer, at even distances. Most often fires {rows[busiest][0]}: "
            f"{rows[busiest][5]} of its neurons sent something.",
            ("layer", "neurons", "drawn", "sent", "taken back", "neurons that fired"),
            rows,
        )


def _steps(ax: Axes, steps: int) -> None:
    """Label the axis of time."""
    ax.set_xlim(-0.5, steps - 0.5)
    ticks = np.unique(np.linspace(0, steps - 1, min(steps, 9)).round().astype(int))
    ax.set_xticks(ticks, [str(t + 1) for t in ticks])
    ax.set_xlabel("step")


def potentials(neurons: Sequence[tuple[Recorded, tuple[int, ...]]], when: str) -> Chart:
    """Draw the potentials of single neurons, with thresholds and spikes.

    Args:
        neurons: populations on one row, and the place of a neuron in each.
        when: what was run, in words.
    """
    rows = []
    with figure_of(7.2, 0.4 + 1.7 * len(neurons)) as figure:
        figure.subplots_adjust(hspace=0.7)
        axes = figure.subplots(len(neurons), 1, squeeze=False)[:, 0]
        for ax, (layer, place) in zip(axes, neurons, strict=True):
            where: Any = (slice(None), *place)
            spikes, reached, left = layer.spikes[where], layer.reached[where], layer.left[where]
            steps = np.arange(1, len(spikes) + 1)
            x = np.concatenate([[0], np.repeat(steps, 2)])
            y = np.concatenate([[layer.start[place]], np.stack([reached, left], axis=1).ravel()])
            name = f"{layer.node.name}, neuron {', '.join(map(str, place))}"
            ax.plot(x, y, color=SERIES[0], linewidth=1.3, label="potential")
            limits = _limits(layer, place[0])
            for index, limit in enumerate(limits):
                told = "threshold" if len(limits) == 1 else "breakpoints"
                ax.axhline(
                    limit, color=SERIES[1], linestyle="--", linewidth=0.9, label=told if not index else None
                )
            ax.axhline(0, color=INK, linewidth=0.6)
            for t, s in zip(steps, spikes, strict=True):
                if s:
                    ax.annotate(f"{s:+g}", (t, reached[t - 1]), ha="center", va="bottom", fontsize=8)
            ax.set_xticks(steps if len(steps) <= 16 else steps[:: -(-len(steps) // 16)])
            ax.margins(y=0.2)
            ax.set_title(plain(name), fontsize=9)
            rows += [
                (name, str(t), f"{m:g}", f"{s:+g}" if s else "0", f"{v:g}")
                for t, m, s, v in zip(steps, reached, spikes, left, strict=True)
            ]
        axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1.15), ncols=2, fontsize=8)
        axes[-1].set_xlabel("step; numbers are the spikes of a step")
        return finished(
            figure,
            "potentials",
            f"Potentials of {len(neurons)} neuron{'s' * (len(neurons) > 1)}, {when}",
            "A line for each neuron: it rises with what arrives, and falls by a threshold for each spike.",
            ("neuron", "step", "potential reached", "spikes", "potential left"),
            rows,
        )


def _limits(layer: Recorded, channel: int) -> FloatArray:
    """Return the threshold of a channel, or the breakpoints of its step function within what is reached."""
    points = layer.node.breakpoints
    if points is None:
        return np.asarray(layer.node.threshold[channel : channel + 1], np.float64)
    all_points = np.unique(points[channel % len(points)]).astype(np.float64)
    inside = (all_points >= layer.reached.min()) & (all_points <= layer.reached.max())
    return all_points[inside] if inside.any() else all_points[:1]


def counts(layers: Sequence[Counted], when: str) -> Chart:
    """Draw how many spikes neurons have sent at the end.

    Args:
        layers: the populations on some rows.
        when: what was run, in words.
    """
    columns = min(3, len(layers))
    lines = -(-len(layers) // columns)
    rows = []
    with figure_of(2.5 * columns, 0.4 + 1.7 * lines) as figure:
        figure.subplots_adjust(hspace=0.75, wspace=0.4)
        for number, layer in enumerate(layers):
            total = sum(layer.counts.values())
            ax = figure.add_subplot(lines, columns, number + 1)
            often = sorted(sorted(layer.counts, key=lambda n: (-layer.counts[n], n))[:MOST_BARS])
            ax.bar(
                often,
                [100 * layer.counts[n] / total for n in often],
                color=SERIES[0],
                edgecolor=INK,
                linewidth=0.3,
            )
            ax.set_title(wrapped(layer.node.name, 24), fontsize=8)
            ax.set_yscale("symlog", linthresh=0.1)
            ax.set_yticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            if number % columns == 0:
                ax.set_ylabel("neurons, %")
            if number >= len(layers) - columns:
                ax.set_xlabel("spikes of a neuron")
            rows += [
                (layer.node.name, str(n), f"{k:,}", percent(k / total, 2)) for n, k in layer.counts.items()
            ]
        silent = max(layers, key=lambda each: each.counts.get(0, 0) / sum(each.counts.values()))
        share = silent.counts.get(0, 0) / sum(silent.counts.values())
        return finished(
            figure,
            "counts",
            f"Spike counts of neurons, {when}",
            f"A histogram for each layer, of the spikes that a neuron has sent less those that it took back. "
            f"Most "
            f"silent is {silent.node.name}: {percent(share)} of its neurons end at 0.",
            ("layer", "count", "neurons", "share"),
            rows,
        )


def activity(layers: Sequence[Counted], steps: int, when: str) -> Chart | None:
    """Draw where in the image neurons fire: spikes per neuron and step, the mean of all channels.

    Args:
        layers: the populations on some rows; vectors have no place and are left out.
        steps: T + K.
        when: what was run, in words.

    Returns:
        The picture, or ``None`` where no layer is a map.
    """
    maps = [layer for layer in layers if len(layer.node.shape) == 3 and max(layer.node.shape[1:]) > 1]
    if not maps:
        return None
    columns = min(4, len(maps))
    lines = -(-len(maps) // columns)
    rows = []
    with figure_of(1.9 * columns, 0.3 + 1.9 * lines) as figure:
        figure.subplots_adjust(hspace=0.6, wspace=0.5)
        for number, layer in enumerate(maps):
            rate = layer.units.mean(axis=0) / (layer.rows * steps)
            ax = figure.add_subplot(lines, columns, number + 1)
            shown = ax.imshow(rate, cmap="cividis", vmin=0)
            figure.colorbar(shown, ax=ax, fraction=0.046).ax.tick_params(labelsize=6)
            ax.set_title(wrapped(layer.node.name, 20), fontsize=8)
            ax.set_axis_off()
            down, right = (int(i) for i in np.unravel_index(int(rate.argmax()), rate.shape))
            rows.append(
                (
                    layer.node.name,
                    " x ".join(map(str, layer.node.shape)),
                    f"{rate.mean():.4f}",
                    f"{rate.max():.4f}",
                    f"row {down}, column {right}",
                )
            )
        left_out = len(layers) - len(maps)
        beside = f" {left_out} layers without height and width are left out." if left_out else ""
        return finished(
            figure,
            "activity",
            f"Where neurons fire, {when}",
            f"A map for each layer: spikes per neuron and step at every position, the mean of its channels."
            f"{beside}",
            ("layer", "shape", "mean", "largest", "at"),
            rows,
        )
