"""Building the network: from views of nodes to the nodes that operations need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from snnc.diagnostics import UNSUPPORTED_ATTRIBUTE, UNSUPPORTED_STRUCTURE
from snnc.frontend.layout import wanted_layout
from snnc.frontend.refusals import RefusalError, check_size, made_by, refuse
from snnc.frontend.routing import Routes
from snnc.frontend.views import (
    LOWEST,
    PADDED,
    Cut,
    Image,
    Index,
    View,
    find_cut,
    is_bijection,
    row_major,
)
from snnc.ir import ann
from snnc.ir.graph import FloatArray, Shape
from snnc.ir.layout import InputLayout


@dataclass(slots=True)
class GraphBuilder:
    """A network in the making.

    Attributes:
        layouts: how each of the source's inputs becomes the canonical one, by its name.
        pending: the inputs whose layouts are still to be found: the network is built only to find what its
            first operation wants.
        nodes: the network so far, in topological order.
        wanted: the input and the layout found by probing; ``None`` for a layout where none will do.
        cuts: the nodes that hold parts of others, so that each part is made once.
        maps: the nodes that hold values of others in other places, likewise.
        woven: the images that hold pixels of others as channels, likewise.
        doubtful: nodes that depend on an operation that could not be read. Their values lie in whatever
            order the next operation wants, so that one problem does not cause others.
        repeated: by name, the number that the last node of that name got.
        reshaped: by name and shape, the node that holds the values of another in that shape.
        ends: by the name of a concatenation, where each of its parts ends.
        joined: by the name of a concatenation, the nodes that it and those before it join, and their sizes.
        joins: by the name of a concatenation and the places of some of its parts, the node that joins these.
        weights: the arrays of weights that were spread, and what became of them: see :meth:`spread`.
    """

    layouts: dict[str, InputLayout]
    pending: frozenset[str] = frozenset()
    nodes: dict[str, ann.AnnNode] = field(default_factory=dict)
    wanted: tuple[str, InputLayout | None] | None = None
    cuts: dict[tuple[str, Cut], str] = field(default_factory=dict)
    maps: dict[tuple[str, Shape, bytes], str] = field(default_factory=dict)
    woven: dict[tuple[str, bytes], Image] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    repeated: dict[str, int] = field(default_factory=dict)
    reshaped: dict[tuple[str, Shape], str] = field(default_factory=dict)
    ends: dict[str, Index] = field(default_factory=dict)
    joined: dict[str, tuple[list[str], Index]] = field(default_factory=dict)
    joins: dict[tuple[str, tuple[int, ...]], str] = field(default_factory=dict)
    weights: dict[tuple[int, int, bytes], tuple[FloatArray, FloatArray]] = field(default_factory=dict)

    @property
    def routes(self) -> Routes:
        """What makes index maps."""
        return Routes(self)

    @property
    def probing(self) -> bool:
        """Whether the network is built only to find the layout of an input."""
        return bool(self.pending)

    def unique(self, name: str) -> str:
        """Return ``name``, with a number after it if a node has that name already."""
        candidate, count = name, self.repeated.get(name, 1)
        while candidate in self.nodes:
            count += 1
            candidate = f"{name}.{count}"
        self.repeated[name] = count
        return candidate

    def emit(self, node: ann.AnnNode) -> str:
        """Add a node under a unique name, and return that name.

        Raises:
            RefusalError: it reads the logarithm of a softmax, which can only be the last operation, or is too
                large.
        """
        check_size(node.shape, node.origin)
        for name in node.inputs:
            if isinstance(self.nodes[name], ann.Softmax):
                self.nodes[name] = self._inner(self.nodes[name])
        node = node.with_(name=self.unique(node.name))
        self.nodes[node.name] = node
        if self.doubtful.intersection(node.inputs):
            self.doubtful.add(node.name)
        return node.name

    def _inner(self, node: ann.AnnNode) -> ann.InnerSoftmax:
        """Return the softmax that others read: it does not end the network.

        Raises:
            RefusalError: its logarithm is read.
        """
        if isinstance(node, ann.Softmax) and node.logarithm:
            refuse(
                UNSUPPORTED_STRUCTURE,
                node.origin,
                "the logarithm of a softmax before the end of the network has no spiking form",
                "use the softmax itself, or the logarithm at the end alone",
            )
        return ann.InnerSoftmax(
            name=node.name, inputs=node.inputs, shape=node.shape, origin=node.origin, axis=0
        )

    def comes_of_softmax(self, name: str) -> bool:
        """Say whether a softmax makes what a node gives, which scales or moves it at most."""
        node = self.nodes[name]
        while isinstance(node, ann.ChannelAffine | ann.Reshape | ann.Gather | ann.Slice | ann.Pad):
            node = self.nodes[node.inputs[0]]
        return isinstance(node, ann.Softmax | ann.InnerSoftmax)

    def stand_in(self, shape: Shape) -> str:
        """Return a node of that shape in the place of an operation that could not be read."""
        name = self.emit(ann.Input(name="unknown", shape=shape))
        self.doubtful.add(name)
        return name

    def stand_in_view(self, shape: Shape, origin: str) -> View:
        """Return a tensor of that shape in the place of one that could not be read."""
        return View(self.stand_in((math.prod(shape),)), row_major(shape), origin)

    def shape(self, name: str) -> Shape:
        """Return the shape of a node."""
        return self.nodes[name].shape

    def reshape(self, name: str, shape: Shape, origin: str) -> str:
        """Return a node that holds the values of ``name`` in another shape."""
        node = self.nodes[name]
        if node.shape == shape:
            return name
        if isinstance(node, ann.Reshape):
            return self.reshape(node.inputs[0], shape, origin)
        if (name, shape) not in self.reshaped:
            made = self.emit(ann.Reshape(name=origin, inputs=(name,), shape=shape, origin=origin))
            self.reshaped[name, shape] = made
        return self.reshaped[name, shape]

    def settle(self, view: View, origin: str) -> View:
        """Return a view that reads each value of its node once: a cut, padded, or an index map of the node.

        Raises:
            RefusalError: minus infinity stands beside the values.
        """
        settled = self.settled(view, origin)
        return self.routed(view) if settled is None else settled

    def repeats(self, view: View) -> bool:
        """Whether a tensor holds all values of its node, and some more than once."""
        if self.probing or view.node in self.doubtful:
            return False
        size = math.prod(self.shape(view.node))
        return view.index.size > size and np.unique(view.index[view.index >= 0]).size == size

    def settled(self, view: View, origin: str) -> View | None:
        """Return the same where the tensor is a cut of its node, padded perhaps; else ``None``.

        Raises:
            RefusalError: minus infinity stands beside the values.
        """
        self.refuse_lowest(view, origin)
        if not view.shape:  # one number without an axis
            single = self.settled(view.to(view.index.reshape(1), view.origin), origin)
            return None if single is None else single.to(single.index.reshape(()), single.origin)
        view = self.behind_joins(view)
        shape = self.shape(view.node)
        if view.node in self.doubtful:
            return self.stand_in_view(view.shape, view.origin)
        if is_bijection(view.index, math.prod(shape)):
            return view
        sample = view.index[0] if view.shape[:1] == (1,) else view.index
        if sample.ndim > 3:  # nodes are images or vectors: the last axes of more become one
            sample = sample.reshape(*sample.shape[:2], -1)
        self.want(view.node, sample)
        cut = find_cut(view.index, shape)
        if cut is None:
            return None
        if (view.node, cut) not in self.cuts:
            self.cuts[view.node, cut] = self._cut(view.node, cut, view.origin)
        name = self.cuts[view.node, cut]
        order = sorted(range(len(shape)), key=lambda axis: cut.axes[axis])
        return View(name, row_major(self.shape(name)).transpose(order).reshape(view.shape), view.origin)

    def routed(self, view: View) -> View:
        """Return a tensor as an index map of its node, in the layout that keeps channels apart best."""
        if view.node in self.doubtful:
            return self.stand_in_view(view.shape, view.origin)
        return self.turned_to(view, *self.routes.layout(view))

    def ordered(self, view: View, shape: Shape) -> View:
        """Return a tensor whose values lie in their own order in a node of a shape."""
        if view.node in self.doubtful:
            return self.stand_in_view(view.shape, view.origin)
        name = self.routes.node(view.node, view.index.reshape(shape), view.origin)
        return View(name, row_major(view.shape), view.origin)

    def behind_joins(self, view: View) -> View:
        """Look through concatenations of which the tensor holds one part only."""
        while isinstance(node := self.nodes[view.node], ann.Concat) and view.node not in self.doubtful:
            ends = self._ends(node)
            present = view.index[view.index != PADDED]
            if not present.size:
                break
            part, last = (int(i) for i in np.searchsorted(ends, (present.min(), present.max()), side="right"))
            if part != last:
                break
            start = int(ends[part - 1]) if part else 0
            index = np.where(view.index == PADDED, PADDED, view.index - start)
            view = View(node.inputs[part], index, view.origin)
        return view

    def narrowed(self, view: View) -> View:
        """Return a tensor that reads some parts of a concatenation as one that joins these alone."""
        node = self.nodes[view.node]
        if not isinstance(node, ann.Concat) or view.node in self.doubtful or view.index.min() < 0:
            return view
        joined, sizes = self._joined(view.node)
        ends = np.cumsum(sizes)
        part = np.searchsorted(ends, view.index, side="right")
        parts = np.unique(part)
        if len(parts) == len(sizes):
            return view
        key = (view.node, tuple(parts.tolist()))
        if key not in self.joins:
            names = tuple(joined[place] for place in parts)
            shape = (sum(self.nodes[name].channels for name in names), *node.shape[1:])
            made = ann.Concat(name=view.origin, inputs=names, shape=shape, origin=view.origin)
            self.joins[key] = names[0] if len(names) == 1 else self.emit(made)
        moved = np.zeros(len(sizes), np.int64)
        moved[parts] = (ends - sizes)[parts] - (np.cumsum(sizes[parts]) - sizes[parts])
        return View(self.joins[key], view.index - moved[part], view.origin)

    def _ends(self, node: ann.Concat) -> Index:
        """Return where each part of a concatenation ends, (parts,)."""
        if node.name not in self.ends:
            self.ends[node.name] = np.cumsum([math.prod(self.shape(name)) for name in node.inputs])
        return self.ends[node.name]

    def _joined(self, name: str) -> tuple[list[str], Index]:
        """Return the nodes that a concatenation and those within it join, in order, and their sizes."""
        if name not in self.joined:
            found, waiting = [], [name]
            while waiting:
                node = self.nodes[waiting.pop()]
                if isinstance(node, ann.Concat):
                    waiting.extend(reversed(node.inputs))
                else:
                    found.append(node.name)
            self.joined[name] = found, np.array([math.prod(self.shape(each)) for each in found])
        return self.joined[name]

    def refuse_lowest(self, view: View, origin: str) -> None:
        """Refuse minus infinity beside the values.

        Raises:
            RefusalError: there is some.
        """
        if (view.index == LOWEST).any():
            refuse(
                UNSUPPORTED_ATTRIBUTE,
                origin,
                f"{made_by(view, origin)} is padded with minus infinity, which only MaxPool may read",
                "pad with zeros, and fine-tune",
            )

    def _cut(self, name: str, cut: Cut, origin: str) -> str:
        """Add a slice and a padding, as far as they are needed, and return the name of the last node."""
        sizes = tuple(len(range(*p)) for p in zip(cut.start, cut.stop, cut.step, strict=True))
        if sizes != self.shape(name):
            name = self.emit(
                ann.Slice(
                    name=origin,
                    inputs=(name,),
                    shape=sizes,
                    origin=origin,
                    start=cut.start,
                    stop=cut.stop,
                    step=cut.step,
                )
            )
        if any(cut.before + cut.after):
            sizes = tuple(b + n + a for b, n, a in zip(cut.before, sizes, cut.after, strict=True))
            name = self.emit(
                ann.Pad(
                    name=origin,
                    inputs=(name,),
                    shape=sizes,
                    origin=origin,
                    before=cut.before,
                    after=cut.after,
                )
            )
        return name

    def flat(self, view: View) -> tuple[str, Index]:
        """Return a node of shape (features,) and, for each value of the tensor, the feature that it is."""
        self.want(view.node, None)
        self.refuse_lowest(view, view.origin)
        if view.node in self.doubtful:
            return self.stand_in((view.index.size,)), np.arange(view.index.size)
        size = math.prod(self.shape(view.node))
        return self.reshape(view.node, (size,), view.origin), view.index.ravel()

    def spread(self, weight: FloatArray, order: Index, size: int) -> FloatArray:
        """Return the weights of a fully connected layer for a node that holds its inputs in another order.

        What the same array becomes for the same order is one array, as the steps of a recurrent layer share
        their weights.

        Args:
            weight: (outputs, inputs).
            order: (inputs,), the feature that each input is.
            size: how many features the node has.
        """
        key = (id(weight), size, order.tobytes())
        if key not in self.weights:
            columns = np.zeros((size, len(weight)), np.float32)
            present = order >= 0
            np.add.at(columns, order[present], weight.T[present])  # a value may be read more than once
            spread = np.ascontiguousarray(columns.T)
            spread.flags.writeable = False
            self.weights[key] = (weight, spread)
        return self.weights[key][1]

    def constant(self, name: str, values: FloatArray, origin: str) -> str:
        """Add values that do not depend on the input."""
        return self.emit(ann.Constant(name=name, shape=values.shape, origin=origin, values=values))

    def turned_to(self, view: View, order: Sequence[int], shape: Shape) -> View:
        """Return a tensor in a node of a shape that holds its values with the axes in another order."""
        name = self.routes.node(view.node, view.index.transpose(order).reshape(shape), view.origin)
        positions = row_major(tuple(view.shape[axis] for axis in order))
        return View(name, positions.transpose(np.argsort(order)), view.origin)

    def want(self, node: str, index: Index | None) -> None:
        """In probing, note the layout that an operation wants of the input that it reads, and stop.

        Args:
            node: what the operation reads.
            index: where its values lie in the input; ``None`` for an operation that takes any order.
        """
        if not self.probing:
            return
        name = next((name for name in self.layouts if name in self.pending & self._behind(node)), None)
        if name is None:
            return
        shape = self.layouts[name].source_shape
        order = row_major(shape).ravel() if index is None else np.atleast_1d(index)
        self.wanted = (name, wanted_layout(order, shape))
        raise RefusalError(None)

    def _behind(self, node: str) -> frozenset[str]:
        """Return the nodes that a node depends on; all inputs where one is behind what could not be read."""
        seen: set[str] = set()
        waiting = [node]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting.extend(self.nodes[name].inputs)
        return frozenset(seen) | (self.pending if seen & self.doubtful else frozenset())
