"""Reading a trained network from an ONNX file: the public face of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from snnc.data.readings import NetworkInput
from snnc.data.stored import as_float32
from snnc.diagnostics import WHOLE_ROW, Diagnostic, Severity
from snnc.errors import UnsupportedModelError
from snnc.frontend.host.dividing import Check, HostMode, Reading, read_divided
from snnc.frontend.loading import LoadedModel, load
from snnc.frontend.simplify import simplify
from snnc.ir.ann import AnnGraph
from snnc.ir.graph import FloatArray, NumberArray, Shape
from snnc.ir.layout import InputLayout
from snnc.metrics.ending import final_activation
from snnc.source.host import Host
from snnc.source.host_sections import HostNode, as_taken
from snnc.source.islands import SourceSegments
from snnc.source.selection import EVERYTHING, Selection
from snnc.source.whole_rows import taken_whole


@dataclass(frozen=True, slots=True)
class SourceInput:
    """An input of a trained network.

    Attributes:
        name: of the ONNX input, and of the graph's node.
        dtype: its type, as NumPy calls it.
        layout: how the arrays that the file takes become the graph's input.
    """

    name: str
    dtype: str
    layout: InputLayout


@dataclass(frozen=True, slots=True)
class SourceOutput:
    """An output of a trained network.

    Attributes:
        name: of the ONNX output.
        layout: how the arrays that the file gives become the graph's output, and back.
        ends: the softmax or sigmoid that makes it, as an ONNX operator; empty for none.
    """

    name: str
    layout: InputLayout
    ends: str = ""


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A trained network, read from an ONNX file.

    Attributes:
        path: the file.
        sha256: hash of the file, followed by its external data.
        graph: the network, channels first.
        inputs: what it takes, in the file's order.
        outputs: what it gives, in the file's order.
        batch: the batch size that the file fixes; ``None`` if it is free.
        opset: version of the default operator set.
        warnings: what to know about the file, such as that it computes in another precision.
        host: what of the file runs as ordinary ONNX beside the graph; ``None`` for nothing. Where there is
            some, inputs and outputs are the tensors between it and the graph.
    """

    path: Path
    sha256: str
    graph: AnnGraph
    inputs: tuple[SourceInput, ...]
    outputs: tuple[SourceOutput, ...]
    batch: int | None
    opset: int
    host: Host | None = None
    warnings: tuple[Diagnostic, ...] = ()

    @property
    def takes(self) -> dict[str, NetworkInput]:
        """What the file's inputs take, by their names, in the file's order."""
        layouts = {given.name: NetworkInput.of(given.layout) for given in self.inputs}
        if self.host is None:
            return layouts
        ports = self.host.inputs
        return {port.name: layouts.get(port.name) or NetworkInput.of_shape(port.shape) for port in ports}

    def entries(self, known: Mapping[str, NumberArray], threads: int | None = None) -> dict[str, FloatArray]:
        """Return what the graph's inputs take, (rows, *shape) float32, channels first, by their names.

        Args:
            known: the file's inputs by their names; where there is a host, what its ``before`` returns.
            threads: how many rows are worked on at once.
        """
        inputs = {given.name: given.layout for given in self.inputs}
        if self.host is not None and self.host.islands:
            outputs = {output.name: output.layout for output in self.outputs}
            return SourceSegments(self.graph, self.host, inputs, outputs, threads).entries(known)
        for given in self.inputs if self.host is None else ():
            if np.dtype(given.dtype).kind in "iub":
                as_taken(known[given.name], given.name, given.dtype)
        return {name: as_float32(layout.to_canonical(known[name])) for name, layout in inputs.items()}

    @property
    def input(self) -> SourceInput:
        """The one input.

        Raises:
            UsageError: there are several.
        """
        return self.inputs[self.graph.inputs.index(self.graph.input)]

    @property
    def output(self) -> SourceOutput:
        """The one output.

        Raises:
            UsageError: there are several.
        """
        return self.outputs[self.graph.outputs.index(self.graph.output)]

    @property
    def gives(self) -> dict[str, Shape]:
        """Shapes of the outputs that the file tells, by their names, in its order."""
        if self.host is not None:
            return {port.name: port.shape for port in self.host.outputs}
        return {output.name: output.layout.source_shape for output in self.outputs}

    @property
    def activations(self) -> dict[str, str]:
        """The softmax or sigmoid that makes each of these outputs, as an ONNX operator; empty for none."""
        if self.host is not None:
            return {port.name: self.host.activations.get(port.name, "") for port in self.host.outputs}
        return {output.name: output.ends for output in self.outputs}

    @property
    def layout(self) -> InputLayout:
        """How the arrays that the file takes become the graph's one input."""
        return self.input.layout

    @property
    def input_name(self) -> str:
        """Name of the one ONNX input."""
        return self.input.name

    @property
    def input_dtype(self) -> str:
        """Type of the one ONNX input, as NumPy calls it."""
        return self.input.dtype

    @property
    def output_name(self) -> str:
        """Name of the one ONNX output."""
        return self.output.name

    @property
    def ends(self) -> str:
        """The softmax or sigmoid that makes the answers, as an ONNX operator; empty for none."""
        return self.output.ends


