"""The linear layer behind a cut, as a function of the sums over rows: every head that needs no gradients.

Old classes are those of the conversion, new ones all others. Where rows of both were seen, the new classes
get the offset at which the mean gap of both groups is equal (after ALADE-SNN, AAAI 2025)::

    gap(A | B) = mean_{c in A} (z_c(m_c) - max_{j in B} z_j(m_c))
    offset = (gap(old | new) - gap(new | old)) / 2

Classes that no row was ever seen of keep their weights, to the bit, as far as the cut is the classifier.
Then the new rows are prototypes, whatever the head, with the mean norm of the old ones (Zhao et al.,
"Maintaining Discrimination and Fairness in Class Incremental Learning", CVPR 2020), and the offset at which
a new class is as far ahead of the best old one as of the best other new one: its lead over other new ones
less its lead over old ones; where rows of some old classes were seen, that at which these have the logit
that the converted network gives them. Both are approximate: nobody knows where the rows of the others lie.
The logits ``z`` at the class means ``m_c`` follow from the sums, so that nothing depends on the order of
rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, prod

import numpy as np

from snnc.artefact.adaptations import Adaptation, Head
from snnc.errors import InternalError, UsageError
from snnc.ir.bounds import count_bounds, provable_timesteps, unproved, weight_sums
from snnc.ir.cut import Cut
from snnc.ir.graph import IntArray, NumberArray
from snnc.ir.snn import Linear, Readout, Reshape, SnnGraph, SnnNode
from snnc.numerics.count_sums import CountSums
from snnc.numerics.exact_ridge import Float64Array, means, products, ridge
from snnc.numerics.prototypes import prototypes
from snnc.numerics.quantisation import groups, quantise_group

BIAS_LIMIT = 2**30
TOO_LARGE = (
    "the offsets of the classes do not fit 32 bits: cut behind a layer with smaller counts, or give a "
    "smaller --ridge"
)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Weights of some classes, in real numbers.

    Attributes:
        classes: ascending.
        weight: (classes, F), per count.
        bias: (classes,), over a run.
        means: (classes, F), where a row of each class lies; (0, F) where none was seen.
    """

    classes: tuple[int, ...]
    weight: Float64Array
    bias: Float64Array
    means: Float64Array

    def logits(self, x: Float64Array) -> Float64Array:
        """Return the logits, (classes, rows), of (rows, F) counts."""
        return products(self.weight, x) + self.bias[:, None]


def with_head(graph: SnnGraph, cut: Cut, adaptation: Adaptation) -> SnnGraph:
    """Return the network with the head of all edits behind the cut.

    Args:
        graph: the network before all edits.
        cut: of it.
        adaptation: the edits, of which there is one at least.

    Raises:
        UsageError: the rows do not tell the classes apart, or no int32 can hold the sums.
    """
    seen = adaptation.sums()
    kept = tuple(label for label in range(adaptation.base_classes) if label not in seen.rows)
    if kept and not cut.is_classifier(graph):
        raise UsageError(
            f"behind {cut.name!r} everything is learned anew, and there are no rows of class {kept[0]}: give "
            "a --replay buffer that holds it, or cut at the classifier"
        )
    if adaptation.routed:
        return _routed(graph, cut, adaptation, seen, kept)
    if not kept and adaptation.head is Head.PROTOTYPE:
        weight = prototypes(seen)
        return _integer(graph, cut, seen.classes, weight, np.zeros(len(weight), np.int64))
    old = _kept(graph, cut, kept) if kept else None
    learned = _learned(adaptation, seen)
    if old is None:
        return _quantised(graph, cut, _aligned(learned, adaptation.base_classes))
    return _beside(graph, cut, old, learned)


def _learned(adaptation: Adaptation, seen: CountSums) -> Rows:
    """Return the weights of the classes that rows were seen of.

    Where a ridge has nothing to tell apart, they are prototypes: as long as no row of an old class was seen,
    where there is one class, or where the means of all are equal.
    """
    at = means(seen)
    if adaptation.head is Head.LINEAR and len(at) > 1 and min(seen.classes) < adaptation.base_classes:
        weight, bias = ridge(seen, adaptation.ridge)
        if weight.any(axis=1).all():
            return Rows(seen.classes, weight, bias, at)
    # Unit vectors: the cosine with a prototype, for a row of any norm.
    norms = np.sqrt(np.add.accumulate(at * at, axis=1)[:, -1:])
    if not norms.all():
        raise UsageError("a class has silent rows alone: nothing can be learned from them")
    return Rows(seen.classes, at / norms, np.zeros(len(at)), at)


