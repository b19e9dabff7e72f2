"""A plan bound to memory: what is run for a chunk of images.

All arrays are allocated once, with their channels padded and last; a value's memory is used again as
soon as nobody needs the value. The records that the kernels read hold the addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu.codegen import micro_products, neurons
from snnc.backends.numba_cpu.execution import functions, shapes
from snnc.backends.numba_cpu.execution.fused import Action, Bound, FusedStages
from snnc.backends.numba_cpu.execution.leaky import LeakyRun
from snnc.backends.numba_cpu.execution.shapes import Value
from snnc.backends.numba_cpu.execution.step_functions import StepRun
from snnc.backends.numba_cpu.kernels.currents import add_currents, multiply_wide
from snnc.backends.numba_cpu.kernels.firing import firing as firing_of
from snnc.backends.numba_cpu.kernels.records import CURRENT, SPIKE_BYTES
from snnc.backends.numba_cpu.kernels.stage import keep_states, stage_fields
from snnc.backends.numba_cpu.kernels.thread_team import ThreadTeam
from snnc.backends.numba_cpu.layout import choices
from snnc.backends.numba_cpu.layout.terms import Packed, Values
from snnc.backends.numba_cpu.machine.memory import SLACK, Memory, aligned
from snnc.backends.numba_cpu.planning.plan import Plan, ShapePlan, StagePlan, TermPlan
from snnc.backends.numba_cpu.planning.request import Request
from snnc.errors import InputError, InternalError
from snnc.ir import snn
from snnc.ir.operations import Firing, classified, firing, unmatched

Array = NDArray[Any]
SOURCE = ("constant", "source", "source_image", "source_step")
"""Fields of a term that say where its spikes are."""


@dataclass(slots=True)
class Part:
    """The result of one part of a program.

    Attributes:
        node: what it computes.
        value: where its result is.
        states: where the final potentials and negative counts are, (images, height, width, padded channels).
    """

    node: snn.SnnNode
    value: Value
    states: tuple[Array, Array] | None = None


class Program:
    """Everything that is needed to run some images."""

    def __init__(
        self, request: Request, plan: Plan, packed: Mapping[str, Packed], images: int, team: ThreadTeam
    ) -> None:
        """Allocate memory and fill in the records.

        The caller puts what it gives into ``given``, and the quantised inputs into ``encoded``.

        Args:
            request: what is run.
            plan: how.
            packed: weights laid out as planned, by synapse.
            images: largest number of images at a time.
            team: the threads that work on one image, as many as the plan has shares.
        """
        self.request = request
        self.packed = packed
        self.images = images
        self.shares = plan.shares
        self._memory = Memory()
        self._kept: list[Any] = []
        self._values: dict[str, Value] = {}
        self.given = {name: self._hold(name, place, False) for name, place in plan.given.items()}
        self.encoded: dict[str, Value] = {}
        self._steps: list[tuple[Action, Part | None]] = []
        """What to do in turn, and the part that is then to be looked at."""
        self._fused: dict[int, FusedStages] = {}
        """The stages of a step, by its place among them."""
        self._alone: dict[int, str] = {}
        """The function that a step computes alone, by its place among them."""
        finished = request.finished(request.added_in_place())
        chain: list[Bound] = []

        def close() -> None:
            if chain:
                linked = FusedStages(chain, team)
                self._fused[len(self._steps)] = linked
                self._steps.append((linked.run, None))
                chain.clear()

        for part in plan.parts:
            if isinstance(part, ShapePlan):
                close()
                made, action = self._shape(part)
                if isinstance(part.node, snn.IntegrateFire | snn.CountFunction):
                    self._alone[len(self._steps)] = part.node.name
                self._steps.append((action, made if request.keeps(part.node) else None))
            else:
                made, bound = self._stage(part)
                if bound.before:
                    close()
                    self._steps += [(action, None) for action in bound.before]
                chain.append(bound)
                if request.keeps(part.node):
                    close()
                    self._steps[-1] = (self._steps[-1][0], made)
            for name in finished.get(part.node.name, ()):
                self._forget(name)
        close()

    def _forget(self, name: str) -> None:
        """Let the memory of a value be used again, unless another value lies there, too."""
        values = self._values.pop(name).values
        if not any(other.values is values for other in self._values.values()):
            self._memory.give_back(values)

    def _hold(self, name: str, place: Values, constant: bool, summed: bool = False) -> Value:
        steps = 1 if constant or summed else self.request.steps
        shape = (steps, self.images, place.height, place.width, place.padded)
        value = Value(self._memory.take(shape, place.kind), place, constant)
        self._values[name] = value
        return value

    def _shape(self, part: ShapePlan) -> tuple[Part, Action]:
        read = [self._values[name] for name in part.node.inputs]
        node, request = classified(part.node), self.request
        if isinstance(node, snn.Reshape) and read[0].place == part.output:
            # One position, or the same ones: the values already lie where they are wanted.
            value = Value(read[0].values, part.output, part.constant)
            self._values[node.name] = value
            return Part(node, value), lambda images: None
        value = self._hold(node.name, part.output, part.constant, summed=isinstance(node, snn.Readout))
        if isinstance(node, snn.Encode):
            self.encoded[node.name] = value
        if isinstance(node, snn.Readout):
            return Part(node, value), LeakyRun(node, read, value, None, request).run
        if isinstance(node, snn.IntegrateFire):
            return self._step_by_step(node, read, value)
        if isinstance(node, snn.Function):
            return Part(node, value), functions.FunctionRun(node, read, part.counts, value, request).run
        if isinstance(node, snn.Gather):
            index = shapes.places(node, read[0].place, part.output)
            return Part(node, value), lambda images: shapes.gather(index, read[0], value, images)

        def run(images: int) -> None:
            shapes.apply(node, read, value, images, request.timesteps, request.steps)

        return Part(node, value), run

    def _step_by_step(self, node: snn.IntegrateFire, read: list[Value], value: Value) -> tuple[Part, Action]:
        """Return what runs a population that no stage runs, and where its states are."""
        request = self.request
        states = np.zeros((2, *value.values.shape[1:]), np.int32 if node.integer else np.float32)
        kind = LeakyRun if node.leaky else StepRun
        made = kind(node, read, value, states, request)
        kept = (states[0], states[1]) if request.record.states else None
        return Part(node, value, kept), made.run

    def _stage(self, part: StagePlan) -> tuple[Part, Bound]:
        request, node, output = self.request, part.node, part.output
        fires = isinstance(node, snn.IntegrateFire)
        constant = isinstance(node, snn.Weighted) and all(term.constant for term in part.terms)
        general: list[Action] = []
        rows: list[tuple[dict[str, int], Packed]] = []
        for term in part.terms:
            if term.synapse is not None and term.choice is None:
                general.append(self._general(term, output))
            rows.append(self._term(term, constant))
        # What writes all currents goes first: then nothing needs to be cleared.
        rows.sort(key=lambda row: not row[0].get("complete", 0))
        terms = len(rows)
        for row, packed in rows[:terms]:
            if packed.dense is not None:
                row["dense"] = len(rows)
                rows.append((packed.dense.fields | {name: row[name] for name in SOURCE}, packed.dense))
        value = self._hold(node.name, output, constant, summed=isinstance(node, snn.Readout))
        made = Part(node, value)
        fields = {
            "terms": terms,
            "steps": 1 if constant else request.steps,
            "input_steps": 1 if constant else request.timesteps,
            "floats": int(not request.integer),
            "accumulate": int(isinstance(node, snn.Readout) or (fires and request.barrier)),
            "height": output.height,
            "width": output.width,
            "channels": output.padded,
            "band_rows": part.band.rows,
            "band_steps": part.band.steps,
            "halo": max(packed.halo[0] for _, packed in rows),
            "output": value.values.ctypes.data,
            "output_pixel": output.pixel_bytes,
            "output_image": value.values.strides[1],
            "output_step": value.values.strides[0],
        }
        constant_only = not general and all(row["constant"] for row, _ in rows)
        fields["unchanging"] = int(fires and not request.barrier and constant_only)
        fields |= stage_fields(fires, bool(fields["accumulate"]), not request.integer)
        fields["columns"] = output.width + fields["halo"] + max(packed.halo[1] for _, packed in rows)
        if isinstance(node, snn.IntegrateFire):
            fields |= self._neuron(node, output, made)
        variants = [packed.variants for _, packed in rows]
        return made, Bound(node, general, self._scratch_memory(part, fields, rows), variants)

    def _term(self, term: TermPlan, alone: bool) -> tuple[dict[str, int], Packed]:
        """Return the record of a term, but for its scratch memory."""
        if term.choice is None:
            packed = Packed({"kind": CURRENT, "add": add_currents.address})
            source = self._values[term.name]
        else:
            packed = self.packed[term.name]
            source = self._values[term.source]
        return packed.fields | {
            "constant": int(term.constant and not alone),
            "source": source.values.ctypes.data,
            "source_image": source.values.strides[1],
            "source_step": 0 if source.constant else source.values.strides[0],
        }, packed

    def _general(self, term: TermPlan, output: Values) -> Action:
        """Return what computes a synapse without a kernel, into a value of its own."""
        synapse, source = term.synapse, self._values[term.source]
        place = Values(output.height, output.width, output.channels, output.padded, np.dtype(np.int32), 0, 0)
        value = self._hold(term.name, place, source.constant)
        narrow = source.values.dtype.kind == "i" and source.values.dtype.itemsize <= place.kind.itemsize
        if synapse is not None and synapse.pointwise and narrow:
            weight = aligned(np.zeros((synapse.inputs, output.padded), place.kind))
            weight[:, : synapse.outputs] = synapse.weight[:, :, 0, 0].T

            def multiply(images: int) -> None:
                for given, found in zip(source.values, value.values, strict=True):
                    rows = given[:images].reshape(-1, given.shape[-1])
                    multiply_wide(rows, weight, found[:images].reshape(-1, output.padded))

            return multiply

        def run(images: int) -> None:
            if synapse is not None:
                shapes.convolve_slowly(synapse, source, value, images)

        return run

    def _neuron(self, node: snn.IntegrateFire, output: Values, made: Part) -> dict[str, int]:
        """Return the fields of a population."""
        request, neuron = self.request, node.neuron
        limit = neuron.largest(request.timesteps)
        rule = firing(node)
        match rule:
            case Firing.PLAIN:
                capacity, takes_back = neurons.NO_CAPACITY, False
            case Firing.LIMITED | Firing.HESITANT | Firing.GRADED:
                capacity, takes_back = neuron.capacity(request.timesteps), not request.barrier
            case Firing.STEPS:
                raise InternalError(f"{node.name!r} has a step function, which no stage runs")
            case Firing.LEAKY:
                raise InternalError(f"{node.name!r} is leaky, and no stage runs it")
            case _:
                raise unmatched(rule)
        settings = aligned(np.array([capacity, limit, -int(takes_back)], np.int64))
        parameters = aligned(neuron_parameters(node, output.padded, takes_back, request.integer))
        kind = "units"
        if not request.integer:
            kind = "floats"
        elif limit == 2:
            kind = "twos"
        elif limit > 1:
            # Beyond it at most three spikes leave in a step, as their product with it fits an int32: bytes.
            quick = node.threshold.max() <= neurons.LARGEST_THRESHOLD
            kind = ("bytes" if output.kind == np.int8 else "words") if quick else "divided"
        if output.kind.itemsize != SPIKE_BYTES[kind]:
            raise InputError(
                f"{node.name!r} sends up to {limit} spikes in a step, and this simulator takes up to "
                f"{np.iinfo(np.int16).max}; use fewer levels or steps, or the simulator `reference`"
            )
        zeros = aligned(np.zeros(neurons.LANES, np.int32))
        self._kept += [settings, parameters, zeros]
        fields = {
            "fire": firing_of(kind).address,
            "spike_bytes": SPIKE_BYTES[kind],
            "parameters": parameters.ctypes.data,
            "settings": settings.ctypes.data,
            "zeros": zeros.ctypes.data,
        }
        if request.record.states:
            shape = (self.images, output.height, output.width, output.padded)
            state = np.dtype(np.int32 if request.integer else np.float32)
            potential = count = aligned(np.zeros(shape, state))
            fields |= {"keep": keep_states.address, "final_count": count.ctypes.data}
            if request.record.potentials:
                potential = aligned(np.zeros(shape, state))
                fields["final_potential"] = potential.ctypes.data
            made.states = (potential, count)
        return fields

    def _scratch_memory(
        self, part: StagePlan, fields: dict[str, int], rows: list[tuple[dict[str, int], Packed]]
    ) -> list[tuple[dict[str, int], list[dict[str, int]]]]:
        """Give each share the memory of one band; all stages of the program use the same."""
        band, output = part.band, part.output
        over_steps = output.height == output.width == 1
        # Products of steps in the place of pixels come in whole blocks.
        frames = band.steps + max(micro_products.PIXELS) if over_steps else band.steps
        line = fields["columns"] * output.padded * 4
        state = band.rows * output.width * output.padded * 4
        shares = []
        taken: list[Array] = []
        for _ in range(self.shares):
            own, own_rows = dict(fields), [dict(row) for row, _ in rows]
            wanted: list[tuple[dict[str, int], str, int]] = [
                (own, "current", (1 if own["accumulate"] else frames) * band.rows * line),
                (own, "potential", state),
                (own, "count", state),
            ]
            if any(row["constant"] for row in own_rows):
                wanted.append((own, "constant", band.rows * line))
            for row in own_rows:
                if row["kind"] == CURRENT:
                    continue
                if "tiles" in row and "padded_row" in row:
                    row["over_steps"] = int(over_steps)
                sizes = choices.scratch_bytes(row, band, over_steps)
                if "padded" in sizes:
                    row["padded_rows"] = choices.input_rows(row, band)
                wanted += [(row, name, size) for name, size in sizes.items()]
            for record, name, size in wanted:
                array = self._memory.take((size + SLACK,), np.dtype(np.uint8))
                record[name] = array.ctypes.data
                taken.append(array)
            shares.append((own, own_rows))
        for array in taken:
            self._memory.give_back(array)
        return shares

    def profile(self, images: int) -> dict[str, float]:
        """Run the network once, as its input stands, and return the seconds of each stage or function."""
        found = {}
        for place, (action, _part) in enumerate(self._steps):
            chain = self._fused.get(place)
            if chain is None:
                start = perf_counter()
                action(images)
                if place in self._alone:
                    found[self._alone[place]] = perf_counter() - start
                continue
            for k, name in enumerate(chain.names):
                start = perf_counter()
                chain.run(images, k)
                found[name] = perf_counter() - start
        return found

    def run(self, images: int) -> Iterator[Part]:
        """Run the network; yield each part to be kept, which is valid until the next is asked for."""
        for action, part in self._steps:
            action(images)
            if part is not None:
                yield part


def neuron_parameters(node: snn.IntegrateFire, padded: int, takes_back: bool, integer: bool) -> Array:
    """Return the table ``neurons.PARAMETERS``, (5, padded) int32 or float32."""
    table = np.zeros((len(neurons.PARAMETERS), padded), np.int32 if integer else np.float32)
    threshold = np.full(padded, 1 << 20, table.dtype)  # spare channels never fire
    threshold[: node.channels] = node.threshold
    negative = 0 if node.negative_threshold is None else node.negative_threshold
    if integer and not takes_back:
        negative = neurons.NEVER
    table[0] = threshold
    table[1, : node.channels] = node.bias
    table[2, : node.channels] = negative
    if integer:
        table[3] = (np.float32(1) / threshold.astype(np.float32)).view(np.int32)
    table[4, : node.channels] = node.v_init
    return table
