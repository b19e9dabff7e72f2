"""The passes: one file each, none of which knows another; only the tables below know them all."""

from __future__ import annotations

if __name__ != "snnc.passes":
    raise ImportError("this folder is the package snnc.passes; import it by that name")

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from snnc.pipeline import AnyPass


def _loader(module: str, kind: str) -> Callable[[], type[AnyPass]]:
    def load() -> type[AnyPass]:
        found: type[AnyPass] = getattr(import_module(f"snnc.passes.{module}"), kind)
        return found

    return load


PASSES: dict[str, Callable[[], type[AnyPass]]] = {
    "fold-batchnorm": _loader("fold_batchnorm", "FoldBatchnorm"),
    "exact-max-pool": _loader("exact_max_pool", "ExactMaxPool"),
    "rectify-linear": _loader("rectify_linear", "RectifyLinear"),
    "clip-activations": _loader("clip_activations", "ClipActivations"),
    "lower": _loader("lower", "Lower"),
    "dual-threshold": _loader("dual_threshold", "DualThreshold"),
    "init-membrane": _loader("init_membrane", "InitMembrane"),
    "quantise-weights": _loader("quantise_weights", "QuantiseWeights"),
}
"""Pass name -> loader of its class."""


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


_FRONT = "fold-batchnorm,exact-max-pool,rectify-linear,clip-activations,lower"

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "balanced",
            "signed spikes, up to two a step: the best accuracy at few steps without wider payloads",
            f"{_FRONT},dual-threshold{{spikes-per-step=2}},init-membrane,quantise-weights",
        ),
    )
}
"""Every preset, by name; the first is the default."""
