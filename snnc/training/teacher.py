"""A float network that teaches one in training, on pixels as they are stored."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from snnc.arguments import Model, read_source
from snnc.data.preprocessing import Preprocessing, prepared_rows
from snnc.errors import UsageError
from snnc.ir import ann
from snnc.ir.graph import FloatArray
from snnc.training.ann_network import AnnNetwork
from snnc.training.operators import Run
from snnc.training.pixels import PIXELS, Pixels

TRIED_ROWS = 4
TOLERANCE = 1e-4
"""How far a prepared value may lie from a factor and a shift of its pixel, relative to their range."""


class Teacher:
    """A network that answers for pixels, and does not learn.

    Attributes:
        sha256: of its file.
    """

    def __init__(self, graph: ann.AnnGraph, sha256: str, scale: FloatArray, shift: FloatArray) -> None:
        """Make it.

        Args:
            graph: of one input and one output.
            sha256: of its file.
            scale: (channels,) by which pixels are multiplied.
            shift: (channels,) added to them.
        """
        self.sha256 = sha256
        self._network = AnnNetwork(graph).eval()
        for parameter in self._network.parameters():
            parameter.requires_grad_(False)
        self._input, self._output = graph.inputs[0].name, graph.output_names[0]
        self._affine = [torch.from_numpy(each.reshape(-1, 1, 1)) for each in (scale, shift)]

    def to(self, device: str) -> None:
        """Compute on a device, with channels last."""
        self._network = self._network.to(device).to(memory_format=torch.channels_last)
        self._affine = [each.to(device) for each in self._affine]

    def answering(self, output: str) -> Callable[[Mapping[str, Tensor], Sequence[str]], Run]:
        """Return what a lesson asks, for a network whose output has that name."""

        def asked(inputs: Mapping[str, Tensor], keep: Sequence[str]) -> Run:
            (pixels,) = inputs.values()
            found: Run = self._network({self._input: pixels * self._affine[0] + self._affine[1]})
            return Run({output: found.outputs[self._output].flatten(1)}, {}, {})

        return asked


def read_teacher(model: Model, preprocessing: Preprocessing | None, pixels: Pixels) -> Teacher:
    """Read a teacher.

    Args:
        model: a network that can be converted.
        preprocessing: from pixels to what it takes.
        pixels: the training images.

    Raises:
        UsageError: it does not take these images, or does not give their classes.
        UnsupportedModelError: it cannot be read.
    """
    source, name = read_source(model)
    graph = source.graph
    if source.host is not None or len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise UsageError(f"the teacher {name} must have one input and one output, and nothing on the host")
    classes = int(np.prod(graph[graph.outputs[0]].shape))
    if classes != pixels.classes:
        raise UsageError(f"the teacher {name} gives {classes} scores, and there are {pixels.classes} classes")
    taken = graph.inputs[0]
    shape = pixels.x.shape[1:]
    if taken.shape != shape:
        raise UsageError(f"the teacher {name} takes {taken.shape}, and the images are {shape}")
    form = next(iter(source.takes.values()))
    probes = np.stack([np.zeros(shape, np.uint8), np.full(shape, PIXELS, np.uint8), *pixels.x[:TRIED_ROWS]])
    prepared = prepared_rows(probes, form, preprocessing, "the images")
    low, high = prepared[0].reshape(shape[0], -1)[:, 0], prepared[1].reshape(shape[0], -1)[:, 0]
    scale = ((high - low) / PIXELS).astype(np.float32)
    wanted = probes * scale[:, None, None] + low[:, None, None]
    if np.abs(wanted - prepared).max() > TOLERANCE * max(float((high - low).max()), 1e-6):
        raise UsageError(f"the teacher {name} needs more than a factor and a shift of pixels: give another")
    return Teacher(graph, source.sha256, scale, low.astype(np.float32))
