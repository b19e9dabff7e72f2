"""Networks over time on N-MNIST: `python -m benchmarks.streams WHAT --streams FOLDER`.

``train`` learns a convolutional network from accumulated frames, ``train-leaky`` one of LIF or DA-LIF
neurons through time; both need PyTorch, and nothing of snnc. ``table`` converts the former, ``table-
leaky`` quantises the latter, and both print accuracy with 95 % intervals, on whole recordings and on
their beginnings. ``frames`` writes the frames of both parts as .npz, for `snnc train` and `snnc eval`.
``train-hybrid`` learns, by ``--kind``, a ``hybrid`` of an ordinary stem and a spiking body or a small
transformer, ``former``, from accumulated frames, and ``table-hybrid`` converts both.
``fusion`` pairs images and spoken digits. Calibrated on training recordings, judged on ``test_dev``.
``speed`` times a step of an artefact in C.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.streams import accumulated, fusion, hybrids, leaky, speed
from benchmarks.streams.recordings import frames


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    leaks, mixed = ("lif", "da-lif"), ("hybrid", "former")
    known = ("train", "table", "frames", "fusion", "speed")
    pairs = ("train-leaky", "table-leaky", "train-hybrid", "table-hybrid")
    parser.add_argument("what", choices=(*known, *pairs))
    parser.add_argument("--streams", type=Path, required=True, help="folder of the recordings")
    parser.add_argument(
        "--network", type=Path, nargs="+", default=[Path("nmnist.onnx")], help="trained networks"
    )
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--data", type=Path, help="folder of MNIST, for ``fusion``")
    parser.add_argument("--pool", type=int, default=1, help="pixels that ``frames`` adds up")
    parser.add_argument("--preset", default="graded")
    parser.add_argument("--kind", choices=(*leaks, *mixed))
    asked = parser.parse_args()
    wanted = {"train-leaky": leaks, "train-hybrid": mixed}.get(asked.what, (None,))
    if asked.kind not in wanted:
        parser.error(f"{asked.what} takes --kind {' or '.join(filter(None, wanted)) or 'not at all'}")
    match asked.what:
        case "train":
            accumulated.train(asked.streams, asked.network[0], asked.epochs)
        case "frames":
            frames(asked.streams, asked.network[0], asked.pool)
        case "fusion":
            fusion.table(asked.streams, asked.data)
        case "train-leaky":
            leaky.train(asked.streams, asked.network[0], asked.epochs, asked.kind)
        case "table":
            accumulated.table(asked.streams, asked.network[0], asked.preset)
        case "train-hybrid":
            hybrids.train(asked.streams, asked.network[0], asked.epochs, asked.kind)
        case "table-hybrid":
            hybrids.table(asked.streams, asked.network)
        case "speed":
            speed.table(asked.network[0], asked.streams)
        case _:
            leaky.table(asked.streams, asked.network)


if __name__ == "__main__":
    main()
