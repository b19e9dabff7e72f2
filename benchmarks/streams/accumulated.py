"""A convolutional network that is trained on accumulated frames, converted, and run frame by frame."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.streams.recordings import FRAMES, SEED, SIDE, recordings

SHORTEST = 4
"""Frames of the shortest beginning of a recording that is trained on."""

WHOLE = 0.6
"""Share of the recordings that are trained on as a whole."""


def train(folder: Path, output: Path, epochs: int) -> None:
    """Train the network without anything else, and write an ONNX file."""
    import torch
    from torch import nn

    torch.manual_seed(SEED)
    net = nn.Sequential(
        *(nn.Conv2d(2, 16, 5, 2, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 81, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    exported(fitted(net, folder, epochs), output)


def fitted(net: Any, folder: Path, epochs: int) -> Any:
    """Train on beginnings of recordings, turned, scaled and shifted a little; return the moving average."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    frames, labels = recordings(folder, "train")
    sums = torch.from_numpy(frames.cumsum(axis=1))
    y = torch.from_numpy(labels)
    mean = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.98), use_buffers=True
    )
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.02)
    batch, n = 50, len(y)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=epochs * (n // batch))
    for epoch in range(epochs):
        net.train()
        total = 0.0
        for rows in torch.randperm(n).split(batch):
            steps = torch.randint(SHORTEST, FRAMES + 1, (len(rows),))
            steps[torch.rand(len(rows)) < WHOLE] = FRAMES
            x = sums[rows, steps - 1] * (FRAMES / steps).reshape(-1, 1, 1, 1)
            x = functional.grid_sample(x, _moved(len(rows), x.shape), align_corners=False)
            loss = functional.cross_entropy(net(x), y[rows], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            mean.update_parameters(net)
            total += loss.item()
        print(f"epoch {epoch + 1} of {epochs}: loss {total / (n // batch):.3f}", file=sys.stderr, flush=True)
    return mean.module.eval()


def exported(net: Any, output: Path) -> None:
    """Write a trained network as an ONNX file."""
    import torch

    example = torch.zeros(1, 2, SIDE, SIDE)
    axes = {"x": {0: "batch"}, "y": {0: "batch"}}
    torch.onnx.export(
        net, (example,), output, input_names=["x"], output_names=["y"], dynamic_axes=axes, dynamo=False
    )


def _moved(count: int, shape: Any) -> Any:
    """Return sampling grids that turn, scale and shift images at random."""
    import torch
    from torch.nn import functional

    angle = (torch.rand(count) - 0.5) * 0.5
    size = 1 + (torch.rand(count) - 0.5) * 0.3
    shift = (torch.rand(count, 2) - 0.5) * 0.3
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    rows = [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)]
    return functional.affine_grid(torch.stack(rows, 1), shape, align_corners=False)


def table(folder: Path, network: Path, preset: str) -> None:
    """Convert the network, and print its accuracy on whole recordings and after each step."""
    import snnc
    from snnc.analysis.answers import all_outputs_of
    from snnc.analysis.evaluation import Share
    from snnc.backends import load_simulator

    calibration, _ = recordings(folder, "train")
    frames, labels = recordings(folder, "test_dev")
    made = snnc.convert(
        str(network), calibration.sum(axis=1), timesteps=FRAMES, preset=preset, task="classes", frames=True
    )
    found = made.evaluate(frames, labels)
    source = None if found.ann is None else found.ann.scores.top1
    print("| network | accuracy on test_dev |\n|---|---|")
    print(f"| source, accumulated frames, float32 | {source} |")
    print(f"| converted, `{preset}`, int8, T = {FRAMES} frames | {found.scores.top1} |")
    outputs = all_outputs_of(
        made.graph,
        made.encode,
        frames,
        simulator=load_simulator("numba"),
        timesteps=FRAMES,
        per_step=True,
    )
    (values,) = outputs.values()
    for step in range(FRAMES):
        right = int((values[step].reshape(len(labels), -1).argmax(axis=1) == labels).sum())
        print(f"| the same after {step + 1} of {FRAMES} frames | {Share(right, len(labels))} |")
