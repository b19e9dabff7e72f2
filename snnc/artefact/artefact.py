"""A converted network together with how it was made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape
from math import prod

import numpy as np
import onnx

from snnc.artefact.metadata import Json, Metadata, attach
from snnc.artefact.writer import build_model
from snnc.data.material import given_rows
from snnc.data.preprocessing import Preprocessing, check_fit, prepared_rows
from snnc.data.readings import NetworkInput
from snnc.errors import NonFiniteError
from snnc.ir.batch import Given, Rows, joined
from snnc.ir.graph import FloatArray, NumberArray, Shape
from snnc.ir.layout import InputLayout
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.simulation.protocol import Trace
from snnc.simulation.reference import encode_all


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Artefact:
    """A spiking network and how it was made.

    Attributes:
        graph: the network.
        metadata: how it was made, and what its input means.
    """

    graph: SnnGraph
    metadata: Metadata = field(default_factory=Metadata)

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
            **self._doors(),
            "preset": metadata.preset,
            "source": metadata.source_path,
        }

    def _doors(self) -> dict[str, str]:
        """Return the shapes of inputs and outputs, by name where there are several."""
        found = {}
        for what, layouts in (("input", self.layouts), ("output", self.output_layouts)):
            shapes = {name: "x".join(map(str, layout.source_shape)) for name, layout in layouts.items()}
            if len(shapes) > 1:
                found[f"{what}s"] = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            elif what == "input":
                found[what] = next(iter(shapes.values()))
        return found

    def model(self, *, states: bool = False) -> onnx.ModelProto:
        """Return the network as an ONNX model that any runtime runs.

        Args:
            states: whether to add the outputs ``N`` and ``v`` of every population after ``y``.

        Raises:
            TargetError: the network's integers are too large for float32 convolutions.
        """
        model = build_model(self.graph, states=states)
        attach(model, self.graph, self.metadata)
        return model

    def encode(self, x: Given) -> Rows:
        """Quantise a batch, which is the last that happens to it in floats.

        Args:
            x: (batch, ...): raw rows where the artefact holds a preprocessing, else as the source
                network takes them; of several inputs one array each, by name.

        Returns:
            ``q``, (batch, *input shape) int32, for a simulator; of several inputs a batch of them.

        Raises:
            InputError: shape or type does not fit, or a value is not finite.
        """
        return encode_all(self.graph, self.canonical(x))

    def decode(self, trace: Trace) -> dict[str, FloatArray]:
        """Return what a run answered, by output, in the source network's units and layout.

        Values are those before a final softmax or sigmoid, which spiking networks leave out.

        Args:
            trace: of this artefact's network.

        Returns:
            (batch, *shape of the source's output) float32, by the output's name.
        """
        layouts = self.output_layouts
        return {
            name: layouts[name].to_source(self.graph.readouts[name].decoded(value, trace.timesteps))
            for name, value in trace.outputs.items()
        }

    @property
    def layout(self) -> InputLayout:
        """From the source network's one input to this one's."""
        return self.layouts[self.graph.input.name]

    @property
    def layouts(self) -> dict[str, InputLayout]:
        """From each of the source network's inputs to this one's, by name."""
        stored = {entry["name"]: entry["layout"] for entry in self.metadata.inputs}
        if self.metadata.input_layout is not None:
            stored[self.graph.input.name] = self.metadata.input_layout
        return {node.name: _layout(stored.get(node.name), node.shape) for node in self.graph.inputs}

    @property
    def output_layouts(self) -> dict[str, InputLayout]:
        """From each of the source network's outputs to this one's, by name."""
        stored = {entry["name"]: entry["layout"] for entry in self.metadata.outputs}
        return {name: _layout(stored.get(name), node.shape) for name, node in self.graph.readouts.items()}

    @property
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
        arrays = self._arrays(x)
        for each, layout in self.layouts.items():
            which = name if len(arrays) == 1 else f"{name} for {each!r}"
            check_fit(arrays[each].shape, NetworkInput.of(layout), self.preprocessing, which)

    def _arrays(self, x: Given) -> dict[str, NumberArray]:
        """Return the rows of every input by its name."""
        names = [node.name for node in self.graph.inputs]
        return given_rows(x, names, self.graph.name, "the rows", self.preprocessing, is_fixed=True)

    def canonical(self, x: Given) -> Rows:
        """Bring a batch into the form of the model's inputs: float32, channels first.

        Args:
            x: as in :meth:`encode`.

        Raises:
            InputError: shape or type does not fit, or a value is not finite.
        """
        arrays = self._arrays(x)
        found: dict[str, FloatArray] = {}
        for name, layout in self.layouts.items():
            which = "the rows" if len(arrays) == 1 else f"the rows for {name!r}"
            prepared = prepared_rows(arrays[name], NetworkInput.of(layout), self.preprocessing, which)
            found[name] = layout.to_canonical(prepared).astype(np.float32)
            if not np.isfinite(found[name]).all():
                what = "the input" if len(arrays) == 1 else f"the input {name!r}"
                raise NonFiniteError(f"{what} holds NaN or infinity; check the preprocessing")
        return joined(found)


def _layout(stored: Json | None, shape: Shape) -> InputLayout:
    return InputLayout.plain(shape, shape) if stored is None else InputLayout.from_dict(stored)
