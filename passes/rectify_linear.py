"""Insert a population for every linear value that cannot reach its readers as a current.

A current may only be summed, pooled and fed to neurons. If the source network has two consecutive linear maps
(a linear bottleneck), or one linear value with several readers (the stream of a pre-activation residual
network), spikes are needed in between although there is no rectifier. A signed value ``x >= -r`` passes
through a rectifier unchanged if a shift is added first::

    x = max(x + r, 0) - r        with r per channel from the calibration rows

and the ``- r`` folds into the bias of its readers.

If only a maximum reads the value, only the largest values matter: on the calibration rows ``max_i x_i`` is
at least some smallest maximum ``m``, so ``r = -m`` does not change it, and all levels are used for values
that can be the maximum. The maximum of the levels is the level of the maximum and is not encoded again.

The input itself gets a population if weights read it together with spikes, in a sum or a concatenation.
Presented in every step with its 12 bits, it would need weights that are thousands of times finer than those
of the spikes, and both share one scale; as spikes it needs weights of similar size, and its resolution grows
with the number of steps. In few steps it would have fewer levels than the 12 bits, so it is presented
directly. If the input is added without weights, its wide weights represent it (see
:func:`snnc.numerics.input_range.input_limit`).

A function of spike counts (a product of activations, a normalisation) sees integers alone: what it reads must
be spikes of one unit, whose silence stands for zero. A linear value that one reads is sent as signed counts,
by a step function of it, and a rectifier that one reads becomes a step function, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir.ann import (
    Add,
    AnnGraph,
    AnnNode,
    AveragePool,
    ChannelAffine,
    Concat,
    Constant,
    Convolution,
    Gather,
    Input,
    Levelled,
    Linear,
    MaxPool,
    Pad,
    Pointwise,
    Relu,
    Reshape,
    Slice,
    Softmax,
)
from snnc.ir.batch import rows_of
from snnc.ir.count_paths import COUNT_FUNCTIONS, MOVES, read_by_counts
from snnc.ir.function import IDENTITY, Call, composed
from snnc.ir.geometry import ABSENT
from snnc.ir.graph import FloatArray
from snnc.ir.operations import check_known
from snnc.ir.rewriter import Names, Rewriter
from snnc.numerics.input_range import encoded, first_layer, input_affine, raw_channels
from snnc.pipeline import Context, require

ENOUGH_STEPS = 8
"""Steps from which on spikes say more of an input than what is left of it beside other spikes."""


@dataclass(frozen=True, slots=True)
class RectifyLinear:
    """Insert raised rectifiers where two linear maps follow each other.

    Attributes:
        headroom: by how much the measured range is widened, relative.
    """

    name: ClassVar[str] = "rectify-linear"
    headroom: float = 0.05

    def __post_init__(self) -> None:
        """Refuse a range that is narrower than what was measured, or has no end."""
        require("headroom", self.headroom, 0, 100)

    def run(self, graph: AnnGraph, context: Context, /) -> AnnGraph:
        """Return a graph in which every linear value has a rectifier before it meets weights again."""
        check_known(graph)
        # What was measured here cannot be found out from the file again: the report needs it.
        shifts: dict[str, list[float]] = {}
        counted = _counted(graph)
        raised = self._raised(counted, context, shifts)
        result = self._spiking_input(raised, context, shifts)
        if result is not counted:
            context.findings["shifts"] = shifts
        return result

    def _raised(self, graph: AnnGraph, context: Context, shifts: dict[str, list[float]]) -> AnnGraph:
        """Insert rectifiers behind linear values, and note their shifts."""
        places = _places(graph)
        if not places:
            return graph
        read = {name: graph.seen_as(name) for name in places}
        samples = context.calibration.samples(
            graph, list(dict.fromkeys(read.values())), per_channel=1, seed=context.seed
        )
        context.findings["raised"] = places
        rewriter: Rewriter[AnnNode] = Rewriter(graph)
        for name in places:
            node, sample = graph[name], samples[read[name]]
            shift: FloatArray
            if read[name] == name:
                shift = np.maximum(-sample.minimum, 0) * np.float32(1 + self.headroom)
            else:
                shift = np.float32(self.headroom) * (sample.maximum - sample.minimum) - sample.minimum
            shift = shift.astype(np.float32)
            raised = Relu(
                name=rewriter.fresh(f"{name}.raised"),
                inputs=(name,),
                shape=node.shape,
                origin=node.origin,
                shift=shift,
            )
            rewriter.insert_after(name, raised)
            # What is returned stays the sum itself, and so does what a softmax makes of it.
            readers = [reader.name for reader in graph.consumers[name] if not isinstance(reader, Softmax)]
            rewriter.replace_uses(name, raised.name, readers)
            shifts[raised.name] = [float(value) for value in shift]
        return graph.with_nodes(rewriter.nodes, rewriter.outputs)

    def _spiking_input(self, graph: AnnGraph, context: Context, shifts: dict[str, list[float]]) -> AnnGraph:
        """Give weights that read the input beside spikes a population of it to read instead."""
        if context.timesteps < ENOUGH_STEPS:
            return graph
        raw = frozenset(raw_channels(graph, graph.inputs[0]))
        edges = _beside_spikes(graph, raw)
        copied = [node for node in graph if node.name in raw and node.name in _above(graph, edges, raw)]
        if not edges or any(_pads(node) for node in copied):
            return graph
        names = Names(node.name for node in graph)
        copies: dict[str, AnnNode] = {}
        heads: dict[str, Relu] = {}
        for given in graph.of_type(Input):
            head = input_affine(graph, given) or given
            if head not in copied:
                continue
            rows = encoded(graph, rows_of(context.calibration.rows, given.name), given)
            minimum = rows.min(axis=(0, *range(2, rows.ndim)))
            shift = (np.maximum(-minimum, 0) * np.float32(1 + self.headroom)).astype(np.float32)
            heads[head.name] = Relu(
                name=names.fresh(f"{head.name}.spikes"),
                inputs=(head.name,),
                shape=head.shape,
                origin=head.origin,
                shift=shift,
            )
            copies[head.name] = heads[head.name]
            shifts[heads[head.name].name] = [float(value) for value in shift]
        behind = {name: node for name, node in heads.items() if not isinstance(graph[name], Input)}
        nodes: list[AnnNode] = list(graph.inputs)
        nodes += [node for name, node in heads.items() if name not in behind]
        for node in graph.nodes[len(graph.inputs) :]:
            read = tuple(copies[n].name if (n, node.name) in edges else n for n in node.inputs)
            nodes.append(node.with_(inputs=read) if read != node.inputs else node)
            if node.name in behind:
                nodes.append(behind[node.name])
            elif node in copied:
                inputs = tuple(copies[n].name for n in node.inputs)
                copies[node.name] = node.with_(name=names.fresh(f"{node.name}.spikes"), inputs=inputs)
                nodes.append(copies[node.name])
        return graph.with_nodes(_used(nodes, graph.outputs))


def _counted(graph: AnnGraph) -> AnnGraph:
    """Give functions of counts spikes to read whose silence stands for zero; the same graph if they do."""
    rewriter: Rewriter[AnnNode] = Rewriter(graph)
    for name in [name for group in read_by_counts(graph) for name in sorted(group)]:
        node = graph[name]
        if isinstance(node, Levelled):
            continue
        if isinstance(node, Relu) and node.shift is None:
            rewriter.replace(name, _as_function(node))
            continue
        sent = Pointwise(
            name=rewriter.fresh(f"{name}.sent"),
            inputs=(name,),
            shape=node.shape,
            origin=node.origin,
            program=IDENTITY.program,
            constants=IDENTITY.constants,
        )
        # Neurons read the current itself: what is sent is rounded.
        readers = [
            reader for reader in graph.consumers[name] if not isinstance(reader, Softmax | Relu | Pointwise)
        ]
        if isinstance(node, Input | Constant):  # which others read best as they are
            readers = [reader for reader in readers if _leads_to_counts(graph, reader)]
        # The inputs of a network are its first nodes.
        rewriter.insert_after(graph.inputs[-1].name if isinstance(node, Input) else name, sent)
        rewriter.replace_uses(name, sent.name, [reader.name for reader in readers])
    return graph.with_nodes(rewriter.nodes, rewriter.outputs)


def _leads_to_counts(graph: AnnGraph, node: AnnNode) -> bool:
    """Whether a function of counts reads a node's values, through moves, or is the node."""
    if isinstance(node, COUNT_FUNCTIONS):
        return True
    return isinstance(node, MOVES) and any(
        _leads_to_counts(graph, each) for each in graph.consumers[node.name]
    )


