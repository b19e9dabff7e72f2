"""The passes: one file each, none of which knows another; only the tables below know them all."""

from __future__ import annotations

if __name__ != "snnc.passes":
    raise ImportError("this folder is the package snnc.passes; import it by that name")

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from typing import Any, cast, get_type_hints

from snnc.ir.graph import Graph
from snnc.pipeline import AnyPass
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
                "snnc.passes", name, f"{kind!r} is no frozen dataclass with the class variable `name`"
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
    "rectify-linear": _loader("rectify_linear", "RectifyLinear"),
    "clip-activations": _loader("clip_activations", "ClipActivations"),
    "lower": _loader("lower", "Lower"),
    "dual-threshold": _loader("dual_threshold", "DualThreshold"),
    "graded": _loader("graded", "Graded"),
    "multi-threshold": _loader("multi_threshold", "MultiThreshold"),
    "set-schedule": _loader("set_schedule", "SetSchedule"),
    "fine-skip": _loader("fine_skip", "FineSkip"),
    "init-membrane": _loader("init_membrane", "InitMembrane"),
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
        pipeline: its text form.
    """

    name: str
    promise: str
    pipeline: str


_FRONT = "fold-batchnorm,exact-max-pool,compose-linear,rectify-linear"
_BACK = "set-schedule,init-membrane,compensate,quantise-weights"
_RANGE = "clip-activations{floor=true}"
_START = "set-schedule,init-membrane{fraction=0.25}"
_FITTED = "compensate{spread=0.7,ramp=true},quantise-weights"
_SIGNED = f"{_START},{_FITTED}"


def _adopted_preset(name: str, load: Load) -> Preset:
    """Return a preset of another distribution."""
    preset = load()
    if not isinstance(preset, Preset) or preset.name != name:
        raise broken("snnc.presets", name, f"{preset!r} is no Preset of that name")
    return preset


_PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "balanced",
            "signed unary spikes, up to two a step, every error compensated",
            f"{_FRONT},{_RANGE},lower,dual-threshold{{spikes-per-step=2}},{_SIGNED}",
        ),
        Preset(
            "fast",
            "converts in seconds: the same neurons with closed-form thresholds, and nothing fitted",
            f"{_FRONT},clip-activations,lower,dual-threshold{{spikes-per-step=2}},"
            "set-schedule,init-membrane,quantise-weights",
        ),
        Preset(
            "binary-only",
            "plain integrate-and-fire neurons: unsigned binary spikes, at most one a step",
            f"{_FRONT},clip-activations,lower,{_BACK}",
        ),
        Preset(
            "graded",
            "no unevenness at all: spikes of as many levels as the potential holds, fine identity branches",
            f"{_FRONT},{_RANGE},lower,graded,fine-skip,{_SIGNED}",
        ),
        Preset(
            "low-latency",
            "spikes of one level or two, fine identity branches: about balanced in half the steps",
            f"{_FRONT},clip-activations{{levels=2,floor=true}},lower,dual-threshold,fine-skip,"
            "set-schedule,init-membrane,compensate{spread=0.7},quantise-weights",
        ),
        Preset(
            "one-step",
            "near the source's accuracy in one step: 15 levels by four thresholds, fine identity branches",
            f"{_FRONT},clip-activations{{levels=15,floor=true}},lower,multi-threshold,"
            f"fine-skip{{levels=63}},{_BACK}",
        ),
        Preset(
            "low-power",
            "thresholds learned with a price on operations; with --max-drop, the fewest that keep to it",
            f"{_FRONT},clip-activations{{method=learn,floor=true}},lower,dual-threshold{{spikes-per-step=2}},"
            f"{_START},learn-thresholds{{activity=1.0}},{_FITTED}",
        ),
        Preset(
            "paper",
            "clipping, dual thresholds and membrane initialisation of error compensation learning, no more",
            f"{_FRONT},clip-activations{{granularity=layer}},lower,dual-threshold,init-membrane,quantise-weights",
        ),
    )
}

PRESETS: Plugged[Preset] = Plugged("snnc.presets", _PRESETS, _adopted_preset)
"""Every preset, by name, those of other distributions included; the first is the default."""
