"""Running a network: chunks of images through a program, and keeping what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu.execution.program import Part, Program
from snnc.backends.numba_cpu.execution.shapes import channels_first, channels_last
from snnc.backends.numba_cpu.kernels.counting import tally
from snnc.backends.numba_cpu.kernels.thread_team import ThreadTeam
from snnc.backends.numba_cpu.layout import choices
from snnc.backends.numba_cpu.layout.terms import Packed
from snnc.backends.numba_cpu.planning.plan import Plan, Planner, StagePlan
from snnc.backends.numba_cpu.planning.ranges import (
    INTEGERS,
    Interval,
    count_ranges,
    measured,
    narrowest,
    value_ranges,
)
from snnc.backends.numba_cpu.planning.request import Request
from snnc.errors import InputError
from snnc.ir import snn
from snnc.ir.batch import Batch
from snnc.ir.graph import NumberArray
from snnc.simulation.protocol import Activity, Trace

Array = NDArray[Any]


class Prepared:
    """What many runs of a network share: the plan, the weights laid out, and memory.

    Attributes:
        request: what is run.
        plan: how.
        bytes_per_image: memory that the largest value of one image takes.
        kept: the parts of the plan of which anything is kept.
    """

    def __init__(
        self,
        request: Request,
        given: Mapping[str, Interval],
        inputs: Mapping[str, Interval],
        density: Mapping[str, float],
        team: ThreadTeam,
        shares: int,
    ) -> None:
        """Plan, and lay the weights out.

        Args:
            request: what is run.
            given: where the spikes from the caller stay.
            inputs: where each quantised input stays.
            density: share of the neurons of a population that fire in a step, as far as known.
            team: the threads.
            shares: how many of them work on one image.
        """
        self.request = request
        ranges = value_ranges(request, given, inputs) if request.integer else {}
        counts = count_ranges(request, given, inputs)
        self.plan = Planner(request, ranges, density, shares, counts).plan()
        self.bytes_per_image = max(
            (
                part.output.height * part.output.width * part.output.pixel_bytes * request.steps
                for part in self.plan.parts
            ),
            default=1,
        )
        self.kept = tuple(part for part in self.plan.parts if request.keeps(part.node))
        self._team = team
        self._packed = pack(self.plan)
        self._programs: list[Program] = []

    @contextmanager
    def program(self, images: int) -> Iterator[Program]:
        """Lend a program for that many images to one thread."""
        fitting = (p for p in self._programs if p.images >= images)
        try:
            program = min(fitting, key=lambda p: p.images)
            self._programs.remove(program)
        except ValueError:
            # None is left, or another thread was quicker.
            program = Program(self.request, self.plan, self._packed, images, self._team)
        try:
            yield program
        finally:
            self._programs.append(program)


class Run:
    """One run of a network.

    What is kept lies in arrays for the whole batch, channels last, of which every chunk of images
    fills its part.
    """

    def __init__(self, prepared: Prepared, inputs: Batch, given: Mapping[str, Array]) -> None:
        """Allocate what is kept.

        Args:
            prepared: what is run, and how.
            inputs: (batch, *input shape), each quantised input.
            given: trains of nodes that are not run, (T + K, batch, *shape).
        """
        self.prepared = prepared
        self.request = prepared.request
        self.inputs = inputs
        self.given = given
        record = self.request.record
        number = np.dtype(np.int32 if self.request.integer else np.float32)
        self._outputs: dict[str, Array] = {}
        self._counts: dict[str, Array] = {}
        self._potentials: dict[str, Array] = {}
        self._trains: dict[str, Array] = {}
        for part in prepared.kept:
            node, place = part.node, part.output
            shape = (len(inputs), place.height, place.width, place.channels)
            if isinstance(node, snn.Readout):
                self._outputs[node.name] = np.empty(shape, number)
                continue
            if isinstance(node, snn.IntegrateFire) and record.states:
                self._counts[node.name] = np.empty(shape, np.int32)
                if record.potentials:
                    kind = np.int32 if node.integer else np.float32
                    self._potentials[node.name] = np.empty(shape, kind)
            if node.name in record.trains:
                self._trains[node.name] = np.empty((self.request.steps, *shape), place.kind)

    def run(self, start: int, stop: int) -> dict[str, Activity]:
        """Run the images from ``start`` to ``stop``, and return the activity of the populations."""
        activity: dict[str, Activity] = {}
        images = stop - start
        with self.prepared.program(images) as program:
            self._fill(program, start, stop)
            for part in program.run(images):
                self._keep(part, start, stop)
                if self.request.record.activity and isinstance(part.node, snn.IntegrateFire | snn.Function):
                    activity[part.node.name] = _activity(part, images)
        return activity

    def _keep(self, part: Part, start: int, stop: int) -> None:
        request, node, value = self.request, part.node, part.value
        images = stop - start
        if node.name in self._trains:
            self._trains[node.name][:, start:stop] = value.spread(images, request.timesteps, request.steps)
        if part.states is not None:
            potential, taken = (state[:images, ..., : value.place.channels] for state in part.states)
            if node.name in self._potentials:
                self._potentials[node.name][start:stop] = potential
            np.negative(taken, out=self._counts[node.name][start:stop], casting="unsafe")
        if isinstance(node, snn.Readout):
            outputs = self._outputs[node.name]
            if node.leaky:
                outputs[start:stop] = value.channels(images)[0]
                return
            bias = np.multiply(node.bias, request.timesteps, dtype=outputs.dtype)
            outputs[start:stop] = value.channels(images)[0] + bias

    @property
    def bytes_per_image(self) -> int:
        """Memory that the largest value of one image takes."""
        return self.prepared.bytes_per_image

    def profile(self, rounds: int) -> dict[str, float]:
        """Return the seconds that each stage takes at least for the whole batch at once."""
        found: dict[str, float] = {}
        images = len(self.inputs)
        with self.prepared.program(images) as program:
            for _ in range(rounds):
                self._fill(program, 0, images)
                for name, seconds in program.profile(images).items():
                    found[name] = min(seconds, found.get(name, seconds))
        return found

    def _fill(self, program: Program, start: int, stop: int) -> None:
        """Put the input of some images in its place; the memory is used for other values later on."""
        for name, train in self.given.items():
            program.given[name].fill(channels_last(train[:, start:stop]))
        for name, value in program.encoded.items():
            value.fill(channels_last(self.inputs.arrays[name][np.newaxis, start:stop]))

    def trace(self, activities: Iterable[dict[str, Activity]]) -> Trace:
        """Return what was kept, channels first, with the activity of all chunks."""
        trace = Trace(timesteps=self.request.timesteps, samples=len(self.inputs))
        trace.activity = self.request.total(activities)
        graph = self.request.graph
        outputs = {name: _channels_first(y, 1, graph[name]) for name, y in self._outputs.items()}
        trace.add_outputs(graph, outputs)
        trace.counts = {name: _channels_first(n, 1, graph[name]) for name, n in self._counts.items()}
        trace.potentials = {name: _channels_first(v, 1, graph[name]) for name, v in self._potentials.items()}
        trace.trains = {name: _channels_first(s, 2, graph[name]) for name, s in self._trains.items()}
        return trace


def pack(plan: Plan) -> dict[str, Packed]:
    """Lay all weights out as planned."""
    return {
        term.name: choices.pack(term.synapse, term.choice)
        for part in plan.parts
        if isinstance(part, StagePlan)
        for term in part.terms
        if term.synapse is not None and term.choice is not None
    }


def _channels_first(values: Array, lead: int, node: snn.SnnNode) -> Array:
    """View values, (..., height, width, channels), in the shape of ``node`` behind ``lead`` axes."""
    if values.shape[-1] == 1:  # one channel, or values that lie in order
        return values.reshape(*values.shape[:lead], *node.shape)
    if len(node.shape) == 3:
        return channels_first(values, lead)
    return channels_first(values.reshape(*values.shape[:lead], *node.shape[1:], node.channels), lead)


def _activity(part: Part, images: int) -> Activity:
    """Count the events of a population's spikes."""
    values, place = part.value.values, part.value.place
    events, units, bits = (np.zeros(values.shape[2:], np.int64) for _ in range(3))
    tally(
        values.reshape(*values.shape[:2], -1), images, events.reshape(-1), units.reshape(-1), bits.reshape(-1)
    )
    inside = (counted[..., : place.channels] for counted in (events, units, bits))
    return Activity(*(np.ascontiguousarray(_channels_first(counted, 0, part.node)) for counted in inside))


def integers(name: str, train: NumberArray) -> Array:
    """Return given spikes in the narrowest integer type that holds them.

    Raises:
        InputError: they are fractions, or beyond 32 bits.
    """
    if train.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = train.astype(np.int32)
        if not np.array_equal(whole, train):
            raise InputError(f"the given spikes of {name!r} are not whole numbers within 32 bits")
        train = whole
    if train.dtype in INTEGERS:
        return train
    kind = narrowest(measured(train).magnitude)
    if kind not in INTEGERS:
        raise InputError(f"the given spikes of {name!r} are beyond 32 bits")
    return train.astype(kind)


def floats(train: NumberArray) -> Array:
    """Return given spikes in float32."""
    return train.astype(np.float32, copy=False)
