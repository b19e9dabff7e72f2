"""Convert a job's network by SpikingJelly's ann2snn and judge it; runs in SpikingJelly's environment.

Modes:
    99.9%: one threshold per layer, the 99.9th percentile; from rest.
    robust: one threshold per channel, the 99.9th percentile; from half the threshold.
    robust delayed: the same, and the first steps are not read, as many as the library estimates.
    LTB: local threshold balancing per channel, 600 iterations; from half the threshold.

The settings are those of the library's own example for these recipes.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from copy import deepcopy
from importlib.metadata import version

from measuring import Job, read_job, run
from spikingjelly.activation_based import ann2snn, functional
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor, nn

MODES = ("99.9%", "robust", "robust delayed", "LTB")
CALIBRATION_BATCH = 100
BALANCING_BATCH, BALANCING_ITERATIONS = 50, 600


def balancing_batches(rows: Tensor) -> Iterator[Tensor]:
    """Yield batches, round after round."""
    batches = rows.split(BALANCING_BATCH)
    for iteration in range(BALANCING_ITERATIONS):
        yield batches[iteration % len(batches)]


def recipe(mode: str, rows: Tensor) -> ann2snn.ConversionRecipe:
    """Return the library's recipe for a mode."""
    batches = rows.split(CALIBRATION_BATCH)
    if mode == "LTB":
        return ann2snn.LocalThresholdBalancingRecipe(balancing_batches(rows))
    if mode == "99.9%":
        return ann2snn.RateCodingRecipe(batches, mode="99.9%")
    return ann2snn.RateCodingRecipe(
        batches, mode="99.9%", channel_wise=True, pre_spike_maxpool=True, half_threshold=True
    )


def delay(network: nn.Module, rows: Tensor, timesteps: int) -> int:
    """Return the library's estimate of the first step to read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # T is too small for the whole delay
        return ann2snn.estimate_delay_start(network, rows.split(CALIBRATION_BATCH), "cpu", timesteps)


def measure(job: Job, modes: tuple[str, ...]) -> None:
    """Convert once and print what was found in these modes, which differ in the read-out alone."""
    start = time.perf_counter()
    network = ann2snn.Converter(recipe(modes[0], job.calibration)).convert(deepcopy(job.network)).eval()
    converted = time.perf_counter() - start
    called = [network.get_submodule(n.target) for n in network.graph.nodes if n.op == "call_module"]
    spiking = [module for module in called if isinstance(module, BaseNode)]
    delays = {T: delay(network, job.calibration, T) for T in job.timesteps if "robust delayed" in modes}
    run(
        job,
        step=network,
        reset=lambda: functional.reset_net(network),
        spiking=dict(zip(job.network.rectifiers, spiking, strict=True)),
        readouts={mode: delays.__getitem__ if mode.endswith("delayed") else lambda T: 0 for mode in modes},
        common={
            "tool": f"SpikingJelly {version('spikingjelly')}",
            "convert_seconds": round(converted, 1),
        },
    )


def main() -> None:
    """Measure the modes that are asked for."""
    job = read_job(MODES)
    for group in (("99.9%",), ("robust", "robust delayed"), ("LTB",)):
        if modes := tuple(mode for mode in group if mode in job.modes):
            measure(job, modes)


if __name__ == "__main__":
    main()
