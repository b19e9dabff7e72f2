"""Inputs and outputs on the command line: sizes that a file leaves open, outputs to keep, and their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnc.cli.options import option_of

if TYPE_CHECKING:
    from pathlib import Path

    from snnc.options import ConvertOptions

shape_option = option_of("shape")
fix_option = option_of("fix")
keep_option = option_of("keep_output")


def names_of(path: Path, asked: ConvertOptions) -> tuple[list[str], list[str]]:
    """Return the names of the inputs and outputs that are taken of a network, as its file tells them.

    Args:
        path: of the network.
        asked: which sizes and outputs.

    Raises:
        InputError: the file is none.
        UsageError: what is asked for does not fit it.
    """
    from snnc.frontend.loading import load
    from snnc.source.selection import Selection

    selection = Selection.parse(asked.shape, asked.keep_output, asked.fix)
    graph = selection.applied(load(path).proto, str(path)).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in constants]
    return inputs, [value.name for value in graph.output]
