"""Running a quantised network: some images, layer by layer over all steps."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from snnc.backends.numba_cpu import layers
from snnc.backends.numba_cpu.kernels import Array, tally
from snnc.backends.numba_cpu.layers import Synapse, Train, channels_last, to_channels_first, to_channels_last
from snnc.backends.numba_cpu.ranges import INTEGERS, magnitude, narrowest, value_ranges
from snnc.backends.numba_cpu.request import Request
from snnc.errors import InputError
from snnc.ir import snn
from snnc.ir.graph import NumberArray, Shape
from snnc.target import Activity, Trace


class IntegerRun:
    """One run of a network in integers.

    What is kept lies in arrays for the whole batch, channels last, of which every chunk of images
    fills its part.
    """

    def __init__(self, request: Request, synapses: dict[str, Synapse]) -> None:
        """Prepare a run.

        Args:
            request: what is asked for.
            synapses: weights laid out by earlier runs of this network; those missing are added.
        """
        self.request = request
        self.given = {name: _integers(name, train) for name, train in request.given.items()}
        self.ranges = value_ranges(request.nodes, self.given, request.timesteps, request.steps)
        for node in request.nodes:
            if isinstance(node, snn.Weighted) and node.name not in synapses:
                synapses[node.name] = Synapse(node)
        self.synapses = synapses
        self._direct = self._synapses_added_in_place()
        self._finished = request.finished(self._direct)
        self._allocate()

    def _synapses_added_in_place(self) -> frozenset[str]:
        """Return the synapses that only one sum reads, so that they can be added where it is formed."""
        summed = {
            name
            for node in self.request.nodes
            if isinstance(node, snn.IntegrateFire | snn.Readout)
            for name in node.inputs
            if self.request.reads[name] == 1 and name not in self.request.record.trains
        }
        return frozenset(node.name for node in self.request.nodes if isinstance(node, snn.Weighted)) & summed

    def _allocate(self) -> None:
        request, record = self.request, self.request.record
        batch = len(request.inputs)
        self._outputs: Array | None = None
        self._counts: dict[str, Array] = {}
        self._potentials: dict[str, Array] = {}
        self._trains: dict[str, Array] = {}
        for node in request.nodes:
            shape = channels_last(node.shape)
            if isinstance(node, snn.Readout):
                self._outputs = np.empty((batch, *shape), np.int32)
                continue
            if isinstance(node, snn.IntegrateFire) and record.states:
                self._counts[node.name] = np.empty((batch, *shape), np.int32)
                self._potentials[node.name] = np.empty((batch, *shape), np.int32)
            if node.name in record.trains:
                kind = narrowest(self.ranges[node.name])
                self._trains[node.name] = np.empty((request.steps, batch, *shape), kind)

    @property
    def bytes_per_image(self) -> int:
        """Memory that the largest current of one image takes."""
        return 4 * self.request.steps * max((int(np.prod(n.shape)) for n in self.request.nodes), default=1)

    def run(self, start: int, stop: int) -> dict[str, Activity]:
        """Run the images from ``start`` to ``stop``, and return the activity of the populations."""
        request = self.request
        trains: dict[str, Train] = {}
        activity: dict[str, Activity] = {}
        for name, train in self.given.items():
            trains[name] = Train(to_channels_last(train[:, start:stop]))
        for node in request.nodes:
            if node.name in self._direct:
                continue
            match node:
                case snn.Encode():
                    kind = narrowest(node.limit)
                    q = to_channels_last(request.inputs[np.newaxis, start:stop]).astype(kind)
                    trains[node.name] = Train(q, constant=True)
                case snn.Weighted():
                    read = trains[node.inputs[0]]
                    trains[node.name] = Train(self._current(node, read), read.constant)
                case snn.IntegrateFire():
                    spikes = self._fire(node, trains, start, stop)
                    trains[node.name] = Train(spikes)
                    if request.record.activity:
                        activity[node.name] = _activity(node.shape, spikes)
                case snn.Readout():
                    self._read_out(node, trains, start, stop)
                    continue
                case _:
                    read_all = [trains[name] for name in node.inputs]
                    largest = self.ranges[node.name]
                    trains[node.name] = layers.apply(
                        node, read_all, largest, request.timesteps, request.steps
                    )
            if node.name in self._trains:
                values = trains[node.name].spread(request.timesteps, request.steps)
                self._trains[node.name][:, start:stop] = values
            for name in self._finished.get(node.name, ()):
                del trains[name]
        return activity

    def _current(self, node: snn.Weighted, read: Train) -> Array:
        current = np.zeros((*read.values.shape[:2], *channels_last(node.shape)), np.int32)
        self.synapses[node.name].add_to(current, read.values, self.ranges[node.inputs[0]])
        return current

    def _sum(
        self, node: snn.SnnNode, trains: dict[str, Train], images: int
    ) -> tuple[Array | None, Array | None]:
        """Return the moving part, (steps, images, ...), and the constant part, (images, ...), of a sum."""
        shape = channels_last(node.shape)
        moving: Array | None = None
        constant: Array | None = None
        for name in node.inputs:
            direct = name in self._direct
            read = trains[self.request.graph[name].inputs[0] if direct else name]
            if read.constant:
                constant = np.zeros((1, images, *shape), np.int32) if constant is None else constant
                target = constant
            else:
                moving = (
                    np.zeros((self.request.steps, images, *shape), np.int32) if moving is None else moving
                )
                target = moving
            if direct:
                source = self.request.graph[name].inputs[0]
                self.synapses[name].add_to(target, read.values, self.ranges[source])
            else:
                target += read.values
        return moving, None if constant is None else constant[0]

    def _fire(self, node: snn.IntegrateFire, trains: dict[str, Train], start: int, stop: int) -> Array:
        images, shape = stop - start, channels_last(node.shape)
        moving, constant = self._sum(node, trains, images)
        spikes = np.empty((self.request.steps, images, *shape), narrowest(self.ranges[node.name]))
        if node.name in self._counts:
            v, count = self._potentials[node.name][start:stop], self._counts[node.name][start:stop]
        else:
            v, count = np.empty((images, *shape), np.int32), np.empty((images, *shape), np.int32)
        request = self.request
        layers.fire(node, moving, constant, request.timesteps, request.barrier, spikes, v, count)
        return spikes

    def _read_out(self, node: snn.Readout, trains: dict[str, Train], start: int, stop: int) -> None:
        moving, constant = self._sum(node, trains, stop - start)
        total = np.multiply(node.bias, self.request.timesteps, dtype=np.int32)
        if constant is not None:
            total = total + self.request.timesteps * constant
        if moving is not None:
            total = total + moving.sum(axis=0, dtype=np.int32)
        if self._outputs is not None:
            self._outputs[start:stop] = total

    def trace(self, activities: Iterable[dict[str, Activity]]) -> Trace:
        """Return what was kept, channels first, with the activity of all chunks."""
        trace = Trace(timesteps=self.request.timesteps, samples=len(self.request.inputs))
        if self._outputs is not None:
            trace.outputs = np.moveaxis(self._outputs, -1, 1)
        trace.counts = {name: np.moveaxis(n, -1, 1) for name, n in self._counts.items()}
        trace.potentials = {name: np.moveaxis(v, -1, 1) for name, v in self._potentials.items()}
        trace.trains = {name: to_channels_first(train) for name, train in self._trains.items()}
        trace.activity = self.request.total(activities)
        return trace


def _activity(shape: Shape, spikes: Array) -> Activity:
    """Count the events of channel-last spikes, (steps, images, *positions, channels)."""
    place = channels_last(shape)
    events, units, bits = (np.zeros(place, np.int64) for _ in range(3))
    frames = spikes.reshape(spikes.shape[0] * spikes.shape[1], -1)
    tally(frames, events.reshape(-1), units.reshape(-1), bits.reshape(-1))
    return Activity(*(np.moveaxis(counted, -1, 0) for counted in (events, units, bits)))


def _integers(name: str, train: NumberArray) -> Array:
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
    kind = narrowest(magnitude(train))
    if kind not in INTEGERS:
        raise InputError(f"the given spikes of {name!r} are beyond 32 bits")
    return train.astype(kind)
