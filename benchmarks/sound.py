"""Spoken digits as spikes: accuracy and quality by spikes a second, beside log-mel spectra and send-on-delta.

python -m benchmarks.sound --data FOLDER [--rows N] [--learned]

FOLDER holds ``fsdd_train.npz`` and ``fsdd_test_dev.npz`` of the free spoken digit dataset (``audio`` int16,
``offsets``, ``y``, 8,000 samples a second). For every code one network with 128 hidden neurons is trained on
the same training rows, converted by ``snnc.convert`` in int8, and judged on the rows of test_dev, with 95 %
intervals (Wilson). Spikes a second are those of the test rows; in log-mel spectra every value is one number.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import helper, numpy_helper

import snnc
from snnc.encoders import Dictionary, Spiketrum, delta_spikes, encoded, gammatones, learned, log_mel

RATE, STEPS, CHANNELS, SAMPLES = 8000, 20, 32, 256
RATES = (250, 500, 1000, 2000)
LEVELS = 4
HIDDEN, EPOCHS, BATCH = 128, 25, 50
SPREAD = (1.0, 0.7)
"""Standard deviations, in steps and channels, by which the first layer sees its input smoothed."""
DELTAS = (2.0, 1.0, 0.5)


def sounds(path: Path, step: int = 1) -> tuple[list[np.ndarray], np.ndarray]:
    """Return every so many recording, (samples,) each, and their digits."""
    with np.load(path) as data:
        audio, ends, y = data["audio"], data["offsets"], data["y"]
    found = [audio[a:b].astype(np.float64) for a, b in pairwise(ends)]
    return found[::step], y[::step].astype(np.int64)


def binned(values: np.ndarray) -> np.ndarray:
    """Return (STEPS, channels), the means of frames, (n, channels), over equal shares of the sound."""
    edges = np.linspace(0, len(values), STEPS + 1).astype(int)
    return np.stack([values[a : max(b, a + 1)].mean(axis=0) for a, b in pairwise(edges)])


def counted(values: np.ndarray) -> np.ndarray:
    """Return (STEPS, channels), the sums of spikes, (n, channels), over equal shares of the sound."""
    found = np.zeros((STEPS, values.shape[1]))
    np.add.at(found, np.arange(len(values)) * STEPS // len(values), values)
    return found


class Network:
    """A network of one hidden layer, trained by Adam on cross-entropy with dropped inputs; seeded.

    It is trained on inputs that are smoothed over two axes and centred: part of its first layer.

    Args:
        x: (n, inputs), float32.
        y: (n,) digits.
        seed: of weights and order.
        first: length of the first axis of an input: steps of a sound, rows of an image.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, seed: int = 0, first: int = STEPS) -> None:
        rng = np.random.default_rng(seed)
        smooth = np.kron(_kernel(first, SPREAD[0]), _kernel(x.shape[1] // first, SPREAD[1])).astype(
            np.float32
        )
        x = x @ smooth
        centre = x.mean(axis=0)
        x = x - centre
        sizes = (x.shape[1], HIDDEN, 10)
        self.scale = 1 / x.std()
        layers = [
            part for a, b in pairwise(sizes) for part in (rng.normal(0, np.sqrt(2 / a), (a, b)), np.zeros(b))
        ]
        mean, square = [np.zeros_like(p) for p in layers], [np.zeros_like(p) for p in layers]
        total, step = EPOCHS * len(x) // BATCH, 0
        for _ in range(EPOCHS):
            for rows in np.array_split(rng.permutation(len(x)), len(x) // BATCH):
                step += 1
                keep = rng.random((len(rows), sizes[0])) < 0.7
                inputs = x[rows] * self.scale * keep / 0.7
                hidden = np.maximum(inputs @ layers[0] + layers[1], 0)
                scores = hidden @ layers[2] + layers[3]
                share = np.exp(scores - scores.max(axis=1, keepdims=True))
                share /= share.sum(axis=1, keepdims=True)
                share[np.arange(len(rows)), y[rows]] -= 1
                share /= len(rows)
                back = (share @ layers[2].T) * (hidden > 0)
                moves = [inputs.T @ back, back.sum(0), hidden.T @ share, share.sum(0)]
                rate = 2e-3 * (1 + np.cos(np.pi * min(1, step / total))) / 2
                for k, move in enumerate(moves):
                    move = move + 1e-4 * layers[k]
                    mean[k] = 0.9 * mean[k] + 0.1 * move
                    square[k] = 0.999 * square[k] + 0.001 * move**2
                    unbiased = mean[k] / (1 - 0.9**step), square[k] / (1 - 0.999**step)
                    layers[k] -= rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        layers[1] = layers[1] - centre @ layers[0] * self.scale
        layers[0] = smooth @ layers[0] * self.scale
        self.layers = [part.astype(np.float32) for part in layers]

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the share of rows that are right."""
        a, b, c, d = self.layers
        return float(((np.maximum(x @ a + b, 0) @ c + d).argmax(axis=1) == y).mean())

    def model(self) -> onnx.ModelProto:
        """Return it as ONNX."""
        names = ("a", "b", "c", "d")
        nodes = [
            helper.make_node("Gemm", ["x", "a", "b"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "c", "d"], ["y"]),
        ]
        graph = helper.make_graph(
            nodes,
            "digits",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", len(self.layers[0])])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 10])],
            [numpy_helper.from_array(part, name) for part, name in zip(self.layers, names, strict=True)],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _kernel(size: int, spread: float) -> np.ndarray:
    """Return (size, size), a Gaussian around each place, whose columns sum to one."""
    apart = np.arange(size)[:, None] - np.arange(size)
    found = np.exp(-0.5 * (apart / spread) ** 2)
    return found / found.sum(axis=0)


def judged(
    label: str,
    spikes: float,
    snr: str,
    train: np.ndarray,
    test: np.ndarray,
    y: np.ndarray,
    y_test: np.ndarray,
) -> None:
    """Train, convert, judge and print a row."""
    x, x_test = (rows.reshape(len(rows), -1).astype(np.float32) for rows in (train, test))
    network = Network(x, y)
    spiking = snnc.convert(network.model(), x[:: max(1, len(x) // 1000)], preset="balanced", timesteps=8)
    share = spiking.evaluate(x_test, y_test, compare=False).scores.top1
    if share is None:
        raise click.ClickException("the rows have no labels")
    low, high = share.interval
    source = 100 * network.accuracy(x_test, y_test)
    print(
        f"| {label} | {spikes:,.0f} | {snr} | {source:.1f} | {100 * share.value:.1f} "
        f"({100 * low:.1f} to {100 * high:.1f}) |",
        flush=True,
    )


def spiketrum(rows: Sequence[np.ndarray], dictionary: Dictionary) -> Callable[[int], list[Spiketrum]]:
    """Encode all rows once at the highest rate, and return what gives those of a lower one."""
    found = [encoded(x, dictionary, RATES[-1]) for x in rows]

    def at(rate: int) -> list[Spiketrum]:
        counts = [max(1, round(rate * made.samples / RATE)) for made in found]
        return [made.first(n, x, dictionary) for made, n, x in zip(found, counts, rows, strict=True)]

    return at


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--rows", type=int, default=2, help="Every so many training row.")
@click.option(
    "--learned", "learns", is_flag=True, help="Also with a dictionary learned from 100 training rows."
)
def main(data: Path, rows: int, learns: bool) -> None:
    """Print the table."""
    train, y = sounds(data / "fsdd_train.npz", rows)
    test, y_test = sounds(data / "fsdd_test_dev.npz")
    seconds = sum(map(len, test)) / RATE
    print(f"{len(train)} training rows, {len(test)} test rows of {seconds:.1f} s\n")
    print("| code | numbers or spikes a second | SNR, dB | source, % | int8, % |\n|---|---|---|---|---|")
    mel = [[log_mel(x, RATE) for x in part] for part in (train, test)]
    each = sum(part.size for part in mel[1]) / seconds
    x, x_test = (np.stack([binned(v) for v in part]) for part in mel)
    judged("log-mel", each, "", x, x_test, y, y_test)
    for step in DELTAS:
        changes = [[delta_spikes(v, step) for v in part] for part in mel]
        each = sum(int(part.sum()) for part in changes[1]) / seconds
        x, x_test = (np.stack([counted(v) for v in part]) for part in changes)
        judged(f"send-on-delta, {step:g}", each, "", x, x_test, y, y_test)
    dictionaries = {"gammatones": gammatones(RATE, CHANNELS, samples=SAMPLES)}
    if learns:
        dictionaries["learned"] = learned(
            train[:: max(1, len(train) // 100)], dictionaries["gammatones"], 1000
        )
    for name, dictionary in dictionaries.items():
        ways = [spiketrum(part, dictionary) for part in (train, test)]
        for rate in RATES:
            parts = [way(rate) for way in ways]
            snr = np.median([made.snr for made in parts[1]])
            x, x_test = (
                np.stack([made.frames(STEPS, CHANNELS, levels=LEVELS) for made in part]) for part in parts
            )
            each = sum(len(made.times) for made in parts[1]) / seconds
            judged(f"Spiketrum, {name}", each, f"{snr:.1f}", x, x_test, y, y_test)
    long = np.concatenate(test)[: 10 * RATE]
    encoded(test[0], dictionaries["gammatones"], RATES[0])  # compiles the search, once in a process
    for rate in RATES:
        begin = time.process_time()
        encoded(long, dictionaries["gammatones"], rate)
        print(f"10 s of sound, {rate} spikes a second: {time.process_time() - begin:.2f} s of one core")


if __name__ == "__main__":
    sys.exit(main())
