"""NIR files: HDF5 as the package ``nir`` writes it, in the version that a consumer reads.

They are written without that package, because each consumer needs another version of it, and an environment
can hold only one. Version 1.0.4 has no ``v_reset``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snnc.backends.nir.profiles import LONG, Cell, Profile
from snnc.backends.nir.program import (
    INPUT,
    OUTPUT,
    Conv,
    Dense,
    Fire,
    Flatten,
    Layer,
    Program,
    Step,
    Sum,
)
from snnc.errors import ArtefactError, UsageError
from snnc.ir.channels import per_channel
from snnc.ir.graph import Shape

WITHOUT_RESET = "1.0.4"

Group = Any
"""A group of an HDF5 file; what it holds shows only when it is read."""


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise UsageError("NIR files need h5py: python -m pip install h5py") from None
    return h5py


def write(program: Program, profile: Profile, path: Path) -> None:
    """Write a program.

    Raises:
        UsageError: h5py is not installed.
    """
    shapes = {INPUT: program.shape, **{step.name: step.shape for step in program.steps}}
    last = program.steps[-1]
    nodes: dict[str, dict[str, Any]] = {INPUT: {"type": "Input", "shape": np.array(program.shape)}}
    nodes |= {step.name: _fields(step, shapes[step.inputs[0]], profile) for step in program.steps}
    nodes[OUTPUT] = {"type": "Output", "shape": np.array(last.shape)}
    edges = [(name, step.name) for step in program.steps for name in step.inputs]
    write_graph(path, profile.reads, nodes, [*edges, (last.name, OUTPUT)])


def write_graph(
    path: Path, version: str, nodes: Mapping[str, dict[str, Any]], edges: Sequence[tuple[str, str]]
) -> None:
    """Write a graph.

    Args:
        path: of the file.
        version: of NIR, whose entries the nodes have.
        nodes: the entries of each, its type among them.
        edges: from node to node.

    Raises:
        UsageError: h5py is not installed.
    """
    h5py = _h5py()
    with h5py.File(path, "w") as file:
        _text(file, "version", version)
        graph = file.create_group("node")
        _text(graph, "type", "NIRGraph")
        group = graph.create_group("nodes")
        for name, fields in nodes.items():
            _node(group, name, fields)
        graph.create_dataset("edges", data=np.array(edges, object), dtype=h5py.string_dtype())


def _text(group: Group, name: str, text: str) -> None:
    group.create_dataset(name, data=text, dtype=_h5py().string_dtype())


def _node(nodes: Group, name: str, fields: dict[str, Any]) -> None:
    group = nodes.create_group(name)
    for key, value in fields.items():
        if isinstance(value, str):
            _text(group, key, value)
        elif isinstance(value, np.ndarray):
            group.create_dataset(key, data=value, compression="gzip")
        else:
            group.create_dataset(key, data=value)


def _fields(step: Step, before: Shape, profile: Profile) -> dict[str, Any]:
    """Return the entries of one node, under the names that NIR gives them."""
    match step.layer:
        case Conv(weight, bias, strides, padding, dilations):
            return {
                "type": "Conv2d",
                "input_shape": np.array(before[1:]),
                "weight": weight,
                "bias": bias,
                "stride": np.array(strides),
                "padding": np.array(padding),
                "dilation": np.array(dilations),
                "groups": 1,
            }
        case Dense(weight, bias):
            return {"type": "Affine", "weight": weight, "bias": bias}
        case Sum(kernel, strides):
            window = {"kernel_size": np.array(kernel), "stride": np.array(strides)}
            return {"type": "SumPool2d", **window, "padding": np.zeros(2, np.int64)}
        case Flatten():
            return {"type": "Flatten", "input_type": np.array(before), "start_dim": 0, "end_dim": -1}
        case Fire(threshold):
            column = per_channel(threshold, len(step.shape))
            fields: dict[str, Any] = {
                "type": profile.cell.value,
                "r": np.full(step.shape, profile.resistance, np.float32),
                "v_threshold": np.ascontiguousarray(np.broadcast_to(column, step.shape)),
            }
            if profile.reads != WITHOUT_RESET:
                fields["v_reset"] = np.zeros(step.shape, np.float32)
            if profile.cell is Cell.LIF:
                fields["tau"] = np.full(step.shape, LONG, np.float32)
                fields["v_leak"] = np.zeros(step.shape, np.float32)
            return fields


def read(path: Path, timesteps: int) -> Program:
    """Read what :func:`write` wrote.

    Args:
        path: the file.
        timesteps: how often the input is presented, which a NIR file does not say.

    Raises:
        ArtefactError: it is damaged or of another form.
        UsageError: h5py is not installed.
    """
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            return _program(file["node"], timesteps)
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise ArtefactError(f"{path}: no NIR file as snnc writes it ({error}); deploy again") from None


def _program(graph: Group, timesteps: int) -> Program:
    nodes = graph["nodes"]
    inputs: dict[str, list[str]] = {}
    for source, target in graph["edges"].asstr()[()]:
        inputs.setdefault(target, []).append(source)
    shapes: dict[str, Shape] = {INPUT: _shape(nodes[INPUT]["shape"])}
    steps = []
    for name in sorted(set(nodes) - {INPUT, OUTPUT}):
        layer = _layer(nodes[name])
        read = tuple(inputs[name])
        shapes[name] = _shape_after(layer, nodes[name], shapes[read[0]])
        steps.append(Step(name, layer, read, shapes[name]))
    return Program(shapes[INPUT], tuple(steps), timesteps)


def _shape(values: Any) -> Shape:
    return tuple(int(value) for value in values[()])


def _pair(values: Any) -> tuple[int, int]:
    down, across = _shape(values)
    return down, across


def _layer(node: Group) -> Layer:
    kind = node["type"].asstr()[()]
    match kind:
        case "Conv2d":
            pairs = (_pair(node[key]) for key in ("stride", "padding", "dilation"))
            return Conv(node["weight"][()], node["bias"][()], *pairs)
        case "Affine":
            return Dense(node["weight"][()], node["bias"][()])
        case "SumPool2d":
            return Sum(_pair(node["kernel_size"]), _pair(node["stride"]))
        case "Flatten":
            return Flatten()
        case "IF" | "LIF":
            threshold = node["v_threshold"][()]
            return Fire(threshold.reshape(len(threshold), -1)[:, 0], "")
        case _:
            raise ValueError(f"a node of type {kind}")


def _shape_after(layer: Layer, node: Group, before: Shape) -> Shape:
    """Return the shape of a node's output."""
    match layer:
        case Conv(weight, _, strides, padding, dilations):
            size = [
                (n + 2 * p - d * (k - 1) - 1) // s + 1
                for n, k, s, p, d in zip(
                    before[1:], weight.shape[2:], strides, padding, dilations, strict=True
                )
            ]
            return (len(weight), *size)
        case Dense(weight):
            return (len(weight),)
        case Sum(kernel, strides):
            size = [(n - k) // s + 1 for n, k, s in zip(before[1:], kernel, strides, strict=True)]
            return (before[0], *size)
        case Flatten():
            return (int(np.prod(before)),)
        case Fire():
            return tuple(node["v_threshold"].shape)
