"""Options that all verbs have that learn by gradients, and the recipe that they describe."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from snnc.cli.given import refuse
from snnc.cli.options import option_of
from snnc.cli.quantities import FiniteRange, positive

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """The options, as :func:`learning_options` adds them to a verb."""

    minutes: float | None
    epochs: float | None
    loss: str | None
    augment: str
    batch: int
    rate: float | None
    temperature: float
    rounded: float | None
    held_back: float
    checkpoints: Path | None
    metrics: Path | None
    precision: str
    density: float | None
    regrow: str | None
    device: str
    seed: int
    threads: int | None
    force: bool

    @property
    def prunes_channels(self) -> bool:
        """Whether channels go, so that others may grow again."""
        return False

    def recipe(self) -> dict[str, Any]:
        """Return the arguments of a recipe, all but its losses.

        Raises:
            UsageError: an option would have no effect.
        """
        from snnc.training.recipe import read_names

        if self.density is None and not self.prunes_channels:
            refuse("is for sparse networks: give --density", "--regrow")
        return {
            "minutes": self.minutes,
            "epochs": self.epochs,
            "batch": self.batch,
            "rate": self.rate,
            "temperature": self.temperature,
            "augment": read_names(self.augment),
            "rounded": self.rounded,
            "held_back": self.held_back,
            "seed": self.seed,
            "device": self.device,
            "precision": self.precision,
            "density": self.density,
            "regrow": self.regrow,
        }

    def losses(self) -> Mapping[str, float] | None:
        """Return the losses with their weights; ``None`` where none are named.

        Raises:
            UsageError: a weight is no number, or a name is given twice.
        """
        from snnc.training.recipe import read_losses

        return None if self.loss is None else read_losses(self.loss)

    def forget(self, folder: Path) -> None:
        """Remove the folder of a finished run, unless the user named it."""
        if self.checkpoints is None:
            shutil.rmtree(folder, ignore_errors=True)


def learning_options(
    *,
    rows: str,
    folder: str,
    epochs: str,
    loss: str,
    augment: str,
    changes: str,
    batch: int,
    rate: float | None,
    rounded: float | None = None,
    slower: str = "",
) -> Callable[[Command], Command]:
    """Return the decorator that adds the options.

    Args:
        rows: what is learned from, for the help.
        folder: of an unfinished run, for the help.
        epochs: help of ``--epochs``.
        loss: help of ``--loss``.
        augment: default of ``--augment``.
        changes: its help.
        batch: default.
        rate: default; ``None`` for one that another option decides.
        rounded: default; ``None`` for that of `tune`.
        slower: where the rate is lower, for the help of ``--rate``.
    """
    share = FiniteRange(0, 1, min_open=True, max_open=True)
    options = [
        positive("--minutes", None, "How long to train, by the clock.", "N"),
        positive("--epochs", None, epochs, "N"),
        click.option("--loss", metavar="NAME=WEIGHT,...", help=f"What is lowered: {loss}"),
        click.option("--augment", default=augment, show_default=True, metavar="NAME,...", help=changes),
        click.option(
            "--batch",
            type=click.IntRange(2),
            default=batch,
            show_default=True,
            metavar="N",
            help=f"How many {rows} make a gradient.",
        ),
        positive("--rate", rate, f"Largest learning rate{slower}."),
        positive("--temperature", 3.0, "Temperature of the losses kl and hta-kl."),
        click.option(
            "--rounded",
            type=FiniteRange(0, 1),
            default=rounded,
            metavar="SHARE",
            help="Share of the time in which the integers that are written are trained; "
            + ("a tenth, and a third with --finish or few bits," if rounded is None else f"{rounded:.2g}")
            + " by default.",
        ),
        click.option(
            "--held-back",
            type=share,
            default=0.1,
            show_default=True,
            metavar="SHARE",
            help=f"Share of the {rows} that are not learned from, but decide; 2,000 at most.",
        ),
        click.option(
            "--checkpoints",
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            help="Where the run is kept every minute, so that the same command continues after an "
            f"interruption; {folder} by default, removed when OUT is written.",
        ),
        click.option(
            "--metrics",
            type=click.Path(path_type=Path),
            metavar="FILE.jsonl",
            help="Write every measurement on the rows held back, one JSON object a line.",
        ),
        click.option(
            "--density",
            type=share,
            metavar="SHARE",
            help="Share of the weights of every layer that stay; by default all.",
        ),
        click.option(
            "--regrow",
            type=click.Choice(["gradient", "random", "none"]),
            help="Of a sparse network: what grows again in the place of what drops; by default those weights "
            "that have the largest gradient, and no channels.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["auto", "float32", "bfloat16"]),
            default="auto",
            show_default=True,
            help="Of the first stage's multiplications; auto measures whether bfloat16 is faster.",
        ),
        click.option(
            "--device",
            type=click.Choice(["cpu", "cuda"]),
            default="cpu",
            show_default=True,
            help="Where torch computes.",
        ),
        option_of("seed"),
        option_of("threads"),
        option_of("force", "Replace OUT and the file of --metrics if they exist."),
    ]

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add
