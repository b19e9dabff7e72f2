"""A spiking network read back from its ONNX model: each node of the network is one call of a function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from operator import index
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from snnc.artefact.calls import node_of
from snnc.artefact.leaky_functions import read_leak
from snnc.artefact.model_builder import OWNER
from snnc.artefact.neuron_functions import firing_function
from snnc.artefact.sparse_weights import unpacked
from snnc.artefact.writer import FINE, ORDER, ORIGIN, PRESENTED, STANDS_FOR
from snnc.ir.graph import FloatArray, NumberArray, Shape
from snnc.ir.neuron import Code, Neuron
from snnc.ir.operations import Firing
from snnc.ir.snn import (
    MOST_BREAKPOINTS,
    Concat,
    ConstantCurrent,
    Delay,
    Encode,
    IntegrateFire,
    Presented,
    Readout,
    SnnNode,
)

POPULATIONS = {firing_function(kind): kind for kind in Firing}
"""How a population fires, by the name of its function."""

OF_TWO = ("CountProduct", "CountMatrixProduct", "CountMatrixProductTransposed")
"""Functions whose first two inputs are values of the network."""

OLD_SUFFIX = ".fine"
"""What fine populations were known by."""


def read_nodes(model: onnx.ModelProto, records: Sequence[Mapping[str, Any]] = ()) -> tuple[SnnNode, ...]:
    """Return the nodes of the network that :func:`snnc.artefact.writer.build_model` wrote, in its order.

    Args:
        model: the file.
        records: what the passes did; that of `fine-skip` names the populations that got a fine one.

    Raises:
        AttributeError, LookupError, TypeError, ValueError: the model is not of that form.
    """
    reader = _Reader()
    reader.arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    reader.read(model.graph)
    nodes = [reader.found[place] for place in sorted(reader.found)]
    return tuple(_identified(nodes, reader.untold, records))


def _identified(
    nodes: Sequence[SnnNode], untold: Set[str], records: Sequence[Mapping[str, Any]]
) -> Iterator[SnnNode]:
    """Yield the nodes with what their populations stand for, which files of older versions do not say.

    There a population bears the name of its rectifier, and a fine one that of its coarse one with a suffix.
    """
    # Where it is known which populations got a fine one, a name that looks like one's is just a name.
    coarse = {name for record in records for name in record.get("fine", ())}
    for node in nodes:
        if isinstance(node, IntegrateFire) and node.name in untold:
            base = node.name.removesuffix(OLD_SUFFIX)
            fine = base != node.name and (base in coarse or not records)
            node = node.with_(stands_for=base if fine else node.name, fine=fine)
        yield node


class _Reader:
    """Walks the model and the body of its loop.

    Attributes:
        arrays: parameters by tensor.
        sources: names of the network's nodes whose values a tensor sums.
        starts: parameters that states start from, by the node that they belong to.
        shapes: declared shapes of one sample, by tensor.
        found: nodes by their place in the network.
        untold: populations of which the file does not say what they stand for.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, NumberArray] = {}
        self.sources: dict[str, tuple[str, ...]] = {}
        self.starts: dict[str, NumberArray] = {}
        self.shapes: dict[str, Shape] = {}
        self.found: dict[int, SnnNode] = {}
        self.untold: set[str] = set()

    def read(self, graph: GraphProto) -> None:
        for value in (*graph.input, *graph.output, *graph.value_info):
            self.shapes[value.name] = tuple(size.dim_value for size in value.type.tensor_type.shape.dim)[1:]
        for node in graph.node:
            self.read_node(node)

    def read_node(self, node: NodeProto) -> None:
        metadata = {entry.key: entry.value for entry in node.metadata_props}
        if ORDER in metadata:
            found = self.network_node(node, metadata[ORIGIN])
            if isinstance(found, IntegrateFire) and STANDS_FOR in metadata:
                fine = {"true": True, "false": False}[metadata[FINE]]
                found = found.with_(stands_for=metadata[STANDS_FOR], fine=fine)
            elif isinstance(found, IntegrateFire):
                self.untold.add(found.name)
            elif isinstance(found, Encode) and PRESENTED in metadata:
                found = found.with_(presented=Presented(metadata[PRESENTED]), shape=found.shape[1:])
            self.found[int(metadata[ORDER])] = found
            self.sources[node.output[0]] = (node.name,)
        elif OWNER in metadata:
            self.starts[metadata[OWNER]] = self.arrays[node.input[0]].reshape(-1)
        elif node.op_type == "Loop":
            self.read(node.attribute[0].g)
        elif node.op_type == "SparseWeight":
            mask, values = (self.arrays[name] for name in node.input)
            shape = helper.get_attribute_value(node.attribute[0])
            self.arrays[node.output[0]] = unpacked(mask, values, shape)
        elif node.op_type == "Present" and node.input[0] in self.arrays:
            self.arrays[node.output[0]] = self.arrays[node.input[0]]
        elif node.op_type in ("Present", "Frame"):
            self.sources[node.output[0]] = self.sources[node.input[0]]
        elif node.op_type == "Add" and node.input[0] in self.sources:
            self.sources[node.output[0]] = self.sources[node.input[0]] + self.sources[node.input[1]]

    def network_node(self, node: NodeProto, origin: str) -> SnnNode:
        """Return the node of the network that an ONNX node stands for."""
        operation = node.op_type.partition("Of")[0]
        parameters = [self.arrays[name] for name in node.input[1:] if name in self.arrays]
        settings: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        read = node.input if operation == "Concat" else node.input[: 2 if operation in OF_TWO else 1]
        common: dict[str, Any] = {
            "name": node.name,
            "inputs": tuple(source for name in read for source in self.sources.get(name, ())),
            "shape": self.shapes[node.output[0]],
            "origin": origin,
        }
        common |= _unit(operation, settings)
        match operation:
            case "Encode" | "EncodeNormalised" | "EncodeBetween" | "EncodeNormalisedBetween":
                gain, offset = map(floats, parameters) if parameters else (None, None)
                return Encode(
                    **common,
                    scale=number(settings["scale"]),
                    limit=index(settings["limit"]),
                    low=index(settings["low"]) if "low" in settings else None,
                    high=index(settings["high"]) if "high" in settings else None,
                    gain=gain,
                    offset=offset,
                )
            case "ConstantCurrent":
                return ConstantCurrent(**common, values=self.arrays[node.input[0]])
            case "Concat":
                return Concat(**common)
            case "Delay":
                steps = index(settings["steps"])
                return Delay(**common, source=settings["source"].decode(), steps=steps)
            case "ReadoutLeaky":
                gain = np.array(settings["gain"], np.float32)
                found, leak = read_leak(settings, parameters[1:])
                return Readout(
                    **common,
                    **leak,
                    bias=parameters[0].reshape(-1),
                    scale=number(settings["scale"]),
                    gain=gain if "gain" in found else None,
                )
            case "Readout" | "ReadoutPerChannel":
                return Readout(
                    **common,
                    bias=self.starts[node.name],
                    scale=number(settings["scale"]),
                    gain=np.array(settings["gain"], np.float32) if "gain" in settings else None,
                )
            case _ if operation in POPULATIONS:
                return self.population(common, POPULATIONS[operation], parameters, settings)
            case _:
                return node_of(operation, common, parameters, settings)

    def population(
        self, common: dict[str, Any], kind: Firing, parameters: list[NumberArray], settings: dict[str, Any]
    ) -> IntegrateFire:
        """Return a population."""
        threshold, bias, *low = (values.reshape(-1) for values in parameters)
        spikes = settings.get("spikes_per_step")
        points = values = None
        if kind is Firing.STEPS:
            filled, values, _ = low
            points = np.ascontiguousarray(filled.reshape(-1, MOST_BREAKPOINTS)[:, : len(values) - 1])
            spikes, low = spikes or None, []
        leak: dict[str, Any] = {}
        if kind is Firing.LEAKY:
            (_, leak), low = read_leak(settings, low), []
        return IntegrateFire(
            **common,
            threshold=threshold,
            bias=bias,
            v_init=self.starts[common["name"]],
            spike_scale=np.array(settings["unit"], np.float32),
            floor=_floor(settings.get("floor", ())),
            neuron=Neuron(
                levels=index(settings["levels"]),
                spikes_per_step=None if spikes is None else index(spikes),
                count_memory=kind.remembers,
                code=Code(settings["code"].decode()),
            ),
            negative_threshold=low[0] if low else None,
            breakpoints=points,
            step_values=values,
            potential_unit=_told(settings.get("v_unit", ())),
            potential_zero=_told(settings.get("v_zero", ())),
            **leak,
        )


def _unit(operation: str, settings: dict[str, Any]) -> dict[str, FloatArray]:
    """Return what one count of a function of counts stands for, where that is told."""
    told = operation.startswith("Count") and "unit" in settings
    return {"unit": np.array(settings["unit"], np.float32)} if told else {}


def _told(values: Sequence[float]) -> FloatArray | None:
    """Return real numbers that a file may leave out."""
    return np.array(values, np.float32) if values else None


def _floor(values: Sequence[float]) -> FloatArray | None:
    """Return the values that silence stands for; ``None`` where they are zero."""
    return np.array(values, np.float32) if any(values) else None


def floats(values: NumberArray) -> FloatArray:
    """Return float32 numbers, one per channel.

    Raises:
        TypeError: they are no real numbers.
    """
    return values.reshape(-1).astype(np.float32, casting="same_kind")


def number(tensor: TensorProto) -> float:
    """Return the number that a tensor attribute holds.

    Raises:
        ValueError: it is of another type, or lies in another file, which no hash would cover.
    """
    if tensor.data_type != TensorProto.DOUBLE or uses_external_data(tensor):
        raise ValueError("an attribute holds no number")
    return float(numpy_helper.to_array(tensor))
