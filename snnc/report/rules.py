"""The rules by which causes are found: every one is written down here.

A rule looks at the *local* errors of a layer, so that no layer is blamed for what arrives from others. The
*strength* of a term is its mean square relative to the power of the layer's activations; its *excess* is the
strength above the median of all layers. The severity of a finding is the strength, or excess, that would
vanish with its cause, so that findings of different rules can be compared, and the most severe one is the
verdict. What concerns the input comes first: it explains the rest.

===================== ======================================================================================
cause                 rule
===================== ======================================================================================
channel-order         the source network does clearly better on the same rows with their colours reversed, or
                      the first layer's weights fit the source's only with reversed colours
normalisation         the rows are not distributed as the calibration rows were, as
                      :mod:`snnc.data.input_statistics` judges; or the source network tells them apart better
                      in another scale or layout, as :mod:`snnc.data.normalisation` judges
threshold-too-small   clipping stands out, with a share of activations above the threshold that does, too; or
                      ``zhat`` is a multiple of ``z``: the threshold does not belong to its unit
threshold-too-large   quantisation stands out, and the threshold is far above all activations; or ``zhat`` is
                      a fraction of ``z``
shared-threshold      quantisation stands out, all channels have one threshold, and their ranges differ
start-at-zero         the potential starts (nearly) at zero, so that counts are rounded down
no-negative-spikes    the neurons cannot take spikes back, and are uneven
dead-channels         channels are silent that are active in the source, and the parameters' error is theirs
bias-lost             what the parameters do wrong to a current is a constant of each channel
coarse-weights        the parameters' error stands out, and is none of these
too-few-timesteps     clipping and quantisation are large in most layers; or nothing stands out in any, but
                      the layers add up to a large error of the read-out
unevenness            neurons that can take spikes back are still uneven
none                  no rule applies: the layer with the largest error of its own, and its largest term
===================== ======================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from statistics import median

from snnc.analysis import costs
from snnc.data.normalisation import Mistake
from snnc.passes import PASSES
from snnc.pipeline import Pipeline
from snnc.report.advice import advised
from snnc.report.causes import OPTIONS, Cause
from snnc.report.layers import LayerReport
from snnc.report.measurement import Measurement
from snnc.report.statistics import Split
from snnc.report.terms import OWN, TERMS

LEVELS = "lower-quantised"
"""The pass after which counts are levels of the source, for every T."""

CLEAR = 0.01
"""Severity below which nothing is blamed: one hundredth of a layer's power."""

STRUCTURAL = 0.003
"""The same for causes that the neurons' settings show."""

FAR_ABOVE = 0.05
"""Share of activations above the threshold that is too large anywhere."""

HEADROOM = 2.0
"""Threshold over largest activation that is too large anywhere."""

STANDS_OUT = 2.5
"""How many times the median of all layers."""

RANGES_DIFFER = 3.0
"""Ratio between channels' ranges that one threshold does not fit."""

OTHER_SCALE = 2.0
"""Gain between ``z`` and ``zhat`` that no rounding explains."""

ALIKE = 0.9
"""Correlation above which two currents differ by their scale."""

FEW_LEVELS = 0.06
"""Median strength of clipping and quantisation together that says that T is too small."""

ADDED_UP = 0.1
"""Relative squared error of the read-out that the layers together may not exceed where none stands out."""

FEWEST = 5
"""Right answers that the other order of the colours must add: fewer are chance."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        cause: what it is.
        layer: name of the node; of the worst one where the whole network is concerned.
        onnx_node: name of the ONNX node that it came from.
        network: whether the whole network is concerned, or its input.
        severity: the squared error that it makes, relative to the layer's power.
        evidence: the figures that say so.
        option: what to try.
    """

    cause: Cause
    layer: str
    onnx_node: str
    network: bool
    severity: float
    evidence: str
    option: str


def strength(split: Split, term: str) -> float:
    """Return the mean square of a term, relative to the power of the layer."""
    return split.rms[TERMS.index(term)] ** 2 / split.power if split.power > 0 else 0.0


def own_error(layer: LayerReport) -> float:
    """Return how much a layer adds itself to the error: the strengths of its own terms."""
    return sum(strength(layer.local, term) for term in OWN)


