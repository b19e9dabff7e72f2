"""A model cut into sections, each a model of its own, so that one after the other they compute the whole.

What depends on constants and shapes alone is written into every section that reads it. The shape of a tensor
that lies elsewhere is known but for the batch, and is written as such.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter

from snnc.diagnostics import UNSUPPORTED_STRUCTURE, Diagnostic
from snnc.errors import InputError, UnsupportedModelError
from snnc.frontend.functions import DEFAULT_DOMAINS
from snnc.frontend.host.partition import Sections, Wiring, borders, segments
from snnc.frontend.refusals import MAX_VALUES
from snnc.frontend.simplify import label, reads
from snnc.frontend.tensor_shapes import LEAST_IR_VERSION, stored_within
from snnc.frontend.tensors import read_sparse
from snnc.ir.graph import NumberArray
from snnc.source.host_sections import HostSection, Port, Section

OPSET = 18
"""Version of the operator set that artefacts are written in, and so the host's sections."""

HOST_CURE = "export the network with standard operators; the host runs what onnxruntime does"

RESIZED_BY_CENTRES = 11
"""Version from which on Resize says how it places pixels; before, corners lay on each other."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A model in sections.

    Attributes:
        prefix, suffix: the host's; ``None`` where empty.
        islands: the host's between the segments.
        body: what is to be read as spikes.
        entries: the tensors that the body takes.
        exits: the tensors that it gives.
        wiring: of the model that was cut, in which tensors that pass over an island have a second name.
    """

    prefix: HostSection | None
    islands: tuple[HostSection, ...]
    body: onnx.ModelProto
    suffix: HostSection | None
    entries: tuple[str, ...]
    exits: tuple[str, ...]
    wiring: Wiring


def body_of(model: onnx.ModelProto, wiring: Wiring, sections: Sections) -> onnx.ModelProto:
    """Return what is to be read as spikes, as a model of its own."""
    model, wiring, sections = _passed_on(model, wiring, sections)
    entries, exits = borders(wiring, sections)
    return _Part(model, wiring, sections, segments(sections)).model(entries, exits)


def segments_by_entry(model: onnx.ModelProto, wiring: Wiring, sections: Sections) -> dict[str, int]:
    """Return the number of the segment that each tensor that spikes take belongs to, by its name."""
    _, wiring, sections = _passed_on(model, wiring, sections)
    return {
        name: segment.place // 2
        for segment in segments(sections)
        for name in wiring.entering(sections, segment)
    }


def cut(model: onnx.ModelProto, wiring: Wiring, sections: Sections) -> Cut:
    """Cut a model.

    Args:
        model: as :func:`snnc.frontend.simplify.simplify` returns it.
        wiring: of the model.
        sections: of its nodes.

    Raises:
        UnsupportedModelError: the host's part cannot be written in the artefact's version of ONNX.
    """
    model, wiring, sections = _passed_on(model, wiring, sections)
    entries, exits = borders(wiring, sections)
    body = _Part(model, wiring, sections, segments(sections)).model(entries, exits)
    known = [value.name for value in model.graph.input]
    made: dict[Section, HostSection] = {}
    for section in sorted({section for section in sections if section is not None}):
        leaving = wiring.leaving(sections, section)
        if section == Section.SUFFIX:
            leaving = [value.name for value in model.graph.output if value.name not in known]
        if section.is_host and leaving:  # of what nothing is asked but its shape, nothing is run
            part = _Part(model, wiring, sections, [section]).model(known, leaving)
            made[section] = _section(part, wiring)
        known += leaving
    prefix, suffix = made.pop(Section.PREFIX, None), made.pop(Section.SUFFIX, None)
    return Cut(prefix, tuple(made.values()), body, suffix, tuple(entries), tuple(exits), wiring)


