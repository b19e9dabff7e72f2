"""The verdict: the main error's layer, its cause, and advice, by the rules of :mod:`snnc.report.rules`.

The most severe finding is the verdict. Findings about the input come first, because they explain the others.
A cause that most layers share is attributed to the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from statistics import median

from snnc.errors import UsageError
from snnc.metrics.loss import ACCURACY, POWER, VARIANCE, Loss
from snnc.report.causes import NAMES, Cause
from snnc.report.measurement import Measurement
from snnc.report.rules import Finding, Rules

LITTLE = 0.01
"""Loss of the answers below which nothing is wrong with the conversion as a whole: a point, or of numbers a
hundredth of their variance."""

MUCH = 0.05
"""Loss of the answers from which on the conversion is poor."""


MOST = 0.6
"""Share of layers from which on a cause is the network's."""


class Size(Enum):
    """How much is lost in the end; the value is its name in the report."""

    LITTLE = "little"
    SOME = "some"
    MUCH = "much"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The conclusion.

    Attributes:
        text: one to three sentences.
        findings: all that was found, the most important first; never empty.
        loss: what the answers lose; ``None`` where the source answers the same number to every row.
        size: below :data:`LITTLE`, below :data:`MUCH`, or more. What is wrong with the rows themselves is
            always much: the source network's own answers are wrong, too.
    """

    text: str
    findings: tuple[Finding, ...]
    loss: Loss | None
    size: Size

    @property
    def first(self) -> Finding:
        """The most important finding."""
        return self.findings[0]


def judge(found: Measurement, calibrated_for: int, pipeline: str = "", preset: str = "") -> Verdict:
    """Draw the conclusion.

    Args:
        found: what was measured.
        calibrated_for: T for which the network was made.
        pipeline: that made it, by which advice is checked; empty where it is unknown.
        preset: its name, if it has one.
    """
    case = Rules(found, calibrated_for, pipeline, preset)
    findings = [*case.input(), *case.layers()]
    findings = _of_the_network(findings, case)
    if not any(item.network for item in findings):
        findings.extend(case.too_few_timesteps())
    findings.sort(key=lambda item: (not _first_of_all(item), -item.severity))
    if not findings:
        findings = [case.added_up() or case.largest()]
    loss = _loss(found)
    size = Size.MUCH if _first_of_all(findings[0]) else _size(loss)
    return Verdict(f"{_text(findings[0], found)}{_lost(loss)}", tuple(findings), loss, size)


def _loss(found: Measurement) -> Loss | None:
    try:
        return found.loss
    except UsageError:
        return None


def _size(loss: Loss | None) -> Size:
    if loss is None or loss.value < LITTLE:
        return Size.LITTLE
    return Size.SOME if loss.value < MUCH else Size.MUCH


def _lost(loss: Loss | None) -> str:
    if loss is None:
        return ""
    if loss.measured == VARIANCE:
        return f" The answers miss {loss.value:.2%} of the variance of the source's, on average over outputs."
    if loss.measured == POWER:
        return f" The error of the maps is {loss.value:.2%} of the power of the source's."
    points = f"{abs(100 * loss.value):.2f} points"
    if loss.measured == ACCURACY:
        return f" The conversion {'loses' if loss.value >= 0 else 'gains'} {points} of accuracy."
    return f" {points[0].upper()}{points[1:]} of the answers differ from the source's."


def _first_of_all(item: Finding) -> bool:
    return item.cause in (Cause.CHANNEL_ORDER, Cause.NORMALISATION)


def _of_the_network(findings: list[Finding], case: Rules) -> list[Finding]:
    """Join a cause that most layers share into one finding, named after its worst layer."""
    joined: list[Finding] = []
    populations = {layer.name for layer in case.found.populations}
    for cause in Cause:
        same = [item for item in findings if item.cause is cause]
        # Two rules may find the same in one layer, and the read-out is none of the populations.
        concerned = {item.layer for item in same}
        several = len(concerned) >= max(3, MOST * len(populations))
        if several and not any(item.network for item in same):
            worst = max(same, key=lambda item: item.severity)
            layers = len(populations | concerned)
            evidence = f"in {len(concerned)} of {layers} layers; in the worst, {worst.evidence}"
            severity = median(item.severity for item in same)
            joined.append(
                Finding(cause, worst.layer, worst.onnx_node, True, severity, evidence, worst.option)
            )
        else:
            joined.extend(same)
    return joined


def _text(first: Finding, found: Measurement) -> str:
    name = NAMES[first.cause]
    place = first.onnx_node or first.layer
    where = f"in {place}"
    if first.cause is Cause.NONE:
        return f"No single cause stands out. {place} has the largest error of its own: {first.evidence}."
    if first.network:
        return f"{name[0].upper()}{name[1:]}: {first.evidence}."
    return f"{where[0].upper()}{where[1:]} {name}: {first.evidence}."
