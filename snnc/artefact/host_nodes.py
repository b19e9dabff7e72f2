"""Host sections inside an artefact: ordinary ONNX nodes around those of the spiking network.

The whole model takes what the source network takes, and T, and gives what the source network gives::

    inputs -> prefix -> (to float32, channels first) -> spiking network -> (to the source's units) -> suffix

Where the host has islands, each stands between two segments of the spiking network, which are written one
after the other, and entered and left in the same way. Every node beside the spiking network says by its
metadata which of these it is, so that the parts can be taken from each other again. Their tensors bear the
section's name, but for those at its border.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from snnc.artefact.functions import DOMAIN
from snnc.artefact.writer import ORDER
from snnc.errors import UnsupportedModelError
from snnc.ir.graph import FloatArray, NumberArray
from snnc.ir.layout import InputLayout
from snnc.source.host import Host
from snnc.source.host_sections import HostSection, Port, Section, island_name

SECTION = "snnc.section"
"""Metadata of a node that is none of the spiking network: ``enter``, ``leave``, or the name of a section."""

ENTER, LEAVE = "enter", "leave"
STEPS = "T"


@dataclass(frozen=True, slots=True)
class Entry:
    """An input of the spiking network's model.

    Attributes:
        name: of the model's input.
        layout: from the source network's tensor to it.
    """

    name: str
    layout: InputLayout


@dataclass(frozen=True, slots=True)
class Exit:
    """An output of the spiking network's model.

    Attributes:
        name: of the model's output.
        layout: from the source network's tensor to it.
        scale: of the read-out.
        gain: of its channels, ready to be broadcast; ``None`` where there is none.
    """

    name: str
    layout: InputLayout
    scale: float
    gain: FloatArray | None


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of the spiking network, all of it where there are no islands.

    Attributes:
        model: of this segment alone; changed when it becomes a part of the whole.
        entries: its inputs, as those of the host.
        exits: its outputs, likewise.
    """

    model: onnx.ModelProto
    entries: Mapping[str, Entry]
    exits: Mapping[str, Exit]


def with_host(segments: Sequence[Segment], host: Host) -> onnx.ModelProto:
    """Write the host's sections around the segments of a spiking network.

    Args:
        segments: in order, with an island between each two.
        host: the sections.

    Returns:
        The whole, which is the model of the first segment.

    Raises:
        UnsupportedModelError: a tensor of the source network bears the name of the number of steps.
    """
    model = segments[0].model
    ports = {port.name: port for port in (*host.inputs, *host.outputs, *host.entries, *host.exits)}
    sections = [section for section in host.sections.values() if section is not None]
    taken = set(ports).union(*((*section.inputs, *section.outputs) for section in sections))
    if STEPS in taken:
        raise UnsupportedModelError(
            f"the source network calls a tensor {STEPS!r}, as an artefact does its number of steps: rename it"
        )
    steps = next(value for value in model.graph.input if value.name == STEPS)
    functions = {function.name for function in model.functions}
    nodes: list[NodeProto] = []
    if host.prefix is not None:
        nodes += _nodes_of(model, host.prefix, Section.PREFIX.value)
    for number, segment in enumerate(segments):
        if number:
            nodes += _nodes_of(model, host.islands[number - 1], island_name(number))
        inner = segment.model.graph
        places = _kept_apart(inner, taken)
        own = list(inner.node)
        values = [value for value in (*inner.input, *inner.output) if value.name != STEPS]
        if number:
            constants = [tensor for tensor in inner.initializer if tensor.name != STEPS]
            model.graph.initializer.extend(constants)
            model.graph.value_info.extend(inner.value_info)
            model.functions.extend(each for each in segment.model.functions if each.name not in functions)
            functions |= {each.name for each in segment.model.functions}
        model.graph.value_info.extend(values)
        taken |= _names(inner) - {STEPS}
        for name, entry in segment.entries.items():
            nodes += _enter(model, ports[name], entry, places.get(entry.name, entry.name))
        nodes += own
        for name, given in segment.exits.items():
            nodes += _leave(model, ports[name], places.get(given.name, given.name), given)
    if host.suffix is not None:
        nodes += _nodes_of(model, host.suffix, Section.SUFFIX.value)
    _tell_apart(nodes)
    graph = model.graph
    inputs = [*(_declared(port, host.batch) for port in host.inputs), steps]
    outputs = [_declared(port, host.batch) for port in host.outputs]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    known = {entry.domain for entry in model.opset_import} | {"ai.onnx"}
    for section in sections:
        for opset in section.model.opset_import:
            if opset.domain not in known:
                known.add(opset.domain)
                model.opset_import.append(opset)
    return model