def _passed_on(
    model: onnx.ModelProto, wiring: Wiring, sections: Sections
) -> tuple[onnx.ModelProto, Wiring, Sections]:
    """Give what a segment reads over an island a second name there, which the island makes.

    It is read out before the island and encoded again behind it: the spikes of the first run are over then.
    """
    names: dict[tuple[str, Section], str] = {}
    taken = {name for node in wiring.nodes for name in (*node.input, *node.output)} | wiring.inputs
    islands: dict[str, Section] = {}
    for segment in segments(sections)[1:]:
        island = Section(segment.place - 1)
        for name in wiring.entering(sections, segment):
            maker = wiring.makers.get(name)
            if maker is None or sections[maker] != island:
                second = f"{name} in {segment.value}"
                while second in taken:
                    second += "#"
                taken.add(second)
                names[name, segment], islands[second] = second, island
    if not names:
        return model, wiring, sections
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    placed: list[Section | None] = []
    waiting = dict(names)
    for node, section in zip(wiring.nodes, sections, strict=True):
        here = {name: second for (name, place), second in names.items() if place == section}
        for name in dict.fromkeys(reads(node)):
            if section is not None and (name, section) in waiting:
                second = waiting.pop((name, section))
                copy.graph.node.append(helper.make_node("Identity", [name], [second], name=second))
                placed.append(islands[second])
        own = onnx.NodeProto()
        own.CopyFrom(node)
        _rename_reads(own, here)
        copy.graph.node.append(own)
        placed.append(section)
    tensors = wiring.tensors
    second_of = {second: name for (name, _), second in names.items()}
    shapes = {second: tensors.shapes[name] for second, name in second_of.items() if name in tensors.shapes}
    types = {second: tensors.types[name] for second, name in second_of.items() if name in tensors.types}
    rows = {second for second, name in second_of.items() if name in tensors.rows}
    known = replace(
        tensors,
        shapes={**tensors.shapes, **shapes},
        types={**tensors.types, **types},
        rows=tensors.rows | rows,
    )
    return copy, Wiring(copy, known), tuple(placed)


def _rename_reads(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Let a node read tensors by other names, those that lie within it included."""
    if not names:
        return
    node.input[:] = [names.get(name, name) for name in node.input]
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            hidden = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            hidden |= {name for inner in graph.node for name in inner.output}
            outer = {name: second for name, second in names.items() if name not in hidden}
            for inner in graph.node:
                _rename_reads(inner, outer)
            for value in graph.output:
                value.name = outer.get(value.name, value.name)


def ports(wiring: Wiring, names: Iterable[str]) -> tuple[Port, ...]:
    """Return tensors with types and shapes."""
    tensors = wiring.tensors
    found = []
    for name in names:
        per_row = name in tensors.rows
        shape = tensors.shapes[name][1:] if per_row else ()
        dtype = helper.tensor_dtype_to_np_dtype(tensors.types[name]).name
        found.append(Port(name, dtype, shape, per_row))
    return tuple(found)


def _section(model: onnx.ModelProto, wiring: Wiring) -> HostSection:
    """Return a section with the artefact's version of the operator set, and proof that it is the same."""
    batch = wiring.tensors.batch
    _store_within(model.graph)
    before = HostSection(model, batch)
    try:
        before.open()
    except InputError as error:
        raise _refused(str(error), label(model.graph.node[0]), HOST_CURE) from error
    _require_rows_apart(before, wiring)
    version = max(entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS)
    if version == OPSET:
        return before
    section, problem = before, ""
    try:
        section = HostSection(_converted(model, version), batch)
        feeds = _made_up(before, wiring)
        wanted, found = before.run(feeds), section.run(feeds)
        differ = [name for name in wanted if not _close(wanted[name], found[name])]
        problem = f"{differ[0]!r} would be another" if differ else ""
    except Exception as error:  # noqa: BLE001, of many kinds, from C++ and Python
        problem = " ".join(str(error).split())[:120]
    if problem:
        raise _unwritable(model, problem)
    return section


def _require_rows_apart(section: HostSection, wiring: Wiring) -> None:
    """Refuse a section in which what becomes of a row is random, or depends on the others of its batch."""
    feeds = _made_up(section, wiring)
    rows = len(next(iter(feeds.values())))
    mixed: list[str] = []
    try:
        whole, again = section.run(feeds), section.run(feeds)
        random = [name for name, value in again.items() if not _close(value, whole[name])]
        if random:
            raise _refused(
                f"{random[0]!r} is another on every run", random[0], "export the network for inference"
            )
        # The first knows nothing of those behind it, such as in a running sum; a fixed batch is filled up.
        for row in sorted({0, 1, rows - 1}) if rows > 1 else ():
            alone = section.run({name: value[row : row + 1] for name, value in feeds.items()})
            mixed += [name for name, value in alone.items() if not _close(value, whole[name][row : row + 1])]
    except InputError:  # made-up values may be none that it takes
        return
    if mixed:
        message = f"{mixed[0]!r} of a row depends on the other rows of its batch"
        raise _refused(message, mixed[0], "export the network with batch 1, or fix it by --shape")


def _store_within(graph: onnx.GraphProto) -> None:
    """Bring constants that lie in other files into a graph, those of subgraphs included."""
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])]
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _store_within(inner)
    for tensor in tensors:
        within = stored_within(tensor)
        if within is not tensor:
            tensor.CopyFrom(within)


