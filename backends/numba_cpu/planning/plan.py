"""Which kernel runs each synapse, and how much of a layer is worked on at a time.

The choice follows from shapes, from what the CPU has, and from how many neurons fire. It decides how
fast a network runs, never what it computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from snnc.backends.numba_cpu.layout.channel_layout import channel_choice
from snnc.backends.numba_cpu.layout.choices import Choice
from snnc.backends.numba_cpu.layout.event_layout import Events, event_choice
from snnc.backends.numba_cpu.layout.product_layout import TILE_KINDS, Products, product_choice
from snnc.backends.numba_cpu.layout.switching import Switching
from snnc.backends.numba_cpu.layout.terms import Band, Synapse, Values
from snnc.backends.numba_cpu.machine.cpu import detect
from snnc.backends.numba_cpu.planning.ranges import Interval, narrowest
from snnc.backends.numba_cpu.planning.request import Request, sums_first
from snnc.backends.numba_cpu.planning.times import BAND_STEPS, RATES, event_time, product_time
from snnc.ir import snn
from snnc.ir.geometry import Window
from snnc.ir.graph import Shape
from snnc.ir.kinds import ValueKind, value_kinds

DENSITY = 0.2
"""Share of neurons that fire in a step, where nothing was measured."""

BAND_BYTES = 128 << 10
"""What the currents of a band may take of the second-level cache: a weight tile serves all of them."""

DENSE_BAND_BYTES = 32 << 10
"""The same where all terms are products in vector registers, which read the whole weight for every row."""

NEAR = 2.0
"""Times that a density may lie off the one at which events and products tie, for a layer that switches."""

LEAST_SHARED = 80_000.0
"""Nanoseconds of work in a stage, on average, from which several threads on one image finish sooner than one:
they meet behind every stage, which takes tens of microseconds."""


@dataclass(frozen=True, slots=True)
class TermPlan:
    """One summand of a current.

    Attributes:
        name: the synapse, or the node whose current is added as it is.
        source: the node that is read.
        synapse: its weight and geometry; ``None`` for a current.
        choice: how it runs; ``None`` for a current, and for a synapse whose integers are too wide for
            any kernel.
        constant: whether the source is the same in each step with input.
        density: share of the source's neurons that fire in a step, by which it was planned; ``None`` where
            nothing was measured.
    """

    name: str
    source: str
    synapse: Synapse | None
    choice: Choice | None
    constant: bool
    density: float | None = None

    @property
    def kernel(self) -> str:
        """How it runs, in words."""
        if self.synapse is None:
            return "current"
        return f"{self.choice or 'general'}{', once for all steps' if self.constant else ''}"

    def __str__(self) -> str:
        """Return the name, the kernel and the density."""
        known = "" if self.density is None else f", {self.density:.1%} of {self.source} fire"
        return f"{self.name}: {self.kernel}{known}"


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A sum of currents and the population that it drives.

    Attributes:
        node: the population, the read-out, or a synapse whose current is needed by itself.
        terms: what is added.
        output: what is written.
        band: how much is worked on at a time.
    """

    node: snn.SnnNode
    terms: tuple[TermPlan, ...]
    output: Values
    band: Band

    @property
    def accumulate(self) -> bool:
        """Whether only the sum over all steps is wanted."""
        return isinstance(self.node, snn.Readout)


@dataclass(frozen=True, slots=True)
class ShapePlan:
    """A node that only rearranges, pools or takes in values.

    Attributes:
        node: the node.
        output: what it gives.
        constant: whether that is the same in each step with input.
        counts: of a function of counts, where those of each of its inputs stay.
    """

    node: snn.SnnNode
    output: Values
    constant: bool
    counts: tuple[Interval, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """How a network is run.

    Attributes:
        parts: stages and what lies between them, in order.
        given: where the values from the caller are put.
        cpu: the processor that it was made for.
        shares: how many threads work on one image.
    """

    parts: tuple[StagePlan | ShapePlan, ...]
    given: Mapping[str, Values]
    cpu: str
    shares: int = 1

    def work(self, steps: int) -> float:
        """Return about how many nanoseconds one thread takes for one image, per stage.

        Args:
            steps: T + K.
        """
        stages = [part for part in self.parts if isinstance(part, StagePlan)]
        synapses = sum(
            _term_time(term, steps) * (1 if term.constant else steps)
            for stage in stages
            for term in stage.terms
        )
        fire = [stage.output for stage in stages if isinstance(stage.node, snn.IntegrateFire)]
        neurons = sum(place.height * place.width * place.padded for place in fire)
        return (synapses + neurons * steps * RATES.firing_cost) / max(1, len(stages))

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "cpu": self.cpu,
            "threads_per_image": self.shares,
            "layers": [
                {
                    "name": part.node.name,
                    "shape": list(part.node.shape),
                    "band_rows": part.band.rows,
                    "band_steps": part.band.steps,
                    "terms": [
                        {
                            "name": term.name,
                            "source": term.source,
                            "kernel": term.kernel,
                            "density": term.density,
                        }
                        for term in part.terms
                    ],
                }
                for part in self.parts
                if isinstance(part, StagePlan)
            ],
        }

    def __str__(self) -> str:
        """Return one line per layer and one per term."""
        together = f", {self.shares} threads on an image" if self.shares > 1 else ""
        lines = [f"plan for {self.cpu}{together}"]
        for part in self.parts:
            if isinstance(part, ShapePlan):
                continue
            size = f"{part.output.channels}x{part.output.height}x{part.output.width}"
            band = f"{part.band.rows} rows x {part.band.steps} steps at a time"
            lines.append(f"{part.node.name}  {size}  {band}")
            lines += [f"  {term}" for term in part.terms]
        return "\n".join(lines)