def without_host(
    model: onnx.ModelProto, host: Mapping[str, Any]
) -> tuple[onnx.ModelProto, dict[str, HostSection | None]]:
    """Take the host's sections from an artefact.

    Args:
        model: the whole; not changed.
        host: what the artefact says of its host, see :meth:`snnc.source.host.Host.as_dict`.

    Returns:
        The model of the spiking network, and the sections by their names, ``None`` for each that is empty.

    Raises:
        LookupError, ValueError: the model is not of that form.
    """
    names = sorted(dict(host["sections"]), key=Section.named)
    parts: dict[str, list[NodeProto]] = {"": [], ENTER: [], LEAVE: []} | {name: [] for name in names}
    for node in model.graph.node:
        marks = {entry.key: entry.value for entry in node.metadata_props}
        parts[marks.get(SECTION, "")].append(node)
    body = onnx.ModelProto()
    body.CopyFrom(model)
    del body.graph.node[:]
    body.graph.node.extend(parts[""])
    return body, {
        name: _taken_out(model, parts[name], name, host["sections"][name], host["batch"]) for name in names
    }


def _taken_out(
    model: onnx.ModelProto,
    nodes: Sequence[NodeProto],
    name: str,
    border: Mapping[str, Any] | None,
    batch: int | None,
) -> HostSection | None:
    """Return a section as a model of its own."""
    if border is None or not nodes:
        if nodes or border is not None:
            raise ValueError(f"the {name} of the host is told of and missing, or the other way round")
        return None
    inputs, outputs = ([Port.from_dict(port) for port in border[key]] for key in ("inputs", "outputs"))
    own = f"{name}/"
    made = {port.name for port in outputs}  # a constant may be one
    stored = model.graph.initializer
    constants = [tensor for tensor in stored if tensor.name.startswith(own) or tensor.name in made]
    inner = {tensor.name for tensor in constants} | {output for node in nodes for output in node.output}
    places = {tensor: tensor.removeprefix(own) for tensor in inner}
    bare = []
    for node in nodes:
        kept = NodeProto()
        kept.CopyFrom(node)
        if _reads_files(kept):
            raise ValueError(f"a constant of {node.name!r} lies in another file")
        _rename(kept, places)
        del kept.metadata_props[:]
        kept.metadata_props.extend(entry for entry in node.metadata_props if entry.key != SECTION)
        bare.append(kept)
    graph = helper.make_graph(
        bare,
        name,
        [_declared(port, batch) for port in inputs],
        [_declared(port, batch) for port in outputs],
    )
    graph.initializer.extend(constants)
    for tensor in graph.initializer:
        tensor.name = places[tensor.name]
    opsets = [entry for entry in model.opset_import if entry.domain != DOMAIN]
    return HostSection(helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version), batch)


def _reads_files(node: NodeProto) -> bool:
    """Say whether a constant within a node lies in another file, which no hash would cover."""
    for attribute in node.attribute:
        tensors = [*attribute.tensors, attribute.t]
        sparse = [*attribute.sparse_tensors, attribute.sparse_tensor]
        for graph in (*attribute.graphs, attribute.g):
            tensors += graph.initializer
            sparse += graph.sparse_initializer
            if any(map(_reads_files, graph.node)):
                return True
        tensors += (part for tensor in sparse for part in (tensor.values, tensor.indices))
        if any(map(uses_external_data, tensors)):
            return True
    return False


def _declared(port: Port, batch: int | None) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
    sizes = [batch or "batch", *port.shape] if port.per_row else None
    return helper.make_tensor_value_info(port.name, element, sizes)


def _nodes_of(model: onnx.ModelProto, section: HostSection, name: str) -> list[NodeProto]:
    """Return the nodes of a section with their tensors named for an artefact, and add its constants."""
    border = {*section.inputs, *section.outputs}
    inner = section.model.graph
    own = {tensor.name for tensor in inner.initializer}
    own |= {output for node in inner.node for output in node.output if output}
    places = {tensor: f"{name}/{tensor}" for tensor in own - border}
    for tensor in inner.initializer:
        constant = TensorProto()
        constant.CopyFrom(tensor)
        # Parameters are moved to files as raw bytes.
        if not constant.HasField("raw_data"):
            constant = numpy_helper.from_array(numpy_helper.to_array(tensor))
        constant.name = places.get(tensor.name, tensor.name)
        model.graph.initializer.append(constant)
    found = []
    for node in inner.node:
        copy = NodeProto()
        copy.CopyFrom(node)
        _rename(copy, places)
        copy.metadata_props.add(key=SECTION, value=name)
        found.append(copy)
    return found


