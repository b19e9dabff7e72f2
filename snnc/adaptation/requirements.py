"""What an adaptation needs: a network that can learn, options and labels that fit, and a whole record."""

from __future__ import annotations

from math import prod

import numpy as np

from snnc.adaptation.options import Options
from snnc.artefact import Artefact
from snnc.artefact.adaptations import Adaptation, Head
from snnc.errors import InputError, InternalError, UsageError
from snnc.ir.batch import Rows
from snnc.ir.cut import Cut, find_cut
from snnc.ir.graph import IntArray
from snnc.ir.snn import SnnGraph

MOST_CLASSES = 2**12
FEWEST_LINEAR = 2
"""Rows of a class from which on a linear head may be fitted: one row has no spread."""


def adaptation_of(artefact: Artefact) -> Adaptation | None:
    """Return what an artefact has learned; ``None`` for nothing.

    Raises:
        InputError: its record is damaged.
    """
    stored = artefact.metadata.adaptation
    if stored is None:
        return None
    found = Adaptation.from_dict(stored)
    if not found.edits or found.latent not in artefact.graph or not _is_whole(found, artefact.graph):
        raise InputError("the record of the adaptation is of another network, or damaged; adapt again")
    return found


def _is_whole(adaptation: Adaptation, graph: SnnGraph) -> bool:
    """Whether a record tells all that its head is made of, of as many counts as the network has there."""
    width = prod(graph[adaptation.latent].shape)
    kept = [sums for edit in adaptation.edits for sums in (edit.sums, edit.replayed) if sums is not None]
    gram = adaptation.head is Head.LINEAR
    if adaptation.features != width or not all(
        sums.features == width and (sums.gram is not None) == gram for sums in kept
    ):
        return False
    if adaptation.head.summed:
        return all(edit.sums is not None for edit in adaptation.edits)
    return all(edit.before is not None for edit in adaptation.edits)


def require_fit(artefact: Artefact) -> None:
    """Refuse networks of which only a part is here, or that compute in floats.

    Raises:
        UsageError: saying why.
    """
    artefact.require_plain("adaptation")
    if artefact.host is not None:
        raise UsageError(
            f"{artefact.graph.name} has parts that run as ordinary ONNX: adaptation takes networks without"
        )
    if not artefact.graph.integer:
        raise UsageError(f"{artefact.graph.name} computes in float32: convert it with --precision int8")
    if any(layout.source_shape != layout.shape for layout in artefact.output_layouts.values()):
        raise UsageError(f"{artefact.graph.name} gives its classes in another shape than (rows, classes)")


def head_and_cut(artefact: Artefact, learned: Adaptation | None, options: Options) -> tuple[Head, Cut]:
    """Return head and cut: an artefact has one of each as long as it has edits.

    Raises:
        UsageError: the network or the options do not allow it.
    """
    if learned is None:
        head = options.head or Head.LINEAR
        cut = find_cut(artefact.graph, options.cut)
    else:
        head, cut = learned.head, find_cut(artefact.graph, learned.cut)
        different = (
            ("--head", options.head, learned.head),
            ("--cut", options.cut, learned.cut),
            ("--ridge", options.ridge, learned.ridge),
            ("--route", options.route, learned.routed),
        )
        for option, wanted, has in different:
            if wanted is not None and wanted != has:
                told = has.value if isinstance(has, Head) else has
                raise UsageError(
                    f"{option}: the artefact has learned with {told!r} before: leave it out, or revoke "
                    f"its {len(learned.edits)} edits first"
                )
        wanted_cut = None if options.cut is None else find_cut(artefact.graph, options.cut)
        if wanted_cut is not None and wanted_cut.latent != cut.latent:
            raise InternalError("two cuts of one name")
    if options.route and not head.summed:
        raise UsageError("--route: gradients learn one head for all edits; take --head linear or prototype")
    if options.route and options.improve:
        raise UsageError("--route: an edit brings classes of its own; leave out --improve")
    return head, cut


def checked_labels(
    graph: SnnGraph, x: Rows, y: IntArray, options: Options, head: Head, silent: frozenset[int]
) -> IntArray:
    """Return the labels, one per row.

    Raises:
        InputError: they are no classes, or leave one out, or exist already.
    """
    labels = np.asarray(y)
    if labels.ndim != 1 or len(labels) != len(x) or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels of shape {labels.shape} and type {labels.dtype} for {len(x)} rows: give one class, an "
            "integer, for each"
        )
    if not len(labels):
        raise InputError("no rows to learn from: give one at least")
    labels = labels.astype(np.int64)
    classes, rows = np.unique(labels, return_counts=True)
    if classes[0] < 0 or classes[-1] >= MOST_CLASSES:
        raise InputError(
            f"labels from {classes[0]} to {classes[-1]}: give classes from 0 to {MOST_CLASSES - 1}"
        )
    count = graph.readout.shape[0]
    old = [int(c) for c in classes if c < count and c not in silent]
    if old and not options.improve:
        raise UsageError(
            f"class {old[0]} exists already: new classes are numbered from {count} on; to learn more of old "
            "ones, give --improve"
        )
    new = [int(c) for c in classes if c not in old]
    if options.gaps and not head.summed:
        raise UsageError("gaps: the output of a class without rows stays silent in a head of sums alone")
    for label in range(count, int(classes[-1]) + 1):
        if label not in new and not options.gaps:
            raise InputError(f"class {label} has no rows: number new classes from {count} on, without a gap")
    if len(options.names) > len(new) or (options.names and len(options.names) < len(new)):
        raise UsageError(f"{len(options.names)} names for {len(new)} new classes: give one for each, or none")
    if head is not Head.PROTOTYPE:
        for label, n in zip(classes.tolist(), rows.tolist(), strict=True):
            if n < FEWEST_LINEAR and label in new:
                raise InputError(
                    f"class {label} has one row: the {head.value} head needs {FEWEST_LINEAR} or more; take "
                    "--head prototype for one"
                )
    return labels


def silent_classes(learned: Adaptation | None, count: int) -> frozenset[int]:
    """Return the outputs of classes that were taken back from the middle: they may be learned again."""
    if learned is None:
        return frozenset()
    live = {label for edit in learned.edits for label in edit.classes}
    return frozenset(range(learned.base_classes, count)) - live
