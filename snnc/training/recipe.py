"""How a network is tuned, as a value: what is learned, from what, for how long."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from snnc.errors import UsageError
from snnc.numerics.weight_grid import WEIGHT_BITS
from snnc.training.sparsity_schedule import LEAST_STEPS

LOSSES: Mapping[str, str] = {
    "kl": "divergence of the answers from the source's, at a temperature",
    "hta-kl": "the same, of likely classes from the source's and of unlikely ones from the network's own",
    "squared": "squared error of numbers, relative to their variance",
    "labels": "cross-entropy with the labels, or squared error",
    "anytime": "cross-entropy of the mean answer after every step",
    "features": "squared difference of activations",
    "attention": "difference of where activations are",
    "activity": "expected synaptic operations, relative to the source's MACs",
}
"""Every loss by its name, and what it is; :mod:`snnc.training.losses` computes them."""

LEARNABLE = ("weights", "biases", "thresholds", "floors", "starts", "norms")
"""What can be learned; batch normalisations are ``norms``, initial potentials ``starts``."""

ROUNDED, FINISHED = 0.1, 1 / 3
"""Share of the second stage: where it changes little of what the first has reached, and where it finishes."""

INTEGERS_RATE = 1e-4
"""Largest rate of the second stage where a first one came before: the network is good already, and a step of
Adam moves all of its weights at once."""

FINISHES: Mapping[str, str] = {
    "rate": "one way back through the mean spikes of all steps",
    "bptt": "back through every step, with a surrogate of the spike",
    "cycles": "the same, and by turns local plasticity: a reconstruction of EICIL",
}
"""Finishing stages, for spikes whose order matters; :mod:`snnc.training.temporal` has the equations."""

PRECISIONS = ("auto", "float32", "bfloat16")

REGROWTHS = ("gradient", "random", "none")

CHANNEL_SCORES = ("gradient", "potential")

AUGMENTATIONS = ("crop", "flip", "alternate", "cutout", "mix")

DISTILLED = frozenset({"kl", "hta-kl", "squared", "features", "attention"})
"""Losses that compare with a teacher."""

LABELLED = 0.1
"""Share of the labels beside the source's answers, where nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to tune.

    Attributes:
        minutes: how long to train, by the clock, all numbers of steps together; ``None`` with ``epochs``.
        epochs: passes over the training rows instead, for each number of steps.
        batch: rows per gradient.
        rate: largest learning rate, in the first stage over the root of the levels; in the second of its own
            where none came before, or where it finishes.
        losses: weight of each loss; empty for the divergence (or squared error) and a tenth of the labels.
        temperature: of ``kl`` and ``hta-kl``.
        head: cumulative probability of the classes that ``hta-kl`` takes for likely.
        learn: what is learned.
        augment: of images: ``crop`` (random shifts), ``flip`` (left and right), ``alternate`` (the same, each
            image in turn), ``cutout``.
        fine_skip: whether identity branches get graded populations of more levels, where a preset has none.
        rounded: share of the time for the second stage, which trains the integers that are deployed; ``None``
            for a tenth, and for a third where it finishes, or weights have fewer than 8 bits.
        finish: how the second stage goes back through the steps of neurons that may send fewer spikes a step
            than they have levels; ``None`` for networks of one pass.
        held_back: share of the training rows that decide, at most ``MOST_HELD``.
        seed: of order, augmentation and held-back rows.
        device: of torch: ``cpu``, ``cuda``.
        precision: of the multiplications of the first stage; ``auto`` is bfloat16 where a second one follows
            and it is faster, which is measured.
        density: share of the weights of a layer that stay; ``None`` for all. :mod:`snnc.training.masks` says
            how they are chosen.
        regrow: which weights or channels grow again in the place of the smallest: those of the largest
            ``gradient``, ``random`` ones, or ``none``; ``None`` for ``gradient`` of weights, and no channels.
        reverse: whether, in turns, the sparse network teaches a denser one, which it is pruned from again.
        channels: share of the channels of every layer that are taken out, rounded down; ``None`` for none.
            :mod:`snnc.training.channels` says how they are chosen.
        channel_score: which channels go: those of the smallest ``gradient`` or the lowest ``potential``.
    """

    minutes: float | None = None
    epochs: float | None = None
    batch: int = 128
    rate: float = 1e-3
    losses: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 3.0
    head: float = 0.9
    learn: tuple[str, ...] = LEARNABLE
    augment: tuple[str, ...] = ()
    fine_skip: bool = False
    rounded: float | None = None
    finish: str | None = None
    held_back: float = 0.1
    seed: int = 0
    device: str = "cpu"
    precision: str = "auto"
    density: float | None = None
    regrow: str | None = None
    reverse: bool = False
    channels: float | None = None
    channel_score: str = "gradient"

    def __post_init__(self) -> None:
        """Refuse values that train nothing.

        Raises:
            UsageError: naming the option.
        """
        if (self.minutes is None) == (self.epochs is None):
            raise UsageError("say how long to tune: minutes, or epochs")
        for name in ("minutes", "epochs", "rate", "temperature"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise UsageError(f"{name} must be a number above 0, not {value!r}")
        for name in ("head", "held_back"):
            if not (_is_number(getattr(self, name)) and 0 < getattr(self, name) < 1):
                raise UsageError(f"{name} must lie between 0 and 1, not {getattr(self, name)!r}")
        if not isinstance(self.fine_skip, bool):
            raise UsageError(f"fine_skip must be true or false, not {self.fine_skip!r}")
        if not (_is_number(self.second_share) and 0 <= self.second_share <= 1):
            raise UsageError(f"rounded must lie in 0 to 1, not {self.rounded!r}")
        for name, least in (("batch", 2), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(f"{name} must be a whole number of at least {least}, not {value!r}")
        for name, known in (("learn", LEARNABLE), ("augment", AUGMENTATIONS)):
            unknown = [each for each in getattr(self, name) if each not in known]
            if unknown:
                raise UsageError(f"{name} {unknown[0]!r} is unknown; known: {', '.join(known)}")
        for name, known_ in (
            ("precision", PRECISIONS),
            ("regrow", (None, *REGROWTHS)),
            ("channel_score", CHANNEL_SCORES),
            ("finish", (None, *FINISHES)),
        ):
            if getattr(self, name) not in known_:
                names = ", ".join(filter(None, known_))
                raise UsageError(f"{name} {getattr(self, name)!r} is unknown; known: {names}")
        self._check_density()
        self._check_channels()
        if {"flip", "alternate"} <= set(self.augment):
            raise UsageError("augment flip and alternate do the same: leave one of them out")
        if not self.learn:
            raise UsageError(f"nothing is to be learned; give some of {', '.join(LEARNABLE)}")
        for name, weight in self.losses.items():
            if name not in LOSSES:
                raise UsageError(f"the loss {name!r} is unknown; known: {', '.join(LOSSES)}")
            if not (_is_number(weight) and 0 < weight < math.inf):
                raise UsageError(f"the weight of the loss {name!r} must be a number above 0, not {weight!r}")

    def _check_density(self) -> None:
        if not isinstance(self.reverse, bool):
            raise UsageError(f"reverse must be true or false, not {self.reverse!r}")
        if self.density is None:
            if self.reverse:
                raise UsageError("reverse lets a sparse network teach: give a density, too")
            return
        if not (_is_number(self.density) and 0 < self.density < 1):
            raise UsageError(
                f"density must lie between 0 and 1, not {self.density!r}: leave it out for all weights"
            )
        if self.second_share == 1 or "weights" not in self.learn:
            raise UsageError(
                "density takes weights out while the first stage learns them: leave rounded below 1, and "
                "weights among what is learned"
            )
        if self.reverse and self.regrow == "none":
            raise UsageError("reverse lets weights grow again in turns: give regrow gradient or random")

    def check_mix(self, losses: Collection[str]) -> None:
        """Refuse to mix images that are learned with labels.

        Raises:
            UsageError: saying what to leave out.
        """
        if "mix" in self.augment and "labels" in losses:
            raise UsageError(
                "augment mix puts images together that have no label of their own: leave it out, or lower "
                "losses without labels, such as kl alone"
            )

    def check_turns(self, steps: int, losses: Collection[str]) -> None:
        """Refuse reverse distillation where a stage has no room for turns, or nothing is distilled.

        Raises:
            UsageError: naming what is missing.
        """
        if not self.reverse:
            return
        if not DISTILLED & set(losses):
            raise UsageError(
                f"reverse distils answers: give one of the losses {', '.join(sorted(DISTILLED))}"
            )
        if steps < LEAST_STEPS:
            raise UsageError(
                f"reverse needs {LEAST_STEPS} steps of the first stage for its turns, and there are {steps}: "
                "train for longer"
            )

    def _check_channels(self) -> None:
        if self.channels is None:
            return
        if not (_is_number(self.channels) and 0 < self.channels < 1):
            raise UsageError(
                f"channels must lie between 0 and 1, not {self.channels!r}: all of them are no layer, "
                "and without it all stay"
            )
        if self.density is not None:
            raise UsageError("channels and density both make the network sparse: leave one of them out")
        if self.second_share == 1 or "weights" not in self.learn:
            raise UsageError(
                "channels are taken out while the first stage learns weights: leave rounded below 1, and "
                "weights among what is learned"
            )

    @property
    def regrowth(self) -> str:
        """What grows again in the place of what is taken out."""
        if self.regrow is not None:
            return self.regrow
        return "gradient" if self.channels is None else "none"

    @property
    def second_share(self) -> float:
        """Share of the time for the second stage."""
        if self.rounded is not None:
            return self.rounded
        return ROUNDED if self.finish is None else FINISHED

    def of_levels(self, levels: int) -> Recipe:
        """Return the recipe of the first stage: the nearer a network is to its source, the slower.

        Args:
            levels: T M. With few of them it is far, and without most of its weights or channels with any.
        """
        whole = self.density is None and self.channels is None
        return replace(self, rate=self.rate / math.sqrt(levels)) if whole else self

    def for_bits(self, bits: int) -> Recipe:
        """Return the recipe for weights of so many bits: few take longer, unless it says how long."""
        return replace(self, rounded=FINISHED) if self.rounded is None and bits < WEIGHT_BITS else self

    def of_integers(self, bits: int = WEIGHT_BITS) -> Recipe:
        """Return the recipe of the second stage: slow, but where most is still to be learned.

        Args:
            bits: of weights; with few of them its steps must move weights by more.
        """
        alone = self.second_share == 1 or self.finish is not None or bits < WEIGHT_BITS
        return self if alone else replace(self, rate=min(self.rate, INTEGERS_RATE))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        found = {item.name: asdict(self)[item.name] for item in fields(self)}
        return {**found, "rounded": self.second_share, "regrow": self.regrowth}


def read_losses(text: str) -> dict[str, float]:
    """Read ``kl=0.9,labels=0.1``; a name alone has the weight 1.

    Raises:
        UsageError: it is not of that form, or a loss is named twice.
    """
    found: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, weight = part.partition("=")
        if name in found:
            raise UsageError(f"the loss {name!r} is given twice: leave one of them out")
        try:
            found[name] = float(weight) if equals else 1.0
        except ValueError:
            raise UsageError(f"--loss {part}: write NAME=WEIGHT, as in kl=0.9,labels=0.1") from None
    return found


def read_names(text: str) -> tuple[str, ...]:
    """Read ``crop,flip``; ``none`` for nothing."""
    names = tuple(filter(None, map(str.strip, text.split(","))))
    return () if names == ("none",) else names


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