def _kept(graph: SnnGraph, cut: Cut, kept: tuple[int, ...]) -> Rows:
    """Return the weights of the classes that no row was seen of: nobody knows where their rows lie."""
    linear, readout = _classifier(graph, cut)
    chosen = np.array(kept)
    bias = readout.bias[chosen].astype(np.float64) * graph.timesteps
    weight = linear.weight[chosen].astype(np.float64)
    return Rows(kept, weight, bias, np.zeros((0, weight.shape[1])))


def _gap(own: Rows, other: Rows) -> float:
    """Return by how much a class is ahead of the best of another group at its mean, on average."""
    ahead = np.diagonal(own.logits(own.means)) - other.logits(own.means).max(axis=0)
    return float(np.add.accumulate(ahead)[-1]) / len(ahead)


def _own(rows: Rows) -> float:
    """Return the mean logit of a class at its mean."""
    return float(np.add.accumulate(np.diagonal(rows.logits(rows.means)))[-1]) / len(rows.classes)


def _margin(rows: Rows, other: Rows) -> float:
    """Return by how much a class is ahead of the best other of its own group at its mean, on average.

    One class has no other: then by how much the best of the other group is ahead of its second there.
    """
    if len(rows.classes) > 1:
        logits = rows.logits(rows.means)
        own = np.diagonal(logits).copy()
        np.fill_diagonal(logits, -np.inf)
        ahead = own - logits.max(axis=0)
    else:
        logits = np.sort(other.logits(rows.means), axis=0)
        ahead = logits[-1] - logits[max(-2, -len(logits))]
    return float(np.add.accumulate(ahead)[-1]) / len(ahead)


def _part(rows: Rows, chosen: IntArray) -> Rows:
    return Rows(
        tuple(rows.classes[k] for k in chosen), rows.weight[chosen], rows.bias[chosen], rows.means[chosen]
    )


def _aligned(rows: Rows, base: int) -> Rows:
    """Return rows of which the classes from ``base`` on have the offset of equal mean gaps."""
    is_old = np.array([label < base for label in rows.classes])
    if is_old.all() or not is_old.any():
        return rows
    old, new = _part(rows, np.flatnonzero(is_old)), _part(rows, np.flatnonzero(~is_old))
    offset = (_gap(old, new) - _gap(new, old)) / 2
    return replace(rows, bias=np.where(is_old, rows.bias, rows.bias + offset))


def _beside(graph: SnnGraph, cut: Cut, old: Rows, learned: Rows) -> SnnGraph:
    """Return the network with learned rows beside those that stay as they are, in their unit."""
    norm = [np.sqrt(np.add.accumulate(each.weight**2, axis=1)[:, -1]) for each in (old, learned)]
    for each in norm:
        if not each.any():
            raise UsageError(
                "the weights of the old classes, or of the new ones, are all zero: give a --replay buffer "
                "that holds the old ones, or a smaller --ridge"
            )
    ratio = float(np.add.accumulate(norm[0])[-1]) / len(norm[0])
    ratio /= float(np.add.accumulate(norm[1])[-1]) / len(norm[1])
    largest = float(np.abs(learned.weight).max())
    ratio = min(ratio, 127 / largest)  # within the range of int8, so that nothing old is rounded again
    scaled = replace(learned, weight=learned.weight * ratio, bias=learned.bias * ratio)
    known = [label for label in learned.classes if label < graph.readout.shape[0]]
    if known:
        before = _kept(graph, cut, tuple(known))
        anchors = _part(scaled, np.array([learned.classes.index(label) for label in known]))
        offset = _own(replace(before, means=anchors.means)) - _own(anchors)
    else:
        offset = _margin(scaled, old) - _gap(scaled, old)
    bias = scaled.bias + offset
    if not np.abs(bias).max() < BIAS_LIMIT * graph.timesteps:  # before they are integers
        raise UsageError(TOO_LARGE)
    classes = tuple(sorted((*old.classes, *learned.classes)))
    weight = np.zeros((len(classes), old.weight.shape[1]), np.int8)
    added = np.zeros(len(classes), np.int64)
    for rows, values, over in ((old, old.weight, old.bias), (scaled, np.rint(scaled.weight), np.rint(bias))):
        at = np.array([classes.index(label) for label in rows.classes])
        weight[at], added[at] = values.astype(np.int8), over.astype(np.int64)
    _, readout = _classifier(graph, cut)
    return _integer(graph, cut, classes, weight, added, scale=readout.scale)