def _as_function(node: Relu) -> Pointwise:
    """Return a rectifier as a function, so that its spikes keep their unit whatever its weights are."""
    calls = [Call("Relu", ("x",))]
    constants: list[FloatArray] = []
    if node.scale is not None:
        rounding = {"half-even": "Round", "floor": "Floor"}.get(node.rounding)
        limits = (
            node.scale,
            *(np.full(node.channels, end, np.float32) for end in (node.lowest, node.highest)),
        )
        constants += limits
        calls = [Call("Div", ("x", "c0"))]
        if rounding is None:  # half up
            constants.append(np.full(node.channels, 0.5, np.float32))
            calls.append(Call("Add", ("v0", "c3")))
        calls.append(Call(rounding or "Floor", (f"v{len(calls) - 1}",)))
        calls.append(Call("Max", (f"v{len(calls) - 1}", "c1")))
        calls.append(Call("Min", (f"v{len(calls) - 1}", "c2")))
        calls.append(Call("Mul", (f"v{len(calls) - 1}", "c0")))
    if node.ceiling is not None:
        constants.append(node.ceiling)
        calls.append(Call("Min", (f"v{len(calls) - 1}", f"c{len(constants) - 1}")))
    return Pointwise(
        name=node.name,
        inputs=node.inputs,
        shape=node.shape,
        origin=node.origin,
        program=composed(calls),
        constants=np.stack(constants) if constants else IDENTITY.constants,
    )


