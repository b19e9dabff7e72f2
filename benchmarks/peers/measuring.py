"""What the peers' programs share: the job, the counting of spikes, and the run over the test rows."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from network import Network
from torch import Tensor, nn

BATCH = 50
"""Test rows that are run at once."""

TOLERANCE = 1e-3
"""How much of the range of its outputs the loaded network may differ from its source, at most."""


@dataclass(frozen=True)
class Job:
    """What is asked for.

    Attributes:
        network: the trained network.
        calibration: (m, *input shape) float32.
        x: (n, *input shape) float32 test rows.
        y: (n,) labels.
        reach: for the number of each node that may send spikes, the synapses that an event of each of
            its neurons reaches, (channels, height, width) or (features,).
        modes: of the peer, that are wanted.
        timesteps: T to report, ascending.
    """

    network: Network
    calibration: Tensor
    x: Tensor
    y: np.ndarray
    reach: dict[int, Tensor]
    modes: tuple[str, ...]
    timesteps: tuple[int, ...]

    def reach_of(self, rectifier: int, shape: torch.Size) -> Tensor:
        """Return the reach of the neurons that stand for a rectifier, or for the max-pool behind it."""
        pools = [
            number
            for number, node in enumerate(self.network.nodes)
            if node["kind"] == "MaxPool" and rectifier in node["inputs"]
        ]
        for number in (rectifier, *pools):
            if self.reach[number].shape == shape:
                return self.reach[number]
        raise SystemExit(
            f"the neurons of node {rectifier} have the shape {tuple(shape)}, which is unexpected"
        )


def read_job(modes: Sequence[str]) -> Job:
    """Read the command line and the job that it names, and check that the network is the right one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path, help="written by benchmarks/peers/job.py")
    parser.add_argument("--modes", default=",".join(modes), help="separated by commas")
    parser.add_argument("--timesteps", default="1,2,4,8,16", help="separated by commas")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    wanted = tuple(given.modes.split(","))
    if unknown := sorted(set(wanted) - set(modes)):
        parser.error(f"unknown modes: {', '.join(unknown)}; known: {', '.join(modes)}")
    torch.set_num_threads(given.threads)
    torch.set_grad_enabled(False)
    with np.load(given.job, allow_pickle=False) as file:
        arrays = dict(file)
    structure = json.loads(str(arrays["network"]))
    network = Network(structure["nodes"], structure["output"], arrays)
    calibration = torch.from_numpy(arrays["calibration"])
    expected = arrays["expected"]
    answers = network.as_source(calibration[: len(expected)]).numpy()
    if (error := float(np.abs(answers - expected).max() / np.abs(expected).max())) > TOLERANCE:
        raise SystemExit(f"the network as it was loaded differs from its source by {error:.1e} of its range")
    return Job(
        network=network,
        calibration=calibration,
        x=torch.from_numpy(arrays["x"]),
        y=arrays["y"],
        reach={
            number: torch.from_numpy(arrays[f"{number}.reach"]).double()
            for number in range(len(structure["nodes"]))
            if f"{number}.reach" in arrays
        },
        modes=wanted,
        timesteps=tuple(sorted(map(int, given.timesteps.split(",")))),
    )


@dataclass(frozen=True)
class Tally:
    """What spiking layers sent, and how long it took, summed over rows.

    Attributes:
        units: ``sum |s|``.
        synops: ``sum over events of the synapses that each reaches``.
        places: neurons x rows x steps.
        largest: the largest ``|s|``.
        signed: whether any ``s`` was negative.
        seconds: of the run, counting included.
    """

    units: float = 0.0
    synops: float = 0.0
    places: int = 0
    largest: int = 0
    signed: bool = False
    seconds: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        """Return both together."""
        return Tally(
            units=self.units + other.units,
            synops=self.synops + other.synops,
            places=self.places + other.places,
            largest=max(self.largest, other.largest),
            signed=self.signed or other.signed,
            seconds=self.seconds + other.seconds,
        )

    @classmethod
    def of(cls, s: Tensor, reach: Tensor) -> Tally:
        """Return the tally of one layer's spikes in one step, (n, *shape)."""
        sent = s.abs()
        return cls(
            units=float(sent.sum(dtype=torch.float64)),
            synops=float((torch.count_nonzero(s, dim=0) * reach).sum()),
            places=s.numel(),
            largest=int(sent.max()),
            signed=bool(s.min() < 0),
        )

    @property
    def payload(self) -> str:
        """What an event carried, as the project names it."""
        if self.largest > 1:
            return f"levels:{self.largest}"
        return "signed" if self.signed else "binary"


@dataclass
class Meter:
    """Counts what spiking layers send in each step.

    Attributes:
        steps: one tally for each step, over all rows.
        now: the step that is being run, from 0.
    """

    steps: list[Tally]
    now: int = 0

    def add(self, tally: Tally) -> None:
        """Add to the present step."""
        self.steps[self.now] += tally

    def watch(self, layers: Mapping[int, nn.Module], job: Job) -> None:
        """Count what the layers send from now on; each stands for the rectifier of that number."""
        for rectifier, layer in layers.items():
            layer.register_forward_hook(
                lambda _layer, _read, s, at=rectifier: self.add(Tally.of(s, job.reach_of(at, s.shape[1:])))
            )


def run(
    job: Job,
    step: Callable[[Tensor], Tensor],
    reset: Callable[[], None],
    spiking: Mapping[int, nn.Module],
    readouts: Mapping[str, Callable[[int], int]],
    common: dict[str, Any],
) -> None:
    """Run a spiking network on the test rows and print one JSON object for each read-out and T.

    The input is constant and no neuron knows T, so a run of T steps begins as a longer one does.

    Args:
        job: what is asked for.
        step: one step of the network, from rows to outputs.
        reset: brings all neurons to their initial state.
        spiking: the layers that send spikes, by the number of the rectifier that each stands for.
        readouts: by mode, the first step that is read, given T; 0 to read them all.
        common: what every line repeats.
    """
    meter = Meter([Tally()] * job.timesteps[-1])
    meter.watch(spiking, job)
    starts = {(mode, T): start(T) for T in job.timesteps for mode, start in readouts.items()}
    hits = dict.fromkeys(starts, 0)
    for rows, labels in zip(
        job.x.split(BATCH), np.split(job.y, range(BATCH, len(job.y), BATCH)), strict=True
    ):
        reset()
        outputs = []
        for t in range(len(meter.steps)):
            meter.now = t
            began = time.perf_counter()
            outputs.append(step(rows).numpy())
            meter.add(Tally(seconds=time.perf_counter() - began))
        for (mode, T), first in starts.items():
            total = np.sum(outputs[first:T], axis=0)
            hits[mode, T] += int((total.argmax(axis=1) == labels).sum())
    for (mode, T), first in starts.items():
        tally = sum(meter.steps[:T], Tally())
        line = {
            "mode": mode,
            "timesteps": T,
            "hits": hits[mode, T],
            "n": len(job.y),
            "latency_steps": T,
            "first_step_read": first,
            "payload": tally.payload,
            "spikes_per_neuron_per_step": tally.units / tally.places,
            "synops": tally.synops / len(job.y),
            "evaluate_seconds": round(tally.seconds, 1),
        }
        print(json.dumps({**common, **line}), flush=True)
