"""Leaky networks that are trained through time, in integers.

LIF neurons have one decay, DA-LIF neurons two that are learned for each of them. A hidden layer reads
pooled frames, ``v = beta v + alpha (W x + b)``, fires at 1 and is reset by subtraction; a leaky read-out
integrates its spikes. Gradients pass the threshold as those of an arctangent. ``alpha`` becomes part of
weights and bias, so that only ``beta`` is a decay of the spiking network.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.streams.recordings import FRAMES, SEED, SIDE, recordings

HIDDEN = 128
POOLED = SIDE // 2
START = 0.9
"""The decay of LIF, and where learned ones begin."""


def train(folder: Path, output: Path, epochs: int, kind: str) -> None:
    """Train ``lif`` or ``da-lif`` by backpropagation through time, and write its arrays."""
    import torch
    from torch.nn import functional

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    frames, labels = recordings(folder, "train")
    n = len(labels)
    pooled = frames.reshape(n, FRAMES, 2, POOLED, 2, POOLED, 2).sum(axis=(4, 6))
    x, y = torch.from_numpy(pooled), torch.from_numpy(labels)
    inputs = 2 * POOLED * POOLED
    w = torch.nn.Parameter(torch.randn(HIDDEN, inputs) / inputs**0.5)
    v = torch.nn.Parameter(torch.randn(10, HIDDEN) / HIDDEN**0.5)
    b, c = (torch.nn.Parameter(torch.zeros(size)) for size in (HIDDEN, 10))
    logit = float(np.log(START / (1 - START)))
    beta, alpha = (torch.full((HIDDEN,), value) for value in (logit, 0.0))
    learned = [w, v, b, c]
    if kind == "da-lif":
        beta, alpha = torch.nn.Parameter(beta), torch.nn.Parameter(alpha)
        learned += [beta, alpha]
    optimiser = torch.optim.AdamW(learned, 2e-3, weight_decay=0.05)
    batch = 50
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=epochs * (n // batch))
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(n).split(batch):
            shift = torch.randint(-2, 3, (2,)).tolist()
            given = torch.roll(x[rows], shift, dims=(3, 4)).flatten(2)
            kept, gain = torch.sigmoid(beta), torch.exp(alpha)
            potential, answer = torch.zeros(len(rows), HIDDEN), torch.zeros(len(rows), 10)
            loss = torch.zeros(())
            for step in range(FRAMES):
                potential = kept * potential + gain * (given[:, step] @ w.T + b)
                spikes = _spikes(potential - 1)
                potential = potential - spikes
                answer = START * answer + spikes @ v.T + c
                if step >= FRAMES // 2:
                    loss = loss + functional.cross_entropy(answer, y[rows], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1} of {epochs}: loss {total / (n // batch):.3f}", file=sys.stderr, flush=True)
    gain = torch.exp(alpha).detach()
    arrays = {
        "w": (w.detach() * gain[:, None]).numpy(),
        "b": (b.detach() * gain).numpy(),
        "v": v.detach().numpy(),
        "c": c.detach().numpy(),
        "decay": torch.sigmoid(beta).detach().numpy(),
    }
    np.savez(output, **arrays)


def _spikes(over: Any) -> Any:
    """Return where potentials are at or over the threshold, with the gradient of ``atan(pi x) / pi``."""
    import torch

    smooth = torch.atan(np.pi * over) / np.pi
    return (over >= 0).float() + smooth - smooth.detach()


def network(arrays: dict[str, NDArray[np.float32]]) -> Any:
    """Return the spiking network of trained arrays, in float32."""
    from snnc.ir import snn
    from snnc.ir.geometry import Window
    from snnc.ir.neuron import Neuron

    ones, none = np.ones(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)
    window = Window((2, 2), (2, 2))
    shape = (2, POOLED, POOLED)
    graph = snn.SnnGraph(
        name="leaky",
        timesteps=FRAMES,
        outputs=("y",),
        nodes=(
            snn.Encode(name="x", shape=(2, SIDE, SIDE), scale=1.0, presented=snn.Presented.SEQUENCE),
            snn.SumPool(name="pooled", inputs=("x",), shape=shape, window=window),
            snn.Reshape(name="flat", inputs=("pooled",), shape=(int(np.prod(shape)),)),
            snn.Linear(name="w", inputs=("flat",), shape=(HIDDEN,), weight=arrays["w"]),
            snn.IntegrateFire(
                name="hidden",
                inputs=("w",),
                shape=(HIDDEN,),
                threshold=ones,
                bias=arrays["b"],
                v_init=none,
                spike_scale=ones,
                neuron=Neuron(count_memory=False),
                decay=arrays["decay"],
            ),
            snn.Linear(name="v", inputs=("hidden",), shape=(10,), weight=arrays["v"]),
            snn.Readout(
                name="y",
                inputs=("v",),
                shape=(10,),
                bias=arrays["c"],
                decay=np.full(10, START, np.float32),
            ),
        ),
    )
    graph.verify()
    return graph


def table(folder: Path, files: list[Path]) -> None:
    """Print the accuracy of trained leaky networks in float32, in integers, and on half of the frames."""
    from snnc.analysis.evaluation import Share
    from snnc.artefact import Artefact
    from snnc.backends import load_simulator
    from snnc.ir.bounds import provable_timesteps
    from snnc.numerics.quantisation import quantise_all

    frames, labels = recordings(folder, "test_dev")
    simulator = load_simulator("numba", 1)
    print("| network | decays | float32 | int8 | int8, half of the frames |\n|---|---|---|---|---|")
    for file in files:
        with np.load(file) as stored:
            arrays = {key: stored[key] for key in stored.files}
        real = network(arrays)
        whole = quantise_all(real)
        whole = replace(whole, max_timesteps=provable_timesteps(whole))
        cells = []
        for graph, steps in ((real, FRAMES), (whole, FRAMES), (whole, FRAMES // 2)):
            q = Artefact(graph).encode(frames[:, :steps])
            right = int((simulator.run(graph, q, steps).logits.argmax(axis=1) == labels).sum())
            cells.append(str(Share(right, len(labels))))
        decay = arrays["decay"]
        print(f"| {file.stem} | {decay.min():.3f} to {decay.max():.3f} | {' | '.join(cells)} |")
