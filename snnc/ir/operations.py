"""The one classification of the kinds of nodes and of neurons.

Code that depends on what a network computes (a simulator, a backend, a pass, a proof, a cost model, the
artefact) iterates over :func:`operations` and matches kinds of nodes and :class:`Firing`; the last case is
:func:`unmatched`, by which the type checker proves the match complete::

    for node in operations(graph):
        match node:
            case IntegrateFire():
                match firing(node):
                    case Firing.PLAIN: ...
                    case Firing.LIMITED | Firing.HESITANT | Firing.GRADED: ...
                    case other: raise unmatched(other)
            ...
            case _:
                raise unmatched(node)

A new kind of node goes into :data:`snnc.ir.snn.Operation`, and a new setting of neurons into ``known`` of its
class and, if it selects another rule, into :class:`Firing`: mypy then names every place that must handle it.
All of them refuse nodes of other classes, and settings that are not known and differ from their default.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from math import prod
from typing import Any, Never, get_args
from weakref import WeakSet

import numpy as np

from snnc.errors import UnknownOperationError
from snnc.ir import ann
from snnc.ir.ann import AnnOperation
from snnc.ir.channels import per_channel
from snnc.ir.geometry import ABSENT, source_channels
from snnc.ir.graph import Graph, IntArray, Node, Shape
from snnc.ir.neuron import Firing as Firing
from snnc.ir.neuron import Neuron
from snnc.ir.snn import Gather, IntegrateFire, Reshape, SnnGraph, SnnNode
from snnc.ir.snn import Operation as Operation

KINDS: frozenset[type] = frozenset(get_args(Operation))
ANN_KINDS: frozenset[type] = frozenset(get_args(AnnOperation))

SETTINGS: dict[type, frozenset[str]] = {kind: kind.known for kind in (Neuron, IntegrateFire, ann.Relu)}
"""The fields of neurons and rectifiers that are known; those that select a rule make a :class:`Firing`."""


def operations(graph: SnnGraph) -> tuple[Operation, ...]:
    """Return the nodes of a network in order, all of known kinds and settings.

    Raises:
        UnknownOperationError: one is not.
    """
    return tuple(map(classified, graph))


def check_known(graph: Graph[Any]) -> None:
    """Refuse a network of either dialect that has unknown nodes or settings.

    Raises:
        UnknownOperationError: there is one.
    """
    if graph in _KNOWN:
        return
    for node in graph:
        _check(node)
    _KNOWN.add(graph)


_KNOWN: WeakSet[Graph[Any]] = WeakSet()
"""Graphs that were looked through: they never change, and a simulator is asked once for every row."""


def _check(node: Node) -> None:
    if (reason := unknown(node)) is not None:
        raise UnknownOperationError(f"{type(node).__name__} {node.name!r}: {reason}")


def populations(graph: SnnGraph) -> tuple[tuple[IntegrateFire, Firing], ...]:
    """Return the populations of a network in order, and how each fires.

    Raises:
        UnknownOperationError: a node or a setting is unknown.
    """
    return tuple((node, firing(node)) for node in operations(graph) if isinstance(node, IntegrateFire))


def classified(node: SnnNode) -> Operation:
    """Return a node as one of the known kinds.

    Raises:
        UnknownOperationError: its kind, or a setting that it has, is not listed here.
    """
    _check(node)
    return node  # type: ignore[return-value]


def unknown(node: Node) -> str | None:
    """Name the unknown kind or setting of a node of either dialect; ``None`` if there is none."""
    if type(node) not in KINDS and type(node) not in ANN_KINDS:
        return f"{type(node).__name__} is no operation that this version of snnc knows"
    parts: list[Any] = [node]
    if isinstance(node, IntegrateFire):
        if type(node.neuron) is not Neuron:
            return f"{type(node.neuron).__name__} is no neuron that this version of snnc knows"
        parts.append(node.neuron)
    for part in parts:
        kind: Any = type(part)
        listed = SETTINGS.get(kind)
        for field in () if listed is None else _unlisted(kind, listed):
            if not _default(part, field):
                return f"the setting {field.name!r} is none that this version of snnc knows"
    return None


@cache
def _unlisted(kind: Any, listed: frozenset[str]) -> tuple[dataclasses.Field[Any], ...]:
    return tuple(field for field in dataclasses.fields(kind) if field.name not in listed)


def _default(settings: Any, field: dataclasses.Field[Any]) -> bool:
    value = getattr(settings, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return bool(np.array_equal(value, field.default_factory()))
    return value is field.default or (
        field.default is not dataclasses.MISSING and bool(np.array_equal(value, field.default))
    )


def firing(node: IntegrateFire) -> Firing:
    """Return how a population fires, from all of its settings.

    Raises:
        UnknownOperationError: it has a setting that is not known.
    """
    classified(node)
    if node.breakpoints is not None:
        return Firing.STEPS
    if node.leaky:
        return Firing.LEAKY
    return node.neuron.firing(negative_threshold=node.negative_threshold is not None)


def largest_spike(node: IntegrateFire, timesteps: int, settle_steps: int = 0) -> int:
    """Return the largest magnitude of what a neuron sends in one step of a run.

    The count of a step function may go from one end to the other in one step, where nothing limits it.
    """
    most = node.neuron.largest(timesteps)
    if firing(node) is Firing.STEPS and node.neuron.limit is None and timesteps + settle_steps > 1:
        return max(most, node.span())
    return most


def largest_count(node: IntegrateFire, timesteps: int, settle_steps: int = 0) -> int:
    """Return the most that a neuron has sent at the end of a run, ``N(T + K)``."""
    if firing(node).remembers:
        return node.neuron.capacity(timesteps)
    return node.neuron.largest(timesteps) * (timesteps + settle_steps)


def channel_links(node: Operation, shape: Shape) -> tuple[IntArray, IntArray] | None:
    """Return which channels of a node's result hold values of which channels of what it reads.

    Args:
        node: one that moves or pools currents.
        shape: of what it reads.

    Returns:
        Channels of the result, and for each of them one of what is read, without repetition; ``None`` where
        each channel is its own.
    """
    index: IntArray
    match node:
        case Reshape() if node.shape[0] == shape[0]:
            return None
        case Reshape():
            index = np.arange(prod(shape)).reshape(node.shape)
        case Gather():
            index = node.index
        case _:
            return None
    inputs = source_channels(index, shape)
    outputs = np.broadcast_to(per_channel(np.arange(node.channels), len(node.shape)), node.shape)
    present = inputs != ABSENT
    pairs = np.unique(np.stack([outputs[present], inputs[present]]), axis=1)
    return pairs[0], pairs[1]


def unmatched(thing: Never) -> UnknownOperationError:
    """Return the error of a match without a matching case; the type checker reports kinds without a case."""
    what = f"{type(thing).__name__} {getattr(thing, 'name', thing)!r}"
    return UnknownOperationError(f"nothing is known of {what} here")