def _routed(
    graph: SnnGraph, cut: Cut, adaptation: Adaptation, seen: CountSums, kept: tuple[int, ...]
) -> SnnGraph:
    """Return the network with a head for each edit, between which similarity to its rows decides.

    To every class of an edit the same is added: the cosine, centred, of the row with the edit's mean, in
    units in which a head's weights have the norm one. So it is a linear layer still.
    """
    groups_: list[Rows] = []
    for edit in adaptation.edits:
        own = adaptation.sums((edit,))
        parts = [tuple(c for c in own.classes if c >= adaptation.base_classes)]
        parts += [tuple(c for c in own.classes if c < adaptation.base_classes)]
        for part in filter(None, parts):
            taken = {label for group in groups_ for label in group.classes}
            if taken & set(part):
                continue  # classes of the conversion, from an earlier buffer
            groups_.append(_module(adaptation, own, part))
    if kept:
        raise UsageError(
            f"--route needs rows of all classes, and there are none of class {kept[0]}: give a --replay "
            "buffer that holds it"
        )
    keys = np.array([np.add.accumulate(group.means)[-1] / len(group.means) for group in groups_])
    centre = np.add.accumulate(keys)[-1] / len(keys)
    apart = keys - centre
    norms = np.sqrt(np.add.accumulate(apart * apart, axis=1)[:, -1:])
    if not norms.all():
        raise UsageError(
            "the edits' rows are alike: similarity cannot choose between them; leave out --route"
        )
    apart /= norms
    away = products(apart, centre[None])[:, 0]
    weight = np.concatenate([g.weight + k for g, k in zip(groups_, apart, strict=True)])
    bias = np.concatenate([g.bias - b for g, b in zip(groups_, away, strict=True)])
    classes = [label for group in groups_ for label in group.classes]
    order = np.argsort(classes)
    at = np.concatenate([group.means for group in groups_])
    rows = Rows(tuple(sorted(classes)), weight[order], bias[order], at[order])
    return _quantised(graph, cut, rows)


def _module(adaptation: Adaptation, sums: CountSums, part: tuple[int, ...]) -> Rows:
    """Return the head of one edit's classes, fitted to its own rows; of one class there is nothing to fit."""
    only = CountSums(
        sums.features, {c: sums.rows[c] for c in part}, {c: sums.sums[c] for c in part}, sums.gram
    )
    if len(part) == 1 or sums.gram is None or set(part) != set(sums.classes):
        only = replace(only, gram=None)
    if len(part) == 1:
        at = means(only)
        return Rows(part, np.zeros_like(at), np.zeros(1), at)
    if only.gram is None:
        weight = prototypes(only).astype(np.float64)
        return _unit(Rows(part, weight, np.zeros(len(weight)), means(only)))
    return _unit(_learned(adaptation, only))


def _unit(rows: Rows) -> Rows:
    """Return rows whose logits are zero amid their classes, and whose weights have the norm one."""
    centre = np.add.accumulate(rows.means)[-1] / len(rows.means)
    weight = rows.weight - np.add.accumulate(rows.weight)[-1] / len(rows.weight)
    norms = np.sqrt(np.add.accumulate(weight * weight, axis=1)[:, -1])
    mean = max(float(np.add.accumulate(norms)[-1]) / len(norms), np.finfo(np.float64).tiny)
    bias = rows.bias - float(np.add.accumulate(rows.bias)[-1]) / len(rows.bias)
    middle = products(weight, centre[None])[:, 0] + bias
    level = float(np.add.accumulate(middle)[-1]) / len(middle)
    return replace(rows, weight=weight / mean, bias=(bias - level) / mean)


