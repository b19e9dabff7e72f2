"""Convert a vision transformer by SpikingJelly's STA recipe and judge it; runs in SpikingJelly's environment.

    PYTHON spikingjelly_transformer.py JOB.npz --timesteps 4,8

The settings are those of the library's own example: encoders behind normalisations, GELU and attention,
thresholds of the smallest squared error, halved; the first step gets the row, the others nothing, and the
answers of all steps are added. The recipe knows no rectifier and no pool. So the job holds what the first
block reads, in floats, as the recipe leaves convolutions anyway.

Prints a line for each T, then answers every line that it reads, a T, with the seconds that one batch takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from spikingjelly.activation_based import ann2snn, functional
from torch import Tensor, nn

BATCH = 50
CALIBRATION_BATCH = 100
THRESHOLD_SCALE = 0.5
TOLERANCE = 1e-3
"""How much of the range of its outputs the loaded network may differ from its source, at most."""


class Block(nn.Module):
    """Attention and two maps with GELU between them, each a branch behind its own normalisation."""

    def __init__(self, maps: list[tuple[Tensor, Tensor]], heads: int, epsilon: float) -> None:
        """Take the weights and biases of queries, keys, values, their projection, and both maps."""
        super().__init__()
        width = len(maps[0][0])
        self.first, self.second = (nn.LayerNorm(width, epsilon, elementwise_affine=False) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.attention.in_proj_weight.copy_(torch.cat([weight for weight, _ in maps[:3]]))
        self.attention.in_proj_bias.copy_(torch.cat([bias for _, bias in maps[:3]]))
        self.attention.out_proj = linear(*maps[3])
        self.wide, self.narrow = linear(*maps[4]), linear(*maps[5])
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, places, width) for as much."""
        normed = self.first(x)
        found, _ = self.attention(normed, normed, normed, need_weights=False)
        x = x + found
        return x + self.narrow(self.gelu(self.wide(self.second(x))))


class Body(nn.Module):
    """All blocks, the mean over places, and the classifier."""

    def __init__(self, blocks: list[Block], classifier: nn.Linear, epsilon: float) -> None:
        """Take what it is made of."""
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.LayerNorm(classifier.in_features, epsilon, elementwise_affine=False)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, classes) for (batch, places, width)."""
        return self.classifier(self.last(self.blocks(x)).mean(1))


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return a layer of given weights, (outputs, inputs)."""
    made = nn.Linear(weight.shape[1], len(weight))
    made.weight.copy_(weight)
    made.bias.copy_(bias)
    return made


def network(arrays: dict[str, Tensor], heads: int, epsilon: float) -> Body:
    """Return the transformer behind its stem."""
    count = sum(name.endswith(".5.weight") for name in arrays)
    blocks = [
        Block([(arrays[f"{b}.{m}.weight"], arrays[f"{b}.{m}.bias"]) for m in range(6)], heads, epsilon)
        for b in range(count)
    ]
    return Body(blocks, linear(arrays["classifier.weight"], arrays["classifier.bias"]), epsilon).eval()


def converted(body: Body, read: Tensor, timesteps: int) -> nn.Module:
    """Return the spiking network of T steps."""
    recipe = ann2snn.STATransformerRecipe(
        read.split(CALIBRATION_BATCH),
        time_steps=timesteps,
        mode="spiking_encoder",
        threshold_mode="mse",
        threshold_scale=THRESHOLD_SCALE,
    )
    made: nn.Module = ann2snn.Converter(recipe=recipe, device="cpu").convert(body).eval()
    functional.set_step_mode(made, "m")
    return made


def answering(snn: nn.Module, timesteps: int) -> Callable[[Tensor], Tensor]:
    """Return what answers a batch."""

    def answer(x: Tensor) -> Tensor:
        functional.reset_net(snn)
        steps = x.new_zeros(timesteps, *x.shape)
        steps[0] = x
        answers: Tensor = snn(steps).sum(0)
        return answers

    return answer


def largest(snn: nn.Module, answer: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Return the most thresholds that a neuron sent at once, for a batch."""
    seen = [0]

    def watch(encoder: nn.Module, _read: object, sent: Tensor) -> None:
        seen.append(int((sent / encoder.v_threshold).abs().max().round()))

    encoders = [each for each in snn.modules() if hasattr(each, "v_threshold")]
    hooks = [each.register_forward_hook(watch) for each in encoders]
    answer(x)
    for hook in hooks:
        hook.remove()
    return max(seen)


def main() -> None:
    """Judge, and then answer every line with a time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path, help="written by benchmarks/peers/transformer.py")
    parser.add_argument("--timesteps", default="4,8", help="separated by commas")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.set_grad_enabled(False)
    with np.load(chosen.job, allow_pickle=False) as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
    body = network(arrays, int(arrays["heads"]), float(arrays["epsilon"]))
    expected = arrays["expected"]
    answers = body(arrays["calibration"][: len(expected)])
    if (error := float((answers - expected).abs().max() / expected.abs().max())) > TOLERANCE:
        raise SystemExit(f"the network as it was loaded differs from its source by {error:.1e} of its range")
    batches, labels = arrays["x"].split(BATCH), arrays["y"].split(BATCH)
    runs: dict[int, Callable[[], Tensor]] = {}
    for timesteps in map(int, chosen.timesteps.split(",")):
        begun = time.perf_counter()
        snn = converted(body, arrays["calibration"], timesteps)
        seconds = time.perf_counter() - begun
        answer = answering(snn, timesteps)
        pairs = zip(batches, labels, strict=True)
        hits = sum(int((answer(x).argmax(1) == y).sum()) for x, y in pairs)
        line = {
            "tool": f"SpikingJelly {version('spikingjelly')}, STA",
            "timesteps": timesteps,
            "hits": hits,
            "n": len(arrays["y"]),
            "payload": f"levels:{largest(snn, answer, batches[0])}",
            "convert_seconds": round(seconds, 1),
        }
        print(json.dumps(line), flush=True)
        runs[timesteps] = partial(answer, batches[0])
    # As snnc.analysis.speed.clock: one thread by the time in which it had a core, several by the wall.
    now = time.thread_time if chosen.threads == 1 else time.perf_counter
    for asked in sys.stdin:
        start = now()
        runs[int(asked)]()
        print(now() - start, flush=True)


if __name__ == "__main__":
    main()
