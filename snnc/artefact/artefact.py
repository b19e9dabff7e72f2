"""A converted network together with how it was made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape
from math import prod

import numpy as np
import onnx

from snnc.artefact.metadata import Metadata, attach
from snnc.artefact.writer import build_model
from snnc.data.preprocessing import Preprocessing, check_fit, prepared_rows
from snnc.data.readings import NetworkInput
from snnc.data.row_files import as_rows
from snnc.errors import NonFiniteError
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.layout import InputLayout
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.simulation.reference import encode


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
            "input": "x".join(map(str, self.layout.source_shape)),
            "preset": metadata.preset,
            "source": metadata.source_path,
        }

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

    def encode(self, x: NumberArray) -> IntArray:
        """Quantise a batch, which is the last that happens to it in floats.

        Args:
            x: (batch, ...): raw rows where the artefact holds a preprocessing, else as the source
                network takes them.

        Returns:
            ``q``, (batch, *input shape) int32, for a simulator.

        Raises:
            InputError: shape or type does not fit, or a value is not finite.
        """
        return encode(self.graph.encoder, self.canonical(x))

    @property
    def layout(self) -> InputLayout:
        """From the source network's input to this one's."""
        shape = self.graph.encoder.shape
        stored = self.metadata.input_layout
        return InputLayout.plain(shape, shape) if stored is None else InputLayout.from_dict(stored)

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

    def check_rows(self, x: NumberArray, name: str = "the rows") -> None:
        """Refuse rows, (n, ...), whose shape does not fit, all at once and by their name.

        Raises:
            InputError: the shape fits no layout, or more than one.
        """
        check_fit(x.shape, NetworkInput.of(self.layout), self.preprocessing, name)

    def canonical(self, x: NumberArray) -> FloatArray:
        """Bring a batch into the form of the model's input ``x``: float32, channels first.

        Args:
            x: as in :meth:`encode`.

        Raises:
            InputError: shape or type does not fit, or a value is not finite.
        """
        x = as_rows(x)
        layout = self.layout
        x = prepared_rows(x, NetworkInput.of(layout), self.preprocessing)
        rows: FloatArray = layout.to_canonical(x).astype(np.float32)
        if not np.isfinite(rows).all():
            raise NonFiniteError("the input holds NaN or infinity; check the preprocessing")
        return rows
