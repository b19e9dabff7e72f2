"""Adaptation of an artefact to new rows, and its revocation.

An artefact that has learned is a function of what was converted and of its edits, in their order: with
heads that follow from sums, taking an edit back is computing the head of the others anew, in the same
arithmetic, so that the bytes are those of an artefact that never saw it. What gradients have learned builds
on what was there; such an edit is taken back by putting that back, the last one first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snnc.adaptation.buffer import ReplayBuffer, or_windows
from snnc.adaptation.gradient import Lesson, learn
from snnc.adaptation.heads import with_head
from snnc.adaptation.options import Options
from snnc.adaptation.requirements import (
    adaptation_of,
    checked_labels,
    head_and_cut,
    require_fit,
    silent_classes,
)
from snnc.artefact import Artefact
from snnc.artefact.adaptations import Adaptation, Edit, Head, Tail
from snnc.artefact.metadata import content_hash
from snnc.data.leakage import row_hashes
from snnc.errors import InputError, UsageError
from snnc.ir.batch import Rows, flat
from snnc.ir.bounds import count_bounds
from snnc.ir.cut import Cut, features, find_cut
from snnc.ir.graph import IntArray
from snnc.ir.layout import InputLayout
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.numerics.count_sums import check_size, summed
from snnc.progress import Progress
from snnc.simulation.latents import ROWS, counts_at
from snnc.simulation.protocol import RecordOptions, Simulator

RIDGE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """What came of an adaptation.

    Attributes:
        artefact: the network that has learned.
        edit: the record of what it learned.
        cut: where.
        buffer: the replay buffer after it; ``None`` where none was asked for.
        kept: classes that no row was ever seen of, whose weights stay as they are.
        features: F.
        weights_added: by the classes that it brings, biases included.
        notes: what is approximate about it.
    """

    artefact: Artefact
    edit: Edit
    cut: Cut
    buffer: ReplayBuffer | None
    kept: tuple[int, ...]
    features: int
    weights_added: int
    notes: tuple[str, ...] = ()


def adapt(
    artefact: Artefact,
    x: Rows,
    y: IntArray,
    options: Options,
    simulator: Simulator,
    replay: ReplayBuffer | None = None,
    *,
    progress: Progress | None = None,
) -> Adapted:
    """Return the artefact after it has learned rows.

    Args:
        artefact: an integer network with classes.
        x: (rows, ...), as the artefact takes them.
        y: (rows,) the index of the output that each belongs to; new ones follow those that exist.
        options: how.
        simulator: runs the network as far as the cut.
        replay: rows of earlier classes.
        progress: shows how far the simulation is.

    Raises:
        UsageError: the network or the options do not allow it.
        InputError: rows, labels or the buffer do not fit.
    """
    graph = artefact.graph
    learned = adaptation_of(artefact)
    require_fit(artefact)
    head, cut = head_and_cut(artefact, learned, options)
    silent = silent_classes(learned, graph.readout.shape[0])
    labels = checked_labels(graph, x, y, options, head, silent)
    reader = artefact.with_rows_layout(options.rows_layout)
    if replay is not None:
        replay.require_fit(graph, cut, "the replay buffer")
        if len(replay) and max(replay.classes) >= max(graph.readout.shape[0], int(labels.max()) + 1):
            raise InputError(
                f"the replay buffer holds rows of class {max(replay.classes)}, which is not there"
            )
    base = started(artefact, cut, head, options) if learned is None else learned
    bound = count_bounds(graph, graph.timesteps)[cut.latent]
    if head.summed:
        check_size(features(graph, cut), len(labels), bound, gram=head is Head.LINEAR)
    counts = counts_at(graph, cut, lambda part: reader.encode(x[part]), len(x), simulator, progress)
    hashes = row_hashes(flat(reader.encode(x[start : start + ROWS])) for start in range(0, len(x), ROWS))
    found = np.unique(labels)
    new = [int(c) for c in found if c >= graph.readout.shape[0] or c in silent]
    edit = Edit(
        classes=tuple(int(c) for c in found),
        rows=len(labels),
        row_hashes=hashes,
        names=dict(zip(new, options.names, strict=False)),
    )
    notes: tuple[str, ...] = ()
    if head.summed:
        edit = _with_sums(edit, counts, labels, base, replay, bound)
        for other in base.edits:
            known, own = other.sums, edit.sums
            if known is None or own is None or edit.row_hashes != other.row_hashes:
                continue
            if own.equals(known):
                raise UsageError(f"these rows were learned already, as edit {other.id}: nothing is new")
        result = rebuilt(artefact, replace(base, edits=(*base.edits, edit)))
    else:
        windows = None
        if replay is not None and replay.window:
            windows = _trains(reader, cut, x, replay.window, simulator).sum(axis=1)
        lesson, told = _lesson(counts, labels, replay, windows)
        told += _missing(graph.readout.shape[0], lesson, new, replay)
        edit = replace(edit, replay_rows=len(lesson.labels) - len(labels), before=Tail.of(graph, cut.tail))
        tail, notes = learn(graph, cut, lesson, options)
        result = _described(artefact, tail, replace(base, edits=(*base.edits, edit)))
        notes = (*told, *notes)
    buffer = _buffered(reader, cut, x, counts, labels, options, replay, simulator)
    kept: tuple[int, ...] = ()
    if head.summed:
        seen = {c for each in (*base.edits, edit) for c in each.classes}
        seen |= {c for each in (*base.edits, edit) if each.replayed for c in each.replayed.classes}
        kept = tuple(c for c in range(base.base_classes) if c not in seen)
        if kept:
            approximate = (
                f"no rows of {len(kept)} classes of the conversion: their weights stay, and the others are "
                "aligned to them without knowing where their rows lie, which is approximate; give a --replay "
                "buffer that holds them, or rows of them with --improve"
            )
            notes = (approximate,)
        if replay is not None and edit.replayed is None:
            notes += ("the buffer holds no rows of the conversion's classes: it was not used",)
    return Adapted(result, edit, cut, buffer, kept, counts.shape[1], base.added_by(edit), notes)


def _missing(classes: int, lesson: Lesson, new: list[int], replay: ReplayBuffer | None) -> tuple[str, ...]:
    """Return what gradients forget, and what they may take for something else.

    Args:
        classes: of the network before.
        lesson: all rows.
        new: the classes that the rows bring.
        replay: the buffer.
    """
    absent = set(range(classes)) - set(lesson.labels.tolist())
    notes: tuple[str, ...] = ()
    if absent:
        forgotten = (
            f"no rows of {len(absent)} earlier classes: gradients forget what they are not shown; give a "
            "--replay buffer that holds them, and measure by --test"
        )
        notes = (forgotten,)
    both = sorted(set(new) & set(() if replay is None else replay.classes))
    if both:
        shared = (
            f"the replay buffer holds rows of class {both[0]}, which is new to the network: they are learned "
            "as the same class; give another buffer if they are of one that was taken back"
        )
        notes = (*notes, shared)
    return notes


def _lesson(
    counts: IntArray, labels: IntArray, replay: ReplayBuffer | None, windows: IntArray | None
) -> tuple[Lesson, tuple[str, ...]]:
    """Return new and replayed rows, and what is approximate about them.

    Args:
        counts: (rows, F), new ones.
        labels: (rows,).
        replay: the buffer.
        windows: (rows, F), how many windows of the new rows have a spike, where the buffer holds such.
    """
    if replay is None or not len(replay):
        return Lesson(counts, labels), ()
    again = replay.counts
    every = np.concatenate([labels, replay.labels])
    if windows is None:
        return Lesson(np.concatenate([counts, again]), every), ()
    # How many spikes a window with one has, on the rows at hand. New rows are estimated, too: otherwise old
    # ones were told from them by what the windows lost.
    ratio = np.maximum(counts.sum(axis=0), 1) / np.maximum(windows.sum(axis=0), 1)
    estimated = np.rint(np.concatenate([windows, again]) * ratio).astype(np.int64)
    note = f"counts are estimated from windows of {replay.window} steps, as the buffer holds them"
    return Lesson(estimated, every), (note,)


def revoke(artefact: Artefact, name: str) -> tuple[Artefact, Edit]:
    """Return the artefact without an edit, and the edit: byte for byte what it would be without it.

    Args:
        artefact: the network that has learned.
        name: the edit's ID, or its first digits.

    Raises:
        UsageError: there is no such edit, or gradients have learned on top of it.
    """
    learned = adaptation_of(artefact)
    if learned is None:
        raise UsageError(f"{artefact.graph.name} has learned nothing since its conversion")
    edit = learned.edit(name)
    rest = replace(learned, edits=tuple(each for each in learned.edits if each is not edit))
    if learned.head.summed:
        return rebuilt(artefact, rest), edit
    if edit is not learned.edits[-1] or edit.before is None:
        raise UsageError(
            f"edit {edit.id} was learned by gradients, and others build on it: revoke "
            f"{learned.edits[-1].id} first"
        )
    graph = edit.before.put(artefact.graph, learned.latent)
    return _described(artefact, graph, rest), edit


def rebuilt(artefact: Artefact, adaptation: Adaptation) -> Artefact:
    """Return the artefact with the head of some edits, whatever head it has."""
    graph = adaptation.base.put(artefact.graph, adaptation.latent)
    if adaptation.edits:
        graph = with_head(graph, find_cut(graph, adaptation.cut), adaptation)
    return _described(artefact, graph, adaptation)


def _described(artefact: Artefact, graph: SnnGraph, adaptation: Adaptation) -> Artefact:
    """Return an artefact with a network and the record of how it came to it."""
    graph.verify()
    if not adaptation.edits:
        metadata = replace(
            artefact.metadata, outputs=adaptation.outputs, classes=adaptation.classes, adaptation=None
        )
        found = Artefact(graph, metadata)
        # Earlier versions stored all weights densely.
        forms = (content_hash(found.model(sparse=sparse)) for sparse in (True, False))
        if adaptation.content_sha256 not in forms:
            raise InputError(
                f"{artefact.graph.name} without its edits is not the artefact of before: it was changed "
                "since, or its record is damaged; take the artefact that it was made from"
            )
        return found
    count = graph.readout.shape[0]
    layout = InputLayout.plain((count,), (count,)).as_dict()
    outputs = tuple({**each, "layout": layout} for each in adaptation.outputs)
    names = {label: name for edit in adaptation.edits for label, name in edit.names.items()}
    classes: tuple[str, ...] = ()
    if names or adaptation.classes:
        known = adaptation.classes or tuple(map(str, range(adaptation.base_classes)))
        classes = known + tuple(names.get(k, str(k)) for k in range(len(known), count))
    metadata = replace(artefact.metadata, outputs=outputs, classes=classes, adaptation=adaptation.as_dict())
    return Artefact(graph, metadata)


def started(artefact: Artefact, cut: Cut, head: Head, options: Options) -> Adaptation:
    """Return the record of an artefact that begins to learn."""
    return Adaptation(
        cut=cut.name,
        latent=cut.latent,
        features=features(artefact.graph, cut),
        head=head,
        ridge=RIDGE if options.ridge is None else options.ridge,
        routed=bool(options.route),
        base=Tail.of(artefact.graph, cut.tail),
        outputs=artefact.metadata.outputs,
        classes=artefact.metadata.classes,
        content_sha256=content_hash(artefact.model()),
    )


def _with_sums(
    edit: Edit, counts: IntArray, labels: IntArray, base: Adaptation, replay: ReplayBuffer | None, bound: int
) -> Edit:
    """Return an edit with its sums, and those over the rows of a buffer of the conversion's classes."""
    gram = base.head is Head.LINEAR
    replayed = None
    if replay is not None:
        if replay.window:
            raise UsageError("a buffer of spike trains is for --head gradient: give one of counts")
        old = replay.labels < base.base_classes
        if old.any():
            replayed = summed(replay.counts[old], replay.labels[old], bound, gram=gram)
    return replace(
        edit,
        sums=summed(counts, labels, bound, gram=gram),
        replayed=replayed,
        replay_rows=0 if replayed is None else replayed.count,
    )