def read_onnx(
    path: Path | LoadedModel,
    mode: HostMode = HostMode.NONE,
    check: Check = lambda graph: (),
    kept: Sequence[HostNode] = (),
    selection: Selection = EVERYTHING,
) -> SourceModel:
    """Read a network.

    Args:
        path: an ``.onnx`` file, or what was loaded of one.
        mode: where the host may keep what cannot be read.
        check: what else must be refused; its findings name nodes of the model.
        kept: the host's nodes of an artefact, to read its source as it was read then.
        selection: sizes that the file leaves open, and the outputs to keep.

    Raises:
        InputError: the file is missing, damaged, or not ONNX.
        UsageError: the selection does not fit the file.
        UnsupportedModelError: with a diagnostic for every reason why it cannot be converted.
    """
    source, reading = _read(path, mode, check, kept, selection)
    diagnostics = reading.diagnostics
    errors = [d for d in diagnostics if d.severity is Severity.ERROR]
    if source is None or errors:
        first = errors[0].reason
        more = f"; and {len(errors) - 1} more, see `snnc check`" if len(errors) > 1 else ""
        name = path.path if isinstance(path, LoadedModel) else path
        raise UnsupportedModelError(f"{name} cannot be converted: {first}{more}", diagnostics)
    return source


def check_onnx(path: Path, selection: Selection = EVERYTHING) -> tuple[Diagnostic, ...]:
    """Return everything about a network that keeps it from being converted; see :func:`read_onnx`.

    Raises:
        InputError: the file is missing, damaged, or not ONNX.
        UsageError: the selection does not fit the file.
    """
    return _read(path, HostMode.NONE, lambda graph: (), (), selection)[1].diagnostics


def _whole(name: str, shape: Shape) -> Diagnostic:
    """Say that a row of an input is all of it."""
    rows = ", ".join(map(str, ("n", *shape)))
    message = f"a row of the input is the whole tensor {shape}: rows have the shape ({rows})"
    cure = "if its first size is meant to be a batch, export the model with one batch for all inputs"
    return Diagnostic(WHOLE_ROW, message, name, cure)


def _read(
    given: Path | LoadedModel,
    mode: HostMode,
    check: Check,
    kept: Sequence[HostNode],
    selection: Selection,
) -> tuple[SourceModel | None, Reading]:
    loaded = given if isinstance(given, LoadedModel) else load(given)
    path = loaded.path
    taken = selection.applied(loaded.proto, str(path))
    proto, warnings = simplify(taken, str(path))
    warnings = (*warnings, *(_whole(name, shape) for name, shape in taken_whole(taken.graph).items()))
    reading = read_divided(proto, path.name.removesuffix(".onnx"), str(path), mode, check, kept)
    reading = replace(reading, diagnostics=(*warnings, *reading.diagnostics))
    network, host = reading.network, reading.host
    if network is None:
        return None, reading
    ends = {name: final_activation(proto, name) for name in network.given} if host is None else host.ends
    source = SourceModel(
        path=path,
        sha256=loaded.sha256,
        graph=network.graph,
        inputs=tuple(
            SourceInput(given.name, given.dtype, network.layouts[given.name])
            for given in network.signature.inputs
        ),
        outputs=tuple(
            SourceOutput(name, layout, ends.get(name, "")) for name, layout in network.given.items()
        ),
        batch=network.signature.batch,
        opset=network.signature.opset,
        host=host,
        warnings=reading.diagnostics,
    )
    return source, reading
