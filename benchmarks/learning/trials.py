"""What is learned in the ablations, as data: one trial a line of their tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snnc.training.recipe import FINISHES, LOSSES

TIMESTEPS = (2, 4)


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of `snnc tune`.

    Attributes:
        name: unique.
        label: in the table.
        timesteps: T.
        preset: of the conversion.
        settings: of its passes.
        losses: weights by name; empty for those of `tune`.
        finish: the finishing stage; ``None`` without.
        rounded: share of the second stage.
        learns: whether anything is learned; the closed form alone otherwise.
    """

    name: str
    label: str
    timesteps: int
    preset: str = "balanced"
    settings: Mapping[str, str] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    finish: str | None = None
    rounded: float | None = None
    learns: bool = True


def losses() -> list[Trial]:
    """One loss beside the divergence at a time, at T = 2 with two signed spikes a step."""
    base = {"kl": 0.9, "labels": 0.1}
    weights = {"anytime": 0.3, "features": 0.05, "attention": 0.05, "activity": 1.0}
    mixed: dict[str, dict[str, float]] = {
        "labels": {"labels": 1.0},
        "kl": {"kl": 1.0},
        "kl, labels": base,
        "hta-kl, labels": {"hta-kl": 0.9, "labels": 0.1},
        **{f"kl, labels, {name}": {**base, name: weight} for name, weight in weights.items()},
    }
    used = {name for each in mixed.values() for name in each}
    if missing := set(LOSSES) - used - {"squared"}:  # of numbers, which these answers are not
        raise ValueError(f"no trial of the losses {sorted(missing)}")
    return [Trial(f"loss {name}", name, 2, losses=weights_) for name, weights_ in mixed.items()]


def stages() -> list[Trial]:
    """Finishing stages for one spike a step, binary and signed; and the closed form beside them."""
    found = []
    for T in TIMESTEPS:
        for payload, preset, settings in (
            ("binary", "binary-only", {}),
            ("signed", "balanced", {"dual-threshold.spikes-per-step": "1"}),
        ):
            name = f"{payload} T={T}"
            common: dict[str, Any] = {"timesteps": T, "preset": preset, "settings": settings}
            found.append(Trial(f"{name} closed form", "closed form", learns=False, **common))
            # A finishing stage without time leaves the network that was trained as its quantised form.
            found.append(Trial(f"{name} levels", "levels alone", finish="rate", rounded=0.0, **common))
            found += [Trial(f"{name} {method}", method, finish=method, **common) for method in FINISHES]
    return found


TABLES = {"losses": losses, "stages": stages}
"""The tables by name."""
