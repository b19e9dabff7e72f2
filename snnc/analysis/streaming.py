"""Answers to frames as they come: after each step the class, its confidence, and whether that is enough.

After step ``t`` a synchronous network has seen nothing of later frames, so that its answer is that of a run
in which these are silent. Each step is run once, and the state is kept, as by ``snnc_step`` in C.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from snnc.errors import InputError, UsageError
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.snn import Presented
from snnc.simulation.reference import encode
from snnc.simulation.stepping import Stepper

if TYPE_CHECKING:
    from snnc.artefact import Artefact


ENDLESS = 2**31 - 1
"""T of a stream in float32 that keeps its state: no integers limit it."""


@dataclass(frozen=True, slots=True)
class StepAnswer:
    """The answer after one step.

    Attributes:
        window: number of the window, from 0.
        step: of it, from 1.
        values: (outputs,) in units of the source network, as if the window ended here.
        confidence: the largest share of the softmax of these.
        enough: whether no later step of the window is looked at.
    """

    window: int
    step: int
    values: FloatArray
    confidence: float
    enough: bool

    @property
    def answer(self) -> int:
        """The class: the index of the largest value, the lowest one on ties."""
        return int(self.values.argmax())


def stream(
    artefact: Artefact,
    frames: Iterable[NumberArray],
    *,
    exit_confidence: float | None = None,
    keep_state: bool = False,
) -> Iterator[StepAnswer]:
    """Yield an answer for each frame.

    Args:
        artefact: a network whose input is frames.
        frames: of the shape of one, in order; T of them are a window, behind which all states begin anew.
        exit_confidence: a window ends with the first answer of that confidence; its rest is skipped.
        keep_state: there is one window, of all frames.

    Raises:
        InputError: a frame has another shape, is not finite, or there are more than are proved.
        UsageError: the network has no frames, or no vector of classes; or its frames add up, and it is to
            keep its state.
    """
    graph = artefact.graph
    _require_frames(artefact, exit_confidence, keep_state)
    longest = graph.max_timesteps if keep_state else graph.timesteps
    shape = artefact.layout.source_shape
    readout, input_name = graph.readout, graph.encoder.name
    limit = longest or ENDLESS
    stepper = Stepper(graph, 1, limit)
    window, step, done = 0, 0, False
    for frame in frames:
        if frame.shape != shape:
            raise InputError(f"a frame of shape {frame.shape} does not fit the network's {shape}")
        if step == longest and not keep_state:
            window, step, done = window + 1, 0, False
            stepper = Stepper(graph, 1, limit)
        elif step == longest and longest:
            raise InputError(
                f"the integers of {graph.name} were proved for {longest} steps, and the stream has more: "
                "leave out --keep-state"
            )
        step += 1
        if done:
            continue
        row = np.broadcast_to(frame, (1, graph.timesteps if graph.only_timesteps else 1, *shape))
        quantised = encode(graph.encoder, artefact.canonical(row))
        held = stepper.step({input_name: quantised[:, 0]})[readout.name]
        values = readout.real(held.reshape(1, *readout.shape), step).reshape(-1)
        shares = np.exp(values - values.max())
        confidence = float(shares.max() / shares.sum())
        done = exit_confidence is not None and confidence >= exit_confidence
        yield StepAnswer(window, step, values, confidence, done)


def _require_frames(artefact: Artefact, exit_confidence: float | None, keep_state: bool) -> None:
    graph = artefact.graph
    artefact.require_plain("a stream")
    encoder, readout = graph.encoder, graph.readout
    if not encoder.varies:
        raise UsageError(f"{graph.name} takes rows that stay the same, no frames: convert it with --frames")
    if readout.shape[0] < 2 or np.prod(readout.shape[1:]) > 1:
        raise UsageError(f"a stream is answered by classes, and {graph.name} gives {readout.shape}")
    if exit_confidence is not None and not 0 < exit_confidence <= 1:
        raise UsageError(f"a confidence lies above 0 and up to 1, not at {exit_confidence}")
    if keep_state and encoder.presented is Presented.ACCUMULATED:
        raise UsageError(
            f"{graph.name} takes T = {graph.timesteps} frames that add up to one row, and its state ends "
            "with them: leave out --keep-state"
        )
