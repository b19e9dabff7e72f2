"""Digits that are seen and heard: a network for each, and what fusion in closed form earns.

The image is one of MNIST, 14 x 14, the sound a spoken digit as 20 frames of 32 log-mel channels. Each has a
network of 128 hidden neurons, trained on clean rows and converted to int8 with T = 8. The weights of the
fusion are fitted on other training rows, of which each condition has as many; the test rows are paired with
digits of their class five times, by seeds. White noise of 0 dB is added to the waveform, or to the image;
masks of 75 % take pixels, or frames, at random.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import snnc
from benchmarks.sound import RATE, Network, binned, sounds
from snnc.analysis.answers import all_outputs_of
from snnc.analysis.fusion import Fusion, averaged
from snnc.backends import load_simulator
from snnc.encoders import log_mel
from snnc.metrics import Share

T, SIDE, PAIRINGS, FITTED = 8, 14, 5, 150
Floats = NDArray[np.float32]
Rows = list[NDArray[np.float64]]


def images(path: Path, most: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return images of 14 x 14, (n, 196) in [0, 1], and their digits."""
    with np.load(path) as data:
        x, y = data["x"][:most], data["y"][:most]
    small = x.reshape(len(x), SIDE, 2, SIDE, 2).mean(axis=(2, 4)) / 255
    return small.reshape(len(x), -1).astype(np.float32), y.astype(np.int64)


def heard(rows: Rows) -> Floats:
    """Return sounds as rows, (n, 640)."""
    return np.stack([binned(log_mel(x, RATE)).ravel() for x in rows]).astype(np.float32)


def noisy(x: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Return a row with white noise of its own power."""
    return x + rng.normal(0, np.sqrt(np.mean(np.square(x))), x.shape)


def clean_image(x: Floats, rng: np.random.Generator) -> Floats:
    """Return images as they are."""
    return x


def noisy_image(x: Floats, rng: np.random.Generator) -> Floats:
    """Return images at 0 dB."""
    return np.stack([noisy(row, rng) for row in x]).astype(np.float32)


def masked_image(x: Floats, rng: np.random.Generator) -> Floats:
    """Return images with 75 % of their pixels dark."""
    return (x * (rng.random(x.shape) < 0.25)).astype(np.float32)


def clean_sound(rows: Rows, rng: np.random.Generator) -> Floats:
    """Return sounds as they are."""
    return heard(rows)


def noisy_sound(rows: Rows, rng: np.random.Generator) -> Floats:
    """Return sounds at 0 dB."""
    return heard([noisy(x, rng) for x in rows])


def masked_sound(rows: Rows, rng: np.random.Generator) -> Floats:
    """Return sounds with 75 % of their frames at the lowest value."""
    x = heard(rows).reshape(len(rows), 20, -1)
    kept = rng.random((len(x), 20, 1)) < 0.25
    return np.where(kept, x, x.min()).reshape(len(x), -1).astype(np.float32)


CONDITIONS: dict[str, tuple[Callable[..., Floats], Callable[..., Floats]]] = {
    "both clean": (clean_image, clean_sound),
    "image at 0 dB": (noisy_image, clean_sound),
    "image masked": (masked_image, clean_sound),
    "sound at 0 dB": (clean_image, noisy_sound),
    "sound masked": (clean_image, masked_sound),
}


def scored(network: Any, x: Floats) -> NDArray[np.float64]:
    """Return what a network answers after each step, (T, n, 10), in units of its source."""
    (values,) = all_outputs_of(
        network.graph, network.encode, x, simulator=load_simulator("numba", 1), timesteps=T, per_step=True
    ).values()
    readout = network.graph.readout
    return np.stack([readout.real(y, t) for t, y in enumerate(values, 1)])


def table(streams: Path, data: Path) -> None:
    """Print accuracy by condition: of each modality, of their mean, and of the fusion."""
    x, y = images(data / "mnist_train.npz", 3000)
    spoken, said = sounds(streams / "fsdd_train.npz", 2)
    order = np.random.default_rng(0).permutation(len(said))
    held, learned = order[: 3 * FITTED], order[3 * FITTED :]
    voice = heard([spoken[k] for k in learned])
    seeing = _converted(Network(x[:2000], y[:2000], first=SIDE), x[:2000])
    hearing = _converted(Network(voice, said[learned]), voice)
    rng = np.random.default_rng(1)
    fitting: dict[str, list[NDArray[np.float64]]] = {"image": [], "sound": []}
    labels = []
    for see, hear in CONDITIONS.values():
        chosen = rng.choice(held, FITTED, replace=False)
        seen = 2000 + _paired(y[2000:], said[chosen], rng)
        fitting["image"].append(scored(seeing, see(x[seen], rng)))
        fitting["sound"].append(scored(hearing, hear([spoken[k] for k in chosen], rng)))
        labels.append(said[chosen])
    fusion = Fusion.fit(
        {name: np.concatenate(parts, axis=1) for name, parts in fitting.items()}, np.concatenate(labels)
    )
    x_test, y_test = images(data / "mnist_test_dev.npz", 2000)
    spoken_test, said_test = sounds(streams / "fsdd_test_dev.npz")
    n = len(said_test)
    print(f"{PAIRINGS} pairings of {n} sounds; intervals as of {n} rows\n")
    print("| condition | image | sound | mean | fusion | fusion - mean, points | fusion, half of the steps |")
    print("|---|---|---|---|---|---|---|")
    for name, (see, hear) in CONDITIONS.items():
        right = np.zeros(5)
        for seed in range(PAIRINGS):
            rng = np.random.default_rng(100 + seed)
            seen = _paired(y_test, said_test, rng)
            given = {
                "image": scored(seeing, see(x_test[seen], rng)),
                "sound": scored(hearing, hear(spoken_test, rng)),
            }
            fused = fusion.answers(given)
            answers = (
                given["image"][-1],
                given["sound"][-1],
                averaged(given)[-1],
                fused[-1],
                fused[T // 2 - 1],
            )
            right += [(each.argmax(axis=-1) == said_test).sum() for each in answers]
        shares = [Share(round(each / PAIRINGS), n) for each in right]
        cells = [f"{100 * each / PAIRINGS / n:.1f}" for each in right]
        cells[2], cells[3] = (f"{cells[k]} [{_interval(shares[k])}]" for k in (2, 3))
        gain = 100 * (right[3] - right[2]) / PAIRINGS / n
        print(f"| {name} | {' | '.join(cells[:4])} | {gain:+.1f} | {cells[4]} |", flush=True)


def _interval(share: Share) -> str:
    low, high = share.interval
    return f"{100 * low:.1f}, {100 * high:.1f}"


def _converted(network: Network, x: Floats) -> Any:
    return snnc.convert(network.model(), x[:500], preset="balanced", timesteps=T)


def _paired(
    there: NDArray[np.int64], digits: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return for each digit the place of a row of its class."""
    return np.array([rng.choice(np.flatnonzero(there == digit)) for digit in digits])
