"""Check whether a program fits Speck, a chip to which sinabs maps networks, by its data sheet alone.

Nothing here was run on the chip or in its vendor's software, and the report says so. One population needs one
core.

Source: "Speck 2e", samna documentation, SynSense, key features of the CNN layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snnc.backends.nir.program import INPUT, Conv, Dense, Fire, Program, Sum

CORES = 9
KERNEL = 16
STRIDES = (1, 2, 4, 8)
PADDING = 7
POOLING = (1, 2, 4)
FEATURES = 1024
INPUT_SIDE = 128
OUTPUT_SIDE = 64
WEIGHT = 127
STATE = 2**15 - 1

SOURCE = "samna documentation, Speck 2e, CNN layer"


def report(program: Program) -> dict[str, Any]:
    """Return needs, limits, and everything that does not fit; JSON."""
    convolutions = [step for step in program.steps if isinstance(step.layer, Conv | Dense)]
    fires = [step for step in program.steps if isinstance(step.layer, Fire)]
    weights = max(float(np.abs(step.layer.weight).max()) for step in convolutions)  # type: ignore[union-attr]
    threshold = max((float(step.layer.threshold.max()) for step in fires), default=0.0)  # type: ignore[union-attr]
    reasons = ["the input is analogue, and the chip takes events"]
    # The read-out is a layer, too.
    cores = len(fires) + 1
    if cores > CORES:
        reasons.append(f"{cores} layers, and the chip has {CORES} cores")
    if weights > WEIGHT:
        reasons.append(f"a weight of {weights:.0f} needs more than 8 bits")
    if threshold > STATE:
        reasons.append(f"a threshold of {threshold:.0f} needs more than 16 bits")
    shapes = {INPUT: program.shape, **{step.name: step.shape for step in program.steps}}
    kinds = {step.name: step.layer for step in program.steps}
    for step in program.steps:
        before = shapes[step.inputs[0]]
        reasons += [f"{step.name}: {text}" for text in _against(step.layer, before, step.shape)]
        if isinstance(step.layer, Conv) and isinstance(kinds.get(step.inputs[0]), Conv):
            reasons.append(f"{step.name}: a convolution follows another without neurons between them")
    return {
        "chip": "Speck 2e",
        "verified": False,
        "source": SOURCE,
        "needs": {
            "cores": cores,
            "largest_weight": weights,
            "largest_threshold": threshold,
            "largest_fan_in": max(
                int(np.prod(step.layer.weight.shape[1:]))  # type: ignore[union-attr]
                for step in convolutions
            ),
            "neurons": int(sum(np.prod(step.shape) for step in fires)),
        },
        "limits": {"cores": CORES, "weight_bits": 8, "state_bits": 16},
        "fits": not reasons,
        "reasons": reasons,
    }


def _against(layer: object, before: tuple[int, ...], after: tuple[int, ...]) -> list[str]:
    match layer:
        case Conv():
            found = []
            if max(layer.weight.shape[2:]) > KERNEL:
                found.append(f"kernels reach {KERNEL}")
            if not set(layer.strides) <= set(STRIDES):
                found.append(f"strides are among {STRIDES}")
            if max(layer.padding) > PADDING:
                found.append(f"padding reaches {PADDING}")
            if max(after[0], before[0]) > FEATURES:
                found.append(f"features reach {FEATURES}")
            if max(before[1:]) > INPUT_SIDE or max(after[1:]) > OUTPUT_SIDE:
                found.append(f"sides reach {INPUT_SIDE} at the input and {OUTPUT_SIDE} at the output")
            return found
        case Sum() if layer.kernel != layer.strides or not set(layer.kernel) <= set(POOLING):
            return [f"pooling is over {POOLING} without overlap"]
        case _:
            return []