def _beside_spikes(graph: AnnGraph, raw: frozenset[str]) -> frozenset[tuple[str, str]]:
    """Return where weights read the input whose currents meet spikes, as (value, reader).

    Args:
        graph: the network.
        raw: names of the nodes that hold the input alone.
    """
    behind: dict[str, frozenset[tuple[str, str]]] = {}
    found: set[tuple[str, str]] = set()
    for node in graph:
        if node.name in raw or isinstance(node, Relu | Levelled):
            behind[node.name] = frozenset()
            continue
        direct = {(name, node.name) for name in node.inputs if name in raw}
        behind[node.name] = frozenset(direct).union(*(behind[name] for name in node.inputs))
        others = [n for n in node.inputs if n not in raw and not isinstance(graph[n], Constant)]
        if isinstance(node, Add | Concat) and any(not behind[n] for n in others):
            as_it_is = direct if isinstance(node, Add) else set()
            found |= behind[node.name] - as_it_is
    return frozenset(found)


def _above(graph: AnnGraph, edges: frozenset[tuple[str, str]], raw: frozenset[str]) -> frozenset[str]:
    """Return the nodes that hold inputs on their way to these places."""
    return graph.ancestors([name for name, _ in edges]) & raw if edges else frozenset()


def _pads(node: AnnNode) -> bool:
    """Whether zeros stand beside the values, which silent neurons of a raised value are not."""
    if isinstance(node, Gather):
        return bool((node.index == ABSENT).any())
    return isinstance(node, Pad) or (isinstance(node, AveragePool) and any(node.window.pads))


