"""A converted network together with how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from snnc.artefact.host_nodes import Entry, Exit, Segment, with_host
from snnc.artefact.metadata import Json, Metadata, attach
from snnc.artefact.model_builder import tensor_names
from snnc.artefact.staged import BESIDE, SegmentSimulator
from snnc.artefact.writer import build_model
from snnc.data.material import given_rows
from snnc.data.preprocessing import Preprocessing, check_fit, for_inputs, prepared_rows
from snnc.data.readings import NetworkInput
from snnc.errors import InputError, NonFiniteError, UsageError
from snnc.ir.batch import Batch, Given, Rows, joined, rows_of
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, NumberArray, Shape
from snnc.ir.layout import InputLayout
from snnc.ir.segments import split
from snnc.ir.snn import Encode, IntegrateFire, Presented, SnnGraph
from snnc.metrics.ending import computes_end
from snnc.simulation.protocol import Simulator, Trace
from snnc.simulation.reference import encode_all
from snnc.source.finish import Finish
from snnc.source.host import Host
from snnc.source.host_sections import as_taken, island_name
from snnc.source.selection import Selection


@dataclass(frozen=True, eq=False, repr=False)  # no slots: what follows from the metadata is kept
class Artefact:
    """A spiking network and how it was made.

    Attributes:
        graph: the network.
        metadata: how it was made, and what its input means.
        host: what runs as ordinary ONNX before, between and behind the spikes; ``None`` for nothing.
    """

    graph: SnnGraph
    metadata: Metadata = field(default_factory=Metadata)
    host: Host | None = None

    def __repr__(self) -> str:
        """Return one line: what it is, not its weights."""
        facts = self._facts()
        return f"<Artefact {facts.pop('network')}: {', '.join(f'{k} {v}' for k, v in facts.items() if v)}>"

    def _repr_html_(self) -> str:
        """Return the same as a table, for notebooks."""
        cells = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in self._facts().items()
            if value
        )
        return f"<table><caption>snnc artefact</caption>{cells}</table>"

    def _facts(self) -> dict[str, str]:
        graph, metadata = self.graph, self.metadata
        populations = graph.of_type(IntegrateFire)
        return {
            "network": graph.name,
            "T": str(graph.timesteps),
            "settle steps": str(graph.settle_steps),
            "populations": str(len(populations)),
            "neurons": f"{sum(prod(node.shape) for node in populations):,}",
            "precision": "int8" if graph.integer else "float32",
            **self._interface(),
            "host": "" if self.host is None else f"{len(self.host.nodes)} nodes of ordinary ONNX",
            "islands": "" if self.host is None or not self.host.islands else str(len(self.host.islands)),
            "preset": metadata.preset,
            "source": metadata.source_path,
        }

    def _interface(self) -> dict[str, str]:
        """Return the shapes of inputs and outputs, by name where there are several."""
        found = {}
        taken = {name: each.shape for name, each in self.takes.items()}
        sides: tuple[tuple[str, Mapping[str, Any]], ...] = (("input", taken), ("output", self.gives))
        for what, sizes in sides:
            shapes = {name: "x".join(map(str, shape)) for name, shape in sizes.items()}
            if len(shapes) > 1:
                found[f"{what}s"] = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            elif what == "input":
                found[what] = next(iter(shapes.values()))
        return found

    def model(self, *, states: bool = False, sparse: bool = True) -> onnx.ModelProto:
        """Return the network as an ONNX model that any runtime runs.

        Args:
            states: whether to add the outputs ``N`` and ``v`` of every population after ``y``.
            sparse: whether weights of which many are zero are stored sparsely, as in the artefact's file.

        Raises:
            TargetError: the network's integers are too large for float32 convolutions.
        """
        metadata = self.metadata
        if self.host is None:
            model = build_model(self.graph, states=states, sparse=sparse)
        else:
            metadata = replace(metadata, host=self.host.as_dict())
            model = with_host([self._segment(each, states, sparse) for each in self.segments], self.host)
        attach(model, self.graph, metadata)
        return model

    @cached_property
    def segments(self) -> tuple[SnnGraph, ...]:
        """The parts of the network between which ordinary ONNX stands, in order; all of it for no islands."""
        return split(self.graph, self.input_segments) if self.input_segments else (self.graph,)

    @property
    def input_segments(self) -> Mapping[str, int]:
        """The number of the segment of each input, by its name; empty where there are no islands."""
        return {} if self.host is None else self.host.segments

    def require_one_run(self, what: str) -> None:
        """Refuse islands, which cut the network into runs that wait for one another.

        Args:
            what: that cannot take them, for the message.

        Raises:
            UsageError: there are some.
        """
        if self.host is not None and self.host.islands:
            first = next(node for node in self.host.nodes if node.section == island_name(1))
            raise UsageError(
                f"{what} takes a network that runs at once, and {self.graph.name} has islands of ordinary "
                f"ONNX between its spikes, the first with {first.operator} {first.name!r}"
            )

    def _segment(self, graph: SnnGraph, states: bool, sparse: bool) -> Segment:
        """Return a segment as a model, with what is known of its inputs and outputs."""
        order = {node.name: place for place, node in enumerate(self.graph)}
        names, layouts = tensor_names(graph), self.output_layouts
        given = zip(names.inputs, graph.inputs, strict=True)
        entries = {node.name: Entry(name, self.layouts[node.name]) for name, node in given}
        exits = {}
        for name, (output, node) in zip(names.outputs, graph.readouts.items(), strict=True):
            gain = None if node.gain is None else per_channel(node.gain, len(node.shape))
            exits[output] = Exit(name, layouts[output], node.scale, gain)
        return Segment(build_model(graph, states=states, sparse=sparse, order=order), entries, exits)

    def encode(self, x: Given) -> Rows:
        """Quantise a batch, which is the last that happens to it in floats.

        Args:
            x: (batch, ...): raw rows where the artefact holds a preprocessing, else as the source
                network takes them; of several inputs one array each, by name.

        Returns:
            ``q``, (batch, *input shape) int32, for a simulator; of several inputs a batch of them. Where
            there are islands, the inputs of the first segment and what goes past it, for :meth:`simulator`.

        Raises:
            InputError: shape or type does not fit, or a value is not finite.
        """
        if self.host is None or not self.host.islands:
            return encode_all(self.graph, self.canonical(x))
        known = self.before(x)
        first = self.segments[0]
        q = encode_all(first, joined({node.name: self._entry(node.name, known) for node in first.inputs}))
        found = {node.name: rows_of(q, node.name) for node in first.inputs}
        return Batch(found | {BESIDE + name: known[name] for name in self.host.beside})

    def inputs_of(self, q: Rows) -> Rows:
        """Return what :meth:`encode` returned without what goes past the first segment."""
        if self.host is None or not self.host.islands:
            return q
        return joined({node.name: rows_of(q, node.name) for node in self.segments[0].inputs})

    def simulator(self, simulator: Simulator) -> Simulator:
        """Return what runs this artefact's network, segment by segment where there are islands.

        Args:
            simulator: of one segment.
        """
        if self.host is None or not self.host.islands:
            return simulator
        return SegmentSimulator(simulator, self)

    def decode(self, trace: Trace, x: Given | None = None) -> dict[str, NDArray[Any]]:
        """Return what a run answered, by output, in the source network's units and layout.

        Values are those before a final softmax or sigmoid that the spiking network leaves out, which
        :attr:`ends` names. One that spikes compute is among them, as a softmax along an axis of a map is; and
        where the host keeps a part of the network, they are the source's outputs.

        Args:
            trace: of this artefact's network.
            x: the rows, as in :meth:`encode`; needed where the outputs depend on more than the read-outs.

        Returns:
            (batch, *shape of the source's output) float32, by the output's name.
        """
        if self.host is None:
            readouts = self.graph.readouts
            given = trace.outputs.items()
            return self.completed({n: readouts[n].decoded(y, trace.timesteps) for n, y in given}, x)
        return self._completed(self.read_out(trace), x)

    def read_out(self, trace: Trace) -> dict[str, NDArray[Any]]:
        """Return what read-outs give to the host, in the source's units and layout, by output."""
        readouts, layouts = self.graph.readouts, self.output_layouts
        found = {}
        for name, outputs in trace.outputs.items():  # as the nodes of the artefact compute it
            values = readouts[name].real(outputs, trace.timesteps).astype(np.float32)
            found[name] = layouts[name].to_source(values)
        return found

    def completed(self, values: Mapping[str, NumberArray], x: Given | None = None) -> dict[str, NDArray[Any]]:
        """Return the source network's outputs, where those of the graph are known.

        Args:
            values: (batch, *shape) of each of the graph's outputs, channels first, in the source's units.
            x: the rows, as in :meth:`decode`.
        """
        layouts = self.output_layouts
        return self._completed({name: layouts[name].to_source(value) for name, value in values.items()}, x)

    def _completed(self, values: dict[str, NDArray[Any]], x: Given | None) -> dict[str, NDArray[Any]]:
        if self.host is None:
            return values
        known: Mapping[str, NumberArray] = {}
        if self.host.reads_beside:
            if x is None:
                raise InputError("the outputs depend on the rows beside the spikes: give them, too")
            known = self.before(x)
        return self.host.behind(known, [values[port.name] for port in self.host.exits])

    @property
    def finish(self) -> Finish | None:
        """What ordinary ONNX makes of a run, for an evaluation; ``None`` where the host keeps nothing."""
        if self.host is None:
            return None
        ports = self.host.outputs
        uncounted = tuple(port.name for port in ports if not port.per_row)
        shapes = {port.name: port.shape for port in ports}
        return Finish(shapes, self.decode, uncounted, self.host.segments, self.simulator)

    @property
    def gives(self) -> dict[str, Shape]:
        """Shapes of the source network's outputs, by their names, in their order."""
        if self.finish is not None:
            return dict(self.finish.shapes)
        return {name: layout.source_shape for name, layout in self.output_layouts.items()}

    @property
    def layout(self) -> InputLayout:
        """From the source network's one input to this one's."""
        return self.layouts[self.graph.input.name]

    @cached_property
    def layouts(self) -> dict[str, InputLayout]:
        """From each of the source network's inputs to this one's, by name."""
        stored = {entry["name"]: entry["layout"] for entry in self.metadata.inputs}
        if self.metadata.input_layout is not None:
            stored[self.graph.input.name] = self.metadata.input_layout
        return {node.name: _layout(stored.get(node.name), node.shape) for node in self.graph.inputs}

    @cached_property
    def output_layouts(self) -> dict[str, InputLayout]:
        """From each of the source network's outputs to this one's, by name."""
        stored = {entry["name"]: entry["layout"] for entry in self.metadata.outputs}
        return {name: _layout(stored.get(name), node.shape) for name, node in self.graph.readouts.items()}

    def require_plain(self, what: str) -> None:
        """Refuse several inputs or outputs, and an output whose axes the source has in another order.

        Args:
            what: that cannot take them, for the message.

        Raises:
            UsageError: there are some.
        """
        sides: tuple[tuple[str, Mapping[str, Any]], ...] = (("input", self.takes), ("output", self.gives))
        for kind, side in sides:
            if len(side) > 1:
                names = ", ".join(map(repr, side))
                raise UsageError(
                    f"{what} takes a network of one {kind}, and {self.graph.name} has {len(side)}: {names}"
                )
        if self.host is None and next(iter(self.output_layouts.values())).moves:
            raise UsageError(
                f"{what} takes outputs as the last layer computes them, and {self.graph.name} transposes its "
                "output: convert the network without its last transpose"
            )

    @cached_property
    def ends(self) -> dict[str, str]:
        """The softmax or sigmoid that :meth:`decode` leaves out of each output, as ONNX operators.

        Empty where the source has none, and where spikes or ordinary ONNX compute it.
        """
        if self.host is not None:
            return dict.fromkeys(self.source_ends, "")
        found = self.source_ends.items()
        return {name: "" if computes_end(self.graph, name, end) else end for name, end in found}

    @property
    def source_ends(self) -> dict[str, str]:
        """The softmax or sigmoid that the source ends each output with, whoever computes it."""
        if self.host is not None:
            return {port.name: self.host.activations.get(port.name, "") for port in self.host.outputs}
        if len(self.graph.outputs) == 1:
            return {self.graph.output_names[0]: self.metadata.ends}
        stored = {entry["name"]: entry.get("ends", "") for entry in self.metadata.outputs}
        return {name: stored.get(name, "") for name in self.graph.output_names}

    @property
    def selection(self) -> Selection:
        """What was taken of the source's file."""
        return Selection.from_dict(self.metadata.selection)

    @cached_property
    def preprocessing(self) -> Preprocessing | None:
        """From raw rows to what the source network takes; ``None`` if there was none."""
        stored = self.metadata.preprocessing
        return None if stored is None else Preprocessing.stored(stored)

    def with_rows_layout(self, rows_layout: str | None) -> Artefact:
        """Return the same artefact for rows of a known layout, such as ``NHWC``; ``None`` changes nothing.

        Raises:
            InputError: there is no such layout.
        """
        if rows_layout is None:
            return self
        values = {**(self.preprocessing or Preprocessing()).as_dict(), "rows_layout": rows_layout}
        stored = Preprocessing.from_dict(values).as_dict()
        return replace(self, metadata=replace(self.metadata, preprocessing=stored))

    def check_rows(self, x: Given, name: str = "the rows") -> None:
        """Refuse rows, (n, ...), whose shape does not fit, all at once and by their name.

        Raises:
            InputError: the shape fits no layout, or more than one.
        """
        arrays, prepares = self._arrays(x), self._prepares
        for each, takes in self.takes.items():
            which = name if len(arrays) == 1 else f"{name} for {each!r}"
            check_fit(arrays[each].shape, takes, prepares[each], which)

    @cached_property
    def takes(self) -> dict[str, NetworkInput]:
        """What the artefact's inputs take, by their names, in their order."""
        found = {name: self._takes(name, layout) for name, layout in self.layouts.items()}
        if self.host is None:
            return found
        ports = self.host.inputs
        return {port.name: found.get(port.name) or NetworkInput.of_shape(port.shape) for port in ports}

    def _takes(self, name: str, layout: InputLayout) -> NetworkInput:
        """Return what an input takes: of frames as many as there are steps, or any number."""
        node = self.graph[name]
        if not isinstance(node, Encode) or not node.varies:
            return NetworkInput.of(layout)
        steps = self.graph.timesteps if node.presented is Presented.ACCUMULATED else None
        return NetworkInput.of_shape((steps, *layout.source_shape))

    @property
    def _prepares(self) -> dict[str, Preprocessing | None]:
        """What scales the rows of each input; frames are given as the network takes them."""
        found = for_inputs(self.preprocessing, self.takes)
        frames = {node.name for node in self.graph.encoders if node.varies}
        return {name: None if name in frames else each for name, each in found.items()}

    @property
    def accumulates(self) -> bool:
        """Whether rows are frames that add up to those of the source network."""
        return any(node.presented is Presented.ACCUMULATED for node in self.graph.encoders)

    def _arrays(self, x: Given) -> dict[str, NumberArray]:
        """Return the rows of every input by its name."""
        names = list(self.takes)
        return given_rows(x, names, self.graph.name, "the rows", self.preprocessing, is_fixed=True)

    def _prepared(self, x: Given) -> dict[str, NumberArray]:
        """Return the rows of every input as the source network takes them."""
        arrays, prepares = self._arrays(x), self._prepares
        found = {}
        for name, takes in self.takes.items():
            which = "the rows" if len(arrays) == 1 else f"the rows for {name!r}"
            found[name] = prepared_rows(arrays[name], takes, prepares[name], which)
        if self.host is None:  # which looks at its own
            whole = {entry["name"]: entry["dtype"] for entry in self.metadata.inputs}
            for name in found.keys() & whole.keys():
                if np.dtype(whole[name]).kind in "iub":
                    as_taken(found[name], name, whole[name])
        return found

    def canonical(self, x: Given) -> Rows:
        """Bring a batch into the form of the model's inputs: float32, channels first.

        Args:
            x: as in :meth:`encode`.

        Raises:
            InputError: shape or type does not fit, or a value is not finite.
            UsageError: what islands give is known in a run alone.
        """
        if self.host is not None and self.host.islands:
            raise UsageError(
                f"{self.graph.name} has islands of ordinary ONNX: what is encoded behind them depends on the "
                "spikes before them, and is not known before a run"
            )
        known = self.before(x)
        return joined({name: self._entry(name, known) for name in self.layouts})

    def before(self, x: Given) -> Mapping[str, NumberArray]:
        """Return the inputs of the source network and what ordinary ONNX makes of them before all spikes.

        Args:
            x: as in :meth:`encode`.
        """
        known = self._prepared(x)
        return known if self.host is None else self.host.before(known)

    def _entry(self, name: str, known: Mapping[str, NumberArray]) -> FloatArray:
        return self.encodable(name, known[name])

    def encodable(self, name: str, values: NDArray[Any]) -> FloatArray:
        """Return a tensor of the source network as an input of the spiking one: float32, channels first.

        Raises:
            NonFiniteError: a value is not finite.
        """
        layout, node = self.layouts[name], self.graph[name]
        found: FloatArray
        if isinstance(node, Encode) and node.varies:
            each = values.reshape(-1, *layout.source_shape)
            found = layout.to_canonical(each).astype(np.float32)
            found = found.reshape(*values.shape[:2], *node.shape)
        else:
            found = layout.to_canonical(values).astype(np.float32)
        if not np.isfinite(found).all():
            what = "the input" if len(self.layouts) == 1 else f"the input {name!r}"
            raise NonFiniteError(f"{what} holds NaN or infinity; check the preprocessing")
        return found


def _layout(stored: Json | None, shape: Shape) -> InputLayout:
    return InputLayout.plain(shape, shape) if stored is None else InputLayout.from_dict(stored)
