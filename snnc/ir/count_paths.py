"""What functions of counts read in a network of the ordinary dialect, through all that only moves values.

A function of counts sees integers alone, so all that it reads must be spikes whose silence stands for zero.
It knows no channels, so that all of them must have one unit; but a product value by value works on each
channel by itself, and its counts have a unit for each channel, that of one factor times that of the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from snnc.ir.ann import (
    AnnGraph,
    AveragePool,
    Concat,
    Gather,
    InnerSoftmax,
    MatrixProduct,
    Maximum,
    MaxPool,
    Normalisation,
    Pad,
    Product,
    Reshape,
    Slice,
)
from snnc.ir.geometry import ABSENT

COUNT_FUNCTIONS = (Product, MatrixProduct, Normalisation, InnerSoftmax, Maximum)
"""What becomes a function of spike counts."""

MOVES = (Reshape, Gather, Slice, Pad, Concat, MaxPool, AveragePool)
"""What spikes pass with their unit, or all with the same part of it."""


def read_by_counts(graph: AnnGraph) -> tuple[frozenset[str], ...]:
    """Return the nodes whose values functions of counts read, grouped by those that must share one unit.

    These are the nodes before all moves: activations, linear values, inputs. Those that meet in one operand,
    as in a concatenation, are of one group.
    """
    return _grouped(
        graph, [name for node in graph if isinstance(node, COUNT_FUNCTIONS) for name in node.inputs]
    )


def sharing_one_unit(graph: AnnGraph) -> tuple[frozenset[str], ...]:
    """Return those of them all of whose channels must share one unit, with the others of their group."""
    common: set[str] = set()
    operands: list[str] = []
    for node in reversed(tuple(graph)):
        if not isinstance(node, COUNT_FUNCTIONS):
            continue
        apart = isinstance(node, Product) and node.name not in common
        if apart and all(_keeps_channels(graph, name) for name in node.inputs):
            continue
        for name in node.inputs:
            operands.append(name)
            common.update(_sources(graph, name))
        common.add(node.name)
    return _grouped(graph, operands)


def _keeps_channels(graph: AnnGraph, name: str) -> bool:
    """Whether values that a function reads are moved within their channels, or channel by channel."""
    node = graph[name]
    if not isinstance(node, MOVES):
        return True
    if isinstance(node, Reshape | Gather) and not node.keeps_channels(graph[node.inputs[0]].shape):
        return False
    return all(_keeps_channels(graph, source) for source in node.inputs)


def _grouped(graph: AnnGraph, operands: Iterable[str]) -> tuple[frozenset[str], ...]:
    """Return what operands are made of; those that share something are of one group."""
    group_of: dict[str, set[str]] = {}
    for name in operands:
        found = set(_sources(graph, name))
        groups = {id(group): group for source in found if (group := group_of.get(source)) is not None}
        largest = max(groups.values(), key=len, default=found)
        for group in (*groups.values(), found):
            if group is not largest:
                largest |= group
                group_of.update(dict.fromkeys(group, largest))
        group_of.update(dict.fromkeys(found, largest))
    order = {node.name: place for place, node in enumerate(graph)}
    groups = {id(group): group for group in group_of.values()}
    return tuple(
        frozenset(group)
        for group in sorted(groups.values(), key=lambda group: min(order[name] for name in group))
    )


def softmax_of(graph: AnnGraph, names: Collection[str]) -> InnerSoftmax | None:
    """Return the softmax that alone reads some values, moved perhaps; ``None`` where others read them, too.

    It knows differences of its arguments alone, so that no zero beside these may be between.
    """
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in graph.outputs:
            return None
        for reader in graph.consumers[name]:
            if isinstance(reader, InnerSoftmax):
                found.add(reader.name)
            elif isinstance(reader, Reshape | Slice | Concat) or (
                isinstance(reader, Gather) and bool((reader.index != ABSENT).all())
            ):
                waiting.append(reader.name)
            else:
                return None
    only = graph[found.pop()] if len(found) == 1 else None
    return only if isinstance(only, InnerSoftmax) else None


def _sources(graph: AnnGraph, name: str) -> Iterator[str]:
    node = graph[name]
    if not isinstance(node, MOVES):
        yield name
        return
    for source in node.inputs:
        yield from _sources(graph, source)