def _converted(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    converted = version_converter.convert_version(model, OPSET)
    if version < RESIZED_BY_CENTRES:
        for node in converted.graph.node:  # which the converter leaves at the new version's defaults
            if node.op_type == "Resize":
                kept = [
                    a
                    for a in node.attribute
                    if a.name not in ("coordinate_transformation_mode", "nearest_mode")
                ]
                del node.attribute[:]
                node.attribute.extend(kept)
                node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
                node.attribute.append(helper.make_attribute("nearest_mode", "floor"))
    return converted


def _made_up(section: HostSection, wiring: Wiring) -> dict[str, NumberArray]:
    """Return values for what a section reads, of as many rows as it takes at once, two where it takes any.

    They are normal numbers, and small whole ones.
    """
    generator = np.random.default_rng(0)
    feeds = {}
    for port in ports(wiring, section.inputs):
        shape = (section.batch or (1 if section.uncounted else 2), *port.shape)
        if math.prod(shape) > MAX_VALUES:
            message = f"what the host would run reads {port.name!r} of shape {shape}, more than is tried out"
            raise _refused(message, port.name, "export the network with a free batch, or smaller")
        floats = generator.normal(size=shape)
        whole = np.dtype(port.dtype).kind in "iub"
        feeds[port.name] = (generator.integers(0, 2, shape) if whole else floats).astype(port.dtype)
    return feeds


def _close(wanted: NumberArray, found: NumberArray) -> bool:
    """Say whether values are the same but for the rounding of other kernels."""
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(wanted, found))
    return wanted.shape == found.shape and bool(np.allclose(wanted, found, 1e-4, 1e-6, equal_nan=True))


def _unwritable(model: onnx.ModelProto, problem: str) -> UnsupportedModelError:
    message = f"what the host would run cannot be written with opset {OPSET}: {problem}"
    return _refused(message, label(model.graph.node[0]), f"export the network with opset {OPSET}")


def _refused(message: str, place: str, cure: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{message} ({cure})", (Diagnostic(UNSUPPORTED_STRUCTURE, message, place, cure),)
    )


