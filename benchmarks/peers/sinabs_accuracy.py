"""Convert a job's network by sinabs' from_torch and judge it; runs in sinabs' environment.

Mode ``99%``: every layer is normalised by the 99th percentile of its activations, as sinabs' own
``normalize_weights`` does it. That function scales weights in place and so changes a network with
residual sums, whose branches must keep one unit. Here the same factors stand before and behind each
rectifier instead, which leaves every network as it was. The neurons are sinabs' defaults: they send
``floor(v / threshold)`` in a step, start from zero and do not fall below minus one threshold.
"""

from __future__ import annotations

import time
from importlib.metadata import version

import numpy as np
from measuring import Job, read_job, run
from sinabs.from_torch import from_model
from sinabs.utils import reset_states
from torch import Tensor, nn

MODES = ("99%",)
PERCENTILE = 99
CALIBRATION_BATCH = 100


class Normalised(nn.Module):
    """A rectifier, or the spiking layer in its place, between factors that make 1 of the percentile.

    Attributes:
        activation: what is normalised.
        scale: the percentile.
    """

    def __init__(self, scale: float) -> None:
        """Take the percentile of the rectifier's outputs."""
        super().__init__()
        self.activation: nn.Module = nn.ReLU()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Return the rectified ``x``."""
        return self.activation(x / self.scale) * self.scale


def percentiles(job: Job) -> dict[int, float]:
    """Return the percentile of each rectifier's outputs on the calibration rows."""
    kept: dict[int, list[np.ndarray]] = {number: [] for number in job.network.rectifiers}
    handles = [
        job.network.layers[f"n{number}"].register_forward_hook(
            lambda _layer, _read, output, to=to: to.append(output.numpy())
        )
        for number, to in kept.items()
    ]
    for rows in job.calibration.split(CALIBRATION_BATCH):
        job.network(rows)
    for handle in handles:
        handle.remove()
    found = {
        number: float(np.percentile(np.concatenate(parts), PERCENTILE)) for number, parts in kept.items()
    }
    for number, scale in found.items():
        if scale <= 0:
            name = job.network.nodes[number]["name"]
            raise SystemExit(f"{PERCENTILE} % of the outputs of {name!r} are zero: it cannot be normalised")
    return found


def main() -> None:
    """Normalise, convert and measure."""
    job = read_job(MODES)
    start = time.perf_counter()
    for number, scale in percentiles(job).items():
        job.network.layers[f"n{number}"] = Normalised(scale)
    network = from_model(job.network, num_timesteps=1).spiking_model
    converted = time.perf_counter() - start
    run(
        job,
        step=network,
        reset=lambda: reset_states(network),
        spiking={number: network.layers[f"n{number}"].activation for number in job.network.rectifiers},
        readouts=dict.fromkeys(MODES, lambda T: 0),
        common={"tool": f"sinabs {version('sinabs')}", "convert_seconds": round(converted, 1)},
    )


if __name__ == "__main__":
    main()