@dataclass(frozen=True, slots=True)
class Rules:
    """A measurement and the questions that the rules ask."""

    found: Measurement
    calibrated_for: int
    pipeline: str
    preset: str

    def typical(self, term: str) -> float:
        """Return the median strength of a term over the populations; 0 where there are none."""
        populations = self.found.populations
        return median(strength(layer.local, term) for layer in populations) if populations else 0.0

    def excess(self, layer: LayerReport, term: str) -> float:
        """Return the strength of a term above the typical one."""
        return strength(layer.local, term) - self.typical(term)

    def finding(self, cause: Cause, layer: LayerReport, severity: float, evidence: str) -> Finding:
        """Return a cause found in a layer, with advice that fits the pipeline."""
        otherwise = self.longer(2 * self.found.timesteps, "graded")
        option = advised(OPTIONS[cause], self.pipeline, self.preset, otherwise)
        return Finding(cause, layer.name, layer.onnx_node, False, severity, evidence, option)

    def input(self) -> Iterator[Finding]:
        """Rules about the rows themselves."""
        first = self.found.layers[0]
        order, found_order = self.found.channel_order, False
        told = self.found.tells_classes
        if order is not None:
            gained = order.reversed_score - order.score if told else 0.0
            doubt = 2 * sqrt(max(order.score * (1 - order.score), 0.01) / order.rows)
            if gained > max(0.05, doubt) and gained * order.rows >= FEWEST:
                evidence = (
                    f"the source network scores {order.score:.0%} on these rows and "
                    f"{order.reversed_score:.0%} with their colours reversed"
                )
                found_order = True
                yield _on_input(Cause.CHANNEL_ORDER, first, gained, evidence)
            elif order.first_layer > CLEAR and order.reversed_first_layer < order.first_layer / 10:
                evidence = (
                    f"the first layer differs from the source's by {order.first_layer:.0%} of its power, and "
                    f"by {order.reversed_first_layer:.1%} with the colours reversed"
                )
                yield _on_input(Cause.CHANNEL_ORDER, first, order.first_layer, evidence)
        foreign, misread = self.found.foreign, self.found.misread
        if foreign is not None:
            yield _on_input(Cause.NORMALISATION, first, 1.0, foreign.text)
        elif misread is not None:
            turned = misread.mistake is Mistake.CHANNELS
            severity = max(CLEAR, misread.better - misread.own) if misread.words else 1.0
            if not (turned and found_order):
                cause = Cause.CHANNEL_ORDER if turned else Cause.NORMALISATION
                yield _on_input(cause, first, severity, misread.text)

    def layers(self) -> Iterator[Finding]:
        """Rules about single layers."""
        rules: tuple[Callable[[LayerReport], Finding | None], ...] = (
            self.scale,
            self.thresholds,
            self.start,
            self.uneven,
            self.parameters,
        )
        for layer in self.found.layers:
            for rule in rules:
                item = rule(layer)
                if item is not None:
                    yield item

    def scale(self, layer: LayerReport) -> Finding | None:
        """Whether ``zhat`` is ``z`` in another scale."""
        gain = layer.drive.gain
        if layer.thresholds is None or layer.drive.correlation < ALIKE or gain <= 0:
            return None
        if 1 / OTHER_SCALE < gain < OTHER_SCALE:
            return None
        cause = Cause.THRESHOLD_TOO_SMALL if gain > 1 else Cause.THRESHOLD_TOO_LARGE
        evidence = f"its input is {gain:.3g} times what the source's weights give: the threshold is off"
        return self.finding(cause, layer, own_error(layer), evidence)

    def thresholds(self, layer: LayerReport) -> Finding | None:
        """Whether a threshold is too small, too large, or shared by channels that differ."""
        if layer.thresholds is None:
            return None
        others = [item.thresholds for item in self.found.populations if item.thresholds is not None]
        above = median(item.above for item in others)
        headroom = median(item.headroom for item in others)
        clipping, rounding = self.excess(layer, "clipping"), self.excess(layer, "quantisation")
        seen = layer.thresholds
        if clipping > CLEAR and seen.above > max(FAR_ABOVE, STANDS_OUT * above):
            evidence = (
                f"{seen.above:.1%} of its activations lie above the threshold ({above:.1%} is typical here)"
            )
            return self.finding(Cause.THRESHOLD_TOO_SMALL, layer, clipping, evidence)
        if rounding <= CLEAR:
            return None
        shared = layer.shape[0] > 1 and seen.largest <= 1.01 * seen.least
        if shared and seen.range_spread > RANGES_DIFFER:
            evidence = f"one threshold serves channels whose ranges differ {seen.range_spread:.3g}-fold"
            return self.finding(Cause.SHARED_THRESHOLD, layer, rounding, evidence)
        if seen.headroom > max(HEADROOM, STANDS_OUT * headroom):
            evidence = (
                f"its threshold is {seen.headroom:.3g} times the largest activation of a typical channel"
            )
            return self.finding(Cause.THRESHOLD_TOO_LARGE, layer, rounding, evidence)
        return None

    def start(self, layer: LayerReport) -> Finding | None:
        """Whether potentials start at zero: three quarters of the squared rounding error come from it."""
        if layer.thresholds is None or layer.thresholds.start is None or layer.thresholds.start > 0.1:
            return None
        severity = 0.75 * strength(layer.local, "quantisation")
        if severity < STRUCTURAL or layer.local.means[TERMS.index("quantisation")] >= 0:
            return None
        evidence = f"its potentials start at {layer.thresholds.start:.0%} of the threshold"
        return self.finding(Cause.START_AT_ZERO, layer, severity, evidence)

    def uneven(self, layer: LayerReport) -> Finding | None:
        """Whether spikes that came too early stay."""
        if layer.rule is None or layer.firing is None:
            return None
        severity = strength(layer.local, "unevenness")
        missed = 1 - layer.firing.lead[2]
        if not layer.rule.remembers and severity > STRUCTURAL:
            evidence = f"its neurons cannot take spikes back, and {missed:.1%} of them end off their count"
            return self.finding(Cause.NO_NEGATIVE_SPIKES, layer, severity, evidence)
        if layer.rule.remembers and self.excess(layer, "unevenness") > CLEAR:
            evidence = f"{missed:.1%} of its neurons end off their count"
            return self.finding(Cause.UNEVENNESS, layer, severity, evidence)
        return None

    def parameters(self, layer: LayerReport) -> Finding | None:
        """Whether weights or biases are not the source's, and which."""
        typical = self.typical("parameters")
        # What compensation changed on purpose lowers the error of the running network.
        severity = min(layer.local.of("parameters"), layer.cumulative.of("parameters")) - typical
        scale_is_off = layer.drive.correlation >= ALIKE and not (
            1 / OTHER_SCALE < layer.drive.gain < OTHER_SCALE
        )
        if severity <= CLEAR or (scale_is_off and layer.drive.silenced_share < 0.5):
            return None
        offset = layer.drive.offset_share
        silenced = 0.0 if layer.firing is None else layer.firing.silenced
        dead = silenced > 0 and layer.drive.silenced_share > 0.5
        if offset > (0.9 if dead else 0.6):  # a wrong bias may silence channels, too
            evidence = f"{offset:.0%} of what is wrong with its current is a constant of each channel"
            return self.finding(Cause.BIAS_LOST, layer, severity, evidence)
        if dead:
            evidence = f"{silenced:.0%} of its channels never fire, though they are active in the source"
            return self.finding(Cause.DEAD_CHANNELS, layer, severity, evidence)
        evidence = f"its weights make an error of {severity:.1%} of its power on the same spikes"
        return self.finding(Cause.COARSE_WEIGHTS, layer, severity, evidence)

    def too_few_timesteps(self) -> Iterator[Finding]:
        """Whether there are too few levels everywhere."""
        severity = self.typical("clipping") + self.typical("quantisation")
        if severity <= FEW_LEVELS:
            return
        T = self.found.timesteps
        yield self._few_timesteps(
            severity, f"at T = {T} rounding and clipping cost {severity:.0%} of the power of a typical layer"
        )

    def added_up(self) -> Finding | None:
        """Return too few steps where no layer is to blame, and yet little errors of many add up to much."""
        readouts = [layer for layer in self.found.layers if layer.is_readout]
        error = max(layer.cumulative.total for layer in readouts)
        if error <= ADDED_UP or not self.found.populations:
            return None
        share = self.typical("clipping") + self.typical("quantisation")
        evidence = (
            f"no layer stands out, but at T = {self.found.timesteps} rounding and clipping cost {share:.1%} "
            f"of the power of a typical one, and {len(self.found.populations)} layers add that up to "
            f"{error:.0%} at the read-out"
        )
        return self._few_timesteps(error, evidence)

    def _few_timesteps(self, severity: float, evidence: str) -> Finding:
        worst = max(self.found.populations, key=own_error)
        option = self.longer(max(4, 2 * self.found.timesteps), "low-latency")
        return Finding(Cause.TOO_FEW_TIMESTEPS, worst.name, worst.onnx_node, True, severity, evidence, option)

    def largest(self) -> Finding:
        """Name the largest error where none stands out."""
        worst = max(self.found.populations or self.found.layers, key=own_error)
        term = max(OWN, key=lambda name: strength(worst.local, name))
        evidence = f"{term}, {strength(worst.local, term):.1%} of its power"
        option = self.longer(2 * self.found.timesteps, "graded")
        return Finding(Cause.NONE, worst.name, worst.onnx_node, True, own_error(worst), evidence, option)

    def longer(self, timesteps: int, preset: str) -> str:
        """Return the advice to take more steps, or a preset whose spikes carry more."""
        T = self.found.timesteps
        if self.pipeline and LEVELS in Pipeline.parse(self.pipeline, PASSES).names:
            return "weights and inputs that the source quantises, too: for every T its own levels are counted"
        if self.calibrated_for > T:
            return f"run at T = {self.calibrated_for}, for which it was calibrated, or convert for {T}"
        return f"convert again with --timesteps {timesteps}" + f", or with --preset {preset}" * self.unary()

    def unary(self) -> bool:
        """Whether every spike carries one level."""
        neurons = [layer.neuron for layer in self.found.populations if layer.neuron is not None]
        return all(map(costs.unary, neurons))


def _on_input(cause: Cause, first: LayerReport, severity: float, evidence: str) -> Finding:
    option = advised(OPTIONS[cause], "", "", "")
    return Finding(cause, first.name, first.onnx_node, True, severity, evidence, option)