def padded_channels(channels: int) -> int:
    """Return the channels that a pixel has room for."""
    return 16 if channels <= 16 else -(-channels // 32) * 32


REAL = np.dtype(np.float32)


def place(shape: Shape, interval: Interval | None, current: bool) -> Values:
    """Return where values of this shape live: int32 for currents, and float32 without an interval."""
    height, width = shape[1:] if len(shape) == 3 else (1, prod(shape[1:]))
    if interval is None:
        return Values(height, width, shape[0], padded_channels(shape[0]), REAL, 0, 0)
    kind = np.dtype(np.int32) if current else narrowest(interval.magnitude)
    padded = padded_channels(shape[0])
    return Values(height, width, shape[0], padded, kind, interval.low, interval.high)


def kept_in_order(request: Request) -> frozenset[str]:
    """Return the nodes whose values lie as in the network's own arrays, and not with the channels last.

    These are the values around products of matrices that only functions of counts and index maps read: heads
    of an attention are no channels, and their rows are to lie together.
    """
    moving = snn.Function | snn.Gather | snn.Reshape
    kinds = value_kinds(request.graph)
    fitting = {
        node.name
        for node in request.nodes
        if isinstance(node, moving) and len(node.shape) > 1 and kinds[node.name] is ValueKind.SPIKES
    }
    running = {node.name for node in request.nodes}
    for node in request.nodes:
        if not isinstance(node, moving):
            fitting.difference_update(node.inputs)
    together = {name: {name} for name in fitting}
    for node in request.nodes:
        for name in {*node.inputs, node.name} & fitting if isinstance(node, snn.CountMatrixProduct) else ():
            together[name].add("")
    for node in request.nodes:
        linked = [name for name in {*node.inputs, node.name} if name in fitting and node.name in running]
        if isinstance(node, moving) and len(linked) > 1:
            merged = set().union(*(together[name] for name in linked))
            for name in merged - {""}:
                together[name] = merged
    return frozenset(name for name in fitting if "" in together[name])


class Planner:
    """Makes the plan of one request."""

    def __init__(
        self,
        request: Request,
        ranges: Mapping[str, Interval],
        density: Mapping[str, float],
        shares: int = 1,
        counts: Mapping[str, Interval] | None = None,
    ) -> None:
        """Plan for what is asked.

        Args:
            request: the network and what is wanted of it.
            ranges: between which values every node stays; of those in float32, nothing is known.
            density: share of the neurons of a population that fire in a step, as far as known.
            shares: how many threads work on one image.
            counts: where the sum of each node's values up to any step stays.
        """
        self.request = request
        self.counts = counts or {}
        self.shares = shares
        self.ranges = ranges
        self.density = density
        self.direct = request.added_in_place()
        self.in_order = kept_in_order(request)
        self.kinds = value_kinds(request.graph)
        self.values: dict[str, Values] = {}
        self.constant: set[str] = set()

    def plan(self) -> Plan:
        """Return the plan: for one thread where several would wait for each other longer than they work."""
        planned = self._planned()
        if self.shares > 1 and planned.work(self.request.steps) < LEAST_SHARED:
            return Planner(self.request, self.ranges, self.density, 1, self.counts).plan()
        return planned

    def _planned(self) -> Plan:
        parts: list[StagePlan | ShapePlan] = []
        given = {name: self._place(self.request.graph[name]) for name in self.request.given}
        self.values.update(given)
        # What the caller fills in comes first, so that its memory is nobody else's before.
        for node in sorted(self.request.nodes, key=lambda node: not isinstance(node, snn.Encode)):
            if node.name in self.direct:
                continue
            if isinstance(node, snn.Weighted | snn.IntegrateFire | snn.Readout) and not sums_first(node):
                parts.append(self._stage(node))
            else:
                parts.append(self._shape(node))
        return Plan(tuple(parts), given, detect().summary, self.shares)

    def _place(self, node: snn.SnnNode) -> Values:
        current = self.kinds[node.name] is ValueKind.CURRENT
        found = place(node.shape, self.ranges.get(node.name), current)
        if node.name in self.in_order:
            return replace(found, height=1, width=prod(node.shape), channels=1, padded=1, in_order=True)
        return found

    def _shape(self, node: snn.SnnNode) -> ShapePlan:
        output = self._place(node)
        if isinstance(node, snn.Encode) and len(node.shape) == 3 and node.channels < 8:
            few = -(-node.channels // 4) * 4
            output = Values(
                output.height, output.width, node.channels, few, output.kind, output.low, output.high
            )
        constant = not node.remembers and all(name in self.constant for name in node.inputs)
        if constant:
            self.constant.add(node.name)
        self.values[node.name] = output
        counts = tuple(self.counts[name] for name in node.inputs) if isinstance(node, snn.Function) else ()
        return ShapePlan(node, output, constant, counts)

    def _stage(self, node: snn.SnnNode) -> StagePlan:
        alone = isinstance(node, snn.Weighted)
        output = self._place(node)
        names = (node.name,) if alone else node.inputs
        terms_ = tuple(self._term(name, alone or name in self.direct, output) for name in names)
        if alone and all(term.constant for term in terms_):
            self.constant.add(node.name)
        self.values[node.name] = output
        return StagePlan(node, terms_, output, self._band(terms_, output))

    def _band(self, terms_: tuple[TermPlan, ...], output: Values) -> Band:
        dense = not any(_shares_weights(term.choice) for term in terms_)
        room = min(BAND_BYTES, DENSE_BAND_BYTES) if dense else BAND_BYTES
        steps = min(BAND_STEPS, self.request.steps)
        rows = room // (output.width * output.padded * 4 * steps)
        return Band(max(1, min(-(-output.height // self.shares), rows)), steps)

    def _term(self, name: str, weighted: bool, output: Values) -> TermPlan:
        node = self.request.graph[name]
        if not weighted or not isinstance(node, snn.Weighted):
            return TermPlan(name, name, None, None, name in self.constant)
        source = node.inputs[0]
        synapse = self._synapse(node, self.values[source], output)
        constant = source in self.constant
        choice = self.choose(synapse, source)
        return TermPlan(name, source, synapse, choice, constant, self.density.get(source))

    def _synapse(self, node: snn.Weighted, source: Values, output: Values) -> Synapse:
        weight = node.weight
        window, groups = Window((1, 1)), 1
        match node:
            case snn.Convolution():
                window, groups = node.window, node.groups
            case snn.Linear():
                weight = weight[:, :, np.newaxis, np.newaxis]
            case _:
                weight, groups = weight[:, np.newaxis, np.newaxis, np.newaxis], node.channels
        if source.kind == REAL:
            weight = weight.astype(np.float32)
        return Synapse(weight, window, groups, source, output.width, output.padded)

    def choose(self, synapse: Synapse, source: str) -> Choice | None:
        """Return the kernel for a synapse; ``None`` leaves it to the general one."""
        channels = channel_choice(synapse)
        if channels is not None:
            return channels
        events, products = event_choice(synapse), product_choice(synapse)
        if events is None or source in self.constant:
            return products
        if products is None:
            return events
        silent = event_time(synapse, events, 0.0)
        for_all = event_time(synapse, events, 1.0) - silent
        share = (product_time(synapse, products, self.request.steps) - silent) / for_all
        density = self.density.get(source, DENSITY)
        if share < 1 and share / NEAR < density < share * NEAR:
            return Switching(events, products, share)
        return events if density < share else products


def _shares_weights(choice: Choice | None) -> bool:
    """Say whether a kernel reads a weight once for many rows."""
    return isinstance(choice, Events | Switching) or (
        isinstance(choice, Products) and choice.kind in TILE_KINDS
    )


def _term_time(term: TermPlan, steps: int) -> float:
    """Return about how many nanoseconds one of so many steps of one image takes."""
    match term.choice, term.synapse:
        case (_, None):
            return 0.0
        case (Events() as choice, synapse):
            return event_time(synapse, choice, DENSITY if term.density is None else term.density)
        case (Products() as choice, synapse):
            return product_time(synapse, choice, steps)
        case (Switching() as choice, synapse):
            return product_time(synapse, choice.products, steps)
        case (_, synapse):
            outputs = synapse.source.height * synapse.source.width / prod(synapse.window.strides)
            return outputs * synapse.weight.size / RATES.float_products
