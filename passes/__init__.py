"""The passes: one file each. No pass imports another; the tables below list them all."""

from __future__ import annotations

if __name__ != "snnc.passes":
    raise ImportError("this folder is the package snnc.passes; import it by that name")

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any, cast, get_type_hints

from snnc.ir.graph import Graph
from snnc.numerics.thresholds import Method
from snnc.pipeline import AnyPass, Pipeline
from snnc.plugins import Load, Plugged, broken


def _loader(module: str, kind: str) -> Callable[[], type[AnyPass]]:
    def load() -> type[AnyPass]:
        found: type[AnyPass] = getattr(import_module(f"snnc.passes.{module}"), kind)
        return found

    return load


def _adopted(name: str, load: Load) -> Callable[[], type[AnyPass]]:
    """Return the loader of a pass of another distribution."""

    def checked() -> type[AnyPass]:
        kind: Any = load()
        if not isinstance(kind, type) or not is_dataclass(kind) or getattr(kind, "name", None) != name:
            raise broken(
                "snnc.passes", name, f"{kind!r} is not a frozen dataclass with the class variable `name`"
            )
        try:
            hints = get_type_hints(getattr(kind, "run", None))
            works = all(issubclass(hints[key], Graph) for key in ("graph", "return"))
        except (AttributeError, KeyError, NameError, TypeError):
            works = False
        if not works:
            raise broken("snnc.passes", name, "it has no `run` with the types of `graph` and of its result")
        return cast(type[AnyPass], kind)

    return checked


_PASSES: dict[str, Callable[[], type[AnyPass]]] = {
    "fold-batchnorm": _loader("fold_batchnorm", "FoldBatchnorm"),
    "exact-max-pool": _loader("exact_max_pool", "ExactMaxPool"),
    "compose-linear": _loader("compose_linear", "ComposeLinear"),
    "split-slopes": _loader("split_slopes", "SplitSlopes"),
    "rectify-linear": _loader("rectify_linear", "RectifyLinear"),
    "clip-activations": _loader("clip_activations", "ClipActivations"),
    "lower": _loader("lower", "Lower"),
    "lower-quantised": _loader("lower_quantised", "LowerQuantised"),
    "dual-threshold": _loader("dual_threshold", "DualThreshold"),
    "graded": _loader("graded", "Graded"),
    "multi-threshold": _loader("multi_threshold", "MultiThreshold"),
    "set-schedule": _loader("set_schedule", "SetSchedule"),
    "fine-skip": _loader("fine_skip", "FineSkip"),
    "init-membrane": _loader("init_membrane", "InitMembrane"),
    "prune-channels": _loader("prune_channels", "PruneChannels"),
    "learn-thresholds": _loader("learn_thresholds", "LearnThresholds"),
    "compensate": _loader("compensate", "Compensate"),
    "quantise-weights": _loader("quantise_weights", "QuantiseWeights"),
}

