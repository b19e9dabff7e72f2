"""NIR files: HDF5 as the package ``nir`` writes it, with graphs inside graphs laid open."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from snnc.errors import InputError, NonFiniteError, UnsupportedModelError, UsageError

GRAPH = "NIRGraph"
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "Input": ("shape",),
    "Output": ("shape",),
    "Affine": ("weight", "bias"),
    "Linear": ("weight",),
    "Scale": ("scale",),
    "Conv1d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "Conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "SumPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "Flatten": ("start_dim", "end_dim"),
    "Threshold": ("threshold",),
    "Delay": ("delay",),
    "IF": ("r", "v_threshold"),
    "LIF": ("tau", "r", "v_leak", "v_threshold"),
    "LI": ("tau", "r", "v_leak"),
    "CubaLIF": ("tau_mem", "tau_syn", "r", "v_leak", "v_threshold", "w_in"),
}
"""The kinds of nodes that are read, and what each must have."""

NEURONS = ("Threshold", "IF", "LIF", "LI", "CubaLIF")
"""The kinds that read currents and give spikes or potentials."""

VERSIONS = ("0.", "1.")
"""What the versions begin with whose files are read."""


@dataclass(frozen=True, slots=True)
class NirNode:
    """One node.

    Attributes:
        name: of the node, behind those of the graphs that it lies in.
        kind: its type in NIR.
        values: its parameters, as they are stored; paddings may be words.
    """

    name: str
    kind: str
    values: Mapping[str, Any]

    def array(self, name: str) -> np.ndarray:
        """Return a parameter as float64; zeros as large as the threshold for an absent ``v_reset``."""
        if name == "v_reset" and name not in self.values:
            return np.zeros_like(self.array("v_threshold"))
        return np.asarray(self.values[name], np.float64)

    def pair(self, name: str) -> tuple[int, int]:
        """Return a parameter of two integers, one serving both."""
        found = np.atleast_1d(self.values[name]).astype(int).tolist()
        return (found[0], found[-1])


@dataclass(frozen=True, slots=True)
class NirGraph:
    """A network without graphs inside.

    Attributes:
        path: the file.
        sha256: its hash.
        nodes: by name, each after all that it reads.
        inputs: what each node reads of its own step, in the order of the file.
        late: what nodes at which a circle is entered read of the step before, or, behind a Delay, of others.
    """

    path: Path
    sha256: str
    nodes: Mapping[str, NirNode]
    inputs: Mapping[str, tuple[str, ...]]
    late: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_nir(path: Path) -> NirGraph:
    """Read a file.

    Raises:
        InputError: it is missing, damaged, or no NIR file; a parameter is NaN or infinite.
        UnsupportedModelError: a node or the version is unknown, or nothing says which node of a circle
            reads the step before.
        UsageError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise UsageError("NIR files need h5py: python -m pip install h5py") from None
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with h5py.File(path, "r") as file:
            version = _text(file["version"]) if "version" in file else ""
            if not version.startswith(VERSIONS):
                raise UnsupportedModelError(
                    f"{path} is of NIR version {version or 'unknown'}: write it by nir 1.0"
                )
            if _text(file["node/type"]) != GRAPH:
                raise UnsupportedModelError(f"{path} holds a single node: write a NIRGraph")
            nodes: dict[str, NirNode] = {}
            edges: list[tuple[str, str]] = []
            _lay_open(path, file["node"], "", nodes, edges)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read as a NIR file ({reason}): write it again") from None
    except (KeyError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path} is no NIR file, or damaged ({error}): write it again") from None
    return _ordered(path, digest, nodes, edges)


def _text(value: Any) -> str:
    found = value[()]
    return found.decode() if isinstance(found, bytes) else str(found)


