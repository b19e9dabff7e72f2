"""What is measured of a conversion on some rows."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from snnc.analysis.costs import Costs
from snnc.analysis.scores import AnnScores, Scores
from snnc.data.input_statistics import Foreign
from snnc.data.normalisation import Misread
from snnc.errors import InternalError, UsageError
from snnc.ir.graph import IntArray
from snnc.metrics import Case, Loss, Outputs, Share, behaves_as_classifier
from snnc.metrics.loss import ACCURACY, ANSWERS, loss_of_maps, loss_of_numbers
from snnc.report.layers import LayerReport
from snnc.report.probes import ChannelOrder, InputUse


@dataclass(frozen=True, slots=True)
class Answered:
    """What both networks answer at one output.

    Attributes:
        name: of the output.
        snn: answers of the spiking network.
        ann: answers of the source network, on the same rows.
        outputs: what its values are.
        ends: the activation that the source network ends with, as an ONNX operator; empty for none.
        case: the answers themselves, where they are not classes alone; else ``None``.
    """

    name: str
    snn: Scores
    ann: AnnScores
    outputs: Outputs
    ends: str
    case: Case | None

    @property
    def tells_classes(self) -> bool:
        """Whether answers may be spoken of as classes; where that is not evident, their behaviour decides."""
        if self.case is None or self.outputs.task is not None or self.case.source is None:
            return self.outputs.have_classes
        return behaves_as_classifier(self.case.source.astype(np.float64))

    @property
    def loss(self) -> Loss:
        """The loss of the conversion: of right answers, of the source's answers, or of the variance."""
        if self.tells_classes and self.ann.paired is not None:
            paired = self.ann.paired
            return Loss(paired.drop, *paired.interval, paired.n, ACCURACY)
        if self.tells_classes and self.ann.agreement is not None:
            alike = self.ann.agreement
            differ = Share(alike.n - alike.hits, alike.n)
            return Loss(differ.value, *differ.interval, differ.n, ANSWERS)
        if self.case is None or self.case.source is None:
            raise InternalError("numbers were measured, and not kept")
        lost = loss_of_maps if self.outputs.is_map else loss_of_numbers
        return lost(self.case.answers, self.case.source)

    @property
    def lost(self) -> float:
        """The loss as a number to compare outputs by; below all others where it cannot be told."""
        try:
            return self.loss.value
        except UsageError:  # the source always answers the same
            return -inf


@dataclass(frozen=True, slots=True)
class Measurement(Answered):
    """What was found out about a conversion on some rows.

    What is said of the answers is that of the output that loses most, where there are several.

    Attributes:
        layers: of every population and function of counts in topological order, and of the read-outs.
        costs: operations of the spiking network.
        ann_macs: multiply-accumulates of each weighted layer of the source network, per image.
        nonzero: (*shape) of every population, in how many rows the source's activation, rounded to the levels
            that spikes have, is not zero.
        input_use: how the rows fill the range of the quantised input.
        foreign: how the rows differ from the calibration rows; ``None`` if they do not, or if the artefact
            has no statistics of those.
        misread: how the source network would rather read the rows; ``None`` if nothing tells.
        channel_order: whether the colours of the rows look reversed; ``None`` unless there are three.
        timesteps: T of the run.
        rows: how many were run.
        each: what is answered at every output.
    """

    layers: tuple[LayerReport, ...]
    costs: Costs
    ann_macs: dict[str, int]
    nonzero: dict[str, IntArray]
    input_use: InputUse
    foreign: Foreign | None
    misread: Misread | None
    channel_order: ChannelOrder | None
    timesteps: int
    rows: int
    each: tuple[Answered, ...]

    @property
    def several(self) -> bool:
        """Whether there are several outputs."""
        return len(self.each) > 1

    @property
    def populations(self) -> tuple[LayerReport, ...]:
        """The layers that have neurons."""
        return tuple(layer for layer in self.layers if layer.firing is not None)
