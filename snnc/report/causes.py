"""Why a conversion loses accuracy: the causes that the verdict knows, in words, and what to try."""

from __future__ import annotations

from enum import Enum


class Cause(Enum):
    """Why a conversion loses accuracy; the value is its name in the report."""

    CHANNEL_ORDER = "channel-order"
    NORMALISATION = "normalisation"
    THRESHOLD_TOO_SMALL = "threshold-too-small"
    THRESHOLD_TOO_LARGE = "threshold-too-large"
    SHARED_THRESHOLD = "shared-threshold"
    START_AT_ZERO = "start-at-zero"
    NO_NEGATIVE_SPIKES = "no-negative-spikes"
    DEAD_CHANNELS = "dead-channels"
    BIAS_LOST = "bias-lost"
    COARSE_WEIGHTS = "coarse-weights"
    TOO_FEW_TIMESTEPS = "too-few-timesteps"
    UNEVENNESS = "unevenness"
    NONE = "none"


OPTIONS = {
    Cause.CHANNEL_ORDER: "give the colours in the order that the source was trained on: x[..., ::-1]",
    Cause.NORMALISATION: "convert again with the --preprocess that the source was trained with, and with "
    "calibration rows that look like these",
    Cause.THRESHOLD_TOO_SMALL: "--set clip-activations.method=mse, and calibration rows like these",
    Cause.THRESHOLD_TOO_LARGE: "--set clip-activations.method=mse, and calibration rows without outliers",
    Cause.SHARED_THRESHOLD: "--set clip-activations.granularity=channel",
    Cause.START_AT_ZERO: "--set init-membrane.fraction=0.5",
    Cause.NO_NEGATIVE_SPIKES: "--preset balanced, whose neurons take spikes back (pass dual-threshold)",
    Cause.DEAD_CHANNELS: "calibration rows on which these channels fire: rows of all classes",
    Cause.BIAS_LOST: "--preset balanced, which corrects biases (pass compensate)",
    Cause.COARSE_WEIGHTS: "--preset balanced, which fits weights to the spikes, or --precision float32",
    Cause.UNEVENNESS: "--set set-schedule.settle-steps=2, or --preset graded",
}
"""What to try, for causes whose cure does not depend on the figures."""

NAMES = {
    Cause.CHANNEL_ORDER: "the colours of the rows are reversed",
    Cause.NORMALISATION: "these rows look wrongly normalised",
    Cause.THRESHOLD_TOO_SMALL: "the threshold is too small",
    Cause.THRESHOLD_TOO_LARGE: "the threshold is too large",
    Cause.SHARED_THRESHOLD: "one threshold is shared by channels that differ",
    Cause.START_AT_ZERO: "the potentials start at zero",
    Cause.NO_NEGATIVE_SPIKES: "spikes that came too early are not taken back",
    Cause.DEAD_CHANNELS: "channels are dead",
    Cause.BIAS_LOST: "the bias is lost or wrong",
    Cause.COARSE_WEIGHTS: "the weights are too coarse",
    Cause.TOO_FEW_TIMESTEPS: "there are too few time steps",
    Cause.UNEVENNESS: "spikes arrive unevenly",
    Cause.NONE: "no single cause stands out",
}
"""Each cause in words."""
