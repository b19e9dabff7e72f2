"""The one list of metrics, their intervals, and the kinds of outputs."""

from snnc.metrics.catalogue import (
    DEFAULTS,
    METRICS,
    Case,
    Measured,
    Metric,
    measure,
    measure_all,
)
from snnc.metrics.limits import Floor, floor
from snnc.metrics.loss import Loss, loss_interval, paired
from snnc.metrics.shares import Z95, Paired, Share
from snnc.metrics.task import (
    Outputs,
    Task,
    behaves_as_classifier,
    decisions,
    finished,
    recognise,
    threshold_of,
)

__all__ = [
    "DEFAULTS",
    "METRICS",
    "Z95",
    "Case",
    "Floor",
    "Loss",
    "Measured",
    "Metric",
    "Outputs",
    "Paired",
    "Share",
    "Task",
    "behaves_as_classifier",
    "decisions",
    "finished",
    "floor",
    "loss_interval",
    "measure",
    "measure_all",
    "paired",
    "recognise",
    "threshold_of",
]