class _Part:
    """Collects the nodes of one section, or of all segments."""

    def __init__(
        self, model: onnx.ModelProto, wiring: Wiring, sections: Sections, among: Collection[Section]
    ) -> None:
        self.source = model
        self.wiring = wiring
        self.own = {index for index, found in enumerate(sections) if found in among}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.sparse = {tensor.values.name: tensor for tensor in model.graph.sparse_initializer}
        self.still = {
            name: index
            for index, node in enumerate(wiring.nodes)
            if sections[index] is None
            for name in node.output
            if name
        }
        self.given: frozenset[str] = frozenset()

    def model(self, given: Sequence[str], wanted: Sequence[str]) -> onnx.ModelProto:
        """Return the section as a model.

        Args:
            given: what it may read.
            wanted: what it gives.
        """
        self.given = frozenset(given)
        kept = set(self.own)
        waiting = [name for index in self.own for name in reads(self.wiring.nodes[index])]
        waiting += wanted
        shapes: set[int] = set()
        read: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in read:
                continue
            read.add(name)
            index = self.still.get(name)
            if index is None or name in self.given:
                continue
            node = self.wiring.nodes[index]
            if self.wiring.is_known(node) and not self.is_here(node.input[0]):
                shapes.add(index)
            else:
                kept.add(index)
                waiting += reads(node)
        nodes: list[onnx.NodeProto] = []
        used = [name for name in given if name in read or name in wanted]
        reference = next((name for name in used if name in self.wiring.tensors.rows), "")
        extra: list[onnx.TensorProto] = []
        for index in sorted(kept | shapes):
            node = self.wiring.nodes[index]
            if index in shapes:
                if not reference:
                    used, reference = [*used, given[0]], given[0]
                nodes += self.shape(node, reference, extra)
            else:
                nodes.append(node)
        # An artefact's hash and its readers know of dense constants alone.
        dense = [
            numpy_helper.from_array(read_sparse(tensor), name)
            for name, tensor in self.sparse.items()
            if name in read
        ]
        graph = helper.make_graph(
            nodes,
            self.source.graph.name or "section",
            [self.value(name) for name in used],
            [self.value(name) for name in wanted],
            [*(tensor for name, tensor in self.constants.items() if name in read), *dense, *extra],
        )
        return helper.make_model(
            graph,
            opset_imports=list(self.source.opset_import),
            ir_version=max(self.source.ir_version, LEAST_IR_VERSION),
        )

    def is_here(self, name: str) -> bool:
        """Say whether a tensor is known in this section."""
        if name in self.given or name in self.constants or name in self.still:
            return True
        return self.wiring.makers.get(name, -1) in self.own

    def shape(
        self, node: onnx.NodeProto, reference: str, extra: list[onnx.TensorProto]
    ) -> Iterator[onnx.NodeProto]:
        """Write the shape of a tensor that lies elsewhere: its batch from one that lies here."""
        tensors, name, output = self.wiring.tensors, node.input[0], node.output[0]
        bounds = {attribute.name: attribute.i for attribute in node.attribute}
        sizes = list(tensors.shapes[name])
        places = range(len(sizes))[slice(bounds.get("start", 0), bounds.get("end", len(sizes)))]
        free = tensors.batch is None and name in tensors.rows and 0 in places
        rest = np.array([sizes[place] for place in places if place or not free], np.int64)
        constant = f"{output} sizes" if free else output
        extra.append(numpy_helper.from_array(rest, constant))
        if free:
            first, whole = f"{output} first", f"{output} of {reference}"
            extra.append(numpy_helper.from_array(np.array([0], np.int64), first))
            batch = f"{output} batch"
            yield helper.make_node("Shape", [reference], [whole])
            yield helper.make_node("Gather", [whole, first], [batch])
            yield helper.make_node("Concat", [batch, constant], [output], name=node.name, axis=0)

    def value(self, name: str) -> onnx.ValueInfoProto:
        """Declare a tensor."""
        tensors = self.wiring.tensors
        element = tensors.types.get(name, onnx.TensorProto.FLOAT)
        if name not in tensors.rows:
            return helper.make_tensor_value_info(name, element, None)
        sizes: list[int | str] = list(tensors.shapes[name])
        if tensors.batch is None:
            sizes[0] = "batch"
        return helper.make_tensor_value_info(name, element, sizes)
