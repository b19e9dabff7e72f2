"""Whether a network can be converted, from the file alone."""

from __future__ import annotations

from snnc.arguments import Model, read_source
from snnc.conversion_options import DEFAULTS, Options, alternatives
from snnc.diagnostics import Diagnostic
from snnc.errors import UnsupportedModelError
from snnc.frontend import SourceModel
from snnc.ir.ann import AnnGraph
from snnc.trial import lowering, require_bounds, require_lowering


def read_convertible(model: Model, options: Options) -> tuple[SourceModel, str]:
    """Read a network, and check that no conversion will refuse it, whatever the rows.

    This is how every conversion begins, and all that `snnc check` and a dry run do with the network.

    Args:
        model: as for :func:`convert`.
        options: how it is to be converted.

    Returns:
        The network, and what it is called.

    Raises:
        UnsupportedModelError: with a diagnostic for every reason why it cannot be converted.
        InputError: the file is missing, damaged, or not ONNX.
        UsageError: an option makes no sense, or the network is an artefact already.
    """
    possible = tuple(options.alternatives().values()) or (options,)
    fronts = {lowering(each.passes()).text: each for each in possible}

    def refused(graph: AnnGraph) -> tuple[Diagnostic, ...]:
        try:
            for each in fronts.values():
                require_lowering(graph, each.passes(), each.steps)
        except UnsupportedModelError as error:
            return error.diagnostics
        return ()

    source, name = read_source(model, options.host_mode, refused, options.selection)
    shortest = min(alternatives(options, source.graph).values() or (options,), key=lambda each: each.steps)
    require_bounds(source.graph, shortest.passes(), shortest.steps)
    return source, name


def check(model: Model, options: Options = DEFAULTS) -> tuple[Diagnostic, ...]:
    """Return everything in a network that cannot be converted, and warnings.

    The arguments are those of :func:`read_convertible`.

    Raises:
        InputError: the file is missing, damaged, or not ONNX.
        UsageError: an option makes no sense, or the network is an artefact already.
    """
    return examine(model, options)[1]


def examine(model: Model, options: Options = DEFAULTS) -> tuple[SourceModel | None, tuple[Diagnostic, ...]]:
    """Return a network as it was read, or ``None`` and everything that keeps it from being converted.

    Raises:
        InputError: the file is missing, damaged, or not ONNX.
        UsageError: an option makes no sense, or the network is an artefact already.
    """
    try:
        source = read_convertible(model, options)[0]
    except UnsupportedModelError as error:
        return None, error.diagnostics
    return source, source.warnings