def _lay_open(
    path: Path, group: Any, prefix: str, nodes: dict[str, NirNode], edges: list[tuple[str, str]]
) -> None:
    """Add the nodes and edges of a graph, and of the graphs in it.

    A graph inside takes and gives values by its own nodes Input and Output, which stay as such.
    """
    ports: dict[str, tuple[str, str]] = {}
    for name, inner in group["nodes"].items():
        kind, full = _text(inner["type"]), prefix + name
        if kind == GRAPH:
            _lay_open(path, inner, f"{full}.", nodes, edges)
            kinds = {key: _text(node["type"]) for key, node in inner["nodes"].items()}
            ends = [[key for key, each in kinds.items() if each == port] for port in ("Input", "Output")]
            if any(len(each) != 1 for each in ends):
                raise UnsupportedModelError(
                    f"{path}: the graph {full!r} has {len(ends[0])} inputs and {len(ends[1])} outputs; give "
                    "it one of each"
                )
            ports[name] = (f"{full}.{ends[0][0]}", f"{full}.{ends[1][0]}")
            continue
        if kind not in PARAMETERS:
            raise UnsupportedModelError(
                f"{path}: the node {full!r} is {kind}, which is not read; known are {', '.join(PARAMETERS)}"
            )
        values = {key: inner[key][()] for key in inner if key not in ("type", "metadata")}
        values = {key: each.decode() if isinstance(each, bytes) else each for key, each in values.items()}
        missing = [key for key in PARAMETERS[kind] if key not in values]
        if missing:
            raise InputError(f"{path}: the {kind} {full!r} has no {missing[0]}: write it again")
        for key, value in values.items():
            array = np.asarray(value)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise NonFiniteError(f"{path}: {key} of {full!r} holds NaN or infinity: train it again")
        nodes[full] = NirNode(full, kind, values)
        ports[name] = (full, full)
    for start, end in group["edges"][()]:
        edges.append((ports[start.decode()][1], ports[end.decode()][0]))


def _ordered(
    path: Path, digest: str, nodes: Mapping[str, NirNode], edges: Iterable[tuple[str, str]]
) -> NirGraph:
    """Order nodes so that each comes after what it reads of its own step.

    A recurrent connection brings the spikes of the step before: to the node at which its circle is entered.
    """
    inputs: dict[str, list[str]] = {name: [] for name in nodes}
    for start, end in edges:
        inputs[end].append(start)
    ordered: dict[str, NirNode] = {}
    late: dict[str, tuple[str, ...]] = {}
    waiting = list(nodes)
    while waiting:
        ready = [name for name in waiting if all(each in ordered for each in inputs[name])]
        if not ready:
            entry, circle = _entered(path, nodes, inputs, waiting, ordered)
            late[entry] = tuple(name for name in inputs[entry] if name in circle)
            inputs[entry] = [name for name in inputs[entry] if name not in circle]
        ordered |= {name: nodes[name] for name in ready}
        waiting = [name for name in waiting if name not in ordered]
    return NirGraph(path, digest, ordered, {name: tuple(each) for name, each in inputs.items()}, late)


def _entered(
    path: Path,
    nodes: Mapping[str, NirNode],
    inputs: Mapping[str, Sequence[str]],
    waiting: Sequence[str],
    ordered: Container[str],
) -> tuple[str, frozenset[str]]:
    """Return the one node at which a circle is entered from the input, and the circle."""
    entries = [name for name in waiting if any(each in ordered for each in inputs[name])]
    for entry in entries:
        circle = _behind(inputs, entry, ordered) & {
            name for name in waiting if entry in _behind(inputs, name, ordered)
        }
        if circle and not circle.intersection(entries) - {entry}:
            without = {name: each for name, each in inputs.items() if nodes[name].kind not in NEURONS}
            if nodes[entry].kind not in NEURONS and entry in _behind(without, entry, ordered):
                raise UnsupportedModelError(
                    f"{path}: {entry!r} reads itself in a circle without neurons: leave the circle out"
                )
            return entry, circle
    names = ", ".join(map(repr, entries or waiting))
    raise UnsupportedModelError(
        f"{path}: {names} read each other in a circle, and nothing says which of them reads the step before: "
        "give the circle one entry"
    )


def _behind(inputs: Mapping[str, Sequence[str]], name: str, ordered: Container[str]) -> frozenset[str]:
    """Return what a node depends on among those that are not ordered yet."""
    found: set[str] = set()
    pending = [*inputs.get(name, ())]
    while pending:
        each = pending.pop()
        if each not in found and each not in ordered:
            found.add(each)
            pending.extend(inputs.get(each, ()))
    return frozenset(found)
