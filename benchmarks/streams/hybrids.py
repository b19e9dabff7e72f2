"""Two networks on accumulated frames of N-MNIST that are no plain chain of convolutions.

``hybrid``: an ordinary stem, one convolution with local response normalisation, in front of a body that
spikes. The normalisation has no spiking form, so the compiler keeps the stem as ordinary ONNX. ``former``: a
small transformer of 25 patches, 32 numbers each, whose attention, norms and rectifiers spike.

Sources: the division into an ordinary spatial part and a spiking one follows the hybrid spiking vision
transformer (HsVT), 2025, whose spiking part, other than here, runs over time; Dosovitskiy et al., "An Image
is Worth 16x16 Words", ICLR 2021.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.streams.accumulated import exported, fitted
from benchmarks.streams.recordings import SEED, recordings

NORMALISED: dict[str, Any] = {"size": 5, "alpha": 0.1, "beta": 0.75, "bias": 1.0}
"""Local response normalisation, as ONNX names it."""

SETTINGS = (("one-step", 1), ("balanced", 8))
"""Presets and numbers of steps."""

CHANNELS, PATCHES, WIDTH, HEADS = 16, 25, 32, 2


def train(folder: Path, output: Path, epochs: int, kind: str) -> None:
    """Train ``hybrid`` or ``former``, and write an ONNX file."""
    import torch

    torch.manual_seed(SEED)
    if kind == "former":
        exported(fitted(_former(), folder, epochs), output)
        return
    net = fitted(_hybrid(), folder, epochs)
    net.stem[2] = torch.nn.Identity()  # PyTorch writes it in pieces
    exported(net, output)
    _normalise(output)


def _hybrid() -> Any:
    from collections import OrderedDict

    from torch import nn

    named = NORMALISED
    stem = nn.Sequential(
        nn.Conv2d(2, CHANNELS, 5, 2, 2),
        nn.ReLU(),
        nn.LocalResponseNorm(named["size"], named["alpha"], named["beta"], named["bias"]),
    )
    body = nn.Sequential(
        *(nn.Conv2d(CHANNELS, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 81, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    return nn.Sequential(OrderedDict(stem=stem, body=body))


def _normalise(path: Path) -> None:
    """Put the normalisation behind the first rectifier of a file."""
    import onnx

    model = onnx.load(path)
    nodes = list(model.graph.node)
    at = next(number for number, node in enumerate(nodes) if node.op_type == "Relu")
    (name,) = nodes[at].output
    nodes[at].output[0] = "rectified"
    made = onnx.helper.make_node("LRN", ["rectified"], [name], "normalisation", **NORMALISED)
    model.graph.node.insert(at + 1, made)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _former() -> Any:
    import torch
    from torch import nn

    class Block(nn.Module):
        """Attention and two layers, each behind a norm and beside an identity branch."""

        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value, self.mix = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
            self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
            self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

        def forward(self, x: Any) -> Any:
            """Return (batch, PATCHES, WIDTH)."""
            given = self.first(x)
            size = WIDTH // HEADS
            query, key, value = (
                each(given).reshape(-1, PATCHES, HEADS, size).transpose(1, 2)
                for each in (self.query, self.key, self.value)
            )
            share = torch.softmax(query @ key.transpose(2, 3) / size**0.5, dim=-1)
            x = x + self.mix((share @ value).transpose(1, 2).reshape(-1, PATCHES, WIDTH))
            return x + self.down(torch.relu(self.up(self.second(x))))

    class Former(nn.Module):
        """Patches by two convolutions, a place for each, two blocks, their mean, a classifier."""

        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Sequential(
                *(nn.Conv2d(2, CHANNELS, 5, 2, 2, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU()),
                nn.Conv2d(CHANNELS, WIDTH, 5, 3, 1),
            )
            self.places = nn.Parameter(0.02 * torch.randn(PATCHES, WIDTH))
            self.blocks = nn.Sequential(Block(), Block())
            self.classes = nn.Linear(WIDTH, 10)

        def forward(self, x: Any) -> Any:
            """Return scores of ten classes."""
            patches = self.patches(x).flatten(2).transpose(1, 2) + self.places
            return self.classes(self.blocks(patches).mean(dim=1))

    return Former()


def table(folder: Path, files: list[Path]) -> None:
    """Convert trained networks, and print their accuracy beside that of the source."""
    import snnc

    calibration, _ = recordings(folder, "train")
    frames, labels = recordings(folder, "test_dev")
    sums, rows = calibration.sum(axis=1), frames.sum(axis=1)
    print("| network | preset, T | in spikes | source, float32 | converted, int8 |\n|---|---|---|---|---|")
    for file in files:
        for preset, timesteps in SETTINGS:
            made = snnc.convert(str(file), sums, timesteps=timesteps, preset=preset, task="classes")
            found = made.evaluate(rows, labels)
            source = None if found.ann is None else found.ann.scores.top1
            host = made.host
            share = "all" if host is None else host.share_text
            print(f"| {file.stem} | `{preset}`, {timesteps} | {share} | {source} | {found.scores.top1} |")
