"""How near a converted network's outputs are to its source's, and what is said where they are far.

A conversion that approximates says so: the outputs of the finished network are compared with those of the
source on calibration rows, which are the rows that it should fit best. Numbers are far from the source where
the error has more than a tenth of the power with which an output varies,

    sum (y - s)^2 > 0.1 sum (s - mean s)^2,

an SQNR below 10 dB, where the mean is that of each value over the rows: coordinates of pixels, say, lie apart
already where nothing varies. Classes are far where more than 15 % of the rows get another one. That is no
measure of a network, which `snnc eval` takes on rows that were not calibrated on, and promises nothing where
it is silent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from snnc.diagnostics import FAR_FROM_SOURCE, Diagnostic
from snnc.ir.ann import AnnGraph
from snnc.ir.batch import rows_of
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.snn import SnnGraph
from snnc.metrics.task import Task
from snnc.numerics.divergence import AnswerError, answer_error, real_logits
from snnc.source.calibration import Calibration

LARGEST_ERROR = 0.1
"""Share of the power with which an output varies from row to row that its error may have."""

MOST_OTHERS = 0.15
"""Share of the rows that may get another class: four of 32 rows. More are rare, one time in fifty, where one
row in twenty gets another class in the long run."""

FEWEST_ROWS = 10
"""With fewer rows, one class is a large share of them, and an output may hardly vary."""

CURE = (
    "measure it with `snnc eval --against` the source, and let `snnc report` name the layers; try more "
    "steps, a preset of more levels (`one-step`, `precise`), or more calibration rows"
)


def far_outputs(
    source: AnnGraph,
    graph: SnnGraph,
    outputs: Mapping[str, NumberArray],
    calibration: Calibration,
    tasks: Mapping[str, Task | None],
) -> Iterator[Diagnostic]:
    """Yield a warning for each output that is far from the source's.

    Args:
        source: the source network, as it was read.
        graph: the converted network.
        outputs: (rows, *shape), read-outs of its T steps for all rows of the calibration.
        calibration: the rows.
        tasks: what each output is, where it is known.
    """
    rows = len(calibration)
    if rows < FEWEST_ROWS:
        return
    wanted, found = calibration.logits(source), real_logits(graph, outputs)
    for name, readout in graph.readouts.items():
        s, y = (rows_of(values, name).reshape(rows, -1) for values in (wanted, found))
        how = far_by(s, y, answer_error(tasks.get(name), rows_of(wanted, name)))
        if how:
            message = f"the output {name!r} is far from the source's on {rows} calibration rows: {how}"
            yield Diagnostic(FAR_FROM_SOURCE, message, readout.origin, CURE)


def far_by(s: FloatArray, y: FloatArray, error: AnswerError) -> str:
    """Say how answers, (rows, values), are far from the source's; nothing where they are near."""
    if error is AnswerError.DIVERGENCE:
        others = int((s.argmax(axis=1) != y.argmax(axis=1)).sum())
        return f"{others} get another class" if others > MOST_OTHERS * len(s) else ""
    wide = s.astype(np.float64)
    signal = float(np.square(wide - wide.mean(axis=0)).sum()) or float(np.square(wide).sum())
    noise = float(np.square(y - wide).sum())
    if noise <= LARGEST_ERROR * signal:
        return ""
    return (
        f"its error has {noise / signal:.2g} times the power with which the source's varies"
        if signal
        else "it is not 0"
    )