def _buffered(
    artefact: Artefact,
    cut: Cut,
    x: Rows,
    counts: IntArray,
    labels: IntArray,
    options: Options,
    replay: ReplayBuffer | None,
    simulator: Simulator,
) -> ReplayBuffer | None:
    """Return the buffer with the new rows, if one is asked for."""
    if options.replay_bytes is None:
        if options.replay_window:
            raise UsageError("--replay-window is of a buffer: give --replay-bytes, too")
        return None
    graph, window = artefact.graph, options.replay_window
    if replay is not None and window and replay.window != window:
        raise UsageError(f"the replay buffer has windows of {replay.window} steps, not {window}")
    window = window if replay is None else replay.window
    latents = counts if not window else _trains(artefact, cut, x, window, simulator)
    if replay is None:
        replay = ReplayBuffer.empty(graph, cut, options.replay_bytes, latents.shape[1:], window)
    return replay.with_rows(latents, labels, options.replay_bytes)


def _trains(artefact: Artefact, cut: Cut, x: Rows, window: int, simulator: Simulator) -> IntArray:
    """Return the spikes at a cut with windows of steps OR-ed, (rows, windows, F)."""
    graph = artefact.graph
    if not isinstance(graph[cut.latent], IntegrateFire):
        raise UsageError(
            f"{cut.latent!r} is no population: windows of its values cannot be OR-ed; cut elsewhere"
        )
    found = []
    for start in range(0, len(x), ROWS):
        record = RecordOptions(trains=(cut.latent,), until=(cut.latent,))
        q = artefact.encode(x[start : start + ROWS])
        train = simulator.run(graph, q, graph.timesteps, record).trains[cut.latent]
        found.append(or_windows(train.reshape(*train.shape[:2], -1).astype(np.int64), window))
    return np.concatenate(found)