def _rename(node: NodeProto, places: Mapping[str, str]) -> None:
    """Give tensors other names, those that subgraphs read from outside included."""
    for names in (node.input, node.output):
        names[:] = [places.get(name, name) for name in names]
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            inside = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            inside |= {name for inner in graph.node for name in inner.output}
            outer = {name: place for name, place in places.items() if name not in inside}
            for inner in graph.node:
                _rename(inner, outer)
            for value in graph.output:
                value.name = outer.get(value.name, value.name)


def _tell_apart(nodes: Sequence[NodeProto]) -> None:
    """Give nodes another name where one of the spiking network, or one before them, has it already."""

    def is_network(node: NodeProto) -> bool:
        return any(entry.key == ORDER for entry in node.metadata_props)

    taken = {node.name for node in nodes if is_network(node)}
    for node in nodes:
        if node.name and not is_network(node):
            while node.name in taken:
                node.name += "#"
            taken.add(node.name)


def _names(graph: onnx.GraphProto) -> set[str]:
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    names |= {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
    return names | {tensor.name for tensor in graph.initializer}


def _kept_apart(graph: onnx.GraphProto, taken: Set[str]) -> dict[str, str]:
    """Rename the tensors of a segment that are called as one of the source, or of another, and return how."""
    names = _names(graph)
    places = {}
    for name in sorted(names & taken):
        place = f"{name} of spikes"
        while place in names | taken:
            place += "#"
        places[name] = place
    for node in graph.node:
        _rename(node, places)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = places.get(value.name, value.name)
    return places


class _Glue:
    """Writes nodes between a section and the spiking network."""

    def __init__(self, model: onnx.ModelProto, mark: str, name: str) -> None:
        self.constants = model.graph.initializer
        self.mark, self.name = mark, name
        self.nodes: list[NodeProto] = []

    def constant(self, wish: str, values: NumberArray) -> str:
        name = f"{self.mark}/{self.name}/{wish}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{self.mark}/{self.name}/{len(self.nodes)}"
        node = helper.make_node(operator, inputs, [output], **attributes)
        node.metadata_props.add(key=SECTION, value=self.mark)
        self.nodes.append(node)
        return output


def _enter(model: onnx.ModelProto, port: Port, entry: Entry, target: str) -> list[NodeProto]:
    """Write a tensor of the source network as the spiking network takes it."""
    glue, layout = _Glue(model, ENTER, port.name), entry.layout
    grid = glue.constant("grid", np.array([-1, *layout.grid], np.int64))
    value = glue.add("Cast", port.name, to=TensorProto.FLOAT)
    value = glue.add("Reshape", value, grid)
    glue.add("Transpose", value, output=target, perm=[0, *(axis + 1 for axis in layout.axes)])
    return glue.nodes


def _leave(model: onnx.ModelProto, port: Port, source: str, given: Exit) -> list[NodeProto]:
    """Write what a read-out has accumulated in the source network's units; see ``Readout.real``."""
    glue, layout = _Glue(model, LEAVE, port.name), given.layout
    scale = glue.constant("scale", np.asarray(given.scale, np.float64))
    steps = glue.add("Cast", STEPS, to=TensorProto.DOUBLE)
    unit = glue.add("Div", scale, steps)
    if given.gain is not None:
        unit = glue.add("Mul", glue.constant("gain", given.gain[None].astype(np.float64)), unit)
    total = glue.add("Cast", source, to=TensorProto.DOUBLE)
    value = glue.add("Mul", total, unit)
    value = glue.add("Cast", value, to=TensorProto.FLOAT)
    back = np.argsort(layout.axes)
    turned = [layout.grid[axis] for axis in layout.axes]
    value = glue.add("Reshape", value, glue.constant("channels first", np.array([-1, *turned], np.int64)))
    value = glue.add("Transpose", value, perm=[0, *(int(axis) + 1 for axis in back)])
    value = glue.add("Reshape", value, glue.constant("shape", np.array([-1, *port.shape], np.int64)))
    element = helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
    glue.add("Cast", value, output=port.name, to=element)
    return glue.nodes
