"""Images that grow while a network learns: small ones cost less, and show most of what there is to learn.

Sources: Howard, "Training Imagenet in 3 hours for $25; and CIFAR10 for $0.26", fast.ai 2018 (progressive
resizing); Tan and Le, "EfficientNetV2: Smaller Models and Faster Training", ICML 2021, section 4.
"""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

STRIDE = 4
"""Sides are multiples of it, so that maps are halved twice without a rest."""

COUNTED = 100
"""Steps over which the cost is averaged."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How large images are.

    Attributes:
        first: side at the first step, relative to that of the images; 1 for whole images throughout.
        grown: share of the steps after which images are whole.
    """

    first: float = 1.0
    grown: float = 0.6

    def side(self, size: int, step: int, steps: int) -> int:
        """Return the side of an image of ``size`` at a step of ``steps``: it grows evenly."""
        done = min(1.0, step / max(1.0, self.grown * steps))
        share = self.first + (1 - self.first) * done
        return size if share >= 1 else min(size, max(STRIDE, STRIDE * round(share * size / STRIDE)))

    def seen(self, x: Tensor, step: int, steps: int) -> Tensor:
        """Return images, (batch, channels, height, width), as they are seen at a step of ``steps``."""
        if self.first == 1:
            return x
        height, width = (self.side(size, step, steps) for size in x.shape[2:])
        if (height, width) == tuple(x.shape[2:]):
            return x
        return functional.interpolate(x, (height, width), mode="bilinear", antialias=True)

    def cost(self, size: int) -> float:
        """Return what steps cost on average, relative to those of whole images of that side."""
        if self.first == 1:
            return 1.0
        sides = [self.side(size, step, COUNTED) for step in range(COUNTED)]
        return sum(side**2 for side in sides) / (COUNTED * size**2)