def _used(nodes: list[AnnNode], outputs: Sequence[str]) -> list[AnnNode]:
    """Leave out the nodes that nothing reads any more."""
    read = set(outputs)
    kept: list[AnnNode] = []
    for node in reversed(nodes):
        if node.name in read or isinstance(node, Input):
            kept.append(node)
            read.update(node.inputs)
    return kept[::-1]


def _places(graph: AnnGraph) -> list[str]:
    """Names of the values that get a rectifier: signed sums, not spikes and not the input."""
    linear: set[str] = set()
    raised: set[str] = set()
    places: list[str] = []
    raw = _single_inputs(graph)
    for node in graph:
        moved = isinstance(node, AveragePool | Reshape | Slice | Pad | MaxPool | Concat | Gather)
        # Zeros beside a raised value are no silent neurons: its padding is a current.
        currents = linear | raised if _pads(node) else linear
        if isinstance(node, Convolution | Linear | Add | ChannelAffine) or (
            moved and (any(name in currents for name in node.inputs) or _mixes(graph, node, raw))
        ):
            if _needs_spikes(graph, node.name):
                places.append(node.name)
                raised.add(node.name)
            else:
                linear.add(node.name)
        elif moved and any(name in raised for name in node.inputs):
            raised.add(node.name)
    return places


def _single_inputs(graph: AnnGraph) -> frozenset[str]:
    """Return the nodes that hold values of one input alone: all channels that meet there share one unit."""
    raw = raw_channels(graph, graph.inputs[0])
    behind: dict[str, frozenset[str]] = {}
    for node in graph:
        if node.name in raw:
            own = frozenset({node.name}) if isinstance(node, Input) else frozenset()
            behind[node.name] = own.union(*(behind[name] for name in node.inputs))
    return frozenset(name for name, inputs in behind.items() if len(inputs) == 1)


def _mixes(graph: AnnGraph, node: AnnNode, raw: frozenset[str]) -> bool:
    """Whether values of several channels, or zeros beside them, become one channel: then currents move.

    Of the input all such channels share one unit.
    """
    if not isinstance(node, Reshape | Gather) or node.name in raw:
        return False
    return not node.keeps_channels(graph[node.inputs[0]].shape)


def _needs_spikes(graph: AnnGraph, name: str) -> bool:
    """Whether a reader of this linear value cannot take a current."""
    readers = [node for node in graph.consumers[name] if not isinstance(node, Softmax)]
    if not readers:
        return False
    node = graph[name]
    if isinstance(node, ChannelAffine):
        # What it reads has spikes, or gets them here: an affine map only reads them in another unit. But
        # where it turns the sign, the maximum of the values is the minimum of the spikes.
        return bool(node.scale.min() <= 0) and any(isinstance(reader, MaxPool) for reader in readers)
    if any(
        isinstance(reader, Convolution | Linear | ChannelAffine | Concat | Pad | Slice) for reader in readers
    ):
        return True
    if any(isinstance(reader, MaxPool) for reader in readers):
        # Only a current that is constant in time may be compared: it has the same order in every step.
        return name not in first_layer(graph) or not all(
            isinstance(after, Relu | Pointwise)
            for reader in readers
            if isinstance(reader, MaxPool)
            for after in graph.consumers[reader.name]
        )
    if len(readers) == 1 and _mixes(graph, readers[0], frozenset()):
        return False
    if len(readers) == 1 and isinstance(readers[0], Gather):
        return _needs_spikes(graph, readers[0].name)
    if any(isinstance(reader, Reshape) for reader in readers):
        # A read-out may accumulate a current and flatten it; all else reads spikes in another shape.
        after = [node for reader in readers for node in graph.consumers[reader.name]]
        last = all(isinstance(node, Softmax) for node in after) and len(readers) == 1
        return not last and node.shape[1:] != (1, 1)
    functions = any(isinstance(reader, Pointwise) for reader in readers)
    if functions and all(isinstance(reader, Relu | Pointwise) for reader in readers):
        return False  # one current drives them all
    return len(readers) > 1
