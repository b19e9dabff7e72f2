"""From units to the core's program and memories, for a number of lanes.

The core takes layer after layer, each for all its steps: without delays between layers the results are those
of all layers step by step, and only one population's potentials are kept at a time. A map of spikes lies in
memory once per step, channels last, in words of one neuron a lane, from when its first step is run until its
last reader has run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from math import prod

import numpy as np

from snnc.backends.fpga import program as code
from snnc.backends.fpga.additions import PAIR, Tables, Walk
from snnc.backends.fpga.external import Buffer, external_beats
from snnc.backends.fpga.layout import Addition, Design, Sizes, Work
from snnc.backends.fpga.parameters import Parameters, population_rows
from snnc.backends.fpga.places import input_places, map_places, widths
from snnc.backends.fpga.program import Program, halfwords, packed
from snnc.backends.fpga.units import ONE, Maximum, Synapse, Unit, Units
from snnc.backends.fpga.views import Volume, volume
from snnc.errors import InternalError, UsageError
from snnc.ir.bounds import step_bounds
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Firing, firing, largest_spike
from snnc.ir.snn import CountMaxPool, Encode, IntegrateFire, Readout, SnnNode


@dataclass(frozen=True, slots=True)
class Fetching:
    """How weights are fetched from an external memory.

    Attributes:
        buffer: words of weights on the chip.
        at_once: whether weights that are more than that are fetched once for an image, and the currents of
            all steps kept beside the potentials; else they are fetched in each step.
    """

    buffer: int
    at_once: bool = True


def design(
    found: Units, lanes: int, room: Sizes | None = None, *, fetching: Fetching | None = None
) -> Design:
    """Lay out the units of a network.

    Args:
        found: its units.
        lanes: parallel additions.
        room: sizes of a core that exists already, so that several networks run on one; ``None`` for what this
            network needs.
        fetching: how weights come from an external memory; ``None`` if all lie on the chip.

    Raises:
        UsageError: that core is too small.
        TooFew: the buffer cannot hold the weights of one channel.
    """
    made = _Layout(found, lanes, room, fetching).run()
    if room is not None and made.sizes != room:
        small = next(
            each.name for each in fields(Sizes) if getattr(made.sizes, each.name) > getattr(room, each.name)
        )
        raise UsageError(f"{found.graph.name}: the core has too few {small}: {getattr(room, small)}")
    return made


class _Layout:
    def __init__(self, found: Units, lanes: int, room: Sizes | None, fetching: Fetching | None) -> None:
        graph = found.graph
        self.graph, self.units, self.lanes = graph, found.units, lanes
        self.room = {} if room is None else asdict(room)
        self.steps = graph.timesteps + graph.settle_steps
        self.barrier = graph.schedule is Schedule.LAYERWISE
        self.program = Program()
        self.fetching = fetching
        self.buffer = Buffer(fetching.buffer) if fetching is not None else None
        self.tables = Tables(lanes, None if fetching is None else fetching.buffer)
        self.walks: dict[Synapse, tuple[Walk, ...]] = {}
        self.potentials = self.counts = 1
        self.marks: list[tuple[str, Volume]] = []
        self.work: dict[str, Work] = {}
        self.bounds = step_bounds(graph, graph.timesteps)
        self.bits = widths(found, self.bounds, self.room)
        self.parameters = Parameters(lanes, self.bits.potential)
        self.inputs = input_places(graph)
        self.maps, self.spikes = map_places(found.units, self.steps, self.words)

    def blocks(self, channels: int) -> int:
        return -(-channels // self.lanes)

    def words(self, shape: Volume) -> int:
        return self.blocks(shape[0]) * shape[1] * shape[2]

    # The program

    def run(self) -> Design:
        self.program.set(inputs=self.inputs[ONE])
        self.program.run(code.IMAGE)
        last = [unit.node.name for unit in self.units if isinstance(unit.node, Readout)][-1]
        outputs = 0
        for unit in self.units:
            self.work[unit.node.name] = Work()
            match unit.node:
                case CountMaxPool():
                    self.pooling(unit)
                case IntegrateFire():
                    self.population(unit, unit.node)
                case Readout():
                    self.readout(unit, unit.node, unit.node.name == last)
                    outputs += prod(unit.volume)
        self.program.run(code.RESTART)
        weights = self.tables.weights.words or [0]
        images = {
            "program": self.program.words,
            "weights": weights if self.buffer is None else [],
            "heads": self.tables.heads.words,
            "rows": self.tables.rows.words,
            "columns": self.tables.columns.words,
            "parameters": packed(np.array(self.parameters.words), self.bits.potential),
            "input": [0] * self.inputs[ONE] + [1],
        }
        depths = {name: len(words) for name, words in images.items()}
        external = 0
        if self.buffer is not None:
            depths["weights"] = self.buffer.used
            beats = external_beats(self.lanes)
            external = max(beats * len(weights), self.room.get("external", 0))
            images["external"] = halfwords(weights, beats)
            images["external"] += [0] * (external - len(images["external"]))
        largest = max(*depths.values(), self.potentials, self.counts, self.spikes, 256)
        address = max(int(largest).bit_length(), self.room.get("address", 0))
        for name in ("heads", "rows", "columns"):
            images[name] = [
                high << address | low for high, low in (divmod(word, PAIR) for word in images[name])
            ]
        sizes = Sizes(
            lanes=self.lanes,
            spike=self.bits.spike,
            input=self.bits.input,
            potential=self.bits.potential,
            count=self.bits.count,
            address=address,
            program=depths["program"],
            weights=depths["weights"],
            heads=depths["heads"],
            rows=depths["rows"],
            columns=depths["columns"],
            parameters=depths["parameters"],
            potentials=self.potentials,
            counts=self.counts,
            spikes=self.spikes,
            inputs=depths["input"],
            steps=int(any(isinstance(u.node, CountMaxPool) or points(u.node) for u in self.units)),
            maxima=int(any(unit.maximum is not None for unit in self.units)),
            external=external,
        )
        if self.room:
            sizes = Sizes(**{name: max(value, self.room[name]) for name, value in asdict(sizes).items()})
        listing = self.program.listing()
        marks = tuple(self.marks)
        return Design(
            sizes, images, listing, marks, self.inputs[ONE], outputs, self.work, self.tables.weight_bytes
        )

    def mark(self, unit: Unit) -> None:
        self.program.run(code.MARK, len(self.marks))
        self.marks.append((unit.node.name, unit.volume))

    def preset(self, unit: Unit, shape: Volume, at: int, parameters: int | None, rule: int = 0) -> None:
        """Preset potentials from parameters, or to zero."""
        zero = code.QUIET if parameters is None else 0
        self.program.set(
            pixels=shape[1] * shape[2],
            blocks=self.blocks(shape[0]),
            potential=at,
            parameters=parameters or 0,
            rule=rule | zero,
        )
        self.program.run(code.PRESET)
        self.potentials = max(self.potentials, at + self.words(shape))
        self.work[unit.node.name].presets += self.words(shape)

    def constants(self, unit: Unit) -> list[Synapse]:
        return [synapse for synapse in unit.synapses if self.is_constant(synapse)]

    def is_constant(self, synapse: Synapse) -> bool:
        """Whether a synapse gives the same in each of the T steps."""
        return synapse.source == ONE or isinstance(self.graph[synapse.source], Encode)

    def population(self, unit: Unit, node: IntegrateFire) -> None:
        words = self.words(unit.volume)
        parameters = self.parameters.place(unit.volume[0], population_rows(node, barrier=self.barrier))
        constant = self.prepare(
            unit, parameters, code.STEPPED if node.breakpoints is not None else 0, points(node)
        )
        timesteps = self.graph.timesteps
        rule, capacity = firing(node), node.neuron.capacity(timesteps)
        limit = largest_spike(node, timesteps, self.graph.settle_steps)
        flags = {
            Firing.PLAIN: 0,
            Firing.LIMITED: code.MEMORY | code.CAPPED,
            Firing.HESITANT: code.MEMORY | code.CAPPED,
            Firing.GRADED: code.MEMORY | code.CAPPED,
            Firing.STEPS: code.STEPPED,
        }[rule]
        currents: tuple[int, ...] = ()
        if self.barrier:
            flags &= ~code.MEMORY
            self.integrate(unit, [(t, 0) for t in range(timesteps)])
            if constant or node.bias.any():
                added = code.BIAS | (code.CONSTANT if constant else 0)
                for _ in range(timesteps):
                    self.fire(unit, parameters, 0, code.QUIET | added, 0, 0, constant)
        elif not self.fits_buffer(unit) and self.fetching is not None and self.fetching.at_once:
            currents = self.all_currents(unit, parameters, constant)
        for t in range(self.steps):
            added = 0
            if not self.barrier:
                if not currents:
                    self.integrate(unit, [(t, 0)])
                if t < timesteps:
                    added = code.BIAS | (code.CONSTANT if constant else 0)
            if currents:
                constant, added = currents[t], added | code.CONSTANT
            at = self.maps[node.name] + t * words
            self.fire(unit, parameters, at, flags | added, limit, capacity, constant)
        self.mark(unit)

    def all_currents(self, unit: Unit, parameters: int, constant: int) -> tuple[int, ...]:
        """Compute the currents of all steps before a population fires, each weight fetched once.

        Returns:
            Where the current of each step lies.
        """
        words = self.words(unit.volume)
        first = 2 * words if constant else words
        channels, rows, columns = unit.volume
        self.preset(unit, (channels, rows * self.steps, columns), first, None)
        places = tuple(first + t * words for t in range(self.steps))
        if constant:
            for at in places[: self.graph.timesteps]:
                self.fire(unit, parameters, 0, code.QUIET | code.CONSTANT, 0, 0, constant, at)
        self.integrate(unit, list(enumerate(places)))
        return places

    def readout(self, unit: Unit, node: Readout, last: bool) -> None:
        timesteps = self.graph.timesteps
        channels = unit.volume[0]
        first = np.zeros(channels, np.int64)
        extra: list[Synapse] = []
        total = timesteps * node.bias.astype(np.int64)
        if len(node.bias) == channels:
            first = total
        else:  # one bias a neuron, of a map that is flattened: a current of its own in the first step
            weight = total.reshape(unit.volume)[:, None]
            rows, columns = ((tuple((t, t) for t in range(count)),) for count in unit.volume[1:])
            extra.append(Synapse(ONE, weight, rows, columns))
        ones = np.ones(channels, np.int64)
        parameters = self.parameters.place(channels, [ones, 0 * ones, first, 0 * ones])
        constant = self.prepare(unit, parameters, 0, 0)
        for synapse in extra:
            self.add(unit, synapse, [(0, 0)], unit.volume, once=True)
        self.integrate(unit, [(t, 0) for t in range(self.steps)])
        if constant:
            for _ in range(timesteps):
                self.fire(unit, parameters, 0, code.QUIET | code.CONSTANT, 0, 0, constant)
        self.program.set(
            pixels=unit.volume[1] * unit.volume[2],
            blocks=self.blocks(channels),
            potential=0,
            rule=code.LAST if last else 0,
            lanes=(channels - 1) % self.lanes << 8,
        )
        self.mark(unit)
        self.program.run(code.SEND)

    def prepare(self, unit: Unit, parameters: int, rule: int, steps: int) -> int:
        """Preset potentials, and compute the current that is constant in time.

        Returns:
            Where it lies; 0 if there is none.
        """
        words = self.words(unit.volume)
        self.program.set(points=steps)
        self.preset(unit, unit.volume, 0, parameters, rule)
        self.counts = max(self.counts, words)
        constant = self.constants(unit)
        if not constant and unit.maximum is None:
            return 0
        if unit.maximum is not None:
            self.preset(unit, unit.maximum.source, 2 * words, None)
            for synapse in unit.maximum.synapses:
                self.add(unit, synapse, [(0, 2 * words)], unit.maximum.source, once=True)
            self.maximum(unit, unit.maximum, 2 * words, words)
            self.potentials = max(self.potentials, 2 * words)
        else:
            self.preset(unit, unit.volume, words, None)
        for synapse in constant:
            self.add(unit, synapse, [(0, words)], unit.volume, once=True)
        return words

    def integrate(self, unit: Unit, steps: Sequence[tuple[int, int]]) -> None:
        """Add what arrives in some steps, each to the potentials that begin at an address."""
        for synapse in unit.synapses:
            if not self.is_constant(synapse):
                self.add(unit, synapse, steps, unit.volume)

    def fire(
        self,
        unit: Unit,
        parameters: int,
        target: int,
        rule: int,
        limit: int,
        capacity: int,
        constant: int,
        potential: int = 0,
    ) -> None:
        self.program.set(
            pixels=unit.volume[1] * unit.volume[2],
            blocks=self.blocks(unit.volume[0]),
            potential=potential,
            constant=constant,
            parameters=parameters,
            target_spikes=target,
            rule=rule,
            limit=limit,
            capacity=capacity,
        )
        self.program.run(code.FIRE)
        work = self.work[unit.node.name]
        work.fired += self.words(unit.volume)
        work.constants += self.words(unit.volume) if rule & code.CONSTANT else 0

    def pooling(self, unit: Unit) -> None:
        """Sum what is read, and send how much the maximum of the sums has changed."""
        maximum = unit.maximum
        if maximum is None:
            raise InternalError(f"{unit.node.name!r} has no windows")
        words = self.words(unit.volume)
        ones = np.ones(unit.volume[0], np.int64)
        parameters = self.parameters.place(unit.volume[0], [ones, 0 * ones, 0 * ones, 0 * ones])
        self.program.set(points=0)
        self.preset(unit, unit.volume, 0, parameters)
        self.counts = max(self.counts, words)
        self.preset(unit, maximum.source, words, None)
        bound = self.bounds[unit.node.name]
        for t in range(self.steps):
            for synapse in maximum.synapses:
                if not self.is_constant(synapse) or t < self.graph.timesteps:
                    self.add(unit, synapse, [(t, words)], maximum.source)
            self.maximum(unit, maximum, words, 0)
            at = self.maps[unit.node.name] + t * words
            self.fire(unit, parameters, at, code.DIFFERENCE, bound, 0, 0)
        self.mark(unit)

    # Additions

    def add(
        self,
        unit: Unit,
        synapse: Synapse,
        steps: Sequence[tuple[int, int]],
        target: Volume,
        *,
        once: bool = False,
    ) -> None:
        """Add what a synapse gives in some steps, each to the potentials that begin at an address."""
        for walk in self.walks_of(synapse, target):
            moved = self.fetch(unit, walk)
            for t, at in steps:
                source = self.inputs.get(synapse.source, 0)
                if synapse.source in self.maps:
                    words = self.words(volume(self.graph[synapse.source].shape))
                    source = self.maps[synapse.source] + t * words
                registers = {**walk.registers, "weights": walk.registers["weights"] + moved}
                self.program.set(source=source + walk.source, potential=at + walk.potential, **registers)
                self.program.run(code.ADD)
                self.work[unit.node.name].additions.append(Addition(synapse.source, walk, once))

    def walks_of(self, synapse: Synapse, target: Volume) -> tuple[Walk, ...]:
        if synapse not in self.walks:
            self.walks[synapse] = self.tables.walks(
                synapse, self.shape_of(synapse.source), target, self.is_constant(synapse)
            )
        return self.walks[synapse]

    # Weights that are fetched

    def fetch(self, unit: Unit, walk: Walk) -> int:
        """See that the weights of a walk are on the chip; return by how much they are moved there."""
        if self.buffer is None:
            return 0
        if (at := self.buffer.known.get(walk.weights)) is None:
            at = self.buffer.place(walk.weights, walk.words)
            self.program.set(external=walk.weights * external_beats(self.lanes), fetched=walk.words)
            self.program.run(code.LOAD, at)
            self.work[unit.node.name].fetched.append(walk.words)
        return at - walk.weights

    def fits_buffer(self, unit: Unit) -> bool:
        """Whether all weights that a unit reads in each step can lie on the chip; if so, they will."""
        if self.buffer is None:
            return True
        read = {
            walk.weights: walk.words
            for synapse in unit.synapses
            if not self.is_constant(synapse)
            for walk in self.walks_of(synapse, unit.volume)
        }
        return self.buffer.make_room(read)

    def shape_of(self, source: str) -> Volume:
        return (1, 1, 1) if source == ONE else volume(self.graph[source].shape)

    def maximum(self, unit: Unit, maximum: Maximum, source: int, target: int) -> None:
        """Write the maximum of each window of potentials at ``source`` to those at ``target``."""
        self.program.set(potential=source, target_potentials=target, **self.tables.windows(maximum))
        self.program.run(code.ADD)
        taps = sum(map(len, maximum.rows)) * sum(map(len, maximum.columns))
        self.work[unit.node.name].maxima += taps * self.blocks(maximum.target[0])


def points(node: SnnNode) -> int:
    """Return how many breakpoints a population has."""
    if not isinstance(node, IntegrateFire) or node.breakpoints is None:
        return 0
    return node.breakpoints.shape[1]
