"""Random changes of images, (batch, channels, height, width).

An answer stays right under all of them but ``mix``, to whose images only a teacher has answers: Beyer et al.,
"Knowledge Distillation: A Good Teacher is Patient and Consistent", CVPR 2022, section 3.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def mirrored(chosen: Tensor, epoch: int) -> Tensor:
    """Say which rows are mirrored in a pass: half of them, and in the next pass the others.

    In two passes a network then sees both forms of each image, which random flips do not promise. Source:
    Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024.

    Args:
        chosen: (n,) numbers of rows.
        epoch: number of the pass.
    """
    scrambled = (chosen.long() * 2654435761 + 12345) % 2**32  # Knuth's multiplicative hash
    return ((scrambled >> 16) + epoch) % 2 == 1


def augmented(
    x: Tensor, names: Sequence[str], generator: torch.Generator, turned: Tensor | None = None
) -> Tensor:
    """Return changed images.

    Args:
        x: images as the network takes them.
        names: which changes: of :data:`snnc.training.recipe.AUGMENTATIONS`.
        generator: where the randomness comes from.
        turned: (n,) which are mirrored, for ``alternate``.
    """
    if "crop" in names:
        x = _shifted(x, generator)
    if "flip" in names:
        turned = torch.rand(len(x), generator=generator) < 0.5
    if turned is not None:
        x = torch.where(turned[:, None, None, None], x.flip(3), x)
    if "cutout" in names:
        x = _holed(x, generator)
    if "mix" in names:
        x = _mixed(x, generator)
    return x


def reach(size: int) -> int:
    """Return the largest shift along an axis: an eighth of it, as 4 pixels of 32, and at least one pixel."""
    return max(1, size // 8)


def _shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image; the border is mirrored, as what stands for black depends on the preprocessing."""
    count, _, height, width = x.shape
    down, right = reach(height), reach(width)
    rows = torch.arange(height) + torch.randint(2 * down + 1, (count, 1), generator=generator)
    columns = torch.arange(width) + torch.randint(2 * right + 1, (count, 1), generator=generator)
    padded = functional.pad(x, (right, right, down, down), mode="reflect")
    found = padded.permute(0, 2, 3, 1)[
        torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return found.permute(0, 3, 1, 2)


def _mixed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return ``s x + (1 - s) x'`` with another image ``x'`` of the batch and any share ``s`` for each."""
    share = torch.rand(len(x), generator=generator).reshape(-1, 1, 1, 1)
    other = torch.randperm(len(x), generator=generator)
    return share * x + (1 - share) * x[other]


def _holed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Fill a square of a quarter of the side, whose centre is anywhere, with the image's mean."""
    count, _, height, width = x.shape
    near = []
    for size in (height, width):
        centre = torch.randint(size, (count, 1), generator=generator)
        near.append((torch.arange(size) - centre).abs() * 8 < size)
    hole = (near[0][:, :, None] & near[1][:, None, :])[:, None]
    return torch.where(hole, x.mean(dim=(2, 3), keepdim=True), x)