PASSES: Plugged[Callable[[], type[AnyPass]]] = Plugged("snnc.passes", _PASSES, _adopted)
"""Pass name -> loader of its class; those of other distributions, behind the entry points, included."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A fixed pipeline, named by what it promises.

    Attributes:
        name: on the command line, ``--preset NAME``.
        promise: one line.
        source: the pipeline, its text form, or what makes it when it is wanted.
    """

    name: str
    promise: str
    source: Pipeline | str | Callable[[], Pipeline]

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline; its passes are loaded for it.

        Raises:
            UsageError: the text form cannot be read.
        """
        if isinstance(self.source, Pipeline):
            return self.source
        return Pipeline.parse(self.source, PASSES) if isinstance(self.source, str) else self.source()


@cache
def _pipelines() -> dict[str, Pipeline]:
    """Return the pipelines of snnc's own presets, by the preset's name."""
    from snnc.passes.clip_activations import ClipActivations, Granularity
    from snnc.passes.compensate import Compensate
    from snnc.passes.compose_linear import ComposeLinear
    from snnc.passes.dual_threshold import DualThreshold
    from snnc.passes.exact_max_pool import ExactMaxPool
    from snnc.passes.fine_skip import FineSkip
    from snnc.passes.fold_batchnorm import FoldBatchnorm
    from snnc.passes.graded import Graded
    from snnc.passes.init_membrane import InitMembrane
    from snnc.passes.learn_thresholds import LearnThresholds
    from snnc.passes.lower import Lower
    from snnc.passes.lower_quantised import LowerQuantised
    from snnc.passes.multi_threshold import MultiThreshold
    from snnc.passes.quantise_weights import QuantiseWeights
    from snnc.passes.rectify_linear import RectifyLinear
    from snnc.passes.set_schedule import SetSchedule
    from snnc.passes.split_slopes import SplitSlopes

    linear = (FoldBatchnorm(), ExactMaxPool(), ComposeLinear(), SplitSlopes(), RectifyLinear())
    front = (*linear, ClipActivations(), Lower())
    back = (SetSchedule(), InitMembrane(), Compensate(), QuantiseWeights())
    binary = Pipeline((*front, *back))
    unsigned = binary.with_option("lower", signed=False)
    two_a_step = binary.with_pass(DualThreshold(spikes_per_step=2), after="lower")
    balanced = (
        two_a_step.with_option("clip-activations", floor=True)
        .with_option("init-membrane", fraction=0.25)
        .with_option("compensate", variance_restoration=0.7, ramp=True)
    )
    return {
        "balanced": balanced,
        "fast": two_a_step.without("compensate"),
        "binary-only": unsigned,
        "graded": balanced.replace("dual-threshold", Graded(), FineSkip()),
        "low-latency": binary.with_option("clip-activations", levels=2, floor=True)
        .with_pass(DualThreshold(), FineSkip(), after="lower")
        .with_option("compensate", variance_restoration=0.7),
        "one-step": binary.with_option("clip-activations", levels=15, floor=True).with_pass(
            MultiThreshold(), FineSkip(levels=63), after="lower"
        ),
        "precise": binary.without("split-slopes")
        .with_option("clip-activations", levels=255)
        .with_pass(Graded(), after="lower")
        .with_option("compensate", fit_rounding=True),
        "low-power": balanced.with_option("clip-activations", method=Method.LEARN).with_pass(
            LearnThresholds(activity=1.0), before="compensate"
        ),
        "exact": Pipeline(
            (ExactMaxPool(leave_rounded=True), LowerQuantised(), SetSchedule(), QuantiseWeights())
        ),
        "paper": binary.with_option("clip-activations", granularity=Granularity.LAYER)
        .with_pass(DualThreshold(), after="lower")
        .without("set-schedule", "compensate"),
    }


def _adopted_preset(name: str, load: Load) -> Preset:
    """Return a preset of another distribution."""
    preset = load()
    if not isinstance(preset, Preset) or preset.name != name:
        raise broken("snnc.presets", name, f"{preset!r} is not a Preset of that name")
    return preset


_PROMISES = {
    "balanced": "signed unary spikes, up to two per step, every error compensated",
    "fast": "converts in seconds: the same neurons with closed-form thresholds, without compensation",
    "binary-only": "plain integrate-and-fire neurons: unsigned binary spikes, at most one per step",
    "graded": "no unevenness error: spikes of as many levels as the potential allows, fine identity branches",
    "low-latency": "spikes of up to two levels, fine identity branches: about as accurate as balanced in "
    "half the steps",
    "one-step": "near the source's accuracy in one step: 15 levels by four thresholds, "
    "fine identity branches",
    "precise": "an 8-bit network sent as graded events in one step: 255 levels, for numbers, boxes and "
    "maps; each event is a multiplication",
    "low-power": "thresholds learned with a price on operations; the fewest operations within --max-drop",
    "exact": "quantised networks: spike counts equal the source's own levels, by its own integers",
    "paper": "only the clipping, dual thresholds and membrane initialisation of error compensation learning",
}


def _own(name: str) -> Pipeline:
    return _pipelines()[name]


PRESETS: Plugged[Preset] = Plugged(
    "snnc.presets",
    {name: Preset(name, promise, partial(_own, name)) for name, promise in _PROMISES.items()},
    _adopted_preset,
)
"""Every preset, by name, those of other distributions included; the first is the default."""