def _classifier(graph: SnnGraph, cut: Cut) -> tuple[Linear, Readout]:
    linear, readout = (graph[name] for name in cut.tail)
    if not isinstance(linear, Linear) or not isinstance(readout, Readout):
        raise InternalError(f"{cut.name!r} is no classifier")
    return linear, readout


def _quantised(graph: SnnGraph, cut: Cut, rows: Rows) -> SnnGraph:
    """Return the network with rows in real numbers, made integers by the quantiser of a conversion."""
    bias = (rows.bias / graph.timesteps).astype(np.float32)
    weight = rows.weight.astype(np.float32)
    if not np.isfinite(weight).all() or not np.isfinite(bias).all():
        raise UsageError("the weights of the head exceed float32: give a larger --ridge")
    part = _replaced(graph, cut, weight, bias, 1.0)
    (group,) = (each for each in groups(part) if part.readout.name in each.sinks)
    part = quantise_group(part, group)
    linear = part[part.readout.inputs[0]]
    if not isinstance(linear, Linear):
        raise InternalError("the head has no linear layer")
    if not linear.weight.any():
        raise UsageError("the weights of the head vanish beside its offsets: give a smaller --ridge")
    offset = part.readout.bias.astype(np.int64) * graph.timesteps
    return _integer(graph, cut, rows.classes, linear.weight.astype(np.int8), offset, scale=part.readout.scale)


def _integer(
    graph: SnnGraph,
    cut: Cut,
    classes: tuple[int, ...],
    weight: IntArray,
    offset: IntArray,
    *,
    scale: float = 1.0,
) -> SnnGraph:
    """Return the network with integer rows, at the places of their classes; other places stay silent.

    Args:
        graph: the network before.
        cut: of it.
        classes: (rows,).
        weight: (rows, F).
        offset: (rows,), what is added over a run; its share of a step is rounded, halves up.
        scale: real value of one.
    """
    T = graph.timesteps
    bias = (2 * offset.astype(np.int64) + T) // (2 * T)
    count = max(classes) + 1
    placed = np.zeros((count, weight.shape[1]), weight.dtype)
    biases = np.zeros(count, np.int64)
    if len(classes) < count:
        # No count reaches a silent class: it is below all that the others can come to.
        largest = count_bounds(graph, T)[cut.latent]
        biases[:] = -(ceil(int(weight_sums(weight).max()) * largest / T) + int(np.abs(bias).max()) + 1)
    placed[list(classes)], biases[list(classes)] = weight, bias
    if np.abs(biases).max() >= BIAS_LIMIT:
        raise UsageError(TOO_LARGE)
    found = _replaced(graph, cut, placed, biases.astype(np.int32), scale)
    most = provable_timesteps(found, graph.max_timesteps)
    if most < T:
        raise UsageError(unproved(found, most))
    return replace(found, max_timesteps=most)


def _replaced(graph: SnnGraph, cut: Cut, weight: NumberArray, bias: NumberArray, scale: float) -> SnnGraph:
    """Return the network with one linear layer and a read-out behind the cut."""
    before = tuple(node for node in graph if node.name not in cut.tail)
    latent, old = graph[cut.latent], graph.readout
    known = next((graph[name] for name in cut.tail if isinstance(graph[name], Linear)), None)
    name = _fresh("adapted", graph) if known is None else known.name
    added: list[SnnNode] = []
    read = latent.name
    if len(latent.shape) > 1:
        read = _fresh(f"{name}.flat", graph)
        added.append(
            Reshape(name=read, inputs=(latent.name,), shape=(prod(latent.shape),), origin=old.origin)
        )
    origin = old.origin if known is None else known.origin
    added.append(Linear(name=name, inputs=(read,), shape=(len(bias),), weight=weight, origin=origin))
    added.append(old.with_(inputs=(name,), shape=(len(bias),), bias=bias, scale=scale))
    return replace(graph, nodes=(*before, *added))


def _fresh(name: str, graph: SnnGraph) -> str:
    while name in graph:
        name += "'"
    return name
