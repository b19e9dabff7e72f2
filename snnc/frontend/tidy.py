"""Merging after reading: forms that exporters write as two operations, and the IR as one.

1. A convolution or dense layer, then a constant shift: a bias.
2. Zero padding of height and width, then a convolution: the convolution's own pads. Zero padding of channels,
   then weights: the weights without those channels.
3. Two rectifiers in a row, as in ``Clip(Relu(x), 0, 6)``: one with the lower ceiling.
4. Two scalings in a row: one.

The merged node stands where the second operation stood. In 1 and 3 it is the first operation with changed
values, in 2 and 4 the second.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from snnc.ir import ann


def tidy(graph: ann.AnnGraph) -> ann.AnnGraph:
    """Drop the nodes that the output does not need, and merge the others in one walk."""
    needed = graph.ancestors(graph.outputs)
    live = [node for node in graph if node.name in needed or isinstance(node, ann.Input)]
    uses = Counter(name for node in live for name in set(node.inputs))
    uses.update(graph.outputs)
    kept: dict[str, ann.AnnNode] = {}
    renamed: dict[str, str] = {}
    for original in live:
        node = original
        if renamed.keys() & set(node.inputs):
            node = node.with_(inputs=tuple(renamed.get(name, name) for name in node.inputs))
        first = kept[node.inputs[0]] if len(node.inputs) == 1 else None
        merged = None if first is None else _merged(first, node, shared=uses[first.name] > 1)
        if first is not None and merged is not None:
            uses[first.name] -= 1
            uses[merged.name] = uses[original.name]
            if first.name == merged.name or not uses[first.name]:
                del kept[first.name]
            else:  # a padded image that others read too
                uses[first.inputs[0]] += 1
            renamed[original.name] = merged.name
            node = merged
        kept[node.name] = node
    return graph.with_nodes(tuple(kept.values()), tuple(renamed.get(name, name) for name in graph.outputs))


def _merged(first: ann.AnnNode, second: ann.AnnNode, *, shared: bool) -> ann.AnnNode | None:
    """Return one node that computes both, or ``None``; ``shared`` says that others read the first."""
    match first, second:
        case ann.Pad(), ann.Convolution() if any(first.before[1:] + first.after[1:]):
            return _pad_into(first, second)
        case ann.Pad(), ann.Convolution() | ann.Linear():
            return _without_zeros(first, second)
        case _ if shared:
            return None
        case (ann.Convolution() | ann.Linear(), ann.ChannelAffine()) if (second.scale == 1).all():
            return first.with_(bias=first.bias + second.shift)
        case ann.Relu(), ann.Relu() if first.scale is not None or second.scale is not None:
            return _levels_together(first, second)
        case ann.Relu(), ann.Relu():
            limits = [limit for limit in (first.ceiling, second.ceiling) if limit is not None]
            return first.with_(ceiling=np.minimum.reduce(limits) if limits else None)
        case ann.ChannelAffine(), ann.ChannelAffine():
            return second.with_(
                inputs=first.inputs,
                scale=second.scale * first.scale,
                shift=second.scale * first.shift + second.shift,
            )
        case _:
            return None


def _levels_together(first: ann.Relu, second: ann.Relu) -> ann.AnnNode | None:
    """Return one rectifier for two of which one rounds: its levels end where the other's limits do."""
    rounds, limits = (second, first) if second.scale is not None else (first, second)
    if rounds.scale is None or (limits.shift is not None and limits.scale is None):
        return None
    if limits.scale is not None:
        same = np.array_equal(limits.scale, rounds.scale) and first.gain is second.gain is None
        if not same or first.points is not None or second.points is not None:
            return None
        return with_levels(first, max(first.lowest, second.lowest), min(first.highest, second.highest))
    highest = rounds.highest
    if limits.ceiling is not None:
        ends = limits.ceiling.astype(np.float64) / rounds.scale
        tops = np.unique(np.floor(ends) if rounds.rounding == "floor" else np.rint(ends))
        apart = (np.abs(ends - np.rint(ends)) > 1e-4) & (ends < highest)
        if rounds is first and apart.any():
            return None  # the limit is no level
        between = rounds.rounding != "floor" and (np.abs(ends - np.floor(ends) - 0.5) < 1e-4).any()
        if len(tops) > 1 or between or rounds.points is not None or rounds.gain is not None:
            return None  # whether the level above is reached hangs on a tie
        highest = min(highest, int(tops[0]))
    base = rounds if rounds is second else first
    return with_levels(base.with_(inputs=first.inputs, name=first.name, origin=base.origin), 0, highest)


def with_levels(node: ann.Relu, lowest: int, highest: int) -> ann.Relu | None:
    """Return a rounding rectifier of fewer levels; ``None`` where none are left but zero."""
    if node.scale is None or not lowest <= 0 < highest:
        return None
    points = None if node.points is None else node.points[:, lowest - node.lowest :][:, : highest - lowest]
    return node.with_(
        lowest=lowest,
        highest=highest,
        points=points,
        shift=node.scale * np.float32(-lowest) if lowest else None,
        ceiling=node.scale * np.float32(highest - lowest),
    )


def _without_zeros(first: ann.Pad, second: ann.Convolution | ann.Linear) -> ann.AnnNode | None:
    """Leave out the weights of channels that are zero."""
    if isinstance(second, ann.Convolution) and second.groups > 1:
        return None
    end = second.weight.shape[1] - first.after[0]
    return second.with_(inputs=first.inputs, weight=second.weight[:, first.before[0] : end])


def _pad_into(first: ann.Pad, second: ann.Convolution) -> ann.Convolution | None:
    if len(first.shape) != 3 or first.before[0] or first.after[0]:
        return None
    top, left, bottom, right = second.window.pads
    pads = (top + first.before[1], left + first.before[2], bottom + first.after[1], right + first.after[2])
    return second.with_(inputs=first.inputs, window=replace(second.window, pads=pads))
