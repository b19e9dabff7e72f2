"""Reading a trained network from an ONNX file: the public face of this package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from snnc.diagnostics import Diagnostic, Severity
from snnc.errors import UnsupportedModelError
from snnc.frontend.loading import LoadedModel, load
from snnc.frontend.reader import read_graph
from snnc.frontend.simplify import simplify
from snnc.ir.ann import AnnGraph
from snnc.ir.layout import InputLayout
from snnc.metrics.ending import final_activation


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A trained network, read from an ONNX file.

    Attributes:
        path: the file.
        sha256: hash of the file, followed by its external data.
        graph: the network, channels first.
        layout: how the arrays that the file takes become the graph's input.
        input_name: name of the ONNX input.
        input_dtype: type of the ONNX input, as NumPy calls it.
        output_name: name of the ONNX output.
        batch: the batch size that the file fixes; ``None`` if it is free.
        opset: version of the default operator set.
        ends: the softmax or sigmoid that makes the answers, as an ONNX operator; empty for none.
        warnings: what to know about the file, such as that it computes in another precision.
    """

    path: Path
    sha256: str
    graph: AnnGraph
    layout: InputLayout
    input_name: str
    input_dtype: str
    output_name: str
    batch: int | None
    opset: int
    ends: str = ""
    warnings: tuple[Diagnostic, ...] = ()


def read_onnx(path: Path | LoadedModel) -> SourceModel:
    """Read a network.

    Args:
        path: an ``.onnx`` file, or what was loaded of one.

    Raises:
        InputError: the file is missing, damaged, or not ONNX.
        UnsupportedModelError: with a diagnostic for every reason why it cannot be converted.
    """
    source, diagnostics = _read(path)
    errors = [d for d in diagnostics if d.severity is Severity.ERROR]
    if source is None or errors:
        first = errors[0].reason
        more = f"; and {len(errors) - 1} more, see `snnc check`" if len(errors) > 1 else ""
        name = path.path if isinstance(path, LoadedModel) else path
        raise UnsupportedModelError(f"{name} cannot be converted: {first}{more}", diagnostics)
    return source


def check_onnx(path: Path) -> tuple[Diagnostic, ...]:
    """Return everything about a network that keeps it from being converted.

    Raises:
        InputError: the file is missing, damaged, or not ONNX.
    """
    return _read(path)[1]


def _read(given: Path | LoadedModel) -> tuple[SourceModel | None, tuple[Diagnostic, ...]]:
    loaded = given if isinstance(given, LoadedModel) else load(given)
    path = loaded.path
    proto, warnings = simplify(loaded.proto, str(path))
    network, found = read_graph(proto, path.name.removesuffix(".onnx"), str(path))
    diagnostics = (*warnings, *found)
    if network is None:
        return None, diagnostics
    source = SourceModel(
        path=path,
        sha256=loaded.sha256,
        graph=network.graph,
        layout=network.layout,
        input_name=network.signature.input_name,
        input_dtype=network.signature.input_dtype,
        output_name=network.signature.output_name,
        batch=network.signature.batch,
        opset=network.signature.opset,
        ends=final_activation(loaded.proto),
        warnings=diagnostics,
    )
    return source, diagnostics
