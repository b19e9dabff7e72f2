"""The two sides of ``snnc compare``: what each network answers, and which outputs belong together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from snnc.cli.terminal import Terminal

if TYPE_CHECKING:
    from snnc.analysis.answers import Source
    from snnc.artefact import Artefact
    from snnc.ir.batch import Rows
    from snnc.ir.graph import NumberArray, Shape


@dataclass(frozen=True)
class Side:
    """One of the two networks on the rows.

    Attributes:
        name: as the user wrote it.
        values: (n, outputs), its answers.
        shape: of the answer to one row.
        ends: the softmax or sigmoid behind the answers, as an ONNX operator; empty for none.
        left_out: the same of a spiking network's source, which its answers lie before.
        output: the name of the output; ``None`` of the only one.
    """

    name: str
    values: NumberArray
    shape: Shape
    ends: str
    left_out: str
    output: str | None


def inputs_of(network: Artefact | Source) -> list[str]:
    """Return the names of what a network takes."""
    from snnc.analysis.answers import Source

    return list(network.session.inputs if isinstance(network, Source) else network.takes)


def outputs_of(network: Artefact | Source) -> list[str]:
    """Return the names of what a network gives."""
    from snnc.analysis.answers import Source

    return list(network.session.all_ends if isinstance(network, Source) else network.gives)


def sides_of(
    terminal: Terminal, name: str, network: Artefact | Source, x: Rows, threads: int | None
) -> dict[str, Side]:
    """Run one of the two networks, and return what it answers at each output, by the output's name."""
    from snnc.analysis.answers import SHARD, Source, all_outputs_of
    from snnc.analysis.scores import require_finite
    from snnc.backends import load_simulator
    from snnc.cli.artefacts import warn_of_rows

    found: dict[str, Side] = {}
    if isinstance(network, Source):
        import numpy as np

        starts = range(0, len(x), SHARD)
        tracked = terminal.progress().track(starts, len(starts), "running the ANN")
        parts = [network.session.run_all(network.prepare(x[start : start + SHARD])) for start in tracked]
        for output, ends in network.session.all_ends.items():
            values = np.concatenate([part[output] for part in parts])
            found[output] = Side(name, values.reshape(len(x), -1), values.shape[1:], ends, "", output)
    else:
        steps = network.graph.timesteps
        simulator = load_simulator("numba", threads)
        warn_of_rows(terminal, network, x, simulator)
        outputs = all_outputs_of(
            network.graph,
            network.encode,
            x,
            simulator=simulator,
            timesteps=steps,
            progress=terminal.progress(),
            finish=network.finish,
        )
        for output, shape in network.gives.items():
            values = outputs[output]
            if network.host is None:
                real = network.graph.readouts[output].real(values, steps)
                values = network.output_layouts[output].to_source(real)
            flat = values.reshape(len(x), -1).astype("float64")
            left_out = network.ends[output]
            ends = "" if left_out else network.source_ends[output]
            found[output] = Side(name, flat, shape, ends, left_out, output)
    for side in found.values():
        require_finite(side.values)
    if len(found) == 1:
        return {output: replace(side, output=None) for output, side in found.items()}
    return found


def pairs_of(a: dict[str, Side], b: dict[str, Side]) -> dict[str, tuple[Side, Side]]:
    """Return what both networks answer at each output, by its name in A; the only ones may differ in it.

    Raises:
        InputError: they have other outputs, or of other shapes.
    """
    from snnc.errors import InputError

    if len(a) == len(b) == 1:
        pairs = {name: (side, other) for name, side in a.items() for other in b.values()}
    else:
        for whose, has, other, lacks in (("A", a, "B", b), ("B", b, "A", a)):
            missing = [name for name in has if name not in lacks]
            if missing:
                raise InputError(
                    f"{whose} has an output {missing[0]!r}, and {other} has none of that name: nothing to "
                    "compare it with; convert with --keep-output NAME for those of both"
                )
        pairs = {name: (side, b[name]) for name, side in a.items()}
    for name, (one, two) in pairs.items():
        of = f" at {name!r}" if len(pairs) > 1 else ""
        if one.values.shape != two.values.shape:
            raise InputError(
                f"A has {one.values.shape[1]} outputs{of} and B {two.values.shape[1]}: nothing to compare"
            )
        axes = [tuple(length for length in side.shape if length > 1) for side in (one, two)]
        if axes[0] != axes[1] and min(map(len, axes)) > 1:
            raise InputError(
                f"A answers{of} with maps of {one.shape} and B of {two.shape}: nothing to compare"
            )
    return pairs
